"""The program that runs in each pod of a connectivity test: it answers others, and puts questions to them.

Its text goes into a ConfigMap and is run by the Python of any image, so it imports the standard library alone. The
questions arrive in a file when all pods have their addresses; what became of each is a line of JSON in the pod's log.

``python3 -I prober.py NAME PORT FILE TOKEN MEASURED [ADDRESS...]`` listens on all addresses, or on those named.
Whoever does not begin with the token of the test is not answered, and data is sent only if MEASURED is ``yes``.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import signal
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

ATTEMPTS = 2
"""Times that a question is put: the first packet of a pod may be lost while a neighbour is looked up."""
AT_ONCE = 8
"""Questions that are put side by side."""
POLL_INTERVAL = 0.2
"""Seconds between two looks for questions."""
CHUNK = 65536
LONGEST_STREAM = 30.0
"""Seconds for which a client may have data sent."""
IDLE = 10.0
"""Seconds after which a client that says nothing is left."""
INTRODUCTION = 2.0
"""Seconds within which a client has to begin with the token."""
CLIENTS_AT_ONCE = 64
"""TCP connections that are served side by side on an address; others wait in the kernel's queue, which has a bound."""
LARGEST_ECHO = 65536
"""Most bytes that are sent back at once."""
DATAGRAM_BYTES = 512
"""Bytes of a question by UDP: an answer is never longer, so that nobody is flooded by answers in another's name."""
ROUND_TRIPS = 200
"""Most round trips by which latency is measured."""
LARGE_LOST = "small packets pass, large ones do not"
"""What is said where a server answers, and what is long does not come back."""
ADDRESS_BYTES = 16
"""Bytes of an IPv6 address, the first field of in6_pktinfo (RFC 3542)."""


@dataclass(frozen=True)
class ServedTest:
    """Who answers, and whom."""

    name: str
    introduction: bytes
    """The line with which clients of the same test begin."""
    is_measured: bool
    """Whether clients may have data sent for seconds."""


def main() -> None:
    """Serve, and put questions, until the pod is stopped."""
    name, port, file, token, measured, *addresses = sys.argv[1:]
    served = ServedTest(name, introduction(token), measured == "yes")
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container has no default for these
        signal.signal(number, lambda *_: os._exit(0))
    try:
        for address in addresses or ["::"]:
            serve(served, address, int(port))
    except OSError as error:
        report({"fatal": f"port {port} cannot be served: {error}"})
        sys.exit(1)
    report({"serves": int(port)})
    work_forever(file, token)


def introduction(token: str) -> bytes:
    """What each client says first."""
    return f"{token}\n".encode()


def report(line: dict[str, object]) -> None:
    """Say something to whoever reads the log."""
    print(json.dumps(line), flush=True)


def work_forever(file: str, token: str) -> None:
    """Put the questions of each round that the file has; ``common``: what all of a round have."""
    done = 0
    while True:
        work = read_round(file)
        if work["round"] > done:
            done = work["round"]
            asked = [{"token": token, **work.get("common", {}), **each} for each in work["questions"]]
            with ThreadPoolExecutor(AT_ONCE) as threads:
                for answer in threads.map(answer_to, asked):
                    report({"round": done, **answer})
            report({"round": done, "done": True})
        time.sleep(POLL_INTERVAL)


def read_round(file: str) -> dict[str, Any]:
    """The questions of now; none while there are none yet."""
    with contextlib.suppress(OSError, ValueError), open(file) as text:  # noqa: PTH123
        return dict(json.loads(text.read()))
    return {"round": 0, "questions": []}


# --- answering


def serve(served: ServedTest, address: str, port: int) -> None:
    """Answer TCP and UDP on a port of an address, in threads of their own; ``::`` stands for all of both families."""
    tcp, udp = bound(socket.SOCK_STREAM, address, port), bound(socket.SOCK_DGRAM, address, port)
    tcp.listen(128)
    threading.Thread(target=serve_tcp, args=(served, tcp), daemon=True).start()
    threading.Thread(target=serve_udp, args=(served, udp), daemon=True).start()


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """A socket on a port of an address; of IPv4 alone where the kernel has no IPv6."""
    if address == "::" and not has_ipv6():
        address = "0.0.0.0"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, kind)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        if kind is socket.SOCK_DGRAM:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    found.bind((address, port))
    return found


