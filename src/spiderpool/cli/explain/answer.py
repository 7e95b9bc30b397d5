"""`explain`: why a pod has its addresses, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from spiderpool.api.core_v1 import Event
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.cli.explain.case import PodCase
from spiderpool.cli.explain.pod_plan import plan_case, snapshot
from spiderpool.cli.explain.remedies import remedies
from spiderpool.cli.printing import View, age, alerts, object_reference, plain, sentence, table
from spiderpool.core.ipam import dry_run
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.ipam.dry_run import DryGrant
from spiderpool.core.ipam.selection import Verdict
from spiderpool.core.network.attachment import InterfacePlan
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
        advice=tuple(remedies(outcomes, case.pools)) if refusal else (),
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
