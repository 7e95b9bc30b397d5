"""The AllocationRequests of a pod: one per interface and address family, each with its candidate pools.

The sources that may name pools, in order of priority: the pod's annotations (``subnets`` or ``subnet``, ``ippools``,
``ippool``), the Namespace's annotations, the ``ipam`` block of the network, the cluster's default pools. The first
source that names anything decides, even if its pools turn out to be full or not to exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TypeAlias

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.ip import IPOwner
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.core import annotations as pod_annotations
from spiderpool.core.annotations import POOL, POOLS, Annotations, Names, Route
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.owners import Controller, application_labels
from spiderpool.core.ipam.selection import (
    DEFAULT_SOURCE,
    AllocationRequest,
    ApplicationPool,
    Candidates,
    DefaultPools,
    NamedPools,
    Verdict,
    version_of,
)
from spiderpool.core.labels import Labels
from spiderpool.errors import BadConfig

FAMILIES = (4, 6)

RequestKey: TypeAlias = tuple[str, int]
"""(interface, address family): what a pod has at most one address for."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The settings that decide which sources and families count."""

    families: tuple[int, ...] = (4,)
    """Enabled address families, 4 and 6."""
    subnets: bool = True
    """Whether SpiderSubnets are enabled."""
    automatic: bool = True
    """Whether pools are made automatically for applications."""
    namespace: str = "kube-system"
    """The agent's own Namespace, in which networks are looked up that are named without one."""


@dataclass(frozen=True, slots=True)
class InterfaceNetworks:
    """The network of each interface of a pod, in the order of its annotations, the first interface first."""

    names: tuple[tuple[str, str | None], ...]
    """(interface, ``namespace/name`` of its network or None when it is not known)."""

    def network(self, interface: str) -> str | None:
        """``namespace/name`` of the interface's network, by its first mention; None when it is not known."""
        return next((network for name, network in self.names if name == interface), None)

    def position(self, interface: str) -> int | None:
        """0 for the first interface, 1 for the next, ...; None for an interface that no annotation names."""
        names = [name for name, _ in self.names]
        return names.index(interface) if interface in names else None


@dataclass(frozen=True, slots=True)
class PodContext:
    """What is known of a pod when it asks for addresses: identity, labels, annotations, networks, owners."""

    namespace: str
    name: str
    uid: str
    node: str
    networks: InterfaceNetworks
    holding: tuple[str, ...] = ()
    """Interfaces that hold addresses already, in the order in which they got them."""
    annotations: Annotations = field(default_factory=dict)
    namespace_annotations: Annotations = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)
    owner: IPOwner | None = None
    """The StatefulSet or virtual machine that keeps the addresses."""
    controller: Controller | None = None
    """The top controller; must be known where :func:`needs_controller` is true."""


@dataclass(frozen=True, slots=True)
class InterfaceRequest:
    """An interface that needs addresses, by the ``ipam`` block of its network."""

    interface: str
    config: IPAMConfig
    ips: tuple[str, ...] = ()
    """Addresses that the pod asks for, without prefix lengths; at most one per family."""

    @property
    def pools(self) -> Names:
        """Pools that the network's configuration names, by family."""
        named = {4: self.config.default_ipv4_ippool, 6: self.config.default_ipv6_ippool}
        return {version: tuple(names) for version, names in named.items() if names}


@dataclass(frozen=True, slots=True)
class PoolSource:
    """The source that decides for one interface, and its candidate pools by family."""

    interface: str
    name: str
    """The source in words, for error messages and events."""
    candidates: Mapping[int, Candidates]
    clean_gateway: bool = False
    dropped: tuple[Verdict, ...] = ()
    """The verdicts on disabled families of the source, for all interfaces that it names."""


@dataclass(frozen=True, slots=True)
class AllocationPlan:
    """The requests of a pod, which are granted all or none."""

    requests: Mapping[RequestKey, AllocationRequest]
    sources: tuple[PoolSource, ...]
    routes: tuple[Route, ...]
    """Further routes that the pod's annotation asks for."""
    trace: tuple[Verdict, ...]
    """The verdict on every source and family."""

    @property
    def awaits_pool(self) -> bool:
        """Whether a candidate is a pool that the controller may still be making."""
        return any(isinstance(request.candidates, ApplicationPool) for request in self.requests.values())

    def clean_gateway(self, interface: str) -> bool:
        """Whether the interface's gateway serves no default route."""
        return any(source.clean_gateway for source in self.sources if source.interface == interface)

    def families(self, interface: str) -> tuple[int, ...]:
        """Address families that an interface is to get."""
        return tuple(version for name, version in self.requests if name == interface)


