"""Decides when the cluster's garbage collection (GC) may take an address from a pod.

A record (SpiderIP) is in one of these states. Only ``releasedAt`` is written to the API server; everything
between held and released lives in the memory of the controller that holds the leader lease::

    HELD          A living pod holds the record: by its UID, or because its status reports the address.
      ↓           find_candidates(): one reading, from the informers' caches, shows no holder. Evidence: a
                  ReleaseCause.
    CANDIDATE     Has a cause, and the time of the first reading that showed this cause (``since``).
      ↓           past_grace(): a later reading, at least the grace period of the cause after ``since``, still
                  shows the cause. One reading that shows a holder, or another cause, starts the wait anew.
    PAST GRACE    Time alone is no evidence, so the controller reads the pod and its Node from the API server.
      ↓           find_candidates() again, on that fresh read. It shows no holder either, and no StatefulSet
                  or virtual machine keeps the address.
    CONFIRMED     The write names the UID and version of the record that was read, so it fails when a client has
      ↓           changed the record meanwhile; then the record is HELD until the next reading.
    RELEASED      The pool has a cooldown: ``releasedAt`` is set. The record stays until the cooldown is over.
      ↓           cooldown_is_over(): the record is a candidate again, with cause COOLDOWN_OVER, and takes the
                  same way. An agent that needs the address may take over the record first.
    DELETED       At once, when the pool has no cooldown.

While a pod's Node exists, its agent releases what the pod held, at the DEL of the runtime. The end of a pod takes as
long as it takes, and neither a passed grace period nor a missing object says that its sandbox is gone. So the causes
POD_GONE and DELETION_OVERDUE have a grace period of minutes: they are for what an agent has missed. All waits are
measured by the monotonic clock of the controller, never by comparing its clock with a time that another machine wrote,
but for the end of a cooldown, when no pod holds the address.

A restart of the controller, or a new leader, forgets candidates and starts every wait anew: this delays a release
and never hastens one. The agent of the record's node releases addresses too (CNI DEL and GC, see ``node_gc``);
then the record changes or goes, and its candidate with it.

Nothing here reads the API server or a clock.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import STATUS_ANNOTATION
from spiderpool.core.addresses import canonical
from spiderpool.core.ipam.allocation import cooldown_is_over, family

STATIC_POD_ANNOTATION = "kubernetes.io/config.hash"
"""On the mirror of a static pod: the UID by which the kubelet, and so the CNI plugin, knows the pod."""

MIRROR_POD_ANNOTATION = "kubernetes.io/config.mirror"
"""On the mirror of a static pod, whose deletion ends no container: its kubelet makes another mirror."""

T_co = TypeVar("T_co", covariant=True)


class _InterfaceStatus(msgspec.Struct):
    """An entry of the annotation k8s.v1.cni.cncf.io/network-status, in part."""

    ips: list[str] = []


class ReleaseCause(enum.Enum):
    """Why a record is a candidate. Each cause has its own grace period."""

    POD_GONE = enum.auto()
    """The pod does not exist, has finished, or was replaced by one of the same name; its Node exists."""
    NODE_GONE = enum.auto()
    """The Node object of the pod, or of the record where the pod is gone, does not exist."""
    DELETION_OVERDUE = enum.auto()
    """The pod is being deleted. What it was given to end comes on top of the grace period."""
    DUPLICATE = enum.auto()
    """The pod's interface has another record of the same family, which the pod is known to use."""
    COOLDOWN_OVER = enum.auto()
    """The record is released, and its pool's cooldown is over."""


@dataclass(frozen=True, slots=True)
class ReleaseCandidate:
    """A record that no living pod seems to hold."""

    record: SpiderIP
    cause: ReleaseCause
    reason: str
    since: float
    """Time of the first reading that showed this cause, in seconds of the caller's monotonic clock."""
    kept_duplicate: SpiderIP | None = None
    """The record that the pod's interface keeps, when there are several."""
    further_wait: float = 0.0
    """Seconds beyond the grace period of its cause."""


@dataclass(frozen=True, slots=True)
class GCPolicy:
    """When the deletion of a pod is overdue, and on which nodes that releases its addresses."""

    delay: float = 0.0
    """Seconds to wait after the pod's grace period."""
    on_ready_node: bool = False
    on_not_ready_node: bool = True


