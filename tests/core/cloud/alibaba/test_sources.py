"""Entries of access lists and rules of security groups for ranges of clients."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.alibaba.sources import ACCEPT, DROP

pytestmark = pytest.mark.unit

RANGES = {"10.0.0.0/8", "2001:db8::/32"}


def test_an_access_list_has_the_ranges() -> None:
    assert CLB.source_lists.entries(RANGES, (4,)) == RANGES
    assert CLB.source_lists.annotations("mine") == {"acl-status": "on", "acl-id": "mine", "acl-type": "white"}


def test_a_security_group_accepts_the_ranges_and_drops_all_others_after_that() -> None:
    accepted = {f"{ACCEPT} {each}" for each in RANGES}
    assert NLB.source_lists.entries(RANGES, (4, 6)) == {*accepted, f"{DROP} 0.0.0.0/0", f"{DROP} ::/0"}
    assert NLB.source_lists.entries(["10.0.0.0/8"], (4,)) == {f"{ACCEPT} 10.0.0.0/8", f"{DROP} 0.0.0.0/0"}
    assert NLB.source_lists.annotations("mine") == {"security-group-ids": "mine"}
    assert sorted([DROP, ACCEPT])[0] == ACCEPT, "so rules that accept are sent before those that drop"


def test_names_cannot_be_those_of_parts_of_another_service() -> None:
    assert CLB.source_lists.prefix != NLB.source_lists.prefix
    assert CLB.source_lists.suffixes <= CLB.annotations.known.keys()
    assert NLB.source_lists.suffixes <= NLB.annotations.known.keys()
