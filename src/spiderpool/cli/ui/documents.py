"""What the page gets as JSON: short for what there is much of, in the words of the other commands for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self, TypeAlias

import msgspec

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


class MapDocument(msgspec.Struct, frozen=True):
    """A whole map."""

    name: str
    version: int
    subnet: str
    revision: int
    disabled: bool
    terminating: bool
    counts: list[Number]
    pieces: list[Number]

    @classmethod
    def of(cls, found: PoolMap, revision: int) -> Self:
        """That of a map as the revision has it."""
        return cls(
            name=found.name,
            version=found.version,
            subnet=found.subnet,
            revision=revision,
            disabled=found.is_disabled,
            terminating=found.is_terminating,
            counts=counts(found),
            pieces=flat(found.pieces, found.version),
        )


class MapChangeDocument(msgspec.Struct, frozen=True):
    """What has changed of a map."""

    disabled: bool
    terminating: bool
    counts: list[Number]
    pieces: list[Number] | msgspec.UnsetType = msgspec.UNSET
    """What to lay over the former map; absent where the page has to load the map anew."""

    @classmethod
    def of(cls, found: PoolMap, changed: Sequence[MapChange] | None) -> Self:
        """Without pieces where these are more than the map is worth, or where there was no map (None)."""
        pieces: list[Number] | msgspec.UnsetType = msgspec.UNSET
        if changed is not None and len(changed) <= MOST_CHANGED:
            pieces = flat(changed, found.version)
        return cls(
            disabled=found.is_disabled,
            terminating=found.is_terminating,
            counts=counts(found),
            pieces=pieces,
        )


class PoolDocument(msgspec.Struct, frozen=True):
    """A pool as `top pools` has it; None stands for what the API does not say."""

    name: str
    version: int
    subnet: str
    used: Number | None
    free: Number | None
    total: Number | None
    default: bool
    disabled: bool
    terminating: bool
    users: str = msgspec.field(name="for")
    """Which pods it is for."""
    counts: list[Number] | None
    """Those of its map."""

    @classmethod
    def of(cls, pool: SpiderIPPool, usage: PoolUsage, found: PoolMap | None) -> Self:
        """That of a pool with its usage and its map."""
        version = version_of(pool)
        return cls(
            name=pool.name,
            version=version,
            subnet=pool.spec.subnet,
            used=_size(usage.used, version),
            free=_size(usage.free, version),
            total=_size(usage.total, version),
            default=bool(pool.spec.default),
            disabled=bool(pool.spec.disable),
            terminating=pool.terminating,
            users=restrictions(pool).removeprefix("for "),
            counts=counts(found) if found else None,
        )


def pool_documents(pools: Iterable[SpiderIPPool], reserved: Reserved, maps: dict[str, PoolMap]) -> list[PoolDocument]:
    """The pools, the fullest first, with the number of addresses of each state."""
    by_name = {each.name: each for each in pools}
    usages = fullest(pool_usage(each, reserved) for each in by_name.values())
    return [PoolDocument.of(by_name[each.name], each, maps.get(each.name)) for each in usages]
