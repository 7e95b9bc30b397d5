"""How many addresses an ENI should have in advance: when more are requested from the cloud, and how some are returned.

An address is returned in three steps: it is fenced, that is, every pool excludes it; it stays fenced for a while, so
that ADDs which have begun before end; then it is removed from the ENI if the node's agent knows of the exclusion and no
pod has it. Only addresses that we registered ourselves and that no pod has used for long are returned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.decoding import decode
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet, RangeError, canonical
from spiderpool.core.cloud.eni_pools import releasing_words, subnet_version
from spiderpool.core.ipam.allocation import usable

ASSIGNED_ANNOTATION = "cloud.spidernet.io/assigned"
"""On a Node: the addresses that we registered, by ENI, as JSON. The cloud has no tags for addresses."""

STALE_REPORT = 300.0
"""Seconds for which a server's metadata, and so the report of its node, may show addresses that are gone."""


def assigned_of(node: Node) -> dict[str, list[str]]:
    """Returns the addresses that we registered, by ENI; none for an unreadable annotation, so that none is removed."""
    text = (node.metadata.annotations or {}).get(ASSIGNED_ANNOTATION, "{}")
    try:
        return decode(text, dict[str, list[str]])
    except msgspec.DecodeError:
        return {}


@dataclass(frozen=True, slots=True)
class PreallocationPolicy:
    """Addresses per ENI and family."""

    low: int = 5
    """With fewer free addresses more are requested."""
    high: int = 15
    """With more free addresses some are returned."""
    batch: int = 10
    """Addresses of one call, at most."""
    idle: float = 600.0
    """Seconds that an address must have been free before it is returned."""
    fence: float = 60.0
    """Seconds that every pool must have excluded an address before it is removed from the ENI."""

    @property
    def target(self) -> int:
        """Free addresses after requesting more, or after returning some."""
        return self.low + (self.high - self.low) // 2


@dataclass(frozen=True, slots=True)
class ENIState:
    """One address family of one ENI, as far as it is known."""

    eni: str
    version: int
    registered: frozenset[str]
    """Addresses that the cloud has on the ENI, without the primary one."""
    limit: int
    """How many of them there may be."""
    held: frozenset[str] = frozenset()
    """Addresses that have a SpiderIP."""
    assigned: frozenset[str] = frozenset()
    """Addresses that we registered."""
    reported: frozenset[str] = frozenset()
    """Addresses that the node's agent reports on the ENI."""
    own: frozenset[str] = frozenset()
    """Addresses of the server itself: see `own_of`."""
    releasing: frozenset[str] = frozenset()
    """Addresses that pools exclude by their annotation."""
    listed: frozenset[str] = frozenset()
    """Those of them that the pools still have in their ``ips``."""
    leaving: frozenset[str] = frozenset()
    """Those of them whose removal was requested, or may have been by a former leader: it may be done, or late."""
    fenced_since: Mapping[str, float] = field(default_factory=dict)
    """Address → time from which on all pools have excluded it."""
    idle_since: Mapping[str, float] = field(default_factory=dict)
    """Address → time from which on no pod has had it."""
    gone_since: Mapping[str, float] = field(default_factory=dict)
    """Address → time from which on it has been `gone`."""
    returned: frozenset[str] = frozenset()
    """Addresses that we had removed and that are on the ENI again for good: somebody has registered them since."""
    fenceable: frozenset[str] = frozenset()
    """Addresses that only pools made from ENIs give: no other pool honours the annotation."""
    vswitch_free: int | None = None
    """Free addresses of the vSwitch; None: not known, or without limit."""

    @property
    def free(self) -> frozenset[str]:
        """Addresses that a pod can get."""
        return self.registered - self.held - self.releasing - self.own

    @property
    def gone(self) -> frozenset[str]:
        """Fenced addresses that are neither on the ENI nor reported by its node nor listed by a pool any more.

        A pool follows the report later than we do: without its fence it would give what it still lists.
        """
        return self.releasing - self.registered - self.reported - self.listed


