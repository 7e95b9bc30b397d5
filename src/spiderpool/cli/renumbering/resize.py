"""`pool resize`: a pool gets more addresses, or gives some up that nobody holds any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import object_reference
from spiderpool.cli.renumbering.drain import MoveOptions, empty, holder_notes
from spiderpool.cli.renumbering.holders import EmptiedPart, held_records
from spiderpool.cli.renumbering.look import (
    PoolSurvey,
    RoomQuestion,
    pool_named,
    survey,
    verdict,
    why_no_room,
    why_not_ours,
)
from spiderpool.cli.renumbering.report import MovePlan, PlannedPool
from spiderpool.cli.renumbering.writes import change_pool, reserve, unreserve
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.admission.ippool import PoolContext, default_ippool, validate_ippool
from spiderpool.core.ipam.allocation import address_text
from spiderpool.errors import BadRequest, Refused

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AddressChange:
    """What is asked for: addresses that come and go, or all that there are to be. Ranges as in ``spec.ips``."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    ips: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Resized:
    """A pool before and after."""

    before: SpiderIPPool
    after: SpiderIPPool
    part: EmptiedPart
    """The addresses that go."""


def resized(pool: SpiderIPPool, change: AddressChange) -> Resized:
    """The pool with other addresses in ``spec.ips``. Raises BadRequest for what is no range, or changes nothing."""
    try:
        version = parse_subnet(pool.spec.subnet).version
        listed = AddressSet.parse(pool.spec.ips or (), version)
        excluded = AddressSet.parse(pool.spec.excludeIPs or (), version)
        added, removed = (AddressSet.parse(each, version) for each in (change.added, change.removed))
        wanted = AddressSet.parse(change.ips, version) if change.ips else (listed - removed) | added
    except ValueError as error:
        raise BadRequest(f"{error}") from error
    if both := (added & removed).ranges():
        raise BadRequest(f"{', '.join(both)} cannot be added and removed at once")
    if missing := (removed - listed).ranges():
        raise BadRequest(f"pool {pool.name} does not have {', '.join(missing)}: write ranges of its spec.ips")
    if hidden := ((wanted - listed) & excluded).ranges():
        raise BadRequest(f"spec.excludeIPs of pool {pool.name} has {', '.join(hidden)}: take them out there first")
    if wanted == listed:
        raise BadRequest(f"pool {pool.name} has these addresses already: {', '.join(listed.ranges())}")
    after = replace(pool, spec=replace(pool.spec, ips=wanted.ranges()))
    return Resized(pool, after, EmptiedPart(pool, listed - wanted, closes_pool=False))


def why_refused(
    change: Resized, others: Iterable[SpiderIPPool], subnets: Sequence[SpiderSubnet] | None
) -> tuple[str, ...]:
    """What the webhook would refuse, in its words, but for addresses that are held: these are told apart."""
    rest = [each for each in others if each.name != change.before.name]
    faults = validate_ippool(default_ippool(change.after), change.before, PoolContext(rest, subnets=subnets))
    return tuple(map(str, faults))


def check_free(part: EmptiedPart, records: Iterable[SpiderIP]) -> None:
    """Raises Refused while a record holds an address of what is to go from a pool."""
    if left := held_records([part], records):
        texts = ", ".join(f"{address_text(each)} ({each.spec.namespace}/{each.spec.pod})" for each in left[:5])
        raise Refused(f"pool {part.pool.name} keeps its addresses, since pods hold {len(left)} of them: {texts}")


