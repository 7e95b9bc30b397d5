"""What a pool says of a move away from its addresses: which command began it, what was before. Values alone."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta

from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.errors import Refused

MOVING_BY = "ipam.spidernet.io/moving-by"
"""Annotation of a pool from which pods move: the command that began it."""
MOVING_RUN = "ipam.spidernet.io/moving-run"
"""Annotation of a pool from which pods move: which run of a command does so now, and until when it says so."""
DISABLED_BEFORE = "ipam.spidernet.io/disabled-before-drain"
"""Annotation of a pool that is drained: whether it was disabled before."""
MOVING_POOL_LABEL = "ipam.spidernet.io/moving-pool"
"""Label of a SpiderReservedIP that keeps a part of a pool which becomes empty: the UID of the pool."""
RUN_LASTS = timedelta(seconds=60)
"""For how long a run that says nothing more keeps others away."""


class MoveKind(enum.StrEnum):
    """The subcommand of `spiderpoolctl pool` that pods move by."""

    DRAIN = "drain"
    RESIZE = "resize"


def notes_of(pool: SpiderIPPool) -> dict[str, str]:
    """The annotations of a pool."""
    return pool.metadata.annotations or {}


def is_moving_by(pool: SpiderIPPool, kind: MoveKind) -> bool:
    """Whether a command has begun a move away from addresses of a pool."""
    return notes_of(pool).get(MOVING_BY) == kind


def why_another_move(pool: SpiderIPPool, kind: MoveKind) -> str | None:
    """Which other move from a pool is not over, with the remedy; None when there is none."""
    by = notes_of(pool).get(MOVING_BY)
    if by == kind or (by is None and POOL_MOVING_ANNOTATION not in notes_of(pool)):
        return None
    if by in tuple(MoveKind):
        back = f"spiderpoolctl pool {by} {pool.name} --undo"
        return f"a {by} of pool {pool.name} is not over: finish that, or take it back: {back}"
    return (
        f"pool {pool.name} has the annotation {POOL_MOVING_ANNOTATION}, which no command has written: if nobody needs "
        f"it: kubectl annotate spiderippool {pool.name} {POOL_MOVING_ANNOTATION}- {MOVING_BY}-"
    )


def run_mark(pool: SpiderIPPool, run: str, now: datetime) -> dict[str, str]:
    """The annotation by which a run keeps others away from now on. Raises Refused while another one does."""
    other, until = run_of(pool)
    if other not in (None, run) and until > now:
        raise Refused(
            f"another command moves pods of pool {pool.name} now ({other}): wait for its end; if it was killed, go on "
            f"after {until:%H:%M:%S} UTC"
        )
    return {MOVING_RUN: f"{run} {(now + RUN_LASTS).isoformat(timespec='seconds')}"}


def run_of(pool: SpiderIPPool) -> tuple[str | None, datetime]:
    """The run that moves pods of a pool, and until when it keeps others away."""
    run, _, text = notes_of(pool).get(MOVING_RUN, "").partition(" ")
    try:
        until = datetime.fromisoformat(text)
    except ValueError:  # edited by hand: it keeps nobody away
        return None, datetime.min.replace(tzinfo=UTC)
    return run, until if until.tzinfo else until.replace(tzinfo=UTC)
