"""Which pools serve a pod: one table row for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta, SelectorRequirement
from spiderpool.core.selection import Ask, matches, select

pytestmark = pytest.mark.unit

ASK = Ask(
    namespace="default",
    pod="web-0",
    pod_uid="u1",
    interface="eth0",
    node="master",
    network="kube-system/ipvlan-eth0",
    pod_labels={"app": "web"},
    namespace_labels={"team": "a"},
    node_labels={"zone": "h"},
)


def pool(name: str = "p", **spec: object) -> SpiderIPPool:
    fields: dict[str, object] = {"subnet": "10.0.0.0/24", "ipVersion": 4, "default": True} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))  # type: ignore[arg-type]


def labels(**wanted: str) -> LabelSelector:
    return LabelSelector(matchLabels=dict(wanted))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"nodeName": ["worker", "master"]},
        {"nodeName": ["master"], "nodeAffinity": labels(zone="other")},
        {"nodeAffinity": labels(zone="h")},
        {"namespaceName": ["default"], "namespaceAffinity": labels(team="other")},
        {"namespaceAffinity": labels(team="a")},
        {"podAffinity": labels(app="web")},
        {"multusName": ["kube-system/ipvlan-eth0"]},
        {"multusName": ["ipvlan-eth0"]},
        {"nodeAffinity": LabelSelector()},
    ],
)
def test_a_pool_that_fits_is_kept(spec: dict[str, Any]) -> None:
    selection = select(ASK, [pool(**spec)])
    assert [each.name for each in selection.pools] == ["p"]
    assert [verdict.kept for verdict in selection.trace] == [True]


@pytest.mark.parametrize(
    ("spec", "rule", "reason"),
    [
        ({"disable": True}, "disable", "is disabled"),
        ({"nodeName": ["worker"]}, "node", "is for node worker, not master"),
        ({"nodeAffinity": labels(zone="x")}, "node", "its nodeAffinity does not match the labels of the node"),
        ({"namespaceName": ["prod"]}, "namespace", "is for namespace prod, not default"),
        ({"namespaceAffinity": labels(team="b")}, "namespace", "its namespaceAffinity does not match"),
        ({"podAffinity": labels(app="db")}, "pod", "its podAffinity does not match the labels of the pod"),
        ({"multusName": ["ipvlan-eth1"]}, "network", "is for network kube-system/ipvlan-eth1"),
    ],
)
def test_a_pool_that_does_not_fit_says_why(spec: dict[str, Any], rule: str, reason: str) -> None:
    (verdict,) = select(ASK, [pool(**spec)]).trace
    assert (verdict.kept, verdict.rule) == (False, rule)
    assert reason in str(verdict)


def test_a_pool_that_is_being_deleted_is_left_out() -> None:
    going = pool()
    going.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    assert select(ASK, [going]).trace[0].rule == "terminating"


def test_pools_of_the_other_family_and_pools_that_are_no_default_are_not_considered() -> None:
    assert select(ASK, [pool(ipVersion=6), pool("q", default=False)]).trace == ()


def test_the_most_specific_pool_comes_first_then_the_name_decides() -> None:
    pools = [pool("b"), pool("a"), pool("n", multusName=["ipvlan-eth0"]), pool("m", nodeName=["master"])]
    assert [each.name for each in select(ASK, pools).pools] == ["m", "n", "a", "b"]


def named(*names: str) -> Ask:
    return Ask("default", "web-0", "u1", "eth0", "master", "kube-system/ipvlan-eth0", named_pools=names)


def test_pools_that_the_network_names_keep_their_order_and_need_not_be_default() -> None:
    pools = [pool("a"), pool("b", default=False), pool("c")]
    assert [each.name for each in select(named("c", "b", "c"), pools).pools] == ["c", "b"]


def test_a_named_pool_that_does_not_exist_is_in_the_trace() -> None:
    (verdict,) = select(named("gone"), [pool("a")]).trace
    assert str(verdict) == "gone: no IPv4 pool of that name, which network kube-system/ipvlan-eth0 asks for"


@pytest.mark.parametrize(
    ("operator", "values", "present", "other", "absent"),
    [
        ("In", ["a"], True, False, False),
        ("NotIn", ["a"], False, True, True),
        ("Exists", None, True, True, False),
        ("DoesNotExist", None, False, False, True),
        ("Gt", ["a"], False, False, False),
    ],
)
def test_selector_operators(operator: str, values: list[str] | None, present: bool, other: bool, absent: bool) -> None:
    selector = LabelSelector(matchExpressions=[SelectorRequirement("k", operator, values)])
    assert [matches(selector, each) for each in ({"k": "a"}, {"k": "b"}, {})] == [present, other, absent]
