"""Kinds of interface beside ipvlan and macvlan, each where the kernel has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.agent.interfaces import add, check, ensure_parent, loan_of, remove
from spiderpool.core.network.plumbing.parents import ParentLink
from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.errors import BadConfig, KernelFailure
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import (
    CLIENT,
    CONTAINER,
    ETH0,
    HOST_END,
    NET1,
    UNDERLAY,
    assert_answers,
    interface,
    second,
    two_interfaces,
)

pytestmark = pytest.mark.lab


async def _lent(world: World, attachment: Attachment) -> Attachment:
    """The attachment with the loan that the agent keeps on file."""
    return replace(attachment, loan=await loan_of(attachment.master, node=world.node))


async def test_device_is_lent_and_given_back(wide: World) -> None:
    """A veth stands for the virtual function of a NIC: eth1 is in use by the node, so this is a third NIC."""
    pod = wide.pod()
    wide.ip(wide.node, "link", "add", "vf3", "mtu", "1400", "type", "veth", "peer", "far3", "netns", wide.router.name)
    lent = await _lent(wide, replace(second(pod, "host-device", versions=(4,), mode="disabled"), master="vf3"))
    await remove(CONTAINER, pod, "net1", lent.loan, node=wide.node)
    before = wide.ip(wide.node, "link", "show", "vf3")
    for _ in range(2):
        attached = await add(lent, node=wide.node)
        assert attached.mtu == 1400
        assert "vf3" not in wide.ip(wide.node, "-br", "link")
        await check(lent, node=wide.node)
    assert NET1[4].pod in wide.ip(pod, "address", "show", "net1")
    for _ in range(2):
        await remove(CONTAINER, pod, "net1", lent.loan, node=wide.node)
    assert wide.ip(wide.node, "link", "show", "vf3").split(" ", 1)[1] == before.split(" ", 1)[1]
    assert wide.ip(pod, "-br", "link").count("\n") == 1


async def test_lent_device_beside_another_interface(wide: World) -> None:
    kind = "macvlan" if wide.has("macvlan") else "ipvlan"
    pod = wide.pod()
    wide.batch(
        wide.node,
        "address flush dev eth1",
        f"address add {NET1[4].node}/32 dev eth0",
        f"address add {NET1[6].node}/128 dev eth0 nodad",
    )
    await add(interface(pod, kind), node=wide.node)
    lent = await _lent(wide, second(pod, "host-device"))
    await add(lent, node=wide.node)
    for version in (4, 6):
        assert_answers(wide.route_of(pod, two_interfaces(version)))
    server = await serve(pod, 8080)
    assert await seen_by(wide.router, NET1[4].pod, 8080, source=CLIENT[4]) == CLIENT[4]
    server.close()
    await remove(CONTAINER, pod, "net1", lent.loan, node=wide.node)
    assert "eth1" in wide.ip(wide.node, "-br", "link")


async def test_device_with_an_address_of_the_node_is_not_lent(wide: World) -> None:
    with pytest.raises(BadConfig, match=r"eth1 carries .* of this node, which would lose it"):
        await add(second(wide.pod(), "host-device"), node=wide.node)


async def test_removal_goes_on_when_a_device_cannot_be_given_back(wide: World) -> None:
    """The name that the device had on the node is taken meanwhile."""
    pod = wide.pod()
    wide.ip(wide.node, "link", "add", "vf3", "type", "veth", "peer", "far3", "netns", wide.router.name)
    lent = await _lent(wide, replace(interface(pod, "host-device", versions=(4,)), master="vf3"))
    await add(lent, node=wide.node)
    wide.ip(wide.node, "link", "add", "vf3", "type", "veth", "peer", "other")
    with pytest.raises(KernelFailure, match="take eth0 from the pod as vf3"):
        await remove(CONTAINER, pod, "eth0", lent.loan, node=wide.node)
    assert HOST_END not in wide.ip(wide.node, "-br", "link")
    wide.ip(wide.node, "link", "delete", "vf3")
    await remove(CONTAINER, pod, "eth0", lent.loan, node=wide.node)
    assert "vf3" in wide.ip(wide.node, "-br", "link")


async def test_dummy_device(wide: World) -> None:
    pod = wide.pod()
    _need(wide, "dummy")
    wide.ip(wide.node, "link", "add", "vf0", "type", "dummy")
    lent = await _lent(wide, replace(interface(pod, "host-device", versions=(4,)), master="vf0"))
    await add(lent, node=wide.node)
    await check(lent, node=wide.node)
    await remove(CONTAINER, pod, "eth0", lent.loan, node=wide.node)
    assert "vf0" in wide.ip(wide.node, "-br", "link")


async def test_vlan_child(wide: World) -> None:
    _need(wide, "vlan", "id", "100")
    pod = wide.pod()
    wide.batch(wide.router, "link add link port1 name tagged type vlan id 100", "link set tagged up")
    wide.batch(wide.router, "address flush dev port1", f"address add {NET1[4].router}/24 dev tagged")
    tagged = replace(second(pod, "vlan", versions=(4,)), vlan_id=100)
    await add(interface(pod, "ipvlan", versions=(4,)), node=wide.node)
    await add(tagged, node=wide.node)
    await check(tagged, node=wide.node)
    server = await serve(pod, 8080)
    assert await seen_by(wide.router, NET1[4].pod, 8080, source=NET1[4].router) == NET1[4].router
    server.close()
    await remove(CONTAINER, pod, "net1", node=wide.node)
    assert_answers(wide.route_of(pod, [one for one in two_interfaces(4) if one.source == ETH0[4].pod and one.mark]))


async def test_vlan_of_a_nic_as_parent(wide: World) -> None:
    _need(wide, "vlan", "id", "100")
    parent = ParentLink(("eth1",), vlan_id=100)
    for _ in range(2):
        assert await ensure_parent(parent, node=wide.node) == "eth1.100"
    assert "id 100" in wide.ip(wide.node, "-d", "link", "show", "eth1.100")
    pod = wide.pod()
    attachment = replace(interface(pod, "ipvlan", versions=(4,)), master="eth1.100")
    await add(attachment, node=wide.node)
    await check(attachment, node=wide.node)
    with pytest.raises(KernelFailure, match="NIC eth7 does not exist"):
        await ensure_parent(ParentLink(("eth7",)), node=wide.node)


async def test_bond_as_parent(wide: World) -> None:
    _need(wide, "bond")
    for name in ("one", "two"):
        wide.ip(wide.node, "link", "add", f"nic{name}", "type", "veth", "peer", f"far{name}")
    options = (("miimon", "100"), ("primary", "nicone"), ("arp_all_targets", "1"))
    parent = ParentLink(("nicone", "nictwo"), bond_mode=1, bond_options=options)
    for _ in range(2):
        assert await ensure_parent(parent, node=wide.node) == "sp_bond0"
    shown = wide.ip(wide.node, "-d", "link", "show", "sp_bond0")
    assert "mode active-backup miimon 100" in shown
    assert "primary nicone" in shown
    assert "master sp_bond0" in wide.ip(wide.node, "link", "show", "nictwo")
    with pytest.raises(BadConfig, match="options of bond other: invalid literal"):
        await ensure_parent(
            ParentLink(("farone", "fartwo"), bond_name="other", bond_options=(("miimon", "soon"),)), node=wide.node
        )


@pytest.mark.parametrize("mode", ["l3", "l3s"])
async def test_ipvlan_that_routes(wide: World, mode: str) -> None:
    _need(wide, "ipvlan")
    pod = wide.pod()
    attachment = replace(interface(pod, "ipvlan", versions=(4,)), mode=mode)
    await add(attachment, node=wide.node)
    await check(attachment, node=wide.node)
    server = await serve(pod, 8080)
    assert await seen_by(wide.node, ETH0[4].pod, 8080) == ETH0[4].node
    server.close()


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
async def test_macvlan_modes(wide: World, mode: str) -> None:
    _need(wide, "macvlan")
    pod = wide.pod()
    attachment = replace(interface(pod, "macvlan", coordination=UNDERLAY), mode=mode)
    await add(attachment, node=wide.node)
    await check(attachment, node=wide.node)


def _need(world: World, *kind: str) -> None:
    if not world.has(*kind):
        pytest.skip(f"this kernel has no {kind[0]}")
