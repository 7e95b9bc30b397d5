"""The AllocationRequests of a pod: one per interface and address family, each with its candidate pools.

The sources that may name pools, in order of priority: the pod's annotations (``subnets`` or ``subnet``, ``ippools``,
``ippool``), the Namespace's annotations, the ``ipam`` block of the network, the cluster's default pools. The first
source that names anything decides, even if its pools turn out to be full or not to exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeAlias

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.core import annotations as pod_annotations
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.annotations import POOL, POOLS, Names, Route
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.owners import Controller, application_labels
from spiderpool.core.ipam.pod_context import AddressPolicy, InterfaceRequest, PodContext
from spiderpool.core.ipam.selection import (
    DEFAULT_SOURCE,
    AllocationRequest,
    ApplicationPool,
    Candidates,
    DefaultPools,
    NamedPools,
    Verdict,
    concerns_application,
    version_of,
)
from spiderpool.errors import BadConfig, Refused

RequestKey: TypeAlias = tuple[str, int]
"""(interface, address family): what a pod has at most one address for."""


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
    """One for each interface and enabled family."""
    sources: tuple[PoolSource, ...]
    routes: tuple[Route, ...]
    """Further routes that the pod's annotation asks for."""
    trace: tuple[Verdict, ...]
    """The verdict on every source and family."""
    needs_controller: bool
    """Whether a candidate belongs to an application, so that the pod's top controller must be known."""
    unserved: Refused | None
    """The refusal of an interface that holds no address and is left without any enabled family."""

    @property
    def awaits_pool(self) -> bool:
        """Whether a candidate is a pool that the controller may still be making."""
        return any(isinstance(request.candidates, ApplicationPool) for request in self.requests.values())

    def grants(
        self, interface: str, records: Mapping[RequestKey, SpiderIP], pools: Mapping[str, SpiderIPPool]
    ) -> tuple[Grant, ...]:
        """What an interface is granted by the records that it holds, IPv4 first; ``pools`` are theirs, by name."""
        clean = any(source.clean_gateway for source in self.sources if source.interface == interface)
        return tuple(
            allocation.grant(records[key], pools[records[key].spec.pool], clean_gateway=clean, routes=self.routes)
            for key in sorted(records)
            if key[0] == interface
        )

    def families(self, interface: str) -> tuple[int, ...]:
        """Address families that an interface is to get."""
        return tuple(version for name, version in self.requests if name == interface)


def allocation_plan(
    pod: PodContext, interfaces: Sequence[InterfaceRequest], policy: AddressPolicy, pools: Sequence[SpiderIPPool]
) -> AllocationPlan:
    """The requests of some interfaces of a pod, and of further interfaces that the annotation ``ippools`` names.

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
    requests = _with_addresses(requests, interfaces)
    return AllocationPlan(
        requests,
        tuple(sources),
        routes,
        tuple(trace),
        needs_controller=pod.controller is None and any(concerns_application(one, pools) for one in requests.values()),
        unserved=_unserved(pod, sources, policy),
    )


def check_plan(
    pod: PodContext, interface: InterfaceRequest, policy: AddressPolicy, pools: Sequence[SpiderIPPool]
) -> AllocationPlan:
    """The plan that an interface is compared with at CHECK, whatever addresses the pod asks for.

    The pod may hold them from pools that no source names any more. Raises BadConfig as `allocation_plan`.
    """
    return allocation_plan(pod, [replace(interface, ips=())], policy, pools)


def with_controller(plan: AllocationPlan, controller: Controller | None) -> AllocationPlan:
    """The plan with the pod's top controller in every request."""
    return replace(plan, requests={key: replace(each, controller=controller) for key, each in plan.requests.items()})


