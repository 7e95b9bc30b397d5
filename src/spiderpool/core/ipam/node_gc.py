"""GC on one node: which of its records belong to no pod any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_interface

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam.gc import is_finished, pod_key, pod_uids, reported_addresses


def lives(held: SpiderIP, pod: Pod | None) -> bool:
    """Whether a pod is there that holds a record, by its UID or by what it reports. One that is ending lives still."""
    if pod is None or is_finished(pod):
        return False
    return held.spec.podUID in pod_uids(pod) or _text(held) in reported_addresses(pod)


def orphans(records: Iterable[SpiderIP], pods: Collection[Pod], attached: Collection[str]) -> list[SpiderIP]:
    """Records whose pod is not among ``pods``, those of the node, and whose UID is not ``attached``.

    Nobody's that wait for the end of a cooldown are not among them, nor an address that any of the pods reports.
    """
    by_key = {pod.key: pod for pod in pods}
    reported = {text for pod in pods for text in reported_addresses(pod)}
    return [
        held
        for held in records
        if held.spec.releasedAt is None
        and held.spec.podUID not in attached
        and _text(held) not in reported
        and not lives(held, by_key.get(pod_key(held)))
    ]


def living_addresses(
    records: Iterable[SpiderIP], pods: Collection[Pod], attached: Collection[str]
) -> Iterator[IPv4Address | IPv6Address]:
    """Addresses of records that have a holder, and those that pods report."""
    records = list(records)
    gone = {held.name for held in orphans(records, pods, attached)}
    yield from (_address(held) for held in records if held.name not in gone)
    for pod in pods:
        yield from (ip_interface(text).ip for text in reported_addresses(pod))


def _address(held: SpiderIP) -> IPv4Address | IPv6Address:
    return ip_interface(held.spec.address).ip


def _text(held: SpiderIP) -> str:
    return str(_address(held))
