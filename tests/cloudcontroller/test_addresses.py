"""Addresses in advance, against an account that enforces its quotas and fails on demand."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI as Interface
from spiderpool.cloud.alibaba.limits import CEILINGS
from spiderpool.cloudcontroller.addresses import NEW_ENI_PAUSE, AddressListers, AddressReconciler, AddressRules
from spiderpool.cloudcontroller.eni_descriptions import CONFIRMATION_LAG
from spiderpool.core.addresses import object_name
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION, STALE_REPORT, PreallocationPolicy
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.resources import InstanceType
from tests.cloudcontroller.conftest import CloudCluster
from tests.support.eventually import eventually
from tests.support.servers import describe

pytestmark = pytest.mark.control_plane

POLICY = PreallocationPolicy(low=3, high=6, batch=4, idle=100.0, fence=10.0)
ASSIGN, UNASSIGN = "ecs:AssignPrivateIpAddresses", "ecs:UnassignPrivateIpAddresses"
DESCRIBE = "ecs:DescribeNetworkInterfaces"
ENI = "eni-master-0"


def make(
    cloud_cluster: CloudCluster, policy: PreallocationPolicy = POLICY, families: tuple[int, ...] = (4,)
) -> AddressReconciler:
    listers = AddressListers(cloud_cluster.nodes, cloud_cluster.servers, cloud_cluster.pools, cloud_cluster.ips)
    return AddressReconciler(
        cloud_cluster.cluster,
        cloud_cluster.simulated.ecs(),
        listers,
        AddressRules(policy, 60.0, families),
        clock=cloud_cluster.clock,
    )


async def settle(
    cloud_cluster: CloudCluster, addresses: AddressReconciler, rounds: int = 6, seconds: float = 5.0
) -> None:
    """Several looks, as many seconds apart."""
    for _ in range(rounds):
        await addresses.step()
        cloud_cluster.clock.now += seconds


@pytest.fixture
async def master(cloud_cluster: CloudCluster) -> CloudCluster:
    """One node with one ENI, whose type takes 12 secondary addresses."""
    cloud_cluster.simulated.account.add_instance_type(InstanceType("ecs.small", 2, 13, 10))
    cloud_cluster.add_server("master", kind="ecs.small")
    await cloud_cluster.add_node("master")
    cloud_cluster.publish("master")
    return cloud_cluster


async def fill(cloud_cluster: CloudCluster, addresses: AddressReconciler) -> list[str]:
    """The ENI's first addresses, in a pool."""
    await settle(cloud_cluster, addresses)
    await cloud_cluster.report("master")
    return sorted(cloud_cluster.registered(ENI))


async def test_a_new_eni_gets_addresses_and_pods_get_more(master: CloudCluster) -> None:
    addresses = make(master)
    first = await fill(master, addresses)
    assert len(first) == 4
    for address in first[:2]:
        await master.hold(address)
    await settle(master, addresses)
    assert len(master.registered(ENI)) == 6  # 2 held, the target of 4 free
    node = await master.node("master")
    assert (node.metadata.annotations or {})[ASSIGNED_ANNOTATION].count("172.31.") == 6


async def test_the_quota_of_the_instance_is_the_end(master: CloudCluster) -> None:
    addresses = make(master, PreallocationPolicy(low=30, high=40))
    await settle(master, addresses)
    assert len(master.registered(ENI)) == 12
    assert set(master.simulated.outcomes(ASSIGN)) == {"OK"}


async def claim_by_another(cloud_cluster: CloudCluster, *claimed: Interface) -> None:
    """Another node reports ENIs that its server does not have."""
    cloud_cluster.add_server("aaa", kind="ecs.small")
    await cloud_cluster.add_node("aaa")
    own = cloud_cluster.instance("aaa")
    forged = replace(own, enis=(*own.enis, *claimed))
    await describe(cloud_cluster.client, cloud_cluster.node_name("aaa"), forged)


