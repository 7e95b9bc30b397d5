"""Which pools may serve an AllocationRequest, in which order, and the verdict on every pool that was considered.

Rules drop pools; those that are left are sorted, the most specific first.
"""

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
    """Pools by name; a name may be a shell-style pattern for all pools that match it."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApplicationPool:
    """The pool that the controller makes for one application, interface and family; it may not exist yet."""

    subnet: str
    labels: Labels


Candidates: TypeAlias = DefaultPools | NamedPools | ApplicationPool


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """A request for one address: one interface of one pod, one address family."""

    namespace: str
    pod: str
    pod_uid: str
    interface: str
    node: str
    network: str | None
    """``namespace/name`` of the NetworkAttachmentDefinition; None when it is not known."""
    version: int = 4
    source: str = DEFAULT_SOURCE
    """Where the candidate pools are named, for error messages: an annotation, the network, the default pools."""
    candidates: Candidates = DefaultPools()
    our_namespace: str = "kube-system"
    pod_labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)
    node_enis: frozenset[str] = frozenset()
    """The ENIs that the node reports."""
    controller: Controller | None = None
    """The pod's top controller (Deployment, ...); only read when :func:`concerns_application` is true."""
    owner: IPOwner | None = None
    """The StatefulSet or virtual machine that keeps the address; None when the address goes with the pod."""
    migrating: bool = False
    """Whether the owner is a virtual machine that runs in another pod and is to move to this one."""
    address: str | None = None
    """The only acceptable address; None: any."""

    def __str__(self) -> str:
        return f"{self.interface} of pod {self.namespace}/{self.pod} on node {self.node}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one pool or source was kept or dropped, by which rule, and why. A trace is a list of verdicts."""

    subject: str
    kept: bool
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Pools to try, best first, and the verdict on every candidate."""

    pools: tuple[SpiderIPPool, ...]
    trace: tuple[Verdict, ...]


def select(request: AllocationRequest, pools: Iterable[SpiderIPPool]) -> Selection:
    """The pools that may serve a request: candidates, filtered, the most specific first, else in the order named."""
    named, not_found = _candidates(request, pools)
    trace = [*not_found, *(_judge(request, pool) for pool in named)]
    kept = {verdict.subject for verdict in trace if verdict.kept}
    return Selection(tuple(sorted((pool for pool in named if pool.name in kept), key=_specificity)), tuple(trace))


def why_unsuitable(request: AllocationRequest, pool: SpiderIPPool) -> str | None:
    """Why an existing address from a pool does not fit a request any more; None when it does.

    A disabled or terminating pool gives no new address, but its holders keep theirs.
    """
    if not _candidates(request, [pool])[0]:
        return f"does not come from {request.source}"
    return next((reason for _, reason in _mismatches(request, pool) if reason), None)


def fits_but_for_node_labels(request: AllocationRequest, pool: SpiderIPPool) -> bool:
    """Whether nothing but the labels of its node keeps a request from an existing address of a pool."""
    if pool.spec.nodeName or not _candidates(request, [pool])[0]:
        return False
    return {rule for rule, reason in _mismatches(request, pool) if reason} == {"node"}


def may_be_candidate(request: AllocationRequest, name: str) -> bool:
    """Whether a pool of which only the name is known may be a candidate of a request."""
    match request.candidates:
        case NamedPools(names):
            return any(is_named(each, name) for each in names)
        case _:
            return True


def is_named(word: str, pool: str) -> bool:
    """Whether a name or pattern stands for a pool of this name."""
    return fnmatchcase(pool, _as_shell(word)) if is_pattern(word) else pool == word


def concerns_application(request: AllocationRequest, pools: Iterable[SpiderIPPool]) -> bool:
    """Whether a candidate pool was made for an application, so that the pod's top controller must be known."""
    return any(is_automatic(pool) for pool in _candidates(request, pools)[0])


def _candidates(request: AllocationRequest, pools: Iterable[SpiderIPPool]) -> tuple[list[SpiderIPPool], list[Verdict]]:
    match request.candidates:
        case DefaultPools():
            default = [pool for pool in pools if pool.spec.default and version_of(pool) == request.version]
            return sorted(default, key=lambda pool: pool.name), []
        case NamedPools(names):
            return _by_names(request, names, {pool.name: pool for pool in pools})
        case ApplicationPool(subnet, labels):
            return _by_labels(request, subnet, labels, pools)
        case _:
            assert_never(request.candidates)


def _by_names(
    request: AllocationRequest, names: tuple[str, ...], by_name: Mapping[str, SpiderIPPool]
) -> tuple[list[SpiderIPPool], list[Verdict]]:
    """A pattern stands for the pools that match it, in alphabetical order; a pool named twice counts once."""
    found: dict[str, SpiderIPPool] = {}
    not_found: list[Verdict] = []
    ordered = sorted(by_name) if any(map(is_pattern, names)) else []
    for name in names:
        matching = _matching(request, name, by_name, ordered)
        found |= {pool.name: pool for pool in matching if pool.name not in found}
        if not matching:
            not_found.append(_not_found(request, name))
    return list(found.values()), not_found


