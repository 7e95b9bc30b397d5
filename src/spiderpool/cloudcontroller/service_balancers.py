"""Finds the balancer that a Service has, and refuses one that it may not have."""

from __future__ import annotations

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Service
from spiderpool.cloud.loadbalancers import LoadBalancers, find_first
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.core.cloud.loadbalancer import adoption, planning, succession
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, lent_groups, owner_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer
from spiderpool.errors import BadConfig, NotReady


class BalancerGone(NotReady):
    """The balancer of a Service was deleted by somebody else, as far as can be known."""


class BalancerFinder:
    """Asks the cloud for the balancers of Services, by their labels, annotations, tags and names."""

    def __init__(self, balancers: LoadBalancers, states: ServiceStates, configuration: BalancerConfiguration) -> None:
        self._balancers = balancers
        self._states = states
        self._configuration = configuration

    async def find(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer | None:
        """Returns the Service's balancer; None when it never had one.

        Raises BadConfig when it may not have the balancer it names, NotReady when its balancer is missing, CloudError.
        """
        if fault := succession.identity_fault(service, model.options):
            raise BadConfig(fault)
        api, state = self._balancers.apis[model.kind], self._states.of(service.key)
        state.lent_groups.update(model.lent_groups)
        names = succession.sought(service, model.options)
        observed = await find_first(api, model.owner, names, state.lent_groups)
        if observed is None:
            self.check_missing(service, model)
            return None
        self._states.note_found(service.key, model.kind)
        if not succession.is_published(service, model, observed):
            await self._check_unlabelled(service, model)
        self.check_ownership(model, observed)
        return observed

    async def successor(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer | None:
        """Returns the balancer that takes the place of one of another kind; None: there is none yet.

        Raises as `find` does.
        """
        state, api = self._states.of(service.key), self._balancers.apis[model.kind]
        made = state.made.get(model.kind, "")
        if fault := succession.identity_fault(service, model.options):
            recorded = succession.recorded_identity(service, model.kind)
            if await api.find(model.owner, recorded) is not None:  # clients use one of this kind
                raise BadConfig(fault)
        observed = await api.find(model.owner, model.reuse or made, model.lent_groups)
        if observed is None and not model.reuse and not made:
            observed = await self._recorded_successor(service, model)
        if observed is not None:
            self._states.note_found(service.key, model.kind)
            self.check_ownership(model, observed)
        elif model.reuse:
            self.check_missing(service, model)
        elif made and not self._states.note_missing(service.key, model.kind):
            raise NotReady(f"load balancer {made} was made and cannot be seen yet")
        elif made:  # somebody has deleted it; nobody uses it yet
            del state.made[model.kind]
        return observed

    async def _recorded_successor(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer | None:
        """Returns the balancer that labels name, which tags may not show: not yet, or as somebody took them away.

        It was made by another process, or is the one that clients use, as the exchange is taken back.
        """
        kind, owner = model.kind, model.owner
        for identity in succession.labelled(service, kind):
            observed = await self._balancers.apis[kind].find(owner, identity)
            if observed is None:
                continue
            if adoption.is_made_for(kind, owner, observed) or succession.is_published(service, model, observed):
                return observed
        return None

    async def _check_unlabelled(self, service: Service, model: LoadBalancerModel) -> None:
        """Raises BadConfig for a Service that names a user's balancer and has one of its own, though no label says so.

        Its label was taken away.
        """
        is_labelled = bool(succession.recorded_identity(service, model.kind))
        if not model.reuse or is_labelled or not service.status.loadBalancer.ingress:
            return
        own = await self._balancers.apis[model.kind].find(model.owner, "")
        if own is not None and adoption.is_made_for(model.kind, model.owner, own):
            raise BadConfig(succession.identity_fault(service, model.options, own.identity))

    def check_ownership(self, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> None:
        """Raises BadConfig when the Service may not have the balancer."""
        if fault := planning.reuse_fault(model, observed) or planning.ownership_fault(model, observed):
            raise BadConfig(fault)

    def check_missing(self, service: Service, model: LoadBalancerModel) -> None:
        """Raises NotReady when the Service had a balancer, or names one: then none is made in its place."""
        name = "" if model.reuse else succession.lost(service, model.options, model.owner)
        if name and self._states.note_missing(service.key, model.kind):
            text = f"load balancer {name} was deleted; delete the Service and create it anew to get another"
            self._states.record(service, event_reasons.LOAD_BALANCER_NOT_FOUND, text)
            raise BalancerGone(succession.absence(service, model.options, model.owner))
        if reason := succession.absence(service, model.options, model.owner):
            raise NotReady(reason)

    def check_used(self, service: Service, kind: BalancerKind, held: ObservedLoadBalancer) -> None:
        """Raises NotReady when no client uses a balancer that is to be exchanged for another: they use another one."""
        if succession.is_unused(service, kind, held):
            name = succession.recorded_identity(service, kind)
            raise NotReady(
                f"load balancer {name}, which clients use, cannot be found, and none is made in its place: ask for a "
                f"{kind.annotations.title} one again, or delete the Service and create it anew"
            )

    def check_unmade(self, service: Service, kind: BalancerKind) -> None:
        """Raises NotReady while a balancer may have been asked for that the cloud does not show yet.

        By a process that ended before it wrote on the Service which one it is, or by a call whose answer was lost.
        """
        key = service.key
        if kind not in self._states.of(key).surely_unmade and not self._states.note_missing(key, kind):
            raise NotReady(
                "a load balancer may have been asked for before; it is looked for once more before one is made"
            )

    def is_recorded(self, service: Service, kind: BalancerKind) -> bool:
        """Whether a Service says that it has a balancer, or had: by its label or its address."""
        has_label = kind.naming.identity_label in (service.metadata.labels or {})
        return has_label or bool(service.status.loadBalancer.ingress)

    async def held(self, service: Service, options: BalancerOptions) -> ObservedLoadBalancer | None:
        """Returns the balancer that was made for, or lent to, a Service; asks for none if nothing speaks of one."""
        kind, lent = options.kind, [*lent_groups(options).values()]
        owner, identity = owner_of(service, self._configuration), succession.recorded_identity(service, kind)
        is_known = service.status.loadBalancer.ingress or kind in self._balancers.held(service)
        if not identity and not is_known:
            return None
        named = filter(None, (*succession.labelled(service, kind), options["id"]))
        for name in (*dict.fromkeys(named), ""):  # the labels may be gone, or name another one
            observed = await self._balancers.apis[kind].find(owner, name, lent)
            if observed is None:
                continue
            is_lent = observed.identity == options["id"] and kind.naming.reuse_tag in observed.tags
            if is_lent or succession.is_held(observed, kind, owner):
                self._states.note_found(service.key, kind)
                return observed
        return None
