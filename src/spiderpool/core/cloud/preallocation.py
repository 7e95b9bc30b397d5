"""How many addresses an ENI should have in advance: when the cloud is asked for more, and how some go back.

An address goes back in three steps: it is fenced, that is, every pool leaves it out; it stays fenced for a while,
since agents learn of it by watch; then it is taken from the ENI if nobody holds it. Only addresses that we
registered ourselves, and that nobody has held for long, go back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import RangeError
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION, version_of
from spiderpool.core.ipam.allocation import usable

ASSIGNED_ANNOTATION = "cloud.spidernet.io/assigned"
"""On a Node: the addresses that we registered, by ENI, as JSON. An address cannot carry a tag of the cloud."""


@dataclass(frozen=True, slots=True)
class PreallocationPolicy:
    """Addresses per ENI and family."""

    low: int = 5
    """Below so many free addresses the cloud is asked for more."""
    high: int = 15
    """Above so many free addresses some go back."""
    batch: int = 10
    """Addresses of one call."""
    idle: float = 600.0
    """Seconds that an address must have been free before it goes back."""
    fence: float = 60.0
    """Seconds between the moment when every pool leaves an address out and the one when it leaves the ENI."""

    @property
    def target(self) -> int:
        """How many free addresses there are after asking for more, or giving back."""
        return self.low + (self.high - self.low) // 2


@dataclass(frozen=True, slots=True)
class ENIState:
    """One family of one ENI, as far as it is known."""

    eni: str
    version: int
    registered: frozenset[str]
    """Addresses that the cloud lets the ENI use, without the primary one."""
    limit: int
    """How many of these there may be."""
    held: frozenset[str] = frozenset()
    """Those that have a SpiderIP."""
    ours: frozenset[str] = frozenset()
    """Those that we registered."""
    reported: frozenset[str] = frozenset()
    """Those that the node's agent sees on the ENI."""
    own: frozenset[str] = frozenset()
    """Those of the server itself: see `own_of`."""
    releasing: frozenset[str] = frozenset()
    """Those that pools are told to leave out."""
    fenced_since: Mapping[str, float] = field(default_factory=dict)
    """Since when all pools leave an address out."""
    idle_since: Mapping[str, float] = field(default_factory=dict)
    """Since when nobody has held an address."""
    fenceable: frozenset[str] = frozenset()
    """Those in no pool but ones that are made from ENIs: only these leave an address out when told to."""
    switch_free: int | None = None
    """Free addresses of the vSwitch; None: not known."""

    @property
    def free(self) -> frozenset[str]:
        """Addresses that a pod can get."""
        return self.registered - self.held - self.releasing - self.own


