"""Which pools may serve a pod, in which order, and why not the others: rules drop pools, then they are sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias, assert_never

from spiderpool.api.ip import IPOwner
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import LabelSelector
from spiderpool.core.annotations import is_pattern
from spiderpool.core.ipam.owners import Controller, application_affinity, is_automatic
from spiderpool.core.labels import Labels, matches

DEFAULT_SOURCE = "the cluster's default pools"


@dataclass(frozen=True, slots=True)
class DefaultPools:
    """The cluster's default pools."""


@dataclass(frozen=True, slots=True)
class NamedPools:
    """Pools by name; a name may be a pattern, which stands for all pools that match it."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApplicationPool:
    """The pool that was, or will be, made for one application and interface."""

    subnet: str
    labels: Labels


Candidates: TypeAlias = DefaultPools | NamedPools | ApplicationPool


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """One interface of one pod asks for an address of one family."""

    namespace: str
    pod: str
    pod_uid: str
    interface: str
    node: str
    network: str | None
    """``namespace/name`` of the NetworkAttachmentDefinition; None when nobody says."""
    version: int = 4
    source: str = DEFAULT_SOURCE
    """Who names the candidates, in words."""
    candidates: Candidates = DefaultPools()
    our_namespace: str = "kube-system"
    pod_labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)
    controller: Controller | None = None
    """The workload at the top; filled in where :func:`concerns_application` says so."""
    owner: IPOwner | None = None
    """The owner with whom the address stays."""
    address: str | None = None
    """The only address that will do; None: any."""

    def __str__(self) -> str:
        return f"{self.interface} of pod {self.namespace}/{self.pod} on node {self.node}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one pool or source that was considered, and by which rule."""

    subject: str
    kept: bool
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Pools to try, best first, and the verdict on every pool that was considered."""

    pools: tuple[SpiderIPPool, ...]
    trace: tuple[Verdict, ...]


def select(ask: AllocationRequest, pools: Iterable[SpiderIPPool]) -> Selection:
    """Candidates by source, then filtered, then sorted: the most specific first, else in the order they were named."""
    named, missing = _candidates(ask, pools)
    trace = [*missing, *(_judge(ask, pool) for pool in named)]
    kept = {verdict.subject for verdict in trace if verdict.kept}
    return Selection(tuple(sorted((pool for pool in named if pool.name in kept), key=_specificity)), tuple(trace))


def suits(ask: AllocationRequest, pool: str, pools: Iterable[SpiderIPPool]) -> bool:
    """Whether an address of a pool that an owner holds still suits its pod.

    A pool that is disabled or being deleted gives no new address, yet its holders keep theirs.
    """
    found = next((each for each in _candidates(ask, pools)[0] if each.name == pool), None)
    return found is not None and not any(reason for _, reason in _misfits(ask, found))


def concerns_application(ask: AllocationRequest, pools: Iterable[SpiderIPPool]) -> bool:
    """Whether a candidate belongs to an application, so that the pod's top controller must be known."""
    return any(is_automatic(pool) for pool in _candidates(ask, pools)[0])


def _candidates(ask: AllocationRequest, pools: Iterable[SpiderIPPool]) -> tuple[list[SpiderIPPool], list[Verdict]]:
    match ask.candidates:
        case DefaultPools():
            default = [pool for pool in pools if pool.spec.default and version_of(pool) == ask.version]
            return sorted(default, key=lambda pool: pool.name), []
        case NamedPools(names):
            return _by_names(ask, names, {pool.name: pool for pool in pools})
        case ApplicationPool(subnet, labels):
            return _by_labels(ask, subnet, labels, pools)
        case _:
            assert_never(ask.candidates)


def _by_names(
    ask: AllocationRequest, names: tuple[str, ...], by_name: Mapping[str, SpiderIPPool]
) -> tuple[list[SpiderIPPool], list[Verdict]]:
    """Patterns are replaced, in place, by the pools that match them; a pool that is named twice counts once."""
    found: dict[str, SpiderIPPool] = {}
    missing: list[Verdict] = []
    for name in names:
        matching = _matching(ask, name, by_name)
        found |= {pool.name: pool for pool in matching if pool.name not in found}
        if not matching:
            missing.append(_missing(ask, name))
    return list(found.values()), missing


