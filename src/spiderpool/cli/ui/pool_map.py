"""Pools as maps: for each address a state, as intervals. Values in, values out.

The states are those of `who` and of the allocator: a free address is one that a pod may get now, a cooling one is
released and waits for the cooldown of its pool.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.attention import why_past
from spiderpool.core.addresses import FAMILIES, AddressSet, to_int
from spiderpool.core.ipam.allocation import address_of, cooldown_is_over, family, usable
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses, reserved_addresses


class AddressState(enum.StrEnum):
    """What an address of a pool is now."""

    FREE = "free"
    HELD = "held"
    RESERVED = "reserved"
    """A SpiderReservedIP has it: no pod gets it."""
    EXCLUDED = "excluded"
    """spec.excludeIPs has it, or no machine may have it."""
    COOLING = "cooling"
    FENCED = "fenced"
    """Held by a pod of a node of which somebody says that nothing runs there any more."""
    CONFLICTING = "conflicting"
    """A sandbox has it that is not its holder's."""


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
    pieces: tuple[MapPiece, ...]

    def counts(self) -> dict[AddressState, int]:
        """How many addresses there are of each state."""
        found = dict.fromkeys(AddressState, 0)
        for each in self.pieces:
            found[each.state] += each.size
        return found

    def state_of(self, address: int) -> AddressState | None:
        """The state of an address; None where the pool does not have it."""
        place = bisect_right(self.pieces, address, key=lambda each: each.first) - 1
        found = self.pieces[place] if place >= 0 else None
        return found.state if found is not None and address <= found.last else None


@dataclass(frozen=True, slots=True)
class Sandboxed:
    """An address that a sandbox of a node has, as the node's account says."""

    version: int
    address: int
    pod_uid: str


@lru_cache(maxsize=65_536)
def _number(text: str) -> tuple[int, int] | None:
    version = 6 if ":" in text else 4
    try:
        return version, to_int(text, version)
    except ValueError:
        return None


