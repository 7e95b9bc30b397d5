"""What the controller does at last, when an installation is removed: it lets objects go, and waits for the nodes."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.decoding import LONGEST_OBJECT, decode
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.errors import SpiderpoolError
from spiderpool.kube import finalizers
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, Conflict, Forbidden, NotFound
from spiderpool.telemetry import logger

TIMEOUT = 180.0
"""Seconds for all nodes; an agent may take one minute to end. Nodes that are down never answer."""
PAUSE = 2.0
"""Seconds between two looks."""

HELD: tuple[type[Object], ...] = (SpiderIPPool, SpiderSubnet, SpiderCoordinator, SpiderReservedIP, SpiderEndpoint)
"""Kinds whose objects may have a finalizer of ours, or of the Spiderpool that was there before."""

log = logger("removal")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    desired_number_scheduled: int = 0
    number_ready: int = 0
    observed_generation: int = 0


class _DaemonSet(msgspec.Struct):
    status: _Status = _Status()


async def let_objects_go(client: Client) -> None:
    """Remove our finalizers: no controller will be there to do it when somebody deletes the objects or their kinds.

    Raises the first failure after all objects of all kinds were tried; the others are logged.
    """
    await on_all(HELD, partial(_let_kind_go, client), give_up=False)


async def _let_kind_go(client: Client, kind: type[Object]) -> None:
    try:
        objects = await client.list(kind)
    except NotFound:  # the kind is gone, and with it all objects
        return
    except Forbidden as error:
        _warn_of_rights(kind.KIND.plural, error)
        return
    await on_all(objects, partial(_try_to_let_go, client), give_up=False)


async def _try_to_let_go(client: Client, obj: Object) -> None:
    try:
        await _let_go(client, obj)
    except Forbidden as error:
        _warn_of_rights(f"{obj.KIND.plural}/{obj.key}", error)


def _warn_of_rights(what: str, error: Forbidden) -> None:
    log.warning("finalizers stay, so that objects will not go when they are deleted", of=what, error=error.message)


async def _let_go(client: Client, obj: Object) -> None:
    """Remove our finalizers from an object, also where another writer changes it meanwhile."""
    present: Object | None = obj
    while present is not None:
        try:
            await finalizers.remove(client, present, FINALIZER, FORMER_FINALIZER)
            present = None
        except Conflict:
            present = await client.find(type(obj), obj.name, obj.metadata.namespace)


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