async def pool_is_of(cloud_cluster: CloudCluster, eni: str, node: str) -> None:
    """Wait until the pool of an ENI is of a node."""

    def is_of() -> bool:
        pools = [
            pool for pool in cloud_cluster.pools.items() if (pool.metadata.labels or {}).get(POOL_ENI_LABEL) == eni
        ]
        return [pool.spec.nodeName for pool in pools] == [[cloud_cluster.node_name(node)]]

    await eventually(is_of)


async def test_another_node_that_claims_an_eni_keeps_no_addresses_from_it(master: CloudCluster) -> None:
    claimed = replace(master.instance("master").enis[0], primary=False, device=None)
    await claim_by_another(master, claimed)  # its node comes first by name

    def is_known() -> bool:
        node = master.nodes.get(master.node_name("aaa"))
        server = master.servers.of(node) if node else None
        return server is not None and server.eni(ENI) is not None

    await eventually(is_known)
    await settle(master, make(master))
    assert len(master.registered(ENI)) == 4
    assert len(master.simulated.outcomes(ASSIGN)) == 2, "one for each server, none for the claim"


async def test_an_invented_eni_keeps_no_address_from_the_eni_that_the_cloud_registers_it_on(
    master: CloudCluster,
) -> None:
    own = {each.primary_address for each in master.instance("master").enis}
    future = tuple(f"172.31.192.{last}" for last in range(5, 50) if f"172.31.192.{last}" not in own)
    first = replace(master.instance("master").enis[0], primary=False, ipv6_addresses=(), subnet6=None)
    invented = replace(
        first,
        identity="eni-x",
        mac="02:00:00:00:00:99",
        primary_address="172.31.207.1",
        addresses=future,
        device="eth9",
    )
    await claim_by_another(master, invented)
    await pool_is_of(master, "eni-x", "aaa")
    addresses = make(master)
    await settle(master, addresses)
    assert master.registered(ENI) & set(future)
    await master.report("master")  # until its pool has what is registered


async def test_a_node_that_reports_a_new_eni_of_another_loses_its_pool(master: CloudCluster) -> None:
    claimed = replace(master.instance("master").enis[0], primary=False, device="eth1", addresses=("172.31.207.9",))
    await describe(master.client, master.node_name("master"), replace(master.instance("master"), enis=()))
    await claim_by_another(master, claimed)
    await pool_is_of(master, ENI, "aaa")  # nobody else reports it yet
    await describe(master.client, master.node_name("master"), master.instance("master"))
    await settle(master, make(master))
    await master.report("master")
    await pool_is_of(master, ENI, "master")


async def test_an_eni_that_two_nodes_report_gets_a_pool_once_the_cloud_has_said_whose_it_is(
    master: CloudCluster,
) -> None:
    claimed = replace(master.instance("master").enis[0], primary=False, device="eth1", addresses=("172.31.207.9",))
    await claim_by_another(master, claimed)

    async def told() -> bool:
        names = [master.node_name(each) for each in ("aaa", "master")]
        return any(all(name in text for name in names) for text in await master.events("ENIReportedTwice"))

    await eventually(told)
    await settle(master, make(master))
    await master.report("master")
    await pool_is_of(master, ENI, "master")


def invented(of: Interface, number: int) -> Interface:
    """An ENI that does not exist."""
    changed = replace(of, identity=f"eni-x{number}", mac=f"02:00:00:00:00:{number:02x}", primary=False, device=None)
    return replace(changed, primary_address=f"172.31.200.{number}", addresses=(), ipv6_addresses=())


