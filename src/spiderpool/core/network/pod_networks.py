"""The networks that a pod asks for, by the annotations of the Network Plumbing Working Group.

Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from typing import Any

import msgspec

from spiderpool.api.cni import IFNAME_LENGTH, is_requestable
from spiderpool.api.decoding import LONGEST, decode
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.annotations import FIRST_INTERFACE, MOST_INTERFACES, first_duplicate
from spiderpool.core.ipam.pod_context import InterfaceNetworks
from spiderpool.errors import BadConfig, Refused

MOST_NETWORKS = MOST_INTERFACES - 1
"""Networks of a pod beside its first one."""
MOST_ADDRESSES = 32
"""Addresses, or gateways, that a pod asks for on one network."""


@dataclass(frozen=True, slots=True)
class RequestedNetwork:
    """A network that a pod asks for, with what its annotation says about the interface."""

    network: str
    """``namespace/name``."""
    interface: str
    mac: str = ""
    ips: tuple[str, ...] = ()
    """Addresses, without prefix lengths."""
    gateways: tuple[str, ...] | None = None
    """Key ``default-route``. None: not set. Empty: the pod's default route uses the gateway of the network's pool."""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """Runtime configuration by CNI capability: portMappings, bandwidth, deviceID, infinibandGUID."""
    cni_args: Mapping[str, Any] = field(default_factory=dict)

    def runtime_config(self) -> dict[str, Any]:
        """The runtime configuration for executed plugins, by CNI capability, with mac and ips."""
        mac: dict[str, Any] = {"mac": self.mac} if self.mac else {}
        return {**self.capabilities, **mac, **({"ips": list(self.ips)} if self.ips else {})}


class _Element(msgspec.Struct, kw_only=True):
    name: str
    namespace: str | None = None
    interface: str | None = None
    interfaceRequest: str | None = None  # noqa: N815 - the key's older spelling
    mac: str | None = None
    ips: list[str] | None = None
    default_route: list[str] | None = msgspec.field(default=None, name="default-route")
    infiniband_guid: str | None = msgspec.field(default=None, name="infiniband-guid")
    port_mappings: list[dict[str, Any]] | None = msgspec.field(default=None, name="portMappings")
    bandwidth: dict[str, Any] | None = None
    device_id: str | None = msgspec.field(default=None, name="deviceID")
    cni_args: dict[str, Any] | None = msgspec.field(default=None, name="cni-args")


def first_network(
    annotations: Mapping[str, str], cluster_default: str | None, our_namespace: str
) -> RequestedNetwork | None:
    """The network of a pod's first interface; None when neither pod nor settings name one. Raises BadConfig."""
    text = annotations.get(DEFAULT_NETWORK_ANNOTATION, "").strip()
    if not text:
        network = qualified(cluster_default, our_namespace) if cluster_default else None
        return RequestedNetwork(network, FIRST_INTERFACE) if network else None
    networks = _parse_networks(DEFAULT_NETWORK_ANNOTATION, text, our_namespace)
    if len(networks) != 1:
        raise BadConfig(f"annotation {DEFAULT_NETWORK_ANNOTATION} must name one network, not {len(networks)}")
    return replace(networks[0], interface=FIRST_INTERFACE)


def further_networks(annotations: Mapping[str, str], namespace: str) -> tuple[RequestedNetwork, ...]:
    """Networks of a pod's further interfaces, in order; unnamed interfaces are net1, net2, … Raises BadConfig.

    Both forms of the annotation are read: JSON, and ``[namespace/]name[@interface]`` separated by commas.
    """
    text = annotations.get(NETWORKS_ANNOTATION, "").strip()
    return _parse_networks(NETWORKS_ANNOTATION, text, namespace) if text else ()


def networks_of(
    annotations: Mapping[str, str],
    namespace: str,
    cluster_default: str | None,
    our_namespace: str,
    first_nic: str = FIRST_INTERFACE,
) -> tuple[RequestedNetwork, ...]:
    """All networks of a pod, that of the first interface first; at most one has ``gateways`` set.

    Raises BadConfig, or Refused when neither pod nor settings name the first network.
    """
    first = first_network(annotations, cluster_default, our_namespace)
    if first is None:
        raise Refused(
            f"the pod names no network and the cluster has no default: set annotation {DEFAULT_NETWORK_ANNOTATION}, "
            "or MULTUS_CLUSTER_NETWORK on the agents"
        )
    first = replace(first, interface=first_nic)
    further = further_networks(annotations, namespace)
    if any(each.interface == first_nic for each in further):
        raise BadConfig(f"annotation {NETWORKS_ANNOTATION} asks for {first_nic}, which is the pod's first interface")
    _check_default_routes((first, *further))
    return (first, *further)


def default_route_of(networks: Iterable[RequestedNetwork]) -> RequestedNetwork | None:
    """The network with the key ``default-route``; None when the pod sets it on none."""
    return next((each for each in networks if each.gateways is not None), None)


def gateways_of(network: RequestedNetwork, chosen: RequestedNetwork | None, given: tuple[str, ...]) -> tuple[str, ...]:
    """Gateways of an interface's default routes: those the pod asks for, else ``given`` by its pools.

    Empty when the default route belongs to another network, ``chosen``.
    """
    if chosen is None:
        return given
    return (network.gateways or given) if chosen == network else ()


def check_supported(network: RequestedNetwork) -> None:
    """Raises BadConfig for a request that only executed plugins can serve, on a network that the agent attaches."""
    for name in (*network.capabilities, *(("cni-args",) if network.cni_args else ())):
        raise BadConfig(f"network {network.network} is made by the agent itself, which does not do {name}: remove it")


