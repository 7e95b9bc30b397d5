"""How many pods are refused at least and at most, whatever nodes the scheduler chooses and in whatever order they come.

Both numbers hold for every placement. For pods of one kind that need one address each they are exact; where pods of
several kinds share pools, or need several addresses, they may be wider than what any placement does.

- At least: every pod that is served takes an address of the pools that may serve it, no two pods the same one. So no
  more pods are served than a largest flow from groups of pods to pools. It is computed for several choices of the
  addresses that are looked at, each of which is a bound, and the smallest counts.
- At most: a pod is refused only when pods that are served have taken every address of the pools that may serve one of
  its interfaces. That takes so many pods; until then nobody is refused.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.placement import Capacity, NeededAddress, PodGroup, PodSite, QuotaRest

Choice: TypeAlias = Callable[[PodSite], tuple[NeededAddress, ...]]
"""Which addresses of a pod on a node are looked at."""
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Bounds:
    """Pods that are refused in every placement, and in no placement more."""

    least: int
    most: int


def bounds(groups: Sequence[PodGroup], capacity: Capacity) -> Bounds:
    """How many pods are refused; those that no node may take are not among them."""
    placed = _merged(each for each in groups if each.sites)
    pods = sum(each.count for each in placed)
    return Bounds(pods - _most_served(placed, capacity), pods - _least_served(placed, capacity))


def _merged(groups: Iterable[PodGroup]) -> list[PodGroup]:
    """Groups that share their sites as one: a hundred workloads of a drained node mostly need the same."""
    found: dict[tuple[str, int], PodGroup] = {}
    for group in groups:
        key = group.namespace, id(group if group.one_per_node else group.sites)
        found[key] = replace(group, count=found[key].count + group.count) if key in found else group
    return list(found.values())


# --- at least


def _most_served(groups: Sequence[PodGroup], capacity: Capacity) -> int:
    sources = [source for group in groups for source in _sources(group)]
    slots = {need.slot for _, sites in sources for site in sites for need in site.needs}
    choices = [_all, _scarcest(capacity), *(_of_slots({slot}) for slot in slots)]
    for position in (0, 1):
        parts = {slot[position] for slot in slots}
        choices += [_of_slots({slot for slot in slots if slot[position] == part}) for part in parts]
    served = [_served_by_flow(sources, capacity, choice) for choice in choices]
    return min(*served, _served_by_quotas(groups, capacity))


def _sources(group: PodGroup) -> Iterator[tuple[PodGroup, Sequence[PodSite]]]:
    """Pods that have the same nodes to go to: a group, or each pod of a group that has one on each node."""
    if group.one_per_node:
        yield from ((group, [site]) for site in group.sites.values())
    else:
        yield group, list(group.sites.values())


def _all(site: PodSite) -> tuple[NeededAddress, ...]:
    return site.needs


def _of_slots(slots: set[RequestKey]) -> Choice:
    return lambda site: tuple(need for need in site.needs if need.slot in slots)


def _scarcest(capacity: Capacity) -> Choice:
    def room(need: NeededAddress) -> int:
        return sum(capacity.pools[pool].most for pool in need.pools)

    return lambda site: (min(site.needs, key=room),) if site.needs else ()


def _served_by_flow(sources: Iterable[tuple[PodGroup, Sequence[PodSite]]], capacity: Capacity, choice: Choice) -> int:
    """Pods that are served when nothing but the chosen addresses counts."""
    served, flows = 0, []
    for group, sites in sources:
        usable = [site for site in sites if not site.refused]
        count = _count(group, usable, capacity)
        chosen = [choice(site) for site in usable]
        if not all(chosen):
            chosen = [site.needs for site in usable]
        if not all(chosen):  # there is a node where it needs no new address
            served += count
        elif chosen:
            pools = dict.fromkeys(pool for needs in chosen for need in needs for pool in need.pools)
            flows.append(_Flow(count, min(map(len, chosen)), tuple(pools)))
    return served + math.floor(_largest_flow(flows, {name: each.most for name, each in capacity.pools.items()}))


def _count(group: PodGroup, usable: Sequence[PodSite], capacity: Capacity) -> int:
    """Pods of a group that may be served at all: an address is given once, and a quota ends."""
    count = 1 if group.one_per_node else group.count
    if usable and all(any(need.address for need in site.needs) for site in usable):
        count = min(count, len({need.address for site in usable for need in site.needs if need.address}))
    counted = min((site.counted for site in usable), default=0)
    if counted and group.namespace in capacity.quotas:
        count = min(count, _most_by(capacity.quotas[group.namespace], counted))
    return count


def _most_by(quota: QuotaRest, each: int) -> int:
    """Pods that a quota lets have addresses; the last one may exceed it, as agents learn it late."""
    return -(-(max(quota.left, 0) + quota.released) // each)


@dataclass(frozen=True, slots=True)
class _Flow:
    """Pods that take ``each`` addresses from some pools."""

    count: int
    each: int
    pools: tuple[str, ...]


def _largest_flow(flows: Sequence[_Flow], left: dict[str, int]) -> Fraction:
    """The most pods, also in parts, that pools with so many addresses ``left`` serve.

    Pods that take fewer addresses come first. What they have got is not taken from them again: the addresses that
    groups can get at once form a polymatroid, of which this order finds the best.
    """
    users: dict[str, Counter[int]] = defaultdict(Counter)  # pool → what each flow has of it
    dead: set[str] = set()  # pools of which nothing can be made free
    pods = Fraction(0)
    for index in sorted(range(len(flows)), key=lambda place: flows[place].each):
        wanted = flows[index].count * flows[index].each
        got = _take_directly(index, flows[index], wanted, left, users)
        while got < wanted and (path := _way_to_free(index, flows, left, users, dead)):
            got += _move(path, min(wanted - got, left[path[0][1]]), left, users)
        pods += Fraction(got, flows[index].each)
    return pods


def _take_directly(
    index: int, flow: _Flow, wanted: int, left: dict[str, int], users: Mapping[str, Counter[int]]
) -> int:
    got = 0
    for pool in flow.pools:
        if got == wanted:
            break
        if number := min(left[pool], wanted - got):
            left[pool] -= number
            users[pool][index] += number
            got += number
    return got


def _way_to_free(
    index: int,
    flows: Sequence[_Flow],
    left: Mapping[str, int],
    users: Mapping[str, Counter[int]],
    dead: set[str],
) -> list[tuple[int, str, str | None]]:
    """How a flow gets more by having others use other pools: (flow, pool it takes from, pool it gives up), last first.

    Empty when that is impossible.
    """
    came: dict[str, tuple[int, str | None]] = {}  # pool → the flow that would take from it, and give up that pool
    queue: list[tuple[int, str | None]] = [(index, None)]
    known = {index}
    for flow, given_up in queue:
        for pool in flows[flow].pools:
            if pool in came or pool in dead:
                continue
            came[pool] = flow, given_up
            if left[pool]:
                return list(_way_back(pool, came))
            others = [other for other, number in users[pool].items() if number and other not in known]
            known.update(others)
            queue += [(other, pool) for other in others]
    dead.update(came)
    return []


def _way_back(pool: str | None, came: Mapping[str, tuple[int, str | None]]) -> Iterator[tuple[int, str, str | None]]:
    while pool is not None:
        flow, given_up = came[pool]
        yield flow, pool, given_up
        pool = given_up


def _move(
    path: Sequence[tuple[int, str, str | None]],
    most: int,
    left: dict[str, int],
    users: Mapping[str, Counter[int]],
) -> int:
    number = min([most, *(users[given_up][flow] for flow, _, given_up in path if given_up is not None)])
    left[path[0][1]] -= number
    for flow, pool, given_up in path:
        users[pool][flow] += number
        if given_up is not None:
            users[given_up][flow] -= number
    return number


def _served_by_quotas(groups: Iterable[PodGroup], capacity: Capacity) -> int:
    """Pods that are served when nothing but quotas counts."""
    served, pods, least = 0, Counter[str](), dict[str, int]()
    for group in groups:
        counted = min((site.counted for site in group.sites.values() if not site.refused), default=0)
        if counted and group.namespace in capacity.quotas:
            pods[group.namespace] += group.count
            least[group.namespace] = min(counted, least.get(group.namespace, counted))
        else:
            served += group.count
    return served + sum(min(count, _most_by(capacity.quotas[name], least[name])) for name, count in pods.items())


# --- at most


@dataclass(frozen=True, slots=True)
class _Users:
    """Who takes addresses from some pools."""

    most: int
    """Addresses that all pods may take there."""
    each: int
    """Addresses that one pod may take there."""


class _Reach:
    """Which groups take addresses from which pools."""

    def __init__(self, groups: Sequence[PodGroup]) -> None:
        self._counts = [group.count for group in groups]
        self._pods: dict[str, Counter[tuple[int, RequestKey]]] = defaultdict(Counter)  # by pool
        self._known: dict[tuple[str, ...], _Users] = {}  # pools → who takes addresses from any of them
        for number, group in enumerate(groups):
            for pool, slot, nodes in _slots_by_pool(group):
                self._pods[pool][number, slot] = nodes if group.one_per_node else group.count

    def users(self, pools: tuple[str, ...]) -> _Users:
        """Who takes addresses from any of these pools."""
        if pools not in self._known:
            pods: Counter[tuple[int, RequestKey]] = Counter()
            for pool in pools:
                pods.update(self._pods[pool])
            most = sum(min(count, self._counts[number]) for (number, _), count in pods.items())
            self._known[pools] = _Users(most, max(Counter(number for number, _ in pods).values(), default=1))
        return self._known[pools]


def _slots_by_pool(group: PodGroup) -> Iterator[tuple[str, RequestKey, int]]:
    """Each pool that serves a slot of a group, and on how many nodes."""
    found = Counter((pool, need.slot) for site in group.sites.values() for need in site.needs for pool in need.pools)
    yield from ((pool, slot, nodes) for (pool, slot), nodes in found.items())


@dataclass(frozen=True, slots=True)
class _Threshold:
    """How many pods must have been served before some pods can be refused."""

    pods: int
    served: float
    couples: tuple[str, ...]
    """What they share with other pods: pools, and the quota of their Namespace."""


def _least_served(groups: Sequence[PodGroup], capacity: Capacity) -> int:
    """Pods that share nothing with one another are looked at apart."""
    apart = _Partition()
    thresholds = list(_thresholds(groups, capacity))
    for each in thresholds:
        apart.join(each.couples)
    parts: dict[str, list[_Threshold]] = defaultdict(list)
    for number, each in enumerate(thresholds):
        parts[apart.find(each.couples[0]) if each.couples else f"alone {number}"].append(each)
    return sum(map(_least_served_of, parts.values()))


def _least_served_of(thresholds: Iterable[_Threshold]) -> int:
    """Those that can be refused only later are all served, until then: the least of all such moments counts."""
    ordered = sorted(thresholds, key=lambda each: each.served)
    rest = sum(each.pods for each in ordered)
    least = rest
    for each in ordered:
        rest -= each.pods
        if each.served < least:
            least = min(least, max(int(each.served), rest))
    return least


def _thresholds(groups: Sequence[PodGroup], capacity: Capacity) -> Iterator[_Threshold]:
    reach = _Reach(groups)
    for group in groups:
        by_quota = _quota_threshold(group, groups, capacity)
        served = [
            min((_threshold(site, need, reach, capacity) for need in site.needs), default=NEVER)
            if not site.refused
            else 0.0
            for site in group.sites.values()
        ]
        quota = (f"quota of {group.namespace}",) if by_quota < NEVER else ()
        if group.one_per_node:
            for site, threshold in zip(group.sites.values(), served, strict=True):
                yield _Threshold(1, min(threshold, by_quota), (*_pools([site]), *quota))
        else:
            yield _Threshold(group.count, min(*served, by_quota), (*_pools(group.sites.values()), *quota))


def _pools(sites: Iterable[PodSite]) -> Iterable[str]:
    return dict.fromkeys(f"pool {pool}" for site in sites for need in site.needs for pool in need.pools)


def _threshold(site: PodSite, need: NeededAddress, reach: _Reach, capacity: Capacity) -> float:
    """Pods that must be served until a need finds nothing on a node, but for what the pod itself takes."""
    users = reach.users(need.pools)
    own = sum(other is need or not set(need.pools).isdisjoint(other.pools) for other in site.needs)
    if need.address and any(capacity.pools[pool].shared for pool in need.pools):
        return 0  # somebody may take it by way of another pool
    there = 1 if need.address else sum(capacity.pools[pool].least for pool in need.pools)
    return _pods_to_take(there - (own - 1), users.most - own, users.each)


def _quota_threshold(group: PodGroup, groups: Iterable[PodGroup], capacity: Capacity) -> float:
    if group.namespace not in capacity.quotas or not (own := _most_counted(group)):
        return NEVER
    peers = [(each.count, _most_counted(each)) for each in groups if each.namespace == group.namespace]
    others = sum(count * counted for count, counted in peers) - own
    return _pods_to_take(capacity.quotas[group.namespace].left, others, max(counted for _, counted in peers))


def _most_counted(group: PodGroup) -> int:
    return max((sum(need.counts for need in site.needs) for site in group.sites.values()), default=0)


def _pods_to_take(addresses: int, most: int, each: int) -> float:
    """Pods that take so many addresses, if all together can take ``most``, and one of them ``each``."""
    if addresses <= 0:
        return 0
    return NEVER if most < addresses else -(-addresses // each)


class _Partition:
    """Names that belong together (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}  # name → another name of its part; without one it stands for the part

    def find(self, name: str) -> str:
        """The name that stands for all of a part."""
        root = name
        while (parent := self._parents.get(root, root)) != root:
            root = parent
        while name != root:
            self._parents[name], name = root, self._parents.get(name, root)
        return root

    def join(self, names: Iterable[str]) -> None:
        """Have names belong together."""
        first: str | None = None
        for name in names:
            first = self.find(name) if first is None else first
            self._parents[self.find(name)] = first
