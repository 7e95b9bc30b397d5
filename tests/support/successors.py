"""The far end of evictions: a kubelet that ends and begins pods, and the controller that makes others for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from spiderpool.api.core_v1 import NodeCondition
from spiderpool.api.evictable_pods import EvictablePod, EvictablePodStatus
from spiderpool.api.ip import IP_NODE_LABEL, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, NotFound

INTERVAL = 0.05
"""Seconds between two looks."""
READY = [NodeCondition("Ready", "True")]


@dataclass
class FarEnd:
    """What becomes of pods in one Namespace.

    ``give`` gives a pod that has begun its addresses, ``take`` takes those of one that ends. Both may be repeated.
    """

    client: Client
    namespace: str
    give: Callable[[EvictablePod], Awaitable[None]]
    take: Callable[[EvictablePod], Awaitable[None]]
    makes_pods: bool = True
    """Whether the controllers of pods are played as well; else real ones make pods."""
    keeps: set[str] = field(default_factory=set)
    """The names of pods that do not end, as a finalizer holds them."""
    beat: Callable[[], Awaitable[None]] | None = None
    """What a kubelet tells of its node all the time."""
    evicted: list[str] = field(default_factory=list)
    """The names of the pods that have ended, in order."""
    errors: list[str] = field(default_factory=list)

    async def step(self) -> None:
        """Look once."""
        if self.beat is not None:
            await self.beat()
        for pod in await self.client.list(EvictablePod, self.namespace):
            if pod.terminating:
                if pod.name not in self.keeps:
                    await self._end(pod)
            elif pod.spec.nodeName and not pod.ready:
                await self.give(pod)
                status = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
                await self.client.patch(EvictablePod, pod.name, {"status": status}, self.namespace, sub="status")

    async def _end(self, pod: EvictablePod) -> None:
        await self.take(pod)
        self.evicted.append(pod.name)
        with suppress(NotFound):
            await self.client.delete(EvictablePod, pod.name, self.namespace, uid=pod.metadata.uid, grace=0)
        if self.makes_pods and (owner := pod.controller):
            name = pod.name if owner.kind == "StatefulSet" else f"{pod.name}-next"
            metadata = replace(ObjectMeta(name=name, namespace=self.namespace), labels=pod.metadata.labels)
            metadata.annotations, metadata.ownerReferences = pod.metadata.annotations, pod.metadata.ownerReferences
            await self.client.create(EvictablePod(metadata=metadata, spec=pod.spec))

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[FarEnd]:
        """Look again and again, while the context lasts."""
        task = asyncio.create_task(self._play())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _play(self) -> None:
        while True:
            try:
                await self.step()
            except SpiderpoolError as error:
                self.errors.append(error.message)
            await asyncio.sleep(INTERVAL)


def running(name: str, namespace: str, node: str, **metadata: object) -> EvictablePod:
    """A pod that serves."""
    meta = replace(ObjectMeta(name=name, namespace=namespace, uid=f"uid-of-{name}"), **metadata)
    pod = EvictablePod(metadata=meta, status=EvictablePodStatus(phase="Running", conditions=list(READY)))
    pod.spec.nodeName = node
    return pod


def with_node_label(record: SpiderIP) -> SpiderIP:
    """A record as agents label it."""
    labels = {**(record.metadata.labels or {}), IP_NODE_LABEL: record.spec.node}
    return replace(record, metadata=replace(record.metadata, labels=labels))
