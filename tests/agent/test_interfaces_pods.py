"""Pods with several interfaces and both families: what the kernel says, and what really passes."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import sys
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from spiderpool.agent.interfaces import add, check, refresh, remove
from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.errors import BadConfig, KernelFailure
from spiderpool.kernel.namespaces import opened, socket_in_netns
from spiderpool.kernel.ndp import ETH_P_IPV6, unsolicited_advertisement
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import (
    CLIENT,
    CONTAINER,
    ETH0,
    HOST_END,
    NET1,
    SERVICE,
    UNDERLAY,
    assert_answers,
    interface,
    one_interface,
    second,
    two_interfaces,
)

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("strict")]

IPTABLES = {4: "iptables-legacy", 6: "ip6tables-legacy"}


async def made(world: World, pod: str, *attachments: Attachment) -> None:
    for attachment in attachments:
        await add(attachment, node=world.node)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("version", [4, 6])
async def test_one_interface(wide: World, kind: str, version: int) -> None:
    pod, sibling = wide.pod("one"), wide.pod("two")
    net = ETH0[version]
    other = interface(sibling, kind, versions=(version,), nets={version: replace(net, pod=net.other)})
    other = replace(other, container_id="b" * 12)
    await made(wide, pod, interface(pod, kind, versions=(version,)), other)
    assert_answers(wide.route_of(pod, one_interface(version)))
    wide.inside(pod, "ping", "-c", "1", "-W", "2", net.node)
    servers = [await serve(side, 8080, version) for side in (pod, sibling, wide.node, wide.router)]
    assert await seen_by(pod, net.node, 8080) == net.pod
    assert await seen_by(pod, NET1[version].node, 8080) == net.pod
    assert await seen_by(wide.node, net.pod, 8080) == net.node
    assert await seen_by(wide.node, net.pod, 8080, source=NET1[version].node) == NET1[version].node
    assert await seen_by(pod, net.other, 8080) == net.pod
    assert await seen_by(pod, CLIENT[version], 8080) == net.pod
    assert await seen_by(wide.router, net.pod, 8080, source=CLIENT[version]) == CLIENT[version]
    for server in servers:
        server.close()


@pytest.mark.parametrize("version", [4, 6])
async def test_services(wide: World, kind: str, version: int) -> None:
    """A Service that masquerades, from the pod; a NodePort that does not, to the pod: the answer goes by its mark."""
    pod, net, client = wide.pod(), ETH0[version], CLIENT[version]
    await made(wide, pod, interface(pod, kind), second(pod, kind))
    nat = (IPTABLES[version], "-t", "nat", "-A")
    to = ("-j", "DNAT", "--to-destination")
    service = ("PREROUTING", "-d", SERVICE[version], "-p", "tcp", "--dport", "80")
    wide.inside(wide.node, *nat, *service, *to, f"{bracketed(net.router)}:8080")
    wide.inside(wide.node, *nat, "POSTROUTING", "-d", net.router, "-j", "MASQUERADE")
    for port, target in ((32635, net.pod), (32636, NET1[version].pod)):
        wide.inside(wide.node, *nat, "PREROUTING", "-p", "tcp", "--dport", str(port), *to, f"{bracketed(target)}:8080")
    servers = [await serve(side, 8080, version) for side in (pod, wide.router)]
    assert await seen_by(pod, SERVICE[version], 80) == net.node
    assert await seen_by(pod, SERVICE[version], 80, source=NET1[version].pod) == net.node
    assert await seen_by(wide.router, net.node, 32635, source=client) == client
    assert await seen_by(wide.router, net.node, 32636, source=client) == client
    wide.ip(pod, f"-{version}", "rule", "delete", "priority", "1000")
    with pytest.raises(TimeoutError):
        await seen_by(wide.router, net.node, 32635, source=client, timeout=1)
    for server in servers:
        server.close()


@pytest.mark.parametrize("default", ["eth0", "net1"])
async def test_two_interfaces(wide: World, kind: str, default: str) -> None:
    pod = wide.pod()
    chosen = replace(UNDERLAY, default_route_nic=default)
    attachments = [replace(one, coordination=chosen) for one in (interface(pod, kind), second(pod, kind))]
    await made(wide, pod, *attachments)
    for version in (4, 6):
        assert_answers(wide.route_of(pod, two_interfaces(version, default)))
    for one in attachments:
        await check(one, node=wide.node)
    before = views(wide, pod)
    await made(wide, pod, *attachments, attachments[1])
    assert views(wide, pod) == before
    servers = [await serve(side, 8080, version) for side in (pod, wide.node, wide.router) for version in (4, 6)]
    for version in (4, 6):
        client, eth0, net1 = CLIENT[version], ETH0[version], NET1[version]
        own = net1.pod if default == "net1" else eth0.pod
        assert await seen_by(pod, client, 8080) == own
        for source in (eth0.pod, net1.pod):
            assert await seen_by(pod, client, 8080, source=source) == source
            assert await seen_by(wide.router, source, 8080, source=client) == client
        assert await seen_by(pod, eth0.node, 8080, source=net1.pod) == net1.pod
        assert await seen_by(wide.node, net1.pod, 8080, source=eth0.node) == eth0.node
    for server in servers:
        server.close()


def views(world: World, pod: str) -> dict[str, list[str]]:
    """All that the pod and the node hold, as ip(8) prints it, without link indexes and macvlan's random MACs."""
    words = {
        "links": ("-br", "link"),
        "routes4": ("-4", "route", "show", "table", "all"),
        "routes6": ("-6", "route", "show", "table", "all"),
        "rules4": ("-4", "rule"),
        "rules6": ("-6", "rule"),
        "neighbours": ("neighbour", "show", "nud", "permanent"),
    }
    marks = {f"{world.node.name} marks": [world.inside(world.node, "iptables-legacy", "-t", "mangle", "-S")]}
    return marks | {
        f"{side.name} {view}": sorted(
            re.sub("linkdown|([0-9a-f]{2}:){5}[0-9a-f]{2} <.*", "", line).strip()
            for line in world.ip(side, *of).splitlines()
            if "fe80::" not in line
        )
        for side in (world.node, Path(pod))
        for view, of in words.items()
    }


