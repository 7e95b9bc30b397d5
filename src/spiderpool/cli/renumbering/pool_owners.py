"""Which pools are not for people to change, since something else owns them. Values alone."""

from __future__ import annotations

from collections.abc import Iterable

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import (
    APPLICATION_KIND_LABEL,
    APPLICATION_NAME_LABEL,
    APPLICATION_NAMESPACE_LABEL,
    IP_NUMBER_ANNOTATION,
    SUBNET_ANNOTATION,
    SpiderSubnet,
)
from spiderpool.core.ipam.owners import is_automatic
from spiderpool.core.ipam.subnets import is_cut_from


def why_not_ours(pool: SpiderIPPool, subnets: Iterable[SpiderSubnet] = ()) -> str | None:
    """Who owns a pool that is not for people to change, and where to change it; None for other pools."""
    if pool.eni is not None:
        return (
            f"pool {pool.name} has the addresses of ENI {pool.eni}, and the controller keeps it so: assign "
            "addresses to that ENI in the cloud, or unassign them, and the pool follows"
        )
    if is_automatic(pool):
        labels = pool.metadata.labels or {}
        names = (APPLICATION_KIND_LABEL, APPLICATION_NAMESPACE_LABEL, APPLICATION_NAME_LABEL)
        kind, namespace, name = (labels.get(each, "?") for each in names)
        subnet = next((each.name for each in subnets if is_cut_from(pool, each)), pool.spec.subnet)
        return (
            f"pool {pool.name} was made of SpiderSubnet {subnet} for {kind} {namespace}/{name}, which it follows: "
            f"change the annotations {SUBNET_ANNOTATION} and {IP_NUMBER_ANNOTATION} of its pod template"
        )
    return None
