"""Who names the pools from which a pod gets its addresses.

In order of priority: the pod's annotations (subnets or subnet, ippools, ippool), its Namespace's annotations, the
network's configuration, the cluster's default pools. The first that says anything decides, for better or worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.core.annotations import (
    POOL,
    POOLS,
    Annotations,
    Names,
    Route,
    all_interface_pools,
    all_interface_subnets,
    custom_routes,
    entry_for,
    interface_pools,
    namespace_pools,
)
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
from spiderpool.core.network.pod_networks import Interfaces
from spiderpool.errors import BadConfig

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides who names the pools of an interface, beside the pod itself."""

    interface: str
    interfaces: Interfaces
    attached: tuple[str, ...] = ()
    """Interfaces of the pod that hold addresses already, in the order in which they got them."""
    pod: Annotations = field(default_factory=dict)
    namespace: Annotations = field(default_factory=dict)
    configured: Names = field(default_factory=dict)
    """Pools that the network's configuration names."""
    clean_gateway: bool = False
    families: tuple[int, ...] = (4,)
    """Families that the settings enable."""
    subnets: bool = True
    automatic: bool = True
    controller: Controller | None = None
    """Needed where :func:`wants_application_pool` says so."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one interface shall get: for each family, from which pools."""

    interface: str
    source: str
    candidates: Mapping[int, Candidates]
    clean_gateway: bool = False


@dataclass(frozen=True, slots=True)
class Demands:
    """The interfaces that get their addresses at once, all or none, and the verdict on every source."""

    each: tuple[Demand, ...]
    routes: tuple[Route, ...]
    trace: tuple[Verdict, ...]

    @property
    def may_be_made(self) -> bool:
        """Whether a pool of an application is among the candidates, which the controller may still be making."""
        return any(isinstance(one, ApplicationPool) for demand in self.each for one in demand.candidates.values())


def wants_application_pool(pod: Annotations, *, subnets: bool) -> bool:
    """Whether a pod asks for a pool cut from a SpiderSubnet, so that its top controller must be known."""
    return subnets and (SUBNETS_ANNOTATION in pod or SUBNET_ANNOTATION in pod)


def demands(about: Circumstances, pools: Iterable[SpiderIPPool]) -> Demands:
    """Who names the pools, in order of priority: the first that says anything decides. Raises BadConfig."""
    routes = custom_routes(about.pod)
    trace: list[Verdict] = []
    sources = _sources(about, pools)
    while isinstance(found := next(sources), Verdict):
        trace.append(found)
    kept, dropped = _enabled(found, about.families)
    chosen = Verdict(found[0].source, True, "source", f"decides, as number {len(trace) + 1} in order of priority")
    return Demands(kept, routes, (*trace, chosen, *dropped))


def asks_of(ask: AllocationRequest, demand: Demand, interfaces: Interfaces) -> tuple[AllocationRequest, ...]:
    """One ask for each family of a demand; ``ask`` tells of the pod."""
    network = ask.network if demand.interface == ask.interface else interfaces.network(demand.interface)
    return tuple(
        replace(
            ask,
            interface=demand.interface,
            network=network,
            version=version,
            source=demand.source,
            candidates=demand.candidates[version],
        )
        for version in sorted(demand.candidates)
    )


def with_requested(asks: Iterable[AllocationRequest], wanted: Mapping[str, tuple[str, ...]]) -> list[AllocationRequest]:
    """The asks with the addresses that a pod wants on its interfaces. Raises BadConfig for what cannot be had."""
    found = {(ask.interface, ask.version): ask for ask in asks}
    for interface, addresses in wanted.items():
        for address in addresses:
            key = interface, ip_address(address).version
            ask = found.get(key)
            if ask is None:
                raise BadConfig(f"{interface} asks for {address}, but nobody names IPv{key[1]} pools for it")
            if ask.address is not None:
                raise BadConfig(f"{interface} asks for {ask.address} and {address}; one address of a family is given")
            found[key] = replace(ask, address=address)
    return list(found.values())


