"""Settings of load balancers."""

from __future__ import annotations

import pytest

from spiderpool.errors import BadConfig
from spiderpool.settings import LoadBalancerSettings, SettingsSource, cloud_settings

pytestmark = pytest.mark.unit


def test_services_get_balancers_unless_that_is_switched_off() -> None:
    def given(**block: object) -> LoadBalancerSettings:
        return cloud_settings(SettingsSource({}, {"cloud": {"provider": "alibaba", "loadBalancers": block}})).balancing

    assert given() == LoadBalancerSettings()
    assert not given(enabled=False).enabled
    whole = {"vpcID": "vpc-1", "vswitchID": "vsw-1", "resourceGroupID": "rg-1", "public": False, "ipv6Backends": True}
    assert given(backendType="eni", **whole) == LoadBalancerSettings(True, "vpc-1", "vsw-1", "rg-1", True, False, True)
    with pytest.raises(BadConfig, match=r"loadBalancers\.backendType"):
        given(backendType="pods")


def test_the_period_comes_from_the_environment() -> None:
    source = SettingsSource({"SPIDERPOOL_CLOUD_BALANCER_PERIOD_SECONDS": "60"}, {"cloud": {"provider": "alibaba"}})
    assert cloud_settings(source).balancing.period == 60.0
