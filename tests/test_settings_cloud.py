"""Settings of spiderpool-cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.errors import BadConfig
from spiderpool.settings import LoadBalancerSettings, SettingsSource, cloud_settings, controller_settings

pytestmark = pytest.mark.unit


def test_services_get_balancers_unless_that_is_switched_off() -> None:
    def given(**block: object) -> LoadBalancerSettings:
        return cloud_settings(SettingsSource({}, {"cloud": {"provider": "alibaba", "loadBalancers": block}})).balancing

    assert given() == LoadBalancerSettings()
    assert not given(enabled=False).enabled
    whole = {"vpcID": "vpc-1", "vswitchID": "vsw-1", "resourceGroupID": "rg-1", "public": False, "ipv6Backends": True}
    assert given(backendType="eni", zoneMaps="a:v,b:w", **whole) == LoadBalancerSettings(
        True, "vpc-1", "vsw-1", "a:v,b:w", "rg-1", True, False, True
    )
    assert (given().default_type, given(defaultType="nlb").default_type) == ("clb", "nlb")
    with pytest.raises(BadConfig, match=r"loadBalancers\.backendType"):
        given(backendType="pods")
    with pytest.raises(BadConfig, match=r"loadBalancers\.defaultType"):
        given(defaultType="alb")


@pytest.mark.parametrize(
    "text", ["h:vsw-1", "h:vsw-1,h:vsw-2", "h,i", "h:vsw-1,", "h:vsw-1::eip-1,i:vsw-2", ["h:vsw-1"]]
)
def test_zones_that_no_network_balancer_can_have_are_refused(text: object) -> None:
    block = {"provider": "alibaba", "loadBalancers": {"zoneMaps": text}}
    with pytest.raises(BadConfig, match=r"loadBalancers\.zoneMaps"):
        cloud_settings(SettingsSource({}, {"cloud": block}))


@pytest.mark.parametrize("text", ["", "h:vsw-1,i:vsw-2", "h:vsw-1, i:vsw-2"])
def test_zones_of_new_network_balancers(text: str) -> None:
    block = {"provider": "alibaba", "loadBalancers": {"zoneMaps": text}}
    assert cloud_settings(SettingsSource({}, {"cloud": block})).balancing.zones == text.replace(" ", "")


@pytest.mark.parametrize("block", [{"enabled": True}, {"enabled": False}, {}])
def test_readiness_gates_are_injected_only_where_load_balancers_are_made(block: dict[str, bool]) -> None:
    listed = {**block, "injectReadinessGates": True}
    settings = controller_settings(SettingsSource({}, {"cloud": {"provider": "alibaba", "loadBalancers": listed}}))
    assert settings.inject_gates is settings.changes_pods is block.get("enabled", True)


def test_the_period_comes_from_the_environment() -> None:
    source = SettingsSource({"SPIDERPOOL_CLOUD_BALANCER_PERIOD_SECONDS": "60"}, {"cloud": {"provider": "alibaba"}})
    assert cloud_settings(source).balancing.period == 60.0


def test_reads_conf_yml_and_the_environment() -> None:
    block = {
        "provider": "alibaba",
        "clusterID": "prod",
        "internalEndpoints": False,
        "alibaba": {"assign": True, "minFreeAddresses": 2, "maxFreeAddresses": 4},
    }
    environ = {"SPIDERPOOL_CLOUD_REGION": "cn-beijing", "SPIDERPOOL_CLOUD_CA": "/ca.pem"}
    settings = cloud_settings(SettingsSource(environ, {"cloud": block}))
    assert (settings.region, settings.cluster_id, settings.authority) == ("cn-beijing", "prod", Path("/ca.pem"))
    assert not settings.internal_endpoints
    given = settings.preallocation
    assert (given.enabled, given.low, given.high) == (True, 2, 4)


def test_assigns_nothing_unless_told_to() -> None:
    assert not cloud_settings(SettingsSource({}, {"cloud": {"provider": "alibaba"}})).preallocation.enabled


@pytest.mark.parametrize("block", [{"minFreeAddresses": 0}, {"minFreeAddresses": 9, "maxFreeAddresses": 8}])
def test_refuses_marks_that_cannot_be(block: dict[str, int]) -> None:
    with pytest.raises(BadConfig, match="minFreeAddresses"):
        cloud_settings(SettingsSource({}, {"cloud": {"alibaba": block}}))
