"""What the manifests of examples/ lead to: tables that a reader can compare with the comments in the manifests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

PREFIX = "ipam.spidernet.io"


@dataclass(frozen=True)
class ExpectedInterface:
    """Addresses and routes that an interface of a pod gets: one address of a range, or a fixed one, from each pool."""

    pod: str
    pools: dict[str, str]  # name of the pool → range of addresses, or one address
    routes: tuple[str, ...] = ()
    interface: str = "eth0"
    network: str | None = None
    """The network whose CNI configuration is used, where it matters."""


V4, V6 = "0.0.0.0/0", "::/0"

EXPECTED_INTERFACES: dict[str, tuple[ExpectedInterface, ...]] = {
    "pools/ipv4.yaml": (
        ExpectedInterface("default/pools-ipv4", {"ipv4": "10.10.0.10-10.10.0.120"}, (f"{V4} 10.10.0.1",)),
    ),
    "pools/ipv6.yaml": (
        ExpectedInterface("default/pools-ipv6", {"ipv6": "fd00:10::10-fd00:10::ff"}, (f"{V6} fd00:10::1",)),
    ),
    "pools/dual-stack.yaml": (
        ExpectedInterface(
            "default/pools-dual-stack",
            {"dual-v4": "10.11.0.10-10.11.0.99", "dual-v6": "fd00:11::10"},
            (f"{V4} 10.11.0.1", f"{V6} fd00:11::1"),
        ),
    ),
    "pools/pattern.yaml": (ExpectedInterface("default/pools-pattern", {"rack-2": "10.13.0.20"}),),
    "namespace-affinity/by-name.yaml": (
        ExpectedInterface("accounting/ledger", {"accounting": "10.22.0.10-10.22.0.19"}),
    ),
    "namespace-affinity/by-label.yaml": (ExpectedInterface("payments/till", {"bank": "10.23.0.10-10.23.0.19"}),),
    "pod-affinity/pool.yaml": (ExpectedInterface("default/pod-affinity", {"front-end": "10.24.0.10-10.24.0.19"}),),
    "network-affinity/pools.yaml": (
        ExpectedInterface("default/network-affinity", {"card-0": "10.25.0.10-10.25.0.19"}, (f"{V4} 10.25.0.1",)),
        ExpectedInterface(
            "default/network-affinity", {"card-1": "10.25.1.10-10.25.1.19"}, (f"{V4} 10.25.1.1",), "net1"
        ),
    ),
    "namespace-defaults/namespace.yaml": (
        ExpectedInterface(
            "shop/basket",
            {"shop-v4": "10.26.0.10-10.26.0.19", "shop-v6": "fd00:26::10-fd00:26::1f"},
            (f"{V4} 10.26.0.1", f"{V6} fd00:26::1"),
        ),
    ),
    "network-defaults/network.yaml": (
        ExpectedInterface(
            "default/network-defaults",
            {"backbone": "10.27.0.10-10.27.0.19"},
            (f"{V4} 10.27.0.1",),
            network="kube-system/backbone",
        ),
    ),
    "routes/pool.yaml": (
        ExpectedInterface(
            "default/routes-of-pool",
            {"two-routers": "10.30.0.10-10.30.0.19"},
            (f"{V4} 10.30.0.1", "10.200.0.0/16 10.30.0.2"),
        ),
    ),
    "routes/pod.yaml": (
        ExpectedInterface(
            "default/routes-of-pod",
            {"routed-v4": "10.31.0.10-10.31.0.19", "routed-v6": "fd00:31::10-fd00:31::1f"},
            (f"{V4} 10.31.0.1", "10.201.0.0/16 10.31.0.2", f"{V6} fd00:31::1", "fd00:201::/32 fd00:31::2"),
        ),
    ),
    "reserved-addresses/reserved.yaml": (
        ExpectedInterface("default/reserved-addresses", {"among-routers": "10.32.0.11"}),
    ),
    "several-interfaces/named.yaml": (
        ExpectedInterface("default/interfaces-named", {"front": "10.40.0.10-10.40.0.19"}, (f"{V4} 10.40.0.1",)),
        ExpectedInterface(
            "default/interfaces-named",
            {"back": "10.41.0.10-10.41.0.19", "back-v6": "fd00:41::10-fd00:41::1f"},
            interface="net1",
        ),
    ),
    "several-interfaces/unnamed.yaml": (
        ExpectedInterface("default/interfaces-unnamed", {"front": "10.40.0.10-10.40.0.19"}, (f"{V4} 10.40.0.1",)),
        ExpectedInterface(
            "default/interfaces-unnamed", {"back": "10.41.0.10-10.41.0.19"}, (f"{V4} 10.41.0.1",), "storage"
        ),
    ),
    "alibaba-cloud/proofs/macvlan.yaml": (
        ExpectedInterface("default/macvlan", {"macvlan": "192.168.0.200"}, (f"{V4} 192.168.0.253",)),
    ),
    "alibaba-cloud/proofs/unregistered.yaml": (
        ExpectedInterface(
            "default/unregistered",
            {"unregistered": "172.31.199.220", "unregistered-v6": "2001:db8:0:100::220"},
            (f"{V4} 172.31.207.253", f"{V6} 2001:db8:0:100:ffff:ffff:ffff:fffd"),
        ),
    ),
    "network-injection/pod.yaml": (
        ExpectedInterface("default/trainer", {"rail-1": "10.71.0.10-10.71.0.19"}, (), "net1", "kube-system/rail-1"),
        ExpectedInterface("default/trainer", {"rail-2": "10.72.0.10-10.72.0.19"}, (), "net2", "kube-system/rail-2"),
    ),
}
"""Example file with single pods → what the interfaces of its pods get."""

USED_BY = {
    "several-interfaces/pools.yaml": "several-interfaces/named.yaml",
    "network-injection/pools.yaml": "network-injection/pod.yaml",
    "network-injection/networks.yaml": "network-injection/pod.yaml",
}
"""Example file without pods → example file whose pods use its objects."""


@dataclass(frozen=True)
class RefusedPod:
    """A pod from an example with changes, and the reason why it gets no address."""

    kind: str
    reason: str
    namespace: str = "default"
    node: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    allocated_first: str = ""
    """Field selector of pods that must get their addresses first."""
    interface: str = "eth0"


def pool_annotation(**names: list[str]) -> dict[str, Any]:
    """Metadata of a pod that names its pools by an annotation."""
    return {"annotations": {f"{PREFIX}/ippool": json.dumps(names)}}


REFUSED_PODS: dict[str, RefusedPod] = {
    "pools/dual-stack.yaml": RefusedPod(
        "Pod", "dual-v6: 1 of 1 addresses in use", allocated_first="metadata.name=pools-dual-stack"
    ),
    "pools/pattern.yaml": RefusedPod("Pod", "rack-1: is disabled", metadata=pool_annotation(ipv4=["rack-1"])),
    "node-affinity/by-name.yaml": RefusedPod(
        "DaemonSet",
        "node-worker: no IPv4 pool of that name that node master may use",
        node="master",
        metadata=pool_annotation(ipv4=["node-worker"]) | {"labels": {}},
    ),
    "node-affinity/by-label.yaml": RefusedPod(
        "DaemonSet",
        "zone-b: its nodeAffinity does not match the labels of the node",
        node="master",
        metadata=pool_annotation(ipv4=["zone-b"]) | {"labels": {}},
    ),
    "namespace-affinity/by-name.yaml": RefusedPod(
        "Pod", "accounting: is for namespace accounting, not payments", "payments"
    ),
    "namespace-affinity/by-label.yaml": RefusedPod(
        "Pod", "bank: its namespaceAffinity does not match the labels of the namespace", "accounting"
    ),
    "pod-affinity/pool.yaml": RefusedPod(
        "Pod", "front-end: its podAffinity does not match the labels of the pod", metadata={"labels": {"tier": "back"}}
    ),
    "network-affinity/pools.yaml": RefusedPod(
        "Pod",
        "card-1: is for network kube-system/ipvlan-eth1, not kube-system/ipvlan-eth0",
        metadata=pool_annotation(ipv4=["card-1"]),
    ),
    "namespace-defaults/namespace.yaml": RefusedPod(
        "Pod",
        "shop-spare-*: matches no IPv4 pool",
        "shop",
        metadata=pool_annotation(ipv4=["shop-spare-*"]),
    ),
    "reserved-addresses/reserved.yaml": RefusedPod(
        "Pod", "among-routers: 1 of 1 addresses in use", allocated_first="metadata.name=reserved-addresses"
    ),
    "several-interfaces/named.yaml": RefusedPod("Pod", "names pools for eth0, net1, not for net2", interface="net2"),
    "subnet/fixed.yaml": RefusedPod("Deployment", "is for pods of a workload", metadata={"labels": {}}),
    "alibaba-cloud/apps.yaml": RefusedPod(
        "DaemonSet",
        "master-172: is for network kube-system/ipvlan-eth0, not kube-system/ipvlan-eth9",
        node="master",
        metadata={"labels": {}, "annotations": {"v1.multus-cni.io/default-network": "kube-system/ipvlan-eth9"}},
    ),
}


COORDINATOR = {"txQueueLen": 0, "tunePodRoutes": True, "mode": "auto", "type": "coordinator"}
IPAM = {"type": "spiderpool"}

NETWORKS: dict[str, list[dict[str, Any]]] = {
    "ipvlan": [
        {
            "type": "ipvlan",
            "master": "eth0",
            "mtu": 0,
            "ipam": IPAM | {"default_ipv4_ippool": ["ipvlan-*"]},
        },
        COORDINATOR | {"mode": "underlay"},
    ],
    "macvlan": [
        {"type": "macvlan", "master": "eth0", "mode": "bridge", "mtu": 9000, "ipam": IPAM},
        COORDINATOR | {"podMACPrefix": "0a:1b"},
    ],
    "macvlan-vlan": [
        {"vlanID": 100, "type": "ifacer", "interfaces": ["eth0"]},
        {"type": "macvlan", "master": "eth0.100", "mode": "bridge", "mtu": 0, "ipam": IPAM},
        COORDINATOR,
    ],
    "macvlan-bond": [
        {
            "type": "ifacer",
            "interfaces": ["eth1", "eth2"],
            "bond": {"name": "bond0", "mode": 1, "options": "primary=eth1;miimon=100"},
        },
        {"type": "macvlan", "master": "bond0", "mode": "bridge", "mtu": 0, "ipam": IPAM},
        COORDINATOR,
    ],
    "vlan": [
        {"type": "vlan", "master": "eth0", "vlanMode": "manual", "vlanId": 200, "mtu": 0, "ipam": IPAM},
        COORDINATOR,
    ],
    "sriov": [
        {"vlan": 300, "min_tx_rate": 100, "max_tx_rate": 1000, "type": "sriov", "ipam": IPAM},
        {"type": "rdma"},
        COORDINATOR,
    ],
    "ib-sriov": [
        {
            "type": "ib-sriov",
            "pkey": "0x8001",
            "link_state": "enable",
            "rdmaIsolation": True,
            "ibKubernetesEnabled": False,
            "ipam": IPAM,
        },
        COORDINATOR,
    ],
    "ipoib": [{"type": "ipoib", "master": "ib0", "ipam": IPAM}, COORDINATOR],
    "ovs": [
        {"vlan": 0, "type": "ovs", "bridge": "br1", "ipam": IPAM, "trunk": [{"minID": 10, "maxID": 11}, {"id": 20}]},
        COORDINATOR,
    ],
    "chained": [
        {"type": "macvlan", "master": "eth0", "mode": "bridge", "mtu": 0},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "4096"}},
    ],
}
"""File in examples/networks/ → the plugins of its CNI configuration, in order."""

# The defaults are: the name of the file, 0.3.1, and no resource.
NETWORK_NAMES = {"chained": "chained-tuned"}
CNI_VERSIONS = {"chained": "0.4.0"}
RESOURCE_NAMES = {"sriov": "example.com/functions", "ib-sriov": "example.com/ib_functions"}
