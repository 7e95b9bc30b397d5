"""Pods that wait for an address, explained by the functions that the agents decide with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.cli.doctor.look import ClusterSnapshot
from spiderpool.cli.explain.answer import Explanation, explain
from spiderpool.cli.explain.case import PodCase, top_controller
from spiderpool.cli.explain.pod_plan import needed_records
from spiderpool.cli.finding import Finding
from spiderpool.cli.printing import object_reference, seconds_since
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.owners import Controller
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.kube.client import ApiRefusal
from spiderpool.kube.owners import OwnerReader

MOST_PODS = 50
"""Pods that are explained; of more, the ones that wait longest."""
WAITS = 15.0
"""Seconds for which a pod may have no address: its sandbox is being made."""
SHOWN = 3
UNREAD = (ApiRefusal, ApiUnavailable)
"""Errors that say that owners of a pod could not be read, and nothing of the pod."""

Controllers = Mapping[str, tuple[Controller | None, SpiderpoolError | None]]
"""By pod, its top controller, and why it is not known."""


def waiting_pods(snapshot: ClusterSnapshot, now: datetime) -> list[Pod]:
    """Pods on a node that have no address for longer than making a sandbox takes."""
    found = [each for each in snapshot.pods or () if _waits(each, now)]
    return sorted(found, key=lambda each: (each.metadata.creationTimestamp or "", each.key))[:MOST_PODS]


def _waits(pod: Pod, now: datetime) -> bool:
    if not pod.spec.nodeName or pod.spec.hostNetwork or pod.terminating:
        return False
    has_address = bool(pod.status.podIPs)
    waited = seconds_since(pod.metadata.creationTimestamp, now)
    return not has_address and pod.status.phase in (None, "Pending") and waited is not None and waited > WAITS


async def read_controllers(owners: OwnerReader, pods: Iterable[Pod], timeout: float) -> Controllers:
    """The top controllers of pods, which may have pools of their own."""
    return {each.key: await top_controller(owners, each, timeout) for each in pods}


def refusal_findings(snapshot: ClusterSnapshot, controllers: Controllers, now: datetime) -> Iterator[Finding]:
    """Pods that get no address, those with the same remedy together; none where what decides may not be read."""
    found = snapshot.installation
    decisive = (snapshot.policies, snapshot.records, found.pools, found.nodes, snapshot.networks, snapshot.namespaces)
    if snapshot.records is None or any(each is None for each in decisive):
        return
    records = [each for each in snapshot.records if not each.defect()]
    groups: dict[tuple[str, ...], list[_Refused]] = {}
    for pod in waiting_pods(snapshot, now):
        is_known = pod.key in controllers and not isinstance(controllers[pod.key][1], UNREAD)
        if is_known and _is_ours(pod, snapshot):
            case = _case(pod, snapshot, controllers)
            explained = explain(replace(case, records=tuple(_concerning(case, records))), now)
            if explained.refusal:
                groups.setdefault(explained.advice or (explained.refusal,), []).append(_Refused(pod, explained))
    for group in groups.values():
        yield _finding(group)


@dataclass(frozen=True, slots=True)
class _Refused:
    pod: Pod
    explanation: Explanation


def _is_ours(pod: Pod, snapshot: ClusterSnapshot) -> bool:
    """Whether it is known which network the pod has: one that names none may be in that of another CNI plugin."""
    assert snapshot.policies is not None
    return DEFAULT_NETWORK_ANNOTATION in (pod.metadata.annotations or {}) or snapshot.policies.network_note is None


def _case(pod: Pod, snapshot: ClusterSnapshot, controllers: Controllers) -> PodCase:
    """The case of a pod, of what was read of all."""
    assert snapshot.policies is not None
    node = pod.spec.nodeName or ""
    nodes = snapshot.installation.nodes or ()
    controller, refusal = controllers[pod.key]
    return PodCase(
        pod=pod,
        node_name=node,
        policies=snapshot.policies,
        exists=True,
        node=next((each for each in nodes if each.name == node), None),
        server=next((each for each in snapshot.servers if each.name == node), None),
        namespace=next((each for each in snapshot.namespaces or () if each.name == pod.metadata.namespace), None),
        pools=snapshot.installation.pools or (),
        reserved=snapshot.installation.reserved,
        networks=snapshot.networks or (),
        quotas=tuple(each for each in snapshot.quotas if each.metadata.namespace == pod.metadata.namespace),
        controller=controller,
        controller_refusal=refusal,
        events=(),
        accounts=snapshot.installation.accounts or (),
        nodes=nodes,
        pods=snapshot.pods or (),
    )


def _concerning(case: PodCase, records: Iterable[SpiderIP]) -> Iterator[SpiderIP]:
    """The records that decide about a pod: of its node, of owners, of pools that may serve it, and what it asks for."""
    pools, addresses = map(frozenset, needed_records(case))
    names = frozenset(map(object_name, addresses))
    for each in records:
        spec = each.spec
        if spec.pool in pools or spec.node == case.node_name or spec.owner or each.name in names:
            yield each


def _finding(group: list[_Refused]) -> Finding:
    first = group[0]
    explained = first.explanation
    names = [f"{each.pod.key} on node {each.explanation.node}" for each in group]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    pods = "pod" if len(names) == 1 else f"{len(names)} pods"
    gets = "gets" if len(names) == 1 else "get"
    what = f"{pods} {', '.join(names[:SHOWN])}{more} {gets} no address: {_cause(explained)}"
    hint = "; or ".join(explained.advice) or f"see spiderpoolctl explain pod {first.pod.key}"
    node = explained.node if len({each.explanation.node for each in group}) == 1 else None
    evidence = tuple(dict.fromkeys(each.explanation.refusal or "" for each in group))[:SHOWN]
    return Finding("pod-refused", _subject(first), what, hint, evidence, node)


def _cause(explained: Explanation) -> str:
    """The verdict on the pool that would suit first, as in the advice; else the whole sentence."""
    verdict = next(_dropping(explained), None)
    return f"pool {verdict[0]}: {verdict[1]}" if verdict else explained.refusal or ""


def _dropping(explained: Explanation) -> Iterator[tuple[str, str]]:
    """Pools that were dropped, and why: full ones first, since they suit but for that."""
    verdicts = [each for one in explained.addresses if one.refusal for each in one.pools if not each.kept]
    for each in sorted(verdicts, key=lambda each: each.rule != "exhausted"):
        yield each.subject, each.reason


def _subject(refused: _Refused) -> str:
    verdict = next(_dropping(refused.explanation), None)
    if verdict:
        return object_reference(SpiderIPPool, verdict[0])
    return object_reference(Pod, refused.pod.name)
