"""`pool resize`: a pool gets more addresses, or gives some up that nobody holds any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

from msgspec.structs import replace

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import Say, object_reference
from spiderpool.cli.renumbering.holders import EmptiedPart, held_records
from spiderpool.cli.renumbering.marks import MoveKind, is_moving_by, why_another_move
from spiderpool.cli.renumbering.move_check import check_move
from spiderpool.cli.renumbering.moving import empty
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.pool_owners import why_not_ours
from spiderpool.cli.renumbering.report import MovePlan, PlannedPool
from spiderpool.cli.renumbering.runs import PoolRun, learnt
from spiderpool.cli.renumbering.survey import pool_named, survey
from spiderpool.cli.renumbering.writes import (
    change_pool,
    end_cooldowns,
    mark_part,
    reservation_of,
    reserve,
    unmark,
    unreserve,
)
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.admission.ippool import PoolContext, default_ippool, validate_ippool
from spiderpool.core.ipam import inheritance
from spiderpool.core.ipam.allocation import address_text
from spiderpool.errors import BadRequest, Refused


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


def with_additions(change: Resized) -> SpiderIPPool:
    """The pool with what is added, and all that it had."""
    version = change.part.addresses.version
    before, after = (AddressSet.parse(each.spec.ips or (), version) for each in (change.before, change.after))
    if after.issubset(before):
        return change.before
    return replace(change.before, spec=replace(change.before.spec, ips=(before | after).ranges()))


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
        pool = await pool_named(cluster, self.pool)
        if why := why_another_move(pool, MoveKind.RESIZE):
            raise Refused(why)
        if (done := await self._given_up(cluster, pool)) and self._is_done(pool, done):
            return MovePlan((object_reference(SpiderIPPool, self.pool),), (), (), notes=(_finishing(pool, done),))
        change = resized(pool, self.change)
        subnets = await cluster.list(SpiderSubnet)
        if why := why_not_ours(change.before, subnets or ()):
            raise Refused(why)
        part = changed(change.part, pool=with_additions(change))  # these are written first
        check = await check_move(cluster, self.options, [part])
        return MovePlan(
            objects=(object_reference(SpiderIPPool, self.pool),),
            pools=tuple(_rows(change)),
            holders=check.found.holders,
            room=check.room,
            notes=(*([_finishing(pool, done)] if done else ()), *check.holder_notes, *check.room_notes),
            refusals=(*why_refused(change, check.found.pools, subnets), *check.refusals),
        )

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Change the pool, after those that hold what goes have moved; whether it is changed.

        The annotations of the pool are there from before the first step to after the last one, so that each
        interruption can be told.
        """
        pool = await pool_named(cluster, self.pool)
        if why := why_another_move(pool, MoveKind.RESIZE):
            raise Refused(why)
        if done := await self._given_up(cluster, pool):
            await self._finish(cluster, pool)
            say(_finishing(pool, done))
            if self._is_done(pool, done):
                return True
            pool = await pool_named(cluster, self.pool)
        change = resized(pool, self.change)
        run = PoolRun(cluster, change.part)
        if change.part.addresses:
            change = changed(change, before=await mark_part(cluster, change.part, run.mark()))
        elif is_moving_by(pool, MoveKind.RESIZE):
            raise Refused(f"pool {self.pool} is being resized: finish that, or take it back by --undo")
        if with_additions(change).spec.ips != change.before.spec.ips:
            await self._write(cluster, change.before, with_additions(change), say)
        if not change.part.addresses:
            return True
        async with run.kept():
            return await self._remove(cluster, run, say)

    async def _remove(self, cluster: Cluster, run: PoolRun, say: Say) -> bool:
        """Take away a part that is marked already; whether it is, and nobody has got an address of it meanwhile."""
        part = run.part
        await reserve(cluster, part)
        say(f"nobody gets {', '.join(part.addresses.ranges())} of pool {self.pool} any more")
        await learnt()
        if not await empty(cluster, [part], self.options, [run], say):
            return False
        records = await cluster.needed(SpiderIP)
        check_free(part, records)
        await end_cooldowns(cluster, part, records)
        change = resized(await run.check(), self.change)
        if change.part.addresses != part.addresses:
            raise Refused(f"somebody else has changed pool {self.pool} meanwhile; look at it, and run this again")
        await self._write(cluster, change.before, change.after, say)
        await learnt()  # else an agent might hear that they are not reserved any more before it hears of the pool
        late = await survey(cluster, [part])
        for holder in late.holders:
            say(f"pod {holder.pod} has got {', '.join(holder.addresses)} meanwhile: add it again, or evict the pod")
        await self._finish(cluster, await pool_named(cluster, self.pool))
        return not late.holders

    async def _finish(self, cluster: Cluster, pool: SpiderIPPool) -> None:
        await unreserve(cluster, pool)
        await unmark(cluster, pool)

    async def _given_up(self, cluster: Cluster, pool: SpiderIPPool) -> AddressSet | None:
        """What a resize that was interrupted has taken from the pool, and has left reserved or marked."""
        found = await reservation_of(cluster, pool)
        version = parse_subnet(pool.spec.subnet).version
        marked = inheritance.moving_addresses(pool, version) if is_moving_by(pool, MoveKind.RESIZE) else None
        part = AddressSet.parse(found.spec.ips or (), version) if found else marked
        return part if part and not part & AddressSet.parse(pool.spec.ips or (), version) else None

    def _is_done(self, pool: SpiderIPPool, done: AddressSet) -> bool:
        """Whether what is asked for was done by the resize that was interrupted."""
        listed = AddressSet.parse(pool.spec.ips or (), done.version)
        ips, added, removed = (
            AddressSet.parse(each, done.version) for each in (self.change.ips, self.change.added, self.change.removed)
        )
        return ips == listed if ips else bool(removed) and removed.issubset(done) and added.issubset(listed)

    async def _write(self, cluster: Cluster, before: SpiderIPPool, after: SpiderIPPool, say: Say) -> None:
        await change_pool(cluster, before, {"spec": {"ips": after.spec.ips}})
        say(f"pool {self.pool} has {', '.join(after.spec.ips or ())}")

    async def undo(self, cluster: Cluster, say: Say) -> bool:
        """Give the part free again that was to go."""
        pool = await pool_named(cluster, self.pool)
        is_marked = is_moving_by(pool, MoveKind.RESIZE)
        done = await self._given_up(cluster, pool)
        if not is_marked and done is None and (why := why_another_move(pool, MoveKind.RESIZE)):
            raise Refused(why)
        await unmark(cluster, pool)
        was = await unreserve(cluster, pool) or is_marked
        if done:
            say(_finishing(pool, done))
        else:
            say(f"pool {self.pool} gives all its addresses again" if was else f"pool {self.pool} is not being resized")
        return True

    @property
    def ways(self) -> str:
        """How to go on, and how to take it back."""
        return f"go on: the same command; take back what is not done: spiderpoolctl pool resize {self.pool} --undo"


def _finishing(pool: SpiderIPPool, done: AddressSet) -> str:
    return f"pool {pool.name} has given up {', '.join(done.ranges())} already; what was kept for that is removed"


def _rows(change: Resized) -> Iterable[PlannedPool]:
    version = change.part.addresses.version
    before, after = (AddressSet.parse(each.spec.ips or (), version) for each in (change.before, change.after))
    if added := (after - before).ranges():
        yield PlannedPool(change.before.name, ", ".join(added), "added")
    if removed := (before - after).ranges():
        yield PlannedPool(change.before.name, ", ".join(removed), "removed, once nobody holds one")
    yield PlannedPool(change.before.name, ", ".join(after.ranges()), "spec.ips afterwards")