async def test_new_enis_without_end_cost_a_call_now_and_then(master: CloudCluster) -> None:
    addresses, own = make(master), master.instance("master")
    await settle(master, addresses)
    before = len(master.simulated.outcomes(DESCRIBE))

    async def reported(number: int) -> None:
        server = replace(own, enis=(*own.enis, invented(own.enis[0], number)))
        await describe(master.client, master.node_name("master"), server)

        def is_known() -> bool:
            found = master.servers.of(node) if (node := master.nodes.get(master.node_name("master"))) else None
            return found is not None and found.eni(f"eni-x{number}") is not None

        await eventually(is_known)
        await addresses.step()
        master.clock.now += 0.5

    for number in range(1, 11):
        await reported(number)
    assert len(master.simulated.outcomes(DESCRIBE)) - before <= 2
    master.clock.now += 60.0
    master.simulated.account.set_fault(Fault(kind="refuse", actions=DESCRIBE, code="Forbidden.RAM", status=403))
    await addresses.step()
    refused = len(master.simulated.outcomes(DESCRIBE))
    master.clock.now += NEW_ENI_PAUSE
    await reported(11)
    assert len(master.simulated.outcomes(DESCRIBE)) == refused, "after a refusal it waits for longer"


async def test_ipv6_has_a_quota_of_its_own(master: CloudCluster) -> None:
    addresses = make(master, PreallocationPolicy(low=30, high=40), families=(6,))
    await settle(master, addresses)
    eni = master.simulated.account.tables.enis.get(ENI)
    assert eni is not None
    assert (len(eni.ipv6_addresses), len(eni.secondaries)) == (10, 0)


async def test_a_full_vswitch_is_told_and_left_alone_for_minutes(master: CloudCluster) -> None:
    addresses = make(master)
    await addresses.step()
    master.simulated.account.set_full("vsw-1")
    for address in sorted(master.registered(ENI)):
        await master.hold(address)
    await settle(master, addresses, 5)
    assert master.simulated.outcomes(ASSIGN).count("InvalidVSwitchId.IpNotEnough") == 1

    async def recorded() -> bool:
        return any("vsw-1" in text for text in await master.events("VSwitchFull"))

    await eventually(recorded)
    master.simulated.account.set_full("vsw-1", full=False)
    master.clock.now += 301
    await settle(master, addresses, 2)
    assert len(master.registered(ENI)) == 8


async def test_a_description_that_lags_costs_no_second_assignment(master: CloudCluster) -> None:
    addresses = make(master)
    master.simulated.account.set_fault(Fault(kind="stale", actions="ecs:DescribeNetworkInterfaces"))
    await settle(master, addresses, 10, 10.0)
    assert len(master.registered(ENI)) == 4
    assert len(master.simulated.outcomes(ASSIGN)) == 1


async def surplus(cloud_cluster: CloudCluster, addresses: AddressReconciler) -> list[str]:
    """More free addresses than needed, after pods came and went."""
    await fill(cloud_cluster, addresses)
    held: list[str] = []
    for _ in range(2):
        for address in sorted(cloud_cluster.registered(ENI) - set(held))[:3]:
            await cloud_cluster.hold(address)
            held.append(address)
        await settle(cloud_cluster, addresses, 2)
        await cloud_cluster.report("master")
    for address in held:
        await cloud_cluster.let_go(address)
    return sorted(cloud_cluster.registered(ENI))


async def test_idle_addresses_go_back_behind_a_fence(master: CloudCluster) -> None:
    addresses = make(master)
    before = await surplus(master, addresses)
    assert len(before) > POLICY.high
    await settle(master, addresses, 2)
    assert not master.simulated.outcomes(UNASSIGN)
    master.clock.now += POLICY.idle
    await addresses.step()
    fenced = fenced_of(master)
    assert len(fenced) == POLICY.batch
    await excluded(master, fenced)
    assert not master.simulated.outcomes(UNASSIGN)
    await settle(master, addresses, 2, POLICY.fence)
    assert master.registered(ENI) == set(before) - fenced
    await settle(master, addresses, 2)
    assert fenced_of(master) == fenced  # the node still reports them
    await master.report("master")
    await settle(master, addresses, 2)
    assert fenced_of(master) == fenced  # a report that is older may follow
    await settle(master, addresses, 2, STALE_REPORT)
    assert fenced_of(master) == set()


