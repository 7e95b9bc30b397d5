"""What a pod asks for, and what decides about it, by the functions that the agents decide with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from spiderpool.api.ip import SpiderIP
from spiderpool.cli.explain.case import PodCase
from spiderpool.core.addresses import FAMILIES, to_int
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam import candidates, dry_run, selection, takeover
from spiderpool.core.ipam.candidates import AllocationPlan
from spiderpool.core.ipam.dry_run import AddressSnapshot
from spiderpool.core.ipam.pod_context import PodContext, PodSurroundings, pod_context
from spiderpool.core.ipam.repair import unrecorded
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.network.attachment import PodAttachment, plan_pod
from spiderpool.errors import SpiderpoolError


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What the pod asks for, by the same functions as in the agent."""

    attachment: PodAttachment
    plan: AllocationPlan
    context: PodContext


def plan_case(case: PodCase) -> PodPlan:
    """The plan of a pod as its agent makes it. Raises the refusals of the agent."""
    return plan_addresses(case, attachment_of(case))


def attachment_of(case: PodCase) -> PodAttachment:
    """The networks of a pod, which are the same on every node. Raises the refusals of the agent."""
    networks = {each.key: each for each in case.networks}
    return plan_pod(case.pod, FIRST_INTERFACE, case.policies.networks, networks.get)


def plan_addresses(case: PodCase, attachment: PodAttachment) -> PodPlan:
    """The rest of the plan of a pod whose networks are known. Raises the refusals of the agent."""
    context = _context(case, attachment)
    requests, policy = attachment.address_requests, case.policies.addresses
    plan = candidates.allocation_plan(context, requests, policy, dry_run.visible_pools(case.pools, case.node_name))
    if plan.needs_controller:
        _check_controller(case)
        plan = candidates.with_controller(plan, case.controller)
    return PodPlan(attachment, plan, context)


def _context(case: PodCase, attachment: PodAttachment) -> PodContext:
    server = case.server.spec if case.node and case.server and case.server.is_of(case.node) else None
    held = [each for each in case.records if each.spec.podUID == case.uid and not each.spec.releasedAt]
    around = PodSurroundings(
        case.node_name,
        case.node,
        case.namespace,
        tuple(dict.fromkeys(each.spec.interface for each in held)),
        case.uid,
        frozenset(eni.identity for eni in server.enis) if server else frozenset(),
    )
    context = pod_context(case.pod, attachment.networks, around, case.policies.addresses)
    if context.needs_controller:
        _check_controller(case)
        context = replace(context, controller=case.controller)
    return context


def _check_controller(case: PodCase) -> None:
    if case.controller_refusal is not None:
        raise case.controller_refusal


def needed_records(case: PodCase) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pools that may serve the pod, and the addresses that it asks for; none where it is refused before."""
    try:
        requests = plan_case(case).plan.requests.values()
    except SpiderpoolError:
        return (), ()
    visible = dry_run.visible_pools(case.pools, case.node_name)
    pools = dict.fromkeys(pool.name for each in requests for pool in selection.select(each, visible).pools)
    return tuple(pools), tuple(each.address for each in requests if each.address)


def snapshot(case: PodCase, now: datetime) -> AddressSnapshot:
    """What decides about new addresses of the pod."""
    exhausted = min((each.name for each in case.quotas if each.exhausted), default=None)
    return AddressSnapshot(
        node=case.node_name,
        pools=case.pools,
        records=case.records,
        reserved={version: reserved_addresses(case.reserved, version) for version in FAMILIES},
        now=now.timestamp(),
        occupied=_occupied(case),
        exhausted_quota=exhausted,
        node_object=case.node,
        pods={each.key: each for each in case.pods},
        why_not_given_up=lambda record: _why_not_given_up(case, record),
    )


def _occupied(case: PodCase) -> Mapping[int, frozenset[int]]:
    account = next((each.status for each in case.accounts if each.name == case.node_name), None)
    of_node = [each for each in case.records if each.spec.node == case.node_name]
    found = list(unrecorded((account.sandboxes if account else None) or (), of_node))
    return {
        version: frozenset(to_int(each.address, version) for each in found if each.version == version)
        for version in FAMILIES
    }


def _why_not_given_up(case: PodCase, record: SpiderIP) -> str | None:
    account = next((each for each in case.accounts if each.name == record.spec.node), None)
    node = next((each for each in case.nodes if each.name == record.spec.node), None)
    return takeover.why_not_given_up(record, account, node)
