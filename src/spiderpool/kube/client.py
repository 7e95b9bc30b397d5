"""A thin typed client on aiohttp (docs/decisions/0002-own-api-client.md says why it is our own).

A request is built by a pure function, sent by :class:`Client`, and its answer read by a pure function.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from spiderpool.api.meta import Kind, Object, ObjectMeta
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.kube.config import ClusterAccess, load_access
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)
S = TypeVar("S")
Items = list[T]
"""So named, since :class:`Client` has a method ``list``."""

FIELD_MANAGER = "spiderpool"
PAGE = 500
"""Objects per page of a list: bounds the server's memory, one page for all but the largest clusters."""

DEFAULT_TIMEOUT = 10.0

CONNECTIONS = 100
"""At most so many at a time: watches, and as many requests as pods can be attached at once."""

IDLE_SECONDS = 300.0
"""A pod that comes after a quiet minute must not wait for a TLS handshake."""

DEAD_AFTER = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 30_000,
}
"""Socket options (tcp(7)) by which a path that swallows packets is given up within 30 s, watches too: an API server
that lost its power, or a load balancer that forgot us, says no goodbye."""

log = logger("api")


class ApiRefusal(SpiderpoolError):
    """The API server understood the request and said no."""


class NotFound(ApiRefusal):
    """404: no such object."""


class AlreadyExists(ApiRefusal):
    """409 on create: an object of that name exists."""


class Conflict(ApiRefusal):
    """409 on change or delete: the object is not the one that was meant, or has changed."""


class Forbidden(ApiRefusal):
    """401 or 403: our identity may not do this."""


class Invalid(ApiRefusal):
    """400 or 422: the object breaks a rule of the server or of an admission webhook."""


class Expired(ApiRefusal):
    """410: the resource version is too old to watch from; list again."""


