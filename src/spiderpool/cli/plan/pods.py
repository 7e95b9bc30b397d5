"""The pods of which `plan` is asked: of manifests, of a workload that is scaled, or of nodes that are drained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed

from msgspec.structs import replace

from spiderpool.api.applications import ReplicaSet
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.scheduling import (
    SCHEDULED_WORKLOADS,
    ScheduledCronJob,
    ScheduledDaemonSet,
    ScheduledDeployment,
    ScheduledJob,
    ScheduledPod,
    ScheduledReplicaSet,
    ScheduledStatefulSet,
    ScheduledWorkload,
    template_of,
)
from spiderpool.cli.connection import Cluster
from spiderpool.cli.explain.case import pod_metadata
from spiderpool.cli.manifests import NO_UID, check, documents, read
from spiderpool.core.ipam.eligible_nodes import as_of_daemon_set
from spiderpool.errors import BadConfig, Refused

SCALABLE: dict[str, type[ScheduledWorkload]] = {
    **dict.fromkeys(("deploy", "deployment", "deployments"), ScheduledDeployment),
    **dict.fromkeys(("sts", "statefulset", "statefulsets"), ScheduledStatefulSet),
    **dict.fromkeys(("rs", "replicaset", "replicasets"), ScheduledReplicaSet),
}
"""Kinds with a scale, by the words that kubectl takes for them."""
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of the mirror of a static pod, which a kubelet makes and no drain ends."""
ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class PlannedPods:
    """Pods that need the same addresses."""

    workload: str
    """``Kind namespace/name``."""
    sample: ScheduledPod
    """One of them."""
    count: int
    names: tuple[str, ...] = ()
    """The names of all, where these are known: an owner's addresses belong to them."""
    one_per_node: bool = False
    without: frozenset[str] = frozenset()
    """Nodes that have a pod of the workload already, where each has one."""
    source: ScheduledWorkload | None = None
    """The workload as it will be, which may ask for a pool of its own."""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What is to happen."""

    pods: tuple[PlannedPods, ...]
    drained: frozenset[str] = frozenset()
    """Nodes that take no pods any more."""
    ended: frozenset[str] = frozenset()
    """UIDs of pods that end."""
    notes: tuple[str, ...] = field(default=())


async def of_manifests(cluster: Cluster, texts: Iterable[str], namespace: str) -> PlannedChange:
    """The pods that manifests add to those that there are. Raises BadConfig."""
    found = [document for text in texts for document in documents(text)]
    check(found, (ScheduledPod, *SCHEDULED_WORKLOADS))
    pods: list[PlannedPods] = []
    notes: list[str] = []
    for document in found:
        if document.get("kind") == Pod.KIND.name:
            pods += await _bare(cluster, read(document, ScheduledPod, namespace))
        for kind in SCHEDULED_WORKLOADS:
            if document.get("kind") == kind.KIND.name:
                added, exists = await _applied(cluster, read(document, kind, namespace))
                pods += added
                notes += [_update_note(added[0].workload)] if exists and added else []
    if not any(document.get("kind") in _KINDS for document in found):
        raise BadConfig("the manifests have neither a Pod nor a workload that makes Pods")
    return PlannedChange(tuple(pods), notes=tuple(notes))


_KINDS = frozenset({Pod.KIND.name, *(kind.KIND.name for kind in SCHEDULED_WORKLOADS)})


def _update_note(workload: str) -> str:
    return (
        f"{workload} exists: the pods that it has more are planned. Where the template changes, an update needs up to "
        "maxSurge addresses beside, for a time"
    )


async def _bare(cluster: Cluster, pod: ScheduledPod) -> list[PlannedPods]:
    if await cluster.find(Pod, pod.name, pod.metadata.namespace) is not None:
        return []
    return [PlannedPods(f"Pod {pod.key}", pod, 1)]


async def of_scale(cluster: Cluster, kind: type[ScheduledWorkload], name: str, replicas: int) -> PlannedChange:
    """The pods that a workload needs more with so many replicas. Raises Refused when there is none."""
    namespace, _, own_name = name.rpartition("/")
    stored = await cluster.find(kind, own_name, namespace)
    if stored is None:
        raise Refused(f"{kind.KIND.name} {name} does not exist, or may not be read; a manifest is planned by -f")
    scaled: ScheduledWorkload = replace(stored, spec=replace(stored.spec, replicas=replicas))
    return PlannedChange(tuple(await _more_pods(cluster, scaled)))


async def _applied(cluster: Cluster, workload: ScheduledWorkload) -> tuple[list[PlannedPods], bool]:
    stored = await cluster.find(type(workload), workload.name, workload.metadata.namespace)
    if stored is None:
        return list(_planned(workload, [])), False
    metadata = replace(workload.metadata, uid=stored.metadata.uid)
    return await _more_pods(cluster, replace(workload, metadata=metadata)), True


async def _more_pods(cluster: Cluster, workload: ScheduledWorkload) -> list[PlannedPods]:
    return list(_planned(workload, await _pods_of(cluster, workload)))


async def _pods_of(cluster: Cluster, workload: ScheduledWorkload) -> list[ScheduledPod]:
    """The pods that a workload has, directly or by its ReplicaSets."""
    namespace, owners = workload.metadata.namespace, {workload.metadata.uid}
    if isinstance(workload, ScheduledDeployment):
        sets = await cluster.needed(ReplicaSet, namespace)
        owners |= {each.metadata.uid for each in sets if each.controller and each.controller.uid in owners}
    pods = await cluster.needed(ScheduledPod, namespace)
    mine = (each for each in pods if each.controller and each.controller.uid in owners)
    return [each for each in mine if is_living(each)]


def is_living(pod: Pod) -> bool:
    """Whether a pod is there to stay."""
    return pod.status.phase not in ENDED and not pod.terminating


def _planned(workload: ScheduledWorkload, present: Sequence[ScheduledPod]) -> Iterator[PlannedPods]:
    """The pods that are to come; one that is on no node yet is among them."""
    placed = [pod for pod in present if pod.spec.nodeName]
    name = f"{workload.KIND.name} {workload.key}"
    spec = template_of(workload).spec
    if isinstance(workload, ScheduledDaemonSet):
        sample = ScheduledPod(metadata=pod_metadata(workload, "new"), spec=as_of_daemon_set(spec))
        nodes = frozenset(pod.spec.nodeName or "" for pod in placed)
        yield PlannedPods(name, sample, 0, one_per_node=True, without=nodes, source=workload)
        return
    names = _ordinals(workload, {pod.name for pod in placed})
    is_stateful = isinstance(workload, ScheduledStatefulSet)
    count = len(names) if is_stateful else max(_pods_at_once(workload) - len(placed), 0)
    if count:
        suffix = names[0].rpartition("-")[2] if names else "new"
        sample = ScheduledPod(metadata=pod_metadata(workload, suffix), spec=spec)
        yield PlannedPods(name, sample, count, names, source=workload)


def _ordinals(workload: ScheduledWorkload, present: Iterable[str]) -> tuple[str, ...]:
    """The names of a StatefulSet's pods that are not there."""
    if not isinstance(workload, ScheduledStatefulSet):
        return ()
    start = workload.spec.ordinals.start if workload.spec.ordinals else 0
    names = (f"{workload.name}-{start + number}" for number in range(_replicas(workload)))
    known = set(present)
    return tuple(each for each in names if each not in known)


