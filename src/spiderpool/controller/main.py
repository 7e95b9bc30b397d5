"""The controller: one process that serves admission and reconciles, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.controller.certificates import hosts, issue, register
from spiderpool.controller.collector import Collector
from spiderpool.controller.coordinator import KUBEADM_CONFIG, SYSTEM_NAMESPACE, Coordinators
from spiderpool.controller.networks import Networks
from spiderpool.controller.pools import Pools
from spiderpool.controller.webhooks import KINDS, Webhooks
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.settings import Common, ControllerSettings, controller_settings, load_source
from spiderpool.telemetry import configure, logger

COMPONENT = "spiderpool-controller"
SYNC_TIMEOUT = 60.0
"""Seconds until the first lists must have arrived; then we end, and are started again."""
GOODBYE = 1.0
"""Seconds that open requests may take when we stop."""

log = logger("controller")


class Controller:
    """Everything that runs while the webhooks are served."""

    def __init__(self, client: Client, settings: ControllerSettings) -> None:
        self._client = client
        self._settings = settings
        self._recorder = Recorder(client, COMPONENT)
        self._pools = Informer(client, SpiderIPPool)
        self._ips = Informer(client, SpiderIP)
        self._pods = Informer(client, Pod)
        self._configs = Informer(client, SpiderMultusConfig)
        self._attachments = Informer(client, NetworkAttachmentDefinition)
        self._coordinators = Informer(client, SpiderCoordinator)
        self._kubeadm = Informer(client, ConfigMap, SYSTEM_NAMESPACE, fields=f"metadata.name={KUBEADM_CONFIG}")
        self.ready = False
        """Whether all first lists have arrived and the API server knows our webhooks."""

    async def run(self, ca: bytes) -> None:
        """Watch, register the webhooks with this CA (PEM), and reconcile until cancelled. Raises NotReady."""
        informers = self._informers()
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.synced(SYNC_TIMEOUT)
            await register(self._client, self._settings, ca, KINDS)
            for task in self._reconcilers():
                group.create_task(task)
            self.ready = True
            log.info("ready", webhooks=hosts(self._settings))

    def _informers(self) -> list[Informer[Any]]:
        return [
            self._pools,
            self._ips,
            self._pods,
            self._configs,
            self._attachments,
            self._coordinators,
            self._kubeadm,
        ]

    def _reconcilers(self) -> list[Coroutine[Any, Any, None]]:
        client, settings, recorder = self._client, self._settings, self._recorder
        collector = Collector(
            client, self._ips, self._pods, recorder, interval=settings.gc_interval, grace=settings.gc_grace
        )
        default = settings.coordinator_name
        return [
            recorder.run(),
            Pools(client, self._pools, self._ips, settings.status_debounce).run(),
            Networks(client, self._configs, self._attachments, recorder).run(),
            Coordinators(client, self._coordinators, self._kubeadm, recorder, default).run(),
            *([collector.run()] if settings.gc_enabled else []),
        ]


async def serve(settings: ControllerSettings) -> None:
    """Run the controller until cancelled. Raises SpiderpoolError, alone or in a group."""
    serving = issue(hosts(settings))
    async with Client.load(settings.common.kubeconfig) as client:
        controller = Controller(client, settings)
        admission = Webhooks(client, _families(settings.common)).application()
        async with (
            _listening(admission, settings.webhook_host, settings.webhook_port, serving.context),
            _listening(_runtime(controller), settings.webhook_host, settings.health_port),
        ):
            await controller.run(serving.ca)


def _families(common: Common) -> frozenset[int]:
    enabled = {4: common.enable_ipv4, 6: common.enable_ipv6}
    return frozenset(version for version, on in enabled.items() if on)


@asynccontextmanager
async def _listening(
    application: web.Application, host: str, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=GOODBYE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


def _runtime(controller: Controller) -> web.Application:
    """Probes and metrics."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok") if controller.ready else web.Response(status=503, text="caches are not synced")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/v1/runtime/liveness", alive)
    application.router.add_get("/v1/runtime/startup", ready)
    application.router.add_get("/v1/runtime/readiness", ready)
    application.router.add_get("/metrics", metrics)
    return application


async def _until_told_to_stop(settings: ControllerSettings) -> None:
    task = asyncio.create_task(serve(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    log.info("stopped")


def main() -> None:
    """Entry point: settings, then the controller until SIGTERM. Exits 1 with log lines on errors of ours."""
    failed = False
    try:
        settings = controller_settings(load_source())
        configure(settings.common.log_level)
        asyncio.run(_until_told_to_stop(settings))
    except* SpiderpoolError as errors:
        failed = True
        for error in _leaves(errors):
            log.error("cannot run", error=str(error))
    if failed:
        raise SystemExit(1)


def _leaves(group: BaseExceptionGroup[SpiderpoolError]) -> list[SpiderpoolError]:
    found: list[SpiderpoolError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()