@dataclass(frozen=True, slots=True)
class Assign:
    """Request further addresses from the cloud."""

    count: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Have the pools exclude addresses."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unfence:
    """Have the pools no longer exclude addresses."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unassign:
    """Remove addresses from the ENI, if a fresh read finds that no pool gives them and no pod has them."""

    addresses: tuple[str, ...]


def own_of(version: int, registered: frozenset[str], known: frozenset[str]) -> frozenset[str]:
    """Returns the server's own IPv6 addresses among those of its ENI: those that neither we nor its agent have listed.

    The cloud marks no IPv6 address as primary, and the agent does not report the addresses that the server itself uses.
    """
    return registered - known if version == 6 else frozenset()


Step: TypeAlias = Assign | Fence | Unfence | Unassign


def plan(state: ENIState, policy: PreallocationPolicy, now: float) -> list[Step]:
    """Returns what to do next for one family of an ENI.

    Addresses that pools exclude although we did not register them were excluded by a user and stay excluded.
    """
    missing = policy.low - len(state.free)
    fenced = state.releasing & state.assigned & (state.registered - state.held)
    back = _newest(fenced - state.leaving, state.fenced_since)[: max(missing, 0)]
    steps: list[Step] = []
    if lifted := {*back, *(state.releasing & state.assigned & state.held), *_again(state), *_gone(state, now)}:
        steps.append(Unfence(_ordered(lifted)))
    if (count := _count(state, policy, len(back))) > 0:
        steps.append(Assign(count))
    if due := [each for each in _ordered(fenced - lifted) if _is_due(each, state, policy, now)]:
        steps.append(Unassign(tuple(due[: policy.batch])))
    if surplus := _surplus(state, policy, now):
        steps.append(Fence(surplus))
    return steps


def _again(state: ENIState) -> frozenset[str]:
    """Returns fenced addresses that are on the ENI for another time: their fence was for the time before."""
    return (state.returned & state.releasing & state.registered) - state.leaving


def _gone(state: ENIState, now: float) -> frozenset[str]:
    """Returns fenced addresses that have been gone for so long that no report shows them once more."""
    return frozenset(each for each in state.gone if now - state.gone_since.get(each, now) >= STALE_REPORT)


def _count(state: ENIState, policy: PreallocationPolicy, back: int) -> int:
    """Returns how many addresses to request, when ``back`` fenced ones become free again."""
    if len(state.free) + back >= policy.low:
        return 0
    room = state.limit - len(state.registered)
    count = min(policy.target - len(state.free) - back, policy.batch, room)
    return count if state.vswitch_free is None else min(count, state.vswitch_free)


def _is_due(address: str, state: ENIState, policy: PreallocationPolicy, now: float) -> bool:
    since = state.fenced_since.get(address)
    return since is not None and now - since >= policy.fence


def _surplus(state: ENIState, policy: PreallocationPolicy, now: float) -> tuple[str, ...]:
    """Returns the addresses to fence: those of ours that were idle for longest, down to the target."""
    if len(state.free) <= policy.high:
        return ()
    candidates = state.free & state.assigned & state.fenceable
    idle = [each for each in candidates if now - state.idle_since.get(each, now) >= policy.idle]
    oldest = sorted(idle, key=lambda each: (state.idle_since[each], int(ip_address(each))))
    return _ordered(oldest[: min(len(state.free) - policy.target, policy.batch)])


def _newest(addresses: Iterable[str], since: Mapping[str, float]) -> list[str]:
    """Returns addresses, the one that was fenced last first."""
    return sorted(addresses, key=lambda each: (-since.get(each, float("inf")), int(ip_address(each))))


def _ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses, key=lambda each: int(ip_address(each))))


def since(former: Mapping[str, float], members: Collection[str], now: float) -> dict[str, float]:
    """Returns member → time at which it became a member: its former time, or ``now`` for a new one."""
    return {each: former.get(each, now) for each in members}


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """Changes that the cloud confirmed and may not show yet.

    Both dicts map an address to the time from which on the cloud's description is trusted again.
    """

    added: Mapping[str, float] = field(default_factory=dict)
    removed: Mapping[str, float] = field(default_factory=dict)

    def pending(self, described: frozenset[str], now: float) -> RecentChanges:
        """Returns the changes that a description of the ENI does not show yet."""
        return RecentChanges(
            {each: until for each, until in self.added.items() if now < until and each not in described},
            {each: until for each, until in self.removed.items() if now < until and each in described},
        )

    def applied(self, described: frozenset[str]) -> frozenset[str]:
        """Returns the addresses of the ENI: as described, with these changes."""
        return (described | self.added.keys()) - self.removed.keys()

    def with_added(self, addresses: Iterable[str], until: float) -> RecentChanges:
        """Returns the changes after the cloud registered addresses."""
        new = dict.fromkeys(addresses, until)
        return RecentChanges({**self.added, **new}, {key: at for key, at in self.removed.items() if key not in new})

    def with_removed(self, addresses: Iterable[str], until: float) -> RecentChanges:
        """Returns the changes after the cloud removed addresses."""
        new = dict.fromkeys(addresses, until)
        return RecentChanges({key: at for key, at in self.added.items() if key not in new}, {**self.removed, **new})


def releasing_of(pool: SpiderIPPool) -> frozenset[str]:
    """Returns the addresses that a pool excludes by its annotation; skips words that are no addresses."""
    return frozenset(each for word in releasing_words(pool) if (each := _canonical(word)))


def _canonical(word: str) -> str:
    try:
        return canonical(word)
    except ValueError:
        return ""


def releasing_text(addresses: Iterable[str]) -> str | None:
    """Returns the annotation's value; None when the annotation is to be removed."""
    return ",".join(_ordered(addresses)) or None


def lists(pool: SpiderIPPool, address: str) -> bool:
    """Whether an address is among a pool's ``ips``; True for malformed ones, to be safe."""
    parsed = ip_address(address)
    try:
        return int(parsed) in AddressSet.parse(pool.spec.ips or (), parsed.version)
    except (RangeError, ValueError):
        return True


def gives(pool: SpiderIPPool, address: str) -> bool:
    """Whether a pod could get an address from a pool; True for a malformed pool, to be safe."""
    parsed = ip_address(address)
    if subnet_version(pool) != parsed.version:
        return False
    try:
        return int(parsed) in usable(pool)
    except (RangeError, ValueError):
        return True
