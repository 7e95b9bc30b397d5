"""Waits until the nodes are clean, when an installation is removed."""

from __future__ import annotations

import asyncio

import msgspec

from spiderpool.api.decoding import LONGEST_OBJECT, decode
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.telemetry import logger

TIMEOUT = 180.0
"""Seconds for all nodes; an agent may take one minute to end. Nodes that are down never answer."""
PAUSE = 2.0
"""Seconds between two looks."""

log = logger("removal")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    desired_number_scheduled: int = 0
    number_ready: int = 0
    observed_generation: int = 0


class _DaemonSet(msgspec.Struct):
    status: _Status = _Status()


async def nodes_are_clean(client: Client, namespace: str, name: str) -> None:
    """Wait until every pod of a DaemonSet is ready, which it is when its node is clean; give up with a warning."""
    path = f"apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
    status = _Status()
    try:
        async with asyncio.timeout(TIMEOUT):
            while not status.observed_generation or status.number_ready < status.desired_number_scheduled:
                status = await _status(client, path, status)
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        log.warning("nodes keep what is installed", clean=status.number_ready, all=status.desired_number_scheduled)
        return
    log.info("nodes are clean", nodes=status.number_ready)


async def _status(client: Client, path: str, last: _Status) -> _Status:
    try:
        return decode(await client.get_raw(path), _DaemonSet, longest=LONGEST_OBJECT).status
    except SpiderpoolError as error:
        log.warning("not known which nodes are clean", error=str(error))
        return last
