"""Writes to Services and carries out the steps of their balancers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spiderpool.api.core_v1 import LoadBalancerIngress, Service
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.steps import Step
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import logger

log = logger("services")


@dataclass(frozen=True, slots=True)
class ServiceEffects:
    """The API server, which has the Services, and the cloud, which has the balancers."""

    client: Client
    services: Informer[Service]
    """Is told at once what was written."""
    balancers: LoadBalancers

    async def carry_out(
        self, service: Service, kind: BalancerKind, steps: Sequence[Step], observed: ObservedLoadBalancer | None
    ) -> str:
        """Logs and carries out steps; returns the balancer's identity. Raises CloudError."""
        if not steps:
            return observed.identity if observed else ""
        for step in steps:
            log.info("step", service=service.key, balancer=observed.identity if observed else "", step=str(step))
        identity = await self.balancers.apis[kind].carry_out(steps, observed)
        log.info("steps carried out", service=service.key, balancer=identity, steps=len(steps))
        return identity

    async def publish_ingress(self, service: Service, ingress: Sequence[LoadBalancerIngress]) -> None:
        """Writes the addresses on a Service; none takes them away."""
        items = [
            {key: value for key, value in (("ip", each.ip), ("hostname", each.hostname)) if value} for each in ingress
        ]
        body = {"status": {"loadBalancer": {"ingress": items or None}}}
        patched = await self.client.patch(Service, service.name, body, service.metadata.namespace, sub="status")
        self.services.note(patched)

    async def patch(self, service: Service, metadata: Mapping[str, Any]) -> None:
        """Writes a part of the metadata of a Service."""
        patched = await self.client.patch(Service, service.name, {"metadata": metadata}, service.metadata.namespace)
        self.services.note(patched)
