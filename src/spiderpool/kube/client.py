"""A typed client of the Kubernetes API on aiohttp (docs/decisions/0002-own-api-client.md says why it is our own).

It sends requests and decodes answers. It caches nothing and, but for what :class:`Client` says about GET, repeats
nothing: that is up to its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from spiderpool.api.decoding import without_depths
from spiderpool.api.meta import Kind, Object, ObjectMeta
from spiderpool.errors import ApiUnavailable, BadRequest, SpiderpoolError
from spiderpool.kube.config import ClusterAccess, load_access
from spiderpool.kube.connections import open_session
from spiderpool.kube.turns import Turn
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)
S = TypeVar("S")
Items = list[T]
"""Stands for ``list[T]`` inside :class:`Client`, whose method ``list`` hides the built-in."""

FIELD_MANAGER = "spiderpool"
PAGE = 500
"""Objects per page of a list: bounds the server's memory, one page for all but the largest clusters."""

DEFAULT_TIMEOUT = 10.0
"""Seconds for a request, unless its caller sets another limit."""

log = logger("api")


class ApiRefusal(SpiderpoolError):
    """The API server understood the request and refused it."""


class NotFound(ApiRefusal):
    """404: no such object."""


class AlreadyExists(ApiRefusal):
    """409 on create: an object of that name exists."""


class Conflict(ApiRefusal):
    """409 on change or delete: the object has another UID or resource version than the request names."""


class Forbidden(ApiRefusal):
    """401 or 403: our identity may not do this."""


class Unauthorized(Forbidden):
    """401: the API server does not know who we are, as with a token that has expired."""


class Invalid(ApiRefusal):
    """400 or 422: the object breaks a rule of the server or of an admission webhook."""


class Expired(ApiRefusal):
    """410: the resource version is too old to watch from; list again."""


class TooManyRequests(ApiUnavailable):
    """429: not now, as the API server is busy, or a PodDisruptionBudget allows no more evictions."""


class StatusCause(msgspec.Struct):
    """metav1.StatusCause, in part."""

    message: str = ""


class StatusDetails(msgspec.Struct):
    """metav1.StatusDetails, in part."""

    causes: list[StatusCause] | None = None


class StatusMessage(msgspec.Struct):
    """metav1.Status, in part."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class ListMeta(msgspec.Struct):
    """metav1.ListMeta, in part."""

    resourceVersion: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class WatchEvent(msgspec.Struct):
    """metav1.WatchEvent, its object not yet decoded."""

    type: str
    object: msgspec.Raw


class Bookmark(msgspec.Struct):
    """The object of a BOOKMARK event: a resource version to go on from."""

    metadata: ObjectMeta


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to the API server; ``path`` has no leading slash."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list."""

    version: str
    """Resource version of the whole list."""
    items: list[T]
    rest: str
    """Token by which the API server goes on; empty on the last page."""


class PatchOptions(TypedDict, total=False):
    """How an object is patched."""

    sub: str  # subresource to patch instead of the object
    strategic: bool  # merge lists too, by the keys that the server knows for its built-in kinds


class DeleteOptions(TypedDict, total=False):
    """metav1.DeleteOptions, in part; None stands for absent."""

    uid: str | None  # precondition
    resourceVersion: str | None  # precondition
    grace: int | None  # grace period in seconds instead of the pod's own; 0 removes the pod at once


class Selectors(TypedDict, total=False):
    """Which objects a list or a watch shows; None stands for all."""

    labels: str | None
    fields: str | None


class ListOptions(Selectors, total=False):
    """Which objects a list shows."""

    defective: bool  # also those with a defect, which say nothing: for who looks for these


class PageOptions(ListOptions, total=False):
    """Which objects a page shows, how many, and how old it may be."""

    limit: int  # objects; absent: PAGE
    not_older: str | None  # resource version; "0": any; None: what etcd has now, which costs the API server far more


