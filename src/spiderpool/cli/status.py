"""`status`: one screen that says how an installation is, and what in it needs attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from spiderpool import __version__
from spiderpool.api.admissionregistration_v1 import WebhookConfiguration
from spiderpool.api.core_v1 import Event
from spiderpool.cli import attention
from spiderpool.cli.connection import Cluster
from spiderpool.cli.installation import COMPONENTS, VERSION_LABEL, Installation, component_of, look
from spiderpool.cli.printing import View, age, alerts, plain, sentence, table
from spiderpool.cli.usage import PoolUsage, fullest, pool_usage, reserved_by_family

SHOWN_POOLS, SHOWN_EVENTS = 5, 5
"""Rows of the screen; `wide` shows all."""


@dataclass(frozen=True, slots=True)
class Component:
    """One of the daemons."""

    name: str
    version: str | None
    ready: int | None
    desired: int | None
    leader: str | None
    renewed: str | None
    """How long ago its leader has renewed the Lease."""


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """A Warning of one of the daemons."""

    at: str | None
    age: str | None
    object: str
    reason: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs attention, and the object that it is about."""

    object: str
    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """How an installation is; None stands for what may not be read."""

    namespace: str
    kubernetes: str | None
    spiderpoolctl: str
    components: tuple[Component, ...]
    nodes: int | None
    answered: int | None
    """Nodes whose agents have said what their sandboxes hold, as often as they were asked."""
    pools: tuple[PoolUsage, ...] | None
    mutating: int | None
    validating: int | None
    certificate_expires: str | None
    warnings: tuple[WarningEvent, ...] | None
    problems: tuple[Problem, ...]
    unread: tuple[str, ...] = ()
    """Kinds of which something could not be read, though the cluster has them: what needs attention may be missing."""

    def lines(self, view: View) -> Iterator[str]:
        """One screen, what needs attention last."""
        kubernetes = f", Kubernetes {self.kubernetes}" if self.kubernetes else ""
        yield f"Spiderpool in {self.namespace}{kubernetes}, spiderpoolctl {self.spiderpoolctl}"
        yield ""
        yield from table(("COMPONENT", "VERSION", "READY", "LEADER"), map(_component_row, self.components), view)
        yield ""
        yield f"Agents:    {_of(self.answered, self.nodes, 'nodes have answered')}"
        yield f"Webhooks:  {self._webhooks()}"
        yield f"Pools:     {self._pools()}"
        if self.pools:
            rows = ((each.name, each.used, each.free, each.total, _share(each)) for each in self._shown_pools(view))
            yield from table(("POOL", "USED", "FREE", "TOTAL", "USE"), rows, view)
        for each in (self.warnings or ()) if view.wide else (self.warnings or ())[:SHOWN_EVENTS]:
            yield ""
            times = f" (x{each.count})" if each.count > 1 else ""
            yield from sentence(f"{each.age or '?'} ago, {each.reason} of {each.object}{times}:", view)
            yield from sentence(each.message, view, "    ")
        attention_needed = [*(problem.text for problem in self.problems), *self._hidden()]
        if attention_needed:
            yield ""
            yield from alerts(attention_needed, view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The objects that need attention."""
        return dict.fromkeys(each.object for each in self.problems)

    def _shown_pools(self, view: View) -> tuple[PoolUsage, ...]:
        return (self.pools or ()) if view.wide else (self.pools or ())[:SHOWN_POOLS]

    def _pools(self) -> str:
        if self.pools is None:
            return "not known"
        return f"{len(self.pools)}, {sum(each.is_full for each in self.pools)} without a free address"

    def _hidden(self) -> Iterator[str]:
        if count := len(self.unread):
            hidden = f"{count} kind{'s' if count > 1 else ''} could not be read"
            yield f"{hidden}, so that nothing is known of what is wrong there: {', '.join(self.unread)}"

    def _webhooks(self) -> str:
        expires = f", certificate until {self.certificate_expires}" if self.certificate_expires else ""
        if self.mutating is None:
            return f"not known{expires}"
        return f"{self.mutating} mutating, {self.validating} validating{expires}"


async def read_status(cluster: Cluster, namespace: str | None) -> Status:
    """How an installation is now, and what of it could not be read. Raises ApiUnavailable."""
    found = await look(cluster, namespace)
    return replace(status_of(found, datetime.now(UTC)), unread=tuple(sorted(cluster.unread)))


def status_of(found: Installation, now: datetime) -> Status:
    """How an installation is at ``now``."""
    components = tuple(_component(name, found, now) for name in COMPONENTS)
    known = found.pools is not None
    pools = tuple(fullest(pool_usage(each, reserved_by_family(found.reserved)) for each in found.pools or ()))
    silent = list(attention.silent_nodes(found))
    counts = _webhook_counts(found.webhooks)
    chain = attention.read_chain(found.certificate.chain)
    nodes = None if found.nodes is None or found.accounts is None else len(list(attention.agent_nodes(found)))
    return Status(
        namespace=found.namespace,
        kubernetes=found.kubernetes,
        spiderpoolctl=__version__,
        components=tuple(each for each in components if each != Component(each.name, *[None] * 5)),
        nodes=nodes,
        answered=None if nodes is None else nodes - len(silent),
        pools=pools if known else None,
        mutating=counts[0],
        validating=counts[1],
        certificate_expires=chain[0].not_valid_after_utc.strftime("%Y-%m-%d") if chain else None,
        warnings=None if found.events is None else tuple(_warning(each, now) for each in found.events),
        problems=tuple(Problem(each.object, each.text) for each in attention.installation_findings(found, now)),
    )


def _component(name: str, found: Installation, now: datetime) -> Component:
    workload = next((each for each in found.workloads or () if component_of(each) == name), None)
    lease = attention.lease_of(found, name)
    return Component(
        name,
        (workload.metadata.labels or {}).get(VERSION_LABEL) if workload else None,
        attention.ready_pods(workload) if workload else None,
        attention.desired_pods(workload) if workload else None,
        lease.spec.holderIdentity if lease else None,
        age(lease.spec.renewTime, now) if lease else None,
    )


def _component_row(each: Component) -> tuple[str | None, ...]:
    ready = None if each.ready is None else f"{each.ready}/{each.desired}"
    leader = f"{each.leader}, renewed {each.renewed or '?'} ago" if each.leader else None
    return each.name, each.version, ready, leader


def _of(part: int | None, whole: int | None, what: str) -> str:
    return "not known" if part is None else f"{part} of {whole} {what}"


def _share(pool: PoolUsage) -> str | None:
    return None if pool.percent is None else f"{pool.percent}%"


def _webhook_counts(found: tuple[WebhookConfiguration, ...] | None) -> tuple[int | None, int | None]:
    """The mutating and the validating ones."""
    if found is None:
        return None, None
    counts = {each.KIND.name.removesuffix("WebhookConfiguration"): len(each.webhooks or ()) for each in found}
    return counts.get("Mutating", 0), counts.get("Validating", 0)


def _warning(event: Event, now: datetime) -> WarningEvent:
    target = event.involvedObject
    name = "/".join(filter(None, (target.namespace, target.name)))
    return WarningEvent(
        event.lastTimestamp,
        age(event.lastTimestamp, now),
        f"{(target.kind or '').lower()}/{name}",
        event.reason,
        event.message,
        event.count or 1,
    )
