"""Makes the plans by which balancers come to have what their Services ask for, and carries them out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from spiderpool.api.core_v1 import Service
from spiderpool.cloud.provider import CloudError
from spiderpool.cloudcontroller.readiness_gates import ReadinessGates
from spiderpool.cloudcontroller.service_backends import ServiceBackends
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.core.cloud.loadbalancer import gates, leaving, planning, settling
from spiderpool.core.cloud.loadbalancer.check_steps import outdated_checks
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import AddServers, Step
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, ServerPlace


class ServicePlans:
    """Changes balancers that are there; remembers of each Service which servers are well, and which groups are full."""

    def __init__(
        self,
        effects: ServiceEffects,
        states: ServiceStates,
        backends: ServiceBackends,
        gates: ReadinessGates,
        requeue: Callable[[str, float], None],
    ) -> None:
        """``requeue`` has a Service, by its key, looked at again after some seconds."""
        self._effects = effects
        self._states = states
        self._backends = backends
        self._gates = gates
        self._requeue = requeue

    async def carry_out(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
        """Carries out the plan for an adapted model; returns whether servers only wait for another to be well.

        Then the Service is looked at again. Raises CloudError.
        """
        model, unsettled = await self._with_leaving(service, model, observed)
        steps = planning.plan_adapted(model, observed, unsettled)
        return await self._carry_out(service, model, observed, steps, unsettled)

    async def update_servers(
        self,
        service: Service,
        model: LoadBalancerModel,
        observed: ObservedLoadBalancer,
        refused: Collection[str],
        *,
        mends_checks: bool,
    ) -> None:
        """Carries out what of the plan changes servers of groups that are there, but for ``refused`` ones.

        With ``mends_checks`` also health checks by which none of these servers would stay well. Raises CloudError.
        """
        model, unsettled = await self._with_leaving(service, model, observed)
        steps = planning.only_backends(planning.plan_adapted(model, observed, unsettled), refused)
        if mends_checks:
            steps = (*outdated_checks(model, observed), *steps)
        await self._carry_out(service, model, observed, steps, unsettled)

    async def _carry_out(
        self,
        service: Service,
        model: LoadBalancerModel,
        observed: ObservedLoadBalancer,
        steps: Sequence[Step],
        before: frozenset[ServerPlace],
    ) -> bool:
        """Carries out steps, and notes what became of the servers; ``before`` are those that were not well yet."""
        state = self._states.of(service.key)
        if steps:
            state.applied = None  # of a plan that is refused in part, the other part is carried out
        await self.open_gates(service, model, gates.places(observed.groups))  # whatever is refused now
        try:
            await self._effects.carry_out(service, model.kind, steps, observed)
        except CloudError as error:
            state.note_quota(model.groups, error)
            await self._open_gates_of_added(service, model, observed, steps)
            raise
        takes_more = state.note_quota(model.groups, None)
        if not state.full_groups | state.stuck_groups:  # of any of its balancers
            self._backends.has_all(service)
        await self.open_gates(service, model, gates.places(observed.groups, steps))
        leading = model.listeners if model.manages_listeners else observed.listeners
        self._states.note_servers(service.key, model.kind, model.groups, settling.groups_in_use(leading))
        after = self._states.unsettled(service.key, model.kind, model.settling)
        # Also for what has settled since the plan was made.
        waits = settling.waits(model, observed, before | after) or takes_more
        if waits:
            state.applied = None
            self._requeue(service.key, model.settling)
        return waits

    async def _with_leaving(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> tuple[LoadBalancerModel, frozenset[ServerPlace]]:
        """Returns the model with servers that leave later: others are not well yet, or find no room; and those others.

        The others are the servers that the balancer has not had for long enough.
        """
        in_use = settling.groups_in_use(observed.listeners)
        self._states.note_servers(service.key, model.kind, observed.groups, in_use)
        unsettled = self._states.unsettled(service.key, model.kind, model.settling)
        state = self._states.of(service.key)
        if state.stuck_groups:
            servers = leaving.leaving(model, observed, state.stuck_groups)
            answering = await self._backends.answering(service, servers)
            model = leaving.with_answering(model, observed, state.stuck_groups, answering)
        groups = [group.name for group in observed.groups]
        by_address = any(server.type != "instance" for server in leaving.leaving(model, observed, groups))
        nodes = self._backends.node_addresses() if by_address else frozenset()
        return leaving.with_leaving_nodes(model, observed, unsettled, state.full_groups, nodes), unsettled

    async def mend_checks(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Has no balancer check nodes at a port that is gone, whatever servers the Service is to have."""
        if steps := [*outdated_checks(model, observed)]:
            self._states.of(service.key).applied = None
            await self._effects.carry_out(service, model.kind, steps, observed)

    async def open_gates(self, service: Service, model: LoadBalancerModel, present: Collection[ServerPlace]) -> None:
        """Lets pods become ready that are servers of the balancer, where it is the one that clients use."""
        if self._states.of(service.key).is_used(model.kind):
            await self._gates.open(service, model, present)

    async def _open_gates_of_added(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer, steps: Iterable[Step]
    ) -> None:
        """Lets pods become ready that have become servers although other steps of the plan were refused.

        The balancer is asked once more: of a step with many servers some may have got in.
        """
        waits = self._gates.has_closed(service.key) and self._states.of(service.key).is_used(model.kind)
        if not waits or not any(isinstance(step, AddServers) for step in steps):
            return
        with suppress(CloudError):  # then with the next plan, which is made soon
            now = await self._effects.balancers.apis[model.kind].find(model.owner, observed.identity, model.lent_groups)
            if now is not None:
                await self.open_gates(service, model, gates.places(now.groups))
