"""Shared by all daemons: command line, signals, probes and metrics over HTTP, and the life of an elected replica.

It reads no objects of the cluster other than the Lease, and touches neither kernel nor cloud.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.event_loop import watched
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.kube.lease import Election, LeaseLock, LeaseTimings
from spiderpool.settings import CloudSettings, ControllerSettings, unread_variables
from spiderpool.settings.table import CONFIG_FILE
from spiderpool.telemetry import configure, logger

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that open HTTP requests may take when we stop."""

SYNC_TIMEOUT = 60.0
"""Seconds until the first lists must have arrived; then the daemon ends with an error and is started again."""

METRICS_AGE = 1.0
"""Seconds for which the metrics are not computed again: whoever reaches the port may ask for them."""

NOT_SYNCED = "caches are not synced"
"""Why a leader is not ready whose first lists have not arrived."""

SETTINGS = f"""\
Settings come from environment variables and from the file of the ConfigMap, a YAML file that the variable
SPIDERPOOL_CONFIG names (default: {CONFIG_FILE.default}). docs/reference/settings.md describes all of them."""

log = logger("daemon")


@dataclass(frozen=True, slots=True)
class Program:
    """What ``--help`` says about a daemon."""

    name: str
    summary: str
    """What it does, in one sentence."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Commands that it can carry out instead of running as a daemon, and what each does."""


class Leader(Protocol):
    """The work of the one replica that holds the Lease."""

    @property
    def not_ready_reason(self) -> str | None:
        """Why it does not do all of its work yet; None when it does."""

    async def run(self) -> None:
        """Work until cancelled."""


class Replica:
    """One of several equal processes, of which at most one leads at a time.

    ``blocker()`` returns why the replica cannot serve for a reason other than the election, None when it can.
    """

    def __init__(
        self, election: Election, lead: Callable[[], Leader], blocker: Callable[[], str | None] = lambda: None
    ) -> None:
        self._election = election
        self._make_leader = lead
        self._blocker = blocker
        self._leader: Leader | None = None  # set while this replica leads

    async def run(self) -> None:
        """Lead whenever this replica holds the Lease, until cancelled. Raises NotReady."""
        await self._election.run(self._lead)

    @property
    def not_ready_reason(self) -> str | None:
        """Why the readiness probe must fail; None when this replica is ready, as leader or as standby."""
        if reason := self._blocker():
            return reason
        if self._leader is not None:
            reason = self._leader.not_ready_reason
            return f"leading, {reason}" if reason else None
        return None if self._election.leader else "no leader is known"

    @property
    def leading(self) -> bool:
        """Whether this replica leads."""
        return self._leader is not None

    async def _lead(self) -> None:
        self._leader = self._make_leader()
        try:
            await self._leader.run()
        finally:
            self._leader = None


def parse_arguments(program: Program, arguments: Sequence[str] | None = None) -> str | None:
    """The command that was given, None without one; ``arguments`` None stands for those of the process.

    Ends the process with status 0 after ``--help`` and ``--version``, and with 2 on any other argument.
    """
    parser = argparse.ArgumentParser(
        prog=program.name,
        description=program.summary,
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('spiderpool')}")
    if program.commands:
        text = "; ".join(f"{name}: {what}" for name, what in program.commands.items())
        parser.add_argument("command", nargs="?", choices=list(program.commands), help=text)
    command: str | None = vars(parser.parse_args(arguments)).get("command")
    return command


def run(begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the coroutine that ``begin`` returns until it ends, or until SIGTERM or SIGINT cancels it.

    Exits 1, with one log line for each SpiderpoolError that ``begin`` or the coroutine raises; other exceptions pass.
    """
    configure("info")  # errors in the settings are logged before the settings can name a level
    for sentence in unread_variables(os.environ):
        log.warning("setting without effect", warning=sentence)
    failed = False
    try:
        asyncio.run(_until_signal(begin()))
    except* SpiderpoolError as errors:
        failed = True
        for error in _leaves(errors):
            log.error("cannot run", error=str(error))
    if failed:
        raise SystemExit(1)


def election(client: Client, lease: str, settings: ControllerSettings | CloudSettings) -> Election:
    """The election of a replica, by its settings. Raises BadConfig when the timings cannot work."""
    timings = LeaseTimings(settings.leader_duration, settings.leader_renew_deadline, settings.leader_retry_period)
    return Election(client, LeaseLock(lease, settings.common.namespace, settings.identity), timings)


async def start_informers(group: asyncio.TaskGroup, informers: Iterable[Informer[Any]]) -> None:
    """Run informers in the group and wait for their first lists.

    Raises NotReady when the API server sends no page of a list for SYNC_TIMEOUT. Until all are there the garbage
    collection of Python is off, and it leaves them alone later: it would go through the indexes of all objects again
    and again (docs/reference/scale.md has the figures).
    """
    started = list(informers)
    gc.unfreeze()  # the caches of a former term, if any, are garbage
    gc.disable()
    try:
        for informer in started:
            group.create_task(informer.run())
        for informer in started:
            await informer.listed(SYNC_TIMEOUT)
        gc.freeze()
    finally:
        gc.enable()


@asynccontextmanager
async def listening(application: web.Application, host: str | None, port: int) -> AsyncIterator[None]:
    """Serve an application on TCP while the context lasts; ``host`` None stands for all addresses of both families.

    Raises BadConfig when the address cannot be listened on.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            raise BadConfig(f"cannot listen on {host or 'any address'}, port {port}: {error}") from error
        yield
    finally:
        await runner.cleanup()


def runtime(replica: Replica) -> web.Application:
    """The HTTP application with the probes and metrics of a replica."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="leading" if replica.leading else "standing by")

    async def ready(_: web.Request) -> web.Response:
        reason = replica.not_ready_reason
        return web.Response(status=503, text=reason) if reason else web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/v1/runtime/liveness", alive)
    application.router.add_get("/v1/runtime/startup", ready)
    application.router.add_get("/v1/runtime/readiness", ready)
    application.router.add_get("/metrics", MetricsPage().answer)
    return application


class MetricsPage:
    """Our metrics in Prometheus' text format, computed at most once in METRICS_AGE: it takes time of the event loop."""

    def __init__(self) -> None:
        self._body = b""
        self._fresh_until = 0.0  # time of the loop

    async def answer(self, _: web.Request) -> web.Response:
        """The metrics of now, or those of just now."""
        now = asyncio.get_running_loop().time()
        if not self._body or now >= self._fresh_until:
            self._body, self._fresh_until = generate_latest(), now + METRICS_AGE
        return web.Response(body=self._body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run the work until it ends or a signal cancels it. Raises what the work raises."""
    task, loop = asyncio.create_task(work), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with watched(loop), suppress(asyncio.CancelledError):  # the signal's own
        await task
    log.info("stopped")


def _leaves(group: BaseExceptionGroup[SpiderpoolError]) -> list[SpiderpoolError]:
    """All errors of a group, those of nested groups included."""
    found: list[SpiderpoolError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
