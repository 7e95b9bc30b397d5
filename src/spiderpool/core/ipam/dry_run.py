"""What an ADD would be granted now, request by request, if nobody else wrote meanwhile. Nothing is claimed.

The rules and sentences are those by which agents allocate (``selection``, ``allocation``, ``inheritance``). An agent
knows less than the records say, and learns what it lacks by being refused; the outcome is the same, but for the choice
among free addresses of a pool.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import IP_OWNER_LABEL, SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.meta import revision
from spiderpool.core.addresses import AddressSet, from_int, object_name, to_int
from spiderpool.core.ipam import allocation, inheritance, quota, selection
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.node_gc import is_holder
from spiderpool.core.ipam.owners import owner_label
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.core.labels import label_value
from spiderpool.errors import Refused


class GrantOrigin(enum.StrEnum):
    """Why a pod gets an address."""

    HELD = "it holds it already"
    OWNER = "its owner keeps it"
    FORMER = "a pod of its name had it before, and no other pod has got it since"
    FREE = "it is free"
    COOLED = "its cooldown is over"
    EARLY = "nothing else is free, though it still cools down"


class RefusalCause(enum.StrEnum):
    """What a pod is refused for."""

    OWNER = "owner"
    """What its owner has, and may not give up."""
    QUOTA = "quota"
    POOLS = "pools"


@dataclass(frozen=True, slots=True)
class DryGrant:
    """The outcome of one request: a record, or the refusal."""

    request: AllocationRequest
    trace: tuple[Verdict, ...]
    """The verdict on every pool that would be considered for a new address."""
    record: SpiderIP | None = None
    origin: GrantOrigin | None = None
    refusal: Refused | None = None
    cause: RefusalCause | None = None
    """Of the refusal."""


def _nothing(_: SpiderIP) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class AddressSnapshot:
    """What decides about the addresses of the pods of one node, as it was read at one moment."""

    node: str
    pools: tuple[SpiderIPPool, ...]
    """All pools of the cluster."""
    records: tuple[SpiderIP, ...]
    """All records of the cluster."""
    reserved: Mapping[int, AddressSet]
    """Reserved addresses by family."""
    now: float
    """Seconds since 1970."""
    occupied: Mapping[int, Collection[int]] = field(default_factory=dict)
    """Addresses by family that sandboxes of the node may use without a record."""
    exhausted_quota: str | None = None
    """A quota of which the pod's Namespace has nothing left."""
    node_object: Node | None = None
    pods: Mapping[str, Pod] = field(default_factory=dict)
    """Pods by ``namespace/name``: those that records of the pod's owner name."""
    why_not_given_up: Callable[[SpiderIP], str | None] = _nothing
    """Why a sandbox of the record's pod may still have its address."""

    def visible(self) -> list[SpiderIPPool]:
        """The pools that the node's agent knows: its own and the shared ones."""
        return visible_pools(self.pools, self.node)

    def pool(self, name: str) -> SpiderIPPool | None:
        """A pool by name."""
        return next((each for each in self.pools if each.name == name), None)


def visible_pools(pools: Iterable[SpiderIPPool], node: str) -> list[SpiderIPPool]:
    """The pools that the agent of a node knows: its own and the shared ones."""
    label = label_value(node)
    return [each for each in pools if (each.metadata.labels or {}).get(POOL_NODE_LABEL, label) == label]


def dry_run(requests: Mapping[RequestKey, AllocationRequest], seen: AddressSnapshot) -> tuple[DryGrant, ...]:
    """The outcome of each request, in order; what one would be granted is not there for the next.

    An agent grants all of them or none: with one refusal the pod gets nothing.
    """
    outcomes: list[DryGrant] = []
    for request in requests.values():
        outcome = _Search(request, seen).outcome()
        outcomes.append(outcome)
        if outcome.record is not None:
            others = (each for each in seen.records if each.name != outcome.record.name)
            seen = replace(seen, records=(*others, outcome.record))
    return tuple(outcomes)


