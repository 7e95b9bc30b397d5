"""By which units the cloud bills a balancer that a Service would get."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.loadbalancer.kinds import read_options
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from tests.core.pretend_balancers import CONFIGURATION, KINDS

pytestmark = pytest.mark.unit

ZONES = "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"


def billed(kind: str, configuration: BalancerConfiguration = CONFIGURATION, **annotations: str) -> list[str]:
    given = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
    options = read_options(given, KINDS[kind])
    assert options.faults == ()
    return list(map(str, options.kind.bill(options, configuration)))


def test_a_classic_balancer_by_use_is_the_default() -> None:
    assert billed("clb") == ["1 classic balancer", "LCU hours by use", "GB to the Internet by use"]


def test_a_classic_balancer_of_a_size_has_no_capacity_units() -> None:
    sized = billed("clb", instance_charge_type="PayBySpec", spec="slb.s2.small", address_type="intranet")
    assert sized == ["1 classic balancer of size slb.s2.small"]


def test_bandwidth_is_reserved_and_traffic_then_free() -> None:
    assert billed("clb", charge_type="paybybandwidth", bandwidth="100")[2:] == ["100 Mbit/s to the Internet"]


def test_a_public_network_balancer_has_an_address_in_each_zone() -> None:
    assert billed("nlb", zone_maps=ZONES) == [
        "1 network balancer",
        "LCU hours by use",
        "2 new public addresses, one for each zone",
        "GB to the Internet by use",
    ]
    own = "cn-hangzhou-i:vsw-1::eip-1,cn-hangzhou-h:vsw-2::eip-2"
    assert billed("nlb", zone_maps=own)[2:] == ["GB to the Internet by use"]
    assert billed("nlb", BalancerConfiguration(zones=ZONES))[2] == "2 new public addresses, one for each zone"
    assert billed("nlb", zone_maps=own, bandwidth_package_id="cbwp-1")[2:] == [
        "traffic within bandwidth package cbwp-1 by use"
    ]


def test_a_private_network_balancer_sends_nothing_to_the_internet() -> None:
    assert billed("nlb", zone_maps=ZONES, address_type="intranet") == ["1 network balancer", "LCU hours by use"]
