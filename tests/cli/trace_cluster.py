"""A cluster for traces: two servers with two ENIs each, pods on them, Services; as values, without an API server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from spiderpool.api.coordinator import SYNCED, ClusterCoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.core_v1 import (
    Namespace,
    Node,
    NodeAddress,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
)
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cli.policies import AgentPolicies, NodePolicy, PolicyOptions
from spiderpool.cli.trace.answer import ConnectionTrace
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.cli.trace.question import TraceOptions, TraceQuestion
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.core.network.service_proxy import ProxySettings

SUBNETS = {"eth0": "172.31.192.0/20", "eth1": "192.168.0.0/24", "eth0-v6": "fd00:1::/64"}
GATEWAYS = {"eth0": "172.31.207.253", "eth1": "192.168.0.253", "eth0-v6": "fd00:1::fffd"}
NODES = {
    "n1": {"eth0": "172.31.199.1", "eth1": "192.168.0.1", "eth0-v6": "fd00:1::1"},
    "n2": {"eth0": "172.31.199.2", "eth1": "192.168.0.2", "eth0-v6": "fd00:1::2"},
}
PODS = {
    "web": ("n1", {"eth0": ["172.31.199.11"]}),
    "near": ("n1", {"eth0": ["172.31.199.12"]}),
    "far": ("n2", {"eth0": ["172.31.199.21"]}),
    "two": ("n1", {"eth0": ["172.31.199.13"], "net1": ["192.168.0.13"]}),
    "two-far": ("n2", {"eth0": ["172.31.199.23"], "net1": ["192.168.0.23"]}),
    "second": ("n1", {"eth0": ["192.168.0.14"]}),
    "six": ("n1", {"eth0": ["fd00:1::16"]}),
    "dual": ("n2", {"eth0": ["172.31.199.27", "fd00:1::27"]}),
    "host": ("n2", {}),
    "pending": ("n1", {"eth0": ["172.31.199.15"]}),
}
SERVICE_IP = "10.233.0.10"
BALANCER = "198.51.100.65"


def nad(name: str, master: str, *, coordinated: bool = True, **keys: Any) -> NetworkAttachmentDefinition:
    plugins = [{"type": "ipvlan", "master": master, "ipam": {"type": "spiderpool"}, **keys}]
    plugins += [{"type": "coordinator"}] if coordinated else []
    config = json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": plugins})
    return NetworkAttachmentDefinition(
        metadata=ObjectMeta(name=name, namespace="kube-system"), spec=NADSpec(config=config)
    )


NETWORKS = (nad("eth0", "eth0"), nad("eth1", "eth1"), nad("bare", "eth0", coordinated=False))


def pool(name: str, nic: str, *, gateway: bool = True) -> SpiderIPPool:
    subnet = SUBNETS[nic]
    net = ip_network(subnet)
    ips = {"eth0": ["172.31.199.10-172.31.199.99"], "eth1": ["192.168.0.10-192.168.0.99"]}.get(
        nic, ["fd00:1::10-fd00:1::99"]
    )
    spec = IPPoolSpec(subnet, net.version, ips, default=True, gateway=GATEWAYS[nic] if gateway else None)
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=spec)


def node(name: str) -> Node:
    own = NODES[name]
    addresses = [NodeAddress("InternalIP", own["eth0"]), NodeAddress("InternalIP", own["eth0-v6"])]
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}"),
        spec=NodeSpec(providerID=f"cn-hangzhou.i-{name}"),
        status=NodeStatus([NodeCondition("Ready", "True")], addresses),
    )


def server(name: str, without: str = "") -> SpiderServer:
    """The server of a node; ``without`` is an address that its ENI does not have."""
    addresses = [address for on, held in PODS.values() if on == name for each in held.values() for address in each]
    enis = []
    for device in ("eth0", "eth1"):
        subnet = ip_network(SUBNETS[device])
        mine = [one for one in addresses if ip_address(one) in subnet and one != without]
        six = [one for one in addresses if ":" in one and device == "eth0"]
        own = NODES[name][device]
        block6 = SUBNETS["eth0-v6"] if device == "eth0" else None
        eni = ENI(
            identity=f"eni-{name}-{device}",
            mac="00:16:3e:00:00:01",
            primary=device == "eth0",
            primary_address=own,
            addresses=tuple(mine),
            ipv6_addresses=tuple(six),
            vswitch=f"vsw-{device}",
            subnet=SUBNETS[device],
            subnet6=block6,
            gateway=GATEWAYS[device],
            gateway6=GATEWAYS["eth0-v6"] if block6 else None,
            device=device,
        )
        enis.append(eni)
    instance = Instance(
        provider="alibaba", region="cn-hangzhou", zone="a", identity=f"i-{name}", instance_type="t", enis=tuple(enis)
    )
    return SpiderServer.of(node(name), instance)


def pod(name: str, *, annotations: Mapping[str, str] | None = None) -> Pod:
    on, held = PODS[name]
    ips = [PodIP(address) for address in held.get("eth0", ())] or [PodIP(NODES[on]["eth0"])]
    networks = {"k8s.v1.cni.cncf.io/networks": "kube-system/eth1"} if "net1" in held else {}
    if name == "second":
        networks = {"v1.multus-cni.io/default-network": "kube-system/eth1"}
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="shop",
            uid=f"uid-{name}",
            labels={"app": name},
            annotations={**networks, **(annotations or {})} or None,
        ),
        spec=PodSpec(nodeName=on, hostNetwork=True if name == "host" else None),
        status=PodStatus(phase="Pending" if name == "pending" else "Running", podIPs=ips),
    )


def records() -> Iterable[SpiderIP]:
    for name, (on, held) in PODS.items():
        for interface, addresses in held.items():
            for address in addresses:
                nic = next(nic for nic, subnet in SUBNETS.items() if ip_address(address) in ip_network(subnet))
                length = ip_network(SUBNETS[nic]).prefixlen
                spec = IPSpec(f"{address}/{length}", nic, on, "shop", name, f"uid-{name}", interface)
                yield SpiderIP(metadata=ObjectMeta(name=object_name(address)), spec=spec)


def service(name: str = "api", **spec: Any) -> Service:
    fields = {
        "type": "ClusterIP",
        "clusterIP": SERVICE_IP,
        "clusterIPs": [SERVICE_IP],
        "ipFamilies": ["IPv4"],
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
        **spec,
    }
    text = {"metadata": {"name": name, "namespace": "shop"}, "spec": fields}
    if fields["type"] == "LoadBalancer":
        text["status"] = {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}
    return msgspec.convert(text, Service)


def endpoints(*names: str, ready: bool = True) -> EndpointSlice:
    found = []
    for name in names:
        on, held = PODS[name]
        address = next((one for one in held.get("eth0", ()) if ip_address(one).version == 4), NODES[on]["eth0"])
        target = {"kind": "Pod", "namespace": "shop", "name": name}
        found.append({"addresses": [address], "nodeName": on, "targetRef": target, "conditions": {"ready": ready}})
    text = {
        "metadata": {"name": "api-1", "namespace": "shop", "labels": {SERVICE_LABEL: "api"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": found,
    }
    return msgspec.convert(text, EndpointSlice)


def coordinator(*service_addresses: str) -> SpiderCoordinator:
    status = CoordinatorStatus(
        SYNCED, overlayPodCIDR=[], serviceCIDR=["10.233.0.0/18", "fd00:10::/108"], serviceAddresses=[*service_addresses]
    )
    return SpiderCoordinator(metadata=ObjectMeta(name="default"), spec=ClusterCoordinatorSpec(), status=status)


POLICIES = AgentPolicies(
    AttachmentPolicy("kube-system/eth0", "kube-system"),
    AddressPolicy((4, 6), namespace="kube-system"),
    nodes=NodePolicy(provider="alibaba"),
)


def cluster(*objects: Object, **changes: Any) -> ClusterObjects:
    """The cluster, with some objects in the place of those of their names, and Services and slices beside it."""
    known: list[Object] = [
        *map(node, NODES),
        *map(server, NODES),
        *map(pod, PODS),
        *records(),
        *NETWORKS,
        *(pool(nic, nic) for nic in SUBNETS),
        Namespace(metadata=ObjectMeta(name="shop")),
        coordinator(),
    ]
    by_key = {(type(each), each.key): each for each in (*known, *objects)}

    def of(kind: type[Any]) -> dict[str, Any]:
        return {key: each for (found, key), each in by_key.items() if found is kind}

    fields: dict[str, Any] = {
        "policies": POLICIES,
        "proxy": ProxySettings(),
        "pods": of(Pod),
        "nodes": of(Node),
        "records": tuple(of(SpiderIP).values()),
        "pools": of(SpiderIPPool),
        "networks": of(NetworkAttachmentDefinition),
        "namespaces": of(Namespace),
        "servers": of(SpiderServer),
        "accounts": {},
        "coordinator": of(SpiderCoordinator)["default"],
        "services": of(Service),
        "slices": tuple(of(EndpointSlice).values()),
    }
    return ClusterObjects(**{**fields, **changes})


def traced(objects: ClusterObjects, *words: str, protocol: str = "TCP", **options: Any) -> ConnectionTrace:
    """What the command finds."""
    chosen = TraceOptions(
        options.get("node", ""), options.get("outside", False), protocol, "shop", PolicyOptions("kube-system")
    )
    return TraceQuestion.of(words, chosen).decide(objects, "shop")


def places(trace: ConnectionTrace, path: int = 0) -> list[str]:
    """The places that a packet passes."""
    return [hop.place for hop in trace.paths[path].hops]


def address(name: str, interface: str = "eth0", place: int = 0) -> str:
    """An address of a pod."""
    return PODS[name][1][interface][place]


def link(trace: ConnectionTrace) -> str:
    """The interface by which the client's packet leaves the first place."""
    return trace.paths[0].hops[0].interface


def seen(trace: ConnectionTrace) -> list[str]:
    """Whom servers see, one for each way."""
    return [path.seen_as for path in trace.paths]


def api(*names: str, **spec: Any) -> tuple[Service, EndpointSlice]:
    """The Service with these pods."""
    return service(**spec), endpoints(*names)
