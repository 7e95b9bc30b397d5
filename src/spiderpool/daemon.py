"""What our daemons do alike: they end on signals, serve probes and metrics, and say why they cannot run.

It knows no cluster, no kernel and no cloud.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from spiderpool.errors import SpiderpoolError
from spiderpool.telemetry import logger

GOODBYE = 1.0
"""Seconds that open requests may take when we stop."""

log = logger("daemon")


class Replica(Protocol):
    """One of several equal processes, of which one leads."""

    @property
    def lack(self) -> str | None:
        """Why it is not ready; None when it is."""

    @property
    def leading(self) -> bool:
        """Whether it leads."""


def run(begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Work until SIGTERM or SIGINT. Exits 1, with a log line each, on errors of ours, also on those of ``begin``."""
    failed = False
    try:
        asyncio.run(_until_told_to_stop(begin()))
    except* SpiderpoolError as errors:
        failed = True
        for error in _leaves(errors):
            log.error("cannot run", error=str(error))
    if failed:
        raise SystemExit(1)


@asynccontextmanager
async def listening(
    application: web.Application, host: str | None, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve an application on TCP while the context lasts; ``host`` None stands for all addresses of both families."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=GOODBYE, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


def runtime(replica: Replica) -> web.Application:
    """Probes and metrics of a replica."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="leading" if replica.leading else "standing by")

    async def ready(_: web.Request) -> web.Response:
        lack = replica.lack
        return web.Response(status=503, text=lack) if lack else web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/v1/runtime/liveness", alive)
    application.router.add_get("/v1/runtime/startup", ready)
    application.router.add_get("/v1/runtime/readiness", ready)
    application.router.add_get("/metrics", metrics)
    return application


async def metrics(_: web.Request) -> web.Response:
    """Our metrics in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _until_told_to_stop(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    log.info("stopped")


def _leaves(group: BaseExceptionGroup[SpiderpoolError]) -> list[SpiderpoolError]:
    found: list[SpiderpoolError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
