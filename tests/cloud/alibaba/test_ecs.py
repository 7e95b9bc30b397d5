"""The protocol of the cloud against the simulated one."""

from __future__ import annotations

import pytest

from spiderpool.cloud.provider import CloudNotFound, Quota, QuotaExceeded, VSwitchFull
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import InstanceType
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit
REGION = "cn-hangzhou"


@pytest.fixture
def server(simulated: SimulatedCloud) -> str:
    simulated.account.add_instance_type(InstanceType("ecs.small", 2, 4, 3))
    return simulated.account.add_instance("master", instance_type="ecs.small").identity


@pytest.fixture
def eni(simulated: SimulatedCloud, server: str) -> str:
    return simulated.account.add_eni("vsw-1", instance=server, addresses=ENIAddresses("172.31.199.183")).identity


async def test_describes_those_instances_that_exist(simulated: SimulatedCloud, server: str) -> None:
    found = await simulated.ecs().instances(REGION, [server, "i-gone"])
    assert list(found) == [server]
    assert (found[server].type, found[server].zone) == ("ecs.small", "cn-hangzhou-i")


async def test_a_server_has_the_addresses_of_its_enis(simulated: SimulatedCloud, server: str, eni: str) -> None:
    found = await simulated.ecs().instances(REGION, [server])
    assert "172.31.199.183" in found[server].addresses, eni


async def test_many_are_described_in_parts(simulated: SimulatedCloud) -> None:
    names = [simulated.account.add_instance(f"n{number}").identity for number in range(120)]
    assert set(await simulated.ecs().instances(REGION, names)) == set(names)
    assert len(simulated.outcomes("ecs:DescribeInstances")) == 2


async def test_all_pages_are_read(simulated: SimulatedCloud) -> None:
    enis = [
        simulated.account.add_eni("vsw-1", instance=simulated.account.add_instance(f"n{number}").identity).identity
        for number in range(101)
    ]
    assert set(await simulated.ecs().enis(REGION, enis)) == set(enis)


async def test_the_quota_leaves_the_primary_address_out(simulated: SimulatedCloud, server: str) -> None:
    assert await simulated.ecs().quota(REGION, "ecs.small") == Quota(ipv4=3, ipv6=3)
    with pytest.raises(CloudNotFound):
        await simulated.ecs().quota(REGION, "ecs.none")


async def test_addresses_come_and_go(simulated: SimulatedCloud, eni: str) -> None:
    ecs = simulated.ecs()
    given = await ecs.assign(REGION, eni, 4, 2)
    six = await ecs.assign(REGION, eni, 6, 2)
    described = (await ecs.enis(REGION, [eni]))[eni]
    assert described.primary_address == "172.31.199.183"
    assert described.addresses == frozenset(given)
    assert described.ipv6_addresses == frozenset(six)
    await ecs.unassign(REGION, eni, 4, [given[0], "172.31.200.1"])  # the second one is none of the ENI's
    await ecs.unassign(REGION, eni, 6, six)
    described = (await ecs.enis(REGION, [eni]))[eni]
    assert described.addresses == frozenset(given[1:])
    assert not described.ipv6_addresses


async def test_limits_are_told_apart(simulated: SimulatedCloud, eni: str) -> None:
    ecs = simulated.ecs()
    with pytest.raises(QuotaExceeded):
        await ecs.assign(REGION, eni, 4, 4)
    simulated.account.set_full("vsw-1")
    with pytest.raises(VSwitchFull):
        await ecs.assign(REGION, eni, 4, 1)
    assert await ecs.free_addresses(REGION, "vsw-1") == 0


async def test_a_eni_that_is_gone_needs_no_unassigning(simulated: SimulatedCloud, eni: str, server: str) -> None:
    simulated.account.delete_instance(server)
    ecs = simulated.ecs()
    await ecs.unassign(REGION, eni, 4, ["172.31.200.1"])
    with pytest.raises(CloudNotFound):
        await ecs.assign(REGION, eni, 4, 1)


async def test_an_empty_answer_names_nobody(simulated: SimulatedCloud, server: str) -> None:
    simulated.account.set_fault(Fault(kind="empty"))
    assert await simulated.ecs().instances(REGION, [server]) == {}
