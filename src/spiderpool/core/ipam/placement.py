"""How many pods get addresses when they go to certain nodes, by counting what is free: nothing is claimed.

Which pools serve a pod on a node, and in which order, is decided before, by `selection` and `dry_run`. Here are their
numbers of addresses, so that thousands of nodes and pods cost seconds. As an agent does, a pod is given all of its
addresses or none, from the first pool that has one; addresses that cool down come last.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.pool_capacity import PoolCapacity


@dataclass(frozen=True, slots=True)
class NeededAddress:
    """A new address that a pod needs on a node."""

    slot: RequestKey
    pools: tuple[str, ...]
    """Names of the pools that may give it, in the order in which they are tried."""
    address: str | None = None
    """The only acceptable address, which one of the pools can give now; None: any."""
    counts: bool = True
    """Whether it counts for the quotas of the Namespace."""
    returns: bool = False
    """Whether it is one that the pod's owner had and that was released: no quota hinders that, if nobody has got it."""


@dataclass(frozen=True, slots=True)
class PodSite:
    """What a pod needs on a node."""

    needs: tuple[NeededAddress, ...] = ()
    refused: bool = False
    """Whether it is refused there, whatever is free."""

    @property
    def counted(self) -> int:
        """Addresses that count for quotas for certain."""
        return sum(need.counts and not need.returns for need in self.needs)


@dataclass(frozen=True, slots=True)
class PodGroup:
    """Pods that need the same."""

    name: str
    namespace: str
    count: int
    sites: Mapping[str, PodSite]
    """What each pod needs, by the nodes that may take it."""
    one_per_node: bool = False
    """Whether one pod goes to each of these nodes, as those of a DaemonSet do; ``count`` is their number."""


@dataclass(frozen=True, slots=True)
class QuotaRest:
    """What is left of the quotas of a Namespace."""

    left: int
    released: int = 0
    """Addresses that the Namespace has, and that pods get again: these are none beside those that it has."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is to give."""

    pools: Mapping[str, PoolCapacity]
    quotas: Mapping[str, QuotaRest] = field(default_factory=dict)
    """By Namespace; those without a quota are absent."""


@dataclass(frozen=True, slots=True)
class RefusedPods:
    """Pods of a group that are refused on a node."""

    group: PodGroup
    node: str
    need: NeededAddress | None
    """What is not there; None: nothing is left of a quota, or they are refused there whatever is free."""
    count: int


@dataclass(frozen=True, slots=True)
class RollOut:
    """What becomes of pods on certain nodes."""

    pods: Mapping[str, int]
    """Pods by node, the refused ones included."""
    free: Mapping[str, int]
    """Addresses that are left, by pool."""
    refused: tuple[RefusedPods, ...]

    @property
    def refused_count(self) -> int:
        """Pods that get no address."""
        return sum(each.count for each in self.refused)


class _Counts:
    """The addresses that are left while pods are placed, and what became of the pods."""

    def __init__(self, capacity: Capacity) -> None:
        self._free = {name: each.free for name, each in capacity.pools.items()}
        self._cooling = {name: each.cooling for name, each in capacity.pools.items()}
        self._quotas = {name: each.left for name, each in capacity.quotas.items()}
        self._requested: set[str] = set()  # very addresses that pods ask for and have got
        self.pods: Counter[str] = Counter()  # node → pods
        self._refused: Counter[tuple[int, str, NeededAddress | None]] = Counter()  # group, node, what it lacks → pods
        self._groups: dict[int, PodGroup] = {}  # those of them by ``id``

    def place(self, group: PodGroup, node: str) -> bool:
        """Whether a pod gets its addresses on a node, which are taken then."""
        site = group.sites[node]
        if site.refused or not self._within_quota(group, site) or self._take_all(site) is not None:
            return False
        self.pods[node] += 1
        if site.counted and group.namespace in self._quotas:
            self._quotas[group.namespace] -= site.counted
        return True

    def refuse(self, group: PodGroup, node: str, count: int = 1) -> None:
        """Note pods that were refused on a node."""
        site = group.sites[node]
        blocked = site.refused or not self._within_quota(group, site)
        self.pods[node] += count
        self._groups[id(group)] = group
        self._refused[id(group), node, None if blocked else self._take_all(site)] += count

    def _within_quota(self, group: PodGroup, site: PodSite) -> bool:
        return not site.counted or self._quotas.get(group.namespace, 1) > 0

    def _take_all(self, site: PodSite) -> NeededAddress | None:
        """Take all addresses of a pod, or none: then the first that is not there is returned."""
        taken: list[tuple[dict[str, int], str, str | None]] = []
        for need in site.needs:
            found = self._take(need)
            if found is None:
                for counts, pool, address in taken:
                    counts[pool] += 1
                    self._requested.discard(address or "")
                return need
            taken.append((*found, need.address))
        return None

    def _take(self, need: NeededAddress) -> tuple[dict[str, int], str] | None:
        if need.address in self._requested:
            return None
        for counts in (self._free, self._cooling):
            for pool in need.pools:
                if counts[pool] > 0:
                    counts[pool] -= 1
                    self._requested |= {need.address} if need.address else set()
                    return counts, pool
        return None

    def result(self) -> RollOut:
        """What has become of the pods."""
        refused = (
            RefusedPods(self._groups[key], node, need, count) for (key, node, need), count in self._refused.items()
        )
        free = {name: count + self._cooling[name] for name, count in self._free.items()}
        return RollOut(self.pods, free, tuple(refused))


