"""Pods that wait for a load balancer by a readiness gate: reads them, sets their condition when they are servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from spiderpool.api.core_v1 import Node, ObjectReference, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.loadbalancer import gates
from spiderpool.core.cloud.loadbalancer.gates import CONTAINERS_READY, ClosedPod
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import ServerPlace
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Client, Invalid, NotFound
from spiderpool.telemetry import logger

PAUSE = 2.0
"""Seconds between two looks at pods with a gate whose containers are not ready: no EndpointSlice says so."""

log = logger("gates")


@dataclass(frozen=True, slots=True)
class GateReason:
    """What the condition of an open gate says."""

    reason: str
    message: str


REGISTERED = GateReason("ServerRegistered", "The backend has been added to the server group")
"""As Alibaba Cloud's own controller says it."""
NO_BALANCER = GateReason("NoLoadBalancer", "The Service has no load balancer that the pod could wait for")


@dataclass(slots=True)
class WatchedPods:
    """Pods of one Service that are looked at again and again, by their UIDs."""

    gate: str
    namespace: str
    unready: dict[str, str] = field(default_factory=dict)
    """UID → name of pods whose containers are not ready, or that could not be read."""
    unwritten: dict[str, tuple[GatedPod, GateReason]] = field(default_factory=dict)
    """Pods whose condition could not be set."""


