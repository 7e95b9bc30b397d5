"""How many balancers were made for the Services of a cluster, and for which Namespaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from spiderpool.core.cloud.loadbalancer.values import MadeBalancer


@dataclass(frozen=True, slots=True)
class BalancerClaim:
    """A Service that has a balancer, or is about to get one, whether or not the cloud shows it yet."""

    kind: str
    name: str
    """The balancer's, by which its tags name the Service."""
    namespace: str


@dataclass(frozen=True, slots=True)
class BalancerService:
    """The Service for which a balancer was made, as long as it has one of its kind or asks for it."""

    namespace: str
    labelled: frozenset[str] = frozenset()
    """Identities that its labels name."""


@dataclass(frozen=True, slots=True)
class BalancerCount:
    """Balancers that are paid for."""

    used: int = 0
    """Of Services."""
    preserved: int = 0
    """That have outlived their Services by an administrator's consent."""
    orphans: tuple[str, ...] = ()
    """Identities of those whose Services have another, or are gone otherwise, as without their finalizer."""
    by_namespace: Mapping[str, int] = field(default_factory=dict)

    @property
    def orphaned(self) -> int:
        """How many are orphans."""
        return len(self.orphans)

    @property
    def total(self) -> int:
        """All of the cluster."""
        return self.used + self.preserved + self.orphaned


def count(
    made: Iterable[MadeBalancer],
    claims: Iterable[BalancerClaim],
    service_of: Callable[[str, str], BalancerService | None],
) -> BalancerCount:
    """Returns how many balancers there are by the tags in the cloud and by the Services together.

    ``service_of`` returns the Service whose balancer has a kind and a name; None: there is no such Service. What the
    cloud shows counts once; what it does not show yet counts by its claim. Of two balancers of one kind for one Service
    the one that its labels name is used.
    """
    listed = [*made]
    shown = {(each.kind, each.name) for each in listed}
    unseen = {claim for claim in claims if (claim.kind, claim.name) not in shown}
    services = {key: service_of(*key) for key in shown}
    used: dict[tuple[str, str], str] = {}
    namespaces = [claim.namespace for claim in unseen]
    for each in listed:
        key, service = (each.kind, each.name), services[each.kind, each.name]
        namespaces.append(each.namespace or (service.namespace if service else ""))
        if each.name and service and (key not in used or each.identity in service.labelled):
            used[key] = each.identity
    orphans = tuple(each.identity for each in listed if each.name and used.get((each.kind, each.name)) != each.identity)
    preserved = sum(not each.name for each in listed)
    return BalancerCount(len(used) + len(unseen), preserved, orphans, Counter(namespaces))


def excess(counted: BalancerCount, namespace: str, of_namespace: int, of_cluster: int) -> str | None:
    """Returns why one balancer more would be too many; None when it would not."""
    has = counted.by_namespace.get(namespace, 0)
    if has >= of_namespace:
        return (
            f"Namespace {namespace} has {has} load balancers, preserved ones included, and may have {of_namespace}: "
            "delete some, or have an administrator raise spec.maxLoadBalancers of its SpiderLoadBalancerGrant"
        )
    if counted.total >= of_cluster:
        return (
            f"the cluster has {counted.total} load balancers, of which {counted.preserved} are preserved and "
            f"{counted.orphaned} without a Service, and may have {of_cluster}: delete some, or have an administrator "
            "raise cloud.loadBalancers.maxPerCluster"
        )
    return None
