"""What spiderpool-cloud asks of a cloud that has load balancers. Errors are those of `provider`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from spiderpool.core.cloud.loadbalancer.steps import Step
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, ObservedLoadBalancer


class LoadBalancerAPI(Protocol):
    """Load balancers of one kind. Every call raises CloudError."""

    async def find(self, owner: BalancerOwner, identity: str = "") -> ObservedLoadBalancer | None:
        """The balancer of that identity; without one, the one that was made for the Service. None: there is none."""

    async def carry_out(self, steps: Sequence[Step], seen: ObservedLoadBalancer | None) -> str:
        """Carry out a plan for what was seen; the balancer's identity. Stops at the first refusal.

        A server that the cloud does not know stops nothing; it is reported when everything else is done.
        """


class ENIFinder(Protocol):
    """On which ENI an address of a pod is registered."""

    async def holders(self, addresses: Collection[str]) -> Mapping[str, str]:
        """The ENI of every address that one in use has; the others are missing. Raises CloudError."""