@dataclass(frozen=True, slots=True)
class Assign:
    """Ask the cloud for further addresses."""

    count: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Tell the pools to leave addresses out."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unfence:
    """Tell the pools no longer to leave addresses out."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unassign:
    """Take addresses from the ENI, if a fresh read finds them in no pool and held by nobody."""

    addresses: tuple[str, ...]


def own_of(version: int, registered: frozenset[str], known: frozenset[str]) -> frozenset[str]:
    """Addresses of the server itself among those of its ENI; ``known`` are those that we or its agent know better.

    Of IPv6 addresses the cloud calls none primary; the agent leaves out what the server itself holds.
    """
    return registered - known if version == 6 else frozenset()


Step: TypeAlias = Assign | Fence | Unfence | Unassign


def plan(view: ENIState, policy: PreallocationPolicy, now: float) -> list[Step]:
    """What to do next for one family of an ENI; nothing when it has what it needs.

    What pools leave out although it is not ours, somebody else wants left out: that stays as it is.
    """
    lacking = policy.low - len(view.free)
    fenced = view.releasing & view.ours & (view.registered - view.held)
    back = _newest(fenced, view.fenced_since)[: max(lacking, 0)]
    steps: list[Step] = []
    if lifted := {*back, *(view.releasing & view.ours & view.held), *_left(view)}:
        steps.append(Unfence(_ordered(lifted)))
    if (count := _count(view, policy, len(back))) > 0:
        steps.append(Assign(count))
    if ripe := [each for each in _ordered(fenced - lifted) if _is_ripe(each, view, policy, now)]:
        steps.append(Unassign(tuple(ripe[: policy.batch])))
    if surplus := _surplus(view, policy, now):
        steps.append(Fence(surplus))
    return steps


def _left(view: ENIState) -> frozenset[str]:
    """Fenced addresses that have left the ENI, and that its node no longer sees either."""
    return view.releasing - view.registered - view.reported


def _count(view: ENIState, policy: PreallocationPolicy, back: int) -> int:
    """How many addresses to ask for, when ``back`` fenced ones come back."""
    if len(view.free) + back >= policy.low:
        return 0
    room = view.limit - len(view.registered)
    wanted = min(policy.target - len(view.free) - back, policy.batch, room)
    return wanted if view.switch_free is None else min(wanted, view.switch_free)


def _is_ripe(address: str, view: ENIState, policy: PreallocationPolicy, now: float) -> bool:
    since = view.fenced_since.get(address)
    return since is not None and now - since >= policy.fence


def _surplus(view: ENIState, policy: PreallocationPolicy, now: float) -> tuple[str, ...]:
    """Addresses to fence: the longest idle ones of those that are ours, down to the target."""
    if len(view.free) <= policy.high:
        return ()
    candidates = view.free & view.ours & view.fenceable
    idle = [each for each in candidates if now - view.idle_since.get(each, now) >= policy.idle]
    oldest = sorted(idle, key=lambda each: (view.idle_since[each], int(ip_address(each))))
    return _ordered(oldest[: min(len(view.free) - policy.target, policy.batch)])


def _newest(addresses: Iterable[str], since: Mapping[str, float]) -> list[str]:
    """Those first that have been fenced for the shortest time."""
    return sorted(addresses, key=lambda each: (-since.get(each, float("inf")), int(ip_address(each))))


def _ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses, key=lambda each: int(ip_address(each))))


def since(former: Mapping[str, float], members: Collection[str], now: float) -> dict[str, float]:
    """Since when each member has been one: as before, or from now on."""
    return {each: former.get(each, now) for each in members}


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """Changes that the cloud confirmed and may not show yet, with the time until when that is believed."""

    added: Mapping[str, float] = field(default_factory=dict)
    removed: Mapping[str, float] = field(default_factory=dict)

    def seen(self, described: frozenset[str], now: float) -> RecentChanges:
        """What is still to be kept in mind after the cloud described the ENI."""
        return RecentChanges(
            {each: until for each, until in self.added.items() if now < until and each not in described},
            {each: until for each, until in self.removed.items() if now < until and each in described},
        )

    def applied(self, described: frozenset[str]) -> frozenset[str]:
        """The addresses of the ENI: as described, with these changes."""
        return (described | self.added.keys()) - self.removed.keys()

    def with_added(self, addresses: Iterable[str], until: float) -> RecentChanges:
        """The cloud registered addresses."""
        new = dict.fromkeys(addresses, until)
        return RecentChanges({**self.added, **new}, {key: at for key, at in self.removed.items() if key not in new})

    def with_removed(self, addresses: Iterable[str], until: float) -> RecentChanges:
        """The cloud took addresses away."""
        new = dict.fromkeys(addresses, until)
        return RecentChanges({key: at for key, at in self.added.items() if key not in new}, {**self.removed, **new})


def releasing_of(pool: SpiderIPPool) -> frozenset[str]:
    """Addresses that a pool is told to leave out; what is no address is passed over."""
    text = (pool.metadata.annotations or {}).get(RELEASING_ANNOTATION, "")
    return frozenset(each for word in text.split(",") if (each := _canonical(word.strip())))


def _canonical(word: str) -> str:
    try:
        return str(ip_address(word))
    except ValueError:
        return ""


def releasing_text(addresses: Iterable[str]) -> str | None:
    """The annotation's value; None when it is to be removed."""
    return ",".join(_ordered(addresses)) or None


def gives(pool: SpiderIPPool, address: str) -> bool:
    """Whether a pod could get an address from a pool; also when the pool cannot be read, to be safe."""
    parsed = ip_address(address)
    if version_of(pool) != parsed.version:
        return False
    try:
        return int(parsed) in usable(pool)
    except (RangeError, ValueError):
        return True