def _unserved(pod: PodContext, sources: Iterable[PoolSource], policy: AddressPolicy) -> Refused | None:
    """The refusal of the first interface that would get nothing: then the pod gets nothing."""
    for source in sources:
        if not source.candidates and source.interface not in pod.holding:
            version = 6 if policy.families == (6,) or (source.dropped and policy.families == (4,)) else 4
            return allocation.refusal(_request(pod, source, version, policy), source.dropped)
    return None


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
        candidates=source.candidates.get(version, DefaultPools()),  # the default is for the refusal of check_served
        our_namespace=policy.namespace,
        pod_labels=pod.labels,
        namespace_labels=pod.namespace_labels,
        node_labels=pod.node_labels,
        node_enis=pod.node_enis,
        controller=pod.controller,
        owner=pod.owner,
        migrating=pod.migrating,
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
    context: _InterfaceContext, pools: Iterable[SpiderIPPool]
) -> tuple[tuple[PoolSource, ...], list[Verdict]]:
    """The first source that names pools, and the verdicts on it and on those before it; leaves out disabled families.

    There is one PoolSource per interface, since the annotation ``ippools`` may decide for several interfaces at once.
    """
    trace: list[Verdict] = []
    sources = _sources(context, pools)
    while isinstance(found := next(sources), Verdict):
        trace.append(found)
    priority = len(trace) + 1
    trace.append(Verdict(found[0].name, True, "source", f"decides, as number {priority} in order of priority"))
    kept, dropped = _enabled(found, context.policy.families)
    return kept, [*trace, *dropped]


def _sources(context: _InterfaceContext, pools: Iterable[SpiderIPPool]) -> Iterator[tuple[PoolSource, ...] | Verdict]:
    """The sources in order of priority; a verdict says why one is skipped. The last one always names pools."""
    yield _subnet_annotation(context)
    yield _pools_annotation(context)
    yield _pool_annotation(context)
    # Read only now: malformed annotations of the Namespace must not hinder pods whose own annotations decide.
    namespace = pod_annotations.namespace_pools(context.pod.namespace_annotations)
    yield _named(context, namespace, "the default pools of the Namespace's annotations")
    yield _named(context, _configured(context), "the network's configuration")
    yield context.source(DEFAULT_SOURCE, _default_candidates(pools))


def _configured(context: _InterfaceContext) -> Names:
    """The pools of the network's configuration, which whoever may make networks in a Namespace has written."""
    names = context.request.pools
    if (most := max(map(len, names.values()), default=0)) > pod_annotations.MOST_NAMES:
        limit = pod_annotations.MOST_NAMES
        raise BadConfig(
            f"the network of {context.interface} names {most} pools of a family; at most {limit} are possible"
        )
    pod_annotations.check_patterns(f"the network of {context.interface}", names.values())
    return names


def _subnet_annotation(context: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    pod = context.pod.annotations
    plural = SUBNETS_ANNOTATION in pod
    key = SUBNETS_ANNOTATION if plural else SUBNET_ANNOTATION
    listed = pod_annotations.all_interface_subnets(pod) if context.policy.subnets else None
    if listed is None:
        off = key in pod
        return _skipped(key, "has no effect: enableSpiderSubnet is false in the ConfigMap" if off else "is not set")
    if not context.policy.automatic:
        raise BadConfig(
            f"annotation {key} cannot be served: enableAutoPoolForApplication is false in the ConfigMap; remove it"
        )
    if not plural and listed[0].interface != context.interface:
        return _skipped(key, f"is for {listed[0].interface}, not {context.interface}")
    controller = context.pod.controller
    if controller is None:
        raise BadConfig(f"annotation {key} is for pods of a workload; a bare pod gets its address by ippool")
    names = pod_annotations.entry_for(listed, key, context.interface, context.position).names
    candidates = {
        version: ApplicationPool(subnet, application_labels(controller, subnet, context.interface, version))
        for version, (subnet, *_) in names.items()
    }
    return context.source(_annotation(key), candidates)


def _pools_annotation(context: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    """With interface names in it, the annotation decides for all of them at once; without, for the next interface."""
    listed = pod_annotations.all_interface_pools(context.pod.annotations)
    if listed is None:
        return _skipped(POOLS, "is not set")
    own = pod_annotations.entry_for(listed, POOLS, context.interface, context.position)
    chosen = listed if own.interface else (replace(own, interface=context.interface),)
    source = _annotation(POOLS)
    return tuple(PoolSource(each.interface, source, _by_name(each.names), each.clean_gateway) for each in chosen)


def _pool_annotation(context: _InterfaceContext) -> tuple[PoolSource, ...] | Verdict:
    named = pod_annotations.interface_pools(context.pod.annotations, context.interface)
    return _named(context, named.names, _annotation(POOL)) if named else _skipped(POOL, "is not set")


def _named(context: _InterfaceContext, names: Names, source: str) -> tuple[PoolSource, ...] | Verdict:
    return context.source(source, _by_name(names)) if names else Verdict(source, False, "source", "names no pools")


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