def roll_out(capacity: Capacity, pods: Iterable[tuple[PodGroup, str]]) -> RollOut:
    """What becomes of pods, each with its node, in this order."""
    counts = _Counts(capacity)
    for group, node in pods:
        if not counts.place(group, node):
            counts.refuse(group, node)
    return counts.result()


def even(groups: Iterable[PodGroup], capacity: Capacity) -> RollOut:
    """The pods are spread: each goes to a node with the fewest of them."""
    counts = _Counts(capacity)
    for group in groups:
        for node in _spread(group, counts.pods):
            if not counts.place(group, node):
                counts.refuse(group, node)
    return counts.result()


def _spread(group: PodGroup, pods: Mapping[str, int]) -> Iterator[str]:
    """The node of each pod of a group, beside ``pods`` that the nodes have already."""
    if group.one_per_node:
        yield from group.sites
        return
    nodes = [(pods.get(node, 0), node) for node in group.sites]
    heapq.heapify(nodes)
    for _ in range(group.count if nodes else 0):
        number, node = nodes[0]
        heapq.heapreplace(nodes, (number + 1, node))
        yield node


def favourable(groups: Iterable[PodGroup], capacity: Capacity) -> RollOut:
    """Each pod goes to a node where it gets its addresses, while there is one; among these they are spread."""
    counts = _Counts(capacity)
    for group in sorted(groups, key=lambda each: (not each.one_per_node, _reach(each, capacity))):
        if group.one_per_node:
            for node in group.sites:
                if not counts.place(group, node):
                    counts.refuse(group, node)
        elif group.sites:
            _place_where_possible(group, counts)
    return counts.result()


def _reach(group: PodGroup, capacity: Capacity) -> int:
    """The addresses of all pools that may serve a group: those with the least choice come first."""
    pools = {pool for site in group.sites.values() for need in site.needs for pool in need.pools}
    return sum(capacity.pools[pool].most for pool in pools)


def _place_where_possible(group: PodGroup, counts: _Counts) -> None:
    nodes = [(counts.pods[node], node) for node in group.sites]
    heapq.heapify(nodes)
    placed = 0
    while nodes and placed < group.count:
        number, node = nodes[0]
        if counts.place(group, node):
            placed += 1
            heapq.heapreplace(nodes, (number + 1, node))
        else:  # it will refuse them from now on
            heapq.heappop(nodes)
    if placed < group.count:
        counts.refuse(group, next(iter(group.sites)), group.count - placed)


def unfavourable(groups: Sequence[PodGroup], capacity: Capacity) -> RollOut:
    """All pods of a group go to the node that has the fewest addresses for them; the worst order that is found."""
    found = []
    sites = {id(group.sites): group.sites for group in groups}
    worst = {key: _worst_node(each, capacity) for key, each in sites.items()}
    for sign in (1, -1):
        counts = _Counts(capacity)
        for group in sorted(groups, key=lambda each: (each.one_per_node, sign * _most_needs(each))):
            same = itertools.repeat(worst[id(group.sites)], group.count if group.sites else 0)
            for node in group.sites if group.one_per_node else same:
                if not counts.place(group, node):
                    counts.refuse(group, node)
        found.append(counts.result())
    return max(found, key=lambda each: each.refused_count)


def _most_needs(group: PodGroup) -> int:
    return max((len(site.needs) for site in group.sites.values()), default=0)


def _worst_node(sites: Mapping[str, PodSite], capacity: Capacity) -> str:
    return min(sites, key=lambda node: (_room(sites[node], capacity), node), default="")


def _room(site: PodSite, capacity: Capacity) -> float:
    """About how many pods fit on a node."""
    if site.refused:
        return -1
    rooms = []
    for need in site.needs:
        same = sum(not set(need.pools).isdisjoint(other.pools) for other in site.needs)
        rooms.append(sum(capacity.pools[pool].most for pool in need.pools) / max(same, 1))
    return min(rooms, default=float("inf"))
