"""What counts as an address that a Namespace holds."""

from __future__ import annotations

import pytest

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.application_pools import desired_pool
from spiderpool.core.ipam.quota import application_namespace, used_addresses
from tests.core.ipam.objects import ETH0, addresses, subnet, web_claim

pytestmark = pytest.mark.unit

OF_WEB = desired_pool(web_claim(), ETH0, subnet(), "auto4-web", addresses(0x0A060001, 0x0A060002, 0x0A060003))


def test_a_pool_of_an_application_counts_as_a_whole_and_its_records_do_not_count_again() -> None:
    assert used_addresses(["shared", "auto4-web", "auto4-web", "shared", "gone"], [OF_WEB]) == 6
    assert used_addresses([], []) == 0


def test_only_pools_of_applications_belong_to_a_namespace() -> None:
    assert application_namespace(OF_WEB) == "shop"
    shared = SpiderIPPool(metadata=ObjectMeta(name="shared"), spec=IPPoolSpec("10.6.0.0/16"))
    assert application_namespace(shared) is None