class Client:
    """One connection pool to the API server. Every call takes a timeout in seconds.

    Calls raise the refusals above, or ApiUnavailable when there was no usable answer: then it is unknown whether a
    write was done. A GET is sent once more when a reused connection breaks, a write never: if the first one was done,
    the second would be refused, and that would look as if somebody else had been faster.
    """

    def __init__(self, access: ClusterAccess, connector: aiohttp.BaseConnector | None = None) -> None:
        """``connector`` makes the connections; None: by TCP, as ``access`` says."""
        self._access = access
        self._http = open_session(access.tls, connector)

    @classmethod
    def load(cls, kubeconfig: Path | None) -> Self:
        """A client by a kubeconfig file or, for None, by the service account of the pod. Raises BadConfig."""
        return cls(load_access(kubeconfig))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def get(
        self, kind: type[T], name: str, namespace: str | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> T:
        """One object, read from etcd. Raises NotFound, or BadRequest for what is no name."""
        return decoded(await self._send(Request("GET", kind.KIND.object_path(namespace, name)), timeout), kind)

    async def find(
        self, kind: type[T], name: str, namespace: str | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> T | None:
        """As :meth:`get`, but None when the object does not exist, as one without a valid name."""
        try:
            path = kind.KIND.object_path(namespace, name)
        except BadRequest:  # here alone: a token file that cannot be read is BadConfig, and says nothing of the object
            return None
        try:
            return decoded(await self._send(Request("GET", path), timeout), kind)
        except NotFound:
            return None

    async def get_raw(
        self, path: str, params: Mapping[str, str] | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> bytes:
        """The undecoded answer to a GET of any path, for objects that we have no type for."""
        return await self._send(Request("GET", path, params or {}), timeout)

    async def list(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        **selectors: Unpack[ListOptions],
    ) -> Items[T]:
        """All objects of a kind that match the selectors."""
        return (await self.list_at(kind, namespace, timeout=timeout, **selectors))[1]

    async def list_at(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        **selectors: Unpack[ListOptions],
    ) -> tuple[str, Items[T]]:
        """As :meth:`list`, with the resource version to watch from. The timeout is that of each page."""
        found: Page[T] = Page("", [], "")
        items: Items[T] = []
        while True:
            found = await self.page(kind, namespace, found.rest, timeout=timeout, **selectors)
            items += found.items
            if not found.rest:
                return found.version, items

    async def page(
        self,
        kind: type[T],
        namespace: str | None = None,
        rest: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        **options: Unpack[PageOptions],
    ) -> Page[T]:
        """The first page of a list, or the one that ``rest`` of the page before names. Raises Expired.

        A server whose cache is older than asked for answers late, or not: ApiUnavailable.
        """
        params = _selectors(options.get("labels"), options.get("fields")) | {"limit": str(options.get("limit", PAGE))}
        if rest:
            params["continue"] = rest
        elif version := options.get("not_older"):
            params |= {"resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}
        content = await self._send(Request("GET", kind.KIND.path(namespace), params), timeout)
        try:
            page = await _decode_aside(content, RawList)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unreadable(RawList, error) from error
        objects: Items[T] = []
        turn = Turn()
        for raw in page.items or ():
            if (obj := _read(raw, kind, defective=options.get("defective", False))) is not None:
                objects.append(obj)
            if turn.is_over():
                await turn.next()
        return Page(page.metadata.resourceVersion, objects, page.metadata.continue_)

    async def create(self, obj: T, *, timeout: float = DEFAULT_TIMEOUT, is_dry: bool = False) -> T:
        """Create an object; returns it as stored, or as it would be (``is_dry``). Raises AlreadyExists."""
        params = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if is_dry else {})
        request = Request("POST", obj.KIND.path(obj.metadata.namespace), params, encode(obj))
        return decoded(await self._send(request, timeout), type(obj))

    async def create_sub(
        self, obj: Object, sub: str, body: Mapping[str, Any], *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        """Create what is a subresource of an object, such as its eviction. Raises NotFound, AlreadyExists (409)."""
        path = obj.KIND.object_path(obj.metadata.namespace, obj.name, sub)
        params = {"fieldManager": FIELD_MANAGER}
        await self._send(Request("POST", path, params, msgspec.json.encode(body)), timeout)

    async def replace(self, obj: T, *, timeout: float = DEFAULT_TIMEOUT) -> T:
        """Replace the version of an object that its resourceVersion names; returns it as stored. Raises Conflict."""
        path = obj.KIND.object_path(obj.metadata.namespace, obj.name)
        request = Request("PUT", path, {"fieldManager": FIELD_MANAGER}, encode(obj))
        return decoded(await self._send(request, timeout), type(obj))

    async def patch(
        self,
        kind: type[T],
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        **options: Unpack[PatchOptions],
    ) -> T:
        """Merge-patch an object (RFC 7386); returns it as stored.

        A resourceVersion or UID in ``body`` is a precondition. Raises Conflict, Invalid (another UID) or NotFound.
        """
        request = Request(
            "PATCH",
            kind.KIND.object_path(namespace, name, options.get("sub")),
            {"fieldManager": FIELD_MANAGER},
            msgspec.json.encode(body),
            f"application/{'strategic-merge-patch' if options.get('strategic') else 'merge-patch'}+json",
        )
        return decoded(await self._send(request, timeout), kind)

    async def apply(
        self,
        kind: type[T],
        body: Mapping[str, Any],
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> T:
        """Server-side apply, forced: fields that other managers own become ours. Returns the object as stored."""
        content = await self.apply_raw(kind.KIND, body, name, namespace, timeout=timeout)
        return decoded(content, kind)

    async def apply_raw(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> bytes:
        """As :meth:`apply`, for an object that we have no type for; returns the undecoded answer."""
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        request = Request(
            "PATCH",
            kind.object_path(namespace, name),
            {"fieldManager": FIELD_MANAGER, "force": "true"},
            msgspec.json.encode(whole),
            "application/apply-patch+yaml",
        )
        return await self._send(request, timeout)

    async def delete(
        self,
        kind: type[T],
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        **options: Unpack[DeleteOptions],
    ) -> None:
        """Delete an object. Raises NotFound, or Conflict when a precondition does not hold."""
        conditions = {name: value for name in ("uid", "resourceVersion") if (value := options.get(name))}
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": conditions}
        if (grace := options.get("grace")) is not None:
            body["gracePeriodSeconds"] = grace
        path = kind.KIND.object_path(namespace, name)
        await self._send(Request("DELETE", path, body=msgspec.json.encode(body)), timeout)

    async def watch(
        self,
        kind: type[T],
        version: str,
        namespace: str | None = None,
        *,
        seconds: int = 300,
        **selectors: Unpack[Selectors],
    ) -> AsyncGenerator[tuple[str, T | Bookmark], None]:
        """Events (ADDED, MODIFIED, DELETED, BOOKMARK) after ``version``, for at most ``seconds``.

        A bookmark holds a resource version and nothing else. Ends when the server closes the watch. Raises Expired
        when ``version`` is too old.
        """
        params = _selectors(selectors.get("labels"), selectors.get("fields")) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        async with self._stream(Request("GET", kind.KIND.path(namespace), params), seconds + 30) as content:
            async for line in _lines(content):
                event = await _decode_aside(line, WatchEvent)
                if event.type == "ERROR":
                    raise _refusal(_read_status(bytes(event.object)), "GET")
                if event.type == "BOOKMARK":
                    yield event.type, _decode(event.object, Bookmark)
                elif (obj := _read(event.object, kind)) is not None:
                    yield event.type, obj

    async def _send(self, request: Request, timeout: float) -> bytes:
        """The body of a successful answer. Raises a refusal or ApiUnavailable."""
        try:
            # Not aiohttp's own limit: one that ends together with a cancellation loses that.
            async with asyncio.timeout(timeout), self._open(request, aiohttp.ClientTimeout(total=None)) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(request, error) from error
        if response.status >= 400:
            raise _failure(response.status, content, request)
        return content

    @asynccontextmanager
    async def _stream(self, request: Request, silence: float) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of the answer as it arrives.

        Raises ApiUnavailable when the answer does not begin within DEFAULT_TIMEOUT, or stops for ``silence`` seconds.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=silence)
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT) as deadline, self._open(request, timeout) as response:
                deadline.reschedule(None)  # the answer has begun
                if response.status >= 400:
                    raise _failure(response.status, await response.read(), request)
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(request, error) from error

    def _open(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = self._access.credentials.headers()
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        return self._http.request(
            request.method,
            URL(f"{self._access.server}/{request.path}?{urlencode(request.params)}", encoded=True),
            data=request.body,
            headers=headers,
            timeout=timeout,
        )


def encode(obj: Object) -> bytes:
    """An object as JSON; sets its apiVersion and kind."""
    obj.apiVersion = obj.KIND.api_version
    obj.kind = obj.KIND.name
    return msgspec.json.encode(obj)


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in named.items() if value}


def _decode(content: bytes | msgspec.Raw, shape: type[S]) -> S:
    """An answer of the API server as a ``shape``.

    It stores what is 10,000 levels deep, such as managedFields that came with a pod. The decoder cannot even skip that,
    so whoever may make pods could keep us from reading any.
    """
    try:
        return msgspec.json.decode(content, type=shape)
    except RecursionError:
        return msgspec.json.decode(without_depths(bytes(content)), type=shape)


async def _decode_aside(content: bytes, shape: type[S]) -> S:
    """As `_decode`, for what others' objects may make long: what is too deep is left out off the event loop.

    One pod in a page of large ones would hold it up for seconds.
    """
    try:
        return msgspec.json.decode(content, type=shape)
    except RecursionError:
        return msgspec.json.decode(await asyncio.to_thread(without_depths, content), type=shape)


def decoded(content: bytes, shape: type[S]) -> S:
    """The object of an answer. Raises ApiUnavailable for what is none, as a proxy may send."""
    try:
        return _decode(content, shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(shape, error) from error


def _unreadable(shape: type[Any], error: Exception) -> ApiUnavailable:
    return ApiUnavailable(f"the API server's answer is no {shape.__name__} that can be read: {error}")


class RawList(msgspec.Struct):
    """A list, its objects not yet decoded."""

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


def _read(raw: msgspec.Raw, shape: type[S], *, defective: bool = False) -> S | None:
    """An object; None, with a log line, for one that breaks its own schema: the other objects stay usable."""
    try:
        obj = _decode(raw, shape)
        fault = obj.defect() if isinstance(obj, Object) and not defective else None
        if fault is None:
            return obj
        raise msgspec.ValidationError(fault)
    except msgspec.ValidationError as error:
        log.error("object left out, it cannot be read", shape=shape.__name__, error=str(error), object=bytes(raw)[:500])
        return None


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length. Every chunk is searched once, so a line costs time in proportion to its length."""
    parts: list[bytes] = []  # of a line whose end has not arrived
    async for chunk in content.iter_any():
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            yield b"".join((*parts, line))
            parts = []
        if rest:
            parts.append(rest)


def _read_status(content: bytes) -> StatusMessage:
    try:
        return _decode(content, StatusMessage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return StatusMessage(message=content[:200].decode(errors="replace"))


def _failure(code: int, content: bytes, request: Request) -> SpiderpoolError:
    status = _read_status(content)
    status.code = status.code or code
    return _refusal(status, request.method, request.path)


def _refusal(status: StatusMessage, method: str, path: str = "") -> SpiderpoolError:
    """The exception for an answer of status 400 or more."""
    message = status.message or f"{method} {path} answered {status.code}"
    match status.code:
        case 404:
            return NotFound(message)
        case 409:
            return AlreadyExists(message) if method == "POST" else Conflict(message)
        case 410:
            return Expired(message)
        case 401:
            return Unauthorized(message)
        case 403:
            return Forbidden(message)
        case 400 | 422:
            return Invalid(message)
        case 429:
            causes = (status.details.causes if status.details else None) or ()
            return TooManyRequests("; ".join([message, *(each.message for each in causes if each.message)]))
        case _:
            return ApiUnavailable(f"the API server answered {status.code} to {method} {path}: {message}")


def _unavailable(request: Request, error: Exception) -> ApiUnavailable:
    reason = str(error) or type(error).__name__
    return ApiUnavailable(f"no answer from the API server to {request.method} {request.path}: {reason}")
