"""Writes the annotation k8s.v1.cni.cncf.io/network-status of pods, as the accounts of their nodes tell it.

No pod waits for it, and no agent may write to pods. A node tells it of the pods that are bound to it, and of no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import STATUS_ANNOTATION, NetworkStatusEntry
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.network.status import status_of
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue

WORKERS = 4
"""Pods whose annotation is written at a time."""


class NetworkStatusReconciler:
    """Keeps the annotation of each pod as its node tells it."""

    def __init__(self, client: Client, accounts: Informer[SpiderNode], pods: Informer[Pod]) -> None:
        self._client = client
        self._accounts = accounts
        self._pods = pods
        self._queue = WorkQueue(self._reconcile, "network-status")  # of pods' keys
        accounts.subscribe(self._on_account)
        pods.subscribe(self._on_pod)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    def _on_account(self, old: SpiderNode | None, new: SpiderNode | None) -> None:
        """Look at the pods of which an account tells something new; most accounts differ in one pod."""
        before = dict(_with_networks(old)) if old is not None else {}
        for key, networks in _with_networks(new) if new is not None else ():
            if before.get(key) != networks:
                self._queue.add(key)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None and (old is None or _part(old) != _part(new)) and self._wanted(new) is not None:
            self._queue.add(new.key)

    def _wanted(self, pod: Pod) -> str | None:
        """The annotation that a pod lacks; None when it lacks none, or its node tells nothing of it."""
        account = self._accounts.get(pod.spec.nodeName) if pod.spec.nodeName else None
        wanted = status_of(pod, account) if account else None
        return None if wanted == (pod.metadata.annotations or {}).get(STATUS_ANNOTATION) else wanted

    async def _reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        wanted = self._wanted(pod) if pod else None
        if pod is None or wanted is None:
            return
        body = {"metadata": {"uid": pod.metadata.uid, "annotations": {STATUS_ANNOTATION: wanted}}}
        with suppress(Conflict, NotFound):  # the pod is gone, or another one has its name
            self._pods.note(await self._client.patch(type(pod), pod.name, body, pod.metadata.namespace))


def _with_networks(account: SpiderNode) -> Iterator[tuple[str, list[NetworkStatusEntry]]]:
    """The pods of which an account tells the networks, by key."""
    for sandbox in account.sandboxes:
        if sandbox.networks:
            yield f"{sandbox.namespace}/{sandbox.pod}", sandbox.networks


def _part(pod: Pod) -> tuple[object, ...]:
    """The parts of a pod that decide whether it has its annotation; its status changes more often."""
    return pod.metadata.uid, pod.spec.nodeName, (pod.metadata.annotations or {}).get(STATUS_ANNOTATION)
