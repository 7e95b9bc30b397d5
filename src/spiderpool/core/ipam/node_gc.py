"""Decides which addresses of its own node an agent may release, when the container runtime calls CNI GC.

A record goes through two states here, and none of them outlives the call::

    HELD          A pod of the node holds the record (by its UID, or because a pod reports the address), or the
      ↓           agent has a sandbox on file for the pod. Evidence that neither is so: the informer's cache.
    ORPHAN        orphans(). The agent then reads the pod from the API server.
      ↓           is_holder() is False for that fresh read too. If the API server does not answer, nothing is released.
    RELEASED      Deleted, or ``releasedAt`` is set when the pool has a cooldown.

Unlike in ``gc`` there is no grace period: a pod exists before its record, so a pod that the fresh read does not show
is gone, and the agent alone gives addresses to the pods of its node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_interface

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam.gc import is_finished, pod_key, pod_uids, reported_addresses


def is_holder(pod: Pod | None, record: SpiderIP) -> bool:
    """Whether a pod holds a record, by its UID or by what its status reports; also while it terminates."""
    if pod is None or is_finished(pod):
        return False
    return record.spec.podUID in pod_uids(pod) or _text(record) in reported_addresses(pod)


def orphans(records: Iterable[SpiderIP], pods: Collection[Pod], attached: Collection[str]) -> list[SpiderIP]:
    """The records that no pod holds; ``pods`` are those of the node, ``attached`` the UIDs of pods with a sandbox.

    Does not include released records, which are in their cooldown, nor addresses that any of the pods reports.
    """
    by_key = {pod.key: pod for pod in pods}
    reported = {text for pod in pods for text in reported_addresses(pod)}
    return [
        record
        for record in records
        if record.spec.releasedAt is None
        and record.spec.podUID not in attached
        and _text(record) not in reported
        and not is_holder(by_key.get(pod_key(record)), record)
    ]


def addresses_in_use(
    records: Iterable[SpiderIP], pods: Collection[Pod], attached: Collection[str]
) -> Iterator[IPv4Address | IPv6Address]:
    """Addresses of all records but orphans, and those that pods report; may repeat some."""
    records = list(records)
    orphaned = {record.name for record in orphans(records, pods, attached)}
    yield from (_address(record) for record in records if record.name not in orphaned)
    for pod in pods:
        yield from (ip_interface(text).ip for text in reported_addresses(pod))


def _address(record: SpiderIP) -> IPv4Address | IPv6Address:
    return ip_interface(record.spec.address).ip


def _text(record: SpiderIP) -> str:
    return str(_address(record))
