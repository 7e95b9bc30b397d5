"""What the page knows of the cluster: lists and watches of the kinds that it shows, as far as the kubeconfig may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.installation import AGENT
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Client, Expired, Forbidden, NotFound, Unauthorized
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)

AGAIN = 60.0
"""Seconds after which a kind is tried again that may not be read."""
LOOK_INTERVAL = 10.0
"""Seconds between two looks whether the API server answers us at all."""
FIELDS: Mapping[type[Object], str] = {Event: f"type=Warning,source={AGENT}"}
"""Of Events only the refusals and warnings of agents are shown."""
WATCHED: tuple[type[Object], ...] = (
    SpiderIPPool,
    SpiderIP,
    SpiderReservedIP,
    SpiderNode,
    Node,
    SpiderServer,
    SpiderSubnet,
    SpiderIPQuota,
    Event,
)
"""Kinds that the page keeps; pods and Services are read one by one when they are looked at."""

log = logger("ui")


@dataclass(slots=True)
class WatchedKind:
    """One kind, its objects as far as they have arrived, and what keeps us from them."""

    kind: type[Object]
    informer: Informer[Any]
    missing: str | None = None
    """Why it is left out: a sentence that names the right."""
    unfollowed: str | None = None
    """Why its changes do not arrive, in the same way."""

    @property
    def is_settled(self) -> bool:
        """Whether its first list has arrived, or will not."""
        return self.informer.ready or self.missing is not None


def resource_of(kind: type[Object]) -> str:
    """The resource as roles name it."""
    address = kind.KIND
    return f"{address.plural}.{address.group}" if address.group else address.plural


class WatchedCluster:
    """Keeps all kinds, each as far as it may be read. Made in a running event loop."""

    def __init__(self, client: Client, timeout: float, kinds: Sequence[type[Object]] = WATCHED) -> None:
        self.client = client
        self.timeout = timeout
        self.trouble: str | None = None
        """Why what is shown may be old; None while the API server answers us."""
        self.changed = asyncio.Event()
        """Set at every change, by whoever waits for one cleared before it looks."""
        self.topics: set[type[Object]] = set()
        """Kinds that have changed since somebody has emptied it."""
        self._kinds = {kind: WatchedKind(kind, self._informer(kind)) for kind in kinds}

    def _informer(self, kind: type[Object]) -> Informer[Any]:
        informer: Informer[Any] = Informer(self.client, kind, fields=FIELDS.get(kind))
        informer.subscribe(lambda _old, _new: self._note(kind))
        return informer

    def _note(self, kind: type[Object]) -> None:
        self.topics.add(kind)
        self.changed.set()

    def informer(self, kind: type[T]) -> Informer[T]:
        """The informer of a kind; empty while nothing has arrived, or may."""
        return self._kinds[kind].informer

    def items(self, kind: type[T]) -> list[T]:
        """All objects of a kind that are known."""
        return self.informer(kind).items()

    @property
    def left_out(self) -> list[str]:
        """What may not be read, one sentence for each kind."""
        sentences = (each.missing or each.unfollowed for each in self._kinds.values())
        return [each for each in sentences if each]

    @property
    def unseen(self) -> frozenset[type[Object]]:
        """Kinds of which something may not be read."""
        return frozenset(each.kind for each in self._kinds.values() if each.missing)

    @property
    def reading(self) -> dict[str, int]:
        """Kinds whose first list is under way, and how many of their objects have arrived."""
        return {each.kind.KIND.name: len(each.informer.items()) for each in self._kinds.values() if not each.is_settled}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep all kinds until the context ends."""
        tasks = [asyncio.create_task(self._keep(each)) for each in self._kinds.values()]
        tasks.append(asyncio.create_task(self._look()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, watched: WatchedKind) -> None:
        """List and watch a kind; where that is refused, look again later: the right may be granted meanwhile."""
        while True:
            watched.missing = await self._refusal("list", watched.kind, self._list(watched.kind))
            self._note(watched.kind)
            if watched.missing is None:
                await asyncio.gather(watched.informer.run(), self._see_whether_followed(watched))
                return
            await asyncio.sleep(AGAIN)

    async def _see_whether_followed(self, watched: WatchedKind) -> None:
        """A kind that may be listed and not watched is shown as it was at first, with a sentence that says so."""
        watched.unfollowed = await self._refusal("watch", watched.kind, self._watch(watched))
        self._note(watched.kind)

    async def _refusal(self, verb: str, kind: type[Object], attempt: Awaitable[None]) -> str | None:
        """Why something of a kind may not be done; None where it may be, or where nobody knows."""
        name, resource = kind.KIND.name, resource_of(kind)
        what = "left out" if verb == "list" else "shown as they were at first"
        try:
            await attempt
        except Forbidden as error:
            return f"{name} objects are {what}: you lack the right to {verb} {resource} ({error.message})"
        except NotFound:
            return f"{name} objects are left out: this cluster does not have {resource}"
        except SpiderpoolError as error:  # the informer tries again, and the page says that nothing answers
            log.debug("no answer", kind=name, error=str(error))
        return None

    async def _list(self, kind: type[Object]) -> None:
        await self.client.page(kind, limit=1, fields=FIELDS.get(kind), timeout=self.timeout)

    async def _watch(self, watched: WatchedKind) -> None:
        """Begin a watch that ends by itself."""
        with suppress(NotReady):
            await watched.informer.synced(self.timeout)
        version = watched.informer.listed_version
        events = self.client.watch(watched.kind, version, seconds=1, fields=FIELDS.get(watched.kind))
        async with aclosing(events):
            with suppress(Expired, StopAsyncIteration):
                await anext(events)

    async def _look(self) -> None:
        """Notice when the API server does not answer us any more, as after a token has expired."""
        while True:
            try:
                trouble = await self._trouble()
            except Exception as error:  # a bug must not end the looks
                log.exception("look failed")
                trouble = str(error)
            if trouble != self.trouble:
                self.trouble = trouble
                self.changed.set()
            await asyncio.sleep(LOOK_INTERVAL)

    async def _trouble(self) -> str | None:
        """Why what is shown may be old."""
        try:
            await self.client.get_raw("version", timeout=self.timeout)
        except Unauthorized as error:
            return f"the API server does not accept your credentials any more ({error.message}): what is shown is old"
        except ApiRefusal:  # an answer all the same
            return None
        except SpiderpoolError as error:
            return f"{error.message}: what is shown may be old"
        return None
