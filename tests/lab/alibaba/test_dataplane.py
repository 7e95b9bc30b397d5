"""Traffic through load balancers: a client, a namespace that is router and data plane, two servers behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from spiderpool_lab import namespaces
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB, AccessList, BalancerBackend, CLBGroup, CLBListener, ClbProtocol
from spiderpool_lab.alibaba.clb_listeners import DEFAULTS
from spiderpool_lab.alibaba.dataplane import SOURCE, DataPlane
from spiderpool_lab.alibaba.forwarding import Frontend, Target
from spiderpool_lab.alibaba.rendering import haproxy_config, nft_ruleset
from spiderpool_lab.balancer_connections import end_stale_udp
from spiderpool_lab.certificates import Authority
from spiderpool_lab.probes import Answer, TrafficProbe, run
from tests.support.eventually import eventually

pytestmark = pytest.mark.lab

ROUTER, CLIENT = "spl-sim-router", "spl-sim-client"
SERVERS = ("spl-sim-server1", "spl-sim-server2")
PUBLIC, PORT = "47.98.137.75", 30080
CLIENT_ADDRESS = "203.0.113.77"


@pytest.fixture
def network() -> Iterator[None]:
    """A star of veth pairs around the router, each leaf with a default route to it."""
    names = (ROUTER, CLIENT, *SERVERS)
    try:
        for name in names:
            namespaces.delete(namespaces.path(name))
            namespaces.create(name)
        leaves = ((CLIENT, "203.0.113", 77), (SERVERS[0], "172.31.1", 10), (SERVERS[1], "172.31.2", 10))
        for number, (name, network, host) in enumerate(leaves):
            link = f"link add r{number} netns {ROUTER} type veth peer name eth0 netns {name}"
            namespaces.ip_batch([link])
            namespaces.ip_batch([f"addr add {network}.1/24 dev r{number}", f"link set r{number} up"], netns=ROUTER)
            namespaces.ip_batch(
                [f"addr add {network}.{host}/24 dev eth0", "link set eth0 up", f"route add default via {network}.1"],
                netns=name,
            )
        namespaces.call_in(namespaces.path(ROUTER), _forward)
        yield
    finally:
        for name in names:
            namespaces.end_processes(namespaces.path(name))
            namespaces.delete(namespaces.path(name))


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


@dataclass(slots=True)
class Server:
    """Answers HTTP and UDP requests with its name, the source address and the X-Forwarded-For header."""

    name: str
    tcp: asyncio.Server
    udp: asyncio.DatagramTransport

    @classmethod
    async def start(cls, name: str) -> Server:
        netns = namespaces.path(name)
        listening = namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("0.0.0.0", PORT))
        tcp = await asyncio.start_server(lambda reader, writer: _answer(name, reader, writer), sock=listening)
        bound = namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("0.0.0.0", PORT))
        udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Echo(name), sock=bound)
        return cls(name, tcp, udp)

    async def stop(self) -> None:
        self.tcp.close()
        self.udp.close()
        await self.tcp.wait_closed()


async def _answer(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        answers = {"server": name, "peer": writer.get_extra_info("peername")[0], "for": headers.get("x-forwarded-for")}
        body = json.dumps(answers).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(json.dumps({"server": self.name, "peer": addr[0]}).encode(), addr)


@pytest.fixture
async def servers(network: None) -> AsyncIterator[dict[str, Server]]:
    running = {name: await Server.start(name) for name in SERVERS}
    yield running
    for server in running.values():
        await server.stop()


@pytest.fixture
async def plane(account: Account, servers: dict[str, Server], tmp_path: Path) -> AsyncIterator[DataPlane]:
    new = DataPlane(account, ROUTER, tmp_path / "balancers", time_scale=0.05, end_stale=end_stale_udp)
    async with new.running() as plane:
        yield plane


def balance(account: Account, protocol: ClbProtocol, port: int, **settings: str) -> None:
    """A CLB with both servers behind one running listener."""
    backends = tuple(BalancerBackend(name, "ecs", PORT, 100, f"172.31.{i}.10") for i, name in enumerate(SERVERS, 1))
    account.tables.clb_groups.put(CLBGroup("rsp-1", "g", "lb-1", backends))
    all_settings = {**DEFAULTS[protocol], "VServerGroupId": "rsp-1", **settings}
    listener = CLBListener(protocol, port, all_settings, running=True)
    account.tables.clbs.put(CLB("lb-1", "a", PUBLIC, {}, listeners=(listener,)))


def targets(plane: DataPlane) -> int:
    """Number of targets that get traffic now."""
    return sum(len(frontend.targets) for frontend in plane.applied)


async def send(probe: TrafficProbe, count: int) -> list[dict[str, str]]:
    answers: list[Answer] = [await run(probe, namespaces.path(CLIENT)) for _ in range(count)]
    assert all(answer.ok and answer.status in (None, 200) for answer in answers), answers
    return [json.loads(answer.body) for answer in answers]


async def test_tcp_keeps_the_clients_address_and_reaches_both(account: Account, plane: DataPlane) -> None:
    balance(account, "tcp", 999)
    await eventually(lambda: targets(plane) == 2)
    answers = await send(TrafficProbe(kind="http", target=PUBLIC, port=999), 30)
    assert {answer["peer"] for answer in answers} == {CLIENT_ADDRESS}
    assert set(Counter(answer["server"] for answer in answers)) == set(SERVERS)


async def test_a_sticky_client_stays_with_its_server(account: Account, plane: DataPlane) -> None:
    balance(account, "tcp", 999, PersistenceTimeout="60")
    await eventually(lambda: targets(plane) == 2)
    answers = await send(TrafficProbe(kind="http", target=PUBLIC, port=999), 10)
    assert len({answer["server"] for answer in answers}) == 1


@pytest.mark.parametrize("protocol", ["tcp", "http"])
async def test_a_client_that_is_not_admitted_gets_no_answer(
    account: Account, plane: DataPlane, protocol: ClbProtocol
) -> None:
    settings = {"HealthCheck": "off", "StickySession": "off"} if protocol == "http" else {}
    balance(account, protocol, 999, AclStatus="on", AclId="acl-1", AclType="white", **settings)
    probe = TrafficProbe(kind="http", target=PUBLIC, port=999, timeout=1.0)

    async def is_answered(wanted: bool) -> bool:
        return (await run(probe, namespaces.path(CLIENT))).ok == wanted

    for entry, wanted in ((f"{CLIENT_ADDRESS}/32", True), ("198.51.100.0/24", False), ("203.0.113.0/24", True)):
        account.tables.access_lists.put(AccessList("acl-1", "mine", 4, {entry: ""}))
        await eventually(partial(admits, plane, entry))  # no request is under way while it changes
        await eventually(partial(is_answered, wanted))


def admits(plane: DataPlane, source: str) -> bool:
    """Whether the only list that clients are admitted by now is that with a range."""
    return any(rule.source == source for frontend in plane.applied for rule in frontend.admission)


async def test_udp_keeps_the_clients_address(account: Account, plane: DataPlane) -> None:
    balance(account, "udp", 53)
    await eventually(lambda: targets(plane) == 2)
    answers = await send(TrafficProbe(kind="udp", target=PUBLIC, port=53), 10)
    assert {answer["peer"] for answer in answers} == {CLIENT_ADDRESS}


async def test_datagrams_from_one_port_go_to_a_server_as_soon_as_there_is_one_and_on_to_the_next(
    account: Account, plane: DataPlane
) -> None:
    balance(account, "udp", 53)
    group = account.tables.clb_groups.get("rsp-1")
    assert group is not None
    with namespaces.open_socket(namespaces.path(CLIENT), socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((CLIENT_ADDRESS, 54321))
        client.setblocking(False)
        for backends, server in (((), None), (group.backends[:1], SERVERS[0]), (group.backends[1:], SERVERS[1])):
            account.tables.clb_groups.put(replace(group, backends=backends))
            await eventually(partial(is_served, plane, client, server))


def is_served(plane: DataPlane, client: socket.socket, server: str | None) -> bool:
    return targets(plane) == (server is not None) and answering(client) == server


def answering(client: socket.socket) -> str | None:
    """Who has answered the last datagrams of a client; sends the next one."""
    answers = []
    with suppress(OSError):
        while True:
            answers.append(json.loads(client.recv(100))["server"])
    with suppress(OSError):  # refused: there is no server
        client.sendto(b"hello", (PUBLIC, 53))
    return answers[-1] if answers else None


async def test_http_names_the_client_in_a_header(account: Account, plane: DataPlane) -> None:
    balance(account, "http", 80, HealthCheck="on", StickySession="off")
    await eventually(lambda: targets(plane) == 2)
    answers = await answers_of_both(TrafficProbe(kind="http", target=PUBLIC, port=80))
    assert {(answer["peer"], answer["for"]) for answer in answers} == {(SOURCE, CLIENT_ADDRESS)}


async def answers_of_both(probe: TrafficProbe) -> list[dict[str, str]]:
    """Send requests until both servers have answered; HAProxy answers 503 until it knows healthy servers."""
    answers: list[dict[str, str]] = []

    async def have_both_answered() -> bool:
        answer = await run(probe, namespaces.path(CLIENT))
        answers.extend([json.loads(answer.body)] if answer.status == 200 else [])
        return {answer["server"] for answer in answers} == set(SERVERS)

    condition: Callable[[], bool | Awaitable[bool]] = have_both_answered
    await eventually(condition, "both servers have answered")
    return answers


async def test_a_server_that_is_down_gets_nothing(
    account: Account, plane: DataPlane, servers: dict[str, Server]
) -> None:
    balance(account, "tcp", 999)
    await eventually(lambda: targets(plane) == 2)
    await servers[SERVERS[0]].stop()
    await eventually(lambda: targets(plane) == 1)
    assert account.health["172.31.1.10", PORT] is False
    answers = await send(TrafficProbe(kind="http", target=PUBLIC, port=999), 10)
    assert {answer["server"] for answer in answers} == {SERVERS[1]}


class PodsAnswer(asyncio.Protocol):
    """Answers HTTP requests on one port as kube-proxy does at a healthCheckNodePort."""

    def __init__(self, statuses: dict[str, int], name: str) -> None:
        self.statuses, self.name = statuses, name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        status = self.statuses[self.name] if data.split(b" ")[1] == b"/healthz" else 404
        self.transport.write(b"HTTP/1.1 %d -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.transport.close()


@pytest.fixture
async def statuses(network: None) -> AsyncIterator[dict[str, int]]:
    """Status with which each server answers at port 31999; the second one has no ready pods."""
    found = {SERVERS[0]: 200, SERVERS[1]: 503}
    async with AsyncExitStack() as stack:
        for name in SERVERS:
            listening = namespaces.open_socket(namespaces.path(name), socket.AF_INET, socket.SOCK_STREAM)
            listening.bind(("0.0.0.0", 31999))
            server = asyncio.get_running_loop().create_server(partial(PodsAnswer, found, name), sock=listening)
            await stack.enter_async_context(await server)
        yield found


async def test_servers_are_asked_at_another_port_and_stay_healthy_until_they_fail_there(
    account: Account, plane: DataPlane, statuses: dict[str, int]
) -> None:
    balance(account, "tcp", 999)
    await eventually(lambda: targets(plane) == 2)
    seen: list[int] = []

    def is_alone() -> bool:
        seen.append(targets(plane))
        return seen[-1] == 1

    settings = {"HealthCheckType": "http", "HealthCheckConnectPort": "31999", "HealthCheckURI": "/healthz"}
    balance(account, "tcp", 999, **settings)
    await eventually(is_alone)
    assert set(seen) <= {1, 2}  # at no time is the other one taken for ill
    assert (account.health["172.31.1.10", PORT], account.health["172.31.2.10", PORT]) == (True, False)
    statuses[SERVERS[1]] = 200
    await eventually(lambda: targets(plane) == 2)


def test_the_tools_accept_what_is_rendered(network: None, tmp_path: Path) -> None:
    pair = Authority.create("test").server([PUBLIC])
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(pair.certificate + pair.key)
    v4 = (Target("172.31.1.10", 80, 100, None), Target("172.31.2.10", 80, 1, None))
    v6 = (Target("2408::1", 80, 1, None), Target("2408::2", 80, 2, None))
    found = [
        Frontend(PUBLIC, 999, "tcp", v4, sticky=True),
        Frontend("2408::9", 53, "udp", v6),
        Frontend("2408::9", 54, "tcp", v6, sticky=True),
        Frontend(PUBLIC, 80, "http", (), redirect=443),
        Frontend(PUBLIC, 443, "https", v4, cookie="SERVERID", proto_header=True),
        Frontend("2408::9", 80, "http", v6, sticky=True),
    ]
    namespaces.run_tool(["ip", "netns", "exec", ROUTER, "nft", "-c", "-f", "-"], nft_ruleset(found))
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy_config(found, SOURCE, {PUBLIC: certificate}))
    namespaces.run_tool(["haproxy", "-c", "-f", str(file)])


async def test_changes_are_followed_and_nothing_stays(account: Account, plane: DataPlane) -> None:
    balance(account, "tcp", 999)
    await eventually(lambda: targets(plane) == 2)
    group = account.tables.clb_groups.get("rsp-1")
    assert group is not None
    account.tables.clb_groups.put(replace(group, backends=group.backends[:1]))
    await eventually(lambda: targets(plane) == 1)
    account.tables.clbs.remove("lb-1")
    await eventually(lambda: plane.applied == ())
    answer = await run(TrafficProbe(kind="tcp", target=PUBLIC, port=999, timeout=0.5), namespaces.path(CLIENT))
    assert not answer.ok
    assert PUBLIC not in namespaces.run_tool(["ip", "-n", ROUTER, "address"])
