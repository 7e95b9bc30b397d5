"""Which nodes may take a pod, by the rules of Kubernetes' scheduler that need no look at other pods.

Node name, taints, node selector and required node affinity. Resources, ports, volumes, limits of pods on a node,
affinity between pods and topology are not considered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, Taint
from spiderpool.api.scheduling import (
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    SchedulingSpec,
    Toleration,
)
from spiderpool.core.labels import Labels

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
NOT_READY = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}
"""Taints that Kubernetes gives to a node, by the status of its condition Ready."""
BLOCKING = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that keep a pod away."""
DAEMON_SET_KEYS = (
    UNSCHEDULABLE,
    *NOT_READY.values(),
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
)
"""Taints that pods of every DaemonSet tolerate."""


def as_of_daemon_set(spec: SchedulingSpec) -> SchedulingSpec:
    """The specification as the controller of DaemonSets makes it: with tolerations for the state of nodes."""
    added = [Toleration(key=key, operator="Exists") for key in DAEMON_SET_KEYS]
    return replace(spec, tolerations=[*(spec.tolerations or ()), *added])


def why_not_schedulable(spec: SchedulingSpec, node: Node) -> str | None:
    """Why the scheduler puts no such pod on a node; None where it may."""
    labels = node.metadata.labels or {}
    if spec.nodeName and spec.nodeName != node.name:
        return f"the pod is for node {spec.nodeName}"
    for taint in _taints(node):
        if not any(_tolerates(each, taint) for each in spec.tolerations or ()):
            return f"the pod does not tolerate the taint {_text(taint)}"
    for key, value in (spec.nodeSelector or {}).items():
        if labels.get(key) != value:
            return f"it has not the label {key}={value} of the pod's nodeSelector"
    required = spec.required_nodes
    if required is not None and not _matches(required, labels, node.name):
        return "the pod's required node affinity does not match it"
    return None


def _taints(node: Node) -> Iterator[Taint]:
    """The taints that keep pods away, also those that Kubernetes is about to give for the state of the node."""
    yield from (each for each in node.spec.taints or () if each.effect in BLOCKING)
    if node.spec.unschedulable:
        yield Taint(UNSCHEDULABLE, effect="NoSchedule")
    if not node.ready:
        yield Taint(NOT_READY.get(node.ready_status, NOT_READY["Unknown"]), effect="NoSchedule")


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and (toleration.value or "") == (taint.value or "")


def _text(taint: Taint) -> str:
    """As `kubectl taint` writes it."""
    return f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}"


def _matches(selector: NodeSelector, labels: Labels, name: str) -> bool:
    """Whether one term holds; an empty term holds for no node."""
    return any(_term_holds(term, labels, name) for term in selector.nodeSelectorTerms)


def _term_holds(term: NodeSelectorTerm, labels: Labels, name: str) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    return _all_hold(term.matchExpressions or (), labels) and _all_hold(term.matchFields or (), {"metadata.name": name})


def _all_hold(requirements: Iterable[NodeSelectorRequirement], values: Labels) -> bool:
    return all(_holds(each, values.get(each.key)) for each in requirements)


def _holds(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    """Whether a value satisfies a requirement; an unknown operator is satisfied by nothing."""
    listed = value in (requirement.values or ())
    match requirement.operator:
        case "In":
            return value is not None and listed
        case "NotIn":
            return not listed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
        case _:
            return False


def _compares(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    try:
        (limit,) = requirement.values or [""]
        difference = int(value or "") - int(limit)
    except ValueError:  # no number, or not one limit
        return False
    return difference > 0 if requirement.operator == "Gt" else difference < 0
