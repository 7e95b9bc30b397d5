"""`explain`: why a pod has its addresses, or none, by the functions that the agents decide with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from spiderpool.api.core_v1 import Event
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.cli.explain.case import PodCase
from spiderpool.cli.explain.remedies import remedies
from spiderpool.cli.printing import View, age, alerts, object_reference, plain, sentence, table
from spiderpool.core.addresses import FAMILIES, to_int
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam import candidates, dry_run, selection, takeover
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.ipam.candidates import AllocationPlan
from spiderpool.core.ipam.dry_run import AddressSnapshot, DryGrant
from spiderpool.core.ipam.pod_context import PodContext, PodSurroundings, pod_context
from spiderpool.core.ipam.repair import unrecorded
from spiderpool.core.ipam.selection import Verdict
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.network.attachment import InterfacePlan, PodAttachment, plan_pod
from spiderpool.core.network.chains import Chain
from spiderpool.errors import SpiderpoolError

SHOWN_EVENTS = 3
"""Events of the pod that are shown; `wide` shows all."""


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """One interface of the pod."""

    interface: str
    network: str
    made_as: str


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """One address that the pod needs, and what comes of it."""

    interface: str
    version: int
    source: str
    """What names the candidate pools."""
    pools: tuple[Verdict, ...]
    """The verdict on every candidate."""
    address: str | None
    """Of the record that the pod holds or would take over; of free ones that which an idle agent would try first."""
    pool: str | None
    because: str | None
    is_held: bool
    refusal: str | None


@dataclass(frozen=True, slots=True)
class PodEvent:
    """A Warning about the pod."""

    age: str | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pod has its addresses, or would get them, or none."""

    pod: str
    node: str
    outcome: str
    interfaces: tuple[InterfaceFacts, ...]
    sources: tuple[Verdict, ...]
    """The verdict on each source that may name pools, in order of priority."""
    addresses: tuple[AddressFacts, ...]
    refusal: str | None
    """Why the pod gets nothing, in the words of the agent."""
    events: tuple[PodEvent, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """The outcome first, what to change last."""
        yield from sentence(f"Pod {self.pod} on node {self.node} {self.outcome}", view)
        if self.refusal:
            yield from alerts([self.refusal], view)
        if self.interfaces:
            yield ""
            rows = ((each.interface, each.network, each.made_as) for each in self.interfaces)
            yield from table(("INTERFACE", "NETWORK", "MADE AS"), rows, view)
        if self.sources and view.wide:
            yield ""
            yield from table(("POOLS NAMED BY", "RULE", "BECAUSE"), map(_row, self.sources), view)
        for address in self.addresses:
            yield ""
            yield from _address_lines(address, view)
        yield from self._more(view)

    def _more(self, view: View) -> Iterator[str]:
        for event in self.events if view.wide else self.events[:SHOWN_EVENTS]:
            yield ""
            yield f"{event.age or '?'} ago, {event.reason}:"
            yield from sentence(event.message, view, "    ")
        if self.advice:
            yield ""
            yield "What to change, one of:" if len(self.advice) > 1 else "What to change:"
        for text in self.advice:
            first, *others = sentence(text, view, "    ")
            yield f"  - {first.strip()}"
            yield from others
        for note in self.notes:
            yield ""
            yield from sentence(f"Note: {note}", view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The pools that were kept."""
        kept = dict.fromkeys(verdict.subject for each in self.addresses for verdict in each.pools if verdict.kept)
        return (object_reference(SpiderIPPool, name) for name in kept)


def _row(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.subject, "kept" if verdict.kept else verdict.rule, verdict.reason


def _address_lines(address: AddressFacts, view: View) -> Iterator[str]:
    title = f"{address.interface}, IPv{address.version}"
    if address.refusal:
        yield f"{title}: no address"
    elif address.is_held:
        yield f"{title}: has {address.address} of pool {address.pool}"
    else:
        yield from sentence(f"{title}: would get {address.address} of pool {address.pool}: {address.because}", view)
    if address.pools:
        yield from sentence(f"Pools of {address.source}:", view)
        yield from table(("POOL", "RULE", "BECAUSE"), map(_row, address.pools), view)


# --- by the allocator's functions


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


# --- the answer


def explain(case: PodCase, now: datetime) -> Explanation:
    """Why the pod of a case has its addresses at ``now``, or would get them, or none."""
    empty = Explanation(
        pod=case.pod.key,
        node=case.node_name,
        outcome="gets no address",
        interfaces=(),
        sources=(),
        addresses=(),
        refusal=None,
        events=tuple(_event(each, now) for each in case.events),
        advice=(),
        notes=tuple(_notes(case)),
    )
    if case.pod.spec.hostNetwork:
        return replace(empty, outcome="is in the network of its node: it needs no address of Spiderpool")
    try:
        planned = plan_case(case)
    except SpiderpoolError as error:
        return replace(empty, refusal=error.message)
    outcomes = dry_run.dry_run(planned.plan.requests, snapshot(case, now))
    refusal = planned.plan.unserved or next((each.refusal for each in outcomes if each.refusal), None)
    held = {(each.spec.interface, each.name) for each in case.records if each.spec.podUID == case.uid}
    addresses = tuple(_facts(each, held) for each in outcomes)
    return replace(
        empty,
        outcome=_outcome(addresses, refused=refusal is not None),
        interfaces=tuple(_interface(each) for each in planned.attachment.interfaces),
        sources=tuple(dict.fromkeys(planned.plan.trace)),
        addresses=addresses,
        refusal=refusal.message if refusal else None,
        advice=tuple(remedies(outcomes)) if refusal else (),
    )


def _notes(case: PodCase) -> Iterator[str]:
    yield from case.policies.notes
    names_network = DEFAULT_NETWORK_ANNOTATION in (case.pod.metadata.annotations or {})
    if case.policies.network_note and not names_network:
        yield case.policies.network_note


def _outcome(addresses: Iterable[AddressFacts], *, refused: bool) -> str:
    known = list(addresses)
    if refused:
        return "gets no address"
    if not known:
        return "needs no address of Spiderpool: none of its networks has its ipam"
    if all(each.is_held for each in known):
        return f"has {', '.join(each.address or '' for each in known)}"
    return "would get all its addresses now"


def _interface(plan: InterfacePlan) -> InterfaceFacts:
    if isinstance(plan.chain, Chain):
        made_as = f"{plan.chain.kind} on {plan.chain.master}" if plan.chain.master else plan.chain.kind
    else:
        made_as = "its own plugins make it"
    return InterfaceFacts(plan.interface, plan.request.network, made_as)


def _facts(outcome: DryGrant, held: Iterable[tuple[str, str]]) -> AddressFacts:
    request, record = outcome.request, outcome.record
    return AddressFacts(
        interface=request.interface,
        version=request.version,
        source=request.source,
        pools=tuple({verdict.subject: verdict for verdict in outcome.trace}.values()),
        address=address_text(record) if record else None,
        pool=record.spec.pool if record else None,
        because=str(outcome.origin.value) if outcome.origin else None,
        is_held=record is not None and (request.interface, record.name) in held and not record.spec.releasedAt,
        refusal=outcome.refusal.message if outcome.refusal else None,
    )


def _event(event: Event, now: datetime) -> PodEvent:
    return PodEvent(age(event.lastTimestamp, now), event.reason, event.message)
