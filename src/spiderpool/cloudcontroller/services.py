"""Reconciles Services of type LoadBalancer with load balancers of the cloud: creates, updates and removes them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from spiderpool.api.core_v1 import LoadBalancerIngress, Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits, TooManyLoadBalancers
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.core.cloud.loadbalancer import backends, checking, grants, planning
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, read_options
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model, owner_of, uses_pods
from spiderpool.core.cloud.loadbalancer.steps import CreateBalancer, Step
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed, ObservedLoadBalancer
from spiderpool.errors import BadConfig, NotReady, SpiderpoolError
from spiderpool.kube import finalizers
from spiderpool.kube.client import NotFound
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS, logger

WORKERS = 3
"""Services that are reconciled at a time."""
IDLE = 5.0
"""Seconds between two checks whether there is any Service, or any Node with a provider ID."""

log = logger("services")


@dataclass(frozen=True, slots=True)
class ServiceTimings:
    """Durations in seconds, and the clock that measures them."""

    period: float = 300.0
    """Time in which every balancer is compared with its Service once, even if nothing changed."""
    gather: float = 1.0
    """Delay after a change of endpoints or nodes, so that further changes join it."""
    first_pause: float = 5.0
    """Pause before a Service that failed is reconciled again; doubled for each further failure."""
    last_pause: float = 300.0
    """The longest such pause."""
    confirm: float = 10.0
    """Time between the two answers that must both lack a balancer before it counts as deleted."""
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class ServiceListers:
    """Informers to read from; their owner runs them."""

    services: Informer[Service]
    slices: Informer[Any]
    nodes: Informer[Node]
    servers: NodeServers
    grants: Informer[SpiderLoadBalancerGrant]


class NotGranted(BadConfig):
    """A Service asks for what no administrator has granted to its Namespace."""


@dataclass(slots=True)
class ServiceState:
    """What is remembered of a Service between two reconciliations."""

    applied: tuple[LoadBalancerModel, list[LoadBalancerIngress]] | None = None
    """The model that was applied last, and the addresses published for it; None: reconcile in any case."""
    events: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Event reason → messages that were recorded last."""
    missing_since: float | None = None
    """Time at which its balancer was first missing."""


