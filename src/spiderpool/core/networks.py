"""Which network a pod wants, and what that network's configuration asks of us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

import msgspec

from spiderpool.api.cni import (
    IFNAME_LENGTH,
    ConfigList,
    CoordinatorConfig,
    InterfaceConfig,
    IPAMConfig,
    parse_network,
    parse_plugin,
    plugin_type,
)
from spiderpool.api.coordinator import SYNCED, CoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NetworkAttachmentDefinition
from spiderpool.core.addresses import Network
from spiderpool.core.annotations import DEFAULT_ROUTE_NIC, FIRST_INTERFACE
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


@dataclass(frozen=True, slots=True)
class RequestedNetwork:
    """A further network that a pod asks for."""

    network: str
    """``namespace/name``."""
    interface: str


class _Element(msgspec.Struct):
    name: str
    namespace: str | None = None
    interface: str | None = None
    interfaceRequest: str | None = None  # noqa: N815 - the key's older spelling


def first_network(annotations: Mapping[str, str], cluster_default: str | None, our_namespace: str) -> str | None:
    """``namespace/name`` of the network of a pod's first interface; None when nobody says. Raises BadConfig."""
    asked = annotations.get(DEFAULT_NETWORK_ANNOTATION, "").strip()
    if not asked:
        return qualified(cluster_default, our_namespace) if cluster_default else None
    networks = _parse_networks(DEFAULT_NETWORK_ANNOTATION, asked, our_namespace)
    if len(networks) != 1:
        raise BadConfig(f"annotation {DEFAULT_NETWORK_ANNOTATION} must name one network, not {len(networks)}")
    return networks[0].network


def further_networks(annotations: Mapping[str, str], namespace: str) -> tuple[RequestedNetwork, ...]:
    """Networks of a pod's further interfaces, in order; unnamed interfaces are net1, net2, … Raises BadConfig.

    Both forms of the annotation (Kubernetes Network Plumbing Working Group, version 1.3, section 4.1.2) are read.
    """
    text = annotations.get(NETWORKS_ANNOTATION, "").strip()
    return _parse_networks(NETWORKS_ANNOTATION, text, namespace) if text else ()


def default_network(annotations: Mapping[str, str], cluster_default: str | None, our_namespace: str) -> str:
    """As :func:`first_network`, for a pod that is attached to this one network. Raises Refused or UnknownPlugin."""
    if wanted := annotations.get(NETWORKS_ANNOTATION, "").strip():
        raise UnknownPlugin(
            f"annotation {NETWORKS_ANNOTATION}={wanted!r} asks for further interfaces, which this agent does not "
            f"attach; remove it and choose the pod's one network by {DEFAULT_NETWORK_ANNOTATION}"
        )
    network = first_network(annotations, cluster_default, our_namespace)
    if network is None:
        raise Refused(
            f"the pod names no network and the cluster has no default: set annotation {DEFAULT_NETWORK_ANNOTATION}, "
            "or MULTUS_CLUSTER_NETWORK on the agents"
        )
    return network


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The networks of all interfaces of a pod, as far as its annotations and the settings tell."""

    first: str | None
    further: tuple[RequestedNetwork, ...]

    def network(self, interface: str) -> str | None:
        """``namespace/name`` of an interface's network; None when nobody says."""
        position = self.position(interface)
        if position is None:
            return None
        return self.first if position == 0 else self.further[position - 1].network

    def position(self, interface: str) -> int | None:
        """0 for the pod's first interface, then counted; None for one that no annotation tells of."""
        names = (FIRST_INTERFACE, *(each.interface for each in self.further))
        return names.index(interface) if interface in names else None


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


def default_route_interface(annotations: Mapping[str, str], cluster: SpiderCoordinator) -> str:
    """The interface of the default route: the pod's own wish before the cluster's; empty where neither has one."""
    spec = cluster.spec or CoordinatorSpec()
    return annotations.get(DEFAULT_ROUTE_NIC, "").strip() or spec.podDefaultRouteNIC or ""


def synced_status(cluster: SpiderCoordinator | None) -> CoordinatorStatus:
    """What was found out about the cluster's networks. Raises NotReady while that is not complete."""
    if cluster is None:
        raise NotReady("there is no SpiderCoordinator yet; the controller creates one named default")
    if cluster.status is None or cluster.status.phase != SYNCED:
        reason = cluster.status.reason if cluster.status else "it has no status yet"
        raise NotReady(f"SpiderCoordinator {cluster.name} is not ready: {reason}")
    return cluster.status


def _found_out(block: CoordinatorConfig, cluster: SpiderCoordinator | None) -> tuple[list[str], list[str]]:
    """Overlay and Service CIDRs: from the block, else from the status of the SpiderCoordinator."""
    if block.overlayPodCIDR is not None and block.serviceCIDR is not None:
        return block.overlayPodCIDR, block.serviceCIDR
    status = synced_status(cluster)
    return (block.overlayPodCIDR or status.overlayPodCIDR or [], block.serviceCIDR or status.serviceCIDR or [])


def _parse_networks(key: str, text: str, namespace: str) -> tuple[RequestedNetwork, ...]:
    elements = _json_elements(key, text) if set(text) & set('[{"') else _short_elements(key, text)
    networks = tuple(
        RequestedNetwork(qualified(each.name, each.namespace or namespace), _interface_name(key, each, index))
        for index, each in enumerate(elements, 1)
    )
    names = [each.interface for each in networks]
    if twice := next((name for index, name in enumerate(names) if name in names[:index]), None):
        raise BadConfig(f"annotation {key} asks for interface {twice} twice; give each network another interface")
    return networks


def _json_elements(key: str, text: str) -> list[_Element]:
    try:
        value = msgspec.json.decode(text)
        return msgspec.convert(value if isinstance(value, list) else [value], list[_Element])
    except msgspec.DecodeError as error:
        raise BadConfig(f'annotation {key} is wrong: {error}; write [{{"name": "network"}}]') from error


def _short_elements(key: str, text: str) -> list[_Element]:
    """``[namespace/]name[@interface]``, separated by commas."""
    elements = []
    for item in text.split(","):
        network, _, interface = item.strip().partition("@")
        namespace, slash, name = network.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace:
            raise BadConfig(f"annotation {key} holds {item!r}; write [namespace/]name[@interface], separated by commas")
        elements.append(_Element(name, namespace or None, interface or None))
    return elements


def _interface_name(key: str, element: _Element, index: int) -> str:
    name = element.interface or element.interfaceRequest or f"net{index}"
    if len(name) > IFNAME_LENGTH or set(name) & set("/: \t\n"):
        raise BadConfig(f"annotation {key} asks for interface {name!r}; Linux allows 15 characters without '/' and ':'")
    return name


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
