"""Which pools may serve a pod, in which order, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import LabelSelector, SelectorRequirement

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One interface of one pod asks for an address of one family."""

    namespace: str
    pod: str
    pod_uid: str
    interface: str
    node: str
    network: str
    """``namespace/name`` of the NetworkAttachmentDefinition."""
    version: int = 4
    named_pools: tuple[str, ...] | None = None
    """Pools that the network's configuration names; None: the cluster's default pools."""
    our_namespace: str = "kube-system"
    pod_labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.interface} of pod {self.namespace}/{self.pod} on node {self.node}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one pool that was considered, and by which rule."""

    pool: str
    kept: bool
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pool}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Pools to try, best first, and the verdict on every pool that was considered."""

    pools: tuple[SpiderIPPool, ...]
    trace: tuple[Verdict, ...]


def select(ask: Ask, pools: Iterable[SpiderIPPool]) -> Selection:
    """Candidates by source, then filtered, then sorted: the most specific first, then by name.

    Pools that the network names keep the order in which it names them among equally specific ones.
    """
    by_name = {pool.name: pool for pool in pools if pool.spec.ipVersion in (None, ask.version)}
    named, missing = _candidates(ask, by_name)
    trace = [*missing, *(_judge(ask, pool) for pool in named)]
    kept = {verdict.pool for verdict in trace if verdict.kept}
    return Selection(tuple(sorted((pool for pool in named if pool.name in kept), key=_specificity)), tuple(trace))


def matches(selector: LabelSelector, labels: Labels) -> bool:
    """Whether labels satisfy a selector (metav1.LabelSelector: all requirements must hold)."""
    equal = all(labels.get(key) == value for key, value in (selector.matchLabels or {}).items())
    return equal and all(_holds(requirement, labels) for requirement in selector.matchExpressions or ())


def _candidates(ask: Ask, by_name: Mapping[str, SpiderIPPool]) -> tuple[list[SpiderIPPool], list[Verdict]]:
    if ask.named_pools is None:
        return [by_name[name] for name in sorted(by_name) if by_name[name].spec.default], []
    missing = [name for name in ask.named_pools if name not in by_name]
    verdicts = [
        Verdict(name, False, "exists", f"no IPv{ask.version} pool of that name, which network {ask.network} asks for")
        for name in missing
    ]
    return [by_name[name] for name in dict.fromkeys(ask.named_pools) if name in by_name], verdicts


def _judge(ask: Ask, pool: SpiderIPPool) -> Verdict:
    """The first rule that a pool breaks, or the verdict that keeps it."""
    for rule, reason in _objections(ask, pool):
        if reason:
            return Verdict(pool.name, False, rule, reason)
    return Verdict(pool.name, True, "kept", "may serve this pod")


def _objections(ask: Ask, pool: SpiderIPPool) -> Iterable[tuple[str, str | None]]:
    spec = pool.spec
    yield "terminating", "is being deleted" if pool.terminating else None
    yield "disable", "is disabled" if spec.disable else None
    yield (
        "node",
        _listed("node", spec.nodeName, ask.node)
        or _selected(spec.nodeName, spec.nodeAffinity, ask.node_labels, "node"),
    )
    yield (
        "namespace",
        _listed("namespace", spec.namespaceName, ask.namespace)
        or _selected(spec.namespaceName, spec.namespaceAffinity, ask.namespace_labels, "namespace"),
    )
    yield "pod", _selected(None, spec.podAffinity, ask.pod_labels, "pod")
    networks = [name if "/" in name else f"{ask.our_namespace}/{name}" for name in spec.multusName or ()]
    yield "network", _listed("network", networks, ask.network)


def _listed(noun: str, allowed: list[str] | None, actual: str) -> str | None:
    if not allowed or actual in allowed:
        return None
    return f"is for {noun} {', '.join(allowed)}, not {actual}"


def _selected(names: list[str] | None, selector: LabelSelector | None, labels: Labels, noun: str) -> str | None:
    """A selector counts only where no names are given."""
    if names or selector is None or matches(selector, labels):
        return None
    return f"its {noun}Affinity does not match the labels of the {noun}"


def _holds(requirement: SelectorRequirement, labels: Labels) -> bool:
    present = requirement.key in labels
    listed = present and labels[requirement.key] in (requirement.values or ())
    match requirement.operator:
        case "In":
            return listed
        case "NotIn":
            return not listed
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case _:
            return False


def _specificity(pool: SpiderIPPool) -> tuple[bool, ...]:
    spec = pool.spec
    return (
        spec.podAffinity is None,
        not spec.nodeName,
        spec.nodeAffinity is None,
        not spec.namespaceName,
        spec.namespaceAffinity is None,
        not spec.multusName,
    )
