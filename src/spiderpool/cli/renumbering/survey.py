"""Who holds addresses of pools, as it is read from the cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachineInstance
from spiderpool.cli.connection import Cluster
from spiderpool.cli.renumbering.holders import AddressHolder, EmptiedPart, claims_machine, held_records, holders_of
from spiderpool.errors import Refused


@dataclass(frozen=True, slots=True)
class PoolSurvey:
    """All pools, and who holds the addresses that are to be empty."""

    pools: tuple[SpiderIPPool, ...]
    records: tuple[SpiderIP, ...]
    """All that hold one of them."""
    pods: Mapping[str, EvictablePod]
    """Those of the holders' Namespaces, by namespace/name."""
    holders: tuple[AddressHolder, ...]


async def pool_named(cluster: Cluster, name: str) -> SpiderIPPool:
    """A pool. Raises Refused when it does not exist, or may not be read."""
    found = await cluster.find(SpiderIPPool, name)
    if found is None:
        raise Refused(f"SpiderIPPool {name} does not exist, or may not be read; see `kubectl get spiderippools`")
    return found


async def survey(cluster: Cluster, parts: Collection[EmptiedPart]) -> PoolSurvey:
    """Who holds addresses of the parts: records are read before pods. Raises Refused where one may not be read."""
    pools = await cluster.needed(SpiderIPPool)
    records = held_records(parts, await cluster.needed(SpiderIP))
    namespaces = sorted({record.spec.namespace for record in records})
    pods = [pod for each in namespaces for pod in await cluster.needed(EvictablePod, each)]
    by_name = {pod.key: pod for pod in pods}
    machines = await _machines(cluster, pods)
    holders = holders_of(parts, records, by_name, pools, machines)
    return PoolSurvey(tuple(pools), tuple(records), by_name, tuple(holders))


async def _machines(cluster: Cluster, pods: Iterable[EvictablePod]) -> frozenset[str]:
    """The UIDs of the virtual machines that pods say they are of, and that exist; all of them where that is unknown.

    Who makes pods writes what their owners are called.
    """
    claimed = {(pod.metadata.namespace, owner.uid) for pod in pods if (owner := claims_machine(pod))}
    kind, found = VirtualMachineInstance, set[str]()
    for namespace in sorted({namespace or "" for namespace, _ in claimed}):
        there = await cluster.list(kind, namespace)
        if there is None and kind.KIND.name in cluster.unread:
            found |= {uid for where, uid in claimed if where == namespace}
        found |= {each.metadata.uid or "" for each in there or ()}
    return frozenset(found)
