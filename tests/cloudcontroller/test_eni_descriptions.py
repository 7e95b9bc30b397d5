"""What is known of ENIs from the cloud: its descriptions, with the changes that it confirmed."""

from __future__ import annotations

import pytest

from spiderpool.cloud.provider import CloudError
from spiderpool.cloudcontroller.eni_descriptions import CONFIRMATION_LAG, ENIDescriptions
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import InstanceType
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.cloudcontroller.service_cluster import Clock

pytestmark = pytest.mark.unit
REGION = "cn-hangzhou"


async def test_a_confirmed_change_counts_until_the_description_may_be_trusted(simulated: SimulatedCloud) -> None:
    simulated.account.add_instance_type(InstanceType("ecs.small", 2, 4, 3))
    server = simulated.account.add_instance("master", instance_type="ecs.small").identity
    eni = simulated.account.add_eni("vsw-1", instance=server, addresses=ENIAddresses("172.31.199.183")).identity
    clock = Clock()
    descriptions = ENIDescriptions(simulated.ecs(), clock)
    assert descriptions.eni(eni) is None
    await descriptions.read(REGION, {eni}, {"ecs.small"})
    described = descriptions.eni(eni)
    assert described is not None
    free = descriptions.free_addresses(described.vswitch) or 0
    assert descriptions.registered(described, 4) == frozenset()
    descriptions.note_assigned(described, 4, ["172.31.199.190"])
    assert descriptions.registered(described, 4) == {"172.31.199.190"}
    assert descriptions.free_addresses(described.vswitch) == free - 1
    await descriptions.read(REGION, {eni}, {"ecs.small"})
    assert set(descriptions.recently_assigned(eni, 4)) == {"172.31.199.190"}
    clock.now += CONFIRMATION_LAG
    await descriptions.read(REGION, {eni}, {"ecs.small"})
    assert descriptions.registered(described, 4) == frozenset()
    assert len(simulated.outcomes("ecs:DescribeInstanceTypes")) == 1


async def test_what_was_read_before_an_error_is_kept(simulated: SimulatedCloud) -> None:
    server = simulated.account.add_instance("master").identity
    eni = simulated.account.add_eni("vsw-1", instance=server).identity
    simulated.account.set_fault(Fault(kind="refuse", actions="ecs:DescribeInstanceTypes"))
    descriptions = ENIDescriptions(simulated.ecs(), Clock())
    with pytest.raises(CloudError):
        await descriptions.read(REGION, {eni}, {"any"})
    described = descriptions.eni(eni)
    assert described is not None
    assert descriptions.quota(REGION, "any") is None
    assert descriptions.free_addresses(described.vswitch) is None


async def test_an_instance_type_that_is_refused_keeps_no_other_from_being_known(simulated: SimulatedCloud) -> None:
    simulated.account.add_instance_type(InstanceType("ecs.small", 2, 4, 3))
    descriptions = ENIDescriptions(simulated.ecs(), Clock())
    with pytest.raises(CloudError):
        await descriptions.read(REGION, (), {"ecs.none", "ecs.small"})
    assert descriptions.quota(REGION, "ecs.small") is not None