def check_isolation(
    namespace: str, chosen: Iterable[RequestedNetwork], isolated: bool, shared: tuple[str, ...]
) -> None:
    """Raises Refused for a network outside the pod's Namespace and the shared ones, when Namespaces are isolated.

    ``chosen`` are those that the pod names itself, by either annotation.
    """
    for each in chosen:
        home = each.network.partition("/")[0]
        if isolated and home not in (namespace, *shared):
            raise Refused(
                f"network {each.network} belongs to another namespace, and namespaces are isolated: use one of "
                f"{namespace}, or of {', '.join(shared) or 'a namespace'} named by MULTUS_GLOBAL_NAMESPACES"
            )


def interface_networks(
    annotations: Mapping[str, str], namespace: str, cluster_default: str | None, our_namespace: str
) -> InterfaceNetworks:
    """The network of each interface that a pod's annotations and the settings name. Raises BadConfig."""
    first = first_network(annotations, cluster_default, our_namespace)
    further = further_networks(annotations, namespace)
    names = ((each.interface, each.network) for each in further)
    return InterfaceNetworks(((FIRST_INTERFACE, first.network if first else None), *names))


def qualified(network: str, namespace: str) -> str:
    """``namespace/name`` of a network that may be named without a namespace."""
    return network if "/" in network else f"{namespace}/{network}"


def _parse_networks(key: str, text: str, namespace: str) -> tuple[RequestedNetwork, ...]:
    if len(text) > LONGEST:
        raise BadConfig(f"annotation {key} has {len(text)} characters; at most {LONGEST} are possible")
    elements = _json_elements(key, text) if set(text) & set('[{"') else _short_elements(key, text)
    networks = tuple(_requested(key, each, namespace, index) for index, each in enumerate(elements, 1))
    if twice := first_duplicate([each.interface for each in networks]):
        raise BadConfig(f"annotation {key} asks for interface {twice} twice; give each network another interface")
    return networks


def _requested(key: str, element: _Element, namespace: str, index: int) -> RequestedNetwork:
    capabilities = {
        "portMappings": element.port_mappings,
        "bandwidth": element.bandwidth,
        "deviceID": element.device_id,
        "infinibandGUID": element.infiniband_guid,
    }
    routes = element.default_route
    return RequestedNetwork(
        qualified(element.name, element.namespace or namespace),
        _interface_name(key, element, index),
        mac=element.mac or "",
        ips=_addresses(key, "ips", [each.partition("/")[0] for each in element.ips or ()]),
        gateways=None if routes is None else _addresses(key, "default-route", routes),
        capabilities={name: value for name, value in capabilities.items() if value},
        cni_args=element.cni_args or {},
    )


def _json_elements(key: str, text: str) -> list[_Element]:
    try:
        value = decode(text)
        _check_number(key, len(value) if isinstance(value, list) else 1)
        return msgspec.convert(value if isinstance(value, list) else [value], list[_Element])
    except msgspec.DecodeError as error:
        raise BadConfig(f'annotation {key} is wrong: {error}; write [{{"name": "network"}}]') from error


def _check_number(key: str, number: int) -> None:
    if number > MOST_NETWORKS:
        raise BadConfig(f"annotation {key} names {number} networks; at most {MOST_NETWORKS} are possible")


def _short_elements(key: str, text: str) -> list[_Element]:
    """The elements of the short form: ``[namespace/]name[@interface]``, separated by commas."""
    _check_number(key, text.count(",") + 1)
    elements = []
    for item in text.split(","):
        network, at, interface = item.strip().partition("@")
        namespace, slash, name = network.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace or (at and not interface):
            raise BadConfig(f"annotation {key} holds {item!r}; write [namespace/]name[@interface], separated by commas")
        elements.append(_Element(name=name, namespace=namespace or None, interface=interface or None))
    return elements


def _interface_name(key: str, element: _Element, index: int) -> str:
    name = element.interface or element.interfaceRequest or f"net{index}"
    if not is_requestable(name):
        raise BadConfig(
            f"annotation {key} asks for interface {name!r}; write at most {IFNAME_LENGTH} characters without '/', ':', "
            "'@' and blanks"
        )
    return name


def _addresses(key: str, field_name: str, texts: list[str]) -> tuple[str, ...]:
    if len(texts) > MOST_ADDRESSES:
        raise BadConfig(
            f"annotation {key}, {field_name}: {len(texts)} addresses; at most {MOST_ADDRESSES} are possible"
        )
    return tuple(_address(key, field_name, each) for each in texts)


def _address(key: str, field_name: str, text: str) -> str:
    try:
        return str(ip_interface(text).ip)
    except ValueError as error:
        raise BadConfig(f"annotation {key}, {field_name}: {text!r} is not an IP address") from error


def _check_default_routes(networks: tuple[RequestedNetwork, ...]) -> None:
    with_gateways = [each for each in networks if each.gateways is not None]
    if len(with_gateways) > 1:
        named = ", ".join(each.network for each in with_gateways)
        raise BadConfig(f"default-route is asked for on several networks ({named}); keep it on one")
    for version in FAMILIES:
        gateways = [
            address
            for each in with_gateways
            for address in each.gateways or ()
            if ip_address(address).version == version
        ]
        if len(gateways) > 1:
            raise BadConfig(f"default-route names {len(gateways)} IPv{version} gateways; keep one of a family")
