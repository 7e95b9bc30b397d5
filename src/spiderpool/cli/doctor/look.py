"""What `doctor` reads of a cluster: each kind once, records before pods, and again what looks wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.core_v1 import Namespace, Node, Pod, Service
from spiderpool.api.crd import KINDS
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.checks_rights import Roles
from spiderpool.cli.installation import COMPONENT_LABEL, COMPONENTS, Installation, look
from spiderpool.cli.policies import AgentPolicies, PolicyOptions, read_policies
from spiderpool.errors import BadConfig, Refused

MOST_CONFIRMED = 200
"""Records that are read a second time, one by one: more are taken as they were listed."""
DEFINITIONS = tuple(f"{kind.KIND.plural}.{kind.KIND.group}" for kind in KINDS)
"""Names of the CustomResourceDefinitions of our kinds."""
AT_A_TIME = 8
"""Requests for single objects that are under way at once."""


@dataclass(frozen=True, slots=True)
class WebhookService:
    """A Service by which the API server reaches webhooks."""

    namespace: str
    name: str
    exists: bool
    slices: tuple[EndpointSlice, ...]


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The objects that checks judge; None stands for what may not be read."""

    installation: Installation
    node: str | None
    """The node that was asked about; None: all."""
    records: tuple[SpiderIP, ...] | None
    pods: tuple[Pod, ...] | None
    networks: tuple[NetworkAttachmentDefinition, ...] | None
    namespaces: tuple[Namespace, ...] | None
    quotas: tuple[SpiderIPQuota, ...]
    servers: tuple[SpiderServer, ...]
    definitions: tuple[CustomResourceDefinition, ...] | None
    roles: Roles | None
    daemon_pods: tuple[DaemonPod, ...]
    services: tuple[WebhookService, ...]
    policies: AgentPolicies | None
    """None where the settings of the agents are wrong."""
    settings_error: str = ""


async def read_snapshot(cluster: Cluster, namespace: str | None, node: str | None) -> ClusterSnapshot:
    """Read what checks judge; records before pods, so that a pod that begins meanwhile has no record without it.

    Raises ApiUnavailable.
    """
    # Those of other nodes too: they use addresses of pools that several share.
    records = await cluster.list(SpiderIP, defective=True)
    pods = await cluster.list(Pod, fields=f"spec.nodeName={node}" if node else None)
    found = await look(cluster, namespace)
    home = found.namespace
    networks, namespaces, quotas, servers = await asyncio.gather(
        cluster.list(NetworkAttachmentDefinition),
        cluster.list(Namespace),
        cluster.list(SpiderIPQuota),
        cluster.list(SpiderServer),
    )
    policies, settings_error = await _policies(cluster, home)
    return ClusterSnapshot(
        installation=found,
        node=node,
        records=_known(records),
        pods=_known(pods),
        networks=_known(networks),
        namespaces=_known(namespaces),
        quotas=tuple(quotas or ()),
        servers=tuple(servers or ()),
        definitions=await _definitions(cluster),
        roles=await _roles(cluster, home),
        daemon_pods=await daemon_pods(cluster, home),
        services=await _services(cluster, found),
        policies=policies,
        settings_error=settings_error,
    )


async def _definitions(cluster: Cluster) -> tuple[CustomResourceDefinition, ...] | None:
    """Ours, one by one: a cluster may have hundreds, of several hundred KiB each."""
    found: list[CustomResourceDefinition] = []
    for name in DEFINITIONS:
        one = await cluster.list(CustomResourceDefinition, fields=f"metadata.name={name}")
        if one is None:
            return None
        found += one
    return tuple(found)


async def known_node(cluster: Cluster, name: str | None) -> None:
    """See that a node that was named exists, as far as Nodes may be read. Raises Refused."""
    if name is not None and await cluster.find(Node, name) is None and Node not in cluster.unseen:
        raise Refused(f"node {name} does not exist; see `kubectl get nodes`")


async def daemon_pods(cluster: Cluster, namespace: str) -> tuple[DaemonPod, ...]:
    """The pods of our daemons, as far as they may be read. Raises ApiUnavailable."""
    selector = f"{COMPONENT_LABEL} in ({', '.join(COMPONENTS)})"
    return tuple(await cluster.list(DaemonPod, namespace, labels=selector) or ())


async def _roles(cluster: Cluster, namespace: str) -> Roles | None:
    cluster_roles = await cluster.list(ClusterRole)
    cluster_bindings = await cluster.list(ClusterRoleBinding)
    roles, bindings = await cluster.list(Role, namespace), await cluster.list(RoleBinding, namespace)
    if cluster_roles is None or cluster_bindings is None or roles is None or bindings is None:
        return None
    return Roles(tuple(cluster_roles), tuple(cluster_bindings), tuple(roles), tuple(bindings))


async def _services(cluster: Cluster, found: Installation) -> tuple[WebhookService, ...]:
    """The Services that our webhooks name, as far as they may be read. Raises ApiUnavailable."""
    configs = [hook.get("clientConfig") or {} for each in found.webhooks or () for hook in each.webhooks or ()]
    references = [config["service"] for config in configs if config.get("service")]
    read: list[WebhookService] = []
    for namespace, name in dict.fromkeys((each["namespace"], each["name"]) for each in references):
        service = await cluster.find(Service, name, namespace)
        slices = await cluster.list(EndpointSlice, namespace, labels=f"{SERVICE_LABEL}={name}")
        if slices is not None and not (service is None and Service in cluster.unseen):
            read.append(WebhookService(namespace, name, service is not None, tuple(slices)))
    return tuple(read)


async def _policies(cluster: Cluster, namespace: str) -> tuple[AgentPolicies | None, str]:
    """The settings of the agents, or why they are wrong."""
    try:
        return await read_policies(cluster, PolicyOptions(namespace)), ""
    except BadConfig as error:
        return None, error.message


async def confirmed(cluster: Cluster, snapshot: ClusterSnapshot, names: Iterable[str]) -> ClusterSnapshot:
    """The snapshot with some records, and the pods that they name, as they are now. Raises ApiUnavailable.

    Pods begin and end while a cluster is read: what looks wrong then is looked at again.
    """
    if snapshot.records is None or snapshot.pods is None:
        return snapshot
    chosen = list(dict.fromkeys(names))[:MOST_CONFIRMED]
    turns = asyncio.Semaphore(AT_A_TIME)

    async def read(name: str) -> tuple[SpiderIP | None, Pod | None]:
        async with turns:
            record = await cluster.find(SpiderIP, name)
            pod = await cluster.find(Pod, record.spec.pod, record.spec.namespace) if record else None
        return record, pod

    found = await asyncio.gather(*map(read, chosen))
    if not cluster.unseen.isdisjoint({SpiderIP, Pod}):
        return snapshot  # who may list them and not read one is told what the lists show
    records = {each.name: each for each in snapshot.records if each.name not in chosen}
    pods = {each.key: each for each in snapshot.pods}
    for record, pod in found:
        if record is not None:
            records[record.name] = record
            pods.pop(f"{record.spec.namespace}/{record.spec.pod}", None)
        if pod is not None:
            pods[pod.key] = pod
    return replace(snapshot, records=tuple(records.values()), pods=tuple(pods.values()))


def _known(objects: Iterable[Any] | None) -> tuple[Any, ...] | None:
    return None if objects is None else tuple(objects)
