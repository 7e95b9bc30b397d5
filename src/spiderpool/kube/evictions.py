"""Evicts pods by the API for that (policy/v1 Eviction), so that PodDisruptionBudgets are respected."""

from __future__ import annotations

from spiderpool.api.core_v1 import Pod
from spiderpool.kube.client import AlreadyExists, Client, Conflict

API_VERSION = "policy/v1"


async def evict(client: Client, pod: Pod, *, timeout: float) -> None:
    """Ask the API server to end this very pod, by its UID, with the time that it has for that.

    Raises TooManyRequests while a PodDisruptionBudget forbids it, with its name; NotFound when the pod is gone,
    Conflict when another one of its name is there, Forbidden without the right, and ApiUnavailable.
    """
    meta = pod.metadata
    body = {
        "apiVersion": API_VERSION,
        "kind": "Eviction",
        "metadata": {"name": meta.name, "namespace": meta.namespace},
        "deleteOptions": {"preconditions": {"uid": meta.uid}},
    }
    try:
        await client.create_sub(pod, "eviction", body, timeout=timeout)
    except AlreadyExists as error:  # which every 409 to a POST is
        raise Conflict(error.message) from error