async def test_removal_of_one_leaves_the_other(wide: World, kind: str) -> None:
    pod = wide.pod()
    for default in ("eth0", "net1"):
        await made(wide, pod, interface(pod, kind), second(pod, kind, default_route_nic=default))
        for _ in range(2):
            await remove(CONTAINER, pod, "net1", node=wide.node)
        for version in (4, 6):
            assert_answers(wide.route_of(pod, one_interface(version)))
        assert NET1[4].pod not in wide.ip(wide.node, "route", "show", "table", "500")
        assert NET1[4].pod not in wide.ip(wide.node, "neighbour", "show", "nud", "permanent")
        await check(interface(pod, kind), node=wide.node)
    await remove(CONTAINER, pod, "eth0", node=wide.node)
    assert HOST_END not in wide.ip(wide.node, "link")


async def test_node_that_gains_and_loses_an_address(wide: World, kind: str) -> None:
    pod = wide.pod()
    await made(wide, pod, interface(pod, kind), second(pod, kind))
    before = views(wide, pod)
    assert await refresh(CONTAINER, pod, node=wide.node) == ()
    new = {4: "172.31.199.99", 6: "2001:db8:1::99"}
    lines = {4: f"address add {new[4]}/32 dev eth0", 6: f"address add {new[6]}/128 dev eth0 nodad"}
    wide.batch(wide.node, *lines.values())
    assert await refresh(CONTAINER, pod, node=wide.node) != ()
    assert await refresh(CONTAINER, pod, node=wide.node) == ()
    servers = [await serve(wide.node, 8080, version) for version in new]
    for version, address in new.items():
        for source in (ETH0[version].pod, NET1[version].pod):
            assert await seen_by(pod, address, 8080, source=source) == source
    for server in servers:
        server.close()
    wide.batch(
        wide.node, *(line.replace("address add", "address delete").replace(" nodad", "") for line in lines.values())
    )
    await refresh(CONTAINER, pod, node=wide.node)
    assert views(wide, pod) == before


