"""A node with two NICs on a network that drops a packet whose source is not the NIC's."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from spiderpool.agent.interfaces import add, node_state, tune_node, untune_node
from spiderpool.core.network.plumbing.nics import NIC, diagnose
from spiderpool.core.network.plumbing.steps import DropNICMarks, LoadNICMarks
from spiderpool.kernel import observing, sysctl
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import CLIENT, ETH0, NET1, interface

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("strict")]

NICS = tuple(
    NIC(link, tuple(ip_address(net.router) for net in nets.values())) for link, nets in (("eth0", ETH0), ("eth1", NET1))
)
SUBNETS = tuple(ip_interface(f"{net.node}/{net.length}").network for nets in (ETH0, NET1) for net in nets.values())
IPTABLES = {4: "iptables-legacy", 6: "ip6tables-legacy"}


def _views(world: World) -> list[str]:
    words = (("-4", "rule"), ("-6", "rule"), ("-4", "route", "show", "table", "all"))
    shown = [world.ip(world.node, *of) for of in (*words, ("-6", "route", "show", "table", "all"))]
    marks = [world.inside(world.node, program, "-t", "mangle", "-S") for program in IPTABLES.values()]
    return sorted(line for text in (*shown, *marks) for line in text.splitlines() if "fe80::" not in line)


@pytest.mark.parametrize("version", [4, 6])
async def test_what_arrives_by_a_nic_is_answered_by_it(wide: World, kind: str, version: int) -> None:
    pod = wide.pod()
    await add(interface(pod, kind), node=wide.node)
    port = ("-p", "tcp", "--dport", "32635", "-j", "DNAT", "--to-destination")
    target = f"{ETH0[4].pod}:8080" if version == 4 else f"[{ETH0[6].pod}]:8080"
    wide.inside(wide.node, IPTABLES[version], "-t", "nat", "-A", "PREROUTING", *port, target)
    for link, nets in (("port", NET1), ("port1", ETH0)):
        for source in (nets[version].node, nets[version].pod):
            drop = ("-i", link, "-s", source, "-j", "DROP")
            wide.inside(wide.router, IPTABLES[version], "-t", "mangle", "-A", "PREROUTING", *drop)
    servers = [await serve(side, 8080, version) for side in (pod, wide.node)]
    client, second = CLIENT[version], NET1[version].node
    before = _views(wide)

    assert any(
        "On NIC eth1, answers from " in sentence for sentence in diagnose(await node_state(node=wide.node), SUBNETS)
    )
    assert any(
        "answers of pods to connections" in sentence for sentence in diagnose(await node_state(node=wide.node), SUBNETS)
    )
    for asked in (8080, 32635):
        with pytest.raises(TimeoutError):
            await seen_by(wide.router, second, asked, source=client, timeout=1)

    assert isinstance((await tune_node(NICS, node=wide.node))[-1], LoadNICMarks)
    assert [sentence for sentence in diagnose(await node_state(node=wide.node), SUBNETS) if "eth1" in sentence] == []
    for asked in (8080, 32635):
        assert await seen_by(wide.router, second, asked, source=client) == client
        assert await seen_by(wide.router, ETH0[version].node, asked, source=client) == client
    assert await seen_by(pod, second, 8080) == ETH0[version].pod
    assert len(await tune_node(NICS, node=wide.node)) == 1

    assert isinstance((await untune_node(node=wide.node))[-1], DropNICMarks)
    assert _views(wide) == before
    assert [type(step) for step in await untune_node(node=wide.node)] == [DropNICMarks]
    for server in servers:
        server.close()


async def test_services_that_connection_tracking_does_not_see_are_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "net/ipv4/vs/conntrack"
    switch.parent.mkdir(parents=True)
    switch.write_text("0\n")
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    assert not (await node_state(node=world.node)).untracked, "something else uses IPVS, such as keepalived"
    world.ip(world.node, "link", "add", observing.IPVS_LINK, "type", "veth", "peer", "far")
    assert (await node_state(node=world.node)).untracked
    switch.write_text("1\n")
    assert not (await node_state(node=world.node)).untracked
