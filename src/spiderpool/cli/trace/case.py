"""What is read to trace traffic: the objects that decide where packets go, each kind once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, TypeVar

import yaml

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Namespace, Node, Pod, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.networking_v1 import NetworkPolicy
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.policies import AgentPolicies, PolicyOptions, read_policies
from spiderpool.core.addresses import Network
from spiderpool.core.network.coordinator import in_force
from spiderpool.core.network.service_proxy import ProxySettings

PROXY_NAMESPACE, PROXY_CONFIG, PROXY_FILE = "kube-system", "kube-proxy", "config.conf"
"""Where kubeadm keeps the configuration of kube-proxy."""
PRIMARY = "primary"
"""In ``nodePortAddresses``: the addresses that the Node names first; what mode nftables does unasked."""
WORDS = {"all": ("0.0.0.0/0", "::/0"), "localhost": ("127.0.0.0/8", "::1/128")}
"""Words that stand for networks in ``nodePortAddresses``."""

O = TypeVar("O", bound=Object)  # noqa: E741


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """What was read, by ``namespace/name`` or name."""

    policies: AgentPolicies
    proxy: ProxySettings
    pods: Mapping[str, Pod]
    nodes: Mapping[str, Node]
    records: tuple[SpiderIP, ...] = ()
    pools: Mapping[str, SpiderIPPool] = field(default_factory=dict)
    networks: Mapping[str, NetworkAttachmentDefinition] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    servers: Mapping[str, SpiderServer] = field(default_factory=dict)
    """Only those of the present Nodes."""
    accounts: Mapping[str, SpiderNode] = field(default_factory=dict)
    coordinator: SpiderCoordinator | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    slices: tuple[EndpointSlice, ...] = ()
    network_policies: tuple[NetworkPolicy, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """The cloud: by the settings of the agents, else by what they have read of a server; empty: none."""
        found = (each.spec.provider for each in self.servers.values())
        return self.policies.nodes.provider or next(found, "")

    def slices_of(self, service: Service) -> list[EndpointSlice]:
        """The EndpointSlices of a Service."""
        return [
            each
            for each in self.slices
            if each.metadata.namespace == service.metadata.namespace
            and (each.metadata.labels or {}).get(SERVICE_LABEL) == service.name
        ]


async def read_objects(cluster: Cluster, options: PolicyOptions) -> ClusterObjects:
    """Read what decides about packets. Raises Refused where a kind that decides in any case may not be read."""
    pods, nodes, records, pools, networks = await asyncio.gather(
        cluster.needed(Pod),
        cluster.needed(Node),
        cluster.needed(SpiderIP),
        cluster.needed(SpiderIPPool),
        cluster.needed(NetworkAttachmentDefinition),
    )
    services, slices = await asyncio.gather(cluster.needed(Service), cluster.needed(EndpointSlice))
    namespaces, servers, accounts = await asyncio.gather(
        cluster.list(Namespace), cluster.list(SpiderServer), cluster.list(SpiderNode)
    )
    coordinators = await cluster.needed(SpiderCoordinator)
    policies = await read_policies(cluster, options)
    config = await cluster.find(ConfigMap, PROXY_CONFIG, PROXY_NAMESPACE)
    proxy, notes = proxy_settings(config)
    by_name = _by_key(nodes)
    return ClusterObjects(
        policies=policies,
        proxy=proxy,
        pods=_by_key(pods),
        nodes=by_name,
        records=tuple(records),
        pools=_by_key(pools),
        networks=_by_key(networks),
        namespaces=_by_key(namespaces or ()),
        servers={each.name: each for each in servers or () if each.name in by_name and each.is_of(by_name[each.name])},
        accounts=_by_key(accounts or ()),
        coordinator=in_force(coordinators),
        services=_by_key(services),
        slices=tuple(slices),
        network_policies=tuple(await cluster.list(NetworkPolicy) or ()),
        notes=(*policies.notes, *notes),
    )


def _by_key(objects: Iterable[O]) -> dict[str, O]:
    return {each.key: each for each in objects}


def proxy_settings(config: ConfigMap | None) -> tuple[ProxySettings, tuple[str, ...]]:
    """kube-proxy's configuration, and what is only assumed of it."""
    where = f"ConfigMap {PROXY_NAMESPACE}/{PROXY_CONFIG}"
    text = (config.data or {}).get(PROXY_FILE) if config else None
    if text is None:
        assumed = ProxySettings()
        return assumed, (
            f"{where} is not there or not readable: kube-proxy is taken for one in mode {assumed.mode} with"
            f" detectLocalMode {assumed.detect_local_mode} and the prefix {assumed.interface_prefix}",
        )
    try:
        return _parsed(yaml.safe_load(text), where)
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        return ProxySettings(), (f"{where} cannot be understood ({error}): the recommended settings are assumed",)


def _parsed(config: dict[str, Any], where: str) -> tuple[ProxySettings, tuple[str, ...]]:
    blocks = [config.get(name) or {} for name in ("linux", "iptables", "nftables")]
    mode = config.get("mode") or "iptables"
    ports, port_notes = _networks(_node_port_cidrs(config), f"nodePortAddresses in {where}")
    cidrs, cidr_notes = _networks((config.get("clusterCIDR") or "").split(","), f"clusterCIDR in {where}")
    listed = _listed(config.get("nodePortAddresses"))
    parsed = ProxySettings(
        mode=mode,
        detect_local_mode=config.get("detectLocalMode") or "ClusterCIDR",
        interface_prefix=(config.get("detectLocal") or {}).get("interfaceNamePrefix") or "",
        cluster_cidrs=cidrs,
        masquerade_all=any(block.get("masqueradeAll") is True for block in blocks),
        node_port_cidrs=ports,
        node_port_primary=PRIMARY in listed or (mode == "nftables" and not ports),
    )
    return parsed, (*port_notes, *cidr_notes)


def _listed(value: Any) -> list[str]:
    """A list of texts; a single text stands for a list of one."""
    return [value] if isinstance(value, str) else [str(each) for each in value or ()]


def _node_port_cidrs(config: dict[str, Any]) -> Iterator[str]:
    for text in _listed(config.get("nodePortAddresses")):
        yield from () if text == PRIMARY else WORDS.get(text, (text,))


def _networks(texts: Iterable[str], where: str) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """The networks, and a note of each text that is none."""
    found, notes = list[Network](), list[str]()
    for text in filter(None, (each.strip() for each in texts)):
        try:
            found.append(ip_network(text, strict=False))
        except ValueError as error:
            notes.append(f"{where} has an entry that cannot be understood, and is left out: {error}")
    return tuple(found), tuple(notes)
