"""Callers of the webhooks' port who are no API server: many, slow or large. Real sockets, a real process."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from socket import create_connection, socket
from typing import Self

import pytest

from spiderpool.controller.admission_server import AdmissionLimits, AdmissionServer
from spiderpool.controller.http_request import MAX_REVIEW, BadCall, parse_head
from spiderpool.controller.reviews import ALLOWED, AdmissionRequest, Answer
from spiderpool_lab.certificates import Authority, KeyPair
from tests.support.environment import bare_environment
from tests.support.eventually import eventually, wait_until

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

PATH = "/mutate-spiderpool-spidernet-io-v2beta1-spiderreservedip"
MEBIBYTE = 1 << 20
PATIENCE = 3.0
"""Seconds within which an honest caller has its answer; the API server waits for 10."""

SERVER = """
import asyncio, ssl, sys
from pathlib import Path
from spiderpool.controller.admission_server import AdmissionServer, accept_client_certificates
from spiderpool.controller.webhooks import Webhooks
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess

async def main(folder: Path, known_only: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    if known_only:
        accept_client_certificates(context, folder / "ca.pem")
    access = ClusterAccess("http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials())
    async with Client(access) as client:
        webhooks = Webhooks(client, frozenset({4, 6})).by_path()
        async with AdmissionServer(webhooks, context, known_only=known_only).listening("127.0.0.1", 0) as port:
            print(port, flush=True)
            await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2] == "known"))
"""


@dataclass(frozen=True)
class Served:
    """The port in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def resident(self) -> int:
        """Bytes of its memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))

    @property
    def connections(self) -> int:
        """Its file descriptors."""
        return len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def context(self, client: str | None = None) -> ssl.SSLContext:
        """The TLS of a caller, with the certificate of a file."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if client:
            context.load_cert_chain(self.folder / client)
        return context

    def connect(self) -> ssl.SSLSocket:
        """A connection after its handshake."""
        return self.context().wrap_socket(create_connection(("127.0.0.1", self.port)), server_hostname="127.0.0.1")

    def call(self, client: str | None = None) -> tuple[int, bytes, float]:
        """What an honest caller gets, and after how many seconds."""
        begun = time.monotonic()
        made = HTTPSConnection("127.0.0.1", self.port, context=self.context(client), timeout=20)
        with closing(made) as connection:  # also where the handshake fails
            connection.request("POST", PATH, body=review())
            answer = connection.getresponse()
            return answer.status, answer.read(), time.monotonic() - begun

    def assert_answers(self) -> None:
        """An honest caller has its answer in time."""
        status, body, seconds = self.call()
        assert (status, json.loads(body)["response"]["allowed"]) == (200, True)
        assert seconds < PATIENCE


def review(size: int = 0) -> bytes:
    request = {"uid": "u", "operation": "CREATE", "object": {"spec": {"ips": ["10.6.0.1"]}, "x": "x" * size}}
    return json.dumps({"request": request}).encode()


def write(file: Path, pair: KeyPair) -> None:
    file.write_bytes(pair.certificate + pair.key)


@contextmanager
def serving(folder: Path, mode: str = "anybody") -> Iterator[Served]:
    authority, stranger = Authority.create("ca"), Authority.create("other")
    (folder / "ca.pem").write_bytes(authority.pair.certificate)
    write(folder / "server.pem", authority.server(["127.0.0.1"]))
    write(folder / "known.pem", authority.client("kube-apiserver"))
    write(folder / "stranger.pem", stranger.client("kube-apiserver"))
    words = [sys.executable, "-c", SERVER, str(folder), mode]
    with subprocess.Popen(words, env=bare_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Served(process, int(process.stdout.readline()), folder)
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("port")) as port:
        port.assert_answers()
        yield port


def head(length: int) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