class Lister(Protocol[T_co]):
    """A cache, index or dictionary with values by key: an object's ``namespace/name`` or name, or an address."""

    def get(self, key: str, /) -> T_co | None:
        """Returns the value of a key, None when there is none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster as it was read after the records."""

    pods: Lister[Pod]
    nodes: Lister[Node]
    pools: Lister[SpiderIPPool]
    reporters: Lister[Collection[str]]
    """Address → keys of the pods that report it, see :func:`reported_addresses`."""
    now: float
    """Seconds since 1970."""
    policy: GCPolicy = GCPolicy()


def is_alive(pod: Pod) -> bool:
    """Whether a pod may still be given addresses: neither terminating nor finished."""
    return not pod.terminating and not is_finished(pod)


def is_finished(pod: Pod) -> bool:
    """Whether no container of the pod runs or will run again.

    For a kubelet both phases are final whatever the restartPolicy: it also sets them when it evicts or rejects a pod.
    Old kubelets, and others than the kubelet, set Failed while containers still run.
    """
    return pod.status.phase in ("Succeeded", "Failed") and not pod.status.is_running


def pod_key(record: SpiderIP) -> str:
    """``namespace/name`` of the pod that a record names."""
    return f"{record.spec.namespace}/{record.spec.pod}"


def pods_of(record: SpiderIP) -> tuple[str]:
    """The pod of a record: the keys of an index of records by pod, which all that use one share."""
    return (pod_key(record),)


def pod_uids(pod: Pod) -> frozenset[str | None]:
    """The UIDs by which records may name a pod: its own, and that of the static pod which it mirrors."""
    return frozenset((pod.metadata.uid, (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION)))


def reported_addresses(pod: Pod) -> frozenset[str]:
    """Addresses in the pod's status, as canonical text; empty once the pod has finished."""
    if is_finished(pod):
        return frozenset()
    return frozenset(canonical(entry.ip) for entry in pod.status.podIPs or () if entry.ip)


def used_addresses(pod: Pod) -> frozenset[str]:
    """Addresses that a pod is known to use: those in its status, and those of further interfaces, by its annotation.

    The plugin that attaches a pod writes the annotation. One that cannot be read says nothing.
    """
    reported = reported_addresses(pod)
    text = (pod.metadata.annotations or {}).get(STATUS_ANNOTATION)
    if text is None or is_finished(pod):
        return reported
    try:
        entries = msgspec.json.decode(text, type=list[_InterfaceStatus])
        return reported | {canonical(ip) for entry in entries for ip in entry.ips}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return reported


def find_candidates(
    records: Iterable[SpiderIP], snapshot: Snapshot, previous: Mapping[str, ReleaseCandidate], now: float
) -> dict[str, ReleaseCandidate]:
    """Candidates by UID of the record. A candidate of ``previous`` with the same cause keeps its ``since``.

    The caller must read ``records`` before ``snapshot``: a pod exists before its record, so a pod that is missing
    from the later reading is gone. ``records`` must hold all records of a pod or none, to find duplicates.
    """
    records = list(records)
    kept_duplicates = _kept_duplicates(records, snapshot)
    candidates = {}
    for record in records:
        uid = record.metadata.uid or ""
        kept_duplicate = kept_duplicates.get(uid)
        found = _release_cause(record, kept_duplicate, snapshot)
        if found is not None:
            cause, reason = found
            known = previous.get(uid)
            since = known.since if known and known.cause is cause else now
            overdue = cause is ReleaseCause.DELETION_OVERDUE
            wait = _time_to_end(record, snapshot) if overdue else 0.0
            candidates[uid] = ReleaseCandidate(record, cause, reason, since, kept_duplicate, wait)
    return candidates


def past_grace(
    candidates: Mapping[str, ReleaseCandidate], now: float, grace: Mapping[ReleaseCause, float]
) -> list[ReleaseCandidate]:
    """Candidates that an earlier reading has shown at least their cause's ``grace`` in seconds ago, oldest first."""

    def is_past(one: ReleaseCandidate) -> bool:
        # since < now: even without a grace period, one reading alone releases nothing
        return one.since < now and now - one.since >= grace[one.cause] + one.further_wait

    return sorted(filter(is_past, candidates.values()), key=lambda candidate: candidate.since)


def is_stable(records: Collection[SpiderIP], pod: Pod | None) -> bool:
    """Whether no record of a pod can become a candidate before an object changes, just because time passes."""
    if pod is None or not is_alive(pod) or any(record.spec.releasedAt for record in records):
        return False
    return len({_slot(record) for record in records}) == len(records) and all(_holds(pod, each) for each in records)


