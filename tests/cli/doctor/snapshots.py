"""Objects of a cluster that `spiderpoolctl doctor` judges, and what it finds in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from spiderpool.api.applications import DaemonSet, WorkloadStatus
from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    Event,
    Node,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
)
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition, NetworkDNS, NetworkStatusEntry
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.cli.doctor.diagnosis import Diagnosis, diagnosis
from spiderpool.cli.doctor.look import ClusterSnapshot
from spiderpool.cli.installation import Installation, WebhookCertificate

HOME = "kube-system"
NOW = datetime.now(UTC)


def written(ago: float = 0) -> str:
    return (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def lease() -> Lease:
    metadata = ObjectMeta(name="spiderpool-controller-leases", namespace=HOME)
    return Lease(metadata=metadata, spec=LeaseSpec("controller-1", 15, renewTime=written()))


def account(node: str, *sandboxes: NodeSandbox) -> SpiderNode:
    return SpiderNode(metadata=ObjectMeta(name=node), status=NodeAccount(sandboxes=list(sandboxes)))


def sandbox(pod: str, uid: str, address: str, mtu: int | None = None) -> NodeSandbox:
    networks = [NetworkStatusEntry("default/net", "eth0", NetworkDNS(), mtu=mtu)]
    return NodeSandbox(uid, "shop", pod, "c1", [SandboxInterface("eth0", None, [address, "fe80::1"])], networks)


def pod(name: str, uid: str, address: str, node: str = "n1") -> Pod:
    status = PodStatus("Running", [PodIP(address)])
    status.containerStatuses = [ContainerStatus(ContainerState(ContainerStateRunning()))]
    return Pod(metadata=ObjectMeta(name=name, namespace="shop", uid=uid), spec=PodSpec(node), status=status)


def record(last: int, pod: str, uid: str, node: str = "n1", **changes: Any) -> SpiderIP:
    spec = IPSpec(f"10.0.0.{last}/24", "blue", node, "shop", pod, uid, "eth0")
    return SpiderIP(metadata=ObjectMeta(name=f"10.0.0.{last}"), spec=msgspec.structs.replace(spec, **changes))


def pool(name: str = "blue", **spec: Any) -> SpiderIPPool:
    whole = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.5-10.0.0.20"]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**whole))


def snapshot(*objects: Object, node: str | None = None, **changes: Any) -> ClusterSnapshot:
    """A cluster with these objects; its nodes n1 and n2 have said what they hold."""
    accounts = {"n1": account("n1"), "n2": account("n2")}
    accounts |= {each.name: each for each in objects if isinstance(each, SpiderNode)}

    def of(kind: type[Any]) -> tuple[Any, ...]:
        return tuple(each for each in objects if isinstance(each, kind))

    found = Installation(
        namespace=HOME,
        kubernetes="v1.37.2",
        served=True,
        workloads=of(DaemonSet),
        leases=(lease(),),
        nodes=tuple(Node(metadata=ObjectMeta(name=each)) for each in ("n1", "n2")),
        accounts=tuple(accounts.values()),
        pools=of(SpiderIPPool) or (pool(),),
        reserved=(),
        others=of(SpiderMultusConfig),
        webhooks=None,
        certificate=WebhookCertificate("s", True, None, True),
        events=of(Event),
    )
    whole = ClusterSnapshot(
        installation=found,
        node=node,
        records=of(SpiderIP),
        pods=of(Pod),
        networks=of(NetworkAttachmentDefinition),
        namespaces=(),
        quotas=(),
        servers=(),
        definitions=None,
        roles=None,
        daemon_pods=of(DaemonPod),
        services=(),
        policies=None,
    )
    return replace(whole, **changes)


def diagnosed(*objects: Object, node: str | None = None, **changes: Any) -> Diagnosis:
    return diagnosis(snapshot(*objects, node=node, **changes), {}, NOW)


def found(*objects: Object, node: str | None = None, **changes: Any) -> list[tuple[str, str]]:
    return [(each.check, each.what) for each in diagnosed(*objects, node=node, **changes).findings]


def daemon(version: str, ready: int = 2) -> DaemonSet:
    labels = {"app.kubernetes.io/component": "spiderpool-agent", "app.kubernetes.io/version": version}
    metadata = ObjectMeta(name="spiderpool-agent", namespace=HOME, labels=labels)
    return DaemonSet(metadata=metadata, status=WorkloadStatus(desiredNumberScheduled=2, numberReady=ready))