def _matching(
    request: AllocationRequest, name: str, by_name: Mapping[str, SpiderIPPool], ordered: Iterable[str]
) -> list[SpiderIPPool]:
    if not is_pattern(name):
        return [by_name[name]] if name in by_name else []
    shell = _as_shell(name)
    matching = (each for each in ordered if fnmatchcase(each, shell))
    return [by_name[each] for each in matching if version_of(by_name[each]) == request.version]


def _as_shell(pattern: str) -> str:
    """A pattern as fnmatch reads it: both ``[^`` and ``[!`` negate."""
    return pattern.replace("[^", "[!")


def _not_found(request: AllocationRequest, name: str) -> Verdict:
    if is_pattern(name):
        reason = f"matches no IPv{request.version} pool that node {request.node} may use"
    else:
        reason = f"no IPv{request.version} pool of that name that node {request.node} may use"
    return Verdict(name, False, "exists", reason)


def _by_labels(
    request: AllocationRequest, subnet: str, labels: Labels, pools: Iterable[SpiderIPPool]
) -> tuple[list[SpiderIPPool], list[Verdict]]:
    found = [pool for pool in pools if labels.items() <= (pool.metadata.labels or {}).items()]
    if found:
        return sorted(found, key=lambda pool: pool.name), []
    reason = f"has no IPv{request.version} pool yet for {request.controller}, {request.interface}"
    return [], [Verdict(f"SpiderSubnet {subnet}", False, "exists", reason)]


def _judge(request: AllocationRequest, pool: SpiderIPPool) -> Verdict:
    """The first rule that drops the pool, or the verdict that keeps it."""
    for rule, reason in (*_not_allocating(request, pool), *_mismatches(request, pool)):
        if reason:
            return Verdict(pool.name, False, rule, reason)
    return Verdict(pool.name, True, "kept", "may serve this pod")


def _not_allocating(request: AllocationRequest, pool: SpiderIPPool) -> Iterable[tuple[str, str | None]]:
    """Rules that drop a pool for new addresses only, as (rule, reason or None)."""
    yield "terminating", "is being deleted" if pool.terminating else None
    yield "disable", "is disabled" if pool.spec.disable else None
    yield "eni", _other_eni(request, pool)


def _mismatches(request: AllocationRequest, pool: SpiderIPPool) -> Iterable[tuple[str, str | None]]:
    """Rules by which pool and pod must match, as (rule, reason or None)."""
    spec = pool.spec
    family = (
        None
        if version_of(pool) == request.version
        else f"is an IPv{version_of(pool)} pool; name IPv{request.version} pools"
    )
    yield "family", family
    yield (
        "node",
        _listed("node", spec.nodeName, request.node)
        or _selected(spec.nodeName, spec.nodeAffinity, request.node_labels, "node"),
    )
    yield (
        "namespace",
        _listed("namespace", spec.namespaceName, request.namespace)
        or _selected(spec.namespaceName, spec.namespaceAffinity, request.namespace_labels, "namespace"),
    )
    if is_automatic(pool):
        yield "application", _foreign_application(request, pool)
    else:
        yield "pod", _selected(None, spec.podAffinity, request.pod_labels, "pod")
        yield "network", _other_network(request, spec.multusName)


def _other_eni(request: AllocationRequest, pool: SpiderIPPool) -> str | None:
    """A new server may have the name of a lost one, whose pools are still there; the cloud would drop its frames."""
    if pool.eni is None or pool.eni in request.node_enis:
        return None
    return f"is for ENI {pool.eni}, which node {request.node} does not report"


def _foreign_application(request: AllocationRequest, pool: SpiderIPPool) -> str | None:
    """A pool made for one application serves only the pods of that application, on every network."""
    labels = (pool.spec.podAffinity or LabelSelector()).matchLabels or {}
    if request.controller is not None and application_affinity(request.controller).items() <= labels.items():
        return None
    return f"was made for another application than {request.controller or 'a bare pod'}"


def _other_network(request: AllocationRequest, names: list[str] | None) -> str | None:
    if names and request.network is None:
        return (
            f"is for network {', '.join(names)}, and no annotation or setting tells the network of {request.interface}"
        )
    allowed = [name if "/" in name else f"{request.our_namespace}/{name}" for name in names or ()]
    return _listed("network", allowed, request.network or "")


def _listed(noun: str, allowed: list[str] | None, actual: str) -> str | None:
    if not allowed or actual in allowed:
        return None
    return f"is for {noun} {', '.join(allowed)}, not {actual}"


def _selected(names: list[str] | None, selector: LabelSelector | None, labels: Labels, noun: str) -> str | None:
    """The reason a label selector drops the pool; a selector is ignored when names are given."""
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
