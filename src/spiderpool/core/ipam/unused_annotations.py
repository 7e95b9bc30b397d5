"""Which annotations of a pod and its Namespace have no effect, in sentences for an Event.

They do not keep the pod from its network: they may be meant for another version, or for somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from ipaddress import ip_address, ip_interface

from spiderpool.api.multusconfig import NETWORK_INJECT, RDMA_INJECT
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, STATUS_ANNOTATION
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, RECLAIM, SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.core.annotations import (
    DEFAULT_ROUTE_NIC,
    NAMESPACE_POOLS,
    POOL,
    POOLS,
    ROUTES,
    Annotations,
    InterfacePools,
    all_interface_pools,
    all_interface_subnets,
    custom_routes,
)
from spiderpool.errors import BadConfig

OURS = ("ipam.spidernet.io/", "cni.spidernet.io/", "multus.spidernet.io/")
"""Prefixes that nobody else uses: every unknown key is a mistake."""
SHARED = ("k8s.v1.cni.cncf.io/", "v1.multus-cni.io/")
"""Prefixes with keys of others: an unknown key is a mistake only if it is nearly one that we read."""
PREFIXES = (*OURS, *SHARED)
NEARLY, RESEMBLING = 0.9, 0.8
"""Similarity of a key to the one that is meant, as `difflib` measures it, where others have keys and where not."""
MOST = 20
"""Annotations that are compared or told of, at most: each comparison takes time, and a pod may have thousands."""

NETWORK_KEYS = (NETWORKS_ANNOTATION, DEFAULT_NETWORK_ANNOTATION)
FOREIGN_KEYS = (STATUS_ANNOTATION, "k8s.v1.cni.cncf.io/networks-status")
"""Keys that resemble those which we read, and are written by others: by us and Multus, and by older versions of it."""
INJECT_KEYS = (RDMA_INJECT, NETWORK_INJECT)
POD_KEYS = (
    *(POOL, POOLS, SUBNET_ANNOTATION, SUBNETS_ANNOTATION, IP_NUMBER_ANNOTATION, RECLAIM, ROUTES, DEFAULT_ROUTE_NIC),
    *INJECT_KEYS,
    *NETWORK_KEYS,
)
NAMESPACE_KEYS = (*NAMESPACE_POOLS.values(), *INJECT_KEYS)


def unused_keys(pod: Annotations, namespace: Annotations) -> Iterator[str]:
    """Yields which keys of a pod and of its Namespace nobody reads there, with the most similar one."""
    for holder, written, known in (("", pod, POD_KEYS), (" of the Namespace", namespace, NAMESPACE_KEYS)):
        ours = (key for key in written if key.startswith(PREFIXES))  # first, since a pod may have thousands of others
        unknown = sorted(key for key in ours if key not in known and key not in FOREIGN_KEYS)
        for key in unknown[:MOST]:
            near = get_close_matches(key, known, n=1, cutoff=NEARLY if key.startswith(SHARED) else RESEMBLING)
            if key.startswith(OURS) or near:
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"annotation {key}{holder} has no effect: there is no such annotation{hint}"


def unused_subnets(pod: Annotations, *, enabled: bool) -> Iterator[str]:
    """Yields which annotations name SpiderSubnets although these are not ``enabled``."""
    for key in (SUBNETS_ANNOTATION, SUBNET_ANNOTATION):
        if key in pod and not enabled:
            yield f"annotation {key} has no effect: enableSpiderSubnet is false in the ConfigMap"


def unused_interfaces(pod: Annotations, interfaces: Collection[str]) -> Iterator[str]:
    """Yields which annotations name an interface that the pod does not have."""
    named = {
        DEFAULT_ROUTE_NIC: [pod.get(DEFAULT_ROUTE_NIC, "").strip()],
        POOLS: _interfaces(all_interface_pools, pod),
        SUBNETS_ANNOTATION if SUBNETS_ANNOTATION in pod else SUBNET_ANNOTATION: _interfaces(all_interface_subnets, pod),
    }
    for key, names in named.items():
        for name in names:
            if name and name not in interfaces:
                near = get_close_matches(name, interfaces, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(interfaces)}"
                yield f"annotation {key} has no effect for {name}: the pod has no such interface{hint}"


def unused_routes(pod: Annotations, addresses: Iterable[str]) -> Iterator[str]:
    """Yields which routes lead to a gateway in no subnet of the pod's addresses (CIDR texts). Raises BadConfig."""
    subnets = list(dict.fromkeys(ip_interface(address).network for address in addresses))
    for destination, gateway in custom_routes(pod):
        if not any(ip_address(gateway) in subnet for subnet in subnets):
            reachable = ", ".join(map(str, subnets)) or "none"
            yield (
                f"annotation {ROUTES}: the route to {destination} has no effect, since its gateway {gateway} is in no "
                f"subnet of the pod ({reachable})"
            )


def _interfaces(read: Callable[[Annotations], Sequence[InterfacePools] | None], pod: Annotations) -> list[str]:
    """The interfaces that an annotation names; none where it is malformed, which is told where it decides."""
    try:
        return [each.interface for each in read(pod) or ()]
    except BadConfig:
        return []
