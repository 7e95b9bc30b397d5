"""How a pod is attached: from its annotations and networks to one plan per interface, and to the kernel's input.

`plan_pod` runs before addresses are allocated, `kernel_attachment` after. Both are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

import msgspec

from spiderpool.api.cni import PORT_MAPPINGS, PortMapping
from spiderpool.api.cni_result import Result, ResultInterface, ResultIP
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.pod_context import InterfaceNetworks, InterfaceRequest
from spiderpool.core.network import chains, coordinator, pod_networks
from spiderpool.core.network.chains import Chain, DelegatedNetwork
from spiderpool.core.network.plumbing.values import Attachment, default_destination
from spiderpool.core.network.pod_networks import RequestedNetwork


@dataclass(frozen=True, slots=True)
class AttachmentPolicy:
    """The settings that decide which networks a pod may use."""

    default_network: str | None
    """Network of the first interface of pods that name none."""
    namespace: str
    """The agent's own Namespace: that of a pod's first network, where annotation or settings name it without one."""
    isolated: bool = False
    """Whether a pod may only use networks of its own Namespace and of the shared ones."""
    shared_namespaces: tuple[str, ...] = ("default",)

    @property
    def cluster_network(self) -> str | None:
        """``namespace/name`` of the network of the first interface of pods that name none, which all pods may use."""
        return pod_networks.qualified(self.default_network, self.namespace) if self.default_network else None


@dataclass(frozen=True, slots=True)
class InterfacePlan:
    """One interface of a pod: its network and how that is attached."""

    request: RequestedNetwork
    chain: Chain | DelegatedNetwork
    default_route_network: RequestedNetwork | None
    """The network that the pod chose for its default route, the same in all its plans; None when it chose none."""

    @property
    def interface(self) -> str:
        """Name of the interface in the pod."""
        return self.request.interface

    @property
    def address_request(self) -> InterfaceRequest | None:
        """What the interface needs of IPAM; None when its network has no ``ipam`` or is executed by plugins."""
        if isinstance(self.chain, Chain) and self.chain.ipam is not None:
            return InterfaceRequest(self.interface, self.chain.ipam, self.request.ips)
        return None


@dataclass(frozen=True, slots=True)
class PodAttachment:
    """All interfaces of a pod, the first one first, before anything is allocated or created."""

    pod: Pod
    interfaces: tuple[InterfacePlan, ...]
    networks: InterfaceNetworks
    """The network of each interface."""
    address_requests: tuple[InterfaceRequest, ...]
    """What its interfaces need of IPAM."""
    ports: tuple[PortMapping, ...] = ()
    """The ports of the node that the agent is to lead to the pod."""
    port_faults: tuple[str, ...] = ()
    """A sentence for each requested port of the node that cannot lead to the pod."""

    @property
    def first_interface(self) -> str:
        """Name of the pod's first interface."""
        return self.interfaces[0].interface


def plan_pod(
    pod: Pod,
    first_interface: str,
    policy: AttachmentPolicy,
    definition: Callable[[str], NetworkAttachmentDefinition | None],
) -> PodAttachment:
    """The plan of a pod whose first interface has the name CNI_IFNAME.

    ``definition`` looks up a NetworkAttachmentDefinition by ``namespace/name``. Raises BadConfig for annotations or
    networks that are wrong, Refused for a network that does not exist yet or may not be used.
    """
    annotations, namespace = pod.metadata.annotations or {}, pod.metadata.namespace or ""
    networks = pod_networks.networks_of(
        annotations, namespace, policy.default_network, policy.namespace, first_interface
    )
    chosen = networks[1:] if networks[0].network == policy.cluster_network else networks
    pod_networks.check_isolation(namespace, chosen, policy.isolated, policy.shared_namespaces)
    with_default = pod_networks.default_route_of(networks)
    plans = tuple(
        InterfacePlan(network, chains.read_network(network.network, definition(network.network)), with_default)
        for network in networks
    )
    names = InterfaceNetworks(tuple((network.interface, network.network) for network in networks))
    requests = (plan.address_request for plan in plans)
    return PodAttachment(pod, plans, names, tuple(request for request in requests if request is not None))


