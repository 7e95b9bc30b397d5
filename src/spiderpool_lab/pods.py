"""Runs one pod on a node as a kubelet does, from its first sandbox to the deletion of its object."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from spiderpool.api.event_reasons import EventReason
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool_lab.cni_runtime import CniFailure, Json, Sandbox, create_sandbox, pod_addresses
from spiderpool_lab.containers import ContainerPlace, PodContainers, now
from spiderpool_lab.kubelet_pod import KubeletPod, host_ports, pre_stop_seconds
from spiderpool_lab.pod_servers import PodIdentity
from spiderpool_lab.pod_status import DEADLINE_EXCEEDED, PodPlace, StatusReporter, pod_status
from spiderpool_lab.retry import retry
from spiderpool_lab.sandboxes import Sandboxes, StoredSandbox
from spiderpool_lab.stand_in import StandIn

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 2.0
"""Seconds before a failed ADD or DEL is repeated, doubled each time; shorter than a kubelet's."""
_NETWORK_POLL_INTERVAL = 0.2
"""Seconds between two looks at whether the node's network is ready."""

_REMEDY, _PAGE = "Do what the error in the message asks for.", "usage/troubleshooting.md"
FAILED_CREATE: EventReason[KubeletPod] = EventReason(
    "FailedCreatePodSandBox", "The pod has no sandbox yet: its ADD failed.", _REMEDY, _PAGE
)
FAILED_KILL: EventReason[KubeletPod] = EventReason(
    "FailedKillPod", "The pod's sandbox is still there: its DEL failed.", _REMEDY, _PAGE
)


@dataclass(frozen=True, slots=True)
class PodHost:
    """What all pods of a node share; ``addresses`` are the node's, one of each family, IPv4 first.

    ``network`` is the configuration list that the runtime uses; None while the network is not ready.
    """

    node: str
    addresses: tuple[str, ...]
    client: Client
    recorder: Recorder
    sandboxes: Sandboxes
    network: Callable[[], Json | None]
    times: StandIn