async def test_beside_the_interface_of_another_cni(wide: World, kind: str) -> None:
    """The other plugin gives the pod a veth whose far end answers for every address, as Calico does."""
    pod, net1 = wide.pod(), NET1[4]
    wide.batch(
        wide.node,
        f"link add cali123 address ee:ee:ee:ee:ee:ee type veth peer eth0 netns {Path(pod).name}",
        "link set cali123 up",
        "route add 10.244.0.9 dev cali123",
    )
    wide.inside(wide.node, "sysctl", "-qw", "net.ipv4.conf.cali123.proxy_arp=1", "net.ipv4.ip_forward=1")
    wide.batch(
        Path(pod),
        "link set eth0 up",
        "address add 10.244.0.9/32 dev eth0",
        "route add 169.254.1.1 dev eth0",
        "route add default via 169.254.1.1 dev eth0",
    )
    before = views(wide, pod)
    attachment = second(pod, kind, versions=(4,))
    attached = await add(attachment, node=wide.node)
    assert attached.host_interface == "cali123"
    await check(attachment, node=wide.node)
    servers = [await serve(side, 8080) for side in (pod, wide.node, wide.router)]
    assert await seen_by(pod, net1.node, 8080, source=net1.pod) == net1.pod
    assert await seen_by(wide.node, net1.pod, 8080, source=net1.node) == net1.node
    assert await seen_by(wide.node, "10.244.0.9", 8080)
    assert await seen_by(pod, CLIENT[4], 8080, source=net1.pod) == net1.pod
    assert await seen_by(wide.router, net1.pod, 8080, source=CLIENT[4]) == CLIENT[4]
    for server in servers:
        server.close()
    await remove(CONTAINER, pod, "net1", node=wide.node)
    after = views(wide, pod)
    node = [view for view in before if wide.node.name in view and "rules" not in view]
    assert [after[view] for view in node] == [before[view] for view in node]


async def test_advertisement_crosses_the_wire(wide: World, kind: str) -> None:
    with opened(wide.router) as router:
        listener = await socket_in_netns(router, socket.AF_PACKET, socket.SOCK_RAW, 0)
    with listener:
        listener.bind(("port", ETH_P_IPV6))
        listener.setblocking(False)
        pod = wide.pod()
        attached = await add(interface(pod, kind, versions=(6,)), node=wide.node)
        wanted = unsolicited_advertisement(bytes.fromhex(attached.mac.replace(":", "")), IPv6Address(ETH0[6].pod))
        async with asyncio.timeout(5):
            while (await asyncio.get_running_loop().sock_recv(listener, 256)) != wanted:
                pass


async def test_mac(wide: World) -> None:
    pod = wide.pod()
    coordination = replace(UNDERLAY, pod_mac_prefix="0a:1b")
    try:
        attached = await add(interface(pod, "macvlan", coordination=coordination), node=wide.node)
    except KernelFailure as error:
        pytest.skip(error.message)
    assert attached.mac == "0a:1b:ac:1f:c7:bb"
    asked = await add(replace(interface(pod, "macvlan"), mac="0a:00:00:00:00:07"), node=wide.node)
    assert asked.mac == "0a:00:00:00:00:07"
    assert "0a:00:00:00:00:07" in wide.ip(pod, "link", "show", "eth0")


async def test_settings_of_the_links(wide: World, kind: str) -> None:
    pod = wide.pod()
    coordination = replace(UNDERLAY, tx_queue_len=77, veth_mtu=1400, pod_rp_filter=2)
    await add(replace(interface(pod, kind, coordination=coordination), mtu=1300), node=wide.node)
    eth0 = wide.ip(pod, "link", "show", "eth0")
    assert "mtu 1300" in eth0
    assert "qlen 77" in eth0
    assert "mtu 1400" in wide.ip(pod, "link", "show", "veth0")
    assert "mtu 1400" in wide.ip(wide.node, "link", "show", HOST_END)
    names = [f"net.ipv4.conf.{link}.rp_filter" for link in ("all", "eth0", "veth0")]
    assert wide.inside(pod, "sysctl", "-n", *names).split() == ["2", "2", "2"]
    assert wide.inside(wide.node, "sysctl", "-n", f"net.ipv6.conf.{HOST_END}.accept_ra").strip() == "0"


