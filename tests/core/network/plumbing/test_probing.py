"""What is asked before an address is used, in whose name, and what the answers forbid."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from spiderpool.core.network.plumbing.probing import AddressProbe, Detection, check_answers, plan_probes
from spiderpool.core.network.plumbing.values import Attachment, NodeAddress
from spiderpool.errors import AddressInUse, GatewaySilent

pytestmark = pytest.mark.unit

BOTH = Detection(conflicts=True, gateway=True)
POD = Attachment(
    container_id="c1",
    netns="/ns",
    ifname="eth0",
    kind="ipvlan",
    master="eth1",
    addresses=(ip_interface("10.0.0.7/24"), ip_interface("fd00::7/64")),
    gateways=(ip_address("10.0.0.253"), ip_address("fd00::fd")),
)
NODE = (
    NodeAddress("eth0", ip_address("10.0.0.2")),
    NodeAddress("eth1", ip_address("10.9.0.1")),
    NodeAddress("eth1", ip_address("10.0.0.1")),
    NodeAddress("eth1", ip_address("fd00::1")),
)
OURS = frozenset({"02:00:00:00:00:01"})


def probe(target: str, source: str, *, expects_answer: bool = False) -> AddressProbe:
    return AddressProbe(ip_address(target), ip_address(source), expects_answer)


def test_the_nic_asks_in_the_name_of_its_own_address() -> None:
    assert plan_probes(POD, BOTH, NODE) == (
        probe("10.0.0.7", "10.0.0.1"),
        probe("10.0.0.253", "10.0.0.1", expects_answer=True),
        probe("fd00::7", "fd00::1"),
        probe("fd00::fd", "fd00::1", expects_answer=True),
    )


def test_a_nic_without_an_address_asks_as_nobody_or_as_the_pod() -> None:
    assert plan_probes(POD, BOTH, ()) == (
        probe("10.0.0.7", "0.0.0.0"),
        probe("10.0.0.253", "10.0.0.7", expects_answer=True),
        probe("fd00::7", "::"),
        probe("fd00::fd", "fd00::7", expects_answer=True),
    )


def test_only_what_is_switched_on_is_asked() -> None:
    assert plan_probes(POD, Detection(), NODE) == ()
    assert [one.expects_answer for one in plan_probes(POD, Detection(conflicts=True), NODE)] == [False, False]
    assert [one.expects_answer for one in plan_probes(POD, Detection(gateway=True), NODE)] == [True, True]


def test_who_answers_for_an_address_is_named() -> None:
    asked = (probe("10.0.0.7", "10.0.0.1"),)
    check_answers(asked, {}, OURS, "eth1")
    check_answers(asked, {ip_address("10.0.0.7"): OURS}, OURS, "eth1")
    with pytest.raises(AddressInUse, match=r"10\.0\.0\.7 is in use on the network of eth1 by ee:ff:ff:ff:ff:ff"):
        check_answers(asked, {ip_address("10.0.0.7"): OURS | {"ee:ff:ff:ff:ff:ff"}}, OURS, "eth1")


def test_a_silent_gateway_is_named() -> None:
    asked = (probe("10.0.0.253", "10.0.0.1", expects_answer=True),)
    check_answers(asked, {ip_address("10.0.0.253"): frozenset({"ee:ff:ff:ff:ff:ff"})}, OURS, "eth1")
    for answers in ({}, {ip_address("10.0.0.253"): OURS}):
        with pytest.raises(GatewaySilent, match=r"gateway 10\.0\.0\.253 does not answer on eth1"):
            check_answers(asked, answers, OURS, "eth1")
