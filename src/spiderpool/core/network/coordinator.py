"""The coordinator settings of one interface: the network's ``coordinator`` block, then the SpiderCoordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TypeVar

from spiderpool.api.cni import CoordinatorConfig
from spiderpool.api.coordinator import SYNCED, CoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.core.addresses import Network
from spiderpool.core.annotations import DEFAULT_ROUTE_NIC, FIRST_INTERFACE
from spiderpool.core.network.plumbing.values import DISABLED, Address, ClusterRanges, Coordination
from spiderpool.errors import BadConfig, NotReady

T = TypeVar("T")

VETH_MTU = 1500
"""MTU of the veth pair unless the settings name another."""
RULE_TABLE = 500
"""Routing table on the node with the routes to pods unless the settings name another."""
RULE_TABLES = range(1, 2**32)
"""Numbers of the kernel's routing tables; 0 stands for none in particular."""
RULE_TABLES_REMEDY = f"write a number from {RULE_TABLES[0]} to {RULE_TABLES[-1]}, such as {RULE_TABLE}"
QUEUE_LENGTHS = range(2**31)
"""Packets in the queue of a link; 0 leaves the kernel's."""
QUEUE_LENGTHS_REMEDY = f"write a number from 0 to {QUEUE_LENGTHS[-1]}"


@dataclass(frozen=True, slots=True)
class OwnCIDRs:
    """The cluster's CIDRs as the ``coordinator`` block of a network names them; None: it does not."""

    overlay: tuple[str, ...] | None = None
    service: tuple[str, ...] | None = None

    @classmethod
    def of(cls, block: CoordinatorConfig) -> OwnCIDRs:
        """Those of a block."""
        texts = (block.overlayPodCIDR, block.serviceCIDR)
        return cls(*(None if each is None else tuple(each) for each in texts))

    def or_else(self, status: Callable[[], CoordinatorStatus | None]) -> tuple[Sequence[str], Sequence[str]]:
        """CIDRs of pods and of Services: those of the block, else those of the status, which is asked if need be."""
        if self.overlay is not None and self.service is not None:
            return self.overlay, self.service
        known = status() or CoordinatorStatus(phase="")
        return self.overlay or known.overlayPodCIDR or (), self.service or known.serviceCIDR or ()


def coordination(
    block: CoordinatorConfig | None,
    spider_coordinator: SpiderCoordinator | None,
    *,
    first_nic: str = FIRST_INTERFACE,
    default_route_nic: str = "",
) -> Coordination | None:
    """The coordinator settings of an interface; None where there is nothing to coordinate.

    A key of the network's block overrides the SpiderCoordinator; a list replaces a list. ``first_nic`` is the pod's
    first interface unless the block names one; ``default_route_nic`` comes from the pod and overrides both.
    Raises BadConfig, or NotReady until the controller has found the cluster's CIDRs.
    """
    if block is None:
        return None
    spec = (spider_coordinator.spec if spider_coordinator else None) or CoordinatorSpec()
    mode = block.mode or spec.mode or "auto"
    if mode in DISABLED:
        return None
    overlay, service = OwnCIDRs.of(block).or_else(lambda: synced_status(spider_coordinator))
    default_nic = block.podDefaultRouteNIC or block.podDefaultRouteNic or spec.podDefaultRouteNIC or ""
    return Coordination(
        mode=mode,
        service_cidrs=_networks("serviceCIDR", service),
        overlay_cidrs=_networks("overlayPodCIDR", overlay),
        hijack_cidrs=_networks("hijackCIDR", block.hijackCIDR or spec.hijackCIDR or []),
        host_rule_table=_checked_table(_first(block.hostRuleTable, spec.hostRuleTable, RULE_TABLE)),
        pod_rp_filter=_reverse_path_filter(_first(block.podRPFilter, spec.podRPFilter, 0)),
        tx_queue_len=_queue_length(_first(block.txQueueLen, spec.txQueueLen, 0)),
        veth_mtu=_first(block.vethMTU, spec.vethMTU, VETH_MTU),
        veth_link_address=_veth_address(block.vethLinkAddress or spec.vethLinkAddress or ""),
        tune_pod_routes=_first(block.tunePodRoutes, spec.tunePodRoutes, True),
        default_route_nic=default_route_nic or default_nic,
        policy_routes=_policy_routes(block, spec),
        pod_mac_prefix=block.podMACPrefix or spec.podMACPrefix or "",
        first_nic=block.podDefaultCniNic or first_nic,
        service_addresses=service_addresses(spider_coordinator) or (),
        ipam_cidrs=_networks("ipamCIDR", block.ipamCIDR or spec.ipamCIDR or []),
    )


def in_force(coordinators: Iterable[SpiderCoordinator]) -> SpiderCoordinator | None:
    """The SpiderCoordinator that counts: the first by name, so that all nodes agree; None when there is none."""
    return min(coordinators, key=lambda each: each.name, default=None)