class TestManyCallers:
    def test_bodies_that_never_end_fill_no_memory(self, served: Served) -> None:
        """40 callers send all of a large review but its last byte."""
        before = served.resident
        with ExitStack() as stack:
            for _ in range(40):
                caller = stack.enter_context(served.connect())
                with suppress(OSError):  # one that has the most bytes is dropped
                    caller.sendall(head(MAX_REVIEW) + bytes(MAX_REVIEW - 1))
            assert served.resident - before < 200 * MEBIBYTE
            served.assert_answers()

    def test_connections_without_a_handshake_are_bounded(self, served: Served) -> None:
        before = served.resident
        with ExitStack() as stack:
            for _ in range(800):
                stack.enter_context(create_connection(("127.0.0.1", served.port)))
            served.assert_answers()
            assert served.connections < AdmissionLimits().connections + 50
            assert served.resident - before < 300 * MEBIBYTE

    def test_requests_without_a_break_fill_no_memory(self, served: Served) -> None:
        """Callers send one request after the other, and read no answer."""
        before = served.resident
        with ExitStack() as stack:
            for _ in range(100):
                caller = stack.enter_context(served.connect())
                caller.settimeout(0.05)
                with suppress(OSError):
                    caller.sendall(b"GET /webhook-health-check HTTP/1.1\r\n\r\n" * 20_000)
            served.assert_answers()
            assert served.resident - before < 100 * MEBIBYTE

    def test_large_reviews_at_once_are_handled_a_few_at_a_time(self, served: Served) -> None:
        before = served.resident
        large = review(MAX_REVIEW - 1000)
        with ExitStack() as stack:
            for _ in range(20):
                caller = stack.enter_context(served.connect())
                caller.settimeout(0.5)
                with suppress(OSError):
                    caller.sendall(head(len(large)) + large)
            served.assert_answers()
            assert served.resident - before < 300 * MEBIBYTE


async def allow(_: AdmissionRequest) -> Answer:
    return ALLOWED


