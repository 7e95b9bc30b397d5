"""Pools as maps: for each address a state, as intervals. Values in, values out.

The states are those of `who` and of the allocator: a free address is one that a pod may get now, if the pool is neither
disabled nor being deleted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Self

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.address_state import AddressState, ListedAddresses, is_in_conflict, record_state
from spiderpool.cli.attention import present_accounts
from spiderpool.core.addresses import FAMILIES, AddressSet, to_int, version_of_text
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses

MAP_STATES = (
    AddressState.FREE,
    AddressState.HELD,
    AddressState.RESERVED,
    AddressState.EXCLUDED,
    AddressState.COOLING,
    AddressState.FENCED,
    AddressState.CONFLICTING,
)
"""The states of the addresses of a pool. The page knows each by its place here, as `static/states.js` lists them."""


@dataclass(frozen=True, slots=True)
class MapPiece:
    """Neighbouring addresses with the same state, both ends included."""

    first: int
    last: int
    state: AddressState

    @property
    def size(self) -> int:
        """The number of addresses."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class PoolMap:
    """The addresses of one pool. Its pieces are sorted and disjoint, and neighbours differ."""

    name: str
    version: int
    subnet: str
    is_disabled: bool
    is_terminating: bool
    pieces: tuple[MapPiece, ...]
    counts: Mapping[AddressState, int] = field(compare=False)
    """How many addresses there are of each state."""

    @classmethod
    def of(cls, pool: SpiderIPPool, pieces: tuple[MapPiece, ...]) -> Self:
        """The map of a pool with these pieces."""
        counts = dict.fromkeys(MAP_STATES, 0)
        for each in pieces:
            counts[each.state] += each.size
        spec = pool.spec
        return cls(pool.name, version_of(pool), spec.subnet, bool(spec.disable), pool.terminating, pieces, counts)


@dataclass(frozen=True, slots=True)
class Sandboxed:
    """An address that a sandbox of a node has, as the node's account says."""

    version: int
    address: int
    pod_uid: str


@lru_cache(maxsize=65_536)
def _number(text: str) -> tuple[int, int] | None:
    version = version_of_text(text)
    try:
        return version, to_int(text, version)
    except ValueError:
        return None


def sandboxed_by(account: SpiderNode) -> tuple[Sandboxed, ...]:
    """The addresses in an account of a node."""
    return tuple(
        Sandboxed(*number, sandbox.podUID)
        for sandbox in account.sandboxes
        for text in sandbox.addresses
        if (number := _number(text)) is not None
    )


Holders = dict[int, dict[int, SpiderIP]]
"""Family → address → the record of it."""