def _release_cause(
    record: SpiderIP, kept_duplicate: SpiderIP | None, snapshot: Snapshot
) -> tuple[ReleaseCause, str] | None:
    """Why no living pod holds a record; None when one does."""
    if record.spec.releasedAt is not None:
        return _cooldown_cause(record, snapshot)
    key = pod_key(record)
    if any(reporter != key for reporter in snapshot.reporters.get(_address(record)) or ()):
        return None  # the pod that reports the address uses it, whichever pod the record names
    pod = snapshot.pods.get(key)
    reason = _why_not_holder(record, pod)
    node = record.spec.node if pod is None or reason else pod.spec.nodeName
    if node and snapshot.nodes.get(node) is None:
        return ReleaseCause.NODE_GONE, reason or f"node {node} of pod {key} does not exist"
    if reason:
        return ReleaseCause.POD_GONE, reason
    if pod is not None and record.spec.owner is None and (reason := _why_overdue(pod, snapshot)):
        return ReleaseCause.DELETION_OVERDUE, reason
    if kept_duplicate is None:
        return None
    return ReleaseCause.DUPLICATE, f"pod {key} uses {_address(kept_duplicate)} on {record.spec.interface}"


def _cooldown_cause(record: SpiderIP, snapshot: Snapshot) -> tuple[ReleaseCause, str] | None:
    over = cooldown_is_over(record, snapshot.pools.get(record.spec.pool), snapshot.now)
    return (ReleaseCause.COOLDOWN_OVER, f"the cooldown since {record.spec.releasedAt} is over") if over else None


def _why_not_holder(record: SpiderIP, pod: Pod | None) -> str | None:
    """Why the pod of the name in a record does not hold the record; None when it does."""
    if pod is None:
        return f"pod {pod_key(record)} does not exist"
    if is_finished(pod):
        return f"pod {pod.key} has finished ({pod.status.phase})"
    return None if _holds(pod, record) else f"pod {pod.key} is another one of the same name"


def _holds(pod: Pod, record: SpiderIP) -> bool:
    return record.spec.podUID in pod_uids(pod) or _is_reported(record, pod)


def _is_reported(record: SpiderIP, pod: Pod) -> bool:
    return _address(record) in reported_addresses(pod)


def _why_overdue(pod: Pod, snapshot: Snapshot) -> str | None:
    """Why the deletion of a pod may be overdue; None when it may not, or when the policy excludes its node.

    When it is overdue is measured from the first reading that shows it: the deletionTimestamp is by the clock of the
    API server, which may be hours from that of this machine. A mirror pod is deleted when somebody deletes the mirror;
    that says nothing about the static pod.
    """
    node = snapshot.nodes.get(pod.spec.nodeName or "")
    mirror = MIRROR_POD_ANNOTATION in (pod.metadata.annotations or {})
    if node is None or not pod.terminating or mirror:
        return None
    ready, policy = node.ready, snapshot.policy
    if not (policy.on_ready_node if ready else policy.on_not_ready_node):
        return None
    return f"pod {pod.key} should have ended and its node is {'ready' if ready else 'not ready'}"


def _time_to_end(record: SpiderIP, snapshot: Snapshot) -> float:
    """Seconds that the pod of a record has for its end, by its grace period and the policy."""
    pod = snapshot.pods.get(pod_key(record))
    return ((pod.metadata.deletionGracePeriodSeconds if pod else None) or 0) + snapshot.policy.delay


def _kept_duplicates(records: Iterable[SpiderIP], snapshot: Snapshot) -> dict[str, SpiderIP]:
    """UID of each superfluous record → the record that the same interface keeps.

    No record is superfluous unless the pod is known to use another one: it may be about to use any of them.
    """
    by_slot: dict[tuple[str, str, int], list[SpiderIP]] = defaultdict(list)
    for record in records:
        if record.spec.releasedAt is None:
            by_slot[_slot(record)].append(record)
    superfluous: dict[str, SpiderIP] = {}
    for duplicates in by_slot.values():
        pod = snapshot.pods.get(pod_key(duplicates[0]))
        if len(duplicates) > 1 and pod is not None:
            in_use = used_addresses(pod)
            kept = next((each for each in duplicates if _address(each) in in_use), None)
            others = (each for each in duplicates if _address(each) not in in_use)
            superfluous |= {record.metadata.uid or "": kept for record in others if kept is not None}
    return superfluous


def _slot(record: SpiderIP) -> tuple[str, str, int]:
    """What a pod needs one record for: an address family of one of its interfaces."""
    return record.spec.podUID, record.spec.interface, family(record)


def _address(record: SpiderIP) -> str:
    return record.spec.address.partition("/")[0]
