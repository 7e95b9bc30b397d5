"""Serves the page on loopback until it is interrupted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import PurePosixPath

import click
from aiohttp import web
from aiohttp.typedefs import Middleware

from spiderpool.cli.connection import Cluster
from spiderpool.cli.ui.access import HEADERS, Handler, PageAccess, guarded
from spiderpool.cli.ui.answers import Answers
from spiderpool.cli.ui.map_keeping import MapKeeper
from spiderpool.cli.ui.streaming import EventStreams, event_bytes
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.errors import BadConfig

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 64
"""Connections at a time; more are closed at once."""
MOST_UNDER_WAY = 32
"""Requests at a time that are no streams; more are refused."""
WRITE_TIMEOUT = 20.0
"""Seconds for one write to a browser: one that takes nothing any more is dropped."""
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STREAM = "/api/stream"


def static_files() -> Mapping[str, bytes]:
    """The files of the page by name."""
    folder = files(__package__) / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if PurePosixPath(each.name).suffix in TYPES}


class PageServer:
    """The page, and what it needs of the cluster."""

    def __init__(self, cluster: Cluster, namespace: str | None = None) -> None:
        self.access = PageAccess()
        self.streams = EventStreams()
        self.watched = WatchedCluster(cluster)
        self.keeper = MapKeeper(self.watched, self.streams)
        self._answers = Answers(cluster, self.watched, self.keeper, namespace)
        self._files = static_files()

    def application(self) -> web.Application:
        """The routes; all of them are GET and need a session."""
        app = web.Application(middlewares=[guarded(self.access), _bounded()])
        app.router.add_get("/", self._index, allow_head=False)
        app.router.add_get("/static/{name}", self._file, allow_head=False)
        app.router.add_get(STREAM, self._stream, allow_head=False)
        self._answers.register(app.router)
        return app

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[str]:
        """Serve until the context ends; the address to open. Raises BadConfig for a port that is taken."""
        runner = web.AppRunner(self.application(), access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        assert runner.server is not None
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(_limited(runner.server), LOOPBACK, port, reuse_address=True)
        except OSError as error:
            await runner.cleanup()
            what = f"port {port} of {LOOPBACK} cannot be used: {error.strerror}"
            raise BadConfig(f"{what}; name another by --port, or none") from error
        self.access.port = listener.sockets[0].getsockname()[1]
        keeping = asyncio.create_task(self.keeper.run())
        try:
            async with self.watched.running():
                yield self.access.address
        finally:
            keeping.cancel()
            listener.close()
            await runner.cleanup()

    async def _index(self, request: web.Request) -> web.Response:
        found = self._static("index.html")
        if prefers_chinese(request.headers.get("Accept-Language", "")) and isinstance(found.body, bytes):
            found.body = found.body.replace(b'<html lang="en">', b'<html lang="zh">', 1)
        return found

    async def _file(self, request: web.Request) -> web.Response:
        return self._static(request.match_info["name"])

    def _static(self, name: str) -> web.Response:
        content = self._files.get(name)
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type=TYPES[PurePosixPath(name).suffix], charset="utf-8")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Events until the browser goes, or is behind."""
        if self.streams.is_full:
            raise web.HTTPServiceUnavailable(text="as many pages are open as may be: close one of them\n")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with self.streams.listening() as feed, suppress(ConnectionError, TimeoutError):
            feed.put(event_bytes("hello", self.keeper.state))
            async for event in feed.events():
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await response.write(event)
        return response


def _bounded() -> Middleware:
    """The middleware that refuses requests while too many are under way."""
    under_way = 0

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal under_way
        if request.path == STREAM:  # has a bound of its own
            return await handler(request)
        if under_way >= MOST_UNDER_WAY:
            raise web.HTTPServiceUnavailable(text="too many requests are under way\n")
        under_way += 1
        try:
            return await handler(request)
        finally:
            under_way -= 1

    return middleware


def prefers_chinese(languages: str) -> bool:
    """Whether an Accept-Language names Chinese before English. Values that cannot be read count as 1."""
    weights: dict[str, float] = {}
    for part in languages.lower().split(",")[:32]:
        name, _, parameter = part.strip().partition(";")
        match = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)", parameter)
        language = name.partition("-")[0]
        weights[language] = max(weights.get(language, 0.0), float(match[1]) if match else 1.0)
    return weights.get("zh", 0.0) > weights.get("en", 0.0)


class _Refusing(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _limited(server: web.Server) -> Callable[[], asyncio.Protocol]:
    def protocol() -> asyncio.Protocol:
        return server() if len(server.connections) < MOST_CONNECTIONS else _Refusing()

    return protocol


async def serve(cluster: Cluster, port: int, namespace: str | None) -> None:
    """Serve the page until Ctrl-C. Raises ApiUnavailable where nothing answers, Unauthorized where nobody knows us."""
    await cluster.go_on()
    server = PageServer(cluster, namespace)
    async with server.listening(port) as address:
        click.echo(f"Open {address}")
        click.echo("The address is good for one visit. Ctrl-C ends the page.", err=True)
        await asyncio.Event().wait()
