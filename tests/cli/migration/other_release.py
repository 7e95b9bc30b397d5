"""A cluster of the other release as `migrate` sees it: its agents, nodes, pools and pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.api.applications import Deployment, ReplicaSet, StatefulSet
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Node, NodeCondition, NodeStatus, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.migration.look import AgentDaemonSet, MigrationState, Places, read_state
from spiderpool.core.ipam.migration_groups import LABEL
from spiderpool.kube.client import Client
from tests.support.api_server import ApiServer
from tests.support.go_cluster import GoCluster, pod

KINDS = (
    *(
        AgentDaemonSet,
        Deployment,
        StatefulSet,
        ReplicaSet,
        ConfigMap,
        Node,
        Pod,
        SpiderIP,
        SpiderIPPool,
        SpiderEndpoint,
    ),
    *(SpiderReservedIP, SpiderSubnet, SpiderMultusConfig, SpiderCoordinator, VirtualMachine, VirtualMachineInstance),
)
PLACES = Places("spiderpool", ("kube-system", "spiderpool-agent"), "spiderpool-conf")
REMOVED = Places("spiderpool", PLACES.former, PLACES.config, removed=True)
THEIR_VALUES = Path(__file__).parents[2] / "chart" / "spiderpool_values.yaml"
SETTINGS = {"enableIPv4": True, "enableIPv6": False, "enableStatefulSet": True, "enableKubevirtStaticIP": True}


def agents(namespace: str = "kube-system", **spec: Any) -> AgentDaemonSet:
    spec = {"volumes": [{"name": "config-path", "configMap": {"name": "spiderpool-conf"}}], **spec}
    body = {
        "metadata": {"name": "spiderpool-agent", "namespace": namespace, "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {"spec": spec}},
        "status": {"observedGeneration": 99},
    }
    return msgspec.convert(body, AgentDaemonSet)


def ours() -> AgentDaemonSet:
    return agents("spiderpool", nodeSelector={LABEL: "new"})


def node(name: str, ready: str = "True", **labels: str) -> Node:
    status = NodeStatus(conditions=[NodeCondition("Ready", ready)])
    return Node(metadata=ObjectMeta(name=name, labels=labels or None), status=status)


def config(conf: Any = SETTINGS, **data: str) -> ConfigMap:
    text = conf if isinstance(conf, str) else json.dumps(conf)
    return ConfigMap(
        metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data={"conf.yml": text, **data}
    )


def go_cluster() -> GoCluster:
    """Pods of Namespace shop on n1 and n2, each with a pool of its own."""
    made = GoCluster()
    made.pool("one", "10.6.0.0/24", "10.6.0.1-10.6.0.9", nodeName=["n1"])
    made.pool("two", "10.7.0.0/24", "10.7.0.1-10.7.0.9", nodeName=["n2"])
    made.pod("web-1", {"eth0": {"one": "10.6.0.1"}})
    made.pod("web-2", {"eth0": {"two": "10.7.0.1"}}, node="n2")
    return made


def put(server: ApiServer, made: GoCluster) -> None:
    """Store a cluster, with the UIDs that the server gives to pods."""
    server.put(*made.pods)
    stored = server.stored(Pod)
    uids = {each.metadata.uid: stored[each.key].metadata.uid for each in made.pods}
    for records in made.records.values():
        for record in records.values():
            record["podUid"] = uids.get(record["podUid"], record["podUid"])
    for endpoint in made.endpoints:
        assert endpoint.status is not None
        endpoint.status.current.uid = uids.get(endpoint.status.current.uid) or endpoint.status.current.uid
    made.write()
    server.put(*made.pools.values(), *made.endpoints)


def old_agent() -> Pod:
    """An agent of the other release on n1."""
    made = pod("agent-x", {}, OwnerReference("apps/v1", "DaemonSet", "spiderpool-agent", "ds-1", True, True))
    made.metadata.namespace, made.metadata.labels = "kube-system", {"app": "agent"}
    return made


def removed(server: ApiServer) -> None:
    """Our own settings, which count where the other release is removed."""
    settings = config()
    settings.metadata.namespace = "spiderpool"
    server.put(settings)


def side(server: ApiServer, name: str) -> str | None:
    return (server.stored(Node)[name].metadata.labels or {}).get(LABEL)


async def state(client: Client) -> MigrationState:
    return await read_state(client, PLACES)
