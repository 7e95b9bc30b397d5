"""On a kernel without ipvlan, VLANs, IPv6 and a packet filter: what needs none of them works, the rest is told.

Tests that need a poorer kernel than this one are skipped; `test_guest` runs all of them in User Mode Linux.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.errors import KernelFailure
from spiderpool.kernel import features, hostports, marks
from spiderpool.kernel.namespaces import enter_new, run_inside
from tests.kernel.environment import World, has_backend
from tests.kernel.questions import interface

pytestmark = pytest.mark.lab

HAS_IPV6 = Path("/proc/sys/net/ipv6").is_dir()


def pod_interface(world: World, kind: str) -> Attachment:
    return replace(interface(world.pod(), kind, versions=(4,), coordination=None))


async def test_what_is_missing_is_found(world: World) -> None:
    missing = await features.missing_kinds()
    for kind in ("ipvlan", "macvlan"):
        assert (kind in missing) is not world.has(kind)
    assert "veth" not in missing


@pytest.mark.skipif(HAS_IPV6, reason="this kernel has IPv6")
async def test_the_node_is_looked_after_without_ipv6(world: World) -> None:
    node = world.node
    state = await interfaces.node_state(node=node)
    assert [str(held.address) for held in state.addresses] == ["172.31.199.183/20"]
    await interfaces.node_state(node=node)
    await interfaces.pod_paths([500], node=node)
    await interfaces.untune_node(node=node)


async def test_pods_are_removed(world: World) -> None:
    pod = pod_interface(world, "ipvlan")
    world.ip(pod.netns, "link", "add", "eth0", "type", "veth", "peer", "far")
    await interfaces.refresh(pod.container_id, pod.netns, node=world.node)
    await interfaces.remove(pod.container_id, pod.netns, "eth0", node=world.node)
    await interfaces.remove(pod.container_id, "", "eth0", node=world.node)
    assert "eth0" not in world.ip(pod.netns, "link")


async def test_a_kind_of_link_that_is_missing_is_told(world: World) -> None:
    if world.has("ipvlan"):
        pytest.skip("this kernel has ipvlan")
    with pytest.raises(KernelFailure, match="this kernel has no ipvlan: load the module ipvlan on the node"):
        await interfaces.add(pod_interface(world, "ipvlan"), node=world.node)


@pytest.mark.skipif(HAS_IPV6, reason="this kernel has IPv6")
async def test_missing_ipv6_is_told(world: World) -> None:
    pod = pod_interface(world, "macvlan")
    pod = replace(pod, addresses=(ip_interface("2001:db8:1::187/64"),), gateways=())
    with pytest.raises(KernelFailure, match="this kernel has no IPv6"):
        await interfaces.add(pod, node=world.node)


async def test_host_ports_are_given_up_without_a_packet_filter() -> None:
    def give_up() -> None:
        enter_new()
        hostports.load(())

    await run_inside(None, give_up)


async def test_a_missing_packet_filter_is_told() -> None:
    if any(map(has_backend, ("nft", "iptables"))):
        pytest.skip("this kernel has a packet filter")
    with pytest.raises(KernelFailure, match="the kernel needs the modules nf_tables"):
        await marks.detect()
