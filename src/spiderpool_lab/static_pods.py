"""Static pods: those of a folder of manifests, each shown in the API server by a mirror pod."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool_lab.kubelet_pod import HASH, MIRROR, SOURCE, KubeletPod, MirrorPod
from spiderpool_lab.pods import PodHost, PodWorker
from spiderpool_lab.retry import retry

_POLL_INTERVAL = 1.0
"""Seconds between two reads of the folder."""


@dataclass(slots=True)
class StaticPod:
    """A static pod with its mirror's manifest; ``stale`` is set when the mirror is being deleted, or is gone."""

    worker: PodWorker
    manifest: MirrorPod
    stale: asyncio.Event = field(default_factory=asyncio.Event)


class StaticPods:
    """Runs the static pods of a node. ``start`` runs a worker."""

    def __init__(self, directory: Path, host: PodHost, start: Callable[[PodWorker], None]) -> None:
        self._directory = directory
        self._host = host
        self._start = start
        self._pods: dict[str, StaticPod] = {}  # hash of the manifest → pod
        self._random = random.Random(host.times.seed)

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            mirrors: dict[str, asyncio.Task[None]] = {}
            while True:
                found = read_manifests(self._directory, self._host.node)
                for uid in self._pods.keys() - found.keys():
                    mirrors.pop(uid).cancel()
                    tasks.create_task(self._end(self._pods.pop(uid)))
                for uid in found.keys() - self._pods.keys():
                    worker = PodWorker(_static_pod(uid, found[uid]), self._host, static=True)
                    static = self._pods[uid] = StaticPod(worker, found[uid])
                    self._start(static.worker)
                    mirrors[uid] = tasks.create_task(self._keep_mirror(static))
                await asyncio.sleep(_POLL_INTERVAL)

    def observe(self, uid: str, mirror: KubeletPod | None) -> None:
        """The mirror of the static pod ``uid`` has changed, or is gone."""
        if (static := self._pods.get(uid)) and (mirror is None or mirror.terminating):
            static.stale.set()

    async def _keep_mirror(self, static: StaticPod) -> None:
        """Make the mirror; while it is being deleted the containers go on, and later it is made anew."""
        while True:
            await retry(partial(self._sync, static))
            await static.stale.wait()
            static.stale.clear()
            await asyncio.sleep(self._random.uniform(*self._host.times.resync))

    async def _sync(self, static: StaticPod) -> None:
        client, meta = self._host.client, static.manifest.metadata
        only = f"spec.nodeName={self._host.node},metadata.name={meta.name}"  # a node may not get a pod that is gone
        mirror = next(iter(await client.list(KubeletPod, meta.namespace, fields=only)), None)
        if mirror and (mirror.terminating or mirror.mirror_of != static.worker.uid):
            await client.delete(KubeletPod, meta.name, meta.namespace, uid=mirror.metadata.uid or "", grace=0)
            mirror = None
        if mirror is None:
            node = await client.get(Node, self._host.node)
            owner = OwnerReference("v1", "Node", node.name, node.metadata.uid or "", controller=True)
            made = await client.create(msgspec.structs.replace(static.manifest, metadata=_owned(meta, owner)))
            mirror = msgspec.convert(msgspec.to_builtins(made), KubeletPod)
        static.worker.show_in(mirror)

    async def _end(self, static: StaticPod) -> None:
        """The manifest is gone: stop the pod and delete its mirror."""
        static.worker.vanish()
        meta, mirror = static.manifest.metadata, static.worker.mirror
        if mirror is not None:
            uid = mirror.metadata.uid or ""
            await retry(partial(self._host.client.delete, KubeletPod, meta.name, meta.namespace, uid=uid, grace=0))


def read_manifests(directory: Path, node: str) -> dict[str, MirrorPod]:
    """The manifests of a folder as mirror pods of a node, by the hash that is the static pod's UID."""
    contents = (file.read_bytes() for file in sorted(directory.glob("*.yaml")))
    return dict(mirror for content in contents if (mirror := _mirror(content, node)))


@lru_cache
def _mirror(content: bytes, node: str) -> tuple[str, MirrorPod] | None:
    """A manifest, parsed once; None if it is none, as while its file is being written."""
    import yaml  # only nodes with static pods need it, and modules are slow to import there

    try:
        manifest: Any = yaml.safe_load(content)
    except yaml.YAMLError:
        return None
    if not isinstance(manifest, dict) or not {"metadata", "spec"} <= manifest.keys():
        return None
    uid = hashlib.md5(content + node.encode(), usedforsecurity=False).hexdigest()
    metadata = msgspec.convert(manifest["metadata"], ObjectMeta)
    metadata.name, metadata.namespace = f"{metadata.name}-{node}", metadata.namespace or "default"
    metadata.annotations = {**(metadata.annotations or {}), HASH: uid, MIRROR: uid, SOURCE: "file"}
    tolerations = [{"operator": "Exists", "effect": "NoExecute"}]
    spec = {"nodeName": node, "tolerations": tolerations, **manifest["spec"]}
    return uid, MirrorPod(apiVersion="v1", kind="Pod", metadata=metadata, spec=spec)


def _static_pod(uid: str, manifest: MirrorPod) -> KubeletPod:
    """The pod as the kubelet runs it: its UID is the hash, and it is no mirror itself."""
    pod = msgspec.convert(msgspec.to_builtins(manifest), KubeletPod)
    annotations = {key: value for key, value in (pod.metadata.annotations or {}).items() if key != MIRROR}
    pod.metadata = msgspec.structs.replace(pod.metadata, uid=uid, annotations=annotations)
    return pod


def _owned(meta: ObjectMeta, owner: OwnerReference) -> ObjectMeta:
    return msgspec.structs.replace(meta, ownerReferences=[owner])
