"""Addresses that several nodes report."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.cloud.address_reports import AddressReports, Assigned, claims_text, dispute_text
from spiderpool.core.cloud.eni_pools import Dispute, ENIClaim
from tests.core.servers import ETH1, MASTER

pytestmark = pytest.mark.unit

OWN, OTHER = ETH1.addresses
REGISTERED = {"master": {ETH1.identity: {OWN, OTHER}}}


def forged(*addresses: str, primary: str = "192.168.0.9", identity: str = "eni-fake") -> Instance:
    eni = replace(ETH1, identity=identity, primary=True, primary_address=primary, addresses=addresses)
    return replace(MASTER, identity="i-thief", enis=(eni,))


def reports(thief: Instance) -> AddressReports:
    found = AddressReports()
    found.note("master", None, replace(MASTER, enis=(ETH1,)))
    found.note("thief", None, thief)
    return found


def of_master(eni: ENI = ETH1) -> ENIClaim:
    return ENIClaim("master", MASTER, eni, ready=True)


def of_thief(thief: Instance) -> ENIClaim:
    return ENIClaim("thief", thief, thief.enis[0], ready=True)


def judged(claim: ENIClaim, thief: Instance, assigned: Assigned = lambda _: {}) -> ENIClaim:
    return dataclasses.replace(claim, dispute=reports(thief).dispute(claim, assigned))


def test_nobody_can_tell_whose_an_address_is_that_two_nodes_report() -> None:
    thief = forged(OWN, "192.168.0.20")
    for claim in (judged(of_master(), thief), judged(of_thief(thief), thief)):
        assert claim.dispute.open == {OWN}
        assert not claim.dispute.lost
        text = dispute_text(claim)
        assert text is not None
        assert all(word in text for word in (OWN, "master", "thief", claim.eni.identity))


def test_what_the_cloud_has_registered_for_a_node_is_its_own() -> None:
    thief = forged(OWN, OTHER)
    assert dispute_text(judged(of_master(), thief, lambda node: REGISTERED.get(node, {}))) is None
    theirs = judged(of_thief(thief), thief, lambda node: REGISTERED.get(node, {})).dispute
    assert theirs.lost == {OWN, OTHER}
    assert not theirs.open


def test_a_nodes_own_address_counts() -> None:
    thief = forged(ETH1.primary_address)
    assert judged(of_thief(thief), thief).dispute.open == {ETH1.primary_address}


def test_two_reports_of_one_eni_are_no_dispute_about_its_addresses() -> None:
    assert judged(of_master(), forged(OWN, identity=ETH1.identity)).dispute == Dispute()


def test_a_report_ends_with_the_next_one() -> None:
    thief = forged(OWN)
    found = reports(thief)
    found.note("thief", thief, None)
    assert found.dispute(of_master(), lambda _: {}) == Dispute()


def test_a_message_names_few() -> None:
    claims = [ENIClaim(f"node-{number}", MASTER, ETH1, ready=True) for number in range(9)]
    assert "node-4 and 4 more" in claims_text("eni-1", claims)
