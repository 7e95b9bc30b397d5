"""The SpiderEndpoint of a pod: a view of the pod's records for people and tools. Nothing here reads it back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core import annotations as asked
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam.allocation import Grant, grant
from spiderpool.core.ipam.owners import Controller
from spiderpool.errors import BadConfig


class PoolLister(Protocol):
    """Pools by name."""

    def get(self, name: str, /) -> SpiderIPPool | None:
        """A pool, None when there is none of that name."""


def endpoint(pod: Pod, records: Iterable[SpiderIP], pools: PoolLister, top: Controller | None) -> SpiderEndpoint | None:
    """What a pod holds, interface by interface, the first one first; None when it holds nothing.

    ``records`` are those of the pod, ``top`` the controller at the top of its owners.
    """
    by_interface: dict[str, list[SpiderIP]] = defaultdict(list)
    node = pod.spec.nodeName
    for record in records:
        node = node or record.spec.node
        by_interface[record.spec.interface].append(record)
    if not by_interface:
        return None
    names = sorted(by_interface, key=lambda name: (name != FIRST_INTERFACE, name))
    current = CurrentDetail(
        uid=pod.metadata.uid or "",
        node=node or "",
        ips=[_detail(pod, name, by_interface[name], pools) for name in names],
    )
    kind, name = (top.kind, top.name) if top else (pod.KIND.name, pod.name)
    return SpiderEndpoint(
        metadata=ObjectMeta(name=pod.name, namespace=pod.metadata.namespace, ownerReferences=[_reference(pod)]),
        status=EndpointStatus(current, ownerControllerType=kind, ownerControllerName=name),
    )


def _reference(pod: Pod) -> OwnerReference:
    """Kubernetes deletes the endpoint with its pod."""
    return OwnerReference(pod.KIND.api_version, pod.KIND.name, pod.name, pod.metadata.uid or "")


def _detail(pod: Pod, interface: str, records: list[SpiderIP], pools: PoolLister) -> InterfaceDetail:
    detail: dict[str, Any] = {}
    routes: list[Route] = []
    for record in sorted(records, key=lambda record: record.name):
        given = grant(record, pools.get(record.spec.pool), routes=_custom_routes(pod))
        detail |= _family(given)
        routes += [Route(destination, gateway) for destination, gateway in given.routes]
    return InterfaceDetail(
        interface, vlan=0, routes=routes or None, cleanGateway=_is_clean(pod, interface) or None, **detail
    )


def _family(given: Grant) -> dict[str, Any]:
    prefix = f"ipv{given.version}"
    return {prefix: given.address, f"{prefix}Pool": given.pool, f"{prefix}Gateway": given.gateway}


def _custom_routes(pod: Pod) -> tuple[asked.Route, ...]:
    try:
        return asked.custom_routes(pod.metadata.annotations or {})
    except BadConfig:  # the agent refuses such a pod; one that was changed later keeps what it has
        return ()


def _is_clean(pod: Pod, interface: str) -> bool:
    """Whether the pod itself asks for no default route on an interface."""
    try:
        wishes = asked.all_interface_pools(pod.metadata.annotations or {}) or ()
    except BadConfig:
        return False
    return any(wish.interface == interface and wish.clean_gateway for wish in wishes)


def is_current(stored: SpiderEndpoint, wanted: SpiderEndpoint) -> bool:
    """Whether a stored endpoint says what it should and holds nothing up."""
    ours, theirs = wanted.metadata, stored.metadata
    return (
        stored.status == wanted.status
        and theirs.ownerReferences == ours.ownerReferences
        and not theirs.finalizers
        and not stored.terminating
    )


def holds(record: SpiderIP) -> bool:
    """Whether a record is held by its pod: a released one waits for the end of a cooldown."""
    return record.spec.releasedAt is None
