"""Lists of admitted clients in the simulated account: what a crash, a quota or an old policy does to them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.provider import CloudUnavailable, NotPermitted, StepsRefused
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.steps import CreateSourceList
from spiderpool_lab.alibaba import clb_access_lists, ecs_security_groups
from spiderpool_lab.alibaba.balancers import AccessList
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.balancers import DNS, HTTP, api_of, model, reached, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

KINDS = pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
ADDING = {CLB: "slb:AddAccessControlListEntry", NLB: "ecs:AuthorizeSecurityGroup"}
LOOKING = {CLB: "slb:DescribeAccessControlLists", NLB: "ecs:DescribeSecurityGroups"}
MAKING = {CLB: "CreateAccessControlList", NLB: "CreateSecurityGroup"}


def closed(simulated: SimulatedCloud, kind: BalancerKind, *ranges: str, **port: Any) -> LoadBalancerModel:
    """A Service that admits the clients of some ranges; without any, everybody."""
    return model(simulated, port or HTTP, **spec_of(kind), loadBalancerSourceRanges=[*ranges])


def refuse(simulated: SimulatedCloud, kind: BalancerKind, code: str, status: int) -> None:
    """Has the account refuse every look at lists."""
    simulated.account.set_fault(Fault(kind="refuse", actions=LOOKING[kind], code=code, status=status))


def admitted(simulated: SimulatedCloud, kind: BalancerKind) -> set[str]:
    """The ranges of the only list of ours that there is, which the only balancer uses."""
    tables = simulated.account.tables
    if kind is CLB:
        (found,) = tables.access_lists
        assert {identity for each in tables.clbs for item in each.listeners for identity in item.access_lists} == {
            found.identity
        }
        return {*found.entries}
    (group,) = tables.security_groups
    assert {each.security_groups for each in tables.nlbs} == {(group.identity,)}
    return {rule.source for rule in group.rules if rule.accepts}


@KINDS
async def test_one_that_a_crash_has_left_behind_is_used_and_none_is_made_twice(
    balanced: SimulatedCloud, kind: BalancerKind
) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8")
    await cloud.carry_out(plan(desired, None)[:1], None)
    observed = await cloud.find(desired.owner)
    steps = [step for step in plan(desired, observed) if isinstance(step, CreateSourceList)]
    balanced.account.set_fault(Fault(kind="refuse", actions=ADDING[kind], code="OperationBusy", status=400, times=1))
    with pytest.raises(StepsRefused, match="OperationBusy"):
        await cloud.carry_out(steps, observed)
    await cloud.carry_out(steps, observed)  # as it was seen before
    await reached(cloud, desired)
    assert admitted(balanced, kind) == {"10.0.0.0/8"}
    assert balanced.outcomes(f"{'slb' if kind is CLB else 'ecs'}:{MAKING[kind]}") == ["OK"]


@KINDS
async def test_an_empty_one_is_filled_before_anything_uses_it(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8")
    await cloud.carry_out(plan(desired, None)[:1], None)
    balanced.account.set_fault(Fault(kind="refuse", actions=ADDING[kind], code="NoWay", status=400))
    for _ in range(2):  # without a list, and with an empty one
        observed = await cloud.find(desired.owner)
        with pytest.raises(StepsRefused, match="NoWay"):
            await cloud.carry_out(plan(desired, observed), observed)
        tables = balanced.account.tables
        assert not [*tables.nlb_listeners, *(item for each in tables.clbs for item in each.listeners)]
    balanced.account.faults.clear()
    await reached(cloud, desired)
    assert admitted(balanced, kind) == {"10.0.0.0/8"}


@KINDS
async def test_at_a_quota_ranges_go_before_others_come_and_nobody_else_is_admitted(
    balanced: SimulatedCloud, kind: BalancerKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clb_access_lists, "ENTRIES", 4)
    monkeypatch.setattr(ecs_security_groups, "RULES", 5)
    cloud, seen = api_of(balanced, kind), list[int]()
    old, new = ([f"10.{number}.0.0/16" for number in range(start, start + 3)] for start in (0, 3))
    await reached(cloud, closed(balanced, kind, *old))

    def look(_: object) -> None:
        tables = balanced.account.tables
        seen.extend(len(each.entries) for each in tables.access_lists)
        seen.extend(sum(not rule.accepts for rule in each.rules) for each in tables.security_groups)

    balanced.account.subscribe(look)
    await reached(cloud, closed(balanced, kind, *new))
    assert admitted(balanced, kind) == {*new}
    assert min(seen) >= 1, "without an entry, or a rule that drops, everybody would be"


@KINDS
@pytest.mark.parametrize("free", [0, 1, 30])
async def test_at_a_quota_few_clients_that_stay_are_shut_out_at_a_time(
    balanced: SimulatedCloud, kind: BalancerKind, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    old = [f"10.0.{number}.0/24" for number in range(160)]
    new = [f"10.0.{number // 2}.{128 * (number % 2)}/25" for number in range(160)]  # the clients of half of them
    monkeypatch.setattr(clb_access_lists, "ENTRIES", 160 + free)
    monkeypatch.setattr(ecs_security_groups, "RULES", 161 + free)
    cloud, least = api_of(balanced, kind), list[int]()
    await reached(cloud, closed(balanced, kind, *old))
    staying = [IPv4Network(each) for each in new]

    def look(_: object) -> None:
        tables = balanced.account.tables
        lists = [[*each.entries] for each in tables.access_lists]
        lists += [[rule.source for rule in each.rules if rule.accepts] for each in tables.security_groups]
        for found in lists:
            admits = [IPv4Network(each) for each in found]
            least.append(sum(any(each.supernet_of(client) for each in admits) for client in staying))

    balanced.account.subscribe(look)
    await reached(cloud, closed(balanced, kind, *new))
    assert admitted(balanced, kind) == {*new}
    assert min(least) >= len(staying) - 2 * (50 if kind is CLB else 10), least


@pytest.mark.parametrize("new", [["10.0.0.0/8"], ["12.0.0.0/8", "13.0.0.0/8"]])
async def test_at_a_quota_a_rule_that_drops_goes_only_when_another_one_does(
    balanced: SimulatedCloud, monkeypatch: pytest.MonkeyPatch, new: list[str]
) -> None:
    cloud, tables = api_of(balanced, NLB), balanced.account.tables
    await reached(cloud, closed(balanced, NLB, *new[1:], "10.0.0.0/8"))
    (group,) = tables.security_groups
    edited = [rule if rule.accepts else replace(rule, priority=99) for rule in group.rules]
    tables.security_groups.put(replace(group, rules=tuple(edited)))
    monkeypatch.setattr(ecs_security_groups, "RULES", len(group.rules))
    least = list[int]()
    balanced.account.subscribe(
        lambda _: least.extend(sum(not rule.accepts for rule in each.rules) for each in tables.security_groups)
    )
    await reached(cloud, closed(balanced, NLB, *new))
    assert admitted(balanced, NLB) == {*new}
    assert [rule.priority for each in tables.security_groups for rule in each.rules if not rule.accepts] == [100]
    assert min(least) >= 1


async def test_at_a_quota_a_range_makes_room_for_the_rule_that_drops(
    balanced: SimulatedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, tables = api_of(balanced, NLB), balanced.account.tables
    desired = closed(balanced, NLB, "10.0.0.0/8", "11.0.0.0/8")
    await reached(cloud, desired)
    (group,) = tables.security_groups
    others = [rule if rule.accepts else replace(rule, source="192.0.2.0/24", description="") for rule in group.rules]
    tables.security_groups.put(replace(group, rules=tuple(others)))
    monkeypatch.setattr(ecs_security_groups, "RULES", len(group.rules))
    observed = await cloud.find(desired.owner)
    with pytest.raises(StepsRefused, match="AuthorizationLimitExceed"):
        await cloud.carry_out(plan(desired, observed), observed)
    (group,) = tables.security_groups
    assert [rule.source for rule in group.rules if not rule.accepts and not rule.description] == ["192.0.2.0/24"]
    assert "0.0.0.0/0" in {rule.source for rule in group.rules if not rule.accepts}


@KINDS
async def test_many_ranges_are_sent_in_parts(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    ranges = {f"10.0.{number}.0/24" for number in range(kind.source_lists.limit - 60)}
    await reached(api_of(balanced, kind), closed(balanced, kind, *ranges))
    assert admitted(balanced, kind) == ranges
    assert len(balanced.outcomes(ADDING[kind])) == (5 if kind is CLB else 14)


@KINDS
async def test_a_policy_of_a_former_version_stops_nothing_else(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    listed = ("AccessControl", "SecurityGroup")
    balanced.allow(*(each for each in ACTIONS["balancers"] if not any(word in each for word in listed)))
    cloud = api_of(balanced, kind)
    await reached(cloud, closed(balanced, kind))
    assert len(balanced.outcomes(LOOKING[kind])) == 1
    desired = closed(balanced, kind, "10.0.0.0/8")
    observed = await cloud.find(desired.owner)
    with pytest.raises(StepsRefused, match=r"allow the action Describe(AccessControlLists|SecurityGroups)"):
        await cloud.carry_out(plan(desired, observed), observed)
    balanced.allow()
    await reached(api_of(balanced, kind), desired)
    assert admitted(balanced, kind) == {"10.0.0.0/8"}


async def test_a_list_of_the_administrator_is_used_with_a_policy_of_a_former_version(balanced: SimulatedCloud) -> None:
    """Such a policy never looked at lists, so that no Service can have one of ours; but ours may be this very list."""
    own = AccessList("acl-1", "office", 4, {"10.0.0.0/8": ""})
    balanced.account.tables.access_lists.put(own)
    balanced.allow(*(each for each in ACTIONS["balancers"] if "AccessControl" not in each))
    named = {"acl-status": "on", "acl-id": "acl-1", "acl-type": "white"}
    cloud, desired = api_of(balanced, CLB), model(balanced, HTTP, annotations=named)
    observed = await reached(cloud, desired)
    assert [each.settings["AclId"] for each in observed.listeners] == ["acl-1"]
    assert await cloud.find(desired.owner) == observed
    with pytest.raises(NotPermitted, match="allow the action DescribeAccessControlLists"):
        await cloud.find(desired.owner, is_leaving=True)


@KINDS
async def test_one_whose_answer_was_lost_goes_when_the_service_admits_everybody_again(
    balanced: SimulatedCloud, kind: BalancerKind
) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8")
    observed = await reached(cloud, closed(balanced, kind))
    assert await cloud.find(desired.owner) == observed, "it is known by now that there is none"
    balanced.account.set_fault(Fault(kind="lose", actions=f"*:{MAKING[kind]}"))
    with pytest.raises(StepsRefused):
        await cloud.carry_out(plan(desired, observed), observed)
    balanced.account.faults.clear()
    tables = balanced.account.tables
    assert len([*tables.access_lists, *tables.security_groups]) == 1
    await reached(cloud, closed(balanced, kind))
    assert not [*tables.access_lists, *tables.security_groups]


@KINDS
async def test_rights_that_come_back_are_used_by_the_same_process(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    await reached(api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8"))
    cloud, opened = api_of(balanced, kind), closed(balanced, kind)
    refuse(balanced, kind, "NoPermission", 403)
    assert await cloud.find(opened.owner) is not None
    with pytest.raises(NotPermitted, match=r"allow the action Describe(AccessControlLists|SecurityGroups)"):
        await cloud.find(opened.owner, is_leaving=True)
    balanced.account.faults.clear()
    await reached(cloud, opened)
    tables = balanced.account.tables
    assert not [*tables.access_lists, *tables.security_groups]


@KINDS
@pytest.mark.parametrize(("code", "status"), [("ServiceUnavailable", 503), ("NoPermission", 403)])
async def test_lists_that_were_seen_are_known_while_they_cannot_be_looked_at(
    balanced: SimulatedCloud, kind: BalancerKind, code: str, status: int
) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8")
    seen = await reached(cloud, desired)
    refuse(balanced, kind, code, status)
    assert await cloud.find(desired.owner) == seen
    assert await cloud.find(desired.owner, is_leaving=True) == seen
    await reached(cloud, closed(balanced, kind))
    tables = balanced.account.tables
    assert not [*tables.access_lists, *tables.security_groups]


@KINDS
async def test_a_balancer_that_uses_no_list_depends_on_no_look_at_lists(
    balanced: SimulatedCloud, kind: BalancerKind
) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind)
    await reached(cloud, desired)
    await cloud.find(desired.owner)
    assert balanced.outcomes(LOOKING[kind]) == ["OK"], "for what a crash has left behind"
    refuse(balanced, kind, "ServiceUnavailable", 503)
    cloud = api_of(balanced, kind)
    assert await cloud.find(desired.owner) is not None
    with pytest.raises(CloudUnavailable):
        await cloud.find(desired.owner, is_leaving=True)


@KINDS
async def test_what_is_left_of_a_balancer_that_is_gone_is_deleted(balanced: SimulatedCloud, kind: BalancerKind) -> None:
    cloud, desired = api_of(balanced, kind), closed(balanced, kind, "10.0.0.0/8", **DNS)
    await reached(cloud, desired)
    tables = balanced.account.tables
    for balancer in list(tables.clbs):
        tables.clbs.remove(balancer.identity)
    for network in list(tables.nlbs):
        tables.nlbs.remove(network.identity)
    for listener in list(tables.nlb_listeners):
        tables.nlb_listeners.remove(listener.identity)
    await cloud.delete_leftovers(replace(desired.owner, cluster="another"))
    assert [*tables.access_lists, *tables.security_groups]
    await cloud.delete_leftovers(desired.owner)
    assert not [*tables.access_lists, *tables.security_groups]
