"""Which nodes of a cluster change hands together, so that no pool is ever served by two kinds of agents at once.

Two nodes are in one group if a pool serves both, directly or by way of others. An agent of either kind gives addresses
only of pools that serve its node, so where the nodes of each group are all of one kind, so are those of each pool.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.go_records import endpoint_addresses
from spiderpool.core.labels import Labels, matches

LABEL = "spiderpool.spidernet.io/migration"
"""Label of a Node: which agents it has while a cluster is taken over."""


class Side(enum.StrEnum):
    """Values of the label. A node without one has no agent, so one that joins meanwhile serves no pool."""

    OLD = "old"
    MOVING = "moving"
    """It has neither: pods that start there wait."""
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that change hands together, and the pools that serve them."""

    nodes: tuple[str, ...]
    pools: tuple[str, ...]

    def sides(self, nodes: Mapping[str, Labels]) -> set[str | None]:
        """The labels of its nodes."""
        return {nodes[name].get(LABEL) for name in self.nodes}


def serving(pool: SpiderIPPool, nodes: Mapping[str, Labels]) -> set[str]:
    """The nodes whose agents may give addresses of a pool; agents of both kinds go by this."""
    if pool.spec.nodeName:
        return {name for name in pool.spec.nodeName if name in nodes}
    selector = pool.spec.nodeAffinity
    return {name for name, labels in nodes.items() if selector is None or matches(selector, labels)}


def holders(endpoints: Iterable[SpiderEndpoint]) -> dict[str, set[str]]:
    """Pool → nodes of pods that have addresses of it: pools may have been changed since."""
    found: dict[str, set[str]] = {}
    for each in endpoint_addresses(endpoints)[0]:
        found.setdefault(each.pool, set()).add(each.node)
    return found


def groups(
    pools: Iterable[SpiderIPPool], nodes: Mapping[str, Labels], held: Mapping[str, Collection[str]]
) -> tuple[Group, ...]:
    """All nodes in their groups; ``held`` is what :func:`holders` finds. Pools that serve no node are in none."""
    of_pool = {
        pool.name: serving(pool, nodes) | {each for each in held.get(pool.name, ()) if each in nodes} for pool in pools
    }
    joined = {name: {name} for name in nodes}
    for members in of_pool.values():
        union = set().union(*(joined[name] for name in members))
        joined |= dict.fromkeys(union, union)
    pools_of: dict[int, list[str]] = {}
    for name, members in sorted(of_pool.items()):
        if members:
            pools_of.setdefault(id(joined[next(iter(members))]), []).append(name)
    found = {id(group): group for group in joined.values()}
    return tuple(
        Group(tuple(sorted(group)), tuple(pools_of.get(key, ())))
        for key, group in sorted(found.items(), key=lambda each: min(each[1]))
    )


def split(found: Iterable[Group], nodes: Mapping[str, Labels]) -> tuple[Group, ...]:
    """Groups with agents of both kinds: somebody has changed a pool or a label since they moved."""
    return tuple(group for group in found if {Side.OLD, Side.NEW} <= group.sides(nodes))
