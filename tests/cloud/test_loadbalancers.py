"""What the settings say about all load balancers."""

from __future__ import annotations

import pytest

from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.settings import CloudSettings, LoadBalancerSettings

pytestmark = pytest.mark.unit


def test_what_is_set_for_all_services() -> None:
    given = LoadBalancerSettings(
        vpc="vpc-1", vswitch="vsw-1", zones="a:v,b:w", resource_group="rg-1", pod_backends=True, public=False
    )
    found = configuration_of(CloudSettings(cluster_id="c1", balancing=given))
    assert found == BalancerConfiguration(
        "c1", "vpc-1", "vsw-1", "a:v,b:w", "rg-1", pod_backends=True, public_allowed=False
    )


def test_the_configuration_without_settings() -> None:
    assert configuration_of(CloudSettings()) == BalancerConfiguration()
