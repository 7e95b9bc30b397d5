"""CHECK: what is told of a pod that is not as it was planned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import get_args

import pytest

from spiderpool.core.network.plumbing import drift
from spiderpool.core.network.plumbing.drift import PresentState, find_drift
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    Announce,
    CreateLink,
    CreateVeth,
    DeleteLink,
    MoveLink,
    SetLink,
    SetSysctl,
    Side,
    Step,
)
from spiderpool.core.network.plumbing.values import Link
from tests.core.pods import FIRST, IDLE_NODE, NIC, POD, POD_ETH0, SECOND, THIRD, faults, with_pod
from tests.kernel.questions import HOST_END, UNDERLAY

pytestmark = pytest.mark.unit


def _as_present(steps: Iterable[Step]) -> PresentState:
    """The state after all steps succeeded."""
    steps = tuple(steps)
    pair = next(step for step in steps if isinstance(step, CreateVeth))
    links: list[tuple[Side, Link]] = [
        ("pod", Link("eth0", 2, "ipvlan", "l2", NIC.mac, 1500, parent=NIC.index)),
        ("pod", Link(pair.peer, 3, "veth", mac=pair.peer_mac)),
        ("node", Link(pair.name, 9, "veth", mac=pair.mac)),
    ]
    return PresentState(tuple(links), frozenset(steps), (4,), NIC)


def test_no_drift_right_after_the_plan() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    assert find_drift(steps, _as_present(steps)) == ()


def test_drift_names_what_is_missing() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    there = _as_present(steps)
    lasting = [step for step in steps if isinstance(step, AddAddress | AddRoute | AddRule | AddNeighbour | SetSysctl)]
    lasting = [step for step in lasting if not isinstance(step, SetSysctl) or step.required]
    for step in lasting:
        assert find_drift(steps, replace(there, steps=there.steps - {step})) == (f"missing or changed: {step}",)
    assert find_drift(steps, replace(there, marks=())) == ("missing: pod: mark 0x1 on connections from veth0",)
    assert find_drift(steps, replace(there, links=there.links[:2])) == (f"{HOST_END} is missing",)
    assert find_drift(steps, replace(there, links=there.links[1:])) == ("eth0 is missing in the pod",)


def test_drift_names_what_changed_on_the_link() -> None:
    steps = plan(POD_ETH0, IDLE_NODE)
    there = _as_present(steps)
    other: tuple[Side, Link] = ("pod", Link("eth0", 2, "ipvlan", "l3", NIC.mac, 1400, up=False, parent=5))
    assert find_drift(steps, replace(there, links=(other, *there.links[1:]))) == (
        "eth0 is ipvlan l3, not ipvlan l2",
        "eth0 does not lie on eth0",
        "mtu of eth0 is 1400, not 1500",
        "eth0 (pod) is down",
    )


def test_check_finds_nothing_wrong_after_any_order() -> None:
    for default in ("", "net1", "net2"):
        settings = replace(UNDERLAY, default_route_nic=default)
        attachments = [replace(one, coordination=settings) for one in (FIRST, SECOND, THIRD)]
        world = with_pod(*attachments)
        assert [faults(world, one) for one in attachments] == [(), (), ()]


def test_drift_of_addresses_on_the_link_layer() -> None:
    asked = replace(POD_ETH0, kind="macvlan", mac="0a:00:00:00:00:01")
    steps = plan(asked, IDLE_NODE)
    there = _as_present(steps)
    macvlan: tuple[Side, Link] = ("pod", Link("eth0", 2, "macvlan", "bridge", "0a:00:00:00:00:02", parent=NIC.index))
    pod_end, node_end = (link for _, link in there.links[1:])
    changed = replace(there, links=(macvlan, ("pod", replace(pod_end, mac="0a:00:00:00:00:03")), ("node", node_end)))
    assert find_drift(steps, changed) == (
        "MAC of eth0 is 0a:00:00:00:00:02, not 0a:00:00:00:00:01",
        f"MAC of veth0 is 0a:00:00:00:00:03, not {pod_end.mac}",
    )


def test_drift_of_a_vlan() -> None:
    step = CreateLink("pod", "net1", "vlan", "", "eth0", 1500, vlan_id=100)
    right, wrong = (Link("net1", 2, "vlan", parent=NIC.index, vlan_id=vlan_id) for vlan_id in (100, 200))
    assert find_drift([step], PresentState((("pod", right),), master=NIC)) == ()
    assert find_drift([step], PresentState((("pod", wrong),), master=NIC)) == ("net1 has VLAN id 200, not 100",)


def test_drift_of_a_lent_device() -> None:
    step = MoveLink("pod", "vf3", "net1")
    assert find_drift([step], PresentState()) == ("net1 is missing in the pod",)
    assert find_drift([step], PresentState((("pod", Link("net1", 2)),))) == ()


def test_what_a_plan_takes_away_or_does_in_passing_is_no_drift() -> None:
    passing: list[Step] = [DeleteLink("pod", "net1"), Announce("pod", "net1", ip_address(POD))]
    assert find_drift(passing, PresentState()) == ()


def test_mac_that_was_set_on_an_interface() -> None:
    wanted = (SetLink("pod", "eth0", mac="0a:00:00:00:00:01"),)
    right = Link("eth0", 2, "macvlan", mac="0a:00:00:00:00:01")
    assert find_drift(wanted, PresentState((("pod", right),))) == ()
    other = replace(right, mac="0a:00:00:00:00:02")
    told = "MAC of eth0 is 0a:00:00:00:00:02, not 0a:00:00:00:00:01"
    assert find_drift(wanted, PresentState((("pod", other),))) == (told,)


def test_every_type_of_step_is_checked() -> None:
    assert set(drift._CHECKS) == set(get_args(Step))
