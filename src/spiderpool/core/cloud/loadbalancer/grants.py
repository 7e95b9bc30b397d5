"""What a Service may name: that which administrators have granted to its Namespace, or which it uses already.

Whoever may write a Service could otherwise use, change and pay for whatever our credentials reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spiderpool.api.loadbalancergrant import EVERYTHING, LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.core.cloud.loadbalancer.adoption import has_parts
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import GrantNeed, ObservedLoadBalancer

OBJECT = SpiderLoadBalancerGrant.KIND.name


def missing(needs: Iterable[GrantNeed], grants: Iterable[LoadBalancerGrantSpec]) -> tuple[GrantNeed, ...]:
    """Returns the needs that none of the grants of the Service's Namespace meets."""
    listed = [*grants]
    return tuple(need for need in needs if not any(_meets(grant, need) for grant in listed))


def is_in_use(need: GrantNeed, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether the Service uses what it needs already, as the cloud shows it, so that it keeps it without a grant.

    Its own labels and annotations prove nothing: whoever writes the Service writes them.
    """
    naming = model.kind.naming
    ours = tuple(each for each in observed.listeners if naming.is_part_of(each.description, model.owner))
    match need.field:
        case "loadBalancers":
            return has_parts(model.kind, model.owner, observed)
        case "overrideListeners":
            return all(any(each.covers(listener) for each in ours) for listener in model.listeners)
        case "preserve":
            return True  # it has no effect before the Service goes
        case _:
            return model.kind.is_in_use(need, observed, ours)


def refusal(need: GrantNeed, namespace: str) -> str:
    """Returns why a Service is not given what it needs, and the remedy."""
    return f"annotation {need.annotation}: {_absence(need, namespace)}"


def reminder(need: GrantNeed, namespace: str) -> str:
    """Returns that a Service keeps what it uses although nobody has granted it."""
    end = (
        "until then the Service cannot be deleted with this annotation"
        if need.field == "preserve"
        else "it is in use and stays, and could not be made anew"
    )
    return f"annotation {need.annotation}: {_absence(need, namespace)}; {end}"


def suggested(
    namespace: str, needs: Iterable[GrantNeed], balancers: int | None = None
) -> Iterator[LoadBalancerGrantSpec]:
    """Yields the least grants by which a Namespace has what it needs, and so many balancers if a number is given."""
    fields: dict[str, Any] = {} if balancers is None else {"maxLoadBalancers": balancers}
    listed = [*needs]
    overridden = sorted({need.value for need in listed if need.field == "overrideListeners"})
    for need in listed:
        match need.field:
            case "preserve":
                fields["preserve"] = True
            case "maxBandwidth":
                fields["maxBandwidth"] = max(fields.get("maxBandwidth", 0), int(need.value))
            case "overrideListeners":
                pass
            case field if need.value not in overridden or field != "loadBalancers":
                fields[field] = sorted({*fields.get(field, ()), need.value})
    if fields:
        yield LoadBalancerGrantSpec(namespaces=[namespace], **fields)
    if overridden:  # apart, as it is for all balancers of a grant
        yield LoadBalancerGrantSpec(namespaces=[namespace], loadBalancers=overridden, overrideListeners=True)


def limit(configured: int, grants: Iterable[LoadBalancerGrantSpec]) -> int:
    """Returns how many balancers a Namespace may have: what its grants say, the largest of them, else the settings."""
    return max((each.maxLoadBalancers for each in grants if each.maxLoadBalancers is not None), default=configured)


def _absence(need: GrantNeed, namespace: str) -> str:
    consequence = ", after which the load balancer is deleted with its Service" if need.field == "preserve" else ""
    return (
        f"no {OBJECT} for Namespace {namespace} has {_wanted(need)}; an administrator can add it, "
        f"or remove the annotation{consequence}"
    )


def _wanted(need: GrantNeed) -> str:
    """Returns what a grant would have to say."""
    match need.field:
        case "overrideListeners":
            return f"{need.value} in spec.loadBalancers with spec.overrideListeners: true"
        case "preserve":
            return "spec.preserve: true"
        case "maxBandwidth":
            return f"spec.maxBandwidth of at least {need.value}"
        case field:
            return f"{need.value} in spec.{field}"


def _meets(grant: LoadBalancerGrantSpec, need: GrantNeed) -> bool:
    match need.field:
        case "preserve":
            return bool(grant.preserve)
        case "maxBandwidth":
            return (grant.maxBandwidth or 0) >= int(need.value)
        case "overrideListeners":
            return bool(grant.overrideListeners) and _lists(grant.loadBalancers, need.value)
        case field:
            return _lists(getattr(grant, field), need.value)


def _lists(values: list[str] | None, value: str) -> bool:
    return value in (values or ()) or EVERYTHING in (values or ())