def needs_controller(pod: Annotations, policy: AddressPolicy) -> bool:
    """Whether a pod asks for a pool cut from a SpiderSubnet, so that its top controller must be known."""
    return policy.subnets and (SUBNETS_ANNOTATION in pod or SUBNET_ANNOTATION in pod)


def allocation_plan(
    pod: PodContext, interfaces: Sequence[InterfaceRequest], policy: AddressPolicy, pools: Sequence[SpiderIPPool]
) -> AllocationPlan:
    """The requests of some interfaces of a pod; an annotation may add interfaces that were not asked for.

    Raises BadConfig for an annotation or configuration that cannot be served.
    """
    routes = pod_annotations.custom_routes(pod.annotations)
    sources: list[PoolSource] = []
    trace: list[Verdict] = []
    for interface in interfaces:
        found, verdicts = _deciding_source(_InterfaceContext(pod, interface, policy), pools)
        sources += found
        trace += verdicts
    requests: dict[RequestKey, AllocationRequest] = {}
    for source in sources:
        for version in sorted(source.candidates):
            requests.setdefault((source.interface, version), _request(pod, source, version, policy))
    return AllocationPlan(_with_addresses(requests, interfaces), tuple(sources), routes, tuple(trace))


def with_controller(plan: AllocationPlan, controller: Controller | None) -> AllocationPlan:
    """The plan with the pod's top controller in every request."""
    return replace(plan, requests={key: replace(each, controller=controller) for key, each in plan.requests.items()})


def check_served(plan: AllocationPlan, pod: PodContext, policy: AddressPolicy) -> None:
    """Raises Refused where an interface that holds no address is left without any enabled family.

    An interface that gets nothing means that the pod gets nothing.
    """
    for source in plan.sources:
        if source.candidates or source.interface in pod.holding:
            continue
        version = 6 if policy.families == (6,) or (source.dropped and policy.families == (4,)) else 4
        raise allocation.refusal(_request(pod, source, version, policy), source.dropped)


def _request(pod: PodContext, source: PoolSource, version: int, policy: AddressPolicy) -> AllocationRequest:
    return AllocationRequest(
        namespace=pod.namespace,
        pod=pod.name,
        pod_uid=pod.uid,
        interface=source.interface,
        node=pod.node,
        network=pod.networks.network(source.interface),
        version=version,
        source=source.name,
        candidates=source.candidates.get(version, DefaultPools()),
        our_namespace=policy.namespace,
        pod_labels=pod.labels,
        namespace_labels=pod.namespace_labels,
        node_labels=pod.node_labels,
        controller=pod.controller,
        owner=pod.owner,
    )


def _with_addresses(
    requests: dict[RequestKey, AllocationRequest], interfaces: Iterable[InterfaceRequest]
) -> dict[RequestKey, AllocationRequest]:
    """The requests with the addresses that a pod asks for. Raises BadConfig for one that cannot be given."""
    for interface in interfaces:
        for address in interface.ips:
            key = interface.interface, ip_address(address).version
            request = requests.get(key)
            if request is None:
                raise BadConfig(f"{key[0]} asks for {address}, but nobody names IPv{key[1]} pools for it")
            if request.address is not None:
                raise BadConfig(f"{key[0]} asks for {request.address} and {address}; one address of a family is given")
            requests[key] = replace(request, address=address)
    return requests


@dataclass(frozen=True, slots=True)
class _InterfaceContext:
    """What the sources of one interface depend on."""

    pod: PodContext
    request: InterfaceRequest
    policy: AddressPolicy

    @property
    def interface(self) -> str:
        return self.request.interface

    @property
    def position(self) -> int:
        """Which of the pod's interfaces this is: by its annotations, else by the order of the calls."""
        known = self.pod.networks.position(self.interface)
        return (*self.pod.holding, self.interface).index(self.interface) if known is None else known

    def source(self, name: str, candidates: Mapping[int, Candidates]) -> tuple[PoolSource, ...]:
        return (PoolSource(self.interface, name, candidates, self.request.config.clean_gateway),)


def _deciding_source(
    about: _InterfaceContext, pools: Iterable[SpiderIPPool]
) -> tuple[tuple[PoolSource, ...], list[Verdict]]:
    """The first source that names pools, without the families that are disabled, and the verdicts on the way there."""
    trace: list[Verdict] = []
    sources = _sources(about, pools)
    while isinstance(found := next(sources), Verdict):
        trace.append(found)
    priority = len(trace) + 1
    trace.append(Verdict(found[0].name, True, "source", f"decides, as number {priority} in order of priority"))
    kept, dropped = _enabled(found, about.policy.families)
    return kept, [*trace, *dropped]


