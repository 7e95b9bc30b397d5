"""Finalizers: add, remove and clear them without undoing what another writer does at the same time.

A merge patch replaces the whole list of finalizers, so every write names the version (or, for :func:`clear`, the UID)
of the object it was computed from. A Conflict means that the object has changed: the caller reads it again and retries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from spiderpool.api.meta import Object
from spiderpool.kube.client import Client, NotFound

T = TypeVar("T", bound=Object)


async def add(client: Client, obj: T, finalizer: str) -> T:
    """The object with this finalizer, as stored; no request when it has it. Raises Conflict or NotFound."""
    present = obj.metadata.finalizers or []
    if finalizer in present:
        return obj
    return await _patch(client, obj, {"finalizers": [*present, finalizer]})


async def remove(client: Client, obj: T, *finalizers: str, labels: Mapping[str, str | None] | None = None) -> T | None:
    """Remove finalizers and, in the same write, change ``labels`` (None deletes one). Raises Conflict.

    Returns the object as stored, or None when it does not exist any more, which is success. Makes no request when
    there is nothing to change.
    """
    present = obj.metadata.finalizers or []
    others = [name for name in present if name not in finalizers]
    if others == present and not labels:
        return obj
    changes: dict[str, Any] = {"finalizers": others}
    if labels:
        changes["labels"] = dict(labels)
    try:
        return await _patch(client, obj, changes)
    except NotFound:
        return None


async def clear(client: Client, obj: Object) -> None:
    """Remove all finalizers from exactly this object, whatever its version; for objects whose finalizers mean nothing.

    Raises Invalid when another object has taken its name, as a UID cannot change. A missing object is success.
    """
    if not obj.metadata.finalizers:
        return
    body = {"metadata": {"finalizers": None, "uid": obj.metadata.uid}}
    try:
        await client.patch(type(obj), obj.name, body, obj.metadata.namespace)
    except NotFound:
        return


async def _patch(client: Client, obj: T, changes: Mapping[str, Any]) -> T:
    body = {"metadata": {**changes, "resourceVersion": obj.metadata.resourceVersion}}
    return await client.patch(type(obj), obj.name, body, obj.metadata.namespace)