async def test_an_address_that_somebody_registers_again_is_free_again(master: CloudCluster) -> None:
    addresses = make(master)
    await surplus(master, addresses)
    await settle(master, addresses, 2)
    master.clock.now += POLICY.idle
    await addresses.step()
    fenced = sorted(fenced_of(master))
    await excluded(master, fenced)
    await settle(master, addresses, 2, POLICY.fence)
    assert master.registered(ENI).isdisjoint(fenced)
    account = master.simulated.account
    eni = account.tables.enis.get(ENI)
    assert eni is not None
    account.tables.enis.put(dataclasses.replace(eni, secondaries=(*eni.secondaries, fenced[0])))
    await settle(master, addresses, 2)
    assert fenced_of(master) == {*fenced}, "one description may be late"
    await settle(master, addresses, 3, CONFIRMATION_LAG)
    assert fenced_of(master) == {*fenced[1:]}


async def excluded(cloud_cluster: CloudCluster, fenced: Collection[str]) -> None:
    """Wait until no pool gives the addresses that are fenced, and the node's agent knows it."""
    await eventually(lambda: not any(cloud_cluster.gives(each) for each in fenced))
    await cloud_cluster.noticed("master")


def fenced_of(cloud_cluster: CloudCluster) -> set[str]:
    texts = [(pool.metadata.annotations or {}).get(RELEASING_ANNOTATION, "") for pool in cloud_cluster.pools.items()]
    return {each for text in texts for each in text.split(",") if each}


async def test_an_address_that_was_taken_in_time_stays(master: CloudCluster) -> None:
    addresses = make(master)
    await surplus(master, addresses)
    await addresses.step()
    master.clock.now += POLICY.idle
    await addresses.step()
    fenced = sorted(fenced_of(master))
    await master.hold(fenced[0])  # an agent that had not seen the fence yet
    await excluded(master, fenced)
    await settle(master, addresses, 2)
    await eventually(lambda: master.gives(fenced[0]))
    await excluded(master, fenced[1:])
    await settle(master, addresses, 4, POLICY.fence)
    assert fenced[0] in master.registered(ENI)
    assert master.registered(ENI).isdisjoint(fenced[1:])
    assert fenced[0] not in fenced_of(master)


async def test_a_fresh_read_has_the_last_word(master: CloudCluster) -> None:
    addresses = make(master)
    await surplus(master, addresses)
    await addresses.step()
    master.clock.now += POLICY.idle
    await addresses.step()
    fenced = sorted(fenced_of(master))
    await excluded(master, fenced)
    await addresses.step()
    await master.hold(fenced[0])
    record = master.ips.get(object_name(fenced[0]))
    assert record is not None
    master.ips.forget(record)  # as if the watch were late
    master.clock.now += POLICY.fence
    await addresses.step()
    assert fenced[0] in master.registered(ENI)


async def test_addresses_registered_by_hand_stay(master: CloudCluster) -> None:
    eni = master.simulated.account.tables.enis.get(ENI)
    assert eni is not None
    await master.simulated.ecs().assign("cn-hangzhou", ENI, 4, 12)
    await master.report("master")
    addresses = make(master)
    await settle(master, addresses, 8, POLICY.idle)
    assert len(master.registered(ENI)) == 12
    assert not master.simulated.outcomes(UNASSIGN)


async def test_an_address_of_a_hand_written_pool_is_not_given_back(master: CloudCluster) -> None:
    addresses = make(master)
    before = await surplus(master, addresses)
    spec = IPPoolSpec(subnet="172.31.192.0/20", ipVersion=4, ips=[before[-1]])
    await master.client.create(SpiderIPPool(metadata=ObjectMeta(name="by-hand"), spec=spec))
    await eventually(lambda: master.pools.get("by-hand") is not None)
    await settle(master, addresses, 2)
    master.clock.now += POLICY.idle
    await addresses.step()
    assert before[-1] not in fenced_of(master)


