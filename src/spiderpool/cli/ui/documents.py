"""What the page gets as JSON: short for what there is much of, in the words of the other commands for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.ui.pool_map import MAP_STATES, MapChange, MapPiece, PoolMap
from spiderpool.cli.usage import PoolUsage, Reserved, fullest, pool_usage
from spiderpool.cli.who import restrictions
from spiderpool.core.ipam.selection import version_of

GONE = -1
"""Number of the state of addresses that a pool does not have any more."""
MOST_CHANGED = 4_000
"""Pieces of a change that are sent: a map with more is loaded anew."""
NUMBERS = {state: number for number, state in enumerate(MAP_STATES)}

Number: TypeAlias = int | str
"""IPv4 as a number, IPv6 as its digits: numbers of JavaScript are exact to 53 bits."""


def _number(value: int, version: int) -> Number:
    return value if version == 4 else str(value)


def _size(value: int | None, version: int) -> Number | None:
    return None if value is None else _number(value, version)


def flat(pieces: Iterable[MapPiece | MapChange], version: int) -> list[Number]:
    """First address, last address and number of the state of each piece, one after the other."""
    found: list[Number] = []
    for each in pieces:
        state = GONE if each.state is None else NUMBERS[each.state]
        found += (_number(each.first, version), _number(each.last, version), state)
    return found


def counts(found: PoolMap) -> list[Number]:
    """How many addresses a map has of each state, in the order of MAP_STATES."""
    return [_number(found.counts[state], found.version) for state in MAP_STATES]


def map_document(found: PoolMap, revision: int) -> dict[str, Any]:
    """A whole map."""
    return {
        "name": found.name,
        "version": found.version,
        "subnet": found.subnet,
        "revision": revision,
        **_summary(found),
        "pieces": flat(found.pieces, found.version),
    }


def change_document(found: PoolMap, changed: Sequence[MapChange]) -> dict[str, Any]:
    """What has changed of a map, or nothing of it where that is more than the map is worth."""
    document = _summary(found)
    if len(changed) <= MOST_CHANGED:
        document["pieces"] = flat(changed, found.version)
    return document


def _summary(found: PoolMap) -> dict[str, Any]:
    return {"disabled": found.is_disabled, "terminating": found.is_terminating, "counts": counts(found)}


def pool_documents(pools: Iterable[SpiderIPPool], reserved: Reserved, maps: dict[str, PoolMap]) -> list[dict[str, Any]]:
    """The pools as `top pools` has them, the fullest first, with the number of addresses of each state."""
    by_name = {each.name: each for each in pools}
    usages = fullest(pool_usage(each, reserved) for each in by_name.values())
    return [_pool_document(by_name[each.name], each, maps.get(each.name)) for each in usages]


def _pool_document(pool: SpiderIPPool, usage: PoolUsage, found: PoolMap | None) -> dict[str, Any]:
    version = version_of(pool)
    return {
        "name": pool.name,
        "version": version,
        "subnet": pool.spec.subnet,
        "used": _size(usage.used, version),
        "free": _size(usage.free, version),
        "total": _size(usage.total, version),
        "default": bool(pool.spec.default),
        "disabled": bool(pool.spec.disable),
        "terminating": pool.terminating,
        "for": restrictions(pool).removeprefix("for "),
        "counts": counts(found) if found else None,
    }
