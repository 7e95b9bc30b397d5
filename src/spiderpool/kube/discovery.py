"""API discovery for kinds that we have no type for: their request paths, and the UIDs of their objects."""

from __future__ import annotations

import msgspec

from spiderpool.api.meta import Kind, Object, Scope
from spiderpool.errors import BadRequest
from spiderpool.kube.client import Client, NotFound, decoded


class Resource(msgspec.Struct):
    """metav1.APIResource, in part."""

    name: str
    kind: str
    namespaced: bool


class ServerResources(msgspec.Struct):
    """metav1.APIResourceList, in part."""

    resources: list[Resource]


async def find_kind(client: Client, api_version: str, name: str) -> Kind | None:
    """The kind of that name in ``group/version``; None when the API server does not serve it."""
    group, _, version = api_version.rpartition("/")
    path = f"apis/{group}/{version}" if group else f"api/{version}"
    try:
        served = decoded(await client.get_raw(path), ServerResources)
    except NotFound:
        return None
    objects = (resource for resource in served.resources if "/" not in resource.name)  # others are subresources
    found = next((resource for resource in objects if resource.kind == name), None)
    if found is None:
        return None
    return Kind(group, version, name, found.name, Scope.NAMESPACED if found.namespaced else Scope.CLUSTER)


async def uid_of(client: Client, kind: Kind, name: str, namespace: str | None) -> str | None:
    """UID of an object by a fresh read; None when it does not exist."""
    try:
        path = kind.object_path(namespace, name)
    except BadRequest:  # there is none without a valid name
        return None
    try:
        content = await client.get_raw(path)
    except NotFound:
        return None
    return decoded(content, Object).metadata.uid