@dataclass(frozen=True, slots=True)
class _Search:
    """The search of an address for one request."""

    request: AllocationRequest
    seen: AddressSnapshot

    def outcome(self) -> DryGrant:
        """The address that the pod holds, else that which it takes over, else a new one."""
        chosen = selection.select(self.request, self.seen.visible())
        if held := self._held():
            return DryGrant(self.request, chosen.trace, held, GrantOrigin.HELD)
        try:
            inherited, apart = self._inherited()
        except Refused as refusal:
            return DryGrant(self.request, chosen.trace, refusal=refusal, cause=RefusalCause.OWNER)
        if inherited is not None:
            return DryGrant(self.request, chosen.trace, *inherited)
        request = replace(self.request, owner=None) if apart else self.request
        return _Search(request, self.seen)._claimed(chosen)

    def _held(self) -> SpiderIP | None:
        """The record that the pod holds, of several the one that was written first."""
        request = self.request
        holder = (request.pod_uid, request.interface, request.version)
        here = (each for each in self._of_family() if each.spec.node == self.seen.node)
        mine = (each for each in here if not each.spec.releasedAt)
        held = sorted(
            (each for each in mine if (each.spec.podUID, each.spec.interface, family(each)) == holder),
            key=lambda each: revision(each.metadata.resourceVersion),
        )
        return next((each for each in held if allocation.is_acceptable(each, request)), None)

    # --- what an owner or a former pod had

    def _inherited(self) -> tuple[tuple[SpiderIP, GrantOrigin] | None, bool]:
        """What is taken over, if anything, and whether the owner's machine keeps its own. Raises Refused."""
        if self.request.owner is not None:
            return self._from_owner()
        for record in self._of_family():
            if record.spec.releasedAt and record.spec.node == self.seen.node and self._suits_as_before(record):
                return (allocation.taken_over(record, self.request), GrantOrigin.FORMER), False
        return None, False

    def _suits_as_before(self, record: SpiderIP) -> bool:
        request = self.request
        if not (inheritance.was_of(record, request) and allocation.is_acceptable(record, request)):
            return False
        pool = next((each for each in self.seen.visible() if each.name == record.spec.pool), None)
        return pool is not None and self._why_lost(record, pool) is None

    def _why_lost(self, record: SpiderIP, pool: SpiderIPPool) -> str | None:
        return inheritance.why_lost(self.request, record, pool, self.seen.reserved[family(record)])

    def _from_owner(self) -> tuple[tuple[SpiderIP, GrantOrigin] | None, bool]:
        request = self.request
        assert request.owner is not None
        label, apart = owner_label(request.owner, request.pod), False
        refusal: Refused | None = None
        owned = (each for each in self.seen.records if (each.metadata.labels or {}).get(IP_OWNER_LABEL) == label)
        records = inheritance.in_order(owned, request)
        for record in [*filter(self._runs_elsewhere, records)] or records:
            try:
                suits = self._why_unsuitable(record) is None
            except Refused as error:
                refusal = refusal or error
                continue
            if suits:
                self._check_given_up(record)
                return (allocation.taken_over(record, request), GrantOrigin.OWNER), False
            apart = apart or request.migrating
        if refusal is not None:
            raise refusal
        return None, apart

    def _runs_elsewhere(self, record: SpiderIP) -> bool:
        spec = record.spec
        if not inheritance.may_run_elsewhere(record, self.request):
            return False
        if not is_holder(self.seen.pods.get(f"{spec.namespace}/{spec.pod}"), record):
            return False
        if not self.request.migrating:
            raise inheritance.other_machine(record, self.request)
        return True

    def _why_unsuitable(self, record: SpiderIP) -> str | None:
        request = self.request
        if reason := inheritance.why_not_asked(request, record):
            return reason
        pool = self.seen.pool(record.spec.pool)
        if pool is None:
            raise inheritance.missing_pool(request, record)
        if selection.fits_but_for_node_labels(request, pool):
            return inheritance.why_labels_differ(request, record, pool, self.seen.node_object)
        return self._why_lost(record, pool)

    def _check_given_up(self, record: SpiderIP) -> None:
        """Raises Refused while a sandbox of the former pod may have the address."""
        spec = record.spec
        if spec.podUID == self.request.pod_uid or spec.releasedAt or self.request.migrating:
            return
        if reason := self.seen.why_not_given_up(record):
            raise Refused(f"{self.request} waits for {spec.address}, which {reason}")

    # --- a new address

    def _claimed(self, chosen: selection.Selection) -> DryGrant:
        request, trace = self.request, list(chosen.trace)
        if quota.counts(request) and self.seen.exhausted_quota:
            refusal = allocation.quota_refusal(request, self.seen.exhausted_quota)
            return DryGrant(request, chosen.trace, refusal=refusal, cause=RefusalCause.QUOTA)
        for pool in chosen.pools:
            outcome = self._from(pool)
            if not isinstance(outcome, Verdict):
                return DryGrant(request, tuple(trace), *outcome)
            trace.append(outcome)
        if request.address is None and (early := self._early(chosen.pools)):
            return DryGrant(request, tuple(trace), early, GrantOrigin.EARLY)
        refusal = allocation.refusal(request, trace)
        return DryGrant(request, tuple(trace), refusal=refusal, cause=RefusalCause.POOLS)

    def _from(self, pool: SpiderIPPool) -> tuple[SpiderIP, GrantOrigin] | Verdict:
        try:
            addresses = self._addresses(pool)
        except ValueError as error:
            return allocation.unreadable(pool.name, error)
        if self.request.address is not None:
            return self._requested(pool, addresses, self.request.address)
        taken = {*map(address_of, self._of_family()), *self._occupied()}
        start = allocation.start_of(addresses, self.seen.node, exclusive=allocation.is_exclusive(pool, self.seen.node))
        free = allocation.choose(addresses, taken.__contains__, start)
        if free is not None:
            return allocation.new_record(self.request, pool, free), GrantOrigin.FREE
        for record in self._cooling(pool):
            if allocation.cooldown_is_over(record, pool, self.seen.now):
                return allocation.taken_over(record, self.request), GrantOrigin.COOLED
        return allocation.exhausted(pool.name, addresses.size)

    def _requested(
        self, pool: SpiderIPPool, addresses: AddressSet, text: str
    ) -> tuple[SpiderIP, GrantOrigin] | Verdict:
        """The only acceptable address, where this pool can give it."""
        request = self.request
        address = to_int(text, request.version)
        if address not in addresses:
            return allocation.elsewhere(pool.name, text)
        if address in self._occupied():
            return allocation.occupied(pool.name, text)
        canonical = from_int(address, request.version)
        record = next((each for each in self.seen.records if each.name == object_name(canonical)), None)
        if record is None:
            return allocation.new_record(request, pool, address), GrantOrigin.FREE
        holder = (record.spec.podUID, record.spec.interface)
        if not record.spec.releasedAt and holder == (request.pod_uid, request.interface):
            return record, GrantOrigin.HELD
        if record.spec.pool == pool.name and allocation.cooldown_is_over(record, pool, self.seen.now):
            return allocation.taken_over(record, request), GrantOrigin.COOLED
        return allocation.occupied(pool.name, canonical, record.spec.releasedAt)

    def _early(self, pools: Iterable[SpiderIPPool]) -> SpiderIP | None:
        cooling = (record for pool in pools for record in self._cooling(pool))
        return next((allocation.taken_over(record, self.request) for record in cooling), None)

    def _cooling(self, pool: SpiderIPPool) -> list[SpiderIP]:
        """Released records of a pool whose addresses it still gives, the oldest first."""
        try:
            addresses = self._addresses(pool)
        except ValueError:
            return []
        occupied = self._occupied()
        released = (each for each in self._of_family() if each.spec.releasedAt and each.spec.pool == pool.name)
        found = [each for each in released if address_of(each) in addresses and address_of(each) not in occupied]
        return sorted(found, key=lambda each: each.spec.releasedAt or "")

    def _addresses(self, pool: SpiderIPPool) -> AddressSet:
        return allocation.usable(pool) - self.seen.reserved[self.request.version]

    def _occupied(self) -> Collection[int]:
        return self.seen.occupied.get(self.request.version, ())

    def _of_family(self) -> Iterable[SpiderIP]:
        return (each for each in self.seen.records if family(each) == self.request.version)
