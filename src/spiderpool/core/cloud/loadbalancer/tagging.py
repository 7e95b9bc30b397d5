"""What becomes of a balancer's tags: those that a Service gives it, takes back, and leaves as others have set them.

Which tags a Service has given is in a record, itself a tag. A key stays in it until the tag is gone, so that nothing is
forgotten that the cloud refuses to take away.
"""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import Step, Tag, Untag
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, ObservedLoadBalancer


def changes(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Step]:
    """Yields tags to take away that the Service has given the balancer and no longer names, then those to add.

    In this order since the tags to add include the new record.
    """
    naming, tags = model.kind.naming, model.tags
    if model.reuse:
        others = foreign(model, observed)
        own = {key: value for key, value in tags.items() if key not in others}
        tags = {**naming.recorded(own, model.owner), naming.reuse_tag: "true"}
    if stale := tuple(sorted(naming.recorded_keys(observed.tags, model.owner) - tags.keys())):
        yield Untag(stale)
    if missing := tuple(sorted(tags.items() - observed.tags.items())):
        yield Tag(missing)


def foreign(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> frozenset[str]:
    """Returns the tags that the Service names and a user's balancer has from somebody else: these stay as they are."""
    given = model.kind.naming.recorded_keys(observed.tags, model.owner)
    return frozenset(model.tags.keys() & observed.tags.keys() - given) if model.reuse else frozenset()


def release(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> Iterator[Untag]:
    """Yields the removal of the tag that marks the balancer as reused, unless another Service still uses it."""
    naming = kind.naming
    names = [each.description for each in observed.listeners] + [each.name for each in observed.groups]
    others = [
        each for each in names if naming.is_part_of_any(each, owner.cluster) and not naming.is_part_of(each, owner)
    ]
    if naming.reuse_tag in observed.tags and not any(others):
        yield Untag((naming.reuse_tag,))


def removal(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> Iterator[Untag]:
    """Yields the removal of the tags that the Service has given the balancer."""
    if keys := tuple(sorted(kind.naming.recorded_keys(observed.tags, owner))):
        yield Untag(keys)