def sandboxed_by(account: SpiderNode) -> tuple[Sandboxed, ...]:
    """The addresses in an account of a node."""
    sandboxes = (account.status.sandboxes if account.status else None) or ()
    return tuple(
        Sandboxed(*number, sandbox.podUID)
        for sandbox in sandboxes
        for interface in sandbox.interfaces or ()
        for text in interface.addresses or ()
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
    records: Collection[SpiderIP]
    reserved: Collection[SpiderReservedIP]
    accounts: Collection[SpiderNode]
    nodes: Collection[Node]
    sandboxed: Callable[[SpiderNode], Iterable[Sandboxed]] = field(default=sandboxed_by)
    """The addresses in an account; callers may remember them."""
    holders: Holders | None = None
    """The records by their addresses, where the caller keeps them like that; None: made from ``records``."""


def pool_maps(objects: MapInput, now: float) -> dict[str, PoolMap]:
    """The map of each pool at ``now`` (seconds since 1970), by its name."""
    holders = objects.holders if objects.holders is not None else _holders(objects.records)
    taken = {version: _runs(states) for version, states in _taken(objects, holders, now).items()}
    reserved = {version: reserved_addresses(objects.reserved, version) for version in FAMILIES}
    strays = _strays(objects.pools, holders)
    return {
        pool.name: _map(pool, taken[version_of(pool)], reserved[version_of(pool)], strays.get(pool.name, ()))
        for pool in objects.pools
        if version_of(pool) in FAMILIES
    }


def _holders(records: Iterable[SpiderIP]) -> Holders:
    found = HolderIndex()
    for record in records:
        found.note(None, record)
    return found.copy()


def _taken(objects: MapInput, holders: Holders, now: float) -> dict[int, dict[int, AddressState]]:
    """By family, the state of each address that is not free for any pod."""
    pools = {each.name: each for each in objects.pools}
    accounts = {each.name: each for each in objects.accounts}
    stopped = {each.name for each in objects.nodes if why_stopped(each, accounts.get(each.name))}
    found: dict[int, dict[int, AddressState]] = {}
    for version, records in holders.items():
        states = ((address, _state_of(record, pools, stopped, now)) for address, record in records.items())
        found[version] = {address: state for address, state in states if state is not AddressState.FREE}
    for each in _conflicts(objects, holders):
        found[each.version][each.address] = AddressState.CONFLICTING
    return found


def _state_of(
    record: SpiderIP, pools: Mapping[str, SpiderIPPool], stopped: Collection[str], now: float
) -> AddressState:
    spec = record.spec
    if spec.releasedAt is not None:
        is_over = cooldown_is_over(record, pools.get(spec.pool), now)
        return AddressState.FREE if is_over else AddressState.COOLING
    return AddressState.FENCED if spec.node in stopped else AddressState.HELD


def _conflicts(objects: MapInput, holders: Holders) -> Iterator[Sandboxed]:
    """The addresses of sandboxes that may run and are not those of their record, as `who` judges them."""
    nodes = {each.name: each for each in objects.nodes}
    for account in objects.accounts:
        if why_past(nodes.get(account.name), account) is not None:
            continue
        for each in objects.sandboxed(account):
            record = holders[each.version].get(each.address)
            if record is None or not _is_holder(each.pod_uid, record):
                yield each


def _is_holder(pod_uid: str, record: SpiderIP) -> bool:
    spec = record.spec
    return pod_uid == spec.podUID or any(pod_uid == each.podUID for each in spec.movedFrom or ())


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


def _strays(pools: Iterable[SpiderIPPool], holders: Holders) -> dict[str, list[int]]:
    """Addresses that records say are of a pool, and that the pool does not list any more."""
    listed = {each.name: listed_addresses(each) for each in pools}
    found: dict[str, list[int]] = {}
    for version, records in holders.items():
        for address, record in records.items():
            addresses = listed.get(record.spec.pool)
            if addresses is not None and addresses.version == version and address not in addresses:
                found.setdefault(record.spec.pool, []).append(address)
    return found


def listed_addresses(pool: SpiderIPPool) -> AddressSet:
    """The addresses of spec.ips; none of a pool that cannot be read: agents take none of them either."""
    version = version_of(pool)
    try:
        is_readable = usable(pool).version == version
        listed = AddressSet.parse(pool.spec.ips or (), version)
    except ValueError:  # written past the admission webhook
        return AddressSet(version)
    return listed if is_readable else AddressSet(version)


def _map(pool: SpiderIPPool, taken: Sequence[MapPiece], reserved: AddressSet, strays: Iterable[int]) -> PoolMap:
    version, listed = version_of(pool), listed_addresses(pool)
    may_give = pool_addresses(pool, version)
    parts = {
        AddressState.FREE: may_give - reserved,
        AddressState.RESERVED: may_give & reserved,
        AddressState.EXCLUDED: listed - may_give,
    }
    base = sorted(
        (MapPiece(first, last, state) for state, part in parts.items() for first, last in part.intervals), key=_start
    )
    outside = AddressSet.of_addresses(strays, version)
    pieces = chain(_over(base, within(taken, listed)), within(taken, outside))
    return PoolMap(pool.name, version, pool.spec.subnet, tuple(_joined(sorted(pieces, key=_start))))


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


def laid_over(pieces: Sequence[MapPiece], changed: Iterable[MapChange]) -> tuple[MapPiece, ...]:
    """Pieces with changes laid over them, as the page does it."""
    news = list(changed)
    covered = AddressSet.of(0, ((each.first, each.last) for each in news))
    kept = (
        MapPiece(first, last, each.state)
        for each in pieces
        for first, last in (AddressSet(0, ((each.first, each.last),)) - covered).intervals
    )
    added = (MapPiece(each.first, each.last, each.state) for each in news if each.state is not None)
    return tuple(_joined(sorted(chain(kept, added), key=_start)))