def _matching(ask: AllocationRequest, name: str, by_name: Mapping[str, SpiderIPPool]) -> list[SpiderIPPool]:
    if not is_pattern(name):
        return [by_name[name]] if name in by_name else []
    pattern = name.replace("[^", "[!")  # both negate
    matching = (each for each in sorted(by_name) if fnmatchcase(each, pattern))
    return [by_name[each] for each in matching if version_of(by_name[each]) == ask.version]


def _missing(ask: AllocationRequest, name: str) -> Verdict:
    if is_pattern(name):
        reason = f"matches no IPv{ask.version} pool that node {ask.node} may use"
    else:
        reason = f"no IPv{ask.version} pool of that name that node {ask.node} may use"
    return Verdict(name, False, "exists", reason)


def _by_labels(
    ask: AllocationRequest, subnet: str, labels: Labels, pools: Iterable[SpiderIPPool]
) -> tuple[list[SpiderIPPool], list[Verdict]]:
    found = [pool for pool in pools if labels.items() <= (pool.metadata.labels or {}).items()]
    if found:
        return sorted(found, key=lambda pool: pool.name), []
    reason = f"has no IPv{ask.version} pool yet for {ask.controller}, {ask.interface}"
    return [], [Verdict(f"SpiderSubnet {subnet}", False, "exists", reason)]


def _judge(ask: AllocationRequest, pool: SpiderIPPool) -> Verdict:
    """The first rule that a pool breaks, or the verdict that keeps it."""
    for rule, reason in (*_retired(pool), *_misfits(ask, pool)):
        if reason:
            return Verdict(pool.name, False, rule, reason)
    return Verdict(pool.name, True, "kept", "may serve this pod")


def _retired(pool: SpiderIPPool) -> Iterable[tuple[str, str | None]]:
    """Rules for new addresses alone."""
    yield "terminating", "is being deleted" if pool.terminating else None
    yield "disable", "is disabled" if pool.spec.disable else None


def _misfits(ask: AllocationRequest, pool: SpiderIPPool) -> Iterable[tuple[str, str | None]]:
    """Rules by which pool and pod go together."""
    spec = pool.spec
    family = (
        None if version_of(pool) == ask.version else f"is an IPv{version_of(pool)} pool; name IPv{ask.version} pools"
    )
    yield "family", family
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
    if is_automatic(pool):
        yield "application", _foreign_application(ask, pool)
    else:
        yield "pod", _selected(None, spec.podAffinity, ask.pod_labels, "pod")
        yield "network", _other_network(ask, spec.multusName)


def _foreign_application(ask: AllocationRequest, pool: SpiderIPPool) -> str | None:
    """A pool that was made for one application serves its pods alone, on every network."""
    wanted = (pool.spec.podAffinity or LabelSelector()).matchLabels or {}
    if ask.controller is not None and application_affinity(ask.controller).items() <= wanted.items():
        return None
    return f"was made for another application than {ask.controller or 'a bare pod'}"


def _other_network(ask: AllocationRequest, names: list[str] | None) -> str | None:
    if names and ask.network is None:
        return f"is for network {', '.join(names)}, and no annotation or setting tells the network of {ask.interface}"
    allowed = [name if "/" in name else f"{ask.our_namespace}/{name}" for name in names or ()]
    return _listed("network", allowed, ask.network or "")


def _listed(noun: str, allowed: list[str] | None, actual: str) -> str | None:
    if not allowed or actual in allowed:
        return None
    return f"is for {noun} {', '.join(allowed)}, not {actual}"


def _selected(names: list[str] | None, selector: LabelSelector | None, labels: Labels, noun: str) -> str | None:
    """A selector counts only where no names are given."""
    if names or selector is None or matches(selector, labels):
        return None
    return f"its {noun}Affinity does not match the labels of the {noun}"


def version_of(pool: SpiderIPPool) -> int:
    """The address family of a pool, 4 or 6."""
    return pool.spec.ipVersion or (6 if ":" in pool.spec.subnet else 4)


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
