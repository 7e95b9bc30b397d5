"""Rules of SpiderCoordinator, and of ``spec.coordinator`` of a SpiderMultusConfig."""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from spiderpool.api.coordinator import CoordinatorSpec, SpiderCoordinator
from spiderpool.api.ippool import Route
from spiderpool.core.admission.faults import (
    Fault,
    Faults,
    FieldError,
    first_faults,
    is_address,
    parse_prefix,
    prefix_text,
)
from spiderpool.core.network.coordinator import (
    QUEUE_LENGTHS,
    QUEUE_LENGTHS_REMEDY,
    RULE_TABLE,
    RULE_TABLES,
    RULE_TABLES_REMEDY,
    VETH_MTU,
)

POD_CIDR_TYPES = ("auto", "cluster", "calico", "cilium", "none")

_MAC_PREFIX = re.compile(r"[0-9a-fA-F][02468aceACE]:[0-9a-fA-F]{2}")
"""Two bytes; bit 0 of the first is clear, as in every unicast address (IEEE 802)."""


def default_coordinator(coordinator: SpiderCoordinator) -> SpiderCoordinator:
    """The object with defaults, and with a prefix length on each address.

    It gets no finalizer, because its deletion leaves nothing to clean up.
    """
    spec = coordinator.spec or CoordinatorSpec()
    spec = replace(
        spec,
        mode=spec.mode or "auto",
        tunePodRoutes=spec.tunePodRoutes is not False,
        hostRuleTable=RULE_TABLE if spec.hostRuleTable is None else spec.hostRuleTable,
        podRPFilter=spec.podRPFilter or 0,
        txQueueLen=spec.txQueueLen or 0,
        vethMTU=VETH_MTU if spec.vethMTU is None else spec.vethMTU,
    )
    return replace(coordinator, spec=with_prefixes(spec))


def with_prefixes(spec: CoordinatorSpec) -> CoordinatorSpec:
    """The settings with a prefix length on each address; text that cannot be read stays as written."""
    hijack, ipam, routes = spec.hijackCIDR, spec.ipamCIDR, spec.policyRoutes
    return replace(
        spec,
        hijackCIDR=hijack and [prefix_text(text) for text in hijack],
        ipamCIDR=ipam and [prefix_text(text) for text in ipam],
        policyRoutes=routes and [replace(route, dst=prefix_text(route.dst)) for route in routes],
    )


def validate_coordinator(new: SpiderCoordinator) -> tuple[FieldError, ...]:
    """All faults of the cluster's coordinator settings."""
    spec = new.spec or CoordinatorSpec()
    required = () if spec.podCIDRType else (_pod_cidr_type(Fault.REQUIRED, "spec", spec),)
    return first_faults(required, coordinator_faults(spec, "spec"))


def coordinator_faults(spec: CoordinatorSpec, path: str) -> Faults:
    """Faults of the coordinator settings at ``path``; ``podCIDRType`` may be absent, as in a network."""
    if spec.podCIDRType and spec.podCIDRType not in POD_CIDR_TYPES:
        yield _pod_cidr_type(Fault.NOT_SUPPORTED, path, spec)
    yield from _prefixes_faults(spec.hijackCIDR, f"{path}.hijackCIDR")
    yield from _prefixes_faults(spec.ipamCIDR, f"{path}.ipamCIDR")
    for index, route in enumerate(spec.policyRoutes or ()):
        yield from _policy_route_faults(route, f"{path}.policyRoutes[{index}]")
    if spec.podMACPrefix and not _MAC_PREFIX.fullmatch(spec.podMACPrefix):
        remedy = "write two bytes such as 0a:1b, the first one even (a unicast address)"
        yield FieldError(Fault.INVALID, f"{path}.podMACPrefix", spec.podMACPrefix, remedy)
    if spec.hostRuleTable is not None and spec.hostRuleTable not in RULE_TABLES:
        yield FieldError(Fault.INVALID, f"{path}.hostRuleTable", spec.hostRuleTable, RULE_TABLES_REMEDY)
    if (spec.txQueueLen or 0) not in QUEUE_LENGTHS:
        yield FieldError(Fault.INVALID, f"{path}.txQueueLen", spec.txQueueLen, QUEUE_LENGTHS_REMEDY)
    if (spec.podRPFilter or 0) > 2:
        remedy = "write 0 (off), 1 (strict), 2 (loose), or -1 to leave it alone"
        yield FieldError(Fault.NOT_SUPPORTED, f"{path}.podRPFilter", spec.podRPFilter, remedy)
    if spec.vethLinkAddress and not is_address(spec.vethLinkAddress, 4):
        remedy = "write an IPv4 address without a prefix length, such as 169.254.100.1"
        yield FieldError(Fault.INVALID, f"{path}.vethLinkAddress", spec.vethLinkAddress, remedy)


def _pod_cidr_type(kind: Fault, path: str, spec: CoordinatorSpec) -> FieldError:
    return FieldError(kind, f"{path}.podCIDRType", spec.podCIDRType, f"write one of {', '.join(POD_CIDR_TYPES)}")


def _prefixes_faults(texts: list[str] | None, path: str) -> Faults:
    for index, text in enumerate(texts or ()):
        yield from _prefix_faults(text, f"{path}[{index}]")


def _prefix_faults(text: str, path: str) -> Faults:
    if parse_prefix(text) is None:
        yield FieldError(Fault.INVALID, path, text, "write a CIDR such as 10.233.0.0/18, or an address")


def _policy_route_faults(route: Route, path: str) -> Faults:
    destination = parse_prefix(route.dst)
    hop = None if "/" in route.gw else parse_prefix(route.gw)
    yield from _prefix_faults(route.dst, f"{path}.dst")
    if hop is None:
        yield FieldError(Fault.INVALID, f"{path}.gw", route.gw, "write an address without a prefix length")
    elif destination is not None and hop.version != destination.version:
        remedy = f"gw must be an IPv{destination.version} address, as dst is"
        yield FieldError(Fault.INVALID, path, msgspec.to_builtins(route), remedy)
