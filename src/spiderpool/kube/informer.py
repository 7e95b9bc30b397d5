"""A local cache of all objects of a kind that match a selector, kept up to date by list and watch.

The cache may lag behind the API server. A caller that must not act on stale data reads through :class:`Client`, or
writes with a resource version or UID as precondition.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from spiderpool.api.meta import Object
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import Bookmark, Client, Expired, NotFound, Page
from spiderpool.kube.turns import Turn
from spiderpool.telemetry import CACHE_AGE, Values, logger

T = TypeVar("T", bound=Object)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Callback = Callable[[T | None, T | None], None]

FIRST_PAUSE, LAST_PAUSE = 0.2, 10.0
"""Seconds between tries while the API server does not answer or ends watches soon: doubled each time, with jitter."""

STEADY = 2.0
"""Seconds after which a watch that ends is begun anew at once; after one that was shorter there is a pause, too."""

ABSENT_PAUSE = 300.0
"""Seconds until an optional kind that the server does not serve is requested again."""

LIST_TIMEOUT = 30.0
"""Seconds for each page of the first list."""

TOMBSTONES = 10_000
"""Deleted objects whose UID and version are remembered, so that a late event does not bring them back."""

log = logger("informer")


class InformerOptions(TypedDict, total=False):
    """Which objects of a kind an informer holds."""

    labels: str | None
    fields: str | None
    optional: bool  # the server may not serve the kind, or no longer: there are no objects until it does
    interrupted: Callable[[Exception | None], None]  # in place of a line of the log; None: lists, or watches, again
    from_cache: bool  # lists may come from an API server's cache: cheap, and older than etcd, but never than our own


@dataclass(slots=True)
class PartialList:
    """The pages of a list that have arrived and are cached."""

    version: str
    rest: str
    """Token for the next page; empty when this is all."""
    keys: set[str]
    """Of the objects that were listed: the others of the cache are gone."""
    unconfirmed: set[str]
    """UIDs of what we had deleted ourselves when the list began, and that it does not have so far."""
    is_first: bool
    """Whether the cache was empty when the list began: then none is gone of what has come from the list alone."""


class Index(Generic[T, K, V]):
    """Objects of an informer, grouped by keys that are computed from each object. Made by :meth:`Informer.index`."""

    def __init__(self, keys: Callable[[T], Iterable[K]], value: Callable[[T], V]) -> None:
        self._keys_of = keys
        self._value_of = value
        self._buckets: dict[K, dict[str, V]] = {}  # index key → object key → value; no bucket is empty
        self._keys: dict[str, tuple[K, ...]] = {}  # object key → index keys under which the object is filed

    def groups_by(self, keys: Callable[[T], Iterable[K]], value: Callable[[T], V]) -> bool:
        """Whether the index was made with these functions."""
        return self._keys_of is keys and self._value_of is value

    def get(self, key: K, /) -> list[V]:
        """Values of the objects that have this key; empty when there are none."""
        return list(self._buckets.get(key, {}).values())

    def __iter__(self) -> Iterator[K]:
        """Keys that at least one object has; a snapshot, so the informer may change meanwhile."""
        return iter(list(self._buckets))

    def __contains__(self, key: K) -> bool:
        return key in self._buckets

    def update(self, name: str, obj: T | None) -> None:
        """File the object under its present keys only; None removes it. ``name`` is the object's key."""
        keys = tuple(self._keys_of(obj)) if obj is not None else ()
        former = self._keys.get(name, ())
        if obj is None or not keys:
            self._remove(name, former)
            return
        value = self._value_of(obj)  # may raise: before anything is changed
        if former and former != keys:
            self._remove(name, former)
        self._keys[name] = keys
        for key in keys:
            if (bucket := self._buckets.get(key)) is None:
                self._buckets[key] = {name: value}
            else:
                bucket[name] = value

    def _remove(self, name: str, keys: Iterable[K]) -> None:
        self._keys.pop(name, None)
        for key in keys:
            bucket = self._buckets.get(key, {})
            bucket.pop(name, None)
            if not bucket:
                self._buckets.pop(key, None)