class PodWorker:
    """Starts one pod, keeps it running, and stops it when its object is deleted or its containers have ended.

    ``sandbox`` is the current one, None while there is none. ``done`` means that the pod has ended on the node,
    ``vanished`` that its object is gone. A static pod has the object of its manifest, and reports to ``mirror``.
    """

    def __init__(self, pod: KubeletPod, host: PodHost, *, static: bool = False) -> None:
        self.pod = pod
        self.uid = pod.metadata.uid or ""
        self.mirror: KubeletPod | None = None
        self.sandbox: Sandbox | None = None
        self.vanished = False
        self.done = False
        self.containers = PodContainers(pod, host.times.backoff, self._changed)
        self._static = static
        self._host = host
        self._reporter = StatusReporter(self._send)
        self._ending = asyncio.Event()  # set once the pod has to stop
        self._lost = asyncio.Event()  # set once the sandbox has gone and has to be replaced
        self._place = PodPlace(host.addresses, (), now())
        self._failure: Json = {}  # reason and message, if the pod has failed as a whole
        self.observe(pod)

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return self.pod.key

    def observe(self, pod: KubeletPod) -> None:
        """Take the pod's current object; with a deletion timestamp the pod is stopped."""
        self.pod = pod
        if pod.terminating:
            self._ending.set()

    def show_in(self, mirror: KubeletPod) -> None:
        """Report the status in another object from now on."""
        if self.mirror is None or self.mirror.metadata.uid != mirror.metadata.uid:
            self.mirror = mirror
            self._changed()

    def vanish(self) -> None:
        """The object is gone: stop the pod, without reporting a status or deleting the object."""
        self.vanished = True
        self._ending.set()

    def kill(self, container: str | None) -> None:
        """End a container as SIGKILL would, or the sandbox. KeyError if there is no such container."""
        if container is None:
            self._lost.set()
        else:
            self.containers.kill(container)

    async def run(self) -> None:
        """Run the pod until it has ended."""
        reporting = asyncio.create_task(self._reporter.run())
        try:
            await (self._run_on_node() if self.pod.spec.host_network else self._run_in_sandboxes())
            await self._report_end()
        finally:
            reporting.cancel()
        self.done = True

    async def _run_on_node(self) -> None:
        self._place = PodPlace(self._host.addresses, self._host.addresses, self._place.since)
        await self._run_containers(None)

    async def _run_in_sandboxes(self) -> None:
        """One sandbox after the other, until the pod has ended: a sandbox that was lost is replaced."""
        self._changed()
        stored = await self._adopt()
        while not (self._ending.is_set() and stored is None):
            stored = stored or await self._bring_up()
            if stored is None:
                return
            self.sandbox = stored.sandbox
            self._place = PodPlace(self._host.addresses, tuple(pod_addresses(stored.result or {})), self._place.since)
            lost = await self._run_containers(stored)
            await self._until_stopped(stored)
            if not lost:
                return
            self.containers.lose()
            stored = None

    async def _run_containers(self, stored: StoredSandbox | None) -> bool:
        """Run them until they or the pod have ended; True if they have ended with their sandbox."""
        self._lost.clear()
        place = ContainerPlace(
            stored.sandbox.netns if stored else None,
            self._place.addresses[0] if self._place.addresses else None,
            PodIdentity(self.key, self._host.node),
        )
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work)
            for work in (self.containers.run(place), self._stopped(), self._lost.wait(), self._deadline())
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()  # raises what the containers raised
        return tasks[2] in ended and not self._ending.is_set()

    async def _stopped(self) -> None:
        """The pod has to stop, and its containers have had their time."""
        await self._ending.wait()
        if not self.vanished:
            await asyncio.sleep(pre_stop_seconds(self.pod))
        await asyncio.sleep(random.uniform(*self._host.times.deletion))

    async def _deadline(self) -> None:
        """The pod's ``activeDeadlineSeconds`` are over; never without."""
        seconds = self.pod.spec.active_deadline_seconds
        await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
        self._failure = DEADLINE_EXCEEDED

    # --- sandboxes

    async def _adopt(self) -> StoredSandbox | None:
        """The sandbox that the pod has from before a restart of the kubelet; others of it are stopped."""
        found = None
        for stored in self._host.sandboxes.of(self.uid):
            if stored.is_up and found is None:
                found = stored
                self.containers.initialized = True
            else:
                await self._until_stopped(stored)
        return found

    async def _bring_up(self) -> StoredSandbox | None:
        """Create sandboxes until one has its network, as a kubelet does; None if the pod is stopped before that."""
        delay = _FIRST_DELAY
        while not self._ending.is_set():
            network = self._host.network()
            if network is None:
                await self._pause(_NETWORK_POLL_INTERVAL)
                continue
            try:
                return await self._try_sandbox(network)
            except SpiderpoolError as error:
                self._warn(FAILED_CREATE, f"Failed to create pod sandbox: {error.message}")
            await self._pause(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        return None

    async def _try_sandbox(self, network: Json) -> StoredSandbox:
        meta = self.pod.metadata
        self.sandbox = create_sandbox(
            meta.namespace or "", meta.name, self.uid, meta.annotations or {}, host_ports(self.pod)
        )
        try:
            return await self._host.sandboxes.start(network, self.sandbox)
        except SpiderpoolError:
            self.sandbox = None
            raise

    async def _until_stopped(self, stored: StoredSandbox) -> None:
        """Repeat DEL until it succeeds, as a kubelet does; DEL is idempotent. The pod stays Terminating meanwhile."""
        delay = _FIRST_DELAY
        while True:
            try:
                await self._host.sandboxes.stop(stored)
            except CniFailure as failure:
                self._warn(FAILED_KILL, f"error killing pod: {failure.message}")
            else:
                self.sandbox = None
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    # --- reports to the API server

    def _changed(self) -> None:
        phase = "Running" if self.containers.started else "Pending"
        self._reporter.set(pod_status(self._place, self.containers, phase))

    async def _report_end(self) -> None:
        """Report the final phase, after the last DEL, and delete an object that waits for that."""
        if self.vanished:
            return
        self.containers.end_all()
        phase = "Failed" if self._failure or self.containers.failed else "Succeeded"
        self._reporter.set({**pod_status(self._place, self.containers, phase), **self._failure})
        await self._reporter.flush()
        if self._ending.is_set():
            meta = self._shown.metadata
            await retry(
                partial(self._host.client.delete, KubeletPod, meta.name, meta.namespace, uid=meta.uid or "", grace=0)
            )

    @property
    def _shown(self) -> KubeletPod:
        """The object that shows the status."""
        return self.mirror or self.pod

    async def _send(self, status: Json) -> None:
        """Patch the status. With the UID in it the API server refuses a patch that is meant for an earlier pod."""
        if self._static and self.mirror is None:
            return
        meta = self._shown.metadata
        body = {"metadata": {"uid": meta.uid}, "status": status}
        client = self._host.client
        await retry(partial(client.patch, KubeletPod, meta.name, body, meta.namespace, sub="status", strategic=True))

    def _warn(self, reason: EventReason[KubeletPod], message: str) -> None:
        print(f"{self.key}: {reason.name}: {message}", flush=True)
        self._host.recorder.event(self._shown, reason, message)

    async def _pause(self, seconds: float) -> None:
        """Wait some seconds, or until the pod has to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