def _pods_at_once(workload: ScheduledWorkload) -> int:
    """How many pods a workload is to have at a time."""
    match workload:
        case ScheduledJob() | ScheduledCronJob():
            spec = workload.workload_spec
            parallel = 1 if spec.parallelism is None else spec.parallelism
            return parallel if spec.completions is None else min(parallel, spec.completions)
        case _:
            return _replicas(workload)


def _replicas(workload: ScheduledWorkload) -> int:
    return 1 if workload.spec.replicas is None else workload.spec.replicas


async def of_drain(cluster: Cluster, names: Sequence[str]) -> PlannedChange:
    """The pods that come in the place of those of some nodes. Raises Refused for a node that does not exist.

    Refused as well where the pods may not be read: nobody may take none for all.
    """
    there: list[ScheduledPod] = []
    for name in names:
        if await cluster.find(Node, name) is None and Node not in cluster.unseen:
            raise Refused(f"node {name} does not exist; see `kubectl get nodes`")
        there += await cluster.needed(ScheduledPod, fields=f"spec.nodeName={name}")
    moved = [pod for pod in there if is_living(pod) and _is_evicted(pod)]
    return changed(replacements(moved), drained=frozenset(names))


def replacements(moved: Sequence[ScheduledPod]) -> PlannedChange:
    """The pods that come in the place of some that end."""
    groups: dict[tuple[str | None, ...], list[ScheduledPod]] = defaultdict(list)
    for pod in moved:
        if owner := pod.controller:
            one = pod.name if owner.kind == ScheduledDaemonSet.KIND.name else None  # each is for a node of its own
            groups[pod.metadata.namespace, owner.kind, owner.name, owner.uid, one].append(pod)
    planned = tuple(_replacement(kind or "", pods) for (_, kind, *_), pods in groups.items())
    bare = sorted(pod.key for pod in moved if pod.controller is None)
    notes = (f"nobody makes again: {', '.join(bare)}",) if bare else ()
    ended = frozenset(pod.metadata.uid or "" for pod in moved)
    return PlannedChange(planned, ended=ended, notes=notes)


def _is_evicted(pod: Pod) -> bool:
    owner = pod.controller
    return MIRROR not in (pod.metadata.annotations or {}) and (owner is None or owner.kind != "DaemonSet")


def _replacement(kind: str, pods: Sequence[ScheduledPod]) -> PlannedPods:
    """The pods that come in the place of pods of one workload."""
    first, owner = pods[0], pods[0].controller
    assert owner is not None
    stateful = kind == ScheduledStatefulSet.KIND.name
    names = tuple(pod.name for pod in pods) if stateful else ()
    name = names[0] if names else f"{owner.name}-new"
    metadata = replace(first.metadata, name=name, uid=NO_UID, deletionTimestamp=None)
    sample = replace(first, metadata=metadata, spec=replace(first.spec, nodeName=None))
    return PlannedPods(f"{kind} {first.metadata.namespace}/{owner.name}", sample, len(pods), names)