class Informer(Generic[T]):
    """Objects by key (``namespace/name`` or name), kept up to date by :meth:`run`.

    Subscribers are called with (old, new): (None, new) added, (old, new) changed, (old, None) deleted.
    On every change the order is: the object itself, all indexes, then subscribers in the order of their subscription.
    """

    def __init__(
        self, client: Client, kind: type[T], namespace: str | None = None, **options: Unpack[InformerOptions]
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._labels = options.get("labels")
        self._fields = options.get("fields")
        self._optional = options.get("optional", False)
        self._on_interruption = options.get("interrupted")
        self._is_interrupted = False  # whether the last list or watch was broken by an error
        self._from_cache = options.get("from_cache", False)
        self._not_older: str | None = "0" if self._from_cache else None  # what the next list must not be older than
        self._objects: dict[str, T] = {}  # object key → object
        self._tombstones: OrderedDict[str, str | None] = OrderedDict()  # UID → version, oldest deletion first
        self._unconfirmed: set[str] = set()  # UIDs of what we deleted ourselves, until an event or a list says it, too
        self._indexes: list[Index[T, Any, Any]] = []  # updated before the subscribers are called
        self._subscribers: list[Callback[T]] = []  # called with every change, in the order of their subscription
        self._synced = asyncio.Event()  # set when the first list has arrived
        self._version = ""  # resource version to watch from; empty: list first
        self._listed = ""  # resource version of the last list
        self._watch_began = 0.0  # time of the loop at the last watch's request
        self._absent = False  # whether the API server has answered last that it serves no such kind
        self._heard = 0.0  # time of the loop at the last page, change or bookmark
        self._arrived = 0  # pages of lists so far
        self._partial: PartialList | None = None  # the pages that have arrived: after a failure it goes on behind them

    @property
    def ready(self) -> bool:
        """Whether the first list has arrived."""
        return self._synced.is_set()

    @property
    def listed_version(self) -> str:
        """Resource version of the last list, of which the cache lacks no object; empty before the first one."""
        return self._listed

    async def synced(self, timeout: float) -> None:
        """Wait for the first list. Raises NotReady after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError as error:
            raise NotReady(f"no list of {self._kind.KIND.plural} from the API server within {timeout:.0f} s") from error

    async def listed(self, patience: float) -> None:
        """As :meth:`synced`, but waits as long as pages arrive: NotReady after ``patience`` seconds without one."""
        while True:
            arrived = self._arrived
            try:
                return await self.synced(patience)
            except NotReady:
                if self._arrived == arrived:
                    raise

    def get(self, key: str) -> T | None:
        """An object by ``namespace/name`` or name."""
        return self._objects.get(key)

    def items(self) -> list[T]:
        """All objects, in no order."""
        return list(self._objects.values())

    @overload
    def index(self, keys: Callable[[T], Iterable[K]]) -> Index[T, K, T]: ...

    @overload
    def index(self, keys: Callable[[T], Iterable[K]], value: Callable[[T], V]) -> Index[T, K, V]: ...

    def index(
        self, keys: Callable[[T], Iterable[K]], value: Callable[[T], V] | None = None
    ) -> Index[T, K, V] | Index[T, K, T]:
        """Group the objects by ``keys(obj)``, now and at every change; an object may have no key, one or several.

        The index holds ``value(obj)``, or the object itself without ``value``. Both functions must depend on the object
        alone; an object for which one raises stays under its former keys. The same functions give the same index.
        """
        shown: Callable[[T], Any] = value or _itself
        for known in self._indexes:
            if known.groups_by(keys, shown):
                return known
        made: Index[T, K, Any] = Index(keys, shown)
        self._indexes.append(made)
        for obj in self.items():
            try:
                made.update(obj.key, obj)
            except Exception:
                log.exception("object not indexed", kind=self._kind.KIND.plural, object=obj.key)
        return made

    def subscribe(self, callback: Callback[T], *, replay: bool = True) -> None:
        """Call ``callback(old, new)`` at every change, and at once with (None, obj) for each cached object.

        Without ``replay`` only at changes, for a subscriber that looks at all objects by itself, in turns.
        """
        self._subscribers.append(callback)
        for obj in self.items() if replay else ():
            callback(None, obj)

    def note(self, obj: T) -> None:
        """Cache an object that we wrote ourselves, before its event arrives."""
        self._note(obj.key, obj)

    def _note(self, key: str, obj: T) -> None:
        known = self._objects.get(key)
        if self._is_news(obj, known):
            self._objects[key] = obj
            self._notify(key, known, obj)

    def forget(self, obj: T) -> None:
        """Drop an object that we deleted ourselves; its event may be still to come, or may have arrived first."""
        uid = obj.metadata.uid or ""
        if uid not in self._tombstones or _newer(obj, self._tombstones[uid]):
            self._unconfirmed.add(uid)
        self._drop(obj)

    def is_deleted(self, obj: T) -> bool:
        """Whether this very object is known to be deleted, not one of its name; false if that is long ago."""
        known = self._objects.get(obj.key)
        return obj.metadata.uid in self._tombstones and (known is None or known.metadata.uid != obj.metadata.uid)

    async def run(self) -> None:
        """List and watch until cancelled. Repeating is safe: a list replaces the cache, and old events are ignored."""
        pause, absences = FIRST_PAUSE, 0
        self._heard = asyncio.get_running_loop().time()
        with CACHE_AGE.computed_by(self._age):
            while True:
                error = await self._list_and_watch()
                absences = absences + 1 if self._optional and isinstance(error, NotFound) else 0
                if error is None and asyncio.get_running_loop().time() - self._watch_began >= STEADY:
                    pause = FIRST_PAUSE
                    self._note_answer()
                    continue
                if absences:
                    pause = await self._on_absence(absences)
                self._note_interruption(error, pause)
                pause = await self._wait(pause)

    def _note_interruption(self, error: Exception | None, pause: float) -> None:
        self._is_interrupted = error is not None
        if self._on_interruption:
            self._on_interruption(error)
            return
        text = str(error) if error else "the API server ended the watch at once"
        log.warning("watch interrupted", kind=self._kind.KIND.plural, error=text, pause=pause)

    def _note_answer(self) -> None:
        """The API server lists or watches: what has kept us from it is over."""
        if self._is_interrupted:
            self._is_interrupted = False
            if self._on_interruption:
                self._on_interruption(None)

    def _age(self) -> Values:
        """Seconds since the API server was last heard; none while it serves no such objects."""
        if self._absent:
            return {}
        return {(self._kind.KIND.plural,): asyncio.get_running_loop().time() - self._heard}

    async def _list_and_watch(self) -> Exception | None:
        """List if that is needed, and watch until the end; returns the error that broke it."""
        try:
            if not self._version:
                await self._list_and_note_version()
            self._watch_began = asyncio.get_running_loop().time()
            await self._watch()
        except Expired:
            self._version = ""
            self._partial = None
        except SpiderpoolError as error:
            return error
        except Exception as error:  # a bug must not stop the informer: start again with a list
            log.exception("watch failed", kind=self._kind.KIND.plural)
            self._version = ""
            return error
        return None

    async def _on_absence(self, times: int) -> float:
        """The server does not serve the kind, for so many times in a row: what is cached is gone after the second.

        One answer is not enough: a server that has just started may give it. Returns the pause until the next try.
        """
        self._synced.set()
        self._absent = True
        if times > 1:
            await self._empty()
        return LAST_PAUSE if self._objects else ABSENT_PAUSE

    async def _empty(self) -> None:
        """Drop all objects, none for good: the same ones may come with the next list."""
        self._version, self._partial = "", None
        turn = Turn()
        for key, old in list(self._objects.items()):
            if self._objects.pop(key, None) is not None:
                self._notify(key, old, None)
            if turn.is_over():
                await turn.next()

    async def _wait(self, pause: float) -> float:
        """Sleep about ``pause`` seconds; returns the next, longer pause."""
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        return min(pause * 2, LAST_PAUSE)

    async def _list_and_note_version(self) -> None:
        """List; after a failure the next list comes from etcd: no API server's cache may be as new as ours."""
        try:
            await self._list()
        except SpiderpoolError:
            self._not_older = None
            raise
        self._not_older = self._version if self._from_cache else None

    async def _list(self) -> None:
        """Replace the cache by a list, but for objects that are newer than the list."""
        while self._partial is None or self._partial.rest:
            begun = self._partial
            page = await self._page(begun.rest if begun else "")
            self._arrived += 1
            self._absent = False
            self._heard = asyncio.get_running_loop().time()
            keys = begun.keys if begun else set()
            unconfirmed = begun.unconfirmed if begun else set(self._unconfirmed)
            is_first = begun.is_first if begun else not self._objects
            turn = Turn()
            for obj in page.items:
                keys.add(key := obj.key)
                unconfirmed.discard(obj.metadata.uid or "")
                self._believe(obj, page.version)
                self._note(key, obj)
                if turn.is_over():
                    await turn.next()
            self._partial = PartialList(page.version, page.rest, keys, unconfirmed, is_first)
        complete, self._partial = self._partial, None
        turn = Turn()
        is_same = complete.is_first and len(complete.keys) == len(self._objects)
        for key, old in () if is_same else list(self._objects.items()):
            if key not in complete.keys and not _newer(old, complete.version):
                self._drop(old)
            if turn.is_over():
                await turn.next()
        self._confirm(complete)
        self._version = self._listed = complete.version
        self._synced.set()
        self._note_answer()

    def _confirm(self, complete: PartialList) -> None:
        """Take note that a list lacks what we deleted ourselves, and what is older than the list: no event says it."""
        for uid in complete.unconfirmed:
            if not _later(self._tombstones.get(uid), complete.version):
                self._unconfirmed.discard(uid)

    async def _page(self, rest: str) -> Page[T]:
        return await self._client.page(
            self._kind,
            self._namespace,
            rest,
            labels=self._labels,
            fields=self._fields,
            not_older=self._not_older,
            timeout=LIST_TIMEOUT,
        )

    async def _watch(self) -> None:
        """Apply events until the API server ends the watch. Raises Expired, or another SpiderpoolError."""
        events = self._client.watch(
            self._kind, self._version, self._namespace, labels=self._labels, fields=self._fields
        )
        async with aclosing(events):
            async for event, obj in events:
                self._heard = asyncio.get_running_loop().time()
                self._note_answer()
                self._version = obj.metadata.resourceVersion or self._version
                if self._from_cache:
                    self._not_older = self._version
                if isinstance(obj, Bookmark):
                    continue
                if event == "DELETED":
                    self._drop(obj)
                    self._unconfirmed.discard(obj.metadata.uid or "")
                else:
                    self.note(obj)

    def _is_news(self, obj: T, known: T | None) -> bool:
        """Whether an object is neither older than what is cached of its name, nor older than its deletion."""
        uid = obj.metadata.uid or ""
        if uid in self._tombstones and not _newer(obj, self._tombstones[uid]):
            return False
        if known is not None and known.metadata.uid != obj.metadata.uid:
            return not _newer(known, obj.metadata.resourceVersion)  # a former object of the name is always older
        return known is None or _newer(obj, known.metadata.resourceVersion)

    def _believe(self, obj: T, version: str) -> None:
        """Give up what a list contradicts though it is from before the list: the store was restored, and lacks it.

        A list has all changes up to its version: no object in it was deleted by then, and none was newer. The version
        of a deletion of our own is not known until an event arrives, or a list lacks the object.
        """
        uid, known = obj.metadata.uid or "", self._objects.get(obj.key)
        if uid in self._tombstones and uid not in self._unconfirmed and not _later(self._tombstones[uid], version):
            del self._tombstones[uid]
        if known is not None and not _newer(known, version) and _newer(known, obj.metadata.resourceVersion):
            self._objects[obj.key] = obj
            self._notify(obj.key, known, obj)

    def _drop(self, obj: T) -> None:
        """Drop an object, but nothing newer of its name.

        That is its successor, or the object itself which a later change makes match the selector again.
        """
        if obj.metadata.uid and not _later(self._tombstones.get(obj.metadata.uid), obj.metadata.resourceVersion):
            self._tombstones[obj.metadata.uid] = obj.metadata.resourceVersion
            if len(self._tombstones) > TOMBSTONES:
                oldest, _ = self._tombstones.popitem(last=False)
                self._unconfirmed.discard(oldest)
        known = self._objects.get(obj.key)
        if known is not None and not _newer(known, obj.metadata.resourceVersion):
            del self._objects[obj.key]
            self._notify(obj.key, known, None)

    def _notify(self, key: str, old: T | None, new: T | None) -> None:
        """Update the indexes and call the subscribers: who fails misses this event, the others do not."""
        for index in self._indexes:
            try:
                index.update(key, new)
            except Exception:
                log.exception("object not indexed", kind=self._kind.KIND.plural, object=key)
        for callback in self._subscribers:
            try:
                callback(old, new)
            except Exception:
                log.exception("change not followed", kind=self._kind.KIND.plural, object=key)


def _itself(obj: V) -> V:
    return obj


def _newer(obj: Object, version: str | None) -> bool:
    """Whether an object is newer than a resource version."""
    return _later(obj.metadata.resourceVersion, version)


def _later(version: str | None, other: str | None) -> bool:
    """Whether a resource version is later than another one; both come from one etcd, whose revisions grow."""
    try:
        return int(version or 0) > int(other or 0)
    except ValueError:
        return True
