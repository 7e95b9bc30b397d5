"""`plan`: whether pods that are to come would get addresses, on whatever nodes they are placed."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.cli.plan.case import ClusterFacts, PlannedGroup, Sites
from spiderpool.cli.plan.growth import GrownPool
from spiderpool.cli.plan.refusals import refusal_sentence
from spiderpool.cli.printing import Cell, View, alerts, object_reference, plain, sentence, table
from spiderpool.core.ipam.placement import Capacity, PodGroup, RollOut, even, favourable, unfavourable
from spiderpool.core.ipam.placement_bounds import bounds
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses

SHOWN_ROWS = 10
"""Rows of pools and of nodes that are shown; `wide` shows all."""
SHOWN_REFUSALS = 3
"""Sentences of refused pods for each placement; `wide` shows all."""
MOST_REFUSALS = 100
"""Groups of refused pods, by workload and node, that are explained for each placement."""


class Placement(enum.StrEnum):
    """How pods are placed on nodes."""

    BEST = "best"
    EVEN = "even"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class PlannedWorkload:
    """Pods that are to come."""

    workload: str
    pods: int
    nodes: int
    """Nodes that may take them."""
    of_nodes: int
    reasons: tuple[str, ...]
    """Why the others may not, each with the number of nodes."""


@dataclass(frozen=True, slots=True)
class PodRefusal:
    """Pods that get no address on a node."""

    workload: str
    node: str
    pods: int
    message: str


@dataclass(frozen=True, slots=True)
class PlacementOutcome:
    """What becomes of the pods in one placement."""

    placement: Placement
    pods: int
    refused: int
    """Of the best: no placement refuses fewer; of the worst: none more."""
    found: int
    """Pods that are refused in the placement that is shown: others where none was found that refuses as many."""
    refusals: tuple[PodRefusal, ...]
    """By workload and node, the most pods first, at most 100."""


@dataclass(frozen=True, slots=True)
class PoolOutlook:
    """The free addresses of a pool that may serve the pods."""

    pool: str
    total: int
    free: int
    best: int
    even: int
    worst: int


@dataclass(frozen=True, slots=True)
class NodeOutlook:
    """The free addresses of all pools that may serve the pods on a node, and the pods that it is given."""

    node: str
    free: int
    best: int
    even: int
    worst: int
    best_pods: int
    even_pods: int
    worst_pods: int


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Whether pods that are to come would get addresses."""

    workloads: tuple[PlannedWorkload, ...]
    placements: tuple[PlacementOutcome, ...]
    pools: tuple[PoolOutlook, ...]
    nodes: tuple[NodeOutlook, ...]
    growth: tuple[str, ...]
    """What becomes of pools of applications."""
    notes: tuple[str, ...]
    unread: tuple[str, ...] = ()
    """Kinds that have a say, and of which something could not be read."""

    def refused(self, placement: Placement) -> int:
        """Pods that get no address in a placement."""
        return next((each.refused for each in self.placements if each.placement is placement), 0)

    @property
    def pending(self) -> tuple[PlannedWorkload, ...]:
        """Pods that no node may take."""
        return tuple(each for each in self.workloads if each.pods and not each.nodes)

    def lines(self, view: View) -> Iterator[str]:
        """The answer first, the details last."""
        yield from sentence(self._verdict(), view)
        yield ""
        yield from self._pods(view)
        if self.placements:
            yield ""
            yield from table(("PLACEMENT", "PODS", "FIT", "REFUSED"), map(_of_placement, self.placements), view)
        yield from self._outlooks(view)
        yield from self._more(view)

    def _pods(self, view: View) -> Iterator[str]:
        further = ("NOT ON OTHERS BECAUSE",) if view.wide else ()
        rows = (_of_workload(each, view) for each in self.workloads)
        yield from table(("WORKLOAD", "PODS", "NODES", *further), rows, view)
        reasons = dict.fromkeys(reason for each in self.workloads for reason in each.reasons)
        if reasons and not view.wide:
            yield from sentence(f"Not on other nodes, since {'; '.join(reasons)}", view)

    def _verdict(self) -> str:
        pods = sum(each.pods for each in self.workloads)
        best, spread, worst = (self.refused(each) for each in Placement)
        if not pods:
            return "No pod is to come that needs an address"
        if best:
            return f"It does not fit: of {pods} pods at least {best} get no address, on whatever nodes they are placed"
        if worst:
            counts = f"0 to {worst} of {pods} pods get no address, {spread} if they are spread evenly"
            return f"It depends on the nodes: {counts}"
        if self.pending:
            return "Not all pods can be placed on a node; the others get their addresses"
        return f"It fits: {pods} pods get their addresses, on whatever nodes they are placed"

    def _outlooks(self, view: View) -> Iterator[str]:
        titles = ("FREE NOW", "BEST", "EVEN", "WORST")
        further = ("BEST PODS", "EVEN PODS", "WORST PODS") if view.wide else ()
        pools, nodes = [_of_pool(each) for each in self.pools], [_of_node(each, view) for each in self.nodes]
        yield from _shortened(("POOL", "TOTAL", *titles), pools, "pools", view)
        yield from _shortened(("NODE", *titles, *further), nodes, "nodes", view)

    def _more(self, view: View) -> Iterator[str]:
        shown: dict[PodRefusal, list[str]] = {}
        for outcome in self.placements:
            for each in outcome.refusals if view.wide else outcome.refusals[:SHOWN_REFUSALS]:
                shown.setdefault(each, []).append(outcome.placement.value)
        for each, placements in shown.items():
            yield ""
            pods = f"{each.pods} pod{'s' if each.pods > 1 else ''} of {each.workload} on node {each.node}"
            yield from alerts([f"{', '.join(placements)}: {pods}: {each.message}"], view)
        if rest := sum(len({*outcome.refusals} - shown.keys()) for outcome in self.placements):
            yield ""
            yield f"… and {rest} more such refusals: -o wide"
        for pending in self.pending:
            yield ""
            yield from alerts([f"no node may take the pods of {pending.workload}: {'; '.join(pending.reasons)}"], view)
        for text in (*self.growth, *self.notes):
            yield ""
            yield from sentence(f"Note: {text}", view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The pools that may serve the pods."""
        return (object_reference(SpiderIPPool, each.pool) for each in self.pools)


def _of_workload(each: PlannedWorkload, view: View) -> tuple[Cell, ...]:
    reasons = ("; ".join(each.reasons) or None,) if view.wide else ()
    return each.workload, each.pods, f"{each.nodes} of {each.of_nodes}", *reasons


def _of_placement(each: PlacementOutcome) -> tuple[Cell, ...]:
    return each.placement.value, each.pods, each.pods - each.refused, each.refused


def _of_pool(each: PoolOutlook) -> tuple[Cell, ...]:
    return each.pool, each.total, each.free, each.best, each.even, each.worst


def _of_node(node: NodeOutlook, view: View) -> tuple[Cell, ...]:
    free = (node.node, node.free, node.best, node.even, node.worst)
    return (*free, node.best_pods, node.even_pods, node.worst_pods) if view.wide else free


def _shortened(titles: Sequence[str], rows: Sequence[Sequence[Cell]], what: str, view: View) -> Iterator[str]:
    """A table, of which the last rows are left out."""
    shown = len(rows) if view.wide or len(rows) <= SHOWN_ROWS + 1 else SHOWN_ROWS
    if rows:
        yield ""
        yield from table(titles, rows[:shown], view)
    if shown < len(rows):
        yield f"… and {len(rows) - shown} more {what}: -o wide"


# --- from what was read


def address_plan(
    now: ClusterFacts,
    then: ClusterFacts,
    groups: Sequence[PlannedGroup],
    growth: Iterable[GrownPool],
    notes: Iterable[str],
) -> AddressPlan:
    """The plan of some groups of pods; ``then`` is the cluster when pools have grown and former pods have ended."""
    capacity, plain_groups = then.capacity(), [each.group for each in groups]
    outs = _roll_outs(plain_groups, capacity)
    outlook = _Outlook(now.capacity(), outs)
    placements = tuple(_placements(then, groups, capacity, outs))
    return AddressPlan(
        workloads=tuple(_workload(each, len(now.nodes)) for each in groups),
        placements=placements,
        pools=tuple(outlook.pools(then, plain_groups)),
        nodes=tuple(outlook.nodes(plain_groups)),
        growth=tuple(map(str, growth)),
        notes=(*notes, *_notes(then, groups, capacity, placements)),
        unread=now.unread,
    )


def _roll_outs(groups: Sequence[PodGroup], capacity: Capacity) -> dict[Placement, RollOut]:
    """A roll-out for each placement; where an even one is better or worse than what is looked for, it is that."""
    spread = even(groups, capacity)
    return {
        Placement.BEST: min(spread, favourable(groups, capacity), key=lambda each: each.refused_count),
        Placement.EVEN: spread,
        Placement.WORST: max(unfavourable(groups, capacity), spread, key=lambda each: each.refused_count),
    }


def _workload(planned: PlannedGroup, nodes: int) -> PlannedWorkload:
    reasons = tuple(
        f"{reason} ({count} node{'s' if count > 1 else ''})" for reason, count in planned.not_schedulable.items()
    )
    return PlannedWorkload(planned.group.name, planned.group.count, len(planned.group.sites), nodes, reasons)


def _placements(
    facts: ClusterFacts, groups: Sequence[PlannedGroup], capacity: Capacity, outs: Mapping[Placement, RollOut]
) -> Iterator[PlacementOutcome]:
    plain_groups = [each.group for each in groups]
    limits = bounds(plain_groups, capacity)
    refused = {Placement.BEST: limits.least, Placement.WORST: limits.most}
    pods = sum(each.count for each in plain_groups if each.sites)
    planned, sites = {id(each.group): each for each in groups}, Sites(facts)
    for placement, out in outs.items():
        found = out.refused_count
        certain = refused.get(placement, min(max(found, limits.least), limits.most))
        ordered = sorted(out.refused, key=lambda each: -each.count)
        refusals = (
            PodRefusal(each.group.name, each.node, each.count, refusal_sentence(sites, planned[id(each.group)], each))
            for each in ordered[:MOST_REFUSALS]
        )
        if pods:
            yield PlacementOutcome(placement, pods, certain, found, tuple(refusals))


def _notes(
    facts: ClusterFacts, groups: Iterable[PlannedGroup], capacity: Capacity, placements: Iterable[PlacementOutcome]
) -> Iterator[str]:
    if facts.unread:
        yield f"what could not be read may change the answer: {', '.join(facts.unread)}"
    if facts.advertised:
        yield (
            "nodes advertise free addresses, which is not considered: the scheduler sends pods that request them to "
            "nodes that have some, so that they are refused nowhere, and those that do not fit wait for a node"
        )
    yield from facts.policies.notes
    annotations = (each.planned.sample.metadata.annotations or {} for each in groups)
    if facts.policies.network_note and not all(DEFAULT_NETWORK_ANNOTATION in each for each in annotations):
        yield facts.policies.network_note
    overlapping = sorted(name for name, each in capacity.pools.items() if each.shared)
    if overlapping:
        yield f"these pools have addresses in common, so that numbers are estimates: {', '.join(overlapping)}"
    for each in placements:
        if each.found != each.refused:
            yield (
                f"the {each.placement} placement that was found refuses {each.found} pods; that no placement refuses "
                f"{'fewer' if each.placement is Placement.BEST else 'more'} than {each.refused} is certain"
            )


@dataclass(frozen=True, slots=True)
class _Outlook:
    """Free addresses now and afterwards."""

    now: Capacity
    outs: Mapping[Placement, RollOut]

    def pools(self, facts: ClusterFacts, groups: Iterable[PodGroup]) -> list[PoolOutlook]:
        """The pools that may serve the pods, those with the fewest addresses left first."""
        names = {
            pool for group in groups for site in group.sites.values() for need in site.needs for pool in need.pools
        }
        found = [self._pool(facts, pool) for pool in facts.pools if pool.name in names]
        return sorted(found, key=lambda each: (each.even, each.pool))

    def _pool(self, facts: ClusterFacts, pool: SpiderIPPool) -> PoolOutlook:
        version = version_of(pool)
        total = (pool_addresses(pool, version) - facts.reserved[version]).size
        free = self.now.pools[pool.name].most if pool.name in self.now.pools else 0
        return PoolOutlook(pool.name, total, free, *(self.outs[each].free[pool.name] for each in Placement))

    def nodes(self, groups: Iterable[PodGroup]) -> list[NodeOutlook]:
        """The nodes that may take the pods, those with the fewest addresses left first."""
        pools: dict[str, dict[str, None]] = {}
        for group in groups:
            for node, site in group.sites.items():
                pools.setdefault(node, {}).update(dict.fromkeys(pool for need in site.needs for pool in need.pools))
        found = [self._node(node, names) for node, names in pools.items()]
        return sorted(found, key=lambda each: (each.even, each.node))

    def _node(self, node: str, pools: Iterable[str]) -> NodeOutlook:
        now = sum(self.now.pools[pool].most for pool in pools if pool in self.now.pools)
        free = (sum(self.outs[each].free[pool] for pool in pools) for each in Placement)
        pods = (self.outs[each].pods.get(node, 0) for each in Placement)
        return NodeOutlook(node, now, *free, *pods)
