"""The protocols that a cloud with load balancers implements for spiderpool-cloud. Errors are those of `provider`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.steps import Step
from spiderpool.core.cloud.loadbalancer.succession import Standing, standing_of
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    BalancerOwner,
    MadeBalancer,
    ObservedLoadBalancer,
)
from spiderpool.settings import CloudSettings

KindOf: TypeAlias = Callable[[Service], BalancerKind | None]
"""Returns the kind of balancer that a Service requests from us; None: it requests none, or from another controller."""


class LoadBalancerAPI(Protocol):
    """Load balancers of one kind. Every call raises CloudError."""

    async def find(
        self,
        owner: BalancerOwner,
        identity: str = "",
        lent: Collection[str] = (),
        *,
        is_leaving: bool = False,
        without: Collection[str] = (),
    ) -> ObservedLoadBalancer | None:
        """Returns the balancer of an identity; without one, the balancer that was made for the Service.

        ``lent`` are identities of server groups that users made and the Service may use. None: there is no such
        balancer. ``is_leaving``: it is to be taken from the Service, so that all that was made for this must be known.
        ``without`` are identities of balancers that are passed over, as they are gone or were looked at.
        """

    async def made(self, cluster: str) -> Sequence[MadeBalancer]:
        """Returns all balancers that were made for Services of the cluster, also those that have outlived theirs."""

    async def carry_out(self, steps: Sequence[Step], observed: ObservedLoadBalancer | None) -> str:
        """Carries out a plan that was made for the observed balancer, and returns the balancer's identity.

        A refusal stops those steps alone that need the refused one: StepsRefused is raised after all others.
        """

    async def delete_leftovers(self, owner: BalancerOwner) -> None:
        """Deletes what was made for a Service and outlives its balancer, which is gone."""


async def find_first(
    api: LoadBalancerAPI,
    owner: BalancerOwner,
    identities: Iterable[str],
    lent: Collection[str] = (),
) -> ObservedLoadBalancer | None:
    """Returns the first balancer that is found, with the identities in turn; None when there is none of them."""
    for identity in identities:
        if (observed := await api.find(owner, identity, lent)) is not None:
            return observed
    return None


class ENIFinder(Protocol):
    """Finds the ENI on which a pod's address is registered."""

    async def holders(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Returns the ENI of every address that an ENI in use has; leaves out the others. Raises CloudError."""


class ElasticIPFinder(Protocol):
    """Finds the public address that is bound to something of a private address."""

    async def bound_to(self, balancer: str) -> str:
        """Returns the address that is bound to a private balancer; empty when there is none. Raises CloudError."""


@dataclass(frozen=True, slots=True)
class OtherControllerMarks:
    """How the cloud's own controller, which also makes load balancers, is recognised."""

    namespace: str
    lease: str
    """Its Lease, by which its replicas elect a leader."""
    label: str
    """Label of a Service that it writes after each change of the balancer."""


@dataclass(frozen=True, slots=True)
class LoadBalancers:
    """The load balancers of a cloud in one region."""

    kind_of: KindOf
    apis: Mapping[BalancerKind, LoadBalancerAPI]
    enis: ENIFinder
    elastic_ips: ElasticIPFinder
    other: OtherControllerMarks | None = None
    """The cloud's own controller; None: it has none."""

    def held(self, service: Service) -> list[BalancerKind]:
        """Returns the kinds of balancers whose finalizer a Service has."""
        finalizers = service.metadata.finalizers or ()
        return [kind for kind in self.apis if kind.naming.finalizer in finalizers]

    def standing(self, service: Service) -> Standing:
        """Returns the kinds of balancers that a Service asks for and has."""
        return standing_of(service, self.kind_of(service), self.held(service))


def configuration_of(settings: CloudSettings) -> BalancerConfiguration:
    """Returns the settings of spiderpool-cloud that apply to all load balancers."""
    balancing = settings.balancing
    return BalancerConfiguration(
        cluster=settings.cluster_id,
        vpc=balancing.vpc,
        vswitch=balancing.vswitch,
        zones=balancing.zones,
        resource_group=balancing.resource_group,
        pod_backends=balancing.pod_backends,
        public_allowed=balancing.public,
        ipv6_backends=balancing.ipv6_backends,
        max_per_namespace=balancing.max_per_namespace,
        max_per_cluster=balancing.max_per_cluster,
    )
