"""Pods that wait for a load balancer by a readiness gate: reads them, sets their condition when they are servers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from spiderpool.api.core_v1 import ObjectReference, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.loadbalancer import gates
from spiderpool.core.cloud.loadbalancer.gates import GateStates
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Client, Invalid, NotFound
from spiderpool.telemetry import logger

PAUSE = 2.0
"""Seconds between two looks at pods with a gate whose containers are not ready: no EndpointSlice says so."""
REASON, MESSAGE = "ServerRegistered", "The backend has been added to the server group"
"""As Alibaba Cloud's own controller says it."""

log = logger("gates")


class ReadinessGates:
    """The gates of Services' pods. A pod without gate is read once, one with a gate while its endpoint is not ready."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._without: dict[str, frozenset[str]] = {}  # Service key → UIDs of pods without its gate
        self._closed: dict[
            str, list[tuple[GatedPod, set[str]]]
        ] = {}  # Service key → pods to be opened, their addresses
        self._waiting: set[str] = set()  # keys of Services with pods to be looked at again

    def forget(self, key: str) -> None:
        """Forgets a Service that is gone."""
        self._without.pop(key, None)
        self._closed.pop(key, None)
        self._waiting.discard(key)

    def waits(self, key: str) -> bool:
        """Whether a Service has to be looked at again after `PAUSE`."""
        return key in self._waiting

    async def admit(
        self, service: Service, kind: BalancerKind, slices: Sequence[EndpointSlice]
    ) -> Sequence[EndpointSlice]:
        """Returns the slices with the pods as ready that are only kept from it by the gate of this Service."""
        self._closed.pop(service.key, None)
        self._waiting.discard(service.key)
        found = {pod.uid: pod for pod in gates.candidates(service, slices)}
        known = self._without.get(service.key, frozenset()) & found.keys()
        unknown = [pod for uid, pod in found.items() if uid not in known]
        if not unknown:
            self._without[service.key] = frozenset(uid for uid in known if uid)
            return slices
        states = await self._read(service, unknown, kind.naming.readiness_gate(service.name))
        self._without[service.key] = frozenset(uid for uid in known if uid) | states.without
        self._closed[service.key] = [(pod, gates.addresses_of(slices, pod.metadata.uid or "")) for pod in states.closed]
        return gates.with_admitted(slices, states.admitted)

    async def _read(self, service: Service, pods: Sequence[ObjectReference], gate: str) -> GateStates:
        """Reads pods. One that cannot be read has no gate for now: without the right to it, Services work on."""
        found: list[GatedPod] = []
        for pod in pods:
            try:
                read = await self._client.find(GatedPod, pod.name or "", service.metadata.namespace)
            except SpiderpoolError as error:
                log.warning("pod not read", service=service.key, pod=pod.name, error=error.message)
                self._wait(service, error)
                continue
            if read is not None and read.metadata.uid == pod.uid:
                found.append(read)
        states = gates.gate_states(found, gate)
        if states.waiting:
            self._waiting.add(service.key)
        return states

    async def open(self, service: Service, kind: BalancerKind, unresolved: Collection[str]) -> None:
        """Sets the condition of pods that are servers now; ``unresolved`` are addresses that are not.

        What the API server refuses is logged, and tried again with the next look at the Service.
        """
        gate = kind.naming.readiness_gate(service.name)
        closed = self._closed.pop(service.key, [])
        self._closed[service.key] = [each for each in closed if each[1].intersection(unresolved)]
        for pod, addresses in closed:
            if addresses.intersection(unresolved):
                continue
            try:
                await self._set(pod, gate)
            except SpiderpoolError as error:
                log.warning("condition not written", service=service.key, pod=pod.key, error=error.message)
                self._wait(service, error)

    def _wait(self, service: Service, error: SpiderpoolError) -> None:
        """Has the Service looked at again soon, unless the API server has refused something: it would again."""
        if not isinstance(error, ApiRefusal):
            self._waiting.add(service.key)

    async def _set(self, pod: GatedPod, gate: str) -> None:
        condition = {
            "type": gate,
            "status": "True",
            "reason": REASON,
            "message": MESSAGE,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = {"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}
        with suppress(NotFound, Invalid):  # it is gone, perhaps with another in its place
            await self._client.patch(GatedPod, pod.name, body, pod.metadata.namespace, sub="status", strategic=True)
