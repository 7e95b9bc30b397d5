"""A pod asks the cloud's metadata service for the keys of its server's role, by each way that leads there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.errors import KernelFailure
from spiderpool.kernel import metadata_filter, traffic_control
from spiderpool.kernel.programs import IPTABLES
from spiderpool_lab import namespaces
from tests.kernel.environment import NODE, World, run, seen_by, serve
from tests.kernel.questions import CONTAINER, ETH0, NET1, SERVICE, interface, second

pytestmark = pytest.mark.lab

METADATA, NAME_SERVER = "100.100.100.200", "100.100.2.136"
PORT = 80


@pytest.fixture
async def cloud(wide: World) -> AsyncIterator[World]:
    """The network beyond the node has the cloud's services."""
    wide.batch(wide.router, *(f"address add {each}/32 dev lo" for each in (METADATA, NAME_SERVER)))
    server = await serve(wide.router, PORT)
    yield wide
    server.close()


def on_node(world: World, work: Callable[[], None]) -> None:
    namespaces.call_in(world.node, work)


async def reaches(namespace: str | Path, address: str, source: str = "") -> bool:
    try:
        await seen_by(namespace, address, PORT, source=source, timeout=1)
    except (TimeoutError, OSError):
        return False
    return True


async def test_by_the_pods_own_nic(cloud: World, kind: str) -> None:
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    await interfaces.add(second(pod, kind, versions=(4,)), node=cloud.node)
    sources = (ETH0[4].pod, NET1[4].pod)
    assert [await reaches(pod, METADATA, source) for source in sources] == [True, True]
    for _ in range(2):
        on_node(cloud, metadata_filter.load)
        assert [await reaches(pod, METADATA, source) for source in sources] == [False, False]
        assert await reaches(pod, NAME_SERVER)
        assert await reaches(cloud.node, METADATA)
        assert await reaches(cloud.node, METADATA, NODE)
    gained = "172.31.199.99"
    cloud.ip(cloud.node, "address", "add", f"{gained}/20", "dev", "eth0")
    on_node(cloud, metadata_filter.load)
    assert await reaches(cloud.node, METADATA, gained)
    assert not await reaches(pod, METADATA)
    on_node(cloud, metadata_filter.unload)
    assert await reaches(pod, METADATA)
    await interfaces.remove(CONTAINER, pod, "net1", node=cloud.node)
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


async def test_through_the_node(cloud: World, kind: str) -> None:
    """By a route of the pod's own, and by a Service whose endpoint is the metadata service."""
    pod = cloud.pod()
    await interfaces.add(interface(pod, kind, versions=(4,)), node=cloud.node)
    to = ("-j", "DNAT", "--to-destination", f"{METADATA}:{PORT}")
    nat = (IPTABLES[4], "-t", "nat", "-A")
    cloud.inside(cloud.node, *nat, "PREROUTING", "-d", SERVICE[4], "-p", "tcp", "--dport", str(PORT), *to)
    cloud.inside(cloud.node, *nat, "POSTROUTING", "-d", METADATA, "-j", "MASQUERADE")
    cloud.ip(pod, "route", "add", METADATA, "via", ETH0[4].node, "dev", "veth0", "src", ETH0[4].pod)
    targets = (METADATA, SERVICE[4])
    assert [await reaches(pod, one) for one in targets] == [True, True]
    on_node(cloud, metadata_filter.FORWARDED.load)
    assert [await reaches(pod, one) for one in targets] == [False, False]
    on_node(cloud, metadata_filter.FORWARDED.unload)
    assert [await reaches(pod, one) for one in targets] == [True, True]
    await interfaces.remove(CONTAINER, pod, "eth0", node=cloud.node)


def test_filters_of_others_stay(wide: World) -> None:
    tc = ("tc", "-n", wide.node.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "clsact")
    match = ("protocol", "ip", "u32", "match", "ip", "dst", "203.0.113.1/32", "classid", "1:1")
    run(*tc, "filter", "add", "dev", "eth0", "egress", "pref", "5", *match)
    shown = (*tc, "filter", "show", "dev", "eth0", "egress")
    before = run(*shown)
    on_node(wide, metadata_filter.load)
    assert f"pref {traffic_control.PRIORITY} bpf" in run(*shown)
    on_node(wide, metadata_filter.unload)
    assert run(*shown) == before


def test_where_the_kernel_cannot_filter_a_nic_it_is_said(wide: World) -> None:
    """The ways through the node and by the other NIC are closed all the same."""
    tc = ("tc", "-n", wide.node.name)
    run(*tc, "qdisc", "add", "dev", "eth0", "ingress")  # in the place of clsact
    with pytest.raises(KernelFailure, match="pods reach the metadata service by eth0: "):
        on_node(wide, metadata_filter.load)
    rules = wide.inside(wide.node, "sh", "-c", "(nft list ruleset; iptables-legacy-save) 2>/dev/null || true")
    assert metadata_filter.TABLE in rules
    assert "bpf" in run(*tc, "filter", "show", "dev", "eth1", "egress")