class StatusMessage(msgspec.Struct):
    """metav1.Status, in part."""

    message: str = ""
    reason: str = ""
    code: int = 0


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
    """What goes over the wire."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"


class Client:
    """One connection pool to the API server. Every call takes a timeout in seconds.

    Calls raise the refusals above, or ApiUnavailable when there was no usable answer. After
    ApiUnavailable on a create, whether the object exists is unknown.
    """

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self.reachable = True
        """Whether the API server gave a usable answer when it was last asked."""
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=access.tls, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            read_bufsize=1 << 20,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
        )

    @classmethod
    def load(cls, kubeconfig: Path | None) -> Self:
        """From a kubeconfig file, or from the service account of the pod. Raises BadConfig."""
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
        """One object, read from the store."""
        content = await self._send(Request("GET", kind.KIND.path(namespace, name)), timeout)
        return msgspec.json.decode(content, type=kind)

    async def get_raw(self, path: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """The answer to a GET of any path, as it is: for what we have no type for."""
        return await self._send(Request("GET", path), timeout)

    async def list(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Items[T]:
        """All objects of a kind that match the selectors."""
        return (await self.list_at(kind, namespace, labels=labels, fields=fields, timeout=timeout))[1]

    async def list_at(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> tuple[str, Items[T]]:
        """As :meth:`list`, with the resource version to watch from."""
        params = _selectors(labels, fields) | {"limit": str(PAGE)}
        items: Items[T] = []
        while True:
            content = await self._send(Request("GET", kind.KIND.path(namespace), params), timeout)
            meta, page = _read_list(content, kind)
            items += page
            if not meta.continue_:
                return meta.resourceVersion, items
            params = params | {"continue": meta.continue_}

    async def create(self, obj: T, *, timeout: float = DEFAULT_TIMEOUT) -> T:
        """Create an object and return it as stored."""
        request = Request("POST", obj.KIND.path(obj.metadata.namespace), {"fieldManager": FIELD_MANAGER}, encode(obj))
        return msgspec.json.decode(await self._send(request, timeout), type=type(obj))

    async def replace(self, obj: T, *, timeout: float = DEFAULT_TIMEOUT) -> T:
        """Replace an object that was read before; Conflict if it has changed since."""
        path = obj.KIND.path(obj.metadata.namespace, obj.name)
        request = Request("PUT", path, {"fieldManager": FIELD_MANAGER}, encode(obj))
        return msgspec.json.decode(await self._send(request, timeout), type=type(obj))

    async def patch(
        self,
        kind: type[T],
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        sub: str | None = None,
        strategic: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> T:
        """Merge-patch an object (RFC 7386), or a subresource of it.

        ``strategic`` also merges lists, by the keys that the server knows for kinds of its own.
        """
        request = Request(
            "PATCH",
            kind.KIND.path(namespace, name, sub),
            {"fieldManager": FIELD_MANAGER},
            msgspec.json.encode(body),
            f"application/{'strategic-merge-patch' if strategic else 'merge-patch'}+json",
        )
        return msgspec.json.decode(await self._send(request, timeout), type=kind)

    async def apply(
        self,
        kind: type[T],
        body: Mapping[str, Any],
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> T:
        """Server-side apply, taking over fields of others."""
        content = await self.apply_raw(kind.KIND, body, name, namespace, timeout=timeout)
        return msgspec.json.decode(content, type=kind)

    async def apply_raw(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> bytes:
        """Server-side apply of an object that we have no type for."""
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        request = Request(
            "PATCH",
            kind.path(namespace, name),
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
        uid: str | None = None,
        resourceVersion: str | None = None,
        grace: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Delete an object; with preconditions, Conflict if it is not the one that was meant.

        ``grace`` is a pod's grace period in seconds instead of its own; 0 removes it now.
        """
        conditions = {"uid": uid, "resourceVersion": resourceVersion}
        conditions = {key: value for key, value in conditions.items() if value}
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": conditions}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._send(Request("DELETE", kind.KIND.path(namespace, name), body=msgspec.json.encode(options)), timeout)

    async def watch(
        self,
        kind: type[T],
        version: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        seconds: int = 300,
    ) -> AsyncGenerator[tuple[str, T | Bookmark], None]:
        """Events (ADDED, MODIFIED, DELETED, BOOKMARK) after ``version``, for at most ``seconds``.

        A bookmark tells a resource version and nothing else. Ends when the server closes;
        raises Expired when ``version`` is too old.
        """
        params = _selectors(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        async with self._stream(Request("GET", kind.KIND.path(namespace), params), seconds + 30) as content:
            async for line in _lines(content):
                event = msgspec.json.decode(line, type=WatchEvent)
                if event.type == "ERROR":
                    raise _refusal(_read_status(bytes(event.object)), "GET")
                if event.type == "BOOKMARK":
                    yield event.type, msgspec.json.decode(event.object, type=Bookmark)
                elif (obj := _read(event.object, kind)) is not None:
                    yield event.type, obj

    async def _send(self, request: Request, timeout: float) -> bytes:
        try:
            async with self._open(request, aiohttp.ClientTimeout(total=timeout)) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.reachable = False
            raise _unavailable(request, error) from error
        self.reachable = response.status < 500
        if response.status >= 400:
            raise _failure(response.status, content, request)
        return content

    @asynccontextmanager
    async def _stream(self, request: Request, silence: float) -> AsyncIterator[aiohttp.StreamReader]:
        """The body as it comes; an error when it does not begin soon, or then nothing comes for ``silence`` seconds."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=silence)
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT) as beginning, self._open(request, timeout) as response:
                beginning.reschedule(None)
                self.reachable = response.status < 500
                if response.status >= 400:
                    raise _failure(response.status, await response.read(), request)
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.reachable = False
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


def _socket(about: tuple[Any, ...]) -> socket.socket:
    """A socket for an entry of getaddrinfo(3)."""
    family, kind, protocol, *_ = about
    made = socket.socket(family, kind, protocol)
    for (level, option), value in DEAD_AFTER.items():
        made.setsockopt(level, option, value)
    return made


def encode(obj: Object) -> bytes:
    """An object as JSON, with its apiVersion and kind."""
    obj.apiVersion = obj.KIND.api_version
    obj.kind = obj.KIND.name
    return msgspec.json.encode(obj)


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in named.items() if value}


class _RawList(msgspec.Struct):
    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


def _read_list(content: bytes, kind: type[T]) -> tuple[ListMeta, list[T]]:
    page = msgspec.json.decode(content, type=_RawList)
    read = (_read(item, kind) for item in page.items or ())
    return page.metadata, [obj for obj in read if obj is not None]


def _read(raw: msgspec.Raw, shape: type[S]) -> S | None:
    """An object; None, with a log line, for one that breaks its own schema: it must not hide the others."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        log.error("object left out, it cannot be read", shape=shape.__name__, error=str(error), object=bytes(raw)[:500])
        return None


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length. Chunks are searched once, so a long line costs no more than its length."""
    parts: list[bytes] = []
    async for chunk in content.iter_any():
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            yield b"".join((*parts, line))
            parts = []
        if rest:
            parts.append(rest)


def _read_status(content: bytes) -> StatusMessage:
    try:
        return msgspec.json.decode(content, type=StatusMessage)
    except msgspec.DecodeError:
        return StatusMessage(message=content[:200].decode(errors="replace"))


def _failure(code: int, content: bytes, request: Request) -> SpiderpoolError:
    status = _read_status(content)
    status.code = status.code or code
    return _refusal(status, request.method, request.path)


def _refusal(status: StatusMessage, method: str, path: str = "") -> SpiderpoolError:
    message = status.message or f"{method} {path} answered {status.code}"
    match status.code:
        case 404:
            return NotFound(message)
        case 409:
            return AlreadyExists(message) if method == "POST" else Conflict(message)
        case 410:
            return Expired(message)
        case 401 | 403:
            return Forbidden(message)
        case 400 | 422:
            return Invalid(message)
        case _:
            return ApiUnavailable(f"the API server answered {status.code} to {method} {path}: {message}")


def _unavailable(request: Request, error: Exception) -> ApiUnavailable:
    reason = str(error) or type(error).__name__
    return ApiUnavailable(f"no answer from the API server to {request.method} {request.path}: {reason}")
