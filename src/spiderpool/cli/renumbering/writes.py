"""Changes of pools and of what is reserved, each of the version that was looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.cli.connection import Cluster
from spiderpool.cli.renumbering.holders import EmptiedPart
from spiderpool.cli.renumbering.marks import (
    DISABLED_BEFORE,
    MOVING_BY,
    MOVING_POOL_LABEL,
    MOVING_RUN,
    MoveKind,
    is_moving_by,
    notes_of,
    why_another_move,
)
from spiderpool.core.labels import NAME_LENGTH
from spiderpool.errors import Refused
from spiderpool.kube.client import AlreadyExists, Conflict, NotFound

CONFLICT_TRIES = 5
"""Tries to write a pool of which nothing but its status has changed, which the controller writes often."""
MARKS = {POOL_MOVING_ANNOTATION: None, MOVING_BY: None, MOVING_RUN: None, DISABLED_BEFORE: None}
"""The annotations of a move, as a patch that removes them."""
RESERVING = "moving-"
"""What the name of a SpiderReservedIP begins with that keeps the part of a pool which becomes empty."""


async def change_pool(cluster: Cluster, pool: SpiderIPPool, body: Mapping[str, Any]) -> SpiderIPPool:
    """Patch a pool as it was looked at. Raises Refused when somebody else has changed it meanwhile, and API errors."""
    version = pool.metadata.resourceVersion
    for _ in range(CONFLICT_TRIES):
        metadata = {**body.get("metadata", {}), "resourceVersion": version}
        with suppress(Conflict):
            return await cluster.client.patch(
                SpiderIPPool, pool.name, {**body, "metadata": metadata}, timeout=cluster.timeout
            )
        now = await cluster.client.get(SpiderIPPool, pool.name, timeout=cluster.timeout)
        if not _is_unchanged(now, pool):
            break
        version = now.metadata.resourceVersion
    raise Refused(f"somebody else has changed pool {pool.name} meanwhile; look at it, and run the same command again")


def _is_unchanged(now: SpiderIPPool, before: SpiderIPPool) -> bool:
    same = (now.metadata.uid, now.spec) == (before.metadata.uid, before.spec)
    return same and now.metadata.annotations == before.metadata.annotations and not now.terminating


async def close_pool(cluster: Cluster, part: EmptiedPart, run: Mapping[str, str] | None = None) -> SpiderIPPool:
    """Have a pool give no address any more, not even one that an owner keeps; it may be so already.

    ``run`` is the annotation of the run that does so. Raises Refused while another kind of move is not over.
    """
    pool = part.pool
    if why := why_another_move(pool, MoveKind.DRAIN):
        raise Refused(why)
    added = {**part.annotation, MOVING_BY: MoveKind.DRAIN.value, **(run or {})}
    if not (is_moving_by(pool, MoveKind.DRAIN) and pool.spec.disable):
        added[DISABLED_BEFORE] = "true" if pool.spec.disable else "false"
    if pool.spec.disable and added.items() <= notes_of(pool).items():
        return pool
    return await change_pool(cluster, pool, {"metadata": {"annotations": added}, "spec": {"disable": True}})


async def reopen_pool(cluster: Cluster, pool: SpiderIPPool) -> str:
    """Take back what `close_pool` did; a sentence about it."""
    if not is_moving_by(pool, MoveKind.DRAIN):
        return f"pool {pool.name} is not being drained"
    before = notes_of(pool).get(DISABLED_BEFORE)
    disabled = bool(pool.spec.disable) and before != "false"
    await change_pool(cluster, pool, {"metadata": {"annotations": MARKS}, "spec": {"disable": disabled}})
    if not disabled:
        return f"pool {pool.name} gives addresses again"
    if before == "true":
        return f"pool {pool.name} is disabled, as it was before"
    return f"pool {pool.name} stays disabled: its annotation {DISABLED_BEFORE} does not say that it was not before"


async def mark_part(cluster: Cluster, part: EmptiedPart, run: Mapping[str, str]) -> SpiderIPPool:
    """Have a pool say that pods move away from a part of it. Raises Refused while another move is not over."""
    pool = part.pool
    if why := why_another_move(pool, MoveKind.RESIZE):
        raise Refused(why)
    listed = notes_of(pool).get(POOL_MOVING_ANNOTATION)
    if listed not in (None, part.annotation[POOL_MOVING_ANNOTATION]):
        raise Refused(
            f"pods move away from {listed} of pool {pool.name}, from a resize that is not over: run that one again, "
            "or take it back by --undo"
        )
    added = {**part.annotation, MOVING_BY: MoveKind.RESIZE.value, **run}
    return await change_pool(cluster, pool, {"metadata": {"annotations": added}})


async def unmark(cluster: Cluster, pool: SpiderIPPool) -> None:
    """Take back what `mark_part` did."""
    if is_moving_by(pool, MoveKind.RESIZE):
        await change_pool(cluster, pool, {"metadata": {"annotations": MARKS}})


def reservation_name(pool: str) -> str:
    """The name of the SpiderReservedIP for a part of a pool."""
    return f"{RESERVING}{pool}"[:NAME_LENGTH]


async def reserve(cluster: Cluster, part: EmptiedPart) -> None:
    """Have nobody get addresses of a part of a pool anew. Raises Refused where others are reserved by that name."""
    ranges, name = part.addresses.ranges(), reservation_name(part.pool.name)
    spec = ReservedIPSpec(part.addresses.version, ranges)
    metadata = ObjectMeta(name=name, labels={MOVING_POOL_LABEL: part.pool.metadata.uid or ""})
    try:
        await cluster.client.create(SpiderReservedIP(metadata=metadata, spec=spec), timeout=cluster.timeout)
    except AlreadyExists:
        found = await reservation_of(cluster, part.pool)
        if found is None:
            raise Refused(
                f"SpiderReservedIP {name} was not made by a resize of this pool {part.pool.name}: look who needs it, "
                f"and rename or delete it: kubectl get spiderreservedip {name} -o yaml"
            ) from None
        if found.spec.ips != ranges:
            raise Refused(
                f"SpiderReservedIP {name} keeps {', '.join(found.spec.ips or ())} of pool {part.pool.name}, from a "
                "resize that is not over: run that one again, or take it back by --undo"
            ) from None


async def reservation_of(cluster: Cluster, pool: SpiderIPPool) -> SpiderReservedIP | None:
    """What `reserve` has made for this very pool, if it is there."""
    found = await cluster.client.find(SpiderReservedIP, reservation_name(pool.name), timeout=cluster.timeout)
    mine = {MOVING_POOL_LABEL: pool.metadata.uid or ""}
    return found if found is not None and mine.items() <= (found.metadata.labels or {}).items() else None


async def unreserve(cluster: Cluster, pool: SpiderIPPool) -> bool:
    """Take back what `reserve` did; whether there was something. What others have made stays."""
    found = await reservation_of(cluster, pool)
    if found is None:
        return False
    with suppress(NotFound):
        await cluster.client.delete(SpiderReservedIP, found.name, uid=found.metadata.uid, timeout=cluster.timeout)
    return True


async def end_cooldowns(cluster: Cluster, part: EmptiedPart, records: Iterable[SpiderIP]) -> None:
    """Delete the records of a part that are in their cooldown, so that no agent gives their addresses to anybody again.

    One that changes meanwhile stays; a look at who holds addresses shows it.
    """
    for record in records:
        if record.spec.releasedAt is None or not part.has_address_of(record):
            continue
        meta = record.metadata
        mark = {"metadata": {"resourceVersion": meta.resourceVersion, "annotations": {RELEASE_ANNOTATION: meta.uid}}}
        with suppress(NotFound, Conflict):
            marked = await cluster.client.patch(SpiderIP, record.name, mark, timeout=cluster.timeout)
            version = marked.metadata.resourceVersion
            await cluster.client.delete(
                SpiderIP, record.name, uid=meta.uid, resourceVersion=version, timeout=cluster.timeout
            )
