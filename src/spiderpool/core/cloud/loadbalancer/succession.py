"""Which balancers a Service has and asks for: where they are looked for, which of them stay, and which go.

A deletion gives up an address that clients use. So what speaks against it is decided here, for whoever does it and for
whoever says beforehand what would be done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from spiderpool.api.core_v1 import Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.core.cloud.loadbalancer import checking, grants
from spiderpool.core.cloud.loadbalancer.adoption import has_parts, is_made_for
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of, wants_balancer
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan_removal
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    BalancerOwner,
    GrantNeed,
    ObservedLoadBalancer,
)

PRESERVING = "preserve-lb-on-delete"
"""Suffix of the annotation by which a balancer outlives its Service."""
OF_LENT = frozenset({"id", "vgroup-port", "force-override-listeners"})
"""Suffixes of the annotations that are about one balancer of the user's."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The kinds of balancers that a Service asks for, and has."""

    asked: BalancerKind | None
    """None: it asks for none of ours, or is being deleted."""
    formers: tuple[BalancerKind, ...] = ()
    """Kinds whose finalizer it has, without the one that it asks for."""
    has_asked: bool = False
    """Whether it has the finalizer of the kind that it asks for."""

    @property
    def held(self) -> tuple[BalancerKind, ...]:
        """Those whose servers are kept up to date when nothing else can be done.

        While one kind is exchanged for another, clients may use either of them.
        """
        asked = () if self.asked is None else (self.asked,)
        return (*self.formers, *asked) if self.has_asked or not self.formers else self.formers

    def keeping(self, kind: BalancerKind) -> Standing:
        """Returns the same, when a balancer stays of a kind that the Service has."""
        return Standing(kind, tuple(former for former in self.formers if former is not kind), has_asked=True)


def standing_of(service: Service, requested: BalancerKind | None, finalized: Iterable[BalancerKind]) -> Standing:
    """Returns what a Service asks for and has, by the kind that it requests and those whose finalizer it has."""
    asked, kinds = None if service.terminating else requested, [*finalized]
    return Standing(asked, tuple(kind for kind in kinds if kind is not asked), has_asked=asked in kinds)


def stays_for_another(service: Service, standing: Standing) -> bool:
    """Whether a Service keeps what it has, because it asks another controller for a balancer now."""
    return standing.asked is None and bool(standing.formers) and wants_balancer(service)


def recorded_identity(service: Service, kind: BalancerKind) -> str:
    """Returns the balancer that the Service was given, by its label; of another kind, while that one is exchanged."""
    return (service.metadata.labels or {}).get(kind.naming.identity_label, "")


def other_identity(service: Service, kind: BalancerKind) -> str:
    """Returns the balancer that clients do not use any more, by its label, until it is removed."""
    return (service.metadata.labels or {}).get(kind.naming.other_identity_label, "")


def successor_identity(service: Service, kind: BalancerKind) -> str:
    """Returns the balancer that clients do not use yet, by its label, while it is to take the place of another."""
    return (service.metadata.labels or {}).get(kind.naming.successor_label, "")


