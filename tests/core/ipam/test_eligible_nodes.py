"""Which nodes may take a pod."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.scheduling import SchedulingSpec, Toleration
from spiderpool.core.ipam.eligible_nodes import as_of_daemon_set, why_not_schedulable

pytestmark = pytest.mark.unit


def node(labels: dict[str, str] | None = None, ready: str = "True", **spec: object) -> Node:
    return Node(
        metadata=ObjectMeta(name="n1", labels=labels),
        spec=msgspec.convert(spec, NodeSpec),
        status=NodeStatus([NodeCondition("Ready", ready)]),
    )


def affinity(*terms: dict[str, object]) -> SchedulingSpec:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return msgspec.convert({"affinity": {"nodeAffinity": required}}, SchedulingSpec)


def expression(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def test_a_pod_that_names_nothing_goes_to_every_ready_node() -> None:
    assert why_not_schedulable(SchedulingSpec(), node()) is None
    assert why_not_schedulable(SchedulingSpec(nodeName="n1"), node()) is None
    assert why_not_schedulable(SchedulingSpec(nodeName="n2"), node()) == "the pod is for node n2"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (node(unschedulable=True), "the taint node.kubernetes.io/unschedulable:NoSchedule"),
        (node(ready="False"), "the taint node.kubernetes.io/not-ready:NoSchedule"),
        (node(ready="Unknown"), "the taint node.kubernetes.io/unreachable:NoSchedule"),
        (node(taints=[{"key": "gpu", "value": "yes", "effect": "NoExecute"}]), "the taint gpu=yes:NoExecute"),
    ],
)
def test_taints_and_states_that_keep_it_away(found: Node, said: str) -> None:
    assert said in (why_not_schedulable(SchedulingSpec(), found) or "")


def test_pods_of_daemon_sets_tolerate_the_state_of_nodes_but_no_other_taint() -> None:
    spec = as_of_daemon_set(SchedulingSpec())
    assert why_not_schedulable(spec, node(ready="False", unschedulable=True)) is None
    assert why_not_schedulable(spec, node(taints=[{"key": "gpu", "effect": "NoSchedule"}]))


def test_a_taint_that_only_advises() -> None:
    assert why_not_schedulable(SchedulingSpec(), node(taints=[{"key": "a", "effect": "PreferNoSchedule"}])) is None


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration(key="gpu", operator="Exists"), True),
        (Toleration(key="gpu", value="yes"), True),
        (Toleration(key="gpu", operator="Equal", value="no"), False),
        (Toleration(key="other", operator="Exists"), False),
        (Toleration(key="gpu", operator="Exists", effect="NoExecute"), False),
        (Toleration(value="yes"), False),
    ],
)
def test_tolerations(toleration: Toleration, tolerated: bool) -> None:
    tainted = node()
    tainted.spec.taints = [Taint("gpu", "yes", "NoSchedule")]
    assert (why_not_schedulable(SchedulingSpec(tolerations=[toleration]), tainted) is None) is tolerated


def test_the_node_selector() -> None:
    spec = SchedulingSpec(nodeSelector={"disk": "ssd"})
    assert why_not_schedulable(spec, node({"disk": "ssd"})) is None
    assert "the label disk=ssd" in (why_not_schedulable(spec, node({"disk": "hdd"})) or "")


@pytest.mark.parametrize(
    ("terms", "may"),
    [
        ([expression("zone", "In", "a", "b")], True),
        ([expression("zone", "In", "b")], False),
        ([expression("zone", "In", "b"), expression("zone", "Exists")], True),
        ([expression("zone", "NotIn", "b")], True),
        ([expression("other", "NotIn", "b")], True),
        ([expression("other", "In", "b")], False),
        ([expression("zone", "DoesNotExist")], False),
        ([expression("cpus", "Gt", "4")], True),
        ([expression("cpus", "Lt", "4")], False),
        ([expression("zone", "Gt", "4")], False),
        ([expression("cpus", "Gt", "4", "5")], False),
        ([expression("zone", "Like", "a")], False),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}], False),
        ([{}], False),
        ([], False),
    ],
)
def test_required_node_affinity(terms: list[dict[str, object]], may: bool) -> None:
    found = why_not_schedulable(affinity(*terms), node({"zone": "a", "cpus": "8"}))
    assert (found is None) is may, found