@dataclass(frozen=True, slots=True)
class PoolResize:
    """A pool that gets other addresses."""

    pool: str
    change: AddressChange
    options: MoveOptions

    async def plan(self, cluster: Cluster) -> MovePlan:
        """What would be done. Raises Refused and BadRequest for a change that cannot be made at all."""
        change = resized(await pool_named(cluster, self.pool), self.change)
        subnets = await cluster.list(SpiderSubnet)
        if why := why_not_ours(change.before, subnets or ()):
            raise Refused(why)
        found = await survey(cluster, [change.part])
        refusals = [*why_refused(change, found.pools, subnets), *self._why_held(found)]
        room = await self._question(change).answer(cluster, found) if self.options.moves else None
        full = why_no_room(room)
        refusals += [] if self.options.even_if_full else [f"{why}; --even-if-full begins all the same" for why in full]
        return MovePlan(
            objects=(object_reference(SpiderIPPool, self.pool),),
            pools=tuple(_rows(change)),
            holders=found.holders,
            room=verdict(room, full),
            notes=(*holder_notes(self.options, found.holders), *(full if self.options.even_if_full else ())),
            refusals=tuple(refusals),
        )

    def _question(self, change: Resized) -> RoomQuestion:
        return RoomQuestion((change.part,), unmanaged=self.options.move_unmanaged, policies=self.options.policies)

    def _why_held(self, found: PoolSurvey) -> list[str]:
        held = len(found.records)
        if not held or self.options.moves:
            return []
        return [f"{held} of the addresses that go are held: --move evicts the pods that have a controller"]

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Change the pool, after those that hold what goes have moved; whether it is changed."""
        change = resized(await pool_named(cluster, self.pool), self.change)
        if not change.part.addresses:
            await self._write(cluster, change, say)
            return True
        await reserve(cluster.client, change.part)
        say(f"nobody gets {', '.join(change.part.addresses.ranges())} of pool {self.pool} any more")
        if self.options.moves:
            marked = {"metadata": {"annotations": change.part.annotation}}
            pool = await change_pool(cluster.client, change.before, marked)
            change = resized(pool, self.change)
        if not await empty(cluster, [change.part], self.options, say):
            return False
        check_free(change.part, await cluster.needed(SpiderIP))
        await self._write(cluster, change, say)
        await unreserve(cluster.client, self.pool)
        late = await survey(cluster, [change.part])  # an agent may not have known yet that they were reserved
        for holder in late.holders:
            say(f"pod {holder.pod} has got {', '.join(holder.addresses)} meanwhile: add it again, or evict the pod")
        return not late.holders

    async def _write(self, cluster: Cluster, change: Resized, say: Say) -> None:
        body = {"metadata": {"annotations": {POOL_MOVING_ANNOTATION: None}}, "spec": {"ips": change.after.spec.ips}}
        await change_pool(cluster.client, change.before, body)
        say(f"pool {self.pool} has {', '.join(change.after.spec.ips or ())}")

    async def undo(self, cluster: Cluster, say: Say) -> bool:
        """Give the part free again that was to go."""
        pool = await pool_named(cluster, self.pool)
        if pool.spec.disable and POOL_MOVING_ANNOTATION in (pool.metadata.annotations or {}):
            raise Refused(f"pool {self.pool} is drained, not resized: spiderpoolctl pool drain {self.pool} --undo")
        await change_pool(cluster.client, pool, {"metadata": {"annotations": {POOL_MOVING_ANNOTATION: None}}})
        was = await unreserve(cluster.client, self.pool)
        say(f"pool {self.pool} gives all its addresses again" if was else f"pool {self.pool} is not being resized")
        return True

    @property
    def ways(self) -> str:
        """How to go on, and how to take it back."""
        return (
            f"pool {self.pool} has its addresses still; go on: the same command; take it back: "
            f"spiderpoolctl pool resize {self.pool} --undo"
        )


def _rows(change: Resized) -> Iterable[PlannedPool]:
    version = change.part.addresses.version
    before, after = (AddressSet.parse(each.spec.ips or (), version) for each in (change.before, change.after))
    if added := (after - before).ranges():
        yield PlannedPool(change.before.name, ", ".join(added), "added")
    if removed := (before - after).ranges():
        yield PlannedPool(change.before.name, ", ".join(removed), "removed, once nobody holds one")
    yield PlannedPool(change.before.name, ", ".join(after.ranges()), "spec.ips afterwards")
