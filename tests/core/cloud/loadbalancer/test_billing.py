"""What of several balancers is billed together."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.loadbalancer.billing import BillingItem, total

pytestmark = pytest.mark.unit


def test_units_are_added_and_use_stays_use() -> None:
    found = total([BillingItem("balancer", 1), BillingItem("GB"), BillingItem("balancer", 1), BillingItem("GB")])
    assert list(map(str, found)) == ["2 balancer", "GB by use"]
    assert total([]) == ()
