"""Pods that wait for a load balancer by a readiness gate: reads them, sets their condition when they are servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from spiderpool.api.core_v1 import ObjectReference, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.cloudcontroller.pod_reader import PodReader
from spiderpool.core.cloud.loadbalancer import gates
from spiderpool.core.cloud.loadbalancer.gates import CONTAINERS_READY, ClosedPod, PodNodes
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import ServerPlace
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Client, Invalid, NotFound
from spiderpool.telemetry import logger

PAUSE = 2.0
"""Seconds between two looks at pods with a gate whose containers are not ready: no EndpointSlice says so."""
MOST_READS = 50
"""Pods that are looked at then, those first that were looked at longest ago."""
AT_ONCE = 10
"""Pods that are written at a time."""

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

    def __init__(self, client: Client, reader: PodReader, notify: Callable[[str], None]) -> None:
        """``notify`` is told the key of a Service of which pods have become servers that are not ready."""
        self._client = client
        self._reader = reader
        self._notify = notify
        self._without: dict[str, frozenset[str]] = {}  # Service key → UIDs of pods without its gate
        self._closed: dict[str, list[ClosedPod]] = {}  # Service key → pods to be opened
        self._watched: dict[str, WatchedPods] = {}  # Service key → pods to look at again, longest waiting first
        self._writes = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Looks at pods until cancelled, and at nothing of the cloud."""
        while True:
            await asyncio.sleep(PAUSE)
            room = MOST_READS
            for key in [*self._watched]:
                try:
                    room -= await self.look(key, room)
                except Exception:  # a bug here must not stop the reconcilers
                    log.exception("gates not looked at", service=key)
                if room <= 0:
                    break

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
        nodes: PodNodes,
    ) -> Sequence[EndpointSlice]:
        """Returns the slices with the pods as ready that are only kept from it by the gate of this Service."""
        self._closed.pop(service.key, None)
        watched = _watched(service, options.kind)
        states = gates.gate_states(await self._read(service, slices, watched), watched.gate)
        self._without[service.key] |= states.without
        watched.unready.update({pod.metadata.uid or "": pod.name for pod in states.waiting})
        self._closed[service.key] = [gates.closed_pod(pod, service, slices, options, nodes) for pod in states.closed]
        self._watched[service.key] = watched
        return gates.with_admitted(slices, states.admitted)

    async def open(self, service: Service, model: LoadBalancerModel, present: Collection[ServerPlace]) -> None:
        """Sets the condition of pods that are served by servers which the balancer has.

        What the API server refuses is logged, and tried again with the next look at the Service.
        """
        served, self._closed[service.key] = gates.served(self._closed.get(service.key, ()), model, present)
        watched = self._watched.get(service.key) or _watched(service, model.kind)
        await self._write_all(service.key, watched, ((each.pod, REGISTERED) for each in served))
        self._watched[service.key] = watched

    async def release(self, service: Service, kind: BalancerKind, slices: Sequence[EndpointSlice]) -> None:
        """Sets the condition of all pods with the gate of a Service that has no balancer, so that they do not wait."""
        self._closed.pop(service.key, None)
        watched = _watched(service, kind)
        pods = await self._read(service, slices, watched)
        self._without[service.key] |= gates.gate_states(pods, watched.gate).without
        closed = gates.closed_gates(pods, watched.gate)
        await self._write_all(service.key, watched, ((pod, NO_BALANCER) for pod in closed))
        self._watched[service.key] = watched

    async def _read(
        self, service: Service, slices: Sequence[EndpointSlice], watched: WatchedPods
    ) -> Sequence[GatedPod]:
        """Reads the pods that may have a gate. One that cannot be read has none for now: Services work without."""
        candidates = {pod.uid: pod for pod in gates.candidates(service, slices)}
        known = self._without.get(service.key, frozenset()) & candidates.keys()
        self._without[service.key] = frozenset(uid for uid in known if uid)
        asked = [pod for uid, pod in candidates.items() if uid not in known]
        read = await asyncio.gather(*(self._try_to_read(service, pod, watched) for pod in asked))
        return [pod for pod in read if pod is not None]

    async def _try_to_read(self, service: Service, pod: ObjectReference, watched: WatchedPods) -> GatedPod | None:
        try:
            return await self._reader.find(pod, watched.namespace)
        except SpiderpoolError as error:
            log.warning("pod not read", service=service.key, pod=pod.name, error=error.message)
            if not isinstance(error, ApiRefusal):  # it would refuse it again
                watched.unready[pod.uid or ""] = pod.name or ""
            return None

    async def look(self, key: str, most: int = MOST_READS) -> int:
        """Looks at watched pods of a Service, and has it reconciled when one of them is to be a server.

        At ``most`` pods, those first that were looked at longest ago; returns at how many.
        """
        if (watched := self._watched.get(key)) is None:
            return 0
        await self._write_all(key, watched, [*watched.unwritten.values()])
        looked_at = [*islice(watched.unready.items(), most)]
        changes = await asyncio.gather(*(self._has_become_ready(watched, uid, name) for uid, name in looked_at))
        if self._watched.get(key) is not watched:
            return len(looked_at)  # it has been reconciled meanwhile
        if any(changes):
            self._notify(key)
        del self._watched[key]
        if watched.unready or watched.unwritten:
            self._watched[key] = watched  # behind the others
        return len(looked_at)

    async def _has_become_ready(self, watched: WatchedPods, uid: str, name: str) -> bool:
        """Whether the containers of a watched pod are ready now; watches it no more then, nor one that is gone."""
        try:
            read = await self._reader.find(ObjectReference(name=name, uid=uid), watched.namespace)
            is_gated = read is not None and read.has_gate(watched.gate)
            is_ready = read is not None and read.is_true(CONTAINERS_READY)
        except SpiderpoolError:
            is_gated, is_ready = True, False  # as far as is known: it is looked at again
        watched.unready.pop(uid, None)
        if is_gated and not is_ready:
            watched.unready[uid] = name  # behind the others
        return is_gated and is_ready

    async def _write_all(self, key: str, watched: WatchedPods, pods: Iterable[tuple[GatedPod, GateReason]]) -> None:
        await asyncio.gather(*(self._write(key, watched, pod, why) for pod, why in pods))

    async def _write(self, key: str, watched: WatchedPods, pod: GatedPod, why: GateReason) -> None:
        """Sets a condition; what finds no API server is tried again soon."""
        uid = pod.metadata.uid or ""
        watched.unwritten.pop(uid, None)
        try:
            async with self._writes:
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
