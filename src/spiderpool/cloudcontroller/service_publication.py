"""Writes on a Service which balancer it has, and at which address clients reach it."""

from __future__ import annotations

from dataclasses import dataclass

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import LoadBalancerIngress, Service
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_state import ServiceStates
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
        label = model.kind.naming.identity_label
        current = self.effects.services.get(service.key) or service
        if (current.metadata.labels or {}).get(label) != observed.identity:
            await self.effects.patch(service, {"labels": {label: observed.identity}})
        return await self.publish_address(service, model, observed)

    async def publish_address(
        self, service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer
    ) -> list[LoadBalancerIngress]:
        """Writes the address alone, while the label still names the balancer that this one replaces."""
        by_name = model.kind.published_by_name or model.hostname
        name = model.hostname or await self._address(model, observed)
        ingress = [LoadBalancerIngress(hostname=name) if by_name else LoadBalancerIngress(ip=name)]
        if service.status.loadBalancer.ingress != ingress:
            await self.effects.publish_ingress(service, ingress)
            text = f"Ensured load balancer [{observed.identity}] at {name}"
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
