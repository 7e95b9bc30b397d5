"""The containers of a pod as timers: they serve their ports, end when their commands say so, and are restarted.

No program runs: a command is only read for when it ends (:func:`~spiderpool_lab.kubelet_pod.container_exit`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spiderpool_lab import probes
from spiderpool_lab.kubelet_pod import KubeletContainer, KubeletPod, Probe, container_exit, container_ports
from spiderpool_lab.pod_servers import PodIdentity, Protocol, serving
from spiderpool_lab.probes import TrafficProbe

KILLED = 137
"""Exit code of a container that SIGKILL ended: 128 and the signal's number."""
_LONGEST_BACKOFF = 10.0
"""Seconds before a container is restarted, at most; doubled from the first time on."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerPlace:
    """Where the containers of a pod run: their network namespace (None: the node's), address and identity."""

    netns: Path | None
    address: str | None
    identity: PodIdentity


class ContainerRun:
    """One container and its status; ``changed`` is called with every change of that."""

    def __init__(self, container: KubeletContainer, ports: list[tuple[Protocol, int]]) -> None:
        self.container = container
        self.ports = ports
        self.state: Json = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Json = {}
        self.restarts = 0
        self.ready = False
        self._killed = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return "running" in self.state

    @property
    def code(self) -> int | None:
        """Its exit code; None unless it has ended."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def kill(self) -> None:
        """End it as SIGKILL would."""
        self._killed.set()

    def start(self) -> None:
        """It runs, and is ready unless it has a probe for that."""
        self._killed.clear()
        self.state = {"running": {"startedAt": now()}}
        self.ready = self.container.readiness_probe is None

    def end(self, code: int) -> None:
        """It has ended."""
        reason = "Completed" if code == 0 else "Error"
        started = self.state.get("running", {}).get("startedAt", now())
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now()}
        self.state, self.ready = {"terminated": ended}, False

    def back_off(self) -> None:
        """It waits for its restart."""
        self.last_state, self.state = self.state, {"waiting": {"reason": "CrashLoopBackOff"}}
        self.restarts += 1

    async def ended(self) -> int:
        """Wait until it ends by itself or is killed, and return its exit code."""
        by_itself = container_exit(self.container)
        try:
            async with asyncio.timeout(by_itself.seconds if by_itself else None):
                await self._killed.wait()
        except TimeoutError:
            return by_itself.code if by_itself else 0
        return KILLED

    def status(self) -> Json:
        """core/v1 ContainerStatus."""
        return {
            "name": self.container.name,
            "image": self.container.image,
            "imageID": "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }


class PodContainers:
    """The containers of one pod; ``changed`` is called after each change of a status."""

    def __init__(self, pod: KubeletPod, backoff: float, changed: Callable[[], None]) -> None:
        ports = container_ports(pod)
        self.policy = pod.spec.restart_policy
        self.inits = [ContainerRun(container, ports[container.name]) for container in pod.spec.init_containers]
        self.mains = [ContainerRun(container, ports[container.name]) for container in pod.spec.containers]
        self.initialized = not self.inits
        self._backoff = backoff
        self._changed = changed

    @property
    def ready(self) -> bool:
        """Whether all that go on are ready."""
        lasting = [*self.mains, *(run for run in self.inits if run.container.is_sidecar)]
        return self.initialized and all(run.ready for run in lasting)

    @property
    def failed(self) -> bool:
        """Whether a container has ended with another code than 0."""
        return any(run.code for run in (*self.inits, *self.mains) if not run.container.is_sidecar)

    def kill(self, name: str) -> None:
        """End a container as SIGKILL would. KeyError if there is none of that name."""
        {run.container.name: run for run in (*self.inits, *self.mains)}[name].kill()

    def end_all(self) -> None:
        """All have ended by SIGKILL with the pod; those that had not, do so now."""
        for run in (*self.inits, *self.mains):
            if run.code is None:
                run.end(KILLED)

    @property
    def started(self) -> bool:
        """Whether the init containers are done, and any other has been started."""
        return self.initialized and any(run.restarts or "waiting" not in run.state for run in self.mains)

    def lose(self) -> None:
        """All have ended with their sandbox, and start anew in the next one, the init containers too."""
        for run in (*self.inits, *self.mains):
            if run.running:
                run.end(KILLED)
                run.back_off()
        self.initialized = not self.inits

    async def run(self, place: ContainerPlace) -> None:
        """Run the init containers in order, then the others, until all have ended for good."""
        sidecars: list[asyncio.Task[None]] = []
        try:
            for run in () if self.initialized else self.inits:
                if run.container.is_sidecar:
                    sidecars.append(asyncio.create_task(self._run_one(run, place)))
                elif not await self._initialize(run, place):
                    return
            self.initialized = True
            await asyncio.gather(*(self._run_one(run, place) for run in self.mains))
        finally:
            for task in sidecars:
                task.cancel()
            await asyncio.gather(*sidecars, return_exceptions=True)

    async def _initialize(self, run: ContainerRun, place: ContainerPlace) -> bool:
        """Run an init container until it succeeds; whether it did, which a policy other than Never enforces."""
        await self._run_one(run, place, "Never" if self.policy == "Never" else "OnFailure")
        return run.code == 0

    async def _run_one(self, run: ContainerRun, place: ContainerPlace, policy: str | None = None) -> None:
        policy, delay = run.container.restart_policy or policy or self.policy, self._backoff
        while True:
            async with self._alive(run, place):
                code = await run.ended()
            run.end(code)
            self._changed()
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return
            run.back_off()
            self._changed()
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_BACKOFF)

    @asynccontextmanager
    async def _alive(self, run: ContainerRun, place: ContainerPlace) -> AsyncIterator[None]:
        """A container that runs, serves its ports and is probed."""
        async with serving(place.netns, run.ports, place.identity):
            run.start()
            self._changed()
            probe = run.container.readiness_probe
            probing = asyncio.create_task(self._probe(run, probe, place)) if probe else None
            try:
                yield
            finally:
                if probing:
                    probing.cancel()

    async def _probe(self, run: ContainerRun, probe: Probe, place: ContainerPlace) -> None:
        """Probe readiness from the node, as a kubelet does; other probes than HTTP and TCP succeed."""
        while True:
            ready = await _is_ready(run.container, probe, place)
            if ready != run.ready:
                run.ready = ready
                self._changed()
            await asyncio.sleep(probe.period)


async def _is_ready(container: KubeletContainer, probe: Probe, place: ContainerPlace) -> bool:
    probed = probe.http or probe.tcp
    if probed is None or place.address is None:
        return True
    kind, port = "http" if probe.http else "tcp", container.port_number(probed.port)
    traffic = TrafficProbe(kind=kind, target=place.address, port=port, path=probed.path, count=1)  # type: ignore[arg-type]
    answer = await probes.run(traffic, None)
    return answer.ok and (answer.status or 200) < 400


def now() -> str:
    """The current time as Kubernetes writes it, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
