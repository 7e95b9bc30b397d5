"""How the pools of applications would follow planned pods, by the functions that the controller sizes them with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spiderpool.api.applications import DaemonSet
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.plan.case import ClusterFacts
from spiderpool.cli.plan.pods import PlannedChange, PlannedPods
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, family
from spiderpool.core.ipam.application_pools import SubnetUse, desired_pool, find_pool, pool_names
from spiderpool.core.ipam.applications import PoolClaim, PoolSlot, workload_claim
from spiderpool.core.ipam.eligible_nodes import why_not_schedulable
from spiderpool.core.ipam.quota import remaining_addresses, used_addresses
from spiderpool.core.ipam.subnet_addresses import pool_addresses, why_subnet_unusable
from spiderpool.core.ipam.subnets import is_cut_from
from spiderpool.errors import BadConfig


@dataclass(frozen=True, slots=True)
class GrownPool:
    """What becomes of the pool of an application."""

    subnet: str
    pool: str | None
    """None where the subnet cannot be used."""
    before: int
    after: int
    wanted: int
    reason: str | None = None
    """Why the subnet cannot be used."""

    def __str__(self) -> str:
        if self.pool is None:
            return f"SpiderSubnet {self.subnet} {self.reason}"
        how = f"grows from {self.before} to {self.after}" if self.before else f"is made with {self.after}"
        cut = "" if self.after >= self.wanted else f" of {self.wanted} wanted ones: subnet or quota have no more"
        return f"pool {self.pool} of SpiderSubnet {self.subnet} {how} addresses{cut}"


def with_grown_pools(facts: ClusterFacts, change: PlannedChange) -> tuple[ClusterFacts, list[GrownPool]]:
    """The cluster with the pools as the controller would make them, and what is other than now."""
    found = []
    for planned in change.pods:
        if claim := _claim(facts, planned):
            for slot in claim.slots:
                if slot.version in facts.policies.addresses.families:
                    facts, growth = _with_pool(facts, claim, slot)
                    found += [growth] if growth.before != growth.after or growth.reason else []
    return facts, found


def _claim(facts: ClusterFacts, planned: PlannedPods) -> PoolClaim | None:
    policy, workload = facts.policies.addresses, planned.source
    if workload is None or not (policy.subnets and policy.automatic):
        return None
    try:
        claim = workload_claim(workload, facts.policies.spare)
    except BadConfig:  # the pods are refused in these words
        return None
    if claim is not None and isinstance(workload, DaemonSet):
        spec = planned.sample.spec
        return replace(claim, pods=sum(why_not_schedulable(spec, node) is None for node in facts.nodes))
    return claim


def _with_pool(facts: ClusterFacts, claim: PoolClaim, slot: PoolSlot) -> tuple[ClusterFacts, GrownPool]:
    subnet = next((each for each in facts.subnets if each.name == slot.subnet), None)
    reason = why_subnet_unusable(subnet, slot.version) if subnet else "does not exist"
    if subnet is None or reason:
        return facts, GrownPool(slot.subnet, None, 0, 0, claim.size, reason)
    peers = tuple(pool for pool in facts.pools if is_cut_from(pool, subnet))
    stored = find_pool(peers, claim.application, slot)
    before = pool_addresses(stored, slot.version).size if stored else 0
    use = SubnetUse(subnet, peers, facts.reserved[slot.version], _in_use(facts, peers, slot.version))
    addresses = use.addresses(stored, _size(facts, claim, before))
    pool = desired_pool(claim, slot, subnet, stored or _new_name(facts, claim, slot), addresses)
    others = tuple(each for each in facts.pools if each.name != pool.name)
    growth = GrownPool(subnet.name, pool.name, before, addresses.size, claim.size)
    return replace(facts, pools=(*others, pool)), growth


def _size(facts: ClusterFacts, claim: PoolClaim, before: int) -> int:
    """What the claim asks for, as far as the Namespace's quota lets it."""
    namespace = claim.application.namespace
    limits = [each.spec.addresses for each in facts.quotas if each.metadata.namespace == namespace]
    of_namespace = (each.spec.pool for each in facts.records if each.spec.namespace == namespace)
    remaining = remaining_addresses(limits, used_addresses(of_namespace, facts.application_pools(namespace)))
    return claim.size if remaining is None else min(claim.size, before + remaining)


def _in_use(facts: ClusterFacts, peers: tuple[SpiderIPPool, ...], version: int) -> AddressSet:
    """Addresses that pods have from these pools, or from pools that were deleted."""
    others = {pool.name for pool in facts.pools} - {pool.name for pool in peers}
    held = (each for each in facts.records if each.spec.pool not in others and family(each) == version)
    return AddressSet.of_addresses(map(address_of, held), version)


def _new_name(facts: ClusterFacts, claim: PoolClaim, slot: PoolSlot) -> str:
    taken = {pool.name for pool in facts.pools}
    first, second = pool_names(claim.application, slot)
    return second if first in taken else first