def _sources(about: _InterfaceContext, pools: Iterable[SpiderIPPool]) -> Iterator[tuple[PoolSource, ...] | Verdict]:
    """The sources in order of priority; a verdict says why one is skipped. The last one always names pools."""
    yield _subnet_annotation(about)
    yield _pools_annotation(about)
    yield _pool_annotation(about)
    # Read only now: malformed annotations of the Namespace must not hinder pods whose own annotations decide.
    namespace = pod_annotations.namespace_pools(about.pod.namespace_annotations)
    yield _named(about, namespace, "the default pools of the Namespace's annotations")
    yield _named(about, about.request.pools, "the network's configuration")
    yield about.source(DEFAULT_SOURCE, _default_candidates(pools))


def _subnet_annotation(about: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    pod = about.pod.annotations
    plural = SUBNETS_ANNOTATION in pod
    key = SUBNETS_ANNOTATION if plural else SUBNET_ANNOTATION
    listed = pod_annotations.all_interface_subnets(pod) if about.policy.subnets else None
    if listed is None:
        off = key in pod
        return _skipped(key, "has no effect: enableSpiderSubnet is false in the ConfigMap" if off else "is not set")
    if not about.policy.automatic:
        raise BadConfig(
            f"annotation {key} cannot be served: enableAutoPoolForApplication is false in the ConfigMap; remove it"
        )
    if not plural and listed[0].interface != about.interface:
        return _skipped(key, f"is for {listed[0].interface}, not {about.interface}")
    controller = about.pod.controller
    if controller is None:
        raise BadConfig(f"annotation {key} is for pods of a workload; a bare pod gets its address by ippool")
    names = pod_annotations.entry_for(listed, key, about.interface, about.position).names
    candidates = {
        version: ApplicationPool(subnet, application_labels(controller, subnet, about.interface, version))
        for version, (subnet, *_) in names.items()
    }
    return about.source(_annotation(key), candidates)


def _pools_annotation(about: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    """With interface names in it, the annotation decides for all of them at once; without, for the next interface."""
    listed = pod_annotations.all_interface_pools(about.pod.annotations)
    if listed is None:
        return _skipped(POOLS, "is not set")
    own = pod_annotations.entry_for(listed, POOLS, about.interface, about.position)
    chosen = listed if own.interface else (replace(own, interface=about.interface),)
    source = _annotation(POOLS)
    return tuple(PoolSource(each.interface, source, _by_name(each.names), each.clean_gateway) for each in chosen)


def _pool_annotation(about: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    named = pod_annotations.interface_pools(about.pod.annotations, about.interface)
    return _named(about, named.names, _annotation(POOL)) if named else _skipped(POOL, "is not set")


def _named(about: _InterfaceContext, names: Names, source: str) -> tuple[PoolSource, ...] | Verdict:
    return about.source(source, _by_name(names)) if names else Verdict(source, False, "source", "names no pools")


def _by_name(names: Names) -> dict[int, Candidates]:
    return {version: NamedPools(tuple(listed)) for version, listed in names.items()}


def _default_candidates(pools: Iterable[SpiderIPPool]) -> dict[int, Candidates]:
    """Every family that has a default pool."""
    versions = {version_of(pool) for pool in pools if pool.spec.default}
    return {version: DefaultPools() for version in FAMILIES if version in versions}


def _annotation(key: str) -> str:
    return f"annotation {key}"


def _skipped(key: str, reason: str) -> Verdict:
    return Verdict(_annotation(key), False, "source", reason)


def _enabled(
    sources: tuple[PoolSource, ...], families: tuple[int, ...]
) -> tuple[tuple[PoolSource, ...], tuple[Verdict, ...]]:
    """The sources without candidates of disabled families, and a verdict for each family that was dropped."""
    dropped = tuple(
        _disabled_family(source, version)
        for source in sources
        for version in source.candidates
        if version not in families
    )
    kept = (
        replace(
            source,
            candidates={version: pools for version, pools in source.candidates.items() if version in families},
            dropped=dropped,
        )
        for source in sources
    )
    return tuple(kept), dropped


def _disabled_family(source: PoolSource, version: int) -> Verdict:
    subject = f"IPv{version} pools of {source.name} for {source.interface}"
    return Verdict(subject, False, "family", f"enableIPv{version} is false in the ConfigMap")
