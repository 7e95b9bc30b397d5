"""Decides when the cluster's garbage collection (GC) may take an address from a pod.

A record (SpiderIP) is in one of these states. Only ``releasedAt`` is written to the API server; everything
between held and released lives in the memory of the controller that holds the leader lease::

    HELD          A living pod holds the record: by its UID, or because its status reports the address.
      ↓           find_candidates(): one reading, from the informers' caches, shows no holder. Evidence: a
                  ReleaseCause.
    CANDIDATE     Has a cause, and the time of the first reading that showed this cause (``since``).
      ↓           past_grace(): a later reading, at least the grace period of the cause after ``since``, still
                  shows the cause. One reading that shows a holder, or another cause, or another version of the
                  record, starts the wait anew.
    PAST GRACE    Neither time nor the end of a pod object is evidence that its sandbox is gone. So the controller
      ↓           asks each node on which a sandbox may have the address for its account (SpiderNode).
    UNUSED        use_by_candidate(): each of these nodes does not exist, or its account, taken after a question
      ↓           that was sent after ``since``, shows no sandbox of the pod, and none with the address, or it has
                  not answered and is said to be stopped (see ``evidence``). Another node that does not answer
                  keeps the address PAST GRACE, and so does a sandbox that runs, until an account lacks it.
    CONFIRMED     The controller reads the pod, its Nodes and their accounts from the API server.
      ↓           find_candidates() and use_by_candidate() again, on that fresh read, agree. No StatefulSet or
                  virtual machine keeps the address. The write names the UID and version of the record that was
                  read, so it fails when a client has changed the record meanwhile.
    RELEASED      The pool has a cooldown: ``releasedAt`` is set. The record stays until the cooldown is over.
      ↓           cooldown_is_over(): the record is a candidate again, with cause COOLDOWN_OVER, which needs no
                  node's word. An agent that needs the address may take over the record first.
    DELETED       At once, when the pool has no cooldown.

While a pod's Node exists, its agent releases what the pod held, at the DEL of the runtime. The end of a pod takes as
long as it takes; the causes POD_GONE and DELETION_OVERDUE are for what an agent has missed. All waits are measured by
the monotonic clock of the controller, never by comparing its clock with a time that another machine wrote, but for the
end of a cooldown, when no pod holds the address.

A restart of the controller, or a new leader, forgets candidates and questions and starts every wait anew: this delays a
release and never hastens one. The agent of the record's node releases addresses too (CNI DEL and GC, see
``node_gc``); then the record changes or goes, and its candidate with it.

Nothing here reads the API server or a clock.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.addresses import canonical
from spiderpool.core.ipam.allocation import Slot, address_text, cooldown_is_over, slot_of
from spiderpool.core.ipam.evidence import (
    AddressUse,
    NodeEvidence,
    addresses_used_by,
    use_of,
    use_of_duplicate,
    why_stopped,
)

STATIC_POD_ANNOTATION = "kubernetes.io/config.hash"
"""On the mirror of a static pod: the UID by which the kubelet, and so the CNI plugin, knows the pod."""

MIRROR_POD_ANNOTATION = "kubernetes.io/config.mirror"
"""On the mirror of a static pod, whose deletion ends no container: its kubelet makes another mirror."""

T_co = TypeVar("T_co", covariant=True)


class ReleaseCause(enum.Enum):
    """Why a record is a candidate. Each cause has its own grace period."""

    POD_GONE = enum.auto()
    """The pod does not exist, has finished, or was replaced by one of the same name; its Nodes exist."""
    NODE_GONE = enum.auto()
    """The Node object of the pod, or of the record where the pod is no holder, does not exist."""
    DELETION_OVERDUE = enum.auto()
    """The pod is being deleted. What it was given to end comes on top of the grace period."""
    DUPLICATE = enum.auto()
    """The pod's interface has another record of the same family, which its sandbox uses."""
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
    nodes: tuple[str, ...] = ()
    """Where a sandbox may have the address; the last one is the pod's. Empty when no node needs to say a word."""
    kept_duplicate: SpiderIP | None = None
    """The record that the pod's interface keeps, when there are several."""
    further_wait: float = 0.0
    """Seconds beyond the grace period of its cause."""


