"""Ports of the node that lead to a pod: real connections from everywhere, and what is left afterwards."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from spiderpool.agent import interfaces
from spiderpool.core.network.hostports import HostPort, bypasses, leads_to
from spiderpool.errors import KernelFailure
from spiderpool.kernel import conntrack, hostports
from spiderpool.kernel.namespaces import opened, run_inside, socket_in_netns
from spiderpool.kernel.programs import Backend
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import CLIENT, CONTAINER, ETH0, HOST_END, NET1, interface

T = TypeVar("T")

PORT = 8081
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
LOCALHOST = "127.0.0.1"


async def on_node(world: World, work: Callable[[], T]) -> T:
    with opened(world.node) as descriptor:
        return await run_inside(descriptor, work)


def port_of(pod: str, **other: object) -> HostPort:
    """A port that leads to the pod's server."""
    return replace(HostPort("tcp", PORT, pod, 8080), **other)  # type: ignore[arg-type]


async def open_ports(world: World, *ports: HostPort) -> None:
    await on_node(world, lambda: hostports.load(ports))
    await on_node(world, lambda: hostports.open_loopback(HOST_END))
    assert await on_node(world, lambda: hostports.missing(ports)) == ()


def rules(world: World, backend: Backend) -> str:
    """Everything in the node's packet filter but counters."""
    if backend == "nft":
        return world.inside(world.node, "nft", "list", "ruleset")
    saved = "".join(world.inside(world.node, f"{program}-save") for program in ("iptables-legacy", "ip6tables-legacy"))
    return "\n".join(line for line in saved.splitlines() if line.startswith("-A") or "SPIDERPOOL" in line)


