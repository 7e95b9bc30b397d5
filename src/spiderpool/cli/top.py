"""`top`: how full pools, nodes and subnets are now, the fullest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.pool_growth import GROWTH_KEYS, PoolGrowth, growth_of_pools, pool_growth
from spiderpool.cli.printing import Cell, View, object_reference, plain, table
from spiderpool.cli.usage import PoolUsage, Reserved, fullest, percent, pool_usage, reserved_by_family
from spiderpool.cli.who import restrictions
from spiderpool.core.ipam.allocation import is_exclusive
from spiderpool.core.ipam.forecast import Growth
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import subnet_addresses
from spiderpool.core.ipam.subnets import owned_by_subnet


@dataclass(frozen=True, slots=True)
class Usage:
    """How many addresses of one object are used; None stands for what is not known."""

    name: str
    used: int | None
    free: int | None
    total: int | None
    percent: int | None
    shared: int | None = None
    """Of a node: addresses that its pods have from pools of several nodes; they are not among the others."""
    details: tuple[Cell, ...] = ()
    """Further columns of ``wide``."""
    growth: PoolGrowth | None = None


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The usage of all objects of a kind, the fullest first."""

    kind: type[Object]
    title: str
    details: tuple[str, ...]
    items: tuple[Usage, ...]
    has_shared: bool = False
    has_growth: bool = False

    def lines(self, view: View) -> Iterator[str]:
        """One table."""
        titles = [self.title, "USED", "FREE", "TOTAL", "USE", *(["SHARED"] if self.has_shared else [])]
        titles += ["GROWTH", "FULL IN"] if self.has_growth else []
        yield from table([*titles, *(self.details if view.wide else ())], map(self._row(view.wide), self.items), view)

    def _row(self, wide: bool) -> Any:
        def row(each: Usage) -> Sequence[Cell]:
            share = None if each.percent is None else f"{each.percent}%"
            shared = [each.shared] if self.has_shared else []
            growth = (each.growth.cells if each.growth else (None, None)) if self.has_growth else ()
            return [
                *(each.name, each.used, each.free, each.total, share),
                *(*shared, *growth, *(each.details if wide else ())),
            ]

        return row

    def document(self) -> Any:
        """A list of items, with the columns of ``wide`` by their names."""
        names = [name.lower() for name in self.details]
        return {"kind": self.kind.KIND.name, "items": [self._item(each, names) for each in self.items]}

    def _item(self, each: Usage, names: Sequence[str]) -> dict[str, Any]:
        item: dict[str, Any] = plain(replace(each, growth=None))
        details = item.pop("details")
        item.pop("growth")
        if self.has_growth:
            item |= each.growth.document() if each.growth else dict.fromkeys(GROWTH_KEYS)
        if not self.has_shared:
            item.pop("shared")
        return item | dict(zip(names, details, strict=True))

    def names(self) -> Iterable[str]:
        """All of them."""
        return (object_reference(self.kind, each.name) for each in self.items)


async def top_pools(cluster: Cluster, now: datetime | None = None) -> UsageTable:
    """The pools, and with a time how they grow. Raises Refused when they may not be read."""
    pools = await cluster.needed(SpiderIPPool)
    grown = await growth_of_pools(cluster, now) if now is not None else {}
    return pool_table(pools, reserved_by_family(await cluster.list(SpiderReservedIP) or ()), grown)


async def top_nodes(cluster: Cluster) -> UsageTable:
    """The nodes. Raises Refused when they, their pools or their addresses may not be read."""
    pools = await cluster.needed(SpiderIPPool)
    records = await cluster.needed(SpiderIP)
    nodes = await cluster.list(Node)
    names = [each.name for each in nodes] if nodes is not None else []
    return node_table(names, pools, records, reserved_by_family(await cluster.list(SpiderReservedIP) or ()))


async def top_subnets(cluster: Cluster) -> UsageTable:
    """The subnets. Raises Refused when they may not be read."""
    return subnet_table(await cluster.needed(SpiderSubnet), await cluster.list(SpiderIPPool) or ())


def pool_table(
    pools: Iterable[SpiderIPPool], reserved: Reserved, grown: Mapping[str, Growth] | None = None
) -> UsageTable:
    """How full pools are, and how they grow where that is known of any."""
    known = grown or {}
    by_name = {each.name: each for each in pools}
    items = (
        Usage(
            *(each.name, each.used, each.free, each.total, each.percent),
            details=_of_pool(by_name[each.name]),
            growth=pool_growth(known.get(each.name), each.free),
        )
        for each in fullest(pool_usage(pool, reserved) for pool in by_name.values())
    )
    details = ("VERSION", "SUBNET", "DEFAULT", "FOR")
    return UsageTable(SpiderIPPool, "POOL", details, tuple(items), has_growth=bool(known))


def _of_pool(pool: SpiderIPPool) -> tuple[Cell, ...]:
    default = "yes" if pool.spec.default else "no"
    return version_of(pool), pool.spec.subnet, default, restrictions(pool).removeprefix("for ")


def node_table(
    names: Iterable[str], pools: Iterable[SpiderIPPool], records: Iterable[SpiderIP], reserved: Reserved
) -> UsageTable:
    """How full the pools are that only one node may use, by node; also nodes without such a pool."""
    known_pools = list(pools)
    own = {pool.name: node for pool in known_pools for node in pool.spec.nodeName or () if is_exclusive(pool, node)}
    held = [(each.spec.node, each.spec.pool) for each in records]
    used = Counter(own[pool] for _, pool in held if pool in own)
    shared = Counter(node for node, pool in held if own.get(pool) != node)
    usages = {each.name: pool_usage(each, reserved) for each in known_pools}
    items = []
    for name in sorted({*names, *own.values(), *shared} - {""}):
        mine = [usages[pool] for pool, node in own.items() if node == name]
        items.append(_of_node(name, mine, used[name], shared[name]))
    return UsageTable(Node, "NODE", ("POOLS",), tuple(sorted(items, key=_by_use)), has_shared=True)


def _of_node(name: str, own: Sequence[PoolUsage], used: int, shared: int) -> Usage:
    if not own:
        return Usage(name, None, None, None, None, shared, (0,))
    free = None if any(each.free is None for each in own) else sum(each.free or 0 for each in own)
    total = sum(each.total for each in own)
    return Usage(name, used, free, total, percent(used, total), shared, (len(own),))


def subnet_table(subnets: Iterable[SpiderSubnet], pools: Iterable[SpiderIPPool]) -> UsageTable:
    """How much of each subnet pools hold."""
    known = list(subnets)
    owned = owned_by_subnet(known, pools)
    items = []
    for each in known:
        version = each.spec.ipVersion or (6 if ":" in each.spec.subnet else 4)
        total = subnet_addresses(each, version).size
        used = each.status.allocatedIPCount if each.status else None
        free = None if used is None else max(total - used, 0)
        details = (version, each.spec.subnet, len(owned[each.name]))
        items.append(Usage(each.name, used, free, total, percent(used, total), details=details))
    return UsageTable(SpiderSubnet, "SUBNET", ("VERSION", "CIDR", "POOLS"), tuple(sorted(items, key=_by_use)))


def _by_use(each: Usage) -> tuple[int, str]:
    return -(each.percent if each.percent is not None else -1), each.name