@dataclass(frozen=True, slots=True)
class GCPolicy:
    """When the deletion of a pod is overdue, on which nodes that makes candidates, and whether time is evidence."""

    delay: float = 0.0
    """Seconds to wait after the pod's grace period."""
    on_ready_node: bool = True
    on_not_ready_node: bool = True
    by_time: bool = False
    """Whether a node that does not answer counts as one that has no sandbox with the address."""
    answer_time: float = 30.0
    """Seconds after which a node that was asked counts as one that does not answer."""


class Lister(Protocol[T_co]):
    """A cache, index or dictionary with values by key: an object's ``namespace/name`` or name, or an address."""

    def get(self, key: str, /) -> T_co | None:
        """Returns the value of a key, None when there is none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster as it was read after the records."""

    pods: Lister[Pod]
    nodes: Lister[Node]
    accounts: Lister[SpiderNode]
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


def find_candidates(
    records: Iterable[SpiderIP], snapshot: Snapshot, previous: Mapping[str, ReleaseCandidate], now: float
) -> dict[str, ReleaseCandidate]:
    """Candidates by UID of the record. A candidate of ``previous`` keeps its ``since`` with its version and cause.

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
            since = known.since if known and known.cause is cause and _same_version(known.record, record) else now
            wait = _time_to_end(record, snapshot) if cause is ReleaseCause.DELETION_OVERDUE else 0.0
            nodes = () if cause is ReleaseCause.COOLDOWN_OVER else _nodes(record, snapshot)
            candidates[uid] = ReleaseCandidate(record, cause, reason, since, nodes, kept_duplicate, wait)
    return candidates


def past_grace(
    candidates: Mapping[str, ReleaseCandidate], now: float, grace: Mapping[ReleaseCause, float]
) -> list[ReleaseCandidate]:
    """Candidates that an earlier reading has shown at least their cause's ``grace`` in seconds ago, oldest first."""

    def is_past(one: ReleaseCandidate) -> bool:
        # since < now: even without a grace period, one reading alone releases nothing
        return one.since < now and now - one.since >= grace[one.cause] + one.further_wait

    return sorted(filter(is_past, candidates.values()), key=lambda candidate: candidate.since)


def use_by_candidate(
    candidate: ReleaseCandidate, nodes: Lister[NodeEvidence], policy: GCPolicy, now: float
) -> tuple[AddressUse, str]:
    """Whether the address of a candidate is in use on one of its nodes, and why; FREE when all say that it is not."""
    reasons = []
    for name in candidate.nodes:
        evidence = nodes.get(name) or NodeEvidence(name)
        use, reason = _use_on_node(candidate, evidence, policy, now)
        if use is AddressUse.UNKNOWN and policy.by_time and _is_silent(candidate, evidence, policy, now):
            use, reason = AddressUse.FREE, f"{reason}, and time counts as evidence"
        if use is not AddressUse.FREE:
            return use, reason
        reasons.append(reason)
    return AddressUse.FREE, "; ".join(reasons)


def silent_nodes(candidate: ReleaseCandidate, nodes: Lister[NodeEvidence], policy: GCPolicy, now: float) -> list[str]:
    """The nodes of a candidate that had time enough to answer and have not, or that cannot be asked."""
    found = []
    for name in candidate.nodes:
        evidence = nodes.get(name) or NodeEvidence(name)
        use, _ = _use_on_node(candidate, evidence, policy, now)
        if use is AddressUse.UNKNOWN and _is_silent(candidate, evidence, policy, now):
            found.append(name)
    return found


def _is_silent(candidate: ReleaseCandidate, evidence: NodeEvidence, policy: GCPolicy, now: float) -> bool:
    return evidence.is_silent(candidate.since, now, policy.answer_time)