async def test_fifty_cycles_leave_nothing(wide: World, kind: str) -> None:
    """Additions that are killed half way, removals that are repeated or come without a namespace."""
    chance = random.Random(8)
    pods = [wide.pod(f"p{number}") for number in range(3)]
    await add(interface(pods[0], kind), node=wide.node)
    await remove(CONTAINER, pods[0], "eth0", node=wide.node)
    node = [view for view in views(wide, pods[0]) if wide.node.name in view]
    before = views(wide, pods[0])
    for number in range(50):
        pod = chance.choice(pods)
        wanted = [interface(pod, kind), second(pod, kind, default_route_nic=chance.choice(["", "net1"]))]
        for attachment in wanted[: chance.randint(1, 2)]:
            task = asyncio.create_task(add(attachment, node=wide.node))
            if chance.random() < 0.5:
                await asyncio.wait([task], timeout=chance.random() / 30)
                task.cancel()
            if isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException):
                break
        netns = pod if number % 7 else ""
        names = ["eth0", "net1"]
        chance.shuffle(names)
        for name in names:
            await remove(CONTAINER, netns, name, node=wide.node)
        if not netns:
            for name in names:
                await remove(CONTAINER, pod, name, node=wide.node)
    for pod in pods:
        after = views(wide, pod)
        assert {view: after[view] for view in node} == {view: before[view] for view in node}
        assert len(after[f"{Path(pod).name} links"]) == 1


async def test_killed_agents_leave_nothing_that_the_next_call_does_not_clear(wide: World, kind: str) -> None:
    """A program in the node's namespace forks agents, and kills each after some milliseconds of additions."""
    pod = wide.pod()
    script = (
        "import asyncio, os, signal, sys, time\n"
        "from spiderpool.agent.interfaces import add\n"
        "from tests.kernel.questions import interface, second\n"
        "async def main(pod, kind):\n"
        "    while True:\n"
        "        await add(interface(pod, kind))\n"
        "        await add(second(pod, kind, default_route_nic='net1'))\n"
        "for number in range(12):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        asyncio.run(main(*sys.argv[1:]))\n"
        "    time.sleep(0.005 + number * 0.011)\n"
        "    os.kill(child, signal.SIGKILL)\n"
        "    assert os.waitpid(child, 0)[1] == signal.SIGKILL\n"
    )
    await add(interface(pod, kind), node=wide.node)
    await remove(CONTAINER, pod, "eth0", node=wide.node)
    before = views(wide, pod)
    wide.inside(wide.node, sys.executable, "-c", script, pod, kind)
    attachments = [interface(pod, kind), second(pod, kind)]
    await made(wide, pod, *attachments)
    for attachment in attachments:
        await check(attachment, node=wide.node)
    for version in (4, 6):
        assert_answers(wide.route_of(pod, two_interfaces(version)))
    for name in ("net1", "eth0"):
        await remove(CONTAINER, pod, name, node=wide.node)
    after = views(wide, pod)
    assert {view: after[view] for view in after if wide.node.name in view} == {
        view: before[view] for view in before if wide.node.name in view
    }


async def test_second_addition_that_was_killed_is_completed(wide: World, kind: str) -> None:
    pod = wide.pod()
    await add(interface(pod, kind), node=wide.node)
    wide.ip(wide.node, "link", "add", "net1", "link", "eth1", "netns", Path(pod).name, "type", kind)
    wide.batch(
        Path(pod),
        "link set net1 up",
        f"address add {NET1[4].pod}/24 dev net1",
        f"rule add from {NET1[4].pod} lookup 101 priority 1001",
        "rule add from 192.168.0.99 lookup 102 priority 1001",
        f"route add {ETH0[4].node} dev veth0 table 102",
    )
    await add(second(pod, kind), node=wide.node)
    for version in (4, 6):
        assert_answers(wide.route_of(pod, two_interfaces(version)))
    assert "102" not in wide.ip(pod, "rule")
    assert "table 102" not in wide.ip(pod, "route", "show", "table", "all")


async def test_refusals_name_the_remedy(wide: World, kind: str) -> None:
    pod = wide.pod()
    with pytest.raises(BadConfig, match="net1 needs veth0, which the pod lacks"):
        await add(second(pod, kind, mode="underlay"), node=wide.node)
    with pytest.raises(KernelFailure, match="the pod's eth0 has no far end on this node"):
        await add(second(pod, kind), node=wide.node)
    assert wide.ip(pod, "-br", "link").count("\n") == 1
