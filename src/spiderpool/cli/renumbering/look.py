"""What is read before pods move: pools, holders of addresses, and whether the addresses that stay have room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec.structs import replace as changed

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import (
    APPLICATION_KIND_LABEL,
    APPLICATION_NAME_LABEL,
    APPLICATION_NAMESPACE_LABEL,
    IP_NUMBER_ANNOTATION,
    SUBNET_ANNOTATION,
    SpiderSubnet,
)
from spiderpool.cli.connection import Cluster
from spiderpool.cli.plan.answer import AddressPlan, Placement, address_plan
from spiderpool.cli.plan.case import ClusterFacts, after_end, planned_groups, read_facts
from spiderpool.cli.plan.pods import replacements
from spiderpool.cli.policies import PolicyOptions, read_policies
from spiderpool.cli.renumbering.holders import EmptiedPart
from spiderpool.cli.renumbering.moving import chosen
from spiderpool.cli.renumbering.survey import PoolSurvey
from spiderpool.core.ipam.owners import is_automatic
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnets import is_cut_from


def why_not_ours(pool: SpiderIPPool, subnets: Iterable[SpiderSubnet] = ()) -> str | None:
    """Who owns a pool that is not for people to change, and where to change it; None for other pools."""
    if pool.eni is not None:
        return (
            f"pool {pool.name} has the addresses of ENI {pool.eni}, and the controller keeps it so: assign "
            "addresses to that ENI in the cloud, or unassign them, and the pool follows"
        )
    if is_automatic(pool):
        labels = pool.metadata.labels or {}
        names = (APPLICATION_KIND_LABEL, APPLICATION_NAMESPACE_LABEL, APPLICATION_NAME_LABEL)
        kind, namespace, name = (labels.get(each, "?") for each in names)
        subnet = next((each.name for each in subnets if is_cut_from(pool, each)), pool.spec.subnet)
        return (
            f"pool {pool.name} was made of SpiderSubnet {subnet} for {kind} {namespace}/{name}, which it follows: "
            f"change the annotations {SUBNET_ANNOTATION} and {IP_NUMBER_ANNOTATION} of its pod template"
        )
    return None


@dataclass(frozen=True, slots=True)
class RoomQuestion:
    """Which pods get other addresses, from what there is then."""

    parts: tuple[EmptiedPart, ...]
    added: tuple[SpiderIPPool, ...]
    """Pools that are made before."""
    unmanaged: bool
    """Whether pods without a controller are evicted too, for which none come."""
    jobs: bool
    """The same of pods of Jobs."""
    policies: PolicyOptions

    async def answer(self, cluster: Cluster, found: PoolSurvey) -> AddressPlan | None:
        """Whether the pods that come in the place of evicted ones get addresses; None when none is evicted."""
        evicted = [found.pods[each.pod] for each in chosen(found.holders, unmanaged=self.unmanaged, jobs=self.jobs)]
        if not evicted:
            return None
        policies = await read_policies(cluster, self.policies)
        change = replacements(evicted)
        facts = await read_facts(cluster, policies, datetime.now(UTC).timestamp())
        then = self._then(after_end(facts, change.ended))
        groups = await planned_groups(cluster, then, change)
        return address_plan(then, then, groups, [], change.notes)

    def _then(self, facts: ClusterFacts) -> ClusterFacts:
        """The cluster when the parts give no address any more."""
        by_name = {part.pool.name: part for part in self.parts}
        known = {pool.name for pool in facts.pools}
        pools = [emptied(by_name[pool.name]) if pool.name in by_name else pool for pool in facts.pools]
        pools += [pool for pool in self.added if pool.name not in known]
        reserved = dict(facts.reserved)
        for part in self.parts:
            if not part.closes_pool:
                reserved[version_of(part.pool)] |= part.addresses
        return replace(facts, pools=tuple(pools), reserved=reserved)


def emptied(part: EmptiedPart) -> SpiderIPPool:
    """The pool as it is while pods move away from a part of it."""
    pool = part.pool
    metadata = changed(pool.metadata, annotations={**(pool.metadata.annotations or {}), **part.annotation})
    return changed(pool, metadata=metadata, spec=changed(pool.spec, disable=part.closes_pool or pool.spec.disable))


def why_no_room(plan: AddressPlan | None) -> list[str]:
    """Why the pods that come would not all get addresses; empty when they do, spread evenly over their nodes."""
    if plan is None:
        return []
    lost = next((each for each in plan.placements if each.placement is Placement.EVEN and each.refused), None)
    found = []
    if lost is not None:
        shown = f": {lost.refusals[0].message}" if lost.refusals else ""
        found.append(f"the pools that stay have no room for {lost.refused} of {lost.pods} pods{shown}")
    found += [f"no node may take the pods of {each.workload}: {'; '.join(each.reasons)}" for each in plan.pending]
    if plan.unread:
        found.append(f"what could not be read may have a say: {', '.join(plan.unread)}")
    return found


def verdict(plan: AddressPlan | None, why: Sequence[str]) -> str | None:
    """A sentence about the room that there is; None when no pod comes, or there is none."""
    if plan is None or why:
        return None
    pods = sum(each.pods for each in plan.workloads)
    return f"The pools that stay have room for the {pods} pods that come in the place of those that are evicted"