def _use_on_node(
    candidate: ReleaseCandidate, evidence: NodeEvidence, policy: GCPolicy, now: float
) -> tuple[AddressUse, str]:
    """Whether a candidate's address is in use on one node. A duplicate's pod lives, and uses another on its node.

    That a node is stopped is believed when its agent does not answer: an agent that answers runs there.
    """
    kept = candidate.kept_duplicate
    if candidate.cause is ReleaseCause.DUPLICATE and kept is not None and evidence.name == candidate.nodes[-1]:
        return use_of_duplicate(candidate.record, kept, evidence, candidate.since)
    use, reason = use_of(candidate.record, evidence, candidate.since)
    stopped = why_stopped(evidence.node, evidence.account) if evidence.node else None
    if use is AddressUse.UNKNOWN and stopped and _is_silent(candidate, evidence, policy, now):
        return AddressUse.FREE, stopped
    return use, reason


def is_stable(records: Collection[SpiderIP], pod: Pod | None) -> bool:
    """Whether no record of a pod can become a candidate before an object changes, just because time passes."""
    if pod is None or not is_alive(pod) or any(record.spec.releasedAt for record in records):
        return False
    return len({slot_of(record) for record in records}) == len(records) and all(_holds(pod, each) for each in records)


def _release_cause(
    record: SpiderIP, kept_duplicate: SpiderIP | None, snapshot: Snapshot
) -> tuple[ReleaseCause, str] | None:
    """Why no living pod holds a record; None when one does."""
    if record.spec.releasedAt is not None:
        return _cooldown_cause(record, snapshot)
    key = pod_key(record)
    if any(reporter != key for reporter in snapshot.reporters.get(address_text(record)) or ()):
        return None  # the pod that reports the address uses it, whichever pod the record names
    pod = snapshot.pods.get(key)
    reason = _why_not_holder(record, pod)
    nodes = _nodes(record, snapshot) if pod is None or reason else (pod.spec.nodeName,)
    if any(node and snapshot.nodes.get(node) is None for node in nodes):
        return ReleaseCause.NODE_GONE, reason or f"pod {key} runs nowhere"
    if reason:
        return ReleaseCause.POD_GONE, reason
    if pod is not None and record.spec.owner is None and (reason := _why_overdue(pod, snapshot)):
        return ReleaseCause.DELETION_OVERDUE, reason
    if kept_duplicate is None:
        return None
    used = address_text(kept_duplicate)
    return ReleaseCause.DUPLICATE, f"pod {key} uses {used} on {record.spec.interface}"


def _nodes(record: SpiderIP, snapshot: Snapshot) -> tuple[str, ...]:
    """The nodes on which a sandbox may have the address of a record; that of the pod comes last.

    Besides it is the record's, and those from which a virtual machine was to move.
    """
    pod = snapshot.pods.get(pod_key(record))
    node = (pod.spec.nodeName if pod is not None and _holds(pod, record) else None) or record.spec.node
    former = [each.node for each in record.spec.movedFrom or ()]
    return (*dict.fromkeys(name for name in (record.spec.node, *former) if name != node), node)


def _same_version(one: SpiderIP, other: SpiderIP) -> bool:
    return one.metadata.resourceVersion == other.metadata.resourceVersion


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
    return address_text(record) in reported_addresses(pod)


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

    No record is superfluous unless the node's account says that the sandbox uses another one: it may be about to use
    any of them.
    """
    by_slot: dict[Slot, list[SpiderIP]] = defaultdict(list)
    for record in records:
        if record.spec.releasedAt is None:
            by_slot[slot_of(record)].append(record)
    superfluous: dict[str, SpiderIP] = {}
    for duplicates in by_slot.values():
        if len(duplicates) > 1:
            used = _used_on_interface(duplicates[0], snapshot)
            kept = next((each for each in duplicates if address_text(each) in used), None)
            others = (each for each in duplicates if address_text(each) not in used)
            superfluous |= {record.metadata.uid or "": kept for record in others if kept is not None}
    return superfluous


def _used_on_interface(record: SpiderIP, snapshot: Snapshot) -> frozenset[str]:
    """The addresses that a record's interface has, by the account of the pod's node as it was last published."""
    account = snapshot.accounts.get(_nodes(record, snapshot)[-1])
    if account is None or account.status is None:
        return frozenset()
    return addresses_used_by(account.status, record.spec.podUID, record.spec.interface) or frozenset()
