"""The SpiderEndpoint of a pod: shows the pod's records to people and tools. Spiderpool itself never reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core import annotations as pod_annotations
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam.allocation import Grant, grant
from spiderpool.core.ipam.owners import Controller
from spiderpool.errors import BadConfig


class PoolLister(Protocol):
    """Pools by name."""

    def get(self, name: str, /) -> SpiderIPPool | None:
        """Returns a pool, None when there is none of that name."""


def endpoint(pod: Pod, records: Iterable[SpiderIP], pools: PoolLister, top: Controller | None) -> SpiderEndpoint | None:
    """The endpoint of a pod, with its interfaces by name, eth0 first; None when the pod has no record.

    ``records`` are those of the pod, ``top`` its top controller.
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
        metadata=ObjectMeta(name=pod.name, namespace=pod.metadata.namespace, ownerReferences=[pod.as_owner()]),
        status=EndpointStatus(current, ownerControllerType=kind, ownerControllerName=name),
    )


def _detail(pod: Pod, interface: str, records: list[SpiderIP], pools: PoolLister) -> InterfaceDetail:
    detail: dict[str, Any] = {}
    routes: list[Route] = []
    for record in sorted(records, key=lambda record: record.name):
        granted = grant(record, pools.get(record.spec.pool), routes=_custom_routes(pod))
        detail |= _address_fields(granted)
        routes += [Route(destination, gateway) for destination, gateway in granted.routes]
    return InterfaceDetail(
        interface, vlan=0, routes=routes or None, cleanGateway=_has_clean_gateway(pod, interface) or None, **detail
    )


def _address_fields(granted: Grant) -> dict[str, Any]:
    prefix = f"ipv{granted.version}"
    return {prefix: granted.address, f"{prefix}Pool": granted.pool, f"{prefix}Gateway": granted.gateway}


def _custom_routes(pod: Pod) -> tuple[pod_annotations.Route, ...]:
    try:
        return pod_annotations.custom_routes(pod.metadata.annotations or {})
    except BadConfig:  # the agent refuses such a pod, so the annotation was changed after the ADD
        return ()


def _has_clean_gateway(pod: Pod, interface: str) -> bool:
    """Whether the pod itself asks for no default route on an interface."""
    try:
        pools = pod_annotations.all_interface_pools(pod.metadata.annotations or {}) or ()
    except BadConfig:
        return False
    return any(item.interface == interface and item.clean_gateway for item in pools)


def is_current(stored: SpiderEndpoint, desired: SpiderEndpoint) -> bool:
    """Whether a stored endpoint is as desired, and nothing delays or has begun its deletion."""
    return (
        stored.status == desired.status
        and stored.metadata.ownerReferences == desired.metadata.ownerReferences
        and not stored.metadata.finalizers
        and not stored.terminating
    )


def is_held(record: SpiderIP) -> bool:
    """Whether a record is held by its pod: False for a released record, which is in its cooldown."""
    return record.spec.releasedAt is None
