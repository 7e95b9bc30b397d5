"""What is read to explain the addresses of one pod: the pod, what surrounds it, and the records that may concern it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from spiderpool.api.applications import WORKLOADS, CronJob, StatefulSet, Workload
from spiderpool.api.core_v1 import Event, Namespace, Node, Pod
from spiderpool.api.ip import IP_NODE_LABEL, IP_OWNER_LABEL, IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.manifests import NO_UID, documents, read
from spiderpool.cli.policies import AgentPolicies
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION
from spiderpool.core.ipam.owners import Controller, owner_label
from spiderpool.core.labels import label_value
from spiderpool.errors import BadConfig, Refused, SpiderpoolError
from spiderpool.kube.owners import OwnerReader


@dataclass(frozen=True, slots=True)
class PodCase:
    """A pod on a node, and the objects that decide about its addresses, as they were read."""

    pod: Pod
    node_name: str
    policies: AgentPolicies
    exists: bool
    """Whether the pod is in the cluster, and not in a manifest alone."""
    node: Node | None
    server: SpiderServer | None
    """What the node reports of its cloud server."""
    namespace: Namespace | None
    pools: tuple[SpiderIPPool, ...]
    reserved: tuple[SpiderReservedIP, ...]
    networks: tuple[NetworkAttachmentDefinition, ...]
    quotas: tuple[SpiderIPQuota, ...]
    controller: Controller | None
    controller_refusal: SpiderpoolError | None
    """Why the pod's top controller is not known."""
    events: tuple[Event, ...]
    records: tuple[SpiderIP, ...] = ()
    accounts: tuple[SpiderNode, ...] = ()
    """Of the pod's node, and of the nodes of its owner's records."""
    nodes: tuple[Node, ...] = ()
    """The same nodes."""
    pods: tuple[Pod, ...] = ()
    """Those that records of its owner name."""

    @property
    def uid(self) -> str:
        """UID by which the pod holds addresses: of a static pod that of its manifest, which outlives its mirrors."""
        return (self.pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION) or self.pod.metadata.uid or ""


def pod_of_manifest(text: str, namespace: str) -> Pod:
    """The pod of a manifest, or one that its workload would make. Raises BadConfig."""
    for document in documents(text):
        kind = document.get("kind")
        if kind == Pod.KIND.name:
            return read(document, Pod, namespace)
        for workload in WORKLOADS:
            if kind == workload.KIND.name:
                return _pod_of(read(document, workload, namespace))
    raise BadConfig("the manifest has neither a Pod nor a workload that makes Pods")


def _pod_of(workload: object) -> Pod:
    assert isinstance(workload, WORKLOADS)
    start = workload.spec.ordinals.start if workload.spec.ordinals else 0
    suffix = str(start) if _is_stateful(workload) else "new"
    return Pod(metadata=pod_metadata(workload, suffix), spec=workload.workload_spec.template.spec)


def pod_metadata(workload: Workload, suffix: str) -> ObjectMeta:
    """The metadata of a pod that a workload would make."""
    template = workload.workload_spec.template.metadata
    return ObjectMeta(
        name=f"{workload.name}-{suffix}",
        namespace=workload.metadata.namespace,
        uid=NO_UID,
        labels=template.labels,
        annotations=template.annotations,
        ownerReferences=[workload.as_owner(controller=True)],
    )


def _is_stateful(workload: object) -> bool:
    return isinstance(workload, StatefulSet) and not isinstance(workload, CronJob)


async def find_pod(cluster: Cluster, namespace: str, name: str) -> Pod:
    """A pod of the cluster. Raises Refused when there is none."""
    pod = await cluster.find(Pod, name, namespace)
    if pod is None:
        raise Refused(f"pod {namespace}/{name} does not exist, or may not be read; a manifest is explained by -f")
    return pod


async def read_case(cluster: Cluster, pod: Pod, node: str | None, policies: AgentPolicies, *, exists: bool) -> PodCase:
    """Read what decides about a pod, but for the records. Raises Refused when it is on no node."""
    name = node or pod.spec.nodeName
    if not name:
        raise Refused(f"pod {pod.key} is on no node yet, and addresses depend on the node: name one by --node")
    namespace = pod.metadata.namespace or ""
    controller, refusal = await top_controller(OwnerReader(cluster.client), pod, cluster.timeout)
    return PodCase(
        pod=pod,
        node_name=name,
        policies=policies,
        exists=exists,
        node=await cluster.find(Node, name),
        server=await cluster.find(SpiderServer, name),
        namespace=await cluster.find(Namespace, namespace),
        pools=tuple(await cluster.list(SpiderIPPool) or ()),
        reserved=tuple(await cluster.list(SpiderReservedIP) or ()),
        networks=tuple(await cluster.list(NetworkAttachmentDefinition) or ()),
        quotas=tuple(await cluster.list(SpiderIPQuota, namespace) or ()),
        controller=controller,
        controller_refusal=refusal,
        events=await _events(cluster, pod) if exists else (),
    )


async def top_controller(
    owners: OwnerReader, pod: Pod, timeout: float
) -> tuple[Controller | None, SpiderpoolError | None]:
    """The top controller of a pod, or why it is not known."""
    try:
        return await owners.top(pod, timeout=timeout), None
    except SpiderpoolError as error:
        return None, error


async def _events(cluster: Cluster, pod: Pod) -> tuple[Event, ...]:
    """Warnings of the pod, the last one first."""
    fields = f"type=Warning,involvedObject.name={pod.name}"
    found = await cluster.list(Event, pod.metadata.namespace, fields=fields)
    mine = (each for each in found or () if each.involvedObject.uid in (None, pod.metadata.uid))
    return tuple(sorted(mine, key=lambda each: each.lastTimestamp or "", reverse=True))


async def with_records(cluster: Cluster, case: PodCase, pools: Iterable[str], addresses: Iterable[str] = ()) -> PodCase:
    """The case with the records of its node, of its owner, of pools that may serve it, and of addresses it asks for."""
    owner = case.policies.addresses.sticky_owner(case.pod)
    selectors = [f"{IP_NODE_LABEL}={label_value(case.node_name)}"]
    selectors += [f"{IP_OWNER_LABEL}={owner_label(owner, case.pod.name)}"] if owner else []
    selectors += [f"{IP_POOL_LABEL}={label_value(pool)}" for pool in pools]
    found: dict[str, SpiderIP] = {}
    for selector in selectors:
        found |= {each.name: each for each in await cluster.list(SpiderIP, labels=selector) or ()}
    for address in addresses:
        if record := await cluster.find(SpiderIP, object_name(address)):
            found[record.name] = record
    owned = [each for each in found.values() if owner and each.spec.owner == owner]
    names = list(dict.fromkeys((case.node_name, *(each.spec.node for each in owned))))
    accounts = [await cluster.find(SpiderNode, name) for name in names]
    nodes = [case.node, *[await cluster.find(Node, name) for name in names[1:]]]
    others = {(each.spec.namespace, each.spec.pod) for each in owned if each.spec.pod != case.pod.name}
    pods = [await cluster.find(Pod, name, namespace) for namespace, name in sorted(others)]
    return replace(
        case,
        records=tuple(found.values()),
        accounts=tuple(each for each in accounts if each),
        nodes=tuple(each for each in nodes if each),
        pods=tuple(each for each in pods if each),
    )
