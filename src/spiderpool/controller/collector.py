"""Collection of addresses whose pods are gone without having been detached."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.core.reclaim import Doubt, due, observe, why_orphaned
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import COLLECT_FAILURES, COLLECTED, logger

log = logger("collector")


class Collector:
    """Looks at all records every ``interval`` seconds, one pass at a time.

    The copies that the informers keep raise doubts; what releases an address is a fresh read of its pod,
    and a delete that holds only for the very record that was doubted. An API error releases nothing.
    """

    def __init__(
        self,
        client: Client,
        ips: Informer[SpiderIP],
        pods: Informer[Pod],
        recorder: Recorder,
        *,
        interval: float,
        grace: float,
    ) -> None:
        self._client = client
        self._ips = ips
        self._pods = pods
        self._recorder = recorder
        self._interval = interval
        self._grace = grace
        self._doubts: dict[str, Doubt] = {}

    async def run(self) -> None:
        """Look and collect until cancelled."""
        while True:
            await self._pass()
            await asyncio.sleep(self._interval)

    async def _pass(self) -> None:
        now = time.monotonic()
        ips = self._ips.items()  # records first, then pods
        self._doubts = observe(ips, self._pods.items(), self._doubts, now)
        for doubt in due(self._doubts, now, self._grace):
            try:
                await self._settle(doubt)
            except SpiderpoolError as error:
                COLLECT_FAILURES.inc()
                log.warning("address not released", address=doubt.ip.spec.address, error=str(error))
                return

    async def _settle(self, doubt: Doubt) -> None:
        """Release the address, unless the pod as it is now holds it."""
        ip = doubt.ip
        self._doubts.pop(ip.metadata.uid or "", None)
        reason = why_orphaned(ip, await self._read_pod(ip))
        if reason is None:
            return
        with suppress(NotFound, Conflict):  # released, or changed, by somebody else: looked at again next time
            await self._client.delete(
                SpiderIP, ip.name, uid=ip.metadata.uid, resourceVersion=ip.metadata.resourceVersion
            )
            self._report(ip, reason)

    async def _read_pod(self, ip: SpiderIP) -> Pod | None:
        try:
            return await self._client.get(Pod, ip.spec.pod, ip.spec.namespace)
        except NotFound:
            return None

    def _report(self, ip: SpiderIP, reason: str) -> None:
        COLLECTED.inc()
        self._recorder.event(ip, "Normal", "Collected", f"{ip.spec.address} released: {reason}")
        log.info("address released", address=ip.spec.address, pool=ip.spec.pool, node=ip.spec.node, reason=reason)
