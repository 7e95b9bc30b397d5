"""Which pools serve a pod: one table row for each rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.selection import (
    AllocationRequest,
    ApplicationPool,
    Candidates,
    DefaultPools,
    NamedPools,
    concerns_application,
    fits_but_for_node_labels,
    may_be_candidate,
    select,
    why_unsuitable,
)

pytestmark = pytest.mark.unit

ASK = AllocationRequest(
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


def named(*names: str, version: int = 4) -> AllocationRequest:
    return replace(ASK, version=version, candidates=NamedPools(names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("c", "b", "c"), ["c", "b"]),
        (("*",), ["a", "b", "c"]),
        (("c", "*"), ["c", "a", "b"]),
        (("[ab]", "a"), ["a", "b"]),
        (("[^a]",), ["b", "c"]),
        (("?", "z"), ["a", "b", "c"]),
    ],
)
def test_named_pools_keep_their_order_count_once_and_need_not_be_default(
    names: tuple[str, ...], expected: list[str]
) -> None:
    pools = [pool("b", default=False), pool("c"), pool("a"), pool("six", ipVersion=6, subnet="fd00::/64")]
    assert [each.name for each in select(named(*names), pools).pools] == expected


def test_names_go_before_selectors_and_the_order_as_written_decides_among_equals() -> None:
    pools = [pool("a"), pool("b", nodeAffinity=labels(zone="h")), pool("c", nodeName=["master"]), pool("d")]
    assert [each.name for each in select(named("d", "a", "b", "c"), pools).pools] == ["c", "b", "d", "a"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "gone: no IPv4 pool of that name that node master may use"),
        ("gone*", "gone*: matches no IPv4 pool that node master may use"),
        ("six", "six: is an IPv6 pool; name IPv4 pools"),
    ],
)
def test_a_name_that_stands_for_nothing_is_in_the_trace_and_hinders_no_other(name: str, sentence: str) -> None:
    pools = [pool("a"), pool("six", ipVersion=None, subnet="fd00::/64")]
    selection = select(named(name, "a"), pools)
    assert [each.name for each in selection.pools] == ["a"]
    assert sentence in map(str, selection.trace)


def test_a_pool_of_the_other_family_is_taken_for_that_family() -> None:
    six = pool("six", ipVersion=None, subnet="fd00::/64")
    assert [each.name for each in select(named("six", version=6), [six]).pools] == ["six"]


def test_without_a_known_network_only_pools_for_a_network_are_dropped() -> None:
    unknown = replace(ASK, network=None)
    selection = select(unknown, [pool("a"), pool("b", multusName=["ipvlan-eth0"])])
    assert [each.name for each in selection.pools] == ["a"]
    assert "no annotation or setting tells the network of eth0" in str(selection.trace[1])


APPLICATION = Controller("apps/v1", "Deployment", "default", "web", "u")
OTHER = Controller("apps/v1", "Deployment", "default", "db", "u")
APPLICATION_LABELS = {
    "ipam.spidernet.io/app-api-group": "apps",
    "ipam.spidernet.io/app-api-version": "v1",
    "ipam.spidernet.io/app-kind": "Deployment",
    "ipam.spidernet.io/app-namespace": "default",
    "ipam.spidernet.io/app-name": "web",
}


def automatic(name: str = "auto4-web", **spec: object) -> SpiderIPPool:
    made = pool(name, podAffinity=labels(**APPLICATION_LABELS), **spec)
    made.metadata.labels = {"ipam.spidernet.io/owner-application-name": "web"}
    return made


@pytest.mark.parametrize(
    ("controller", "kept", "reason"),
    [
        (APPLICATION, True, "may serve"),
        (OTHER, False, "was made for another application than Deployment default/db"),
        (None, False, "was made for another application than a bare pod"),
    ],
)
def test_a_pool_of_an_application_serves_its_pods_alone_on_every_network(
    controller: Controller | None, kept: bool, reason: str
) -> None:
    ask = replace(ASK, controller=controller)
    (verdict,) = select(ask, [automatic(multusName=["another"])]).trace
    assert (verdict.kept, reason in verdict.reason) == (kept, True)


def test_the_top_controller_matters_only_where_a_candidate_belongs_to_an_application() -> None:
    assert not concerns_application(ASK, [pool("a"), automatic(default=False)])
    assert concerns_application(named("auto*"), [pool("a"), automatic(default=False)])


def test_the_pool_of_an_application_is_found_by_its_labels_or_said_to_be_missing() -> None:
    wanted = {"ipam.spidernet.io/owner-application-name": "web"}
    ask = replace(ASK, controller=APPLICATION, candidates=ApplicationPool("subnet", wanted))
    assert [each.name for each in select(ask, [pool("a"), automatic()]).pools] == ["auto4-web"]
    (verdict,) = select(ask, [pool("a")]).trace
    assert str(verdict) == "SpiderSubnet subnet: has no IPv4 pool yet for Deployment default/web, eth0"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, None),
        ({"disable": True}, None),
        ({"nodeName": ["worker"]}, "is for node worker, not master"),
        ({"namespaceName": ["other"]}, "is for namespace other, not default"),
        ({"default": False}, "does not come from the cluster's default pools"),
    ],
)
def test_a_holder_keeps_its_address_while_pool_and_pod_go_together(spec: dict[str, Any], reason: str | None) -> None:
    assert why_unsuitable(ASK, pool(**spec)) == reason


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"nodeAffinity": labels(zone="i")}, True),
        ({"nodeAffinity": labels(zone="i"), "default": False}, False),
        ({"nodeAffinity": labels(zone="i"), "namespaceName": ["other"]}, False),
        ({"nodeName": ["worker"]}, False),
    ],
)
def test_the_labels_of_the_node_may_be_all_that_does_not_match(spec: dict[str, Any], expected: bool) -> None:
    assert fits_but_for_node_labels(ASK, pool(**spec)) is expected


@pytest.mark.parametrize(
    ("candidates", "may_be"),
    [
        (DefaultPools(), True),
        (ApplicationPool("subnet", {}), True),
        (NamedPools(("other", "p")), True),
        (NamedPools(("other",)), False),
        (NamedPools(("[^a]*",)), True),
        (NamedPools(("[^p]*",)), False),
    ],
)
def test_a_name_alone_tells_whether_a_pool_may_be_a_candidate(candidates: Candidates, may_be: bool) -> None:
    assert may_be_candidate(replace(ASK, candidates=candidates), "p") is may_be


def test_who_asks_is_told_in_words() -> None:
    assert str(ASK) == "eth0 of pod default/web-0 on node master"


@pytest.mark.parametrize(("enis", "expected"), [({"eni-1", "eni-2"}, ["p"]), ({"eni-2"}, []), (set(), [])])
def test_a_pool_of_an_eni_gives_new_addresses_only_where_the_node_reports_the_eni(
    enis: set[str], expected: list[str]
) -> None:
    of_eni = pool()
    of_eni.metadata.labels = {POOL_ENI_LABEL: "eni-1"}
    request = replace(ASK, node_enis=frozenset(enis))
    selection = select(request, [of_eni])
    assert [each.name for each in selection.pools] == expected
    assert [verdict.rule for verdict in selection.trace] == (["kept"] if expected else ["eni"])
    assert why_unsuitable(request, of_eni) is None  # whoever has an address keeps it
