"""The elastic IP that is bound to a private balancer."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.elastic_ips import ElasticIPs
from spiderpool_lab.alibaba.resources import EIP
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit


async def test_the_address_that_is_bound_to_a_balancer(simulated: SimulatedCloud) -> None:
    found = ElasticIPs(simulated.client(), "cn-hangzhou")
    assert await found.bound_to("lb-1") == ""
    for number in (1, 2):
        eip = EIP(f"eip-{number}", f"198.51.100.{200 + number}", f"lb-{number}", "SlbInstance")
        simulated.account.tables.eips.put(eip)
    assert await found.bound_to("lb-2") == "198.51.100.202"
