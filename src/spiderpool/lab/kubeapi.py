"""The API server as a kubelet stand-in needs it: plain JSON, and few imports, since they cost time in a node."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from spiderpool.errors import ApiUnavailable, SpiderpoolError

STRATEGIC_MERGE = "application/strategic-merge-patch+json"

_PASSING = frozenset((401, 403, 429, 500, 502, 503, 504))

Json = dict[str, Any]


class ApiRefusal(SpiderpoolError):
    """The API server answered with a status of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """One API server, spoken to with the identity of a kubeconfig."""

    def __init__(self, session: aiohttp.ClientSession, server: str, server_hostname: str | None) -> None:
        self._session = session
        self._server = server.rstrip("/")
        self._server_hostname = server_hostname

    async def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        content: str = "application/json",
        timeout: float = 10.0,
    ) -> Json:
        """One request, answered within ``timeout`` seconds. Raises ApiRefusal or ApiUnavailable."""
        data = None if body is None else json.dumps(body)
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._request(
                method, path, data=data, headers={"Content-Type": content}, timeout=limit
            ) as answer:
                return await _checked(answer)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiUnavailable(f"{method} {path}: {error or 'no answer in time'}") from error

    async def watch(self, path: str, query: str, version: str, *, timeout: int = 300) -> AsyncIterator[Json]:
        """Events since a resource version until the server ends the watch, after ``timeout`` seconds at most."""
        url = f"{path}?{query}&watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={timeout}"
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=timeout + 10)
        try:
            async with self._request("GET", url, timeout=limit) as answer:
                if answer.status != 200:
                    await _checked(answer)
                async for line in _lines(answer.content):
                    yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiUnavailable(f"watching {path}: {error}") from error

    def _request(self, method: str, path: str, **options: Any) -> Any:
        return self._session.request(method, self._server + path, server_hostname=self._server_hostname, **options)


async def persistently(work: Callable[[], Awaitable[object]], *, delay: float = 0.5) -> None:
    """Do it again, ``delay`` seconds apart, as long as the API server is away, busy or not set up for us yet.

    Any other refusal is raised. A node cannot do without its API server, so only cancelling ends it.
    """
    while True:
        try:
            await work()
        except ApiUnavailable as error:
            print(error.message, flush=True)
        except ApiRefusal as refusal:
            if refusal.status not in _PASSING:
                raise
            print(refusal.message, flush=True)
        else:
            return
        await asyncio.sleep(delay)


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[KubeApi]:
    """A connection as the current context of ``kubeconfig`` says."""
    cluster, user = _current(yaml.safe_load(kubeconfig.read_text()))
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    connector = aiohttp.TCPConnector(ssl=_tls(cluster, user, kubeconfig.parent))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield KubeApi(session, cluster["server"], cluster.get("tls-server-name"))


def _current(config: Json) -> tuple[Json, Json]:
    contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
    clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
    users = {entry["name"]: entry["user"] for entry in config["users"]}
    context = contexts[config["current-context"]]
    return clusters[context["cluster"]], users[context["user"]]


def _tls(cluster: Json, user: Json, folder: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate", folder), _material(user, "client-key", folder)
    if certificate and key:
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _material(section: Json, key: str, folder: Path) -> bytes | None:
    """Certificate material, inline (``<key>-data``) or in a file relative to the kubeconfig."""
    if inline := section.get(f"{key}-data"):
        return base64.b64decode(inline)
    return (folder / section[key]).read_bytes() if key in section else None


async def _checked(answer: aiohttp.ClientResponse) -> Json:
    body: Json = json.loads(await answer.read())
    if answer.status >= 400:
        raise ApiRefusal(answer.status, body.get("message", ""))
    return body


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; the stream's own iterator refuses lines beyond its buffer."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
