"""Security groups of network balancers in the simulated account."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool_lab.alibaba.resources import SecurityGroup, SecurityRule
from tests.cloud.alibaba.balancers import HTTP, ZONES, api_of, model, network, reached, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

NAME = "k8s-nlb-a0a1b2c3d4e5f60718293a4b5c6d7e8f"
TAGS = {"kubernetes.do.not.delete": "a0a1b2c3d4e5f60718293a4b5c6d7e8f", "ack.aliyun.com": "c1"}
DESCRIPTION = "k8s.default.web.c1"
OF_OTHERS = SecurityRule("sgr-hand", "accept", "TCP", "80/80", "203.0.113.0/24", 7, "by hand")


async def groups(simulated: SimulatedCloud, *ranges: str, **annotations: str) -> list[SecurityGroup]:
    """The groups in the account after a Service admits the clients of some ranges."""
    given = {**ZONES, **{key.replace("_", "-"): value for key, value in annotations.items()}}
    spec = {**spec_of(NLB), "annotations": given, "loadBalancerSourceRanges": [*ranges]}
    await reached(network(simulated), model(simulated, HTTP, **spec))
    return list(simulated.account.tables.security_groups)


def rules(group: SecurityGroup) -> set[tuple[str, str, int]]:
    """What a group does to the clients of which ranges, and with which priority."""
    assert {(rule.protocol, rule.ports) for rule in group.rules if rule is not OF_OTHERS} <= {("ALL", "-1/-1")}
    return {(rule.policy, rule.source, rule.priority) for rule in group.rules if rule is not OF_OTHERS}


async def test_a_group_is_as_the_other_controller_makes_it(balanced: SimulatedCloud) -> None:
    (made,) = await groups(balanced, "10.0.0.0/8", "192.0.2.0/24")
    assert (made.name, made.kind, made.description, made.tags) == (NAME, "enterprise", DESCRIPTION, TAGS)
    assert {rule.description for rule in made.rules} == {DESCRIPTION}
    assert rules(made) == {("accept", "10.0.0.0/8", 1), ("accept", "192.0.2.0/24", 1), ("drop", "0.0.0.0/0", 100)}
    (balancer,) = balanced.account.tables.nlbs
    assert balancer.security_groups == (made.identity,)
    assert await groups(balanced) == []
    (balancer,) = balanced.account.tables.nlbs
    assert balancer.security_groups == ()


async def test_one_that_the_other_controller_has_made_is_taken_over(balanced: SimulatedCloud) -> None:
    theirs = SecurityGroup("sg-ccm", NAME, kind="enterprise", description=DESCRIPTION, tags=TAGS)
    wrong = SecurityRule("sgr-1", "accept", "TCP", "80/80", "10.0.0.0/8", 1, DESCRIPTION)
    gone = SecurityRule("sgr-2", "accept", "ALL", "-1/-1", "198.51.100.0/24", 1, DESCRIPTION)
    balanced.account.tables.security_groups.put(replace(theirs, rules=(wrong, gone, OF_OTHERS)))
    (found,) = await groups(balanced, "10.0.0.0/8")
    assert found.identity == "sg-ccm"
    assert OF_OTHERS in found.rules
    assert rules(found) == {("accept", "10.0.0.0/8", 1), ("drop", "0.0.0.0/0", 100)}


async def test_a_rule_that_is_there_already_by_other_hands_counts_and_stays(balanced: SimulatedCloud) -> None:
    await groups(balanced, "10.0.0.0/8", "192.0.2.0/24")
    (made,) = balanced.account.tables.security_groups
    drop, other = (
        f"{DESCRIPTION}, by hand",
        SecurityRule("sgr-9", "accept", "ALL", "-1/-1", "203.0.113.0/24", 1, "hand"),
    )
    changed = (replace(rule, description=rule.description if rule.accepts else drop) for rule in made.rules)
    balanced.account.tables.security_groups.put(replace(made, rules=(*changed, other)))
    (found,) = await groups(balanced, "10.0.0.0/8")
    assert {(rule.source, rule.description) for rule in found.rules} == {
        ("10.0.0.0/8", DESCRIPTION),
        ("0.0.0.0/0", drop),
        ("203.0.113.0/24", "hand"),
    }


@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
async def test_the_list_that_ranges_have_made_may_be_named_by_its_identity(
    balanced: SimulatedCloud, kind: BalancerKind
) -> None:
    spec, api, tables = spec_of(kind), api_of(balanced, kind), balanced.account.tables
    await reached(api, model(balanced, HTTP, **spec, loadBalancerSourceRanges=["10.0.0.0/8"]))
    (made,) = tables.access_lists if kind is CLB else tables.security_groups
    named = {"security-group-ids": made.identity}
    if kind is CLB:
        named = {"acl-status": "on", "acl-id": made.identity, "acl-type": "white"}
    given = {**spec.get("annotations", {}), **named}
    await reached(api, model(balanced, HTTP, **{**spec, "annotations": given}))
    assert [*tables.access_lists, *tables.security_groups] == [made]


async def test_with_addresses_of_both_families_clients_of_both_are_kept_out(balanced: SimulatedCloud) -> None:
    tables = balanced.account.tables
    for number, vswitch in enumerate(list(tables.vswitches)):
        tables.vswitches.put(replace(vswitch, ipv6_block=f"2408:4005:{number}::/64"))
    (made,) = await groups(balanced, "10.0.0.0/8", "2001:db8::/32", ip_version="dualstack")
    assert rules(made) == {
        ("accept", "10.0.0.0/8", 1),
        ("accept", "2001:db8::/32", 1),
        ("drop", "0.0.0.0/0", 100),
        ("drop", "::/0", 100),
    }
