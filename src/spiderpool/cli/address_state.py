"""What an address is now, for `who` and for the maps of the page: judged here, and printed by each in its own words.

Pools say what an address is without a record; a record goes before that. A sandbox that has the address of another pod
goes before both in a map, and is a problem beside the record's state in the answer of `who`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import cooldown_is_over, usable
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses


class AddressState(enum.StrEnum):
    """What an address is now."""

    FREE = "free"
    """No pod has it, and a pool gives it, unless that is disabled or being deleted."""
    HELD = "held"
    RESERVED = "reserved"
    """A SpiderReservedIP has it: no pod gets it."""
    EXCLUDED = "excluded"
    """No pool gives it: spec.excludeIPs has it, no machine may have it, or a pool has it in its subnet alone."""
    COOLING = "cooling"
    """Released, and kept for its former pod until the cooldown of its pool ends."""
    FENCED = "fenced"
    """Held by a pod of a node of which somebody says that nothing runs there any more."""
    CONFLICTING = "conflicting"
    """A sandbox has it that is not its holder's; `who` has this state only where there is no holder."""
    RELEASED = "released"
    """Its record is one of a pod that has given it back, and any pod may get it: a map shows what the pool says."""
    IN_NO_POOL = "in no pool"
    """No subnet of a pool has it."""
    UNKNOWN = "unknown"
    """Its record may not be read."""

    @property
    def words(self) -> str:
        """The state as `who` prints it; the page has words of its own, in the language of its reader."""
        return _WORDS[self]


_WORDS = {
    AddressState.FREE: "free",
    AddressState.HELD: "held",
    AddressState.RESERVED: "reserved",
    AddressState.EXCLUDED: "given by no pool",
    AddressState.COOLING: "cooling down",
    AddressState.FENCED: "held",  # a note says what is to be known of its node
    AddressState.CONFLICTING: "in use without a record",
    AddressState.RELEASED: "released, free for any pod",
    AddressState.IN_NO_POOL: "in no pool",
    AddressState.UNKNOWN: "not known",
}


def record_state(record: SpiderIP, pool: SpiderIPPool | None, now: float, *, is_stopped: bool) -> AddressState:
    """What the address of a record is at ``now`` (seconds since 1970): held, fenced, cooling or released.

    ``pool`` is that of the record; ``is_stopped`` says whether nothing runs on its node any more.
    """
    if record.spec.releasedAt is not None:
        return AddressState.RELEASED if cooldown_is_over(record, pool, now) else AddressState.COOLING
    return AddressState.FENCED if is_stopped else AddressState.HELD


def is_in_conflict(pod_uid: str, record: SpiderIP | None) -> bool:
    """Whether a pod's sandbox has an address that is not its own by the address's record.

    The pods from which a virtual machine moves have it rightly, too.
    """
    if record is None:
        return True
    spec = record.spec
    return pod_uid != spec.podUID and all(pod_uid != each.podUID for each in spec.movedFrom or ())


@dataclass(frozen=True, slots=True)
class ListedAddresses:
    """What the spec of a pool says of addresses."""

    listed: AddressSet
    """Of spec.ips."""
    usable: AddressSet
    """Of these the ones that pods may get, reserved or not."""

    @classmethod
    def of(cls, pool: SpiderIPPool) -> Self:
        """None of a pool that cannot be read: agents take none of them either."""
        version = version_of(pool)
        return cls(_listed(pool, version), pool_addresses(pool, version))

    def by_state(self, reserved: AddressSet) -> dict[AddressState, AddressSet]:
        """The listed addresses, as they are without a record."""
        return {
            AddressState.FREE: self.usable - reserved,
            AddressState.RESERVED: self.usable & reserved,
            AddressState.EXCLUDED: self.listed - self.usable,
        }


def _listed(pool: SpiderIPPool, version: int) -> AddressSet:
    try:
        is_readable = usable(pool).version == version
        listed = AddressSet.parse(pool.spec.ips or (), version)
    except ValueError:  # written past the admission webhook
        return AddressSet(version)
    return listed if is_readable else AddressSet(version)
