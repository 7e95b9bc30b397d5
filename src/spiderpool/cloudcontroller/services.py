"""Reconciles Services of type LoadBalancer with load balancers of the cloud: creates, updates and removes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloud.provider import CloudError, StepsRefused
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits, TooManyLoadBalancers
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.former_pods import FormerPods
from spiderpool.cloudcontroller.other_controller import ChangedByAnother, OtherController
from spiderpool.cloudcontroller.pod_reader import PodReader
from spiderpool.cloudcontroller.readiness_gates import ReadinessGates
from spiderpool.cloudcontroller.service_backends import ServiceBackends, ServicePods, deciding_part, service_of
from spiderpool.cloudcontroller.service_balancers import BalancerFinder, BalancerGone
from spiderpool.cloudcontroller.service_creation import BalancerCreation
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.cloudcontroller.service_plans import ServicePlans
from spiderpool.cloudcontroller.service_publication import ServicePublication
from spiderpool.cloudcontroller.service_removal import BalancerRemoval
from spiderpool.cloudcontroller.service_reports import ServiceReports
from spiderpool.cloudcontroller.service_state import ServiceStates, messages_of, reason_of
from spiderpool.core.cloud.loadbalancer import (
    adoption,
    backends,
    checking,
    gates,
    planning,
    settling,
    succession,
)
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model, owner_of
from spiderpool.core.cloud.loadbalancer.succession import Eligibility, Standing
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    GrantNeed,
    ObservedLoadBalancer,
)
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.kube import finalizers
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import LOAD_BALANCERS, logger

WORKERS = 3
"""Services that are reconciled at a time."""
LEASE_READS = 5
"""Readings of the other controller's Lease within the period."""
LEAST_RECOUNT = 60.0
"""Seconds between two counts of all balancers, at least."""
IDLE = 5.0
"""Seconds between two checks whether there is any Service."""
REFUSALS = (BadConfig, TooManyLoadBalancers, ChangedByAnother)
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
        self._reports = ServiceReports(self._states, self._grants, configuration)
        self._other = OtherController(cluster.client, self._states, balancers.other, self._timings.period / LEASE_READS)
        self._finder = BalancerFinder(balancers, self._states, configuration)
        self._effects = ServiceEffects(cluster.client, listers.services, balancers)
        self._publication = ServicePublication(self._effects, self._states)
        self._removal = BalancerRemoval(self._effects, self._states, self._grants, self._limits, configuration)
        reader = PodReader(cluster.client)
        self._gates = ReadinessGates(cluster.client, reader, self._queue_later)
        pods = ServicePods(self._gates, FormerPods(reader))
        self._backends = ServiceBackends(listers, balancers.enis, pods, configuration, self._timings)
        first, last = self._timings.first_pause, self._timings.last_pause
        self._queue = WorkQueue(self._reconcile, "services", first_pause=first, last_pause=last)
        self._plans = ServicePlans(self._effects, self._states, self._backends, self._gates, self._queue.add)
        self._creation = BalancerCreation(self._effects, self._states, self._finder, self._grants, self._limits)
        listers.slices.subscribe(self._on_slice)
        listers.services.subscribe(self._on_service)
        listers.nodes.subscribe(self._on_node)
        listers.servers.subscribe(lambda _: self._queue_all())
        listers.grants.subscribe(self._on_grant)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        with LOAD_BALANCERS.computed_by(self._limits.by_state):
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._resync())
            group.create_task(self._recount())
            group.create_task(self._gates.run())
            group.create_task(self._grants.run())
            group.create_task(self._other.run())

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

    async def _recount(self) -> None:
        """Counts the balancers once in a while: somebody may have deleted orphans, or made some."""
        while True:
            await asyncio.sleep(max(self._timings.period, LEAST_RECOUNT))
            try:
                await self._limits.recount()
            except CloudError as error:
                log.warning("load balancers not counted", error=error.message)
            except Exception:  # a bug here must not stop the reconcilers
                log.exception("load balancers not counted")

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
                self._backends.forget(old.key)
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
        """Gives a Service what it asks for; where that is refused, servers and checks of what it has are updated."""
        standing = self._balancers.standing(service)
        self._states.of(service.key).used = frozenset(standing.formers if standing.asked is not None else ())
        if succession.stays_for_another(service, standing):
            self._reports.kept_for_another(service, standing.formers)
            await self._ensure_backends(service, standing.held, mends_checks=self._other.is_alive is False)
            return
        try:
            is_served = await self._serve(service, standing)
        except BalancerGone:
            for each in standing.held:
                await self._backends.release_gates(service, each)
            raise
        except SpiderpoolError as error:
            if isinstance(error, REFUSALS) or (standing.asked is not None and standing.formers):
                await self._ensure_backends(service, standing.held)
            raise
        if not is_served:
            await self._ensure_backends(service, standing.held)

    async def _serve(self, service: Service, standing: Standing) -> bool:
        """Ensures the balancer that the Service asks for, and removes those of kinds that it no longer asks for.

        False: that is refused until the Service is corrected or granted what it asks for.
        """
        if standing.asked is None:
            for former in standing.formers:
                await self._backends.release_gates(service, former)
            await self._remove(service, standing.formers)
            return True
        kept = await self._kept_kind(service, standing.formers)
        kind, formers = kept or standing.asked, standing.keeping(kept).formers if kept else standing.formers
        if formers and not await self._may_switch(service, kind, formers):
            return False
        return await self._ensure(service, kind, formers)

    async def _remove(self, service: Service, formers: Sequence[BalancerKind], *, successor: str = "") -> None:
        """Removes balancers as `BalancerRemoval` does, each whatever is refused of others. Raises the first refusal."""
        refusals: list[SpiderpoolError] = []
        for former in formers:
            try:
                await self._removal.remove(service, former, successor=successor)
            except SpiderpoolError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    async def _kept_kind(self, service: Service, formers: Sequence[BalancerKind]) -> BalancerKind | None:
        """Returns the kind of a balancer that another controller made, and that an annotation shall not exchange."""
        owner, state = owner_of(service, self._configuration), self._states.of(service.key)
        if state.kept in formers and not service.spec.loadBalancerClass:
            return state.kept
        for former in formers:
            observed = await self._finder.held(service, options_of(service, former))
            if observed is None:
                self._note_missing(service, former)
            elif adoption.keeps_its_kind(service, former, owner, observed):
                self._reports.kept_as_made(service, former, observed)
                state.kept = former
                return former
        return None

    def _note_missing(self, service: Service, former: BalancerKind) -> None:
        """Has pods wait no longer for a balancer that is gone, as far as can be known."""
        if self._states.note_missing(service.key, former):
            state = self._states.of(service.key)
            state.used = state.used.difference((former,))

    async def _may_switch(self, service: Service, kind: BalancerKind, formers: Sequence[BalancerKind]) -> bool:
        """Whether the Service can have another kind of balancer: otherwise it keeps the one that it has.

        Raises TooManyLoadBalancers, BadConfig, NotReady, CloudError.
        """
        options = options_of(service, kind)
        eligibility = self._reports.checked(service, options)
        if eligibility.faults:
            return False
        if eligibility.missing:
            if await self._has_taken_over(service, options):
                return True
            self._reports.refuse(service, eligibility.missing)
        elif options["id"]:
            await self._check_lent(service, options)
        else:
            granted = self._grants.of(service.metadata.namespace or "")
            leaving = succession.deleted(service, formers)
            others_stay = len(leaving) < len(formers)
            await self._limits.reserve(service, kind, granted, leaving, others_stay=others_stay)
        return eligibility.may_take_over

    async def _has_taken_over(self, service: Service, options: BalancerOptions) -> bool:
        """Whether clients use the balancer that the Service asks for, and only the former one is to go."""
        observed = await self._finder.held(service, options)
        if observed is None:
            return False
        model = build_model(service, options, await self._backends.snapshot(service, options), self._configuration)
        return succession.is_published(service, model, observed)

    async def _check_lent(self, service: Service, options: BalancerOptions) -> None:
        """Raises NotReady when the balancer that the Service names is missing, BadConfig when it may not have it."""
        model = build_model(service, options, await self._backends.snapshot(service, options), self._configuration)
        observed = await self._balancers.apis[options.kind].find(model.owner, model.reuse, model.lent_groups)
        if observed is None:
            self._finder.check_missing(service, model)
        else:
            self._finder.check_ownership(model, observed)

    async def _ensure(self, service: Service, kind: BalancerKind, formers: Sequence[BalancerKind] = ()) -> bool:
        """Creates or updates the Service's balancer: options, faults, model, observation, steps, address.

        Looks at no balancer while the model is the one that was applied last; `_resync` forgets that one. Balancers of
        ``formers`` go when this one is well and published. False: until then they serve, or the Service must be
        corrected, or granted what it asks for.
        """
        self._other.check(service)
        options = options_of(service, kind)
        eligibility = self._reports.checked(service, options)
        if eligibility.faults:
            return False
        is_first = not service.status.loadBalancer.ingress and not formers
        if is_first and not await self._may_begin(service, options, eligibility.missing):
            return False
        model = build_model(service, options, await self._backends.snapshot(service, options), self._configuration)
        if not formers and self._is_applied(service, model):
            await self._plans.open_gates(service, model, gates.places(model.groups))
            return True
        service = await self._add_finalizer(service, kind)  # without it, none was ever asked for
        observed = await (self._finder.successor(service, model) if formers else self._finder.find(service, model))
        if refused := eligibility.refused(model, observed):
            self._reports.refuse(service, refused)
            if observed is not None and succession.is_published(service, model, observed):
                await self._remove(service, formers, successor=observed.identity)
            return False
        self._reports.granted(service, eligibility.missing)
        observed = observed or await self._create(service, model, formers)
        self._states.record(service, event_reasons.CANNOT_BE_CHANGED, *planning.unchangeable(model, observed))
        wanted, model = model, adoption.adapted(model, observed)
        if formers:
            return await self._exchange(service, model, observed, formers)
        waits = await self._change(service, model, observed)
        self._states.of(service.key).lent_groups = {*model.lent_groups}
        published = await self._publication.publish(service, model, observed)
        if not waits:
            self._states.of(service.key).applied = (wanted, published)
        virtual = map(backends.VIRTUAL.format, model.virtual)
        self._states.record(service, event_reasons.BACKENDS_NOT_SUPPORTED, *virtual)
        self._reports.unresolved(service, model)
        return True

    async def _create(
        self, service: Service, model: LoadBalancerModel, formers: Sequence[BalancerKind]
    ) -> ObservedLoadBalancer:
        """Creates the balancer; until it serves, those of other kinds do, by health checks that nodes answer.

        Raises NotReady where no client uses one of them: then the Service has one of the kind that it asks for. And
        BadConfig when it says too little for a new one.
        """
        if faults := [*model.kind.creation_faults(model.options, self._configuration)]:
            raise BadConfig("; ".join(faults))
        if formers:
            await self._removal.remove_abandoned(service, model, None)
        for options in (options_of(service, former) for former in formers):
            held = await self._finder.held(service, options)
            if held is not None:
                self._finder.check_used(service, options.kind, held)
                with suppress(CloudError):  # it is looked at again afterwards
                    await self._mend_checks(service, succession.options_for(options, held), held)
        return await self._creation.create(service, model, formers)

    async def _change(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
        """Carries out the plan; a balancer that served before it, in spite of a refusal, is published.

        Returns whether servers wait for others to be well.
        """
        try:
            return await self._plans.carry_out(service, model, observed)
        except StepsRefused:
            if settling.serves(model, observed):
                await self._publication.publish(service, model, observed)
            raise

    async def _exchange(
        self,
        service: Service,
        model: LoadBalancerModel,
        observed: ObservedLoadBalancer,
        formers: Sequence[BalancerKind],
    ) -> bool:
        """Carries out the plan of a balancer that takes the place of others; returns what `_take_over` does.

        One that serves in spite of a refusal takes their place as well, unless a quota keeps servers out of it.
        """
        if succession.is_published(service, model, observed):  # a former one could not be removed yet
            self._states.of(service.key).used = frozenset({model.kind})
        await self._removal.remove_abandoned(service, model, observed)
        await self._publication.announce(service, model, observed)
        try:
            await self._plans.carry_out(service, model, observed)  # `_take_over` knows by itself what waits
        except StepsRefused as error:
            if not error.full or succession.is_published(service, model, observed):
                await self._take_over(service, model, observed, formers)
            raise
        return await self._take_over(service, model, observed, formers)

    async def _take_over(
        self,
        service: Service,
        model: LoadBalancerModel,
        observed: ObservedLoadBalancer,
        formers: Sequence[BalancerKind],
    ) -> bool:
        """Publishes a balancer and removes those of other kinds, when it is well; returns whether it is.

        Raises NotReady for pods that it cannot have as servers yet, and the former one may have.
        """
        is_published = succession.is_published(service, model, observed)
        if not is_published and not self._is_well(service, model, observed):
            self._reports.exchanging(service, formers, model, observed)
            self._reports.unresolved(service, model)
            self._queue.add(service.key, model.settling)
            return False
        await self._publication.take_over(service, model, observed)
        await self._remove(service, formers, successor=observed.identity)
        self._reports.unresolved(service, model)
        return True

    def _is_well(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
        """Whether a balancer, as it was read last, does what the Service asks for, by servers that are found well."""
        settled = self._states.settled(service.key, model.kind, model.settling)
        of_others = {(group.name, server) for group in observed.groups for server in group.others}
        return settling.serves(model, observed) and settling.is_well(model, settled | of_others)

    async def _may_begin(self, service: Service, options: BalancerOptions, missing: Sequence[GrantNeed]) -> bool:
        """Whether a Service without an address may get a balancer.

        Told without a call for each Service: a tenant may have any number. Raises TooManyLoadBalancers, CloudError.
        """
        if missing:
            self._reports.refuse(service, missing)
        elif not options["id"]:
            await self._limits.check(service, options.kind, self._grants.of(service.metadata.namespace or ""))
        return not missing

    async def _ensure_backends(
        self, service: Service, held: Iterable[BalancerKind], *, mends_checks: bool = True
    ) -> None:
        """Updates servers, and health checks of a port that is gone, of balancers that the Service has.

        ``mends_checks`` is false for a Service whose checks another controller may set.
        Pods wait for a balancer by their readiness gates only where the Service has one, or had.
        """
        for kind in held:
            options = options_of(service, kind)
            observed = await self._finder.held(service, options)
            options = succession.options_for(options, observed) if observed else options
            if observed is None and not self._finder.is_recorded(service, kind):
                await self._backends.release_gates(service, kind)
            elif observed is not None and not checking.are_backends_valid(service, options, self._configuration):
                if mends_checks:
                    await self._mend_checks(service, options, observed)
            elif observed is not None:
                snapshot = await self._backends.snapshot(service, options)
                model = build_model(service, options, snapshot, self._configuration)
                refused = self._refused_groups(service, options, model, observed)
                model = adoption.adapted(model, observed)
                await self._plans.update_servers(service, model, observed, refused, mends_checks=mends_checks)

    async def _mend_checks(self, service: Service, options: BalancerOptions, observed: ObservedLoadBalancer) -> None:
        """Has no balancer ask nodes at a port that is gone, whatever servers the Service is to have."""
        model = build_model(service, options, BackendSnapshot(), self._configuration)
        await self._plans.mend_checks(service, model, observed)

    def _refused_groups(
        self, service: Service, options: BalancerOptions, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> frozenset[str]:
        """Returns the users' server groups that the Service neither may use nor uses."""
        eligibility = self._reports.eligibility(service, options) if model.lent_groups else Eligibility()
        return frozenset(need.value for need in eligibility.refused(model, observed))

    def _is_applied(self, service: Service, model: LoadBalancerModel) -> bool:
        """Whether the balancer was made like this model, and the Service still has its finalizer and address."""
        has_finalizer = model.kind.naming.finalizer in (service.metadata.finalizers or ())
        published = service.status.loadBalancer.ingress or []
        return has_finalizer and self._states.of(service.key).applied == (model, published)

    async def _add_finalizer(self, service: Service, kind: BalancerKind) -> Service:
        """Adds the finalizer before anything is created, so that the Service cannot vanish without its balancer."""
        updated = await finalizers.add(self._client, service, kind.naming.finalizer)
        if kind.naming.finalizer not in (service.metadata.finalizers or ()):
            self._states.of(service.key).surely_unmade.add(kind)
        self._listers.services.note(updated)
        return updated