class ReadinessGates:
    """The gates of Services' pods. A pod without gate is read once, one with a gate while its endpoint is not ready."""

    def __init__(self, client: Client, notify: Callable[[str], None]) -> None:
        """``notify`` is told the key of a Service of which pods have become servers that are not ready."""
        self._client = client
        self._notify = notify
        self._without: dict[str, frozenset[str]] = {}  # Service key → UIDs of pods without its gate
        self._closed: dict[str, list[ClosedPod]] = {}  # Service key → pods to be opened
        self._watched: dict[str, WatchedPods] = {}  # Service key → pods to be looked at again

    async def run(self) -> None:
        """Looks at pods until cancelled: at one after the other, and at nothing of the cloud."""
        while True:
            await asyncio.sleep(PAUSE)
            for key in [*self._watched]:
                try:
                    await self.look(key)
                except Exception:  # a bug here must not stop the reconcilers
                    log.exception("gates not looked at", service=key)

    def forget(self, key: str) -> None:
        """Forgets a Service that is gone."""
        self._without.pop(key, None)
        self._closed.pop(key, None)
        self._watched.pop(key, None)

    def has_closed(self, key: str) -> bool:
        """Whether pods of a Service wait to be servers."""
        return bool(self._closed.get(key))

    async def admit(
        self,
        service: Service,
        options: BalancerOptions,
        slices: Sequence[EndpointSlice],
        node_of: Callable[[str], Node | None],
    ) -> Sequence[EndpointSlice]:
        """Returns the slices with the pods as ready that are only kept from it by the gate of this Service."""
        self._closed.pop(service.key, None)
        watched = _watched(service, options.kind)
        states = gates.gate_states(await self._read(service, slices, watched), watched.gate)
        self._without[service.key] |= states.without
        watched.unready.update({pod.metadata.uid or "": pod.name for pod in states.waiting})
        self._closed[service.key] = [
            ClosedPod(pod, gates.reached_by(pod, service, slices, options, node_of)) for pod in states.closed
        ]
        self._watched[service.key] = watched
        return gates.with_admitted(slices, states.admitted)

    async def open(self, service: Service, model: LoadBalancerModel, present: Collection[ServerPlace]) -> None:
        """Sets the condition of pods that are served by servers which the balancer has.

        What the API server refuses is logged, and tried again with the next look at the Service.
        """
        served, self._closed[service.key] = gates.served(self._closed.get(service.key, ()), model, present)
        watched = self._watched.get(service.key) or _watched(service, model.kind)
        for each in served:
            await self._write(service.key, watched, each.pod, REGISTERED)
        self._watched[service.key] = watched

    async def release(self, service: Service, kind: BalancerKind, slices: Sequence[EndpointSlice]) -> None:
        """Sets the condition of all pods with the gate of a Service that has no balancer, so that they do not wait."""
        self._closed.pop(service.key, None)
        watched = _watched(service, kind)
        pods = await self._read(service, slices, watched)
        self._without[service.key] |= gates.gate_states(pods, watched.gate).without
        for pod in gates.closed_gates(pods, watched.gate):
            await self._write(service.key, watched, pod, NO_BALANCER)
        self._watched[service.key] = watched

    async def _read(
        self, service: Service, slices: Sequence[EndpointSlice], watched: WatchedPods
    ) -> Sequence[GatedPod]:
        """Reads the pods that may have a gate. One that cannot be read has none for now: Services work without."""
        candidates = {pod.uid: pod for pod in gates.candidates(service, slices)}
        known = self._without.get(service.key, frozenset()) & candidates.keys()
        self._without[service.key] = frozenset(uid for uid in known if uid)
        found: list[GatedPod] = []
        for uid, pod in candidates.items():
            if uid in known:
                continue
            try:
                read = await self._find(pod, watched)
            except SpiderpoolError as error:
                log.warning("pod not read", service=service.key, pod=pod.name, error=error.message)
                if not isinstance(error, ApiRefusal):  # it would refuse it again
                    watched.unready[uid or ""] = pod.name or ""
                continue
            if read is not None:
                found.append(read)
        return found

    async def _find(self, pod: ObjectReference, watched: WatchedPods) -> GatedPod | None:
        """Returns a pod; None when it is gone, perhaps with another in its place."""
        read = await self._client.find(GatedPod, pod.name or "", watched.namespace)
        return read if read is not None and read.metadata.uid == pod.uid else None

    async def look(self, key: str) -> None:
        """Looks at the watched pods of a Service, and has it reconciled when one of them is to be a server."""
        if (watched := self._watched.get(key)) is None:
            return
        for pod, why in [*watched.unwritten.values()]:
            await self._write(key, watched, pod, why)
        is_changed = await self._have_become_ready(watched)
        if self._watched.get(key) is not watched:
            return  # it has been reconciled meanwhile
        if is_changed:
            self._notify(key)
        if not watched.unready and not watched.unwritten:
            del self._watched[key]

    async def _have_become_ready(self, watched: WatchedPods) -> bool:
        """Whether the containers of a watched pod are ready now; watches it no more then, nor one that is gone."""
        is_changed = False
        for uid, name in [*watched.unready.items()]:
            with suppress(SpiderpoolError):  # it is looked at again
                read = await self._find(ObjectReference(name=name, uid=uid), watched)
                is_gated = read is not None and read.has_gate(watched.gate)
                if not is_gated or (read and read.is_true(CONTAINERS_READY)):
                    del watched.unready[uid]
                    is_changed = is_changed or is_gated
        return is_changed

    async def _write(self, key: str, watched: WatchedPods, pod: GatedPod, why: GateReason) -> None:
        """Sets a condition; what finds no API server is tried again soon."""
        uid = pod.metadata.uid or ""
        watched.unwritten.pop(uid, None)
        try:
            await self._set(pod, watched.gate, why)
        except SpiderpoolError as error:
            log.warning("condition not written", service=key, pod=pod.key, error=error.message)
            if not isinstance(error, ApiRefusal):
                watched.unwritten[uid] = (pod, why)

    async def _set(self, pod: GatedPod, gate: str, why: GateReason) -> None:
        condition = {
            "type": gate,
            "status": "True",
            "reason": why.reason,
            "message": why.message,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = {"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}
        with suppress(NotFound, Invalid):  # it is gone, perhaps with another in its place
            await self._client.patch(GatedPod, pod.name, body, pod.metadata.namespace, sub="status", strategic=True)


def _watched(service: Service, kind: BalancerKind) -> WatchedPods:
    return WatchedPods(kind.naming.readiness_gate(service.name), service.metadata.namespace or "")
