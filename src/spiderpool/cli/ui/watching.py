"""What the page knows of the cluster: lists and watches of the kinds that it shows, as far as the kubeconfig may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
from spiderpool.cli.connection import Cluster
from spiderpool.cli.installation import AGENT
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Forbidden, NotFound, Unauthorized
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)

LOOK_INTERVAL = 10.0
"""Seconds between two looks whether the API server answers us at all."""
FIELDS: Mapping[type[Object], str] = {Event: f"type=Warning,source={AGENT}"}
"""Of Events only those of agents among which their refusals are: selectors know no "or"."""
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
    refusal: Forbidden | NotFound | None = None
    """What the API server has answered last, where it does not let us list or watch the kind."""

    @property
    def is_missing(self) -> bool:
        """Whether nothing of it may be read."""
        return self.refusal is not None and not self.informer.ready

    @property
    def is_settled(self) -> bool:
        """Whether its first list has arrived, or will not."""
        return self.informer.ready or self.refusal is not None

    @property
    def sentence(self) -> str | None:
        """Why it is left out, or its changes do not arrive: names the right; None where neither is so."""
        if self.refusal is None:
            return None
        name, resource = self.kind.KIND.name, resource_of(self.kind)
        verb, what = ("list", "left out") if self.is_missing else ("watch", "shown as they were read last")
        if isinstance(self.refusal, NotFound):
            return f"{name} objects are {what}: this cluster does not have {resource}"
        return f"{name} objects are {what}: you lack the right to {verb} {resource} ({self.refusal.message})"


def resource_of(kind: type[Object]) -> str:
    """The resource as roles name it."""
    address = kind.KIND
    return f"{address.plural}.{address.group}" if address.group else address.plural


class WatchedCluster:
    """Keeps all kinds, each as far as it may be read. Made in a running event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.trouble: str | None = None
        """Why what is shown may be old; None while the API server answers us."""
        self.changed = asyncio.Event()
        """Set at every change, by whoever waits for one cleared before it looks."""
        self.topics: set[type[Object]] = set()
        """Kinds that have changed since somebody has emptied it."""
        # by kind, in the order in which what is left out is said
        self._kinds: Mapping[type[Object], WatchedKind] = {kind: self._watched(kind) for kind in WATCHED}

    def _watched(self, kind: type[Object]) -> WatchedKind:
        informer: Informer[Any] = Informer(
            self._cluster.client,
            kind,
            fields=FIELDS.get(kind),
            interrupted=lambda error: self._note_refusal(kind, error),
        )
        informer.subscribe(lambda _old, _new: self._note(kind))
        return WatchedKind(kind, informer)

    def _note_refusal(self, kind: type[Object], error: Exception | None) -> None:
        """Take a refusal, or its end, for the answer about our rights, which no other error is.

        The informer tries again, the right may be granted meanwhile; that nothing answers, or nobody knows us any more,
        is said by ``trouble``.
        """
        if error is not None:
            log.debug("not listed or watched", kind=kind.KIND.name, error=str(error))
            if isinstance(error, Unauthorized) or not isinstance(error, (Forbidden, NotFound)):
                return
        watched = self._kinds[kind]
        former, watched.refusal = watched.sentence, error
        if watched.sentence != former:
            self._note(kind)

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
        return [sentence for each in self._kinds.values() if (sentence := each.sentence)]

    @property
    def unseen(self) -> frozenset[type[Object]]:
        """Kinds of which nothing may be read."""
        return frozenset(each.kind for each in self._kinds.values() if each.is_missing)

    @property
    def reading(self) -> dict[str, int]:
        """Kinds whose first list is under way, and how many of their objects have arrived."""
        return {each.kind.KIND.name: len(each.informer.items()) for each in self._kinds.values() if not each.is_settled}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep all kinds until the context ends."""
        tasks = [asyncio.create_task(each.informer.run()) for each in self._kinds.values()]
        tasks.append(asyncio.create_task(self._look()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
            await self._cluster.ping()
        except Unauthorized as error:
            return f"the API server does not accept your credentials any more ({error.message}): what is shown is old"
        except SpiderpoolError as error:
            return f"{error.message}: what is shown may be old"
        return None