class HolderIndex:
    """Keeps records by their addresses while they change: to parse all of them anew would take most of the time."""

    def __init__(self) -> None:
        self._known: Holders = {version: {} for version in FAMILIES}

    def note(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """Follow a change, as subscribers of informers do. An address never changes: a record is named after it."""
        if new is not None and new.defect() is None:
            self._known[family(new)][address_of(new)] = new
        elif old is not None and old.defect() is None:
            self._known[family(old)].pop(address_of(old), None)

    def copy(self) -> Holders:
        """The records as they are now."""
        return {version: dict(records) for version, records in self._known.items()}


@dataclass(frozen=True, slots=True)
class MapInput:
    """The objects from which maps are made; what may not be read is empty."""

    pools: Collection[SpiderIPPool]
    holders: Holders
    reserved: Collection[SpiderReservedIP]
    accounts: Collection[SpiderNode]
    nodes: Collection[Node]
    sandboxed: Callable[[SpiderNode], Iterable[Sandboxed]]
    """`sandboxed_by`, or the same from memory."""
    addresses: Callable[[SpiderIPPool], ListedAddresses]
    """`ListedAddresses.of`, or the same from memory."""


def pool_maps(objects: MapInput, now: float) -> dict[str, PoolMap]:
    """The map of each pool at ``now`` (seconds since 1970), by its name."""
    taken = {version: _runs(states) for version, states in _taken(objects, now).items()}
    reserved = {version: reserved_addresses(objects.reserved, version) for version in FAMILIES}
    addresses = {each.name: objects.addresses(each) for each in objects.pools}
    strays = _strays(addresses, objects.holders)
    found: dict[str, PoolMap] = {}
    for pool in objects.pools:
        if (version := version_of(pool)) in FAMILIES:
            outside = AddressSet.of_addresses(strays.get(pool.name, ()), version)
            pieces = _pieces(addresses[pool.name], taken[version], reserved[version], outside)
            found[pool.name] = PoolMap.of(pool, pieces)
    return found


def _taken(objects: MapInput, now: float) -> dict[int, dict[int, AddressState]]:
    """By family, the state of each address that is not free for any pod."""
    pools = {each.name: each for each in objects.pools}
    accounts = {each.name: each for each in objects.accounts}
    stopped = {each.name for each in objects.nodes if why_stopped(each, accounts.get(each.name))}
    found: dict[int, dict[int, AddressState]] = {}
    for version, records in objects.holders.items():
        states = (
            (address, record_state(each, pools.get(each.spec.pool), now, is_stopped=each.spec.node in stopped))
            for address, each in records.items()
        )
        found[version] = {address: state for address, state in states if state is not AddressState.RELEASED}
    for each in _conflicts(objects):
        found[each.version][each.address] = AddressState.CONFLICTING
    return found


def _conflicts(objects: MapInput) -> Iterator[Sandboxed]:
    """The addresses of sandboxes that may run and are not those of their record, as `who` judges them."""
    for account in present_accounts(objects.accounts, objects.nodes):
        for each in objects.sandboxed(account):
            if is_in_conflict(each.pod_uid, objects.holders[each.version].get(each.address)):
                yield each


def _runs(states: Mapping[int, AddressState]) -> list[MapPiece]:
    """Single addresses as pieces, in order."""
    return list(_joined(MapPiece(address, address, states[address]) for address in sorted(states)))


def _joined(pieces: Iterable[MapPiece]) -> Iterator[MapPiece]:
    """Sorted, disjoint pieces, with neighbours of the same state as one."""
    first, last, state = 0, -1, None
    for each in pieces:
        if state is each.state and each.first == last + 1:
            last = each.last
            continue
        if state is not None:
            yield MapPiece(first, last, state)
        first, last, state = each.first, each.last, each.state
    if state is not None:
        yield MapPiece(first, last, state)


def _strays(pools: Mapping[str, ListedAddresses], holders: Holders) -> dict[str, list[int]]:
    """By pool, the addresses that records say are of it, and that it does not list any more."""
    found: dict[str, list[int]] = {}
    for version, records in holders.items():
        for address, record in records.items():
            known = pools.get(record.spec.pool)
            if known is not None and known.listed.version == version and address not in known.listed:
                found.setdefault(record.spec.pool, []).append(address)
    return found


def _pieces(
    pool: ListedAddresses, taken: Sequence[MapPiece], reserved: AddressSet, outside: AddressSet
) -> tuple[MapPiece, ...]:
    """What is taken, laid over what the pool says of its addresses; those outside are no longer its own."""
    parts = pool.by_state(reserved)
    base = sorted(
        (MapPiece(first, last, state) for state, part in parts.items() for first, last in part.intervals), key=_start
    )
    pieces = chain(_over(base, within(taken, pool.listed)), within(taken, outside))
    return tuple(_joined(sorted(pieces, key=_start)))


def _start(piece: MapPiece) -> int:
    return piece.first


def within(pieces: Sequence[MapPiece], addresses: AddressSet) -> Iterator[MapPiece]:
    """The parts of sorted pieces that are in a set, in order; the cost grows with what is found."""
    for first, last in addresses.intervals:
        place = max(bisect_right(pieces, first, key=_start) - 1, 0)
        for number in range(place, bisect_left(pieces, last + 1, key=_start)):
            each = pieces[number]
            if each.last >= first:
                yield MapPiece(max(each.first, first), min(each.last, last), each.state)


def _over(base: Sequence[MapPiece], upper: Iterable[MapPiece]) -> Iterator[MapPiece]:
    """Sorted pieces with others laid over them, all of whose addresses the former have, too."""
    covered = list(upper)
    yield from covered
    rest = AddressSet(0, tuple((each.first, each.last) for each in covered))
    for state in {each.state for each in base}:
        mine = AddressSet(0, tuple((each.first, each.last) for each in base if each.state is state))
        yield from (MapPiece(first, last, state) for first, last in (mine - rest).intervals)


# --- What has changed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MapChange:
    """Neighbouring addresses that have another state now; None: the pool does not have them any more."""

    first: int
    last: int
    state: AddressState | None


def changes(old: PoolMap, new: PoolMap) -> list[MapChange]:
    """What has to be laid over the old map to get the new one; the cost grows with their pieces alone."""
    former, present = _by_state(old), _by_state(new)
    nothing = AddressSet(new.version)
    found = [
        MapChange(first, last, state)
        for state, addresses in present.items()
        for first, last in (addresses - former.get(state, nothing)).intervals
    ]
    gone = _all(former, new.version) - _all(present, new.version)
    found += [MapChange(first, last, None) for first, last in gone.intervals]
    return sorted(found, key=lambda each: each.first)


def _by_state(found: PoolMap) -> dict[AddressState, AddressSet]:
    intervals: dict[AddressState, list[tuple[int, int]]] = {}
    for each in found.pieces:
        intervals.setdefault(each.state, []).append((each.first, each.last))
    return {state: AddressSet(found.version, tuple(known)) for state, known in intervals.items()}


def _all(sets: Mapping[AddressState, AddressSet], version: int) -> AddressSet:
    return AddressSet.of(version, (interval for each in sets.values() for interval in each.intervals))
