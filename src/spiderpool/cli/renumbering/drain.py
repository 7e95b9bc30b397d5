"""`pool drain`: no new address comes from a pool, and its pods move to others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import Say, object_reference
from spiderpool.cli.renumbering.holders import whole_pool
from spiderpool.cli.renumbering.move_check import check_move
from spiderpool.cli.renumbering.moving import empty
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.pool_owners import why_not_ours
from spiderpool.cli.renumbering.report import MovePlan, PlannedPool, drain_text
from spiderpool.cli.renumbering.runs import PoolRun, learnt
from spiderpool.cli.renumbering.survey import pool_named
from spiderpool.cli.renumbering.writes import close_pool, reopen_pool
from spiderpool.core.ipam.owners import is_automatic
from spiderpool.errors import Refused


@dataclass(frozen=True, slots=True)
class PoolDrain:
    """A pool that is to be empty."""

    pool: str
    options: MoveOptions

    async def plan(self, cluster: Cluster) -> MovePlan:
        """What would be done. Raises Refused for a pool that does not exist, or cannot be drained."""
        part = whole_pool(await pool_named(cluster, self.pool))
        if is_automatic(part.pool):
            raise Refused(why_not_ours(part.pool, await cluster.list(SpiderSubnet) or ()) or "")
        check = await check_move(cluster, self.options, [part])
        return MovePlan(
            objects=(object_reference(SpiderIPPool, self.pool),),
            pools=(PlannedPool(self.pool, ", ".join(part.pool.spec.ips or ()), drain_text(part.pool)),),
            holders=check.found.holders,
            room=check.room,
            notes=(*check.holder_notes, *check.room_notes),
            refusals=check.refusals,
        )

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Close the pool, move its pods, tell what still holds an address; whether none does."""
        part = whole_pool(await pool_named(cluster, self.pool))
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