async def test_a_missing_permission_is_told_and_not_tried_again_at_once(master: CloudCluster) -> None:
    master.simulated.allow("ecs:Describe*", "vpc:Describe*")
    addresses = make(master)
    await settle(master, addresses, 6)
    assert master.simulated.outcomes(ASSIGN) == ["Forbidden.RAM"]

    async def recorded() -> bool:
        return any("AssignPrivateIpAddresses" in text for text in await master.events("CloudPermissionMissing"))

    await eventually(recorded)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(kind="throttle", every=2, seconds=0.1)],
        [Fault(kind="drop", every=3)],
        [Fault(kind="lose", every=2)],
        [Fault(kind="delay", every=2, seconds=0.2)],
        [Fault(kind="empty", every=2)],
        [Fault(kind="refuse", every=2), Fault(kind="throttle", every=3, seconds=0.1), Fault(kind="empty", every=5)],
    ],
    ids=lambda faults: "+".join(fault.kind for fault in faults),
)
async def test_nothing_in_use_is_lost_whatever_the_cloud_answers(master: CloudCluster, faults: list[Fault]) -> None:
    master.add_server("worker", enis=2, kind="ecs.small")
    await master.add_node("worker")
    master.publish("worker")
    addresses, chance = make(master), random.Random(1)
    for fault in faults:
        master.simulated.account.set_fault(fault)
    held: set[str] = set()
    for _ in range(12):
        await settle(master, addresses, 2, chance.choice([1.0, 20.0, 70.0]))
        for name in ("master", "worker"):
            await master.report(name)
        given = [each for each in every(master) if master.gives(each) and each not in held]
        for address in chance.sample(given, min(len(given), 2)):
            await master.hold(address)
            held.add(address)
        if len(held) > 8:
            for address in chance.sample(sorted(held), 5):
                await master.let_go(address)
                held.discard(address)
        assert held <= every(master)
    master.simulated.account.faults.clear()
    await settle_until_supplied(master, addresses, held)


async def settle_until_supplied(master: CloudCluster, addresses: AddressReconciler, held: set[str]) -> None:
    """A call refused last is repeated after a pause, and what it was for is seen a round later."""
    rounds = 6
    while not is_supplied(master, held):
        assert (rounds := rounds - 1)
        await settle(master, addresses, 2, 70.0)


def is_supplied(master: CloudCluster, held: set[str]) -> bool:
    """Whether each ENI has spare addresses, or as many as it can have."""
    registered = [master.registered(eni) for eni in ("eni-master-0", "eni-worker-0", "eni-worker-1")]
    return all(len(each - held) >= POLICY.low or len(each) == 12 for each in registered)


def every(cloud_cluster: CloudCluster) -> set[str]:
    return {each for eni in cloud_cluster.simulated.account.tables.enis for each in eni.secondaries}


async def test_a_server_that_is_lost_disturbs_no_other(master: CloudCluster) -> None:
    master.add_server("worker", kind="ecs.small")
    await master.add_node("worker")
    master.publish("worker")
    addresses = make(master)
    await settle(master, addresses, 2)
    master.simulated.account.delete_instance("i-worker")
    for address in sorted(master.registered(ENI)):
        await master.hold(address)
    await settle(master, addresses, 4, 70.0)
    assert len(master.registered(ENI)) == 8


@pytest.mark.timeout(300)
async def test_fifty_nodes_start_inside_the_declared_budget(master: CloudCluster) -> None:
    account = master.simulated.account
    account.limits.update({f"ecs:{action}": limit for action, limit in CEILINGS.items()})
    for number in range(49):
        master.add_server(f"n{number}", enis=2, kind="ecs.small")
        await master.add_node(f"n{number}")
    addresses = make(master, PreallocationPolicy())
    await settle(master, addresses, 3, 1.0)
    calls = account.call_counts()
    assert all(call.outcome == "OK" for call in account.calls)
    assert all(len(eni.secondaries) >= PreallocationPolicy().low for eni in account.tables.enis)
    assert calls[ASSIGN] == 99
    assert calls["ecs:DescribeNetworkInterfaces"] <= 5
    assert calls["ecs:DescribeInstanceTypes"] == 1
    assert sum(calls.values()) < 115
    assert not await master.client.list(SpiderIP)
