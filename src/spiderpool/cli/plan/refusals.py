"""Why planned pods would be refused, in the words of the agents."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.explain.case import PodCase
from spiderpool.cli.explain.pod_plan import PodPlan, attachment_of, plan_addresses
from spiderpool.cli.plan.case import PlannedGroup, Sites
from spiderpool.core.ipam import allocation, selection
from spiderpool.core.ipam.dry_run import dry_run
from spiderpool.core.ipam.placement import RefusedPods
from spiderpool.core.ipam.quota import counts
from spiderpool.core.ipam.selection import AllocationRequest, Verdict
from spiderpool.errors import SpiderpoolError


def refusal_sentence(sites: Sites, planned: PlannedGroup, refused: RefusedPods) -> str:
    """What the agent of a node would say to one of some refused pods."""
    case = sites.on_node(planned.case, sites.nodes[refused.node])
    try:
        plan = plan_addresses(case, attachment_of(case))
    except SpiderpoolError as error:
        return error.message
    if plan.plan.unserved is not None:
        return plan.plan.unserved.message
    if refused.need is None:
        return _without_need(sites, planned, case, plan)
    request = plan.plan.requests[refused.need.slot]
    return allocation.refusal(request, _trace(sites, case, request)).message


def _without_need(sites: Sites, planned: PlannedGroup, case: PodCase, plan: PodPlan) -> str:
    """Refused by what an owner or another pod has, or by a quota."""
    requests = plan.plan.requests
    if planned.group.sites[case.node_name].refused:
        outcomes = dry_run(requests, sites.snapshot(case, plan))
        return next(each.refusal.message for each in outcomes if each.refusal)
    request = next(each for each in requests.values() if counts(each))
    of_namespace = (each for each in sites.facts.quotas if each.metadata.namespace == request.namespace)
    quota = min(of_namespace, key=lambda each: (each.spec.addresses, each.name))
    return allocation.quota_refusal(request, quota.name).message


def _trace(sites: Sites, case: PodCase, request: AllocationRequest) -> Iterator[Verdict]:
    """The verdicts on all pools when those that may serve the pod have nothing left."""
    chosen = selection.select(request, case.pools)
    yield from chosen.trace
    yield from (_without_address(sites, pool, request) for pool in chosen.pools)


def _without_address(sites: Sites, pool: SpiderIPPool, request: AllocationRequest) -> Verdict:
    try:
        addresses = allocation.usable(pool) - sites.facts.reserved[request.version]
    except ValueError as error:
        return allocation.unreadable(pool.name, error)
    if request.address is not None:
        return allocation.occupied(pool.name, request.address)
    return allocation.exhausted(pool.name, addresses.size)
