"""What a Service is told by Events before its balancer is looked at: faults, grants, and balancers that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Service
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.core.cloud.loadbalancer import checking, grants, settling
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.succession import Eligibility, eligibility_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, GrantNeed, ObservedLoadBalancer
from spiderpool.errors import NotReady
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS


class ServiceReports:
    """Says in Events what is in the way of a Service's balancer."""

    def __init__(self, states: ServiceStates, granted: GrantReconciler, configuration: BalancerConfiguration) -> None:
        self._states = states
        self._grants = granted
        self._configuration = configuration

    def checked(self, service: Service, options: BalancerOptions) -> Eligibility:
        """Records what must be corrected in the Service; returns whether it may have its balancer."""
        self._states.record(service, event_reasons.SERVICE_ANNOTATION_IGNORED, *checking.remarks(service, options))
        found = self.eligibility(service, options)
        self._states.record(service, event_reasons.INVALID_SERVICE, *found.faults)
        return found

    def eligibility(self, service: Service, options: BalancerOptions) -> Eligibility:
        """Returns whether a Service may have the balancer that it asks for, without an Event."""
        granted = self._grants.of(service.metadata.namespace or "")
        return eligibility_of(service, options, self._configuration, granted)

    def refuse(self, service: Service, needs: Iterable[GrantNeed]) -> None:
        """Records what must be granted before the Service gets it; a grant queues the Service again."""
        namespace = service.metadata.namespace or ""
        LOAD_BALANCER_REFUSALS.labels("grant").inc()
        self._states.of(service.key).applied = None
        self._states.record(service, event_reasons.NOT_GRANTED, *(grants.refusal(need, namespace) for need in needs))

    def granted(self, service: Service, used: Iterable[GrantNeed]) -> None:
        """Records that nothing is refused any more, and what the Service keeps although nobody has granted it."""
        namespace = service.metadata.namespace or ""
        self._states.record(service, event_reasons.NOT_GRANTED)
        self._states.record(
            service, event_reasons.USED_WITHOUT_GRANT, *(grants.reminder(need, namespace) for need in used)
        )

    def kept_for_another(self, service: Service, held: Sequence[BalancerKind]) -> None:
        """Records that a Service which asks another controller keeps the balancers that it has."""
        what = " and ".join(f"its {kind.annotations.title} load balancer" for kind in held)
        self._states.record(
            service,
            event_reasons.LOAD_BALANCER_KEPT,
            f"this Service asks another controller for a load balancer now, by its class; {what} stays, with its"
            " servers up to date, until the Service is deleted or is no longer of type LoadBalancer",
        )

    def kept_as_made(self, service: Service, kind: BalancerKind, observed: ObservedLoadBalancer) -> None:
        """Records that a balancer which another controller made is not exchanged because of an annotation."""
        self._states.record(
            service,
            event_reasons.LOAD_BALANCER_KEPT,
            f"load balancer {observed.identity} was made by another controller, and stays a {kind.annotations.title}"
            f" one whatever annotation {kind.annotations.prefix}type says: set that annotation to {kind}, or delete"
            " the Service and create it anew to have the other kind",
        )

    def exchanging(
        self,
        service: Service,
        formers: Sequence[BalancerKind],
        model: LoadBalancerModel,
        observed: ObservedLoadBalancer,
    ) -> None:
        """Records that a new balancer waits to be well before it takes the place of the former one."""
        what = " and ".join(f"its {kind.annotations.title} one" for kind in formers)
        lacking = settling.groups_without_listener(model, observed)
        need = f"a listener of it leads to {' and '.join(lacking)}, and " if lacking else ""
        self._states.record(
            service,
            event_reasons.EXCHANGING_LOAD_BALANCER,
            f"load balancer [{observed.identity}] at {observed.address} takes the place of {what} as soon as {need}its"
            " servers have had the time to be found well",
        )

    def unresolved(self, service: Service, model: LoadBalancerModel) -> None:
        """Raises NotReady for pods without a known ENI: the cloud shows a new address only after a while."""
        if model.unresolved:
            self._states.of(service.key).applied = None
            raise NotReady(
                f"no ENI is known to have the pod addresses {', '.join(model.unresolved)}; "
                "the pods get no traffic from the balancer until one is"
            )
