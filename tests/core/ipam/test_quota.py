"""What counts as an address that a Namespace holds."""

from __future__ import annotations

import pytest

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.application_pools import desired_pool
from spiderpool.core.ipam.quota import application_namespace, counts, is_exhausted, remaining_addresses, used_addresses
from spiderpool.core.ipam.selection import AllocationRequest, ApplicationPool, Candidates, DefaultPools, NamedPools
from tests.core.ipam.objects import ETH0, addresses, subnet, web_claim

pytestmark = pytest.mark.unit

OF_WEB = desired_pool(web_claim(), ETH0, subnet(), "auto4-web", addresses(0x0A060001, 0x0A060002, 0x0A060003))


def test_a_pool_of_an_application_counts_as_a_whole_and_its_records_do_not_count_again() -> None:
    assert used_addresses(["shared", "auto4-web", "auto4-web", "shared", "gone"], [OF_WEB]) == 6
    assert used_addresses([], []) == 0


@pytest.mark.parametrize(
    ("candidates", "counted"),
    [(DefaultPools(), True), (NamedPools(("shared",)), True), (ApplicationPool("blue", {}), False)],
)
def test_an_address_from_the_pool_of_an_application_does_not_count_again(candidates: Candidates, counted: bool) -> None:
    request = AllocationRequest("shop", "web-1", "uid", "eth0", "node", None, candidates=candidates)
    assert counts(request) is counted


@pytest.mark.parametrize(("limit", "used", "exhausted"), [(3, 2, False), (3, 3, True), (3, 4, True), (0, 0, True)])
def test_a_quota_is_exhausted_once_as_many_are_held(limit: int, used: int, exhausted: bool) -> None:
    assert is_exhausted(limit, used) is exhausted
    assert (remaining_addresses([limit], used) == 0) is exhausted


@pytest.mark.parametrize(
    ("limits", "used", "remaining"), [([], 7, None), ([9], 7, 2), ([9, 8], 7, 1), ([0], 0, 0), ([9, 5], 7, 0)]
)
def test_what_is_left_is_what_the_smallest_quota_leaves(limits: list[int], used: int, remaining: int | None) -> None:
    assert remaining_addresses(limits, used) == remaining


def test_only_pools_of_applications_belong_to_a_namespace() -> None:
    assert application_namespace(OF_WEB) == "shop"
    shared = SpiderIPPool(metadata=ObjectMeta(name="shared"), spec=IPPoolSpec("10.6.0.0/16"))
    assert application_namespace(shared) is None
