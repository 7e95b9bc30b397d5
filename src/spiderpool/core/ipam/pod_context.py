"""What decides about the addresses of a pod: settings, its networks, its labels and annotations, its owners."""

from __future__ import annotations

from dataclasses import dataclass, field

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import IPOwner
from spiderpool.api.subnet import SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.core.annotations import Annotations, Names
from spiderpool.core.ipam.owners import Controller, is_migration_target, sticky_owner
from spiderpool.core.labels import Labels


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The settings that decide which sources and families count."""

    families: tuple[int, ...] = (4,)
    """Enabled address families, 4 and 6."""
    subnets: bool = True
    """Whether SpiderSubnets are enabled."""
    automatic: bool = True
    """Whether pools are made automatically for applications."""
    namespace: str = "kube-system"
    """The agent's own Namespace: that of networks which a pool's ``multusName`` names without one."""
    statefulsets: bool = True
    """Whether pods of StatefulSets keep their addresses."""
    machines: bool = True
    """Whether virtual machines keep their addresses."""

    def sticky_owner(self, pod: Pod) -> IPOwner | None:
        """The owner that keeps the pod's addresses; None when they go with the pod."""
        return sticky_owner(pod, statefulsets=self.statefulsets, machines=self.machines)


@dataclass(frozen=True, slots=True)
class InterfaceNetworks:
    """The network of each interface of a pod, in the order of its annotations, the first interface first."""

    names: tuple[tuple[str, str | None], ...]
    """(interface, ``namespace/name`` of its network or None when it is not known)."""

    def network(self, interface: str) -> str | None:
        """``namespace/name`` of the interface's network, by its first mention; None when it is not known."""
        return next((network for name, network in self.names if name == interface), None)

    def position(self, interface: str) -> int | None:
        """0 for the first interface, 1 for the next, ...; None for an interface that no annotation names."""
        names = [name for name, _ in self.names]
        return names.index(interface) if interface in names else None


@dataclass(frozen=True, slots=True)
class InterfaceRequest:
    """An interface that needs addresses, by the ``ipam`` block of its network."""

    interface: str
    config: IPAMConfig
    ips: tuple[str, ...] = ()
    """Addresses that the pod asks for, without prefix lengths; at most one per family."""

    @property
    def pools(self) -> Names:
        """Pools that the network's configuration names, by family."""
        named = {4: self.config.default_ipv4_ippool, 6: self.config.default_ipv6_ippool}
        return {version: tuple(names) for version, names in named.items() if names}


@dataclass(frozen=True, slots=True)
class PodContext:
    """What is known of a pod when it asks for addresses: identity, labels, annotations, networks, owners."""

    namespace: str
    name: str
    uid: str
    """UID by which the container runtime knows the pod: that of a static pod outlives its mirrors."""
    node: str
    networks: InterfaceNetworks
    holding: tuple[str, ...] = ()
    """Interfaces that hold addresses already, in the order in which they got them."""
    annotations: Annotations = field(default_factory=dict)
    namespace_annotations: Annotations = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)
    node_enis: frozenset[str] = frozenset()
    """The ENIs that the node reports."""
    owner: IPOwner | None = None
    """The StatefulSet or virtual machine that keeps the addresses."""
    migrating: bool = False
    """Whether a machine that runs in another pod is to move to this one."""
    needs_controller: bool = False
    """Whether the pod asks for a pool cut from a SpiderSubnet, so that its top controller must be known."""
    controller: Controller | None = None
    """The top controller, where it is needed."""


@dataclass(frozen=True, slots=True)
class PodSurroundings:
    """The objects around a pod that have a say in its addresses."""

    node_name: str
    node: Node | None
    namespace: Namespace | None
    holding: tuple[str, ...]
    """Interfaces of the pod that hold addresses already, in the order in which they got them."""
    uid: str
    """UID by which the container runtime knows the pod."""
    node_enis: frozenset[str] = frozenset()
    """The ENIs that the node reports."""


def pod_context(pod: Pod, networks: InterfaceNetworks, around: PodSurroundings, policy: AddressPolicy) -> PodContext:
    """What is known of a pod, but for its top controller, which has to be read from the API server."""
    annotations = pod.metadata.annotations or {}
    namespace, node = around.namespace, around.node
    return PodContext(
        namespace=pod.metadata.namespace or "",
        name=pod.name,
        uid=around.uid,
        node=around.node_name,
        networks=networks,
        holding=around.holding,
        annotations=annotations,
        namespace_annotations=(namespace.metadata.annotations if namespace else None) or {},
        labels=pod.metadata.labels or {},
        namespace_labels=(namespace.metadata.labels if namespace else None) or {},
        node_labels=(node.metadata.labels if node else None) or {},
        node_enis=around.node_enis,
        owner=policy.sticky_owner(pod),
        migrating=is_migration_target(pod),
        needs_controller=policy.subnets and (SUBNETS_ANNOTATION in annotations or SUBNET_ANNOTATION in annotations),
    )
