"""`subnet renumber`: the pods of one subnet's pools get addresses of another subnet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import Say, object_reference
from spiderpool.cli.renumbering.counterparts import (
    RENUMBERED_FROM,
    AddressSpace,
    PoolCounterpart,
    address_space,
    counterparts,
)
from spiderpool.cli.renumbering.holders import EmptiedPart, whole_pool
from spiderpool.cli.renumbering.marks import MoveKind, is_moving_by, notes_of
from spiderpool.cli.renumbering.move_check import check_move
from spiderpool.cli.renumbering.moving import empty
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.places import places
from spiderpool.cli.renumbering.pool_owners import why_not_ours
from spiderpool.cli.renumbering.report import MovePlan, PlannedPool, drain_text
from spiderpool.cli.renumbering.runs import PoolRun, learnt
from spiderpool.cli.renumbering.survey import survey
from spiderpool.cli.renumbering.writes import close_pool, reopen_pool
from spiderpool.core.admission.ippool import PoolContext, validate_ippool
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.errors import BadRequest
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound


@dataclass(frozen=True, slots=True)
class RenumberingCase:
    """Both subnets, and the pools of the old one."""

    old: AddressSpace
    new: AddressSpace
    pairs: tuple[PoolCounterpart, ...]
    foreign: tuple[str, ...]
    """Why other pools of the old subnet stay as they are."""
    refusals: tuple[str, ...]
    """What the webhook would refuse of new pools."""

    @property
    def parts(self) -> tuple[EmptiedPart, ...]:
        """All of the old pools."""
        return tuple(whole_pool(pair.old) for pair in self.pairs)

    @property
    def names(self) -> set[str]:
        """The old pools and, if it is a SpiderSubnet, the old subnet."""
        return {*(pair.old.name for pair in self.pairs), *([self.old.name] if self.old.source else [])}


@dataclass(frozen=True, slots=True)
class SubnetRenumbering:
    """Two subnets, by the names of their SpiderSubnets or as CIDRs."""

    old: str
    new: str
    ips: Sequence[str]
    gateway: str | None
    delete_old: bool
    options: MoveOptions

    async def _case(self, cluster: Cluster) -> RenumberingCase:
        """What there is. Raises BadRequest and Refused for what cannot be done at all."""
        subnets = await cluster.list(SpiderSubnet)
        old = address_space(self.old, subnets or ())
        new = address_space(self.new, subnets or (), self.ips, self.gateway)
        if old.subnet == new.subnet:
            raise BadRequest(f"{self.old} and {self.new} are one subnet: name another one")
        if old.addresses.version != new.addresses.version:
            raise BadRequest(f"{old.subnet} and {new.subnet} are of different families")
        if new.source is None and not self.ips:
            raise BadRequest(f"no SpiderSubnet has {new.subnet}: say by --ips which of its addresses pools may have")
        pools = await cluster.needed(SpiderIPPool)
        mine = [pool for pool in pools if pool.spec.subnet == old.subnet]
        foreign = [why for pool in mine if (why := why_not_ours(pool, subnets or ()))]
        if not mine and not any(RENUMBERED_FROM in notes_of(pool) and pool.spec.subnet == new.subnet for pool in pools):
            raise BadRequest(f"no pool has the subnet {old.subnet}: see `kubectl get spiderippools`")
        reserved = reserved_addresses(await cluster.list(SpiderReservedIP) or (), new.addresses.version)
        plain = [pool for pool in mine if not why_not_ours(pool, subnets or ())]
        pairs = tuple(counterparts(plain, (old, new), pools, reserved))
        context = PoolContext(pools, subnets=subnets)
        faults = [
            f"pool {e.new.name}: {each}"
            for e in pairs
            if not e.exists
            for each in validate_ippool(e.new, None, context)
        ]
        return RenumberingCase(old, new, pairs, tuple(foreign), tuple(faults))

    async def plan(self, cluster: Cluster) -> MovePlan:
        """What would be done: names of new pools first."""
        case = await self._case(cluster)
        check = await check_move(cluster, self.options, case.parts, [pair.new for pair in case.pairs])
        remedy = f"write {case.new.name}, or the pool of it, there"
        return MovePlan(
            objects=tuple(
                object_reference(SpiderIPPool, each.name) for pair in case.pairs for each in (pair.new, pair.old)
            ),
            pools=tuple(row for pair in case.pairs for row in self._rows(pair)),
            holders=check.found.holders,
            room=check.room,
            named=(*case.foreign, *await places(cluster, case.names, remedy)),
            notes=(*check.holder_notes, *_route_notes(case), *check.room_notes),
            refusals=(*case.refusals, *check.refusals),
        )

    def _rows(self, pair: PoolCounterpart) -> Sequence[PlannedPool]:
        made = "exists" if pair.exists else "is made"
        last = ", and is deleted once it is empty" if self.delete_old else ""
        return (
            PlannedPool(pair.new.name, ", ".join(pair.new.spec.ips or ()), f"{made} in the place of {pair.old.name}"),
            PlannedPool(pair.old.name, ", ".join(pair.old.spec.ips or ()), f"{drain_text(pair.old)}{last}"),
        )

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Make the new pools, close the old ones, empty these one by one; whether nothing of them is left."""
        case = await self._case(cluster)
        for pair in case.pairs:
            if not pair.exists:
                await self._make(cluster, pair, say)
        async with AsyncExitStack() as stack:
            parts, runs = [], []
            for part in case.parts:  # all are closed first, so that no pod moves from one to the next
                run = PoolRun(cluster, part)
                parts.append(replace(part, pool=await close_pool(cluster, part, run.mark())))
                runs.append(run)
                await stack.enter_async_context(run.kept())
                say(f"pool {part.pool.name} gives no new address")
            if parts:
                await learnt()
            left = not await self._empty(cluster, parts, runs, say)
        if self.delete_old:
            for part in parts:
                left = not await self._delete(cluster, part, say) or left
        for text in case.foreign:
            say(f"left: {text}")
        return not left and not case.foreign

    async def _empty(self, cluster: Cluster, parts: Sequence[EmptiedPart], runs: Sequence[PoolRun], say: Say) -> bool:
        """Empty the old pools one after the other; whether all are."""
        outcomes = [await empty(cluster, [part], self.options, runs, say) for part in parts]
        return all(outcomes)

    async def _make(self, cluster: Cluster, pair: PoolCounterpart, say: Say) -> None:
        try:
            await cluster.client.create(pair.new, timeout=cluster.timeout)
        except AlreadyExists:
            raise BadRequest(f"pool {pair.new.name} has been made meanwhile; run the same command again") from None
        say(f"pool {pair.new.name} is made with {', '.join(pair.new.spec.ips or ())}")

    async def _delete(self, cluster: Cluster, part: EmptiedPart, say: Say) -> bool:
        """Delete a pool of which nobody holds an address; whether it is gone."""
        name = part.pool.name
        if (await survey(cluster, [part])).records:
            say(f"pool {name} stays, since its addresses are held")
            return False
        try:
            await cluster.client.delete(SpiderIPPool, name, uid=part.pool.metadata.uid, timeout=cluster.timeout)
        except (NotFound, Conflict) as error:
            say(f"pool {name} is not deleted: {error.message}")
            return isinstance(error, NotFound)
        say(f"pool {name} is deleted")
        return True

    async def undo(self, cluster: Cluster, say: Say) -> bool:
        """Have the old pools give addresses again; the new ones stay, since pods have addresses of them."""
        old = address_space(self.old, await cluster.list(SpiderSubnet) or ())
        pools = await cluster.needed(SpiderIPPool)
        for pool in pools:
            if pool.spec.subnet != old.subnet or not is_moving_by(pool, MoveKind.DRAIN):
                continue
            say(await reopen_pool(cluster, pool))
            for new in pools:
                if notes_of(new).get(RENUMBERED_FROM) == pool.name:
                    say(f"pool {new.name} stays; for pods to move back: spiderpoolctl pool drain {new.name} --move")
        return True

    @property
    def ways(self) -> str:
        """How to go on, and how to take it back."""
        command = f"spiderpoolctl subnet renumber {self.old} {self.new}"
        return f"go on: the same command; have the old pools give addresses again: {command} --undo"


def _route_notes(case: RenumberingCase) -> list[str]:
    """What new pools do not have of the old ones."""
    lost = ", ".join(pair.old.name for pair in case.pairs if pair.old.spec.routes)
    return [f"Routes of {lost} are not taken over, as their next hops are in the old subnet"] if lost else []
