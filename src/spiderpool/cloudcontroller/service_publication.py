"""Writes on a Service which balancer it has, and at which address clients reach it."""

from __future__ import annotations

from dataclasses import dataclass

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import LoadBalancerIngress, Service
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.core.cloud.loadbalancer import succession
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from spiderpool.errors import NotReady


@dataclass(frozen=True, slots=True)
class ServicePublication:
    """Publishes balancers; an address that is published already is not written again."""

    effects: ServiceEffects
    states: ServiceStates

    async def publish(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> list[LoadBalancerIngress]:
        """Writes identity and address of the balancer on the Service, and returns the addresses. Raises NotReady."""
        naming, current = model.kind.naming, self._current(service)
        if succession.recorded_identity(current, model.kind) != observed.identity:
            await self.effects.patch(service, {"labels": {naming.identity_label: observed.identity}})
        return await self._publish_at(service, observed, await self._ingress(model, observed))

    async def announce(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Writes on the Service which balancer is to take the place of another one, before anything is made in it."""
        current = self._current(service)
        named = (succession.recorded_identity(current, model.kind), succession.successor_identity(current, model.kind))
        if observed.identity not in named:
            await self.effects.patch(service, {"labels": {model.kind.naming.successor_label: observed.identity}})

    async def take_over(self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Publishes a balancer in the place of one of another kind, which another label names until it is removed.

        The label comes first: an address may be a name that leads to either of them. Raises NotReady.
        """
        naming, current, ingress = model.kind.naming, self._current(service), await self._ingress(model, observed)
        former = succession.recorded_identity(current, model.kind)
        if former != observed.identity:
            labels = {
                naming.identity_label: observed.identity,
                naming.other_identity_label: former or None,
                naming.successor_label: None,
            }
            await self.effects.patch(service, {"labels": labels})
        await self._publish_at(service, observed, ingress)

    def _current(self, service: Service) -> Service:
        """Returns the Service with the labels that were written last."""
        return self.effects.services.get(service.key) or service

    async def _ingress(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> list[LoadBalancerIngress]:
        """Returns the addresses to publish. Raises NotReady."""
        by_name = model.kind.published_by_name or model.hostname
        name = model.hostname or await self._address(model, observed)
        return [LoadBalancerIngress(hostname=name) if by_name else LoadBalancerIngress(ip=name)]

    async def _publish_at(
        self, service: Service, observed: ObservedLoadBalancer, ingress: list[LoadBalancerIngress]
    ) -> list[LoadBalancerIngress]:
        """Writes the addresses on the Service, and returns them."""
        if service.status.loadBalancer.ingress != ingress:
            await self.effects.publish_ingress(service, ingress)
            places = ", ".join(each.ip or each.hostname or "" for each in ingress)
            text = f"Ensured load balancer [{observed.identity}] at {places}"
            self.states.record(service, event_reasons.ENSURED_LOAD_BALANCER, text)
        return ingress

    async def _address(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> str:
        """Returns the address to publish. Raises NotReady where it is to be an elastic IP and none is bound."""
        if not model.by_elastic_ip:
            return observed.address
        if found := await self.effects.balancers.elastic_ips.bound_to(observed.identity):
            return found
        key = f"annotation {model.kind.annotations.prefix}external-ip-type"
        raise NotReady(f"{key} is eip, and no elastic IP is bound to load balancer {observed.identity}: bind one to it")
