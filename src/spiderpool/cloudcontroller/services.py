"""Reconciles Services of type LoadBalancer with load balancers of the cloud: creates, updates and removes them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import LoadBalancerIngress, Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloud.provider import CloudError, StepsRefused, is_quota
from spiderpool.cloudcontroller import readiness_gates
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits, TooManyLoadBalancers
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.readiness_gates import ReadinessGates
from spiderpool.cloudcontroller.service_backends import ServiceBackends, deciding_part, service_of
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.cloudcontroller.service_removal import BalancerRemoval, preserves
from spiderpool.cloudcontroller.service_state import ServiceStates, messages_of, reason_of
from spiderpool.core.cloud.loadbalancer import backends, checking, grants, planning
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model, lent_groups, owner_of
from spiderpool.core.cloud.loadbalancer.steps import AddServers, CreateBalancer
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed, ObservedLoadBalancer
from spiderpool.errors import BadConfig, NotReady, SpiderpoolError
from spiderpool.kube import finalizers
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS, logger

WORKERS = 3
"""Services that are reconciled at a time."""
IDLE = 5.0
"""Seconds between two checks whether there is any Service."""
REFUSALS = (BadConfig, TooManyLoadBalancers)
"""Errors after which the servers of a balancer are updated all the same; after others all of it is tried again."""

log = logger("services")


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
        self._listers = listers
        self._balancers = balancers
        self._configuration = configuration
        self._timings = timings or ServiceTimings()
        self._grants = GrantReconciler(cluster.client, listers.grants)
        self._limits = BalancerLimits(balancers, listers.services, configuration, self._timings.clock)
        self._states = ServiceStates(cluster.recorder, self._timings)
        self._effects = ServiceEffects(cluster.client, listers.services, balancers)
        self._removal = BalancerRemoval(self._effects, self._states, self._grants, self._limits, configuration)
        self._gates = ReadinessGates(cluster.client)
        self._backends = ServiceBackends(listers, balancers.enis, self._gates, configuration, self._timings)
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
            try:
                keys = [service.key for service in self._listers.services.items() if self._is_ours(service)]
                await self._queue_in_turn(keys)
            except Exception:  # a bug here must not stop the reconcilers
                log.exception("not all are queued")
                keys = []
            if not keys:
                await asyncio.sleep(min(self._timings.period, IDLE))

    async def _queue_in_turn(self, keys: Sequence[str]) -> None:
        """Queues Services, spread over the period."""
        for key in keys:
            self._states.forget_applied(key)
            self._queue.add(key)
            await asyncio.sleep(self._timings.period / len(keys))

    def _is_ours(self, service: Service) -> bool:
        return bool(self._balancers.held(service)) or self._balancers.kind_of(service) is not None

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        if new is None:
            if old is not None:
                self._states.forget(old.key)
                self._gates.forget(old.key)
        elif self._is_ours(new):
            self._queue.add(new.key)

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for item in (old, new):
            if item is not None and (key := service_of(item)):
                self._queue_later(key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or deciding_part(old) != deciding_part(new):
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
        if (service := self._listers.services.get(key)) is not None and self._is_ours(service):
            self._queue.add(key, self._timings.gather)

    async def _reconcile(self, key: str) -> None:
        """Handles one key of the queue; records an error as an Event and raises it, so that the queue retries."""
        service = self._listers.services.get(key)
        if service is None:
            return
        try:
            await self._reconcile_service(service)
        except SpiderpoolError as error:
            self._states.record(service, reason_of(error), *messages_of(error), repeat=True)
            raise

    async def _reconcile_service(self, service: Service) -> None:
        """Gives a Service what it asks for; where that is refused, the servers of what it has are updated."""
        kind = None if service.terminating else self._balancers.kind_of(service)
        formers = [former for former in self._balancers.held(service) if former is not kind]
        held = formers or ([kind] if kind is not None else [])
        try:
            is_served = await self._serve(service, kind, formers)
        except SpiderpoolError as error:
            if isinstance(error, REFUSALS) or (kind is not None and formers):
                await self._ensure_backends(service, held)
            raise
        if not is_served:
            await self._ensure_backends(service, held)

    async def _serve(self, service: Service, kind: BalancerKind | None, formers: Sequence[BalancerKind]) -> bool:
        """Removes balancers of kinds that the Service no longer asks for, and ensures the one that it asks for.

        False: that is refused until the Service is corrected or granted what it asks for.
        """
        if formers and kind is not None and not await self._may_switch(service, kind, formers):
            return False
        for former in formers:
            await self._removal.remove(service, former)
        current = self._listers.services.get(service.key)  # as changed by the removals
        if kind is None or current is None or current.metadata.uid != service.metadata.uid:
            return True
        return await self._ensure(current, kind)

    async def _may_switch(self, service: Service, kind: BalancerKind, formers: Sequence[BalancerKind]) -> bool:
        """Whether the Service can have another kind of balancer: otherwise it keeps the one that it has.

        Raises TooManyLoadBalancers, BadConfig, NotReady, CloudError.
        """
        options = options_of(service, kind)
        if self._report_faults(service, options):
            return False
        if missing := self._missing(service, options):
            self._refuse(service, missing)
        elif options["id"]:
            await self._check_lent(service, options)
        else:
            leaving = [former for former in formers if not preserves(service, former)]
            await self._limits.reserve(service, kind, self._grants.of(service.metadata.namespace or ""), leaving)
        return not missing

    async def _check_lent(self, service: Service, options: BalancerOptions) -> None:
        """Raises NotReady when the balancer that the Service names is missing, BadConfig when it may not have it."""
        model = build_model(service, options, await self._backends.snapshot(service, options), self._configuration)
        observed = await self._balancers.apis[options.kind].find(model.owner, model.reuse, model.lent_groups)
        if observed is None:
            self._check_missing(service, model, "")
        else:
            self._check_ownership(model, observed)

    def _report_faults(self, service: Service, options: BalancerOptions) -> bool:
        """Records what must be corrected in the Service; returns whether anything must be."""
        self._states.record(service, event_reasons.SERVICE_ANNOTATION_IGNORED, *checking.remarks(service, options))
        faults = checking.faults(service, options, self._configuration)
        self._states.record(service, event_reasons.INVALID_SERVICE, *faults)
        return bool(faults)

    async def _ensure(self, service: Service, kind: BalancerKind) -> bool:
        """Creates or updates the Service's balancer: options, faults, model, observation, steps, address.

        Looks at no balancer while the model is the one that was applied last; `_resync` forgets that one. False: the
        Service must be corrected, or granted what it asks for.
        """
        options = options_of(service, kind)
        if self._report_faults(service, options):
            return False
        missing = self._missing(service, options)
        if not service.status.loadBalancer.ingress and not await self._may_begin(service, options, missing):
            return False
        model = build_model(service, options, await self._backends.snapshot(service, options), self._configuration)
        if self._is_applied(service, model):
            await self._open_gates(service, model)
            return True
        service = await self._add_finalizer(service, kind)
        observed = await self._find(service, model)
        if refused := [need for need in missing if observed is None or not grants.is_in_use(need, model, observed)]:
            self._refuse(service, refused)
            return False
        self._report_grants(service, missing)
        observed = observed or await self._create(service, model)
        self._states.record(service, event_reasons.CANNOT_BE_CHANGED, *planning.unchangeable(model, observed))
        try:
            waits = await self._carry_out(service, model, observed)
        except StepsRefused as error:
            if error.serves:
                await self._publish(service, model, observed)
            raise
        self._states.of(service.key).lent_groups = {*model.lent_groups}
        published = await self._publish(service, model, observed)
        if not waits:
            self._states.of(service.key).applied = (model, published)
        virtual = map(backends.VIRTUAL.format, model.virtual)
        self._states.record(service, event_reasons.BACKENDS_NOT_SUPPORTED, *virtual)
        self._report_unresolved(service, model)
        return True

    async def _may_begin(self, service: Service, options: BalancerOptions, missing: Sequence[GrantNeed]) -> bool:
        """Whether a Service without an address may get a balancer.

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
        self._states.of(service.key).applied = None
        self._states.record(service, event_reasons.NOT_GRANTED, *(grants.refusal(need, namespace) for need in needs))

    def _report_grants(self, service: Service, used: Iterable[GrantNeed]) -> None:
        """Records that nothing is refused any more, and what the Service keeps although nobody has granted it."""
        namespace = service.metadata.namespace or ""
        self._states.record(service, event_reasons.NOT_GRANTED)
        self._states.record(
            service, event_reasons.USED_WITHOUT_GRANT, *(grants.reminder(need, namespace) for need in used)
        )

    async def _ensure_backends(self, service: Service, held: Iterable[BalancerKind]) -> None:
        """Updates the servers of balancers that the Service has; everything else waits for its correction."""
        for kind in held:
            options = options_of(service, kind)
            is_valid = checking.are_backends_valid(service, options, self._configuration)
            observed = await self._find_held(service, options) if is_valid else None
            if observed is not None:
                snapshot = await self._backends.snapshot(service, options)
                model = build_model(service, options, snapshot, self._configuration)
                model = self._without_refused_groups(service, options, model, observed)
                await self._carry_out(service, model, observed, only_backends=True)

    def _without_refused_groups(
        self, service: Service, options: BalancerOptions, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> LoadBalancerModel:
        """Returns the model without users' server groups that the Service neither may use nor uses."""
        missing = self._missing(service, options) if model.lent_groups else ()
        refused = {need.value for need in missing if not grants.is_in_use(need, model, observed)}
        return replace(model, groups=tuple(group for group in model.groups if group.name not in refused))

    async def _find_held(self, service: Service, options: BalancerOptions) -> ObservedLoadBalancer | None:
        """Returns the balancer that was made for, or lent to, a Service; asks for none if nothing speaks of one."""
        kind, lent = options.kind, [*lent_groups(options).values()]
        owner, naming, metadata = owner_of(service, self._configuration), kind.naming, service.metadata
        identity = (metadata.labels or {}).get(naming.identity_label, "")
        is_known = service.status.loadBalancer.ingress or naming.finalizer in (metadata.finalizers or ())
        if not identity and not is_known:
            return None
        for name in dict.fromkeys((identity, "")):  # the label may be gone, or name another one
            observed = await self._balancers.apis[kind].find(owner, name, lent)
            if observed is not None and (naming.is_own(observed, owner) or naming.reuse_tag in observed.tags):
                return observed
        return None

    def _is_applied(self, service: Service, model: LoadBalancerModel) -> bool:
        """Whether the balancer was made like this model, and the Service still has its finalizer and address."""
        has_finalizer = model.kind.naming.finalizer in (service.metadata.finalizers or ())
        published = service.status.loadBalancer.ingress or []
        return has_finalizer and self._states.of(service.key).applied == (model, published)

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
        api, state = self._balancers.apis[model.kind], self._states.of(service.key)
        state.lent_groups.update(model.lent_groups)
        observed = await api.find(model.owner, model.reuse or recorded, state.lent_groups)
        if observed is None and not model.reuse and recorded:
            observed = await api.find(model.owner)
        if observed is None:
            self._check_missing(service, model, recorded)
            return None
        self._states.of(service.key).missing_since = None
        self._check_ownership(model, observed)
        return observed

    def _check_ownership(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Raises BadConfig when the Service may not have the balancer."""
        if fault := planning.reuse_fault(model, observed) or planning.ownership_fault(model, observed):
            raise BadConfig(fault)

    def _check_missing(self, service: Service, model: LoadBalancerModel, recorded: str) -> None:
        """Raises NotReady when the Service had a balancer: a lost answer must not give it a second one."""
        if model.reuse:
            name = f"annotation {model.kind.annotations.prefix}id"
            raise NotReady(f"load balancer {model.reuse}, which {name} names, does not exist")
        if not recorded and not service.status.loadBalancer.ingress:
            return
        name = recorded or model.name
        if self._states.is_confirmed_missing(service.key):
            text = f"load balancer {name} was deleted; delete the Service and create it anew to get another"
            self._states.record(service, event_reasons.LOAD_BALANCER_NOT_FOUND, text)
        raise NotReady(f"load balancer {name} cannot be found; none is made in its place")

    async def _carry_out(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer, *, only_backends: bool = False
    ) -> bool:
        """Carries out a plan; returns whether servers only wait for another to be well: then it looks again."""
        self._states.note_servers(service.key, observed.groups)
        before = self._states.unsettled(service.key, model.settling)
        state = self._states.of(service.key)
        if not state.is_at_quota:  # where there is no room, nodes leave first
            model = planning.with_leaving_nodes(model, observed, before)
        steps = planning.plan(model, observed, before)
        steps = planning.only_backends(steps) if only_backends else steps
        added = [server for step in steps if isinstance(step, AddServers) for server in step.servers]
        if model.with_pods or not added:  # the others are servers already, whatever is refused now
            await self._open_gates(service, model, {server.address for server in added})
        try:
            await self._effects.carry_out(service, model.kind, steps, observed)
        except CloudError as error:
            state.is_at_quota = is_quota(error)
            raise
        state.is_at_quota = False
        await self._open_gates(service, model)
        self._states.note_servers(service.key, model.groups)
        after = self._states.unsettled(service.key, model.settling)
        waits = planning.waits(model, before | after)  # also for what has settled since the plan was made
        if waits:
            state.applied = None
            self._queue.add(service.key, model.settling)
        return waits

    async def _open_gates(self, service: Service, model: LoadBalancerModel, others: Collection[str] = ()) -> None:
        """Lets pods become ready that are servers now, and looks later at those that may become servers.

        ``others`` are addresses of pods that are no servers yet.
        """
        await self._gates.open(service, model.kind, {*model.unresolved, *others})
        if self._gates.waits(service.key):
            self._queue.add(service.key, readiness_gates.PAUSE)

    async def _create(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer:
        """Creates the balancer, records its identity at once, and reads it back; the caller plans the other steps."""
        async with self._limits.place(service, model.kind, self._grants.of(model.owner.namespace)) as unlisted:
            self._states.record(service, event_reasons.LOAD_BALANCERS_NOT_LISTED, *unlisted)
            identity = await self._effects.carry_out(service, model.kind, [CreateBalancer(model)], None)
        await self._effects.patch(service, {"labels": {model.kind.naming.identity_label: identity}})
        observed = await self._balancers.apis[model.kind].find(model.owner, identity)
        if observed is None:
            raise NotReady(f"load balancer {identity} was made and cannot be seen yet")
        return observed

    async def _publish(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> list[LoadBalancerIngress]:
        """Writes identity and address of the balancer on the Service, and returns the addresses."""
        label = model.kind.naming.identity_label
        current = self._listers.services.get(service.key) or service
        if (current.metadata.labels or {}).get(label) != observed.identity:
            await self._effects.patch(service, {"labels": {label: observed.identity}})
        by_name = model.kind.published_by_name or model.hostname
        name = model.hostname or await self._address(model, observed)
        ingress = [LoadBalancerIngress(hostname=name) if by_name else LoadBalancerIngress(ip=name)]
        if service.status.loadBalancer.ingress != ingress:
            await self._effects.publish_ingress(service, ingress)
            text = f"Ensured load balancer [{observed.identity}] at {name}"
            self._states.record(service, event_reasons.ENSURED_LOAD_BALANCER, text)
        return ingress

    async def _address(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> str:
        """Returns the address to publish. Raises NotReady where it is to be an elastic IP and none is bound."""
        if not model.by_elastic_ip:
            return observed.address
        if found := await self._balancers.elastic_ips.bound_to(observed.identity):
            return found
        key = f"annotation {model.kind.annotations.prefix}external-ip-type"
        raise NotReady(f"{key} is eip, and no elastic IP is bound to load balancer {observed.identity}: bind one to it")

    def _report_unresolved(self, service: Service, model: LoadBalancerModel) -> None:
        """Raises NotReady for pods without a known ENI: the cloud shows a new address only after a while."""
        if model.unresolved:
            self._states.of(service.key).applied = None
            raise NotReady(
                f"no ENI is known to have the pod addresses {', '.join(model.unresolved)}; "
                "the pods get no traffic from the balancer until one is"
            )
