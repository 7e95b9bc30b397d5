"""Which addresses may be released: those whose holder is gone, as two observations and a fresh read agree.

A record is doubted when its pod is gone, was replaced, has finished, will not end or has lost its node, and when
it is a second one of the same interface. A doubt is acted on when two observations that lie a grace period apart
share it; whoever acts reads once more before.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Protocol, TypeVar

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.allocation import cooldown_is_over, family

STATIC_POD_ANNOTATION = "kubernetes.io/config.hash"
"""On the mirror of a static pod: the UID by which the kubelet, and so the CNI plugin, knows the pod."""

EVICTED = "Evicted"

T_co = TypeVar("T_co", covariant=True)


class ReleaseCause(enum.Enum):
    """What a doubt rests on."""

    POD = enum.auto()
    """The pod is gone, another one, or finished."""
    NODE = enum.auto()
    """The pod's Node object is gone."""
    OVERDUE = enum.auto()
    """The pod should have ended."""
    TWIN = enum.auto()
    """The pod's interface holds another address of the family."""
    COOLED = enum.auto()
    """Released, and its pool's cooldown is over."""


@dataclass(frozen=True, slots=True)
class ReleaseCandidate:
    """A record whose holder seems to be gone."""

    ip: SpiderIP
    cause: ReleaseCause
    reason: str
    since: float
    """Time of the first observation, in seconds of the observer's clock."""
    twin: SpiderIP | None = None
    """The record that stays, when this one is the second of the same interface."""


@dataclass(frozen=True, slots=True)
class GCPolicy:
    """When a pod that is being deleted is overdue, and where that counts."""

    delay: float = 0.0
    """Seconds beyond its grace period."""
    on_ready_node: bool = True
    on_not_ready_node: bool = True


class Lister(Protocol[T_co]):
    """Objects by key: ``namespace/name``, or name."""

    def get(self, key: str, /) -> T_co | None:
        """One object, None when there is none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read after the records."""

    pods: Lister[Pod]
    nodes: Lister[Node]
    pools: Lister[SpiderIPPool]
    reporters: Lister[Collection[str]]
    """Keys of the pods that report an address, see :func:`reported_addresses`."""
    now: float
    """Seconds since 1970."""
    policy: GCPolicy = GCPolicy()


def is_alive(pod: Pod) -> bool:
    """Whether a pod may still be given addresses: neither terminating nor finished."""
    return not pod.terminating and not is_finished(pod)


def is_finished(pod: Pod) -> bool:
    """Whether no container of the pod runs or will run again (Kubernetes: pod lifecycle, phases)."""
    match pod.status.phase:
        case "Succeeded":
            return pod.spec.restartPolicy not in ("Always", None)
        case "Failed":
            return pod.spec.restartPolicy == "Never" or pod.status.reason == EVICTED
        case _:
            return False


def is_ready(node: Node) -> bool:
    """Whether the kubelet of a node says that it is ready."""
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions or ())


def pod_key(ip: SpiderIP) -> str:
    """``namespace/name`` of the pod that a record names."""
    return f"{ip.spec.namespace}/{ip.spec.pod}"


def reported_addresses(pod: Pod) -> frozenset[str]:
    """Addresses that the pod's status reports, in canonical text; none once the pod has finished."""
    if is_finished(pod):
        return frozenset()
    return frozenset(str(ip_address(entry.ip)) for entry in pod.status.podIPs or () if entry.ip)


def observe(
    ips: Iterable[SpiderIP], scene: Snapshot, earlier: Mapping[str, ReleaseCandidate], now: float
) -> dict[str, ReleaseCandidate]:
    """Doubts by UID of the record. A doubt keeps its time as long as every observation shares its cause.

    ``ips`` must have been read before what the scene holds: a pod exists before its record, so a record whose
    pod is missing from the later reading is one whose pod is gone. ``ips`` hold all records of a pod, or none.
    """
    records = list(ips)
    twins = _twins(records, scene)
    doubts = {}
    for ip in records:
        uid = ip.metadata.uid or ""
        judged = _judge(ip, twins.get(uid), scene)
        if judged is not None:
            known = earlier.get(uid)
            since = known.since if known and known.cause is judged[0] else now
            doubts[uid] = ReleaseCandidate(ip, *judged, since, twins.get(uid))
    return doubts


def due(
    doubts: Mapping[str, ReleaseCandidate], now: float, grace: Mapping[ReleaseCause, float]
) -> list[ReleaseCandidate]:
    """Doubts of two observations at least their cause's ``grace`` in seconds apart, the oldest first."""
    ripe = (doubt for doubt in doubts.values() if doubt.since < now and now - doubt.since >= grace[doubt.cause])
    return sorted(ripe, key=lambda doubt: doubt.since)


