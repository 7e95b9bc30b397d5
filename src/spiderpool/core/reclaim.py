"""Which addresses may be released: those whose holder is gone, as two observations and a fresh read agree.

A record is doubted when its pod is gone, was replaced, or has finished. A doubt is acted on when two
observations that lie a grace period apart share it; whoever acts reads the pod once more before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP

STATIC_POD_ANNOTATION = "kubernetes.io/config.hash"
"""On the mirror of a static pod: the UID by which the kubelet, and so the CNI plugin, knows the pod."""

EVICTED = "Evicted"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A record whose holder seems to be gone."""

    ip: SpiderIP
    reason: str
    since: float
    """Time of the first observation, in seconds of the observer's clock."""


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


def why_orphaned(ip: SpiderIP, pod: Pod | None) -> str | None:
    """Why a record has no holder, given the pod of the name that it holds; None when it has one."""
    name = f"{ip.spec.namespace}/{ip.spec.pod}"
    if pod is None:
        return f"pod {name} does not exist"
    if is_finished(pod):
        return f"pod {name} has finished ({pod.status.phase})"
    if ip.spec.podUID not in _identities(pod) and _address(ip) not in reported_addresses(pod):
        return f"pod {name} is another one of the same name"
    return None


def reported_addresses(pod: Pod) -> frozenset[str]:
    """Addresses that the pod's status reports, in canonical text; none once the pod has finished."""
    if is_finished(pod):
        return frozenset()
    return frozenset(str(ip_address(entry.ip)) for entry in pod.status.podIPs or () if entry.ip)


def observe(ips: Iterable[SpiderIP], pods: Iterable[Pod], earlier: Mapping[str, Doubt], now: float) -> dict[str, Doubt]:
    """Doubts by UID of the record. A doubt keeps its time as long as every observation shares it.

    ``ips`` must have been read before ``pods``: a pod exists before its record, so a record whose pod is
    missing from the later reading is one whose pod is gone.
    """
    by_name = {(pod.metadata.namespace, pod.name): pod for pod in pods}
    reported = frozenset(address for pod in by_name.values() for address in reported_addresses(pod))
    doubts = {}
    for ip in ips:
        reason = why_orphaned(ip, by_name.get((ip.spec.namespace, ip.spec.pod)))
        if reason and _address(ip) not in reported:
            uid = ip.metadata.uid or ""
            doubts[uid] = Doubt(ip, reason, earlier[uid].since if uid in earlier else now)
    return doubts


def due(doubts: Mapping[str, Doubt], now: float, grace: float) -> list[Doubt]:
    """Doubts of two observations at least ``grace`` seconds apart, the oldest first."""
    ripe = (doubt for doubt in doubts.values() if doubt.since < now and now - doubt.since >= grace)
    return sorted(ripe, key=lambda doubt: doubt.since)


def _identities(pod: Pod) -> frozenset[str | None]:
    return frozenset((pod.metadata.uid, (pod.metadata.annotations or {}).get(STATIC_POD_ANNOTATION)))


def _address(ip: SpiderIP) -> str:
    return ip.spec.address.partition("/")[0]
