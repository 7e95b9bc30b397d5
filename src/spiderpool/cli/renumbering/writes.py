"""Changes of pools and of what is reserved, each of the version that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.cli.renumbering.holders import EmptiedPart
from spiderpool.core.labels import NAME_LENGTH
from spiderpool.errors import Refused
from spiderpool.kube.client import AlreadyExists, Client, Conflict, NotFound

TIMEOUT = 10.0
"""Seconds for each request."""
CONFLICT_TRIES = 5
"""Tries to write a pool of which nothing but its status has changed, which the controller writes often."""
DISABLED_BEFORE = "ipam.spidernet.io/disabled-before-drain"
"""Annotation of a pool that is drained, and was disabled before."""
RESERVING = "moving-"
"""What the name of a SpiderReservedIP begins with that keeps the part of a pool which becomes empty."""


async def change_pool(client: Client, pool: SpiderIPPool, body: Mapping[str, Any]) -> SpiderIPPool:
    """Patch a pool as it was looked at. Raises Refused when somebody else has changed it meanwhile, and API errors."""
    version = pool.metadata.resourceVersion
    for _ in range(CONFLICT_TRIES):
        metadata = {**body.get("metadata", {}), "resourceVersion": version}
        with suppress(Conflict):
            return await client.patch(SpiderIPPool, pool.name, {**body, "metadata": metadata}, timeout=TIMEOUT)
        now = await client.get(SpiderIPPool, pool.name, timeout=TIMEOUT)
        if not _is_unchanged(now, pool):
            break
        version = now.metadata.resourceVersion
    raise Refused(f"somebody else has changed pool {pool.name} meanwhile; look at it, and run the same command again")


def _is_unchanged(now: SpiderIPPool, before: SpiderIPPool) -> bool:
    same = (now.metadata.uid, now.spec) == (before.metadata.uid, before.spec)
    return same and now.metadata.annotations == before.metadata.annotations and not now.terminating


async def close_pool(client: Client, part: EmptiedPart) -> SpiderIPPool:
    """Have a pool give no address any more, not even one that an owner keeps; it may be so already."""
    pool, notes = part.pool, part.pool.metadata.annotations or {}
    added: dict[str, str] = dict(part.annotation)
    if pool.spec.disable and POOL_MOVING_ANNOTATION not in notes:
        added[DISABLED_BEFORE] = "true"
    if pool.spec.disable and added.items() <= notes.items():
        return pool
    return await change_pool(client, pool, {"metadata": {"annotations": added}, "spec": {"disable": True}})


async def reopen_pool(client: Client, pool: SpiderIPPool) -> str:
    """Take back what `close_pool` did; a sentence about it."""
    notes = pool.metadata.annotations or {}
    if POOL_MOVING_ANNOTATION not in notes or not pool.spec.disable:
        return f"pool {pool.name} is not being drained"
    disabled = DISABLED_BEFORE in notes
    gone = {POOL_MOVING_ANNOTATION: None, DISABLED_BEFORE: None}
    await change_pool(client, pool, {"metadata": {"annotations": gone}, "spec": {"disable": disabled}})
    return f"pool {pool.name} {'is disabled, as it was before' if disabled else 'gives addresses again'}"


def reservation_name(pool: str) -> str:
    """The name of the SpiderReservedIP for a part of a pool."""
    return f"{RESERVING}{pool}"[:NAME_LENGTH]


async def reserve(client: Client, part: EmptiedPart) -> None:
    """Have nobody get addresses of a part of a pool anew. Raises Refused where others are reserved by that name."""
    ranges, name = part.addresses.ranges(), reservation_name(part.pool.name)
    spec = ReservedIPSpec(part.addresses.version, ranges)
    try:
        await client.create(SpiderReservedIP(metadata=ObjectMeta(name=name), spec=spec), timeout=TIMEOUT)
    except AlreadyExists:
        found = await client.get(SpiderReservedIP, name, timeout=TIMEOUT)
        if found.spec.ips != ranges:
            raise Refused(
                f"SpiderReservedIP {name} keeps {', '.join(found.spec.ips or ())} of pool {part.pool.name}, from a "
                "resize that is not over: run that one again, or take it back by --undo"
            ) from None


async def unreserve(client: Client, pool: str) -> bool:
    """Take back what `reserve` did; whether there was something."""
    try:
        await client.delete(SpiderReservedIP, reservation_name(pool), timeout=TIMEOUT)
    except NotFound:
        return False
    return True