def is_at_rest(ips: Collection[SpiderIP], pod: Pod | None) -> bool:
    """Whether nothing about a pod's records can become doubtful by the mere passing of time."""
    if pod is None or not is_alive(pod) or any(ip.spec.releasedAt for ip in ips):
        return False
    places = {(ip.spec.podUID, ip.spec.interface, family(ip)) for ip in ips}
    return len(places) == len(ips) and all(_holds(pod, ip) for ip in ips)


def _judge(ip: SpiderIP, twin: SpiderIP | None, scene: Snapshot) -> tuple[ReleaseCause, str] | None:
    """Why a record has no holder; None when it has one."""
    if ip.spec.releasedAt is not None:
        over = cooldown_is_over(ip, scene.pools.get(ip.spec.pool), scene.now)
        return (ReleaseCause.COOLED, f"the cooldown since {ip.spec.releasedAt} is over") if over else None
    if any(key != pod_key(ip) for key in scene.reporters.get(_address(ip)) or ()):
        return None
    pod = scene.pods.get(pod_key(ip))
    if (reason := _why_podless(ip, pod)) or pod is None:
        return ReleaseCause.POD, reason or ""
    if pod.spec.nodeName and scene.nodes.get(pod.spec.nodeName) is None:
        return ReleaseCause.NODE, f"node {pod.spec.nodeName} of pod {pod.key} does not exist"
    if ip.spec.owner is None and (reason := _why_overdue(pod, scene)):
        return ReleaseCause.OVERDUE, reason
    return (ReleaseCause.TWIN, f"pod {pod.key} uses {_address(twin)} on {ip.spec.interface}") if twin else None


def _why_podless(ip: SpiderIP, pod: Pod | None) -> str | None:
    """Why the pod of the name that a record holds is not its holder."""
    name = pod_key(ip)
    if pod is None:
        return f"pod {name} does not exist"
    if is_finished(pod):
        return f"pod {name} has finished ({pod.status.phase})"
    return None if _holds(pod, ip) else f"pod {name} is another one of the same name"


def _holds(pod: Pod, ip: SpiderIP) -> bool:
    return ip.spec.podUID in pod_uids(pod) or _address(ip) in reported_addresses(pod)


def _why_overdue(pod: Pod, scene: Snapshot) -> str | None:
    """Why a pod that is being deleted has lost its claim; ``deletionTimestamp`` already holds its grace period."""
    node = scene.nodes.get(pod.spec.nodeName or "")
    if node is None or pod.metadata.deletionTimestamp is None:
        return None
    ready, policy = is_ready(node), scene.policy
    if not (policy.on_ready_node if ready else policy.on_not_ready_node):
        return None
    overdue = scene.now - _seconds(pod.metadata.deletionTimestamp) - policy.delay
    state = "ready" if ready else "not ready"
    return f"pod {pod.key} should have ended and its node is {state}" if overdue > 0 else None


def _twins(ips: Iterable[SpiderIP], scene: Snapshot) -> dict[str, SpiderIP]:
    """Of each record that is one too many, by UID, the one that stays.

    That is the one that the pod reports, else the oldest. Before the pod reports any address nothing is
    one too many: it may be about to use either.
    """
    places: dict[tuple[str, str, int], list[SpiderIP]] = defaultdict(list)
    for ip in ips:
        if ip.spec.releasedAt is None:
            places[ip.spec.podUID, ip.spec.interface, family(ip)].append(ip)
    return {
        ip.metadata.uid or "": stays
        for same in places.values()
        if len(same) > 1 and (stays := _stays(same, scene))
        for ip in same
        if ip is not stays and not _is_reported(ip, scene)
    }


def _stays(same: list[SpiderIP], scene: Snapshot) -> SpiderIP | None:
    pod = scene.pods.get(pod_key(same[0]))
    if pod is None or not reported_addresses(pod):
        return None
    return min(same, key=lambda ip: (not _is_reported(ip, scene), *_age(ip)))


def _is_reported(ip: SpiderIP, scene: Snapshot) -> bool:
    pod = scene.pods.get(pod_key(ip))
    return pod is not None and _address(ip) in reported_addresses(pod)


def _age(ip: SpiderIP) -> tuple[str, int, str]:
    version = ip.metadata.resourceVersion or ""
    return ip.metadata.creationTimestamp or "", int(version) if version.isdigit() else 0, ip.name


def _seconds(timestamp: str) -> float:
    moment = datetime.fromisoformat(timestamp)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def pod_uids(pod: Pod) -> frozenset[str | None]:
    """The UIDs by which records may know a pod: its own, and that of the static pod which it mirrors."""
    return frozenset((pod.metadata.uid, (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION)))


def _address(ip: SpiderIP) -> str:
    return ip.spec.address.partition("/")[0]
