"""The status of a pod as a kubelet reports it, and the one task that reports it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from spiderpool_lab.containers import PodContainers, now

Json = dict[str, Any]

DEADLINE_EXCEEDED = {
    "reason": "DeadlineExceeded",
    "message": "Pod was active on the node longer than the specified deadline",
}
"""What the status of a pod says whose ``activeDeadlineSeconds`` are over."""


@dataclass(frozen=True, slots=True)
class PodPlace:
    """Where a pod is: addresses of its node and its own (none without a sandbox), and when the kubelet took it."""

    node: tuple[str, ...]
    addresses: tuple[str, ...]
    since: str


def pod_status(place: PodPlace, containers: PodContainers, phase: str) -> Json:
    """Status of a pod that is Pending or Running, or has Succeeded or Failed."""
    finished = phase in ("Succeeded", "Failed")
    conditions = {
        "PodReadyToStartContainers": bool(place.addresses) and not finished,
        "Initialized": containers.initialized,
        "Ready": containers.ready and not finished,
        "ContainersReady": containers.ready and not finished,
    }
    status: Json = {
        "phase": phase,
        "hostIP": place.node[0],
        "startTime": place.since,
        "conditions": [_condition(kind, value) for kind, value in conditions.items()],
        "containerStatuses": [run.status() for run in containers.mains],
    }
    if containers.inits:
        status["initContainerStatuses"] = [run.status() for run in containers.inits]
    if place.addresses:
        status["podIP"] = place.addresses[0]
        status["podIPs"] = [{"ip": address} for address in place.addresses]
    return status


def _condition(kind: str, status: bool) -> Json:
    because: Json = {"reason": None, "message": None}
    if not status and kind in ("Ready", "ContainersReady"):
        because = {"reason": "ContainersNotReady", "message": "a container is not ready"}
    return {"type": kind, "status": str(status), **because, "lastTransitionTime": now()}


class StatusReporter:
    """Reports the newest status in the background: while the API server is away, a pod goes on."""

    def __init__(self, send: Callable[[Json], Awaitable[None]]) -> None:
        self._send = send
        self._status: Json | None = None
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()

    def set(self, status: Json) -> None:
        """Report a status in place of any that has not been reported yet."""
        self._status = status
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Wait until the newest status has been reported, or refused for good."""
        await self._idle.wait()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._status is not None:
                await self._send(self._status)
            if not self._wake.is_set():
                self._idle.set()