@contextmanager
def closing(*servers: asyncio.Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.close()


async def refused(attempt: Awaitable[str]) -> bool:
    try:
        await attempt
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.lab
@pytest.mark.parametrize("version", [4, 6])
async def test_it_leads_to_the_pod_from_everywhere(wide: World, kind: str, backend: Backend, version: int) -> None:
    pod, sibling = wide.pod("one"), wide.pod("two")
    net, net1, client = ETH0[version], NET1[version], CLIENT[version]
    other = interface(sibling, kind, versions=(version,), nets={version: replace(net, pod=net.other)})
    for one in (interface(pod, kind, versions=(version,)), replace(other, container_id="b" * 12)):
        await interfaces.add(one, node=wide.node)
    with closing(await serve(pod, 8080, version)):
        assert await refused(seen_by(wide.node, net.node, PORT))
        await open_ports(wide, port_of(net.pod))
        assert await seen_by(wide.router, net.node, PORT, source=client) == client
        assert await seen_by(wide.router, net.node, PORT, source=net.router) == net.router
        assert await seen_by(sibling, net.node, PORT) == net.other
        assert await seen_by(wide.node, net.node, PORT) == net.node
        assert await seen_by(pod, net.node, PORT) == net.node
        assert await seen_by(pod, net1.node, PORT) in (net.node, net1.node)
        assert await seen_by(wide.router, net1.node, PORT, source=net1.router) == net1.router
        if version == 4:
            assert await seen_by(wide.node, LOCALHOST, PORT) == net.node
        await on_node(wide, lambda: hostports.load(()))
        assert await refused(seen_by(wide.node, net.node, PORT))
        assert await refused(seen_by(wide.router, net.node, PORT))


@pytest.mark.lab
@pytest.mark.parametrize("version", [4, 6])
async def test_one_address_of_the_node_wins_over_all(wide: World, kind: str, backend: Backend, version: int) -> None:
    pod, net, net1 = wide.pod(), ETH0[version], NET1[version]
    await interfaces.add(interface(pod, kind, versions=(version,)), node=wide.node)
    everywhere, single = port_of(net.pod, target_port=8079), port_of(net.pod, address=net1.node)
    with closing(await serve(pod, 8080, version)):
        await open_ports(wide, single)
        assert await seen_by(wide.node, net1.node, PORT) == net1.node
        assert await refused(seen_by(wide.node, net.node, PORT))
        await open_ports(wide, everywhere, single)
        assert await seen_by(wide.node, net1.node, PORT) == net1.node
        assert await refused(seen_by(wide.node, net.node, PORT))  # by the pod, where nothing serves port 8079


@pytest.mark.lab
async def test_the_rules_are_what_is_wanted_and_nothing_else(wide: World, backend: Backend) -> None:
    """In each order of changes; the rules of other programs stay."""
    for program in ("iptables-legacy", "ip6tables-legacy"):
        wide.inside(wide.node, program, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "RETURN")
    before = rules(wide, backend)
    ports = (
        *(port_of(ETH0[version].pod, protocol=protocol) for version in (4, 6) for protocol in ("tcp", "udp", "sctp")),
        *(port_of(ETH0[version].pod, port=PORT + 1, address=ETH0[version].node) for version in (4, 6)),
    )
    assert await on_node(wide, lambda: hostports.missing(ports)) != ()
    await open_ports(wide, *ports)
    full = rules(wide, backend)
    assert await on_node(wide, lambda: hostports.missing(ports[:1])) == ()
    await open_ports(wide, *ports[:3])
    assert set(await on_node(wide, lambda: hostports.missing(ports))) != set()
    await open_ports(wide, *ports)
    assert rules(wide, backend) == full
    for _ in range(2):
        await on_node(wide, lambda: hostports.load(()))
        assert rules(wide, backend).split() == before.split()


@pytest.mark.lab
async def test_a_flushed_packet_filter_is_noticed(wide: World, backend: Backend) -> None:
    port = port_of(ETH0[4].pod)
    await open_ports(wide, port)
    if backend == "nft":
        wide.inside(wide.node, "nft", "flush", "ruleset")
    else:
        wide.inside(wide.node, "iptables-legacy", "-t", "nat", "-F", "PREROUTING")
    [absent, *_] = await on_node(wide, lambda: hostports.missing((port,)))
    assert str(PORT) in absent or "PREROUTING" in absent
    await open_ports(wide, port)


@pytest.mark.lab
async def test_loopback_of_the_node_stays_closed_to_the_wire(wide: World, kind: str, backend: Backend) -> None:
    """The sysctl alone would let a pod with raw sockets reach what listens on the node's 127.0.0.1."""
    pod = wide.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=wide.node)
    wide.ip(pod, "route", "add", "127.0.0.9", "via", ETH0[4].node, "dev", "veth0", "table", "77")
    wide.ip(pod, "rule", "add", "to", "127.0.0.9", "lookup", "77", "pref", "0")
    wide.ip(pod, "rule", "delete", "lookup", "local", "pref", "0")
    wide.ip(pod, "rule", "add", "lookup", "local", "pref", "5")
    wide.inside(pod, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    await on_node(wide, lambda: hostports.open_loopback(HOST_END))
    with closing(await serve(wide.node, 9090, 4)):
        assert await seen_by(pod, "127.0.0.9", 9090) == ETH0[4].pod  # else the next line would prove nothing
        await open_ports(wide, port_of(ETH0[4].pod))
        with pytest.raises(TimeoutError):
            await seen_by(pod, "127.0.0.9", 9090, timeout=1)


class Udp:
    """UDP sockets in namespaces; a server answers with its own name."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    async def bind(self, namespace: str | Path, address: str, port: int) -> socket.socket:
        with opened(namespace) as descriptor:
            made = await socket_in_netns(descriptor, FAMILIES[6 if ":" in address else 4], socket.SOCK_DGRAM, 0)
        self._stack.enter_context(made)
        made.setblocking(False)
        made.bind((address, port))
        return made

    async def serve(self, namespace: str | Path, address: str, port: int, name: str) -> None:
        loop, server = asyncio.get_running_loop(), await self.bind(namespace, address, port)

        async def answer() -> None:
            while True:
                _, client = await loop.sock_recvfrom(server, 64)
                await loop.sock_sendto(server, name.encode(), client)

        task = loop.create_task(answer())
        self._stack.callback(task.cancel)

    async def question(self, client: socket.socket, address: str, port: int) -> str:
        """The answer to one of three datagrams, as the first may be lost while a MAC is looked up; empty: none."""
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await loop.sock_sendto(client, b"?", (address, port))
            try:
                async with asyncio.timeout(0.5):
                    return (await loop.sock_recvfrom(client, 64))[0].decode()
            except TimeoutError:
                continue
        return ""


@pytest.mark.lab
@pytest.mark.parametrize("version", [4, 6])
async def test_udp_connections_follow_the_port(wide: World, kind: str, backend: Backend, version: int) -> None:
    """A client that keeps its socket reaches the pod once it is there, and its successor afterwards."""
    pod, successor, net = wide.pod("one"), wide.pod("two"), ETH0[version]
    other = interface(successor, kind, versions=(version,), nets={version: replace(net, pod=net.other)})
    for one in (interface(pod, kind, versions=(version,)), replace(other, container_id="b" * 12)):
        await interfaces.add(one, node=wide.node)
    with ExitStack() as stack:
        udp = Udp(stack)
        client = await udp.bind(wide.router, CLIENT[version], 40000)
        unrelated = await udp.bind(wide.router, CLIENT[version], 40001)
        await udp.serve(wide.node, net.node, 8082, "node")
        await udp.serve(pod, net.pod, 8080, "first")
        await udp.serve(successor, net.other, 8080, "second")
        await open_ports(wide, port_of(net.pod))  # from now on the kernel tracks connections
        assert await udp.question(client, net.node, PORT) == ""  # nobody is there, and the kernel remembers it
        assert await udp.question(unrelated, net.node, 8082) == "node"
        first = port_of(net.pod, protocol="udp")
        await open_ports(wide, first)
        assert await forget(wide, first, bypasses) == 1
        assert await udp.question(client, net.node, PORT) == "first"
        assert await forget(wide, first, bypasses, beside=9) == 0
        second = port_of(net.other, protocol="udp")
        await open_ports(wide, second)
        assert await udp.question(client, net.node, PORT) == "first"
        assert await forget(wide, first, leads_to, beside=9) == 1
        assert await udp.question(client, net.node, PORT) == "second"


async def forget(world: World, port: HostPort, is_stale: Callable[..., bool], *, beside: int | None = None) -> int:
    """``beside`` is another port to look at: the kernel filters by one port, or not."""
    ports = {port.port} | ({beside} if beside else set())
    return await on_node(
        world, lambda: conntrack.forget_udp(port.version, ports, lambda connection: is_stale(connection, port))
    )


SCTP = 132


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP).close()
    except OSError:
        return False
    return True


@pytest.mark.lab
@pytest.mark.parametrize("version", [4, 6])
async def test_sctp(wide: World, kind: str, backend: Backend, version: int) -> None:
    if not has_sctp():
        pytest.skip("this kernel has no SCTP")
    pod, net = wide.pod(), ETH0[version]
    await interfaces.add(interface(pod, kind, versions=(version,)), node=wide.node)
    await open_ports(wide, port_of(net.pod, protocol="sctp"))
    wide.inside(pod, "sysctl", "-qw", "net.sctp.cookie_hmac_alg=none")  # its module may be missing
    loop = asyncio.get_running_loop()
    with opened(pod) as inside, opened(wide.router) as outside:
        server = await socket_in_netns(inside, FAMILIES[version], socket.SOCK_STREAM, SCTP)
        client = await socket_in_netns(outside, FAMILIES[version], socket.SOCK_STREAM, SCTP)
    with server, client:
        for each in (server, client):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.bind((net.pod, 8080))
        server.listen()
        client.bind((net.router, 0))
        async with asyncio.timeout(5):
            await loop.sock_connect(client, (net.node, PORT))
            accepted, peer = await loop.sock_accept(server)
        accepted.close()
        assert peer[0] == net.router


@pytest.mark.unit
def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(hostports, "_backends", ["nft", "iptables"])
    with pytest.raises(KernelFailure, match="host ports of IPv4") as caught:
        hostports.load([port_of("192.0.2.1")])
    assert "nft: [Errno 2] No such file or directory" in caught.value.details
    assert "iptables: [Errno 2] No such file or directory" in caught.value.details
    hostports.load([])  # nothing can be there without them


@pytest.mark.unit
def test_a_failure_to_remove_rules_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(hostports, "_backends", ["nft"])
    (tmp_path / "nft").write_text("#!/bin/sh\necho Device or resource busy\nexit 1\n")
    (tmp_path / "nft").chmod(0o755)
    with pytest.raises(KernelFailure) as caught:
        hostports.load([])
    assert "Device or resource busy" in caught.value.details


@pytest.mark.unit
def test_hooks_that_are_there_are_not_added_again() -> None:
    ports = [port_of("192.0.2.1")]
    first = hostports.iptables_script(ports, 4, "")
    assert first.count("-A PREROUTING") == 2
    present = first.replace(":", "#")
    assert "-A PREROUTING" not in hostports.iptables_script(ports, 4, present)
    assert hostports.iptables_script([], 4, present).count("-D PREROUTING") == 2
    assert hostports.iptables_script([], 4, "*nat\nCOMMIT\n") == ""
    assert CONTAINER.startswith(HOST_END.removeprefix("veth"))


@pytest.mark.lab
async def test_the_way_to_loopback_closes_with_the_last_port(wide: World, kind: str) -> None:
    pod = wide.pod()
    await interfaces.add(interface(pod, kind), node=wide.node)
    await open_ports(wide, port_of(ETH0[4].pod))
    assert is_open(wide) == "1"
    await on_node(wide, lambda: hostports.load(()))
    assert is_open(wide) == "0", "the rules that guard it are gone"
    await interfaces.remove(CONTAINER, pod, "eth0", node=wide.node)


def is_open(world: World) -> str:
    return world.inside(world.node, "cat", f"/proc/sys/net/ipv4/conf/{HOST_END}/route_localnet").strip()
