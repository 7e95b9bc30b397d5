"""Which network a pod wants, and what that network's configuration asks of us."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from spiderpool.api.cni import (
    ConfigList,
    CoordinatorConfig,
    InterfaceConfig,
    IPAMConfig,
    parse_network,
    parse_plugin,
    plugin_type,
)
from spiderpool.api.coordinator import SYNCED, CoordinatorSpec, SpiderCoordinator
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NetworkAttachmentDefinition
from spiderpool.core.addresses import Network
from spiderpool.core.plumbing import Coordination
from spiderpool.errors import BadConfig, NotReady, Refused, UnknownPlugin

INTERFACE_TYPES = ("ipvlan", "macvlan")
COORDINATOR_TYPE = "coordinator"
IPAM_TYPE = "spiderpool"
DISABLED = ("disable", "disabled")
VETH_MTU = 1500


@dataclass(frozen=True, slots=True)
class Chain:
    """What a network's plugins ask for, understood: one interface, its addresses, its coordination."""

    name: str
    version: str
    interface_type: str
    interface: InterfaceConfig
    ipam: IPAMConfig
    coordinator: CoordinatorConfig | None


def default_network(annotations: dict[str, str], cluster_default: str | None, our_namespace: str) -> str:
    """``namespace/name`` of the network of a pod's first interface. Raises Refused or UnknownPlugin."""
    if wanted := annotations.get(NETWORKS_ANNOTATION, "").strip():
        raise UnknownPlugin(
            f"annotation {NETWORKS_ANNOTATION}={wanted!r} asks for further interfaces, which this agent does not "
            f"attach; remove it and choose the pod's one network by {DEFAULT_NETWORK_ANNOTATION}"
        )
    asked = annotations.get(DEFAULT_NETWORK_ANNOTATION, "").strip() or cluster_default
    if not asked:
        raise Refused(
            f"the pod names no network and the cluster has no default: set annotation {DEFAULT_NETWORK_ANNOTATION}, "
            "or MULTUS_CLUSTER_NETWORK on the agents"
        )
    return qualified(asked, our_namespace)


def qualified(network: str, namespace: str) -> str:
    """``namespace/name`` of a network that may be named without a namespace."""
    return network if "/" in network else f"{namespace}/{network}"


def read_network(network: str, definition: NetworkAttachmentDefinition | None) -> Chain:
    """The chain of a network. Raises Refused when it is not there yet, BadConfig and its like when it is wrong."""
    if definition is None:
        raise Refused(f"network {network} does not exist; create a SpiderMultusConfig or NetworkAttachmentDefinition")
    text = definition.spec.config if definition.spec else None
    if not text:
        raise Refused(f"network {network} has no configuration yet; create a SpiderMultusConfig of that name")
    config = parse_network(text)
    return _chain(config.name or definition.name, config)


def _chain(name: str, config: ConfigList) -> Chain:
    plugins = [(plugin_type(bytes(raw)), bytes(raw)) for raw in config.plugins]
    interfaces = [(kind, raw) for kind, raw in plugins if kind in INTERFACE_TYPES]
    coordinators = [raw for kind, raw in plugins if kind == COORDINATOR_TYPE]
    for kind, _ in plugins:
        if kind not in (*INTERFACE_TYPES, COORDINATOR_TYPE):
            known = ", ".join((*INTERFACE_TYPES, COORDINATOR_TYPE))
            raise UnknownPlugin(f"network {name} uses plugin {kind!r}; this agent runs {known}")
    if len(interfaces) != 1 or len(coordinators) > 1 or plugins[0][0] == COORDINATOR_TYPE:
        raise BadConfig(
            f"network {name} must hold one of {', '.join(INTERFACE_TYPES)} first, then at most one coordinator"
        )
    kind, raw = interfaces[0]
    interface = parse_plugin(raw, InterfaceConfig)
    coordinator = parse_plugin(coordinators[0], CoordinatorConfig) if coordinators else None
    return Chain(name, config.cniVersion or "1.0.0", kind, interface, _ipam(name, interface), coordinator)


def _ipam(name: str, interface: InterfaceConfig) -> IPAMConfig:
    if interface.ipam is None or interface.ipam.type != IPAM_TYPE:
        found = interface.ipam.type if interface.ipam else "none"
        raise UnknownPlugin(
            f"network {name} uses ipam {found!r}; this agent gives addresses by ipam type {IPAM_TYPE!r}"
        )
    return interface.ipam


def coordination(block: CoordinatorConfig | None, cluster: SpiderCoordinator | None) -> Coordination | None:
    """The coordinator settings of a pod's first interface; None where there is nothing to coordinate.

    A key of the network's block goes before the cluster's SpiderCoordinator, a list replaces a list.
    Raises NotReady while the SpiderCoordinator has not found out the cluster's networks.
    """
    if block is None:
        return None
    spec = (cluster.spec if cluster else None) or CoordinatorSpec()
    mode = block.mode or spec.mode or "auto"
    if mode in DISABLED:
        return None
    if mode not in ("auto", "underlay"):
        raise BadConfig(f"coordinator mode {mode!r} cannot be used for a pod's first interface; use auto or underlay")
    if block.podMACPrefix or spec.podMACPrefix:
        raise BadConfig("podMACPrefix cannot be used: ipvlan children carry their card's MAC; leave it empty")
    if block.policyRoutes or spec.policyRoutes:
        raise UnknownPlugin(
            "policyRoutes are for pods with several interfaces, which this agent does not attach; remove them"
        )
    overlay, service = _found_out(block, cluster)
    address = block.vethLinkAddress or spec.vethLinkAddress or None
    return Coordination(
        mode="underlay",
        service_cidrs=_networks("serviceCIDR", service),
        overlay_cidrs=_networks("overlayPodCIDR", overlay),
        hijack_cidrs=_networks("hijackCIDR", block.hijackCIDR or spec.hijackCIDR or []),
        host_rule_table=_first(block.hostRuleTable, spec.hostRuleTable, 500),
        pod_rp_filter=_reverse_path_filter(_first(block.podRPFilter, spec.podRPFilter, 0)),
        tx_queue_len=_first(block.txQueueLen, spec.txQueueLen, 0),
        veth_mtu=_first(block.vethMTU, spec.vethMTU, VETH_MTU),
        veth_link_address=IPv4Address(address) if address else None,
    )


def _found_out(block: CoordinatorConfig, cluster: SpiderCoordinator | None) -> tuple[list[str], list[str]]:
    """Overlay and Service CIDRs: from the block, else from the status of the SpiderCoordinator."""
    if block.overlayPodCIDR is not None and block.serviceCIDR is not None:
        return block.overlayPodCIDR, block.serviceCIDR
    if cluster is None:
        raise NotReady("there is no SpiderCoordinator yet; the controller creates one named default")
    if cluster.status is None or cluster.status.phase != SYNCED:
        reason = cluster.status.reason if cluster.status else "it has no status yet"
        raise NotReady(f"SpiderCoordinator {cluster.name} is not ready: {reason}")
    return (
        block.overlayPodCIDR or cluster.status.overlayPodCIDR or [],
        block.serviceCIDR or cluster.status.serviceCIDR or [],
    )


def _networks(key: str, texts: list[str]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise BadConfig(f"coordinator: {key} holds {error}; write CIDRs, as in 10.233.0.0/18") from error


def _first(block: int | None, cluster: int | None, default: int) -> int:
    return next((value for value in (block, cluster) if value is not None), default)


def _reverse_path_filter(value: int) -> int | None:
    """Negative: leave the kernel's setting alone."""
    return value if value >= 0 else None
