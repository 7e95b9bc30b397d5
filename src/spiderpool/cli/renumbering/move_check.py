"""Whether a move may begin: no other one is under way, who holds addresses may leave, and those who come find room.

`check_move` reads that for `pool drain`, `pool resize` and `subnet renumber` alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec.structs import replace as changed

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.connection import Cluster
from spiderpool.cli.plan.answer import AddressPlan, Placement, address_plan
from spiderpool.cli.plan.case import ClusterFacts, after_end, planned_groups, read_facts
from spiderpool.cli.plan.pods import replacements
from spiderpool.cli.policies import read_policies
from spiderpool.cli.renumbering.holders import EmptiedPart, evictable, held_records
from spiderpool.cli.renumbering.marks import why_another_move
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.report import holder_notes
from spiderpool.cli.renumbering.survey import PoolSurvey, survey
from spiderpool.core.ipam.selection import version_of


@dataclass(frozen=True, slots=True)
class MoveCheck:
    """What was found out before a move begins."""

    found: PoolSurvey
    room: str | None
    """That there is room for the pods that come."""
    holder_notes: tuple[str, ...]
    """What is to be known of holders."""
    room_notes: tuple[str, ...]
    """Why there is no room for all pods, where that keeps nobody from beginning."""
    refusals: tuple[str, ...]
    """Why it is not begun."""


async def check_move(
    cluster: Cluster, options: MoveOptions, parts: Sequence[EmptiedPart], added: Sequence[SpiderIPPool] = ()
) -> MoveCheck:
    """Whether pods may move away from the parts, where pools are ``added`` before.

    Raises Refused where something may not be read that this depends on.
    """
    found = await survey(cluster, parts)
    plan = await _plan(cluster, options, parts, added, found)
    full = _why_no_room(plan)
    forced = options.even_if_full or not options.moves
    return MoveCheck(
        found=found,
        room=_room(plan, full),
        holder_notes=tuple(holder_notes(options, found.holders)),
        room_notes=tuple(full) if forced else (),
        refusals=(
            *filter(None, (why_another_move(part.pool, part.move_kind) for part in parts)),
            *_why_held(options, parts, found),
            *(() if forced else (f"{why}; --even-if-full begins all the same" for why in full)),
        ),
    )


def _why_held(options: MoveOptions, parts: Collection[EmptiedPart], found: PoolSurvey) -> list[str]:
    """Why addresses cannot go from a pool that stays open: they are held, and nobody is evicted."""
    going = [part for part in parts if not part.closes_pool]
    held = len(held_records(going, found.records))
    if not held or options.moves:
        return []
    return [f"{held} of the addresses that go are held: --move evicts the pods that have a controller"]


async def _plan(
    cluster: Cluster,
    options: MoveOptions,
    parts: Sequence[EmptiedPart],
    added: Sequence[SpiderIPPool],
    found: PoolSurvey,
) -> AddressPlan | None:
    """Whether the pods that come in the place of evicted ones get addresses; None when none is evicted.

    Without ``move`` the answer is as if it were given.
    """
    holders = evictable(found.holders, unmanaged=options.move_unmanaged, jobs=options.move_jobs)
    if not holders:
        return None
    policies = await read_policies(cluster, options.policies)
    change = replacements([found.pods[each.pod] for each in holders])
    facts = await read_facts(cluster, policies, datetime.now(UTC).timestamp())
    then = _emptied_cluster(after_end(facts, change.ended), parts, added)
    groups = await planned_groups(cluster, then, change)
    return address_plan(then, then, groups, [], change.notes)


def _emptied_cluster(facts: ClusterFacts, parts: Sequence[EmptiedPart], added: Sequence[SpiderIPPool]) -> ClusterFacts:
    """The cluster when the parts give no address any more, and the added pools are made."""
    by_name = {part.pool.name: part for part in parts}
    known = {pool.name for pool in facts.pools}
    pools = [_emptied(by_name[pool.name]) if pool.name in by_name else pool for pool in facts.pools]
    pools += [pool for pool in added if pool.name not in known]
    reserved = dict(facts.reserved)
    for part in parts:
        if not part.closes_pool:
            reserved[version_of(part.pool)] |= part.addresses
    return replace(facts, pools=tuple(pools), reserved=reserved)


def _emptied(part: EmptiedPart) -> SpiderIPPool:
    """The pool as it is while pods move away from a part of it."""
    pool = part.pool
    metadata = changed(pool.metadata, annotations={**(pool.metadata.annotations or {}), **part.annotation})
    return changed(pool, metadata=metadata, spec=changed(pool.spec, disable=part.closes_pool or pool.spec.disable))


def _why_no_room(plan: AddressPlan | None) -> list[str]:
    """Why the pods that come would not all get addresses; empty when they do, spread evenly over their nodes."""
    if plan is None:
        return []
    lost = next((each for each in plan.placements if each.placement is Placement.EVEN and each.refused), None)
    found = []
    if lost is not None:
        shown = f": {lost.refusals[0].message}" if lost.refusals else ""
        found.append(f"the pools that stay have no room for {lost.refused} of {lost.pods} pods{shown}")
    found += [f"no node may take the pods of {each.workload}: {'; '.join(each.reasons)}" for each in plan.pending]
    if plan.unread:
        found.append(f"what could not be read may have a say: {', '.join(plan.unread)}")
    return found


def _room(plan: AddressPlan | None, why: Sequence[str]) -> str | None:
    """A sentence about the room that there is; None when no pod comes, or there is none."""
    if plan is None or why:
        return None
    pods = sum(each.pods for each in plan.workloads)
    return f"The pools that stay have room for the {pods} pods that come in the place of those that are evicted"
