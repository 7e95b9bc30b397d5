"""Kinds of Kubernetes' core group (v1), in part.

Since fields that we do not know would be lost, objects of these kinds are patched, never written back whole.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.meta import Kind, Object, Scope


class PodSpec(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 PodSpec, in part."""

    nodeName: str | None = None
    hostNetwork: bool | None = None


class PodIP(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 PodIP."""

    ip: str | None = None


class ContainerStateRunning(msgspec.Struct, gc=False):
    """core/v1 ContainerStateRunning, of which only the presence counts."""


class ContainerState(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 ContainerState, in part: one of running, waiting and terminated is set."""

    running: ContainerStateRunning | None = None


class ContainerStatus(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 ContainerStatus, in part."""

    state: ContainerState = msgspec.field(default_factory=ContainerState)


class PodStatus(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 PodStatus, in part."""

    phase: str | None = None
    podIPs: list[PodIP] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    containerStatuses: list[ContainerStatus] | None = None
    ephemeralContainerStatuses: list[ContainerStatus] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a container of the pod runs, as far as the kubelet has told."""
        kinds = (self.initContainerStatuses, self.containerStatuses, self.ephemeralContainerStatuses)
        return any(container.state.running is not None for kind in kinds for container in kind or ())


class Pod(Object, kw_only=True):
    """core/v1 Pod."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Pod", "pods", Scope.NAMESPACED, status=True)

    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class NodeCondition(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 NodeCondition, in part."""

    type: str
    status: str


class NodeAddress(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 NodeAddress, of type InternalIP, ExternalIP or Hostname among others."""

    type: str
    address: str


class NodeSystemInfo(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 NodeSystemInfo, in part."""

    bootID: str | None = None


class NodeStatus(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 NodeStatus, in part."""

    conditions: list[NodeCondition] | None = None
    addresses: list[NodeAddress] | None = None
    nodeInfo: NodeSystemInfo = msgspec.field(default_factory=NodeSystemInfo)


class Taint(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 Taint."""

    key: str
    value: str | None = None
    effect: str | None = None
    timeAdded: str | None = None


class NodeSpec(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 NodeSpec, in part."""

    providerID: str | None = None
    unschedulable: bool | None = None
    taints: list[Taint] | None = None


class Node(Object, kw_only=True):
    """core/v1 Node."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Node", "nodes", Scope.CLUSTER, status=True)

    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)

    @property
    def ready_status(self) -> str:
        """Status of the condition Ready: ``True``, ``False``, or ``Unknown`` once the kubelet has stopped reporting."""
        conditions = self.status.conditions or []
        return next((each.status for each in conditions if each.type == "Ready"), "False")

    @property
    def ready(self) -> bool:
        """Whether the condition Ready is true."""
        return self.ready_status == "True"

    @property
    def internal_addresses(self) -> tuple[str, ...]:
        """Its addresses of type InternalIP as they are written, in their order; a kubelet may have named anything."""
        return tuple(each.address for each in self.status.addresses or () if each.type == "InternalIP")


class ServicePort(msgspec.Struct, omit_defaults=True):
    """core/v1 ServicePort."""

    port: int
    name: str | None = None
    protocol: str = "TCP"
    targetPort: int | str | None = None
    nodePort: int | None = None


HEADLESS = "None"
"""The ClusterIP of a Service that has none."""


class ClientIPConfig(msgspec.Struct, omit_defaults=True):
    """core/v1 ClientIPConfig."""

    timeoutSeconds: int | None = None
    """How long a client without connections is remembered."""


class SessionAffinityConfig(msgspec.Struct, omit_defaults=True):
    """core/v1 SessionAffinityConfig."""

    clientIP: ClientIPConfig | None = None


class ServiceSpec(msgspec.Struct, omit_defaults=True):
    """core/v1 ServiceSpec, in part."""

    type: str | None = None
    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None
    externalTrafficPolicy: str | None = None
    healthCheckNodePort: int | None = None
    """Where each node answers whether it has ready pods: only with externalTrafficPolicy Local."""
    internalTrafficPolicy: str | None = None
    loadBalancerClass: str | None = None
    ipFamilies: list[str] | None = None
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    externalIPs: list[str] | None = None
    externalName: str | None = None
    """What the name of a Service of type ExternalName stands for in DNS."""
    loadBalancerSourceRanges: list[str] | None = None
    loadBalancerIP: str | None = None
    allocateLoadBalancerNodePorts: bool | None = None
    sessionAffinity: str | None = None
    sessionAffinityConfig: SessionAffinityConfig | None = None
    publishNotReadyAddresses: bool | None = None


class LoadBalancerIngress(msgspec.Struct, omit_defaults=True):
    """core/v1 LoadBalancerIngress, in part."""

    ip: str | None = None
    hostname: str | None = None
    ipMode: str | None = None
    """VIP, the default: the balancer passes packets on with its own address; Proxy: with the node's or the pod's."""


class LoadBalancerStatus(msgspec.Struct, omit_defaults=True):
    """core/v1 LoadBalancerStatus."""

    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(msgspec.Struct, omit_defaults=True):
    """core/v1 ServiceStatus, in part."""

    loadBalancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)


class Service(Object, kw_only=True):
    """core/v1 Service."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Service", "services", Scope.NAMESPACED, status=True)

    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)

    @property
    def cluster_ips(self) -> tuple[str, ...]:
        """Its ClusterIPs, of each family; none of a headless one."""
        texts = self.spec.clusterIPs or [self.spec.clusterIP or HEADLESS]
        return tuple(each for each in texts if each != HEADLESS)


class Namespace(Object, kw_only=True):
    """core/v1 Namespace."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Namespace", "namespaces", Scope.CLUSTER, status=True)


class ConfigMap(Object, kw_only=True):
    """core/v1 ConfigMap."""

    KIND: ClassVar[Kind] = Kind("", "v1", "ConfigMap", "configmaps", Scope.NAMESPACED)

    data: dict[str, str] | None = None


class Secret(Object, kw_only=True):
    """core/v1 Secret."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Secret", "secrets", Scope.NAMESPACED)

    data: dict[str, bytes] | None = None
    type: str | None = None
    immutable: bool | None = None


class ObjectReference(msgspec.Struct, omit_defaults=True):
    """core/v1 ObjectReference."""

    apiVersion: str | None = None
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None


class EventSource(msgspec.Struct, omit_defaults=True):
    """core/v1 EventSource."""

    component: str | None = None
    host: str | None = None


class Event(Object, kw_only=True):
    """core/v1 Event."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Event", "events", Scope.NAMESPACED)

    involvedObject: ObjectReference
    reason: str
    message: str
    type: str
    count: int | None = None
    firstTimestamp: str | None = None
    lastTimestamp: str | None = None
    source: EventSource | None = None


def reference(obj: Object) -> ObjectReference:
    """A reference to an object, as in the ``involvedObject`` of an Event."""
    kind = obj.KIND
    return ObjectReference(kind.api_version, kind.name, obj.metadata.name, obj.metadata.namespace, obj.metadata.uid)
