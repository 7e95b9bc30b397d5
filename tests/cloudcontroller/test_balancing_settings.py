"""Settings of load balancers."""

from __future__ import annotations

import pytest

from spiderpool.errors import BadConfig
from spiderpool.settings import Balancing, Source, cloud_settings

pytestmark = pytest.mark.unit


def test_services_get_balancers_unless_that_is_switched_off() -> None:
    def given(**block: object) -> Balancing:
        return cloud_settings(Source({}, {"cloud": {"provider": "alibaba", "loadBalancers": block}})).balancing

    assert given() == Balancing()
    assert not given(enabled=False).enabled
    whole = {"vpcID": "vpc-1", "vswitchID": "vsw-1", "resourceGroupID": "rg-1", "public": False, "ipv6Backends": True}
    assert given(backendType="eni", **whole) == Balancing(True, "vpc-1", "vsw-1", "rg-1", True, False, True)
    with pytest.raises(BadConfig, match=r"loadBalancers\.backendType"):
        given(backendType="pods")


def test_the_period_comes_from_the_environment() -> None:
    source = Source({"SPIDERPOOL_CLOUD_BALANCER_PERIOD_SECONDS": "60"}, {"cloud": {"provider": "alibaba"}})
    assert cloud_settings(source).balancing.period == 60.0
