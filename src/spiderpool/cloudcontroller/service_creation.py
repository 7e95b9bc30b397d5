"""Creates the balancers of Services."""

from __future__ import annotations

from collections.abc import Sequence

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Service
from spiderpool.cloud.provider import CloudError
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits
from spiderpool.cloudcontroller.service_balancers import BalancerFinder
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_state import ServiceStates, is_refusal
from spiderpool.core.cloud.loadbalancer import succession
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import CreateBalancer
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from spiderpool.errors import NotReady


class BalancerCreation:
    """Creates balancers within the limits, and writes at once on their Services which they are."""

    def __init__(
        self,
        effects: ServiceEffects,
        states: ServiceStates,
        finder: BalancerFinder,
        grants: GrantReconciler,
        limits: BalancerLimits,
    ) -> None:
        self._effects = effects
        self._states = states
        self._finder = finder
        self._grants = grants
        self._limits = limits

    async def create(
        self, service: Service, model: LoadBalancerModel, formers: Sequence[BalancerKind]
    ) -> ObservedLoadBalancer:
        """Creates the balancer, records its identity at once, and reads it back; the caller plans the other steps.

        Raises TooManyLoadBalancers, CloudError, and NotReady when there may be one that the cloud does not show yet.
        """
        self._finder.check_unmade(service, model.kind)
        granted, deleted = self._grants.of(model.owner.namespace), succession.deleted(service, formers)
        async with self._limits.place(service, model.kind, granted, deleted) as unlisted:
            self._states.record(service, event_reasons.LOAD_BALANCERS_NOT_LISTED, *unlisted)
            identity = await self._request(service, model)
        self._states.of(service.key).made[model.kind] = identity
        naming = model.kind.naming
        label = naming.successor_label if formers else naming.identity_label
        await self._effects.patch(service, {"labels": {label: identity}})
        observed = await self._effects.balancers.apis[model.kind].find(model.owner, identity)
        if observed is None:
            raise NotReady(f"load balancer {identity} was made and cannot be seen yet")
        return observed

    async def _request(self, service: Service, model: LoadBalancerModel) -> str:
        """Has a balancer made, and returns its identity. Raises CloudError, after which there may be one."""
        self._states.note_creation(service.key, model.kind, is_refused=False)
        try:
            return await self._effects.carry_out(service, model.kind, [CreateBalancer(model)], None)
        except CloudError as error:
            self._states.note_creation(service.key, model.kind, is_refused=is_refusal(error))
            raise