def service_addresses(spider_coordinator: SpiderCoordinator | None) -> tuple[Address, ...] | None:
    """Addresses of Services outside the Service CIDRs that pods reach through the node; None: not known yet.

    Raises BadConfig for a status that somebody else has written.
    """
    status = spider_coordinator.status if spider_coordinator else None
    if status is None or status.serviceAddresses is None:
        return None
    try:
        return _parsed_addresses(tuple(status.serviceAddresses))
    except ValueError as error:
        raise BadConfig(f"status.serviceAddresses of the SpiderCoordinator holds {error}; remove it") from error


def cluster_ranges(own: OwnCIDRs, spider_coordinator: SpiderCoordinator | None, *, of_cluster: bool) -> ClusterRanges:
    """What the cluster uses, as far as it is known; ``of_cluster`` for interfaces of the cluster's own network.

    ``own`` are the CIDRs that the interface's network names. Raises BadConfig as `service_addresses`.
    """
    pods, services = own.or_else(lambda: spider_coordinator.status if spider_coordinator else None)
    return ClusterRanges(
        _networks("serviceCIDR", services),
        service_addresses(spider_coordinator) or (),
        _networks("overlayPodCIDR", () if of_cluster else pods),
    )


@lru_cache(maxsize=2)
def _parsed_addresses(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """Parsed once per change: every ADD asks, for each interface, and there may be thousands."""
    return tuple(map(ip_address, texts))


def rule_table(spider_coordinator: SpiderCoordinator | None) -> int:
    """The routing table on the node with the routes to pods, unless a network's block names another one.

    With a number that no table has no pod was attached, as `coordination` refuses it: the default.
    """
    spec = (spider_coordinator.spec if spider_coordinator else None) or CoordinatorSpec()
    table = spec.hostRuleTable or RULE_TABLE
    return table if table in RULE_TABLES else RULE_TABLE


def default_route_interface(annotations: Mapping[str, str], spider_coordinator: SpiderCoordinator) -> str:
    """The interface of the default route: by the pod's annotation, else the SpiderCoordinator; empty: neither."""
    spec = spider_coordinator.spec or CoordinatorSpec()
    return requested_default_route(annotations) or spec.podDefaultRouteNIC or ""


def requested_default_route(annotations: Mapping[str, str]) -> str:
    """The interface of the default route by the pod's annotation; empty when it has none."""
    return annotations.get(DEFAULT_ROUTE_NIC, "").strip()


def synced_status(spider_coordinator: SpiderCoordinator | None) -> CoordinatorStatus:
    """The status of the SpiderCoordinator. Raises NotReady until the controller has found the cluster's CIDRs."""
    if spider_coordinator is None:
        raise NotReady("there is no SpiderCoordinator yet; the controller creates one named default")
    if spider_coordinator.status is None or spider_coordinator.status.phase != SYNCED:
        reason = spider_coordinator.status.reason if spider_coordinator.status else "it has no status yet"
        raise NotReady(f"SpiderCoordinator {spider_coordinator.name} is not ready: {reason}")
    return spider_coordinator.status


def _policy_routes(block: CoordinatorConfig, spec: CoordinatorSpec) -> tuple[tuple[Network, Address], ...]:
    routes = block.policyRoutes or spec.policyRoutes or ()
    return tuple(_policy_route(route.dst, route.gw) for route in routes)


def _policy_route(dst: str, gw: str) -> tuple[Network, Address]:
    try:
        destination, gateway = ip_network(dst, strict=False), ip_address(gw)
    except ValueError as error:
        raise BadConfig(f"coordinator: policyRoutes hold {error}; write a CIDR as dst and an address as gw") from error
    if destination.version != gateway.version:
        raise BadConfig(f"coordinator: policyRoutes send {dst} to {gw}, which is of another address family")
    return destination, gateway


def _networks(key: str, texts: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise BadConfig(f"coordinator: {key} holds {error}; write CIDRs, as in 10.233.0.0/18") from error


def _veth_address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text else None
    except ValueError as error:
        raise BadConfig(f"vethLinkAddress {text!r} of the coordinator is no IPv4 address: {error}") from error


def _first(block_value: T | None, cluster_value: T | None, default: T) -> T:
    return next((value for value in (block_value, cluster_value) if value is not None), default)


def _checked_table(number: int) -> int:
    if number not in RULE_TABLES:
        raise BadConfig(f"hostRuleTable {number} of the coordinator is no routing table; {RULE_TABLES_REMEDY}")
    return number


def _queue_length(number: int) -> int:
    if number not in QUEUE_LENGTHS:
        raise BadConfig(f"txQueueLen {number} of the coordinator is out of range; {QUEUE_LENGTHS_REMEDY}")
    return number


def _reverse_path_filter(value: int) -> int | None:
    """rp_filter for the kernel; None (negative in the settings) leaves the kernel's value alone."""
    return value if value >= 0 else None
