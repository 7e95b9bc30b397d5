"""The program that runs in each pod of a connectivity test: it answers others, and puts questions to them.

Its text goes into a ConfigMap and is run by the Python of any image, so it imports the standard library alone. The
questions arrive in a file when all pods have their addresses; what became of each is a line of JSON in the pod's log.

``python3 -I prober.py NAME PORT FILE [ADDRESS...]`` listens on all addresses, or on those that are named.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
ROUND_TRIPS = 200
"""Most round trips by which latency is measured."""
ADDRESS_BYTES = 16
"""Bytes of an IPv6 address, the first field of in6_pktinfo (RFC 3542)."""


def main() -> None:
    """Serve, and put questions, until the pod is stopped."""
    name, port, file, *addresses = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container has no default for these
        signal.signal(number, lambda *_: os._exit(0))
    try:
        for address in addresses or ["::"]:
            serve(name, address, int(port))
    except OSError as error:
        report({"fatal": f"port {port} cannot be served: {error}"})
        sys.exit(1)
    report({"serves": int(port)})
    work_forever(file)


def report(line: dict[str, object]) -> None:
    """Say something to whoever reads the log."""
    print(json.dumps(line), flush=True)


def work_forever(file: str) -> None:
    """Put the questions of each round that the file has."""
    done = 0
    while True:
        work = read_round(file)
        if work["round"] > done:
            done = work["round"]
            with ThreadPoolExecutor(AT_ONCE) as threads:
                for answer in threads.map(answer_to, work["questions"]):
                    report({"round": done, **answer})
            report({"round": done, "done": True})
        time.sleep(POLL_INTERVAL)


def read_round(file: str) -> dict[str, Any]:
    """The questions of now; none while there are none yet."""
    with contextlib.suppress(OSError, ValueError), open(file) as text:  # noqa: PTH123
        return dict(json.loads(text.read()))
    return {"round": 0, "questions": []}


# --- answering


def serve(name: str, address: str, port: int) -> None:
    """Answer TCP and UDP on a port of an address, in threads of their own; ``::`` stands for all of both families."""
    tcp, udp = bound(socket.SOCK_STREAM, address, port), bound(socket.SOCK_DGRAM, address, port)
    tcp.listen(128)
    threading.Thread(target=serve_tcp, args=(name, tcp), daemon=True).start()
    threading.Thread(target=serve_udp, args=(name, udp), daemon=True).start()


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


def serve_tcp(name: str, listening: socket.socket) -> None:
    """Accept connections, each in a thread of its own."""
    while True:
        with contextlib.suppress(OSError):
            connection, client = listening.accept()
            threading.Thread(target=converse, args=(name, connection, client[0]), daemon=True).start()


def converse(name: str, connection: socket.socket, client: str) -> None:
    """One connection: who we are, then what the client asks for, which is ``echo BYTES`` or ``send SECONDS``."""
    with contextlib.suppress(OSError, ValueError), connection:
        connection.settimeout(IDLE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(identity(name, client))
        with connection.makefile("rb") as lines:
            while line := lines.readline(64):
                word, _, number = line.decode().strip().partition(" ")
                if word == "echo":
                    connection.sendall(lines.read(min(int(number), 1 << 20)))
                elif word == "send":
                    send_for(connection, min(float(number), LONGEST_STREAM))
                    return


def send_for(connection: socket.socket, seconds: float) -> None:
    """Send as fast as the client receives."""
    data, end = bytes(CHUNK), time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(data)


def serve_udp(name: str, sock: socket.socket) -> None:
    """Answer each datagram from the address that it was sent to, which may not be the first one of the pod."""
    while True:
        with contextlib.suppress(OSError):
            _, ancillary, _, client = sock.recvmsg(2048, socket.CMSG_SPACE(ADDRESS_BYTES + 4))
            source = [(level, kind, data[:ADDRESS_BYTES] + bytes(4)) for level, kind, data in ancillary]
            sock.sendmsg([identity(name, client[0])], source, 0, client)


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
        said = json.loads(lines.readline(4096) or b"null")
        if not isinstance(said, dict):
            raise ValueError("closed without an answer")  # noqa: TRY004
        size = question.get("payload", 0)
        try:
            connection.sendall(f"echo {size}\n".encode() + bytes(size))
            came = len(lines.read(size))
        except TimeoutError:
            raise TimeoutError("small packets pass, large ones do not") from None
        if came != size:
            raise ValueError(f"{came} of {size} bytes came back")
        return said


def by_udp(question: dict[str, Any]) -> dict[str, object]:
    """Who answers a datagram."""
    with opened(question, socket.SOCK_DGRAM) as sock:
        sock.send(b"?")
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
