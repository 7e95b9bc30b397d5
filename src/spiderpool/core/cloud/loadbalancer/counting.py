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
class BalancerCount:
    """Balancers that are paid for."""

    used: int = 0
    """Of Services."""
    preserved: int = 0
    """That have outlived their Services by an administrator's consent."""
    orphans: tuple[str, ...] = ()
    """Identities of those whose Services are gone otherwise, as when somebody took the finalizer away."""
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
    made: Iterable[MadeBalancer], claims: Iterable[BalancerClaim], namespace_of: Callable[[str], str | None]
) -> BalancerCount:
    """Returns how many balancers there are by the tags in the cloud and by the Services together.

    ``namespace_of`` returns the Namespace of the Service whose balancer has a name; None: there is no such Service.
    What the cloud shows counts once; what it does not show yet counts by its claim.
    """
    listed = [*made]
    shown = {(each.kind, each.name) for each in listed}
    unseen = {claim for claim in claims if (claim.kind, claim.name) not in shown}
    owners = [namespace_of(each.name) for each in listed]
    namespaces = [each.namespace or owner or "" for each, owner in zip(listed, owners, strict=True)]
    preserved = sum(not each.name for each in listed)
    orphans = tuple(each.identity for each, owner in zip(listed, owners, strict=True) if each.name and owner is None)
    used = len(listed) - preserved - len(orphans) + len(unseen)
    return BalancerCount(used, preserved, orphans, Counter(namespaces + [claim.namespace for claim in unseen]))


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