def with_ports(
    attachment: PodAttachment, ports: tuple[PortMapping, ...], spider_coordinator: SpiderCoordinator | None
) -> PodAttachment:
    """The plan of a pod that also requests ports of the node; they lead to its first interface.

    The plugins of an executed network get them if one declares the capability. Raises BadConfig, or NotReady while the
    SpiderCoordinator lacks the cluster's CIDRs.
    """
    first, *others = attachment.interfaces
    match first.chain:
        case _ if not ports:
            return attachment
        case DelegatedNetwork() if first.chain.declares(PORT_MAPPINGS):
            capabilities = {**first.request.capabilities, PORT_MAPPINGS: msgspec.to_builtins(ports)}
            request = replace(first.request, capabilities=capabilities)
            return replace(attachment, interfaces=(replace(first, request=request), *others))
        case Chain() if coordinator.coordination(first.chain.coordinator, spider_coordinator) is None:
            remedy = f"network {first.request.network} gives it no path to its node; add the coordinator to it"
            faults = (f"hostPort {port.hostPort}/{port.protocol} does not lead to the pod: {remedy}" for port in ports)
            return replace(attachment, port_faults=tuple(faults))
        case _:
            return replace(attachment, ports=ports)


@dataclass(frozen=True, slots=True)
class SandboxTarget:
    """The pod sandbox that interfaces are created in: CNI_CONTAINERID and CNI_NETNS."""

    container_id: str
    netns: str


def kernel_attachment(
    target: SandboxTarget,
    attachment: PodAttachment,
    plan: InterfacePlan,
    grants: Sequence[Grant],
    spider_coordinator: SpiderCoordinator | None,
) -> Attachment:
    """The kernel's input for an interface that the agent attaches itself.

    Raises BadConfig for requests that only executed plugins can serve, NotReady while the SpiderCoordinator lacks
    the cluster's CIDRs.
    """
    chain = plan.chain
    assert isinstance(chain, Chain)
    pod_networks.check_supported(plan.request)
    return Attachment(
        container_id=target.container_id,
        netns=target.netns,
        ifname=plan.interface,
        kind=chain.kind,
        master=chain.master,
        mode=chain.interface.mode,
        mtu=chain.interface.mtu,
        addresses=tuple(ip_interface(grant.address) for grant in grants),
        gateways=tuple(map(ip_address, _gateways(plan, grants))),
        routes=tuple((ip_network(dst, strict=False), ip_address(gw)) for grant in grants for dst, gw in grant.routes),
        coordination=coordinator.coordination(
            chain.coordinator if grants else None,  # without an address there is no traffic to coordinate
            spider_coordinator,
            first_nic=attachment.first_interface,
            default_route_nic=_default_route_nic(attachment, plan),
        ),
        mac=plan.request.mac or chain.interface.mac,
        vlan_id=chain.interface.vlanId,
    )


def cni_result(attachment: Attachment, grants: Iterable[Grant], interface: ResultInterface, chain: Chain) -> Result:
    """The CNI result of an interface that the agent created for a network."""
    defaults = ((default_destination(gateway.version), gateway) for gateway in attachment.gateways)
    return Result(
        ips=tuple(ResultIP(grant.address, grant.gateway, 0) for grant in grants),
        routes=tuple((str(dst), str(gw)) for dst, gw in (*defaults, *attachment.routes)),
        interfaces=(interface,),
        dns=chain.interface.dns or {},
    )


def _default_route_nic(attachment: PodAttachment, plan: InterfacePlan) -> str:
    """The interface of the pod's default route: by ``default-route``, else by its annotation; empty: neither."""
    if plan.default_route_network:
        return plan.default_route_network.interface
    return coordinator.requested_default_route(attachment.pod.metadata.annotations or {})


def _gateways(plan: InterfacePlan, grants: Iterable[Grant]) -> tuple[str, ...]:
    given = tuple(grant.gateway for grant in grants if grant.gateway)
    return pod_networks.gateways_of(plan.request, plan.default_route_network, given)
