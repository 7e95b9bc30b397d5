"""SpiderCoordinators: creates the default one, and writes the cluster's pod and Service CIDRs into the status of each.

It writes SpiderCoordinators only. `cidr_detection` finds the CIDRs; `service_addresses` writes the rest of the status.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from spiderpool.api import event_reasons
from spiderpool.api.coordinator import NOT_READY, SYNCED, ClusterCoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap
from spiderpool.api.meta import FORMER_FINALIZER, ObjectMeta
from spiderpool.controller.cidr_detection import CIDRDetector, CIDRsUnknown, ServiceCIDR
from spiderpool.kube import finalizers
from spiderpool.kube.client import AlreadyExists, Client
from spiderpool.kube.conditions import dated, not_ready, ready
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue, resync
from spiderpool.telemetry import logger

RESYNC = 60.0
"""Seconds between two detections: most sources are read, not watched."""

log = logger("coordinator")


def default_settings(name: str) -> SpiderCoordinator:
    """The SpiderCoordinator that is created when there is none."""
    spec = ClusterCoordinatorSpec(mode="auto", podCIDRType="auto", hijackCIDR=["169.254.0.0/16"], tunePodRoutes=True)
    return SpiderCoordinator(metadata=ObjectMeta(name=name), spec=spec)


@dataclass(frozen=True, slots=True)
class CoordinatorListers:
    """The caches whose changes cause a detection."""

    coordinators: Informer[SpiderCoordinator]
    kubeadm: Informer[ConfigMap]
    """kubeadm's ConfigMap only."""
    service_cidrs: Informer[ServiceCIDR]
    """Those of networking.k8s.io/v1; older versions are read at each detection."""


class CoordinatorReconciler:
    """Keeps the default SpiderCoordinator in existence, and the status of every SpiderCoordinator up to date."""

    def __init__(
        self,
        client: Client,
        listers: CoordinatorListers,
        recorder: Recorder,
        detector: CIDRDetector,
        *,
        default: str,
    ) -> None:
        """``default`` is the name of the SpiderCoordinator that always exists."""
        self._client = client
        self._coordinators = listers.coordinators
        self._recorder = recorder
        self._detector = detector
        self._default = default
        self._queue = WorkQueue(self._reconcile, "coordinator")
        listers.coordinators.subscribe(self._on_coordinator)
        listers.kubeadm.subscribe(self._on_source)
        listers.service_cidrs.subscribe(self._on_source)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        self._touch_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(resync(RESYNC, self._touch_all))

    def _touch_all(self) -> None:
        for name in {self._default, *(coordinator.name for coordinator in self._coordinators.items())}:
            self._queue.add(name)

    def _on_coordinator(self, old: SpiderCoordinator | None, new: SpiderCoordinator | None) -> None:
        changed = new or old
        if changed is not None:
            self._queue.add(changed.name)

    def _on_source(self, _: object, __: object) -> None:
        self._touch_all()

    async def _reconcile(self, name: str) -> None:
        """Create the default SpiderCoordinator, or write the status of one that exists."""
        coordinator = self._coordinators.get(name)
        if coordinator is None:
            await self._create(name)
        elif coordinator.terminating:
            await finalizers.remove(self._client, coordinator, FORMER_FINALIZER)  # nothing to clean up
        else:
            await self._write(coordinator, await self._status(coordinator))

    async def _create(self, name: str) -> None:
        if name == self._default:
            with suppress(AlreadyExists):  # our cache is late; its event reconciles it
                await self._client.create(default_settings(name))

    async def _write(self, coordinator: SpiderCoordinator, status: CoordinatorStatus) -> None:
        """Write the status if it differs, with an event when it has become not ready."""
        if status == coordinator.status:
            return
        fields = ("phase", "reason", "overlayPodCIDR", "serviceCIDR", "conditions")
        body = {field: msgspec.to_builtins(getattr(status, field)) for field in fields}
        await self._client.patch(SpiderCoordinator, coordinator.name, {"status": body}, sub="status")
        if status.reason:
            self._recorder.event(coordinator, event_reasons.CLUSTER_NOT_READY, status.reason)
        log.info("coordinator status", coordinator=coordinator.name, phase=status.phase, reason=status.reason)

    async def _status(self, coordinator: SpiderCoordinator) -> CoordinatorStatus:
        """The status; its own lists are never None, since agents take a missing list as not known yet."""
        former = coordinator.status or CoordinatorStatus(NOT_READY)
        try:
            networks = await self._detector.detect((coordinator.spec and coordinator.spec.podCIDRType) or "auto")
        except CIDRsUnknown as error:
            status = CoordinatorStatus(NOT_READY, error.message, [], [])
            found = not_ready("CIDRsUnknown", error.message)
        else:
            status = CoordinatorStatus(SYNCED, None, list(networks.pods), list(networks.services))
            found = ready("the CIDRs of the cluster are known")
        return replace(
            status,
            serviceAddresses=former.serviceAddresses,  # not ours to write
            conditions=dated([found], coordinator, former.conditions, datetime.now(UTC)),
        )
