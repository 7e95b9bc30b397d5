"""Classic balancers in the simulated account: after a plan, the account has what the Service asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.provider import NotPermitted, StepsRefused
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.planning import plan_removal
from spiderpool.core.cloud.loadbalancer.values import MadeBalancer
from spiderpool_lab.alibaba.balancers import CLB as AccountCLB
from spiderpool_lab.alibaba.balancers import AccessList
from tests.cloud.alibaba.balancers import (
    DNS,
    ENI,
    HTTP,
    SECURE,
    classic,
    model,
    reached,
    with_enis,
)
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import endpoints, node

pytestmark = pytest.mark.unit

L7 = {
    "protocol-port": "http:80,https:443",
    "forward-port": "80:443",
    "cert-id": "crt-1",
    "health-check-flag": "on",
    "health-check-uri": "/healthz",
    "sticky-session": "on",
    "xforwardedfor-proto": "on",
}
CLASSIC_HISTORY: list[list[dict[str, Any]]] = [
    [{"ports": [HTTP]}],
    [{"ports": [HTTP, DNS, SECURE]}, {"ports": [DNS]}],
    [{"ports": [HTTP, SECURE], "annotations": L7}, {"ports": [HTTP, SECURE]}],
    [
        {"ports": [HTTP], "annotations": {"health-check-type": "http", "health-check-connect-port": "81"}},
        {"ports": [HTTP], "annotations": {"health-check-switch": "off", "connection-drain": "on"}},
        {"ports": [HTTP], "annotations": {"scheduler": "sch", "proxy-protocol": "on", "persistence-timeout": "60"}},
        {"ports": [HTTP]},
    ],
    [
        {"ports": [HTTP], "annotations": {"charge-type": "paybybandwidth", "bandwidth": "9", "name": "mine"}},
        {"ports": [HTTP], "annotations": {"instance-charge-type": "PayBySpec", "delete-protection": "off"}},
        {"ports": [HTTP], "annotations": {"modification-protection": "NonProtection"}},
    ],
    [
        {"ports": [HTTP], "annotations": {"address-type": "intranet", "acl-status": "on", "acl-id": "acl-1"}},
        {"ports": [HTTP, DNS], "loadBalancerSourceRanges": ["10.0.0.0/8"], "annotations": {"address-type": "intranet"}},
    ],
    [
        {"ports": [HTTP], "annotations": ENI, "snapshot": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))])},
        {"ports": [HTTP], "annotations": ENI, "snapshot": BackendSnapshot(slices=[endpoints(("172.31.192.20", "b"))])},
        {"ports": [HTTP]},
    ],
    [{"ports": [HTTP], "snapshot": BackendSnapshot([node(f"n{number}") for number in range(45)])}, {"ports": [HTTP]}],
]


@pytest.mark.parametrize("history", CLASSIC_HISTORY)
async def test_a_classic_balancer_becomes_what_it_should_be(
    balanced: SimulatedCloud, history: list[dict[str, Any]]
) -> None:
    balanced.account.tables.access_lists.put(AccessList("acl-1", "mine", 4))
    for given in history:
        state = await with_enis(balanced, given)
        desired = model(balanced, *state.pop("ports"), **state)
        observed = await reached(classic(balanced), desired)
        assert {group.name: group.servers for group in observed.groups} == {
            group.name: group.servers for group in desired.groups
        }
    assert len(list(balanced.account.tables.clbs)) == 1
    await classic(balanced).carry_out(plan_removal(CLB, desired.owner, observed, preserve=False), observed)
    assert not list(balanced.account.tables.clbs)
    assert [each.identity for each in balanced.account.tables.access_lists] == ["acl-1"]


async def test_a_lent_balancer_is_left_as_it_was(balanced: SimulatedCloud) -> None:
    lent = await reached(classic(balanced), model(balanced, HTTP))
    await classic(balanced).carry_out(plan_removal(CLB, model(balanced).owner, lent, preserve=True), lent)
    before = balanced.account.tables.clbs.get(lent.identity)
    desired = model(balanced, SECURE, annotations={"id": lent.identity})
    observed = await reached(classic(balanced), desired)
    assert [str(listener) for listener in observed.listeners] == ["tcp/80"]
    await classic(balanced).carry_out(plan_removal(CLB, desired.owner, observed, preserve=False), observed)
    after = balanced.account.tables.clbs.get(lent.identity)
    assert before is not None
    assert after is not None
    assert (after.settings, after.tags) == (before.settings, before.tags)


async def test_another_services_balancer_is_not_found(balanced: SimulatedCloud) -> None:
    desired = model(balanced, HTTP)
    await reached(classic(balanced), desired)
    other = desired.owner.__class__("default", "other", "another-uid", "c1")
    assert await classic(balanced).find(other) is None
    assert await classic(balanced).find(desired.owner, "lb-none") is None


async def test_what_is_not_permitted_is_named(balanced: SimulatedCloud) -> None:
    balanced.allow("slb:Describe*")
    with pytest.raises(StepsRefused, match="CreateLoadBalancer") as refused:
        await reached(classic(balanced), model(balanced, HTTP))
    assert [type(each) for each in refused.value.refusals] == [NotPermitted]


@pytest.mark.parametrize("history", [CLASSIC_HISTORY[2], CLASSIC_HISTORY[6]])
async def test_every_action_that_is_called_is_in_the_policy(
    balanced: SimulatedCloud, history: list[dict[str, Any]]
) -> None:
    balanced.allow(*ACTIONS["balancers"])
    await test_a_classic_balancer_becomes_what_it_should_be(balanced, history)
    assert {call.action for call in balanced.account.calls} <= set(ACTIONS["balancers"])


async def test_what_was_made_for_a_cluster_is_known_by_its_tags(balanced: SimulatedCloud) -> None:
    cloud = classic(balanced)
    desired = model(balanced, HTTP)
    observed = await reached(cloud, desired)
    made = MadeBalancer(observed.identity, "clb", observed.tags["kubernetes.do.not.delete"], "default")
    assert await cloud.made("c1") == [made]
    assert await cloud.made("c2") == []
    await cloud.carry_out(plan_removal(CLB, desired.owner, observed, preserve=True), observed)
    assert await cloud.made("c1") == [replace(made, name="")]


async def test_more_than_a_page_of_balancers_is_read_to_its_end(simulated: SimulatedCloud) -> None:
    tags = {"kubernetes.do.not.delete": "a", "ack.aliyun.com": "c1"}
    for number in range(101):
        simulated.account.tables.clbs.put(AccountCLB(f"lb-{number}", "x", f"198.51.100.{number}", {}, tags=tags))
    assert len(await classic(simulated).made("c1")) == 101


async def test_a_balancer_that_another_service_named_like_ours_is_not_found(balanced: SimulatedCloud) -> None:
    tags = {"kubernetes.do.not.delete": "another", "ack.aliyun.com": "c1"}
    owner = model(balanced, HTTP).owner
    name = CLB.naming.balancer_name(owner)
    balanced.account.tables.clbs.put(AccountCLB("lb-1", name, "198.51.100.1", {}, tags=tags))
    assert await classic(balanced).find(owner) is None
    balanced.account.tables.clbs.put(AccountCLB("lb-1", name, "198.51.100.1", {}))
    assert await classic(balanced).find(owner) is not None