def _sources(about: Circumstances, pools: Iterable[SpiderIPPool]) -> Iterator[tuple[Demand, ...] | Verdict]:
    """In order of priority; a verdict says why a source is passed over. The last one always answers."""
    yield _subnet_source(about)
    yield _pools_source(about)
    yield _pool_source(about)
    yield _names_source(about, namespace_pools(about.namespace), "the default pools of the Namespace's annotations")
    yield _names_source(about, about.configured, "the network's configuration")
    yield (Demand(about.interface, DEFAULT_SOURCE, _default_candidates(pools), about.clean_gateway),)


def _subnet_source(about: Circumstances) -> tuple[Demand, ...] | Verdict:
    plural = SUBNETS_ANNOTATION in about.pod
    key = SUBNETS_ANNOTATION if plural else SUBNET_ANNOTATION
    wishes = all_interface_subnets(about.pod) if about.subnets else None
    if wishes is None:
        off = key in about.pod
        return _passed(key, "has no effect: enableSpiderSubnet is false in the ConfigMap" if off else "is not set")
    if not about.automatic:
        raise BadConfig(
            f"annotation {key} cannot be served: enableAutoPoolForApplication is false in the ConfigMap; remove it"
        )
    if not plural and wishes[0].interface != about.interface:
        return _passed(key, f"is for {wishes[0].interface}, not {about.interface}")
    if about.controller is None:
        raise BadConfig(f"annotation {key} is for pods of a workload; a bare pod gets its address by ippool")
    wish = entry_for(wishes, key, about.interface, _position(about))
    candidates = {version: _application_pool(about, version, names[0]) for version, names in wish.names.items()}
    return (Demand(about.interface, _annotation(key), candidates, about.clean_gateway),)


def _application_pool(about: Circumstances, version: int, subnet: str) -> ApplicationPool:
    assert about.controller is not None
    return ApplicationPool(subnet, application_labels(about.controller, subnet, about.interface, version))


def _pools_source(about: Circumstances) -> tuple[Demand, ...] | Verdict:
    """All listed interfaces at once where they have names, the next one where they have none."""
    wishes = all_interface_pools(about.pod)
    if wishes is None:
        return _passed(POOLS, "is not set")
    mine = entry_for(wishes, POOLS, about.interface, _position(about))
    source = _annotation(POOLS)
    chosen = wishes if mine.interface else (replace(mine, interface=about.interface),)
    return tuple(Demand(wish.interface, source, _named(wish.names), wish.clean_gateway) for wish in chosen)


def _pool_source(about: Circumstances) -> tuple[Demand, ...] | Verdict:
    wish = interface_pools(about.pod, about.interface)
    if wish is None:
        return _passed(POOL, "is not set")
    return _names_source(about, wish.names, _annotation(POOL))


def _names_source(about: Circumstances, names: Names, source: str) -> tuple[Demand, ...] | Verdict:
    if not names:
        return Verdict(source, False, "source", "names no pools")
    return (Demand(about.interface, source, _named(names), about.clean_gateway),)


def _named(names: Names) -> dict[int, Candidates]:
    return {version: NamedPools(tuple(each)) for version, each in names.items()}


def _default_candidates(pools: Iterable[SpiderIPPool]) -> dict[int, Candidates]:
    """Every family that has a default pool."""
    versions = {version_of(pool) for pool in pools if pool.spec.default}
    return {version: DefaultPools() for version in FAMILIES if version in versions}


def _position(about: Circumstances) -> int:
    """Which of the pod's interfaces this is: as its annotation tells, else by the order of the calls."""
    told = about.interfaces.position(about.interface)
    if told is not None:
        return told
    return (*about.attached, about.interface).index(about.interface)


def _annotation(key: str) -> str:
    return f"annotation {key}"


def _passed(key: str, reason: str) -> Verdict:
    return Verdict(_annotation(key), False, "source", reason)


def _enabled(found: tuple[Demand, ...], families: tuple[int, ...]) -> tuple[tuple[Demand, ...], tuple[Verdict, ...]]:
    kept, dropped = [], []
    for demand in found:
        kept.append(replace(demand, candidates={v: c for v, c in demand.candidates.items() if v in families}))
        dropped += [_disabled_family(demand, version) for version in demand.candidates if version not in families]
    return tuple(kept), tuple(dropped)


def _disabled_family(demand: Demand, version: int) -> Verdict:
    subject = f"IPv{version} pools of {demand.source} for {demand.interface}"
    return Verdict(subject, False, "family", f"enableIPv{version} is false in the ConfigMap")