def has_ipv6() -> bool:
    """Whether a socket can be bound to addresses of IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tried:
            tried.bind(("::", 0))
    except OSError:
        return False
    return True


def identity(name: str, client: str) -> bytes:
    """What a server says first: who it is, and whom it sees."""
    return json.dumps({"by": name, "seen": client.removeprefix("::ffff:").partition("%")[0]}).encode() + b"\n"


def serve_tcp(served: ServedTest, listening: socket.socket) -> None:
    """Accept connections, each in a thread of its own, as many as may be served at once."""
    free = threading.BoundedSemaphore(CLIENTS_AT_ONCE)
    while True:
        free.acquire()
        try:
            connection, client = listening.accept()
            threading.Thread(target=converse_once, args=(served, connection, client[0], free), daemon=True).start()
        except (OSError, RuntimeError):  # also no further thread
            free.release()


def converse_once(served: ServedTest, connection: socket.socket, client: str, free: threading.BoundedSemaphore) -> None:
    """One connection, after which another one is served."""
    try:
        with contextlib.suppress(OSError, ValueError), connection:
            if is_introduced(served, connection):
                converse(served, connection, client)
    finally:
        free.release()


def is_introduced(served: ServedTest, connection: socket.socket) -> bool:
    """Whether a client begins with the token. It is short enough to come in one packet, so one look is enough."""
    connection.settimeout(INTRODUCTION)
    said = connection.recv(len(served.introduction))
    return hmac.compare_digest(said, served.introduction)


def converse(served: ServedTest, connection: socket.socket, client: str) -> None:
    """Who we are, then what the client asks for, which is ``echo BYTES`` or ``send SECONDS``."""
    connection.settimeout(IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(identity(served.name, client))
    with connection.makefile("rb") as lines:
        while line := lines.readline(64):
            word, _, number = line.decode().strip().partition(" ")
            if word == "echo":
                connection.sendall(lines.read(min(int(number), LARGEST_ECHO)))
            elif word == "send" and served.is_measured:
                send_for(connection, min(float(number), LONGEST_STREAM))
                return
            else:
                return


def send_for(connection: socket.socket, seconds: float) -> None:
    """Send as fast as the client receives."""
    data, end = bytes(CHUNK), time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(data)


def serve_udp(served: ServedTest, sock: socket.socket) -> None:
    """Answer each datagram from the address that it was sent to, which may not be the first one of the pod."""
    while True:
        with contextlib.suppress(OSError):
            asked, ancillary, _, client = sock.recvmsg(2048, socket.CMSG_SPACE(ADDRESS_BYTES + 4))
            source = [(level, kind, data[:ADDRESS_BYTES] + bytes(4)) for level, kind, data in ancillary]
            answer = identity(served.name, client[0])
            said = asked[: len(served.introduction)]
            if hmac.compare_digest(said, served.introduction) and len(answer) <= len(asked):
                sock.sendmsg([answer], source, 0, client)


# --- questions


def answer_to(question: dict[str, Any]) -> dict[str, object]:
    """What became of one question, with the milliseconds that it took."""
    fault = ""
    for _ in range(ATTEMPTS):
        started = time.monotonic()
        try:
            found = KINDS[question["kind"]](question)
        except (OSError, ValueError) as error:
            fault = in_words(error)
        else:
            elapsed = round((time.monotonic() - started) * 1000, 2)
            return {"id": question["id"], "ok": True, "ms": elapsed, **found}
    return {"id": question["id"], "ok": False, "error": fault}


def in_words(error: Exception) -> str:
    """An error as `spiderpoolctl` looks for it."""
    if isinstance(error, socket.gaierror):
        return f"not resolved: {error.strerror or error}"
    if isinstance(error, TimeoutError):
        return str(error) if str(error) not in ("", "timed out") else "no answer"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def opened(question: dict[str, Any], kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket that is connected to the target, from the address that the question names."""
    address = question["address"]
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        found.settimeout(question["timeout"])
        if question.get("bind"):
            found.bind((question["bind"], 0))
        found.connect((address, question["port"]))
    except OSError:
        found.close()
        raise
    return found


def by_tcp(question: dict[str, Any]) -> dict[str, object]:
    """Who answers, and whether large packets pass in both directions."""
    with opened(question) as connection, connection.makefile("rb") as lines:
        connection.sendall(introduction(question["token"]))
        said = json.loads(lines.readline(4096) or b"null")
        if not isinstance(said, dict):
            raise ValueError("closed without an answer")  # noqa: TRY004
        size = question.get("payload", 0)
        try:
            connection.sendall(f"echo {size}\n".encode() + bytes(size))
            came = len(lines.read(size))
        except TimeoutError:
            raise TimeoutError(LARGE_LOST) from None
        if came != size:
            raise ValueError(f"{came} of {size} bytes came back")
        return said


def by_udp(question: dict[str, Any]) -> dict[str, object]:
    """Who answers a datagram."""
    with opened(question, socket.SOCK_DGRAM) as sock:
        sock.send(introduction(question["token"]).ljust(DATAGRAM_BYTES))
        return dict(json.loads(sock.recv(2048)))


def by_connect(question: dict[str, Any]) -> dict[str, object]:
    """Whether somebody accepts a connection."""
    with opened(question):
        return {}


def by_name(question: dict[str, Any]) -> dict[str, object]:
    """The addresses that a name has in one family."""
    family = socket.AF_INET6 if question["family"] == 6 else socket.AF_INET
    found = socket.getaddrinfo(question["name"], None, family, socket.SOCK_STREAM)
    return {"by": sorted({str(each[4][0]) for each in found})[0]}


def by_measuring(question: dict[str, Any]) -> dict[str, object]:
    """Round trips of a byte, then as many bytes as come within some seconds."""
    seconds = question["seconds"]
    with opened(question) as connection, connection.makefile("rb") as lines:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(introduction(question["token"]))
        said = dict(json.loads(lines.readline(4096)))
        times: list[float] = []
        end = time.monotonic() + seconds / 3
        while len(times) < ROUND_TRIPS and time.monotonic() < end:
            started = time.monotonic()
            connection.sendall(b"echo 1\n?")
            lines.read(1)
            times.append((time.monotonic() - started) * 1000)
        connection.sendall(f"send {seconds}\n".encode())
        started, count = time.monotonic(), 0
        while data := lines.read1(CHUNK):
            count += len(data)
        rate = count * 8 / max(time.monotonic() - started, 0.001) / 1e6
    return {**said, "latency": round(statistics.median(times), 3), "rate": round(rate, 1)}


KINDS = {"tcp": by_tcp, "udp": by_udp, "connect": by_connect, "dns": by_name, "perf": by_measuring}

if __name__ == "__main__":
    main()
