"""The protocol of the cloud against the simulated one."""

from __future__ import annotations

import pytest

from spiderpool.cloud.provider import CloudNotFound, Quota, QuotaExceeded, VSwitchFull
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import InstanceType
from tests.cloud.alibaba.conftest import Far

pytestmark = pytest.mark.unit
REGION = "cn-hangzhou"


@pytest.fixture
def server(far: Far) -> str:
    far.account.add_instance_type(InstanceType("ecs.small", 2, 4, 3))
    return far.account.add_instance("master", instance_type="ecs.small").identity


@pytest.fixture
def eni(far: Far, server: str) -> str:
    return far.account.add_eni("vsw-1", instance=server, addresses=ENIAddresses("172.31.199.183")).identity


async def test_describes_those_instances_that_exist(far: Far, server: str) -> None:
    found = await far.ecs().instances(REGION, [server, "i-gone"])
    assert list(found) == [server]
    assert (found[server].type, found[server].zone) == ("ecs.small", "cn-hangzhou-i")


async def test_many_are_described_in_parts(far: Far) -> None:
    names = [far.account.add_instance(f"n{number}").identity for number in range(120)]
    assert set(await far.ecs().instances(REGION, names)) == set(names)
    assert len(far.outcomes("ecs:DescribeInstances")) == 2


async def test_all_pages_are_read(far: Far) -> None:
    enis = [
        far.account.add_eni("vsw-1", instance=far.account.add_instance(f"n{number}").identity).identity
        for number in range(101)
    ]
    assert set(await far.ecs().enis(REGION, enis)) == set(enis)


async def test_the_quota_leaves_the_primary_address_out(far: Far, server: str) -> None:
    assert await far.ecs().quota(REGION, "ecs.small") == Quota(ipv4=3, ipv6=3)
    with pytest.raises(CloudNotFound):
        await far.ecs().quota(REGION, "ecs.none")


async def test_addresses_come_and_go(far: Far, eni: str) -> None:
    ecs = far.ecs()
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


async def test_limits_are_told_apart(far: Far, eni: str) -> None:
    ecs = far.ecs()
    with pytest.raises(QuotaExceeded):
        await ecs.assign(REGION, eni, 4, 4)
    far.account.set_full("vsw-1")
    with pytest.raises(VSwitchFull):
        await ecs.assign(REGION, eni, 4, 1)
    assert await ecs.free_addresses(REGION, "vsw-1") == 0


async def test_a_eni_that_is_gone_needs_no_unassigning(far: Far, eni: str, server: str) -> None:
    far.account.delete_instance(server)
    ecs = far.ecs()
    await ecs.unassign(REGION, eni, 4, ["172.31.200.1"])
    with pytest.raises(CloudNotFound):
        await ecs.assign(REGION, eni, 4, 1)


async def test_an_empty_answer_names_nobody(far: Far, server: str) -> None:
    far.account.set_fault(Fault(kind="empty"))
    assert await far.ecs().instances(REGION, [server]) == {}
