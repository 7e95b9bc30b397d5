"""What moves away from pools have left: annotations and reservations that nobody needs, or goes on with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.finding import Finding
from spiderpool.cli.installation import Installation
from spiderpool.cli.printing import object_reference
from spiderpool.cli.renumbering.marks import MOVING_POOL_LABEL, MoveKind, is_moving_by, notes_of, run_of
from spiderpool.core.ipam.inheritance import why_moving_unreadable


def move_findings(found: Installation, now: datetime) -> Iterator[Finding]:
    """Moves that are not over, though no command goes on with them. A pool that stays drained is none."""
    pools = found.pools or ()
    for pool in pools:
        if what := _left_over(pool, now):
            yield Finding("move-left-over", object_reference(SpiderIPPool, pool.name), what, _remedy(pool))
    for reserved in found.reserved or ():
        yield from _reservation(reserved, pools if found.pools is not None else None)


def _left_over(pool: SpiderIPPool, now: datetime) -> str | None:
    """What of a pool's annotations has nobody who goes on with it."""
    run, until = run_of(pool)
    if run is not None and until > now:
        return None
    if why := why_moving_unreadable(pool):
        return f"the annotation {POOL_MOVING_ANNOTATION} of pool {pool.name} has no effect: {why}"
    if is_moving_by(pool, MoveKind.RESIZE):
        return f"a resize of pool {pool.name} is not over, and nobody goes on with it"
    if is_moving_by(pool, MoveKind.DRAIN):
        return None if pool.spec.disable else f"pool {pool.name} is marked as drained, and gives addresses"
    if POOL_MOVING_ANNOTATION in notes_of(pool):
        return f"pool {pool.name} has the annotation {POOL_MOVING_ANNOTATION}, which no command has written"
    return None


def _remedy(pool: SpiderIPPool) -> str:
    for kind in MoveKind:
        if is_moving_by(pool, kind):
            return f"run it again, or take it back: spiderpoolctl pool {kind} {pool.name} --undo"
    return f"if nobody needs it: kubectl annotate spiderippool {pool.name} {POOL_MOVING_ANNOTATION}-"


def _reservation(reserved: SpiderReservedIP, pools: Collection[SpiderIPPool] | None) -> Iterator[Finding]:
    """One that a resize has made, whose pool is gone, or is not being resized."""
    uid = (reserved.metadata.labels or {}).get(MOVING_POOL_LABEL)
    if uid is None or pools is None:
        return
    pool = next((each for each in pools if each.metadata.uid == uid), None)
    if pool is not None and is_moving_by(pool, MoveKind.RESIZE):
        return
    reference, name = object_reference(SpiderReservedIP, reserved.name), reserved.name
    kept = f"SpiderReservedIP {name} keeps {', '.join(reserved.spec.ips or ())} for a resize"
    if pool is None:
        remedy = f"kubectl delete spiderreservedip {name}"
        yield Finding("move-left-over", reference, f"{kept} of a pool that does not exist any more", remedy)
    else:
        remedy = f"spiderpoolctl pool resize {pool.name} --undo"
        yield Finding("move-left-over", reference, f"{kept} of pool {pool.name}, which is not being resized", remedy)
