"""What Spiderpool v1.2.2, in Go, leaves in a cluster: its pools with records, its SpiderEndpoints, and pods.

Written by its rules (formats, finalizers, owners, names of virtual machines), since its programs cannot be run here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from spiderpool.api.applications import StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import ContainerState, ContainerStatus, Pod, PodIP, PodSpec, PodStatus
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core.ipam.migration import GoState

FINALIZER = "spiderpool.spidernet.io"
REPLICA_SET = OwnerReference("apps/v1", "ReplicaSet", "web-7d4b9", "rs-1", True, True)
STATEFUL_SET = OwnerReference("apps/v1", "StatefulSet", "db", "sts-1", True, True)
MACHINE = OwnerReference("kubevirt.io/v1", "VirtualMachineInstance", "vm", "vmi-1", True, True)

Addresses = Mapping[str, Mapping[str, str]]
"""Interface → pool → address."""


@dataclass
class GoCluster:
    """Add pools first, then pods with the addresses that they hold."""

    pools: dict[str, SpiderIPPool] = field(default_factory=dict)
    endpoints: list[SpiderEndpoint] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    statefulsets: list[StatefulSet] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Pool → address → record."""

    def pool(self, name: str, subnet: str, *ips: str, **spec: Any) -> SpiderIPPool:
        """A pool without records."""
        version = ip_network(subnet).version
        labels = {"ipam.spidernet.io/ippool-cidr": subnet.translate(str.maketrans("./:", "---"))}
        made = SpiderIPPool(
            metadata=ObjectMeta(name=name, uid=f"uid-of-{name}", labels=labels, finalizers=[FINALIZER]),
            spec=IPPoolSpec(subnet, version, list(ips), default=False, disable=False, **spec),
            status=IPPoolStatus(totalIPCount=0, allocatedIPCount=0),
        )
        self.pools[name] = made
        self.records[name] = {}
        return made

    def pod(self, name: str, addresses: Addresses, owner: OwnerReference = REPLICA_SET, **facts: Any) -> Pod:
        """A running pod of Namespace shop that holds addresses, with all that the agent writes for it."""
        made = pod(name, addresses, owner, **facts)
        self.pods.append(made)
        self.record(made, addresses)
        self.endpoint(made, addresses)
        return made

    def record(self, pod: Pod, addresses: Addresses) -> None:
        """Write the records of a pod into the pools."""
        for pools in addresses.values():
            for pool, address in pools.items():
                key = f"{pod.metadata.namespace}/{static_name(pod)}"
                self.records[pool][address] = {"pod": key, "podUid": pod.metadata.uid}

    def endpoint(self, pod: Pod, addresses: Addresses) -> SpiderEndpoint:
        """Write the SpiderEndpoint of a pod."""
        owner = pod.controller
        kind, name = (owner.kind, owner.name) if owner else ("Pod", pod.name)
        if kind == "ReplicaSet":
            kind, name = "Deployment", "web"
        fixed = kind in ("StatefulSet", "VirtualMachineInstance")
        made = SpiderEndpoint(
            metadata=ObjectMeta(
                name=static_name(pod),
                namespace=pod.metadata.namespace,
                finalizers=[FINALIZER],
                ownerReferences=None if fixed else [pod.as_owner()],
            ),
            status=EndpointStatus(
                CurrentDetail(
                    uid=pod.metadata.uid or "",
                    node=pod.spec.nodeName or "",
                    ips=[self._detail(interface, pools) for interface, pools in addresses.items()],
                ),
                ownerControllerType=kind,
                ownerControllerName=name,
            ),
        )
        self.endpoints.append(made)
        return made

    def statefulset(self, name: str, replicas: int) -> StatefulSet:
        """A StatefulSet of Namespace shop."""
        made = StatefulSet(metadata=ObjectMeta(name=name, namespace="shop"), spec=WorkloadSpec(replicas=replicas))
        self.statefulsets.append(made)
        return made

    def write(self) -> None:
        """Write the records into the pools' status, as the agent's encoder does."""
        for name, records in self.records.items():
            status = self.pools[name].status
            assert status is not None
            status.allocatedIPs = text(records) if records else None
            status.allocatedIPCount = len(records)

    def state(self, **facts: Any) -> GoState:
        """What is read of the cluster."""
        self.write()
        return GoState(
            tuple(self.pools.values()),
            tuple(self.endpoints),
            tuple(self.pods),
            statefulsets={each.key: each for each in self.statefulsets},
            **facts,
        )

    def _detail(self, interface: str, pools: Mapping[str, str]) -> InterfaceDetail:
        detail: dict[str, Any] = {}
        for name, address in pools.items():
            pool = self.pools[name]
            family = f"ipv{pool.spec.ipVersion}"
            detail |= {family: f"{address}/{ip_network(pool.spec.subnet).prefixlen}", f"{family}Pool": name}
            if pool.spec.gateway:
                detail[f"{family}Gateway"] = pool.spec.gateway
        return InterfaceDetail(interface, vlan=0, **detail)


def text(records: Mapping[str, Any]) -> str:
    """``status.allocatedIPs`` as Go encodes a map: compact, keys in the order of their bytes."""
    return json.dumps(dict(sorted(records.items())), separators=(",", ":"))


def static_name(pod: Pod) -> str:
    """The name by which the agent keeps the records of a pod: that of its virtual machine."""
    owner = pod.controller
    return owner.name if owner and owner.kind == MACHINE.kind else pod.name


def pod(
    name: str, addresses: Addresses, owner: OwnerReference | None = REPLICA_SET, *, node: str = "n1", **facts: Any
) -> Pod:
    """A pod of Namespace shop; its status reports the addresses of eth0, and none once it has finished.

    ``facts`` are its ``uid``, ``phase``, ``annotations``, and whether it is ``deleted``.
    """
    phase = facts.get("phase", "Running")
    running = phase == "Running"
    reported = [PodIP(str(ip_address(each))) for each in addresses.get("eth0", {}).values()] if running else None
    state = ContainerState(running={}) if running else ContainerState()  # type: ignore[arg-type]
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="shop",
            uid=facts.get("uid") or f"uid-of-{name}",
            ownerReferences=[owner] if owner else None,
            deletionTimestamp="2026-01-01T00:00:00Z" if facts.get("deleted") else None,
            annotations=facts.get("annotations"),
        ),
        spec=PodSpec(nodeName=node),
        status=PodStatus(phase=phase, podIPs=reported, containerStatuses=[ContainerStatus(state)]),
    )
