"""A run of a command that moves pods: it keeps others away from its pool, and notices that the move is taken back."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.cli.connection import Cluster
from spiderpool.cli.renumbering.holders import EmptiedPart
from spiderpool.cli.renumbering.marks import MOVING_RUN, RUN_LASTS, is_moving_by, notes_of, run_mark, run_of
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import Conflict

LEARNING = 5.0
"""Seconds in which agents learn of a change of a pool or of what is reserved: their watches are that late at most."""


class MoveEnded(NotReady):
    """Somebody has taken the move back, or another run goes on with it."""


def _new_run() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


async def learnt() -> None:
    """Return when agents have learnt of the last change."""
    await asyncio.sleep(LEARNING)


@dataclass(frozen=True, slots=True)
class PoolRun:
    """A run of one command for one pool."""

    cluster: Cluster
    part: EmptiedPart
    name: str = field(default_factory=_new_run)

    def mark(self) -> dict[str, str]:
        """The annotation that is to be written together with the others. Raises Refused while another run is there."""
        return run_mark(self.part.pool, self.name, datetime.now(UTC))

    async def check(self) -> SpiderIPPool:
        """The pool as it is now; keeps others away for longer. Raises MoveEnded, and errors of the API."""
        pool = await self.cluster.client.get(SpiderIPPool, self.part.pool.name, timeout=self.cluster.timeout)
        if not self._goes_on(pool):
            raise MoveEnded(f"the move from pool {pool.name} was taken back meanwhile")
        run, until = run_of(pool)
        if run != self.name:
            raise MoveEnded(f"another command moves pods of pool {pool.name} by now ({run})")
        if until - datetime.now(UTC) < RUN_LASTS / 2:
            version = {"resourceVersion": pool.metadata.resourceVersion}
            mark = {"metadata": {**version, "annotations": run_mark(pool, self.name, datetime.now(UTC))}}
            with suppress(Conflict):  # the next check tries again
                return await self.cluster.client.patch(SpiderIPPool, pool.name, mark, timeout=self.cluster.timeout)
        return pool

    def _goes_on(self, pool: SpiderIPPool) -> bool:
        listed = self.part.annotation[POOL_MOVING_ANNOTATION]
        is_marked = is_moving_by(pool, self.part.move_kind) and notes_of(pool).get(POOL_MOVING_ANNOTATION) == listed
        same = pool.metadata.uid == self.part.pool.metadata.uid and not pool.terminating
        return is_marked and same and (bool(pool.spec.disable) or not self.part.closes_pool)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """At its end others may go on."""
        try:
            yield
        finally:
            with suppress(SpiderpoolError):  # it ends by itself
                await self._end()

    async def _end(self) -> None:
        pool = await self.cluster.client.find(SpiderIPPool, self.part.pool.name, timeout=self.cluster.timeout)
        if pool is not None and run_of(pool)[0] == self.name:
            metadata = {"resourceVersion": pool.metadata.resourceVersion, "annotations": {MOVING_RUN: None}}
            await self.cluster.client.patch(
                SpiderIPPool, pool.name, {"metadata": metadata}, timeout=self.cluster.timeout
            )
