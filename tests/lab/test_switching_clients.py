"""The clients of many Services: what they count as answered and as lost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from spiderpool_lab.certificates import Authority
from spiderpool_lab.pod_servers import PodIdentity, serving
from spiderpool_lab.ports import free_ports
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.switching import clients
from spiderpool_lab.switching.clients import ServiceRequests
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

OWN_NETWORK = Path("/proc/self/ns/net")


async def secure(port: int, directory: Path) -> asyncio.Server:
    """A server of HTTPS with a certificate that no client knows."""
    pair = Authority.create("somebody").server(["127.0.0.1"])
    file = directory / "server.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, ssl=context)


async def test_requests_of_all_kinds_are_answered_and_one_to_nobody_is_lost(tmp_path: Path) -> None:
    plain, encrypted, nobody = free_ports(3, tmp_path)

    def probe(kind: str, port: int) -> TrafficProbe:
        return TrafficProbe(kind=kind, target="127.0.0.1", port=port, count=1, timeout=5)  # type: ignore[arg-type]

    services = [
        ServiceRequests("two-ports", [probe("http", plain), probe("https", encrypted)]),
        ServiceRequests("datagrams", [probe("udp", plain)]),
        ServiceRequests("nobody", [probe("http", nobody)]),
    ]
    file = tmp_path / "counted.json"
    async with (
        await secure(encrypted, tmp_path),
        serving(OWN_NETWORK, (("TCP", plain), ("UDP", plain)), PodIdentity("a", "b")),
    ):
        task = asyncio.create_task(clients.run(services, OWN_NETWORK, file))
        await eventually(
            lambda: file.exists() and all(each.sent > 4 for each in clients.read(file).values()), timeout=30
        )
        counted = clients.read(file)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert counted["two-ports"].answered > 1
    assert counted["datagrams"].answered > 1
    assert counted["two-ports"].lost == counted["datagrams"].lost == counted["nobody"].answered == 0
    assert "Connect call failed" in counted["nobody"].latest[0]


@pytest.mark.parametrize(
    ("answer", "is_answered"),
    [
        (Answer(ok=True, status=200), True),
        (Answer(ok=True, status=302), True),
        (Answer(ok=True, body="a datagram"), True),
        (Answer(ok=True, status=503), False),
        (Answer(ok=False, error="no answer"), False),
    ],
)
def test_a_balancer_that_has_no_server_does_not_answer(answer: Answer, is_answered: bool) -> None:
    assert clients.is_answered(answer) == is_answered