class TestTime:
    """Limits in time, with short ones."""

    LIMITS = AdmissionLimits(request=0.2, idle=0.4, answer=0.2)

    @pytest.mark.parametrize("sent", [b"POST ", head(100), head(100) + b"{"])
    async def test_a_request_that_does_not_end_is_dropped(self, sent: bytes) -> None:
        async with AdmissionServer({PATH: allow}, limits=self.LIMITS).listening("127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(2):
                assert await reader.read() == b""
            writer.close()

    async def test_a_trickle_does_not_renew_the_time(self) -> None:
        async with AdmissionServer({PATH: allow}, limits=self.LIMITS).listening("127.0.0.1", 0) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            begun = time.monotonic()
            with suppress(OSError):
                while not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            assert time.monotonic() - begun < 1
            writer.close()

    def test_api_servers_end_idle_connections_first(self) -> None:
        """Go's clients do so after 90 s. A request that meets our end of one is lost, and its write refused."""
        assert AdmissionLimits().idle > 90

    async def test_one_that_stays_silent_is_dropped(self) -> None:
        async with AdmissionServer({PATH: allow}, limits=self.LIMITS).listening("127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(2):
                assert await reader.read() == b""
            writer.close()

    @pytest.mark.parametrize("query", ["?timeout=1s", "?a=b&timeout=1s"])
    async def test_no_review_waits_for_longer_than_its_api_server_waits(self, query: str) -> None:
        handled = []

        async def hang(request: AdmissionRequest) -> Answer:
            handled.append(request.uid)
            await asyncio.Event().wait()
            return ALLOWED

        server = AdmissionServer({PATH: hang}, limits=AdmissionLimits(handled=1, answer=60.0))
        async with server.listening("127.0.0.1", 0) as port, Callers(port) as on:
            _, first = await on.connect("127.0.0.1")
            first.write(head(len(review())) + review())
            await eventually(lambda: handled == ["u"], "one is handled")
            reader, second = await on.connect("127.0.0.1")
            second.write(head(len(review())).replace(b" HTTP", query.encode() + b" HTTP", 1) + review())
            async with asyncio.timeout(PATIENCE):
                assert b"503" in await reader.readline()
            assert (handled, waiting(server)) == (["u"], 0)

    @pytest.mark.parametrize(
        "query", ["", "?timeout=", "?timeout=0s", "?timeout=99999999999s", "?timeout=-1s", "?timeout=x"]
    )
    def test_a_time_that_no_api_server_gives_is_none(self, query: str) -> None:
        assert parse_head(head(1).replace(b" HTTP", query.encode() + b" HTTP", 1)).timeout is None

    async def test_a_review_that_takes_too_long_is_answered_and_gives_its_slot_back(self) -> None:
        async def hang(_: AdmissionRequest) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

        limits = AdmissionLimits(handled=1, answer=0.2)
        async with AdmissionServer({PATH: allow, "/hang": hang}, limits=limits).listening("127.0.0.1", 0) as port:
            for path, status in (("/hang", b"503"), (PATH, b"200")):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head(len(review())).replace(PATH.encode(), path.encode()) + review())
                assert status in await reader.readline()
                writer.close()


def waiting(server: AdmissionServer) -> int:
    """How many reviews wait for a slot."""
    return sum(map(len, server._slots._lines.values()))


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def asks(streams: Streams) -> int:
    """The status of the answer to a review on a connection."""
    reader, writer = streams
    writer.write(head(len(review())) + review())
    async with asyncio.timeout(2):
        status = int((await reader.readline()).split()[1])
        length = int((await reader.readuntil(b"\r\n\r\n")).lower().split(b"content-length: ")[1].split()[0])
        await reader.readexactly(length)
    return status


class Callers:
    """Callers of a port, from addresses of loopback; all go at the end."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._context = context
        self._made: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._made:
            writer.close()

    async def connect(self, address: str, *, probe: bool = False) -> Streams:
        """A connection, on which one of the kubelet's probes was answered, if it may."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            local_addr=(address, 0),
            ssl=self._context,
            server_hostname="127.0.0.1" if self._context else None,
        )
        self._made.append(writer)
        if probe:
            writer.write(b"GET /webhook-health-check HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(2):
                assert b"200" in await reader.readline()
        return reader, writer


class TestFairness:
    async def test_an_address_with_few_reviews_goes_before_one_with_many(self) -> None:
        release, begun = asyncio.Event(), []

        async def slow(request: AdmissionRequest) -> Answer:
            begun.append(request.uid)
            await release.wait()
            return ALLOWED

        async def call(address: str, uid: str) -> asyncio.StreamWriter:
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            body = review().replace(b'"u"', f'"{uid}"'.encode())
            writer.write(head(len(body)) + body)
            return writer

        server = AdmissionServer({PATH: slow}, limits=AdmissionLimits(handled=2))
        async with server.listening("127.0.0.1", 0) as port:
            callers = [await call("127.0.0.2", f"many-{number}") for number in range(10)]
            await eventually(lambda: len(begun) == 2, "two are handled")
            callers.append(await call("127.0.0.3", "few"))
            await eventually(lambda: waiting(server) == 9, "the others wait")
            release.set()
            await eventually(lambda: len(begun) == 11, "all are handled")
            assert begun.index("few") < 4
            for caller in callers:
                caller.close()

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
    async def test_reviews_of_callers_that_have_hung_up_are_not_handled(self, served: Served, tls: bool) -> None:
        """API servers go when their webhook's time is over. Others, as a crowd of one Namespace, just go."""
        handled, release = list[str | None](), asyncio.Event()

        async def slow(request: AdmissionRequest) -> Answer:
            handled.append(request.uid)
            await release.wait()
            return ALLOWED

        limits = AdmissionLimits(handled=1, handled_shared=1)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(served.folder / "server.pem")
        server = AdmissionServer({PATH: slow}, context if tls else None, limits=limits)
        async with server.listening("127.0.0.1", 0) as port, Callers(port, served.context() if tls else None) as on:
            crowd = [await on.connect("127.0.0.1") for _ in range(20)]
            for _, writer in crowd:
                writer.write(head(len(review())) + review())
            await eventually(lambda: waiting(server) == 19, "the others wait")
            for _, writer in crowd:
                writer.close()
            await eventually(lambda: waiting(server) == 0, "that they have gone is noticed")
            release.set()
            reader, writer = await on.connect("127.0.0.1")
            body = review().replace(b'"u"', b'"live"')
            writer.write(head(len(body)) + body)
            async with asyncio.timeout(PATIENCE):
                assert b"200" in await reader.readline()
        assert handled == ["u", "live"], "the first one was handled already"

    async def test_a_crowd_of_one_address_drops_no_other(self) -> None:
        limits = AdmissionLimits(connections=5)
        async with AdmissionServer({PATH: allow}, limits=limits).listening("127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
            crowd = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(20)]
            writer.write(head(len(review())) + review())
            assert b"200" in await reader.readline()
            for _, each in [*crowd, (reader, writer)]:
                each.close()

    async def test_a_crowd_of_one_namespace_drops_no_review_of_another(self) -> None:
        """All come from one address, that of the API server; those of the crowd wait for slots, and come anew."""
        release = asyncio.Event()

        async def slow(_: AdmissionRequest) -> Answer:
            await release.wait()
            return ALLOWED

        def of(namespace: str) -> bytes:
            return review().replace(b'"u"', b'"u", "namespace": "' + namespace.encode() + b'"')

        limits = AdmissionLimits(connections=8, handled=2, handled_shared=1)
        server = AdmissionServer({PATH: slow}, limits=limits)
        async with server.listening("127.0.0.1", 0) as port, Callers(port) as on:
            quiet = [await on.connect("127.0.0.1") for _ in range(2)]
            for _, writer in quiet:
                writer.write(head(len(of("quiet"))) + of("quiet"))
            await eventually(lambda: waiting(server) == 1, "one is handled, one waits")
            for _ in range(20):
                _, writer = await on.connect("127.0.0.1")
                writer.write(head(len(of("loud"))) + of("loud"))
            await eventually(lambda: len(server._callers) == 8, "as many stay as may be")
            release.set()
            for reader, _ in quiet:
                async with asyncio.timeout(5):
                    assert b"200" in await reader.readline()

    async def test_callers_without_a_review_at_many_addresses_drop_none_that_had_one(self) -> None:
        limits = AdmissionLimits(connections=8, kept=2)
        async with AdmissionServer({PATH: allow}, limits=limits).listening("127.0.0.1", 0) as port, Callers(port) as on:
            first = await on.connect("127.0.0.3")
            second = await on.connect("127.0.0.3")
            for _ in range(2):
                assert [await asks(each) for each in (first, second)] == [200, 200]
                for number in range(20):
                    await on.connect(f"127.0.1.{number}", probe=True)

    async def test_callers_with_a_review_at_many_addresses_keep_no_new_one_out(self) -> None:
        limits = AdmissionLimits(connections=8, kept=2)
        async with AdmissionServer({PATH: allow}, limits=limits).listening("127.0.0.1", 0) as port, Callers(port) as on:
            for number in range(20):
                assert await asks(await on.connect(f"127.0.1.{number}")) == 200
            new = await on.connect("127.0.0.3")
            later = [await on.connect(f"127.0.2.{number}") for number in range(3)]
            assert [await asks(each) for each in (new, *later)] == [200] * 4

    async def test_the_address_with_the_most_loses_none_that_is_handled(self) -> None:
        release, begun = asyncio.Event(), []

        async def slow(request: AdmissionRequest) -> Answer:
            begun.append(request.uid)
            await release.wait()
            return ALLOWED

        limits = AdmissionLimits(connections=5)
        async with AdmissionServer({PATH: slow}, limits=limits).listening("127.0.0.1", 0) as port, Callers(port) as on:
            reviews = [asyncio.create_task(asks(await on.connect("127.0.0.3"))) for _ in range(3)]
            await eventually(lambda: len(begun) == 3, "all are handled")
            for number in range(9):
                await on.connect(f"127.0.1.{number}")
            release.set()
            assert await asyncio.gather(*reviews) == [200] * 3


class TestRequests:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            (b"\r\n\r\n", 400),
            (b"POST /\r\n\r\n", 400),
            (b"POST / HTTP/2.0\r\n\r\n", 505),
            (b"POST / HTTP/1.1\r\n\r\n", 411),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
            (f"POST / HTTP/1.1\r\nContent-Length: {MAX_REVIEW + 1}\r\n\r\n".encode(), 413),
            (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400),
        ],
    )
    def test_what_is_no_request_of_ours_is_refused(self, text: bytes, status: int) -> None:
        with pytest.raises(BadCall) as refused:
            parse_head(text)
        assert refused.value.status == status

    async def test_a_long_head_is_refused(self) -> None:
        async with AdmissionServer({PATH: allow}).listening("127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n" + b"a" * 100_000)
            assert b"431" in await reader.readline()
            writer.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("guarded"), "known") as port:
        yield port


class TestClientCertificates:
    def test_the_api_server_gets_its_answer(self, guarded: Served) -> None:
        assert guarded.call("known.pem")[0] == 200

    def test_a_caller_without_one_learns_nothing(self, guarded: Served) -> None:
        status, body, _ = guarded.call()
        assert (status, b"response" in body) == (403, False)

    def test_one_of_another_authority_does_not_count(self, guarded: Served) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            guarded.call("stranger.pem")

    def test_a_probe_needs_none(self, guarded: Served) -> None:
        connection = HTTPSConnection("127.0.0.1", guarded.port, context=guarded.context(), timeout=20)
        connection.request("GET", "/webhook-health-check")
        assert connection.getresponse().status == 200
        connection.close()


def test_the_process_lets_go_of_callers_that_have_gone(served: Served) -> None:
    callers: list[socket] = [served.connect() for _ in range(20)]
    for caller in callers:
        caller.close()
    wait_until(lambda: served.connections < 30, "connections are closed")
