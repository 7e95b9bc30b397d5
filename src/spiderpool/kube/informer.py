"""A local copy of all objects of a kind that match a selector: list, then watch, again and again."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from spiderpool.api.meta import Object
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import Bookmark, Client, Expired, NotFound
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)
Callback = Callable[[T | None, T | None], None]

FIRST_PAUSE, LAST_PAUSE = 0.2, 10.0
"""Seconds between tries while the API server does not answer: doubled each time, with jitter."""

ABSENT_PAUSE = 300.0
"""Seconds until an optional kind that the server does not serve is asked for again."""

TOMBSTONES = 10_000
"""Remembered UIDs and versions of objects that are gone, against late events about them."""

log = logger("informer")


class Informer(Generic[T]):
    """Objects by key (``namespace/name`` or name), kept up to date by :meth:`run`.

    Subscribers are called with (old, new): (None, new) added, (old, new) changed, (old, None) gone.
    """

    def __init__(
        self,
        client: Client,
        kind: type[T],
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        optional: bool = False,
    ) -> None:
        """An ``optional`` kind is one that the server may not serve: then it has no objects until it does."""
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._optional = optional
        self._objects: dict[str, T] = {}
        self._gone: OrderedDict[str, str | None] = OrderedDict()
        self._subscribers: list[Callback[T]] = []
        self._synced = asyncio.Event()
        self._version = ""

    @property
    def ready(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    async def synced(self, timeout: float) -> None:
        """Wait for the first list. Raises NotReady after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError as error:
            raise NotReady(f"no list of {self._kind.KIND.plural} from the API server within {timeout:.0f} s") from error

    def get(self, key: str) -> T | None:
        """An object by ``namespace/name`` or name."""
        return self._objects.get(key)

    def items(self) -> list[T]:
        """All objects, in no order."""
        return list(self._objects.values())

    def subscribe(self, callback: Callback[T]) -> None:
        """Call ``callback(old, new)`` at every change, and now for what is here."""
        self._subscribers.append(callback)
        for obj in self.items():
            callback(None, obj)

    def note(self, obj: T) -> None:
        """Take over what we wrote ourselves, before its event arrives."""
        if self._is_news(obj):
            self._store(obj)

    def forget(self, obj: T) -> None:
        """Drop what we deleted ourselves, before its event arrives."""
        self._drop(obj)

    async def run(self) -> None:
        """List and watch until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                pause = FIRST_PAUSE
            except Expired:
                self._version = ""
            except SpiderpoolError as error:
                if self._optional and isinstance(error, NotFound):
                    self._synced.set()
                    pause = ABSENT_PAUSE
                log.warning("watch interrupted", kind=self._kind.KIND.plural, error=str(error), pause=pause)
                pause = await self._rest(pause)
            except Exception:  # a bug in a subscriber must not blind us for good: begin with a list
                log.exception("watch failed", kind=self._kind.KIND.plural, pause=pause)
                self._version = ""
                pause = await self._rest(pause)

    async def _rest(self, pause: float) -> float:
        """Wait about ``pause`` seconds; the pause after this one."""
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        return min(pause * 2, LAST_PAUSE)

    async def _list(self) -> None:
        version, items = await self._client.list_at(
            self._kind, self._namespace, labels=self._labels, fields=self._fields, timeout=30
        )
        listed = {obj.key: obj for obj in items}
        for old in self.items():
            if old.key not in listed and not _newer(old, version):
                self._drop(old)
        for obj in items:
            self.note(obj)
        self._version = version
        self._synced.set()

    async def _watch(self) -> None:
        events = self._client.watch(
            self._kind, self._version, self._namespace, labels=self._labels, fields=self._fields
        )
        async with aclosing(events):
            async for event, obj in events:
                self._version = obj.metadata.resourceVersion or self._version
                if isinstance(obj, Bookmark):
                    continue
                if event == "DELETED":
                    self._drop(obj)
                else:
                    self.note(obj)

    def _is_news(self, obj: T) -> bool:
        uid = obj.metadata.uid or ""
        if uid in self._gone and not _newer(obj, self._gone[uid]):
            return False
        known = self._objects.get(obj.key)
        return known is None or known.metadata.uid != obj.metadata.uid or _newer(obj, known.metadata.resourceVersion)

    def _store(self, obj: T) -> None:
        old = self._objects.get(obj.key)
        self._objects[obj.key] = obj
        self._tell(old, obj)

    def _drop(self, obj: T) -> None:
        """Drop an object; one of the same name but another UID stays.

        It may come back under its UID, when a change makes it match the selector again: a newer version stays.
        """
        if obj.metadata.uid:
            self._gone[obj.metadata.uid] = obj.metadata.resourceVersion
            if len(self._gone) > TOMBSTONES:
                self._gone.popitem(last=False)
        known = self._objects.get(obj.key)
        same = known is not None and known.metadata.uid == obj.metadata.uid
        if known is not None and same and not _newer(known, obj.metadata.resourceVersion):
            del self._objects[obj.key]
            self._tell(known, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for callback in self._subscribers:
            callback(old, new)


def _newer(obj: Object, version: str | None) -> bool:
    """Whether an object is newer than a resource version; both come from one etcd, whose revisions grow."""
    try:
        return int(obj.metadata.resourceVersion or 0) > int(version or 0)
    except ValueError:
        return True