def is_unused(service: Service, kind: BalancerKind, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer was to take the place of another one, and no client has used it."""
    is_successor = successor_identity(service, kind) == observed.identity
    return is_successor and not is_shown(service, kind, observed)


def is_shown(service: Service, kind: BalancerKind, observed: ObservedLoadBalancer) -> bool:
    """Whether the Service's label, or its address, says that clients use a balancer; or no label says which they do."""
    ingress, recorded = service.status.loadBalancer.ingress or (), recorded_identity(service, kind)
    has_address = bool(observed.address) and observed.address in {each.ip or each.hostname for each in ingress}
    return has_address or recorded == observed.identity or bool(ingress and not recorded)


def sought(service: Service, options: BalancerOptions) -> tuple[str, ...]:
    """Returns the identities to look for in turn, for the balancer that a Service has and asks for; empty: by tags."""
    recorded = recorded_identity(service, options.kind)
    return (options["id"],) if options["id"] else tuple(dict.fromkeys((recorded, "")))


def sought_of_former(service: Service, kind: BalancerKind) -> tuple[str, ...]:
    """Returns the same for a balancer that the Service no longer asks for: labels may name one that is gone.

    Or one of another kind, which has taken its place or was to.
    """
    named = (*labelled(service, kind), options_of(service, kind)["id"])
    return tuple(dict.fromkeys((*filter(None, named), "")))


def labelled(service: Service, kind: BalancerKind) -> tuple[str, ...]:
    """Returns the balancers that labels of a Service name, whatever kind they are of."""
    named = (recorded_identity(service, kind), other_identity(service, kind), successor_identity(service, kind))
    return tuple(dict.fromkeys(filter(None, named)))


def options_for(options: BalancerOptions, observed: ObservedLoadBalancer) -> BalancerOptions:
    """Returns what a Service asks of a balancer that it has: without what it says of the one that it names by now."""
    if options["id"] in ("", observed.identity):
        return options
    return replace(options, given={suffix: value for suffix, value in options.given.items() if suffix not in OF_LENT})


def is_held(observed: ObservedLoadBalancer, kind: BalancerKind, owner: BalancerOwner) -> bool:
    """Whether a balancer was made for a Service, or is lent and has parts of it: the tag does not say to whom."""
    is_lent = kind.naming.reuse_tag in observed.tags
    return is_made_for(kind, owner, observed) or (is_lent and has_parts(kind, owner, observed))


def concerns(service: Service, kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer was made for, or lent to, a Service, or has anything of it: a label alone proves nothing."""
    naming, is_lent = kind.naming, observed.identity == options_of(service, kind)["id"]
    is_named = naming.is_named_after(observed, owner) or naming.is_preserved(observed, owner)
    is_known = is_lent or is_named or is_held(observed, kind, owner)
    return is_known or bool(plan_removal(kind, owner, observed, preserve=False))


def is_published(service: Service, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether clients are sent to a balancer by the address on the Service.

    A name of the user's own, or the address of an elastic IP, tells nothing: then the label does, which is written
    before the address.
    """
    ingress = service.status.loadBalancer.ingress or ()
    if not model.hostname and observed.address in {each.ip or each.hostname for each in ingress}:
        return bool(observed.address)
    if recorded_identity(service, model.kind) != observed.identity:
        return False
    if model.hostname:
        return any(each.hostname == model.hostname for each in ingress)
    return model.by_elastic_ip and any(each.ip for each in ingress)


def identity_fault(service: Service, options: BalancerOptions, has: str = "") -> str:
    """Returns that a Service names another balancer than the one that it has; empty when it does not.

    Which one that is its label says, or ``has``.
    """
    lent, recorded = options["id"], has or recorded_identity(service, options.kind)
    if not lent or recorded in ("", lent):
        return ""
    return (
        f"annotation {options.annotation('id')} names {lent}, and this Service has balancer {recorded}: "
        "delete the Service and create it again to change its balancer"
    )


def lost(service: Service, options: BalancerOptions, owner: BalancerOwner) -> str:
    """Returns by what the balancer is known that a Service once got and that was not found; empty: it got none."""
    recorded = recorded_identity(service, options.kind)
    if not recorded and not service.status.loadBalancer.ingress:
        return ""
    return recorded or options["name"] or options.kind.naming.balancer_name(owner)


def absence(service: Service, options: BalancerOptions, owner: BalancerOwner) -> str:
    """Returns why a balancer that was not found is not made; empty: it is.

    A lost answer must not give the Service a second one.
    """
    if options["id"]:
        return f"load balancer {options['id']}, which annotation {options.annotation('id')} names, does not exist"
    name = lost(service, options, owner)
    return f"load balancer {name} cannot be found; none is made in its place" if name else ""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a Service may have the balancer that it asks for."""

    faults: tuple[str, ...] = ()
    """What must be corrected in the Service."""
    missing: tuple[GrantNeed, ...] = ()
    """What no administrator has granted to its Namespace."""

    @property
    def may_take_over(self) -> bool:
        """Whether balancers of other kinds may be given up for this one: nothing proves that it is in use already."""
        return not self.faults and not self.missing

    def refused(self, model: LoadBalancerModel, observed: ObservedLoadBalancer | None) -> tuple[GrantNeed, ...]:
        """Returns what the Service neither may have nor uses already."""
        return tuple(need for need in self.missing if observed is None or not grants.is_in_use(need, model, observed))


def eligibility_of(
    service: Service,
    options: BalancerOptions,
    configuration: BalancerConfiguration,
    granted: Iterable[LoadBalancerGrantSpec],
) -> Eligibility:
    """Returns whether a Service may have a balancer; ``granted`` applies to the Namespace of the Service."""
    needs = options.kind.needs(options, configuration)
    return Eligibility(checking.faults(service, options, configuration), grants.missing(needs, granted))


def preserves(service: Service, kind: BalancerKind) -> bool:
    """Whether the balancer outlives the Service; also when the annotation is not valid, since a deletion is final."""
    options = options_of(service, kind)
    unclear = any(PRESERVING in fault for fault in options.faults)
    return unclear or options.on(PRESERVING)


def deleted(service: Service, formers: Iterable[BalancerKind]) -> list[BalancerKind]:
    """Returns the kinds whose balancers are deleted when another one takes their place."""
    return [former for former in formers if not preserves(service, former)]


def refused_preservation(
    service: Service,
    kind: BalancerKind,
    owner: BalancerOwner,
    observed: ObservedLoadBalancer,
    granted: Iterable[LoadBalancerGrantSpec],
) -> GrantNeed | None:
    """Returns the consent that nobody has given, to pay for a balancer without a Service; None: nothing is lacking.

    It is not deleted instead either: its author wants to keep it. So the Service waits, and stays its owner.
    """
    if not (preserves(service, kind) and kind.naming.is_own(observed, owner)):
        return None
    need = GrantNeed(f"{kind.annotations.prefix}{PRESERVING}", "preserve", "true")
    return next(iter(grants.missing([need], granted)), None)


def waiting_for_consent(need: GrantNeed, namespace: str) -> str:
    """Returns what is said of a Service whose balancer may not outlive it."""
    return f"{grants.refusal(need, namespace)}; until then balancer and Service stay"