class ServiceReconciler:
    """Keeps the balancer of every Service that asks for one of ours."""

    def __init__(
        self,
        cluster: Cluster,
        listers: ServiceListers,
        balancers: LoadBalancers,
        configuration: BalancerConfiguration,
        timings: ServiceTimings | None = None,
    ) -> None:
        self._client = cluster.client
        self._recorder = cluster.recorder
        self._listers = listers
        self._balancers = balancers
        self._configuration = configuration
        self._timings = timings or ServiceTimings()
        self._grants = GrantReconciler(cluster.client, listers.grants)
        self._limits = BalancerLimits(balancers, listers.services, configuration, self._timings.clock)
        self._states: dict[str, ServiceState] = defaultdict(ServiceState)  # Service key → state
        self._slices = listers.slices.index(lambda item: [key] if (key := _service_of(item)) else [])  # Service key
        self._enis: dict[str, tuple[str, float]] = {}  # pod address → ENI by the cloud, and until when it is valid
        first, last = self._timings.first_pause, self._timings.last_pause
        self._queue = WorkQueue(self._reconcile, "services", first_pause=first, last_pause=last)
        listers.slices.subscribe(self._on_slice)
        listers.services.subscribe(self._on_service)
        listers.nodes.subscribe(self._on_node)
        listers.servers.subscribe(lambda _: self._queue_all())
        listers.grants.subscribe(self._on_grant)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._resync())
            group.create_task(self._grants.run())

    async def _resync(self) -> None:
        """Queues every Service once per period: its balancer may have been changed in the console."""
        while True:
            keys = [service.key for service in self._listers.services.items() if self._is_ours(service)]
            for key in keys:
                if key in self._states:  # not deleted meanwhile
                    self._states[key].applied = None
                self._queue.add(key)
                await asyncio.sleep(self._timings.period / len(keys))
            if not keys:
                await asyncio.sleep(min(self._timings.period, IDLE))

    def _is_ours(self, service: Service) -> bool:
        return bool(self._held_kinds(service)) or self._balancers.kind_of(service) is not None

    def _held_kinds(self, service: Service) -> list[BalancerKind]:
        """Returns the kinds of balancers whose finalizer a Service has."""
        held = service.metadata.finalizers or ()
        return [kind for kind in self._balancers.apis if kind.naming.finalizer in held]

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        if new is None:
            if old is not None:
                self._states.pop(old.key, None)
        elif self._is_ours(new):
            self._queue.add(new.key)

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for item in (old, new):
            if item is not None and (key := _service_of(item)):
                self._queue_later(key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or _relevant_part(old) != _relevant_part(new):
            self._queue_all()

    def _queue_all(self) -> None:
        for service in self._listers.services.items():
            self._queue_later(service.key)

    def _on_grant(self, old: SpiderLoadBalancerGrant | None, new: SpiderLoadBalancerGrant | None) -> None:
        specs = [grant.spec for grant in (old, new) if grant is not None]
        for service in self._listers.services.items():
            if any(spec.applies_to(service.metadata.namespace or "") for spec in specs):
                self._queue_later(service.key)

    def _queue_later(self, key: str) -> None:
        service = self._listers.services.get(key)
        if service is not None and self._is_ours(service):
            self._queue.add(key, self._timings.gather)

    async def _reconcile(self, key: str) -> None:
        """Handles one key of the queue; records an error as an Event and raises it, so that the queue retries."""
        service = self._listers.services.get(key)
        if service is None:
            return
        try:
            await self._reconcile_service(service)
        except SpiderpoolError as error:
            self._record(service, "Warning", _reason(error), error.message, repeat=True)
            raise

    async def _reconcile_service(self, service: Service) -> None:
        """Removes balancers of kinds that the Service no longer asks for, and ensures the one that it asks for."""
        kind = None if service.terminating else self._balancers.kind_of(service)
        formers = [former for former in self._held_kinds(service) if former is not kind]
        if formers and kind is not None and not self._may_switch(service, kind):
            return
        for former in formers:
            await self._remove(service, former)
        current = self._listers.services.get(service.key)  # as changed by the removals
        if kind is not None and current is not None and current.metadata.uid == service.metadata.uid:
            await self._ensure(current, kind)

    def _may_switch(self, service: Service, kind: BalancerKind) -> bool:
        """Whether the Service can have another kind of balancer: otherwise it keeps the one that it has."""
        missing = self._missing(service, read_options(service.metadata.annotations or {}, kind))
        if missing:
            self._refuse(service, missing)
        return not missing

    # --- create and update

    async def _ensure(self, service: Service, kind: BalancerKind) -> None:
        """Creates or updates the Service's balancer: options, faults, model, observation, steps, address.

        Looks at no balancer while the model is the one that was applied last; `_resync` forgets that one.
        """
        options = read_options(service.metadata.annotations or {}, kind)
        self._record(service, "Warning", "AnnotationIgnored", *options.remarks)
        faults = checking.faults(service, options, self._configuration)
        self._record(service, "Warning", "InvalidService", *faults)
        if faults:
            await self._ensure_backends(service, options)
            return
        missing = self._missing(service, options)
        if not service.status.loadBalancer.ingress and not await self._may_begin(service, options, missing):
            return
        model = build_model(service, options, await self._snapshot(service, options), self._configuration)
        if self._is_applied(service, model):
            return
        service = await self._add_finalizer(service, kind)
        observed = await self._find(service, model)
        if refused := [need for need in missing if observed is None or not grants.is_in_use(need, model, observed)]:
            self._refuse(service, refused)
            await self._ensure_backends(service, options)
            return
        self._report_grants(service, missing)
        observed = await self._apply(service, model, observed)
        published = await self._publish(service, model, observed)
        self._states[service.key].applied = (model, published)
        self._report_unresolved(service, model)

    async def _may_begin(self, service: Service, options: BalancerOptions, missing: Sequence[GrantNeed]) -> bool:
        """Whether a Service without an address, which has nothing that it could keep, may get a balancer.

        Told without a call for each Service: a tenant may have any number. Raises TooManyLoadBalancers, CloudError.
        """
        if missing:
            self._refuse(service, missing)
        elif not options["id"]:
            await self._limits.check(service, options.kind, self._grants.of(service.metadata.namespace or ""))
        return not missing

    def _missing(self, service: Service, options: BalancerOptions) -> tuple[GrantNeed, ...]:
        """Returns what the Service asks for and no administrator has granted to its Namespace."""
        needs = options.kind.needs(options, self._configuration)
        return grants.missing(needs, self._grants.of(service.metadata.namespace or ""))

    def _refuse(self, service: Service, needs: Iterable[GrantNeed]) -> None:
        """Records what must be granted before the Service gets it; a grant queues the Service again."""
        namespace = service.metadata.namespace or ""
        LOAD_BALANCER_REFUSALS.labels("grant").inc()
        self._states[service.key].applied = None
        self._record(service, "Warning", "NotGranted", *(grants.refusal(need, namespace) for need in needs))

    def _report_grants(self, service: Service, used: Iterable[GrantNeed]) -> None:
        """Records that nothing is refused any more, and what the Service keeps although nobody has granted it."""
        namespace = service.metadata.namespace or ""
        self._record(service, "Warning", "NotGranted")
        self._record(service, "Warning", "UsedWithoutGrant", *(grants.reminder(need, namespace) for need in used))

    async def _ensure_backends(self, service: Service, options: BalancerOptions) -> None:
        """Updates the servers of a Service with faults; everything else waits for its correction."""
        naming = options.kind.naming
        identity = (service.metadata.labels or {}).get(naming.identity_label)
        if not identity or not checking.are_backends_valid(service, options, self._configuration):
            return
        model = build_model(service, options, await self._snapshot(service, options), self._configuration)
        observed = await self._balancers.apis[options.kind].find(model.owner, identity)
        if observed is not None and (naming.is_own(observed, model.owner) or naming.reuse_tag in observed.tags):
            steps = planning.only_backends(planning.plan(model, observed))
            await self._carry_out(service, options.kind, steps, observed)

    def _is_applied(self, service: Service, model: LoadBalancerModel) -> bool:
        """Whether the balancer was made like this model, and the Service still has its finalizer and address."""
        has_finalizer = model.kind.naming.finalizer in (service.metadata.finalizers or ())
        published = service.status.loadBalancer.ingress or []
        return has_finalizer and self._states[service.key].applied == (model, published)

    async def _add_finalizer(self, service: Service, kind: BalancerKind) -> Service:
        """Adds the finalizer before anything is created, so that the Service cannot vanish without its balancer."""
        updated = await finalizers.add(self._client, service, kind.naming.finalizer)
        self._listers.services.note(updated)
        return updated

    async def _find(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer | None:
        """Returns the Service's balancer; None when it never had one.

        Raises BadConfig when it may not have the balancer it names, NotReady when its balancer is missing, CloudError.
        """
        recorded = (service.metadata.labels or {}).get(model.kind.naming.identity_label, "")
        id_annotation = f"annotation {model.kind.annotations.prefix}id"
        if model.reuse and recorded and recorded != model.reuse:
            raise BadConfig(
                f"{id_annotation} names {model.reuse}, and this Service has balancer {recorded}: "
                "delete the Service and create it again to change its balancer"
            )
        api = self._balancers.apis[model.kind]
        observed = await api.find(model.owner, model.reuse or recorded)
        if observed is None and not model.reuse and recorded:
            observed = await api.find(model.owner)
        if observed is None:
            self._check_missing(service, model, recorded)
            return None
        self._states[service.key].missing_since = None
        self._check_ownership(model, observed)
        return observed

    def _check_ownership(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Raises BadConfig when the Service may not have the balancer."""
        if fault := planning.reuse_fault(model, observed):
            raise BadConfig(fault)
        if not model.reuse and model.kind.naming.reuse_tag in observed.tags:
            raise BadConfig(
                f"balancer {observed.identity} is lent to this Service, and annotation "
                f"{model.kind.annotations.prefix}id is gone: set it again, or delete the Service and create it anew"
            )
        if fault := planning.ownership_fault(model, observed):
            raise BadConfig(fault)

    def _check_missing(self, service: Service, model: LoadBalancerModel, recorded: str) -> None:
        """Raises NotReady when the Service had a balancer: a lost answer must not give it a second one."""
        if model.reuse:
            name = f"annotation {model.kind.annotations.prefix}id"
            raise NotReady(f"load balancer {model.reuse}, which {name} names, does not exist")
        if not recorded and not service.status.loadBalancer.ingress:
            return
        name = recorded or model.name
        if self._is_confirmed_missing(service.key):
            text = f"load balancer {name} was deleted; delete the Service and create it anew to get another"
            self._record(service, "Warning", "LoadBalancerNotFound", text)
        raise NotReady(f"load balancer {name} cannot be found; none is made in its place")

    def _is_confirmed_missing(self, key: str) -> bool:
        """Whether two answers, far enough apart, both lack the balancer; notes the time of the first one."""
        state, now = self._states[key], self._timings.clock()
        if state.missing_since is None:
            state.missing_since = now
        return now - state.missing_since >= self._timings.confirm

    async def _apply(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer | None
    ) -> ObservedLoadBalancer:
        """Turns the observed balancer (None: a new one) into the model; returns it as it was before the steps."""
        if observed is None:
            observed = await self._create(service, model)
        self._record(service, "Warning", "CannotBeChanged", *planning.unchangeable(model, observed))
        await self._carry_out(service, model.kind, planning.plan(model, observed), observed)
        return observed

    async def _create(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer:
        """Creates the balancer, records its identity at once, and reads it back; the caller plans the other steps."""
        async with self._limits.place(service, model.kind, self._grants.of(model.owner.namespace)):
            identity = await self._carry_out(service, model.kind, [CreateBalancer(model)], None)
        await self._patch(service, {"labels": {model.kind.naming.identity_label: identity}})
        observed = await self._balancers.apis[model.kind].find(model.owner, identity)
        if observed is None:
            raise NotReady(f"load balancer {identity} was made and cannot be seen yet")
        return observed

    async def _carry_out(
        self, service: Service, kind: BalancerKind, steps: Sequence[Step], observed: ObservedLoadBalancer | None
    ) -> str:
        """Logs and carries out steps; returns the balancer's identity. Raises CloudError."""
        if not steps:
            return observed.identity if observed else ""
        for step in steps:
            log.info("step", service=service.key, balancer=observed.identity if observed else "", step=str(step))
        identity = await self._balancers.apis[kind].carry_out(steps, observed)
        log.info("steps carried out", service=service.key, balancer=identity, steps=len(steps))
        return identity

    async def _publish(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> list[LoadBalancerIngress]:
        """Writes identity and address of the balancer on the Service, and returns the addresses."""
        label = model.kind.naming.identity_label
        current = self._listers.services.get(service.key) or service
        if (current.metadata.labels or {}).get(label) != observed.identity:
            await self._patch(service, {"labels": {label: observed.identity}})
        by_name = model.kind.published_by_name or model.hostname
        name = model.hostname or observed.address
        ingress = [LoadBalancerIngress(hostname=name) if by_name else LoadBalancerIngress(ip=observed.address)]
        if service.status.loadBalancer.ingress != ingress:
            await self._publish_ingress(service, ingress)
            text = f"Ensured load balancer [{observed.identity}] at {name}"
            self._record(service, "Normal", "EnsuredLoadBalancer", text)
        return ingress

    async def _publish_ingress(self, service: Service, ingress: Sequence[LoadBalancerIngress]) -> None:
        items = [
            {key: value for key, value in (("ip", each.ip), ("hostname", each.hostname)) if value} for each in ingress
        ]
        body = {"status": {"loadBalancer": {"ingress": items or None}}}
        patched = await self._client.patch(Service, service.name, body, service.metadata.namespace, sub="status")
        self._listers.services.note(patched)

    def _report_unresolved(self, service: Service, model: LoadBalancerModel) -> None:
        """Raises NotReady for pods without a known ENI: the cloud shows a new address only after a while."""
        if model.unresolved:
            self._states[service.key].applied = None
            raise NotReady(
                f"no ENI is known to have the pod addresses {', '.join(model.unresolved)}; "
                "the pods get no traffic from the balancer until one is"
            )

    # --- servers

    async def _snapshot(self, service: Service, options: BalancerOptions) -> BackendSnapshot:
        """Returns the nodes, the Service's endpoints and, where pods are the servers, the ENIs of their addresses."""
        slices = self._slices.get(service.key)
        enis: Mapping[str, str] = {}
        if uses_pods(options, self._configuration):
            enis = await self._enis_of(backends.pod_addresses(service.spec.ports or (), slices, options))
        return BackendSnapshot(self._listers.nodes.items(), slices, enis)

    async def _enis_of(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Returns the ENIs of addresses as nodes report them, the others as the cloud answers, which is cached."""
        reported = backends.reported_enis(map(self._listers.servers.of, self._listers.nodes.items()))
        now = self._timings.clock()
        cached = {address: eni for address, (eni, until) in self._enis.items() if until > now}
        unknown = [address for address in addresses if address not in reported and address not in cached]
        answered = await self._balancers.enis.holders(unknown) if unknown else {}
        until = now + self._timings.period
        self._enis = {key: self._enis[key] for key in cached} | {key: (answered[key], until) for key in answered}
        return {**cached, **answered, **reported}

    # --- remove

    async def _remove(self, service: Service, kind: BalancerKind) -> None:
        """Removes the balancer of a Service that no longer asks for this kind.

        The Service is read from the API server once more: its informer may be behind, and a deletion is final.
        """
        try:
            fresh = await self._client.get(Service, service.name, service.metadata.namespace)
        except NotFound:
            return
        is_requested_again = not fresh.terminating and self._balancers.kind_of(fresh) is kind
        if fresh.metadata.uid != service.metadata.uid or is_requested_again:
            raise NotReady("the Service has changed meanwhile; it is looked at again")
        owner, identity = owner_of(fresh, self._configuration), _identity(fresh, kind)
        observed = await self._balancers.apis[kind].find(owner, identity)
        if observed is None and identity:
            observed = await self._balancers.apis[kind].find(owner)  # the label may name one that is gone
        if observed is None:
            self._confirm_missing(fresh)
        else:
            await self._remove_observed(fresh, kind, observed)
        await self._remove_finalizer(fresh, kind)

    def _confirm_missing(self, service: Service) -> None:
        """Raises NotReady until two answers lack the balancer: after a lost answer it would stay forever."""
        if not self._is_confirmed_missing(service.key):
            raise NotReady("the load balancer cannot be found; it is looked for once more before the Service goes")

    async def _remove_observed(self, service: Service, kind: BalancerKind, observed: ObservedLoadBalancer) -> None:
        """Deletes, preserves or hands back the balancer, and records which of these."""
        owner, preserve = owner_of(service, self._configuration), _preserves(service, kind)
        if preserve and kind.naming.is_own(observed, owner):
            self._check_consent(service, kind)
        steps = planning.plan_removal(kind, owner, observed, preserve=preserve)
        await self._carry_out(service, kind, steps, observed)
        if not kind.naming.is_own(observed, owner):
            what, reason = "is not ours and stays", "ReturnedLoadBalancer"
        else:
            what = "was preserved" if preserve else "was deleted"
            reason = "PreservedLoadBalancer" if preserve else "DeletedLoadBalancer"
        self._record(service, "Normal", reason, f"load balancer [{observed.identity}] {what}")

    def _check_consent(self, service: Service, kind: BalancerKind) -> None:
        """Raises NotGranted when nobody has agreed to pay for a balancer without a Service.

        It is not deleted instead either: its author wants to keep it. So the Service waits, and stays its owner.
        """
        need = GrantNeed(f"{kind.annotations.prefix}preserve-lb-on-delete", "preserve", "true")
        namespace = service.metadata.namespace or ""
        if grants.missing([need], self._grants.of(namespace)):
            LOAD_BALANCER_REFUSALS.labels("grant").inc()
            raise NotGranted(f"{grants.refusal(need, namespace)}; until then balancer and Service stay")

    async def _remove_finalizer(self, service: Service, kind: BalancerKind) -> None:
        """Removes address, label and finalizer; reads the Service again first, as others add finalizers too."""
        self._states.pop(service.key, None)
        with suppress(NotFound):  # the Service is gone already: there is nothing to release
            if not service.terminating and service.status.loadBalancer.ingress:
                await self._publish_ingress(service, [])
            fresh = await self._client.get(Service, service.name, service.metadata.namespace)
            labels = {kind.naming.identity_label: None}
            updated = await finalizers.remove(self._client, fresh, kind.naming.finalizer, labels=labels)
            if updated is not None:
                self._listers.services.note(updated)

    async def _patch(self, service: Service, metadata: Mapping[str, Any]) -> Service:
        patched = await self._client.patch(Service, service.name, {"metadata": metadata}, service.metadata.namespace)
        self._listers.services.note(patched)
        return patched

    def _record(self, service: Service, type: str, reason: str, *messages: str, repeat: bool = False) -> None:
        """Records an Event for each message; the same messages again only with ``repeat``."""
        state = self._states[service.key]
        if not repeat and state.events.get(reason, ()) == messages:
            return
        state.events[reason] = messages
        for message in messages:
            self._recorder.event(service, type, reason, message)


async def region_of(nodes: Informer[Node], parse: ProviderIDParser) -> str:
    """Returns the region of the nodes, as soon as one of them has a provider ID."""
    while True:
        for node in nodes.items():
            if named := parse(node.spec.providerID or ""):
                return named[0]
        log.warning("no node has a provider ID yet; load balancers wait")
        await asyncio.sleep(IDLE)


def _reason(error: SpiderpoolError) -> str:
    """Returns the reason of the Event about an error."""
    match error:
        case NotGranted():
            return "NotGranted"
        case TooManyLoadBalancers():
            return "TooManyLoadBalancers"
        case _:
            return "SyncLoadBalancerFailed"


def _service_of(item: EndpointSlice) -> str | None:
    """Returns the key of the Service that an EndpointSlice belongs to; None when it belongs to none."""
    name = (item.metadata.labels or {}).get(SERVICE_LABEL)
    return f"{item.metadata.namespace}/{name}" if name else None


def _relevant_part(node: Node) -> Iterable[object]:
    """Returns the parts of a node that decide whether it is a backend; its heartbeats change others all the time."""
    ready = [condition.status for condition in node.status.conditions or () if condition.type == "Ready"]
    return node.metadata.labels, node.spec, ready


def _identity(service: Service, kind: BalancerKind) -> str:
    """Returns the balancer that the Service was given, else the one that it names; empty when there is none."""
    recorded = (service.metadata.labels or {}).get(kind.naming.identity_label, "")
    return recorded or read_options(service.metadata.annotations or {}, kind)["id"]


def _preserves(service: Service, kind: BalancerKind) -> bool:
    """Whether the balancer outlives the Service; also when the annotation is not valid, since a deletion is final."""
    options = read_options(service.metadata.annotations or {}, kind)
    unclear = any("preserve-lb-on-delete" in fault for fault in options.faults)
    return unclear or options.on("preserve-lb-on-delete")
