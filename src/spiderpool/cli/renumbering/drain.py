"""`pool drain`: no new address comes from a pool, and its pods move to others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.printing import Say, object_reference
from spiderpool.cli.renumbering.holders import AddressHolder, EmptiedPart, HolderKind
from spiderpool.cli.renumbering.look import RoomQuestion, verdict, why_no_room, why_not_ours
from spiderpool.cli.renumbering.marks import MoveKind, is_moving_by, why_another_move
from spiderpool.cli.renumbering.moving import Mover, chosen
from spiderpool.cli.renumbering.report import MovePlan, PlannedPool, left_text
from spiderpool.cli.renumbering.runs import PoolRun, learnt
from spiderpool.cli.renumbering.survey import pool_named, survey
from spiderpool.cli.renumbering.writes import close_pool, reopen_pool
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.ipam.owners import is_automatic
from spiderpool.errors import NotReady, Refused


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """How pods are moved, by the options that these commands share."""

    move: bool
    move_unmanaged: bool
    even_if_full: bool
    timeout: float
    """Seconds for each pod: until it is evicted, and until another serves in its place."""
    policies: PolicyOptions
    move_jobs: bool = False

    @property
    def moves(self) -> bool:
        """Whether any pod is evicted."""
        return self.move or self.move_unmanaged or self.move_jobs

    def chosen(self, holders: Collection[AddressHolder]) -> list[AddressHolder]:
        """The holders that are evicted."""
        return chosen(holders, unmanaged=self.move_unmanaged, jobs=self.move_jobs) if self.moves else []

    def question(self, parts: tuple[EmptiedPart, ...], added: tuple[SpiderIPPool, ...] = ()) -> RoomQuestion:
        """Which pods get other addresses, where pools are ``added`` before."""
        return RoomQuestion(parts, added, self.move_unmanaged, self.move_jobs, self.policies)


def whole(pool: SpiderIPPool) -> EmptiedPart:
    """All of a pool. Raises Refused where its subnet cannot be read."""
    try:
        return EmptiedPart(pool, AddressSet.of_network(parse_subnet(pool.spec.subnet)), closes_pool=True)
    except ValueError as error:
        raise Refused(f"spec.subnet of pool {pool.name} is wrong: {error}") from error


@dataclass(frozen=True, slots=True)
class PoolDrain:
    """A pool that is to be empty."""

    pool: str
    options: MoveOptions

    async def plan(self, cluster: Cluster) -> MovePlan:
        """What would be done. Raises Refused for a pool that does not exist, or cannot be drained."""
        part = whole(await pool_named(cluster, self.pool))
        if is_automatic(part.pool):
            raise Refused(why_not_ours(part.pool, await cluster.list(SpiderSubnet) or ()) or "")
        found = await survey(cluster, [part])
        room = await self.options.question((part,)).answer(cluster, found)
        full = why_no_room(room)
        forced = self.options.even_if_full or not self.options.moves
        begun = filter(None, [why_another_move(part.pool, MoveKind.DRAIN)])
        return MovePlan(
            objects=(object_reference(SpiderIPPool, self.pool),),
            pools=(PlannedPool(self.pool, ", ".join(part.pool.spec.ips or ()), drain_text(part.pool)),),
            holders=found.holders,
            room=verdict(room, full),
            notes=(*holder_notes(self.options, found.holders), *(full if forced else ())),
            refusals=(*begun, *(() if forced else (f"{why}; --even-if-full begins all the same" for why in full))),
        )

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Close the pool, move its pods, tell what still holds an address; whether none does."""
        part = whole(await pool_named(cluster, self.pool))
        run = PoolRun(cluster, part)
        part = replace(part, pool=await close_pool(cluster, part, run.mark()))
        async with run.kept():
            say(f"pool {self.pool} gives no new address")
            await learnt()
            return await empty(cluster, [part], self.options, [run], say)

    async def undo(self, cluster: Cluster, say: Say) -> bool:
        """Have the pool give addresses again."""
        say(await reopen_pool(cluster, await pool_named(cluster, self.pool)))
        return True

    @property
    def ways(self) -> str:
        """How to go on, and how to take it back."""
        command = f"spiderpoolctl pool drain {self.pool}"
        return f"pool {self.pool} gives no new address; go on: {command} --move; take it back: {command} --undo"


def drain_text(pool: SpiderIPPool) -> str:
    """What happens to a pool that is drained."""
    is_closed = bool(pool.spec.disable) and is_moving_by(pool, MoveKind.DRAIN)
    return "gives no new address already" if is_closed else "gives no new address any more: spec.disable"


def holder_notes(options: MoveOptions, holders: Collection[AddressHolder]) -> list[str]:
    """What is to be known of holders."""
    kinds = {each.kind for each in holders}
    notes = []
    if HolderKind.MANAGED in kinds and not options.moves:
        notes.append("Pods stay where they are: --move evicts those that have a controller, one after the other")
    if HolderKind.NAMED in kinds:
        notes.append("Pods whose annotation names no pool that stays are not evicted: change it in their workload")
    return notes


async def empty(
    cluster: Cluster, parts: Collection[EmptiedPart], options: MoveOptions, runs: Collection[PoolRun], say: Say
) -> bool:
    """Evict what may be evicted, one after the other, and tell what still holds an address; whether none does.

    Agents have learnt by then that nobody gets an address of the parts any more.
    """
    mover = Mover(cluster, parts, options.timeout, runs, say)
    is_whole = True
    try:
        if options.moves:
            await mover.until_gone(HolderKind.ENDING)
            is_whole = await mover.move_all(options.chosen((await survey(cluster, parts)).holders))
            await mover.until_gone(HolderKind.JOB)
        for run in runs:
            await run.check()
    except NotReady as error:
        say(f"stopped: {error.message}")
        is_whole = False
    left = (await survey(cluster, parts)).holders
    for holder in left:
        say(f"still held: {left_text(holder)}")
    return is_whole and not left
