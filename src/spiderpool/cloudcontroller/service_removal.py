"""Removes the balancers of Services that are deleted or no longer ask for them."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Service
from spiderpool.cloud.provider import CloudConflict, StepsRefused
from spiderpool.cloudcontroller.balancer_grants import GrantReconciler, NotGranted
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits
from spiderpool.cloudcontroller.service_effects import ServiceEffects
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.core.cloud.loadbalancer import planning, succession
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, options_of, read_options, wants_balancer
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, lent_groups, owner_of
from spiderpool.core.cloud.loadbalancer.steps import DeleteGroup, DeleteSourceList
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, BalancerOwner, ObservedLoadBalancer
from spiderpool.errors import NotReady
from spiderpool.kube import finalizers
from spiderpool.kube.client import NotFound
from spiderpool.telemetry import LOAD_BALANCER_REFUSALS

LEFT_OVER = (DeleteGroup, DeleteSourceList)
"""Steps that may be all that is left to do for a Service, while others use what they delete."""
IN_USE = "it was made for this Service and stays, as something else uses it: delete it when nothing does"


class BalancerRemoval:
    """Deletes, preserves or hands back a balancer, and releases its Service."""

    def __init__(
        self,
        effects: ServiceEffects,
        states: ServiceStates,
        granted: GrantReconciler,
        limits: BalancerLimits,
        configuration: BalancerConfiguration,
    ) -> None:
        self._effects = effects
        self._states = states
        self._grants = granted
        self._limits = limits
        self._configuration = configuration

    async def remove(self, service: Service, kind: BalancerKind, *, successor: str = "") -> None:
        """Removes the balancer of a Service that no longer asks for this kind.

        ``successor`` is the balancer of another kind that has taken its place. The Service is read from the API server
        once more: its informer may be behind, and a deletion is final.
        """
        try:
            fresh = await self._effects.client.get(Service, service.name, service.metadata.namespace)
        except NotFound:
            return
        asked = self._effects.balancers.kind_of(fresh)
        is_requested_again = wants_balancer(fresh) and (asked is kind or not successor)
        # The limits were asked for a balancer beside one that is deleted, or preserved.
        is_kept_otherwise = bool(successor) and succession.preserves(fresh, kind) != succession.preserves(service, kind)
        if fresh.metadata.uid != service.metadata.uid or is_requested_again or is_kept_otherwise:
            raise NotReady("the Service has changed meanwhile; it is looked at again")
        if not await self._remove_all(fresh, kind):
            self._confirm_missing(fresh, kind)
            api, owner = self._effects.balancers.apis[kind], owner_of(fresh, self._configuration)
            await self._unless_in_use(fresh, api.delete_leftovers(owner))
        await self._remove_finalizer(fresh, kind, successor)

    async def remove_abandoned(
        self, service: Service, model: LoadBalancerModel, chosen: ObservedLoadBalancer | None
    ) -> None:
        """Removes another balancer of the kind of the ``chosen`` one, which was to be used in its place before.

        None: there is none yet. Raises NotReady, CloudError.
        """
        kind, current = model.kind, self._effects.services.get(service.key) or service
        stays = {chosen.identity} if chosen else set()
        named = {succession.successor_identity(current, kind)} - stays - {""}
        names = [*named, *([""] if model.reuse else ())]
        for name in names:
            observed = await self._effects.balancers.apis[kind].find(
                model.owner, name, self._lent_groups(service, kind), is_leaving=True, without=stays
            )
            if observed is None or not succession.concerns(service, kind, model.owner, observed):
                continue
            fresh = await self._effects.client.get(Service, service.name, service.metadata.namespace)
            if fresh.metadata.uid != service.metadata.uid or options_of(fresh, kind)["id"] != model.reuse:
                raise NotReady("the Service has changed meanwhile; it is looked at again")
            if not succession.is_shown(fresh, kind, observed):
                was_used = succession.other_identity(fresh, kind) == observed.identity
                await self._remove_observed(fresh, kind, observed, was_used=was_used)

    def _lent_groups(self, service: Service, kind: BalancerKind) -> set[str]:
        """Returns the users' server groups in which a Service may have servers."""
        named = lent_groups(read_options(service.metadata.annotations or {}, kind)).values()
        return self._states.of(service.key).lent_groups.union(named)

    async def _remove_all(self, service: Service, kind: BalancerKind) -> bool:
        """Removes all balancers of a kind that labels or tags say to be the Service's; returns whether there was any.

        A label may have been copied from another Service, and a call whose answer was lost may have made a second one.
        """
        owner, api = owner_of(service, self._configuration), self._effects.balancers.apis[kind]
        lent = self._lent_groups(service, kind)
        seen: set[str] = set()
        has_any = False
        for name in succession.sought_of_former(service, kind):
            while observed := await api.find(owner, name, lent, is_leaving=True, without=seen):
                seen.add(observed.identity)
                if succession.concerns(service, kind, owner, observed):
                    self._states.note_found(service.key, kind)
                    has_any = True
                    was_used = not succession.is_unused(service, kind, observed)
                    await self._remove_observed(service, kind, observed, was_used=was_used)
                else:
                    text = f"load balancer [{observed.identity}] is not ours and stays"
                    self._states.record(service, event_reasons.RETURNED_LOAD_BALANCER, text)
        return has_any

    def _confirm_missing(self, service: Service, kind: BalancerKind) -> None:
        """Raises NotReady until two answers lack the balancer: after a lost answer it would stay forever."""
        if not self._states.note_missing(service.key, kind):
            what = f"the {kind.annotations.title} load balancer"
            raise NotReady(f"{what} cannot be found; it is looked for once more before the Service is released")
        self._limits.release(service, kind)

    async def _remove_observed(
        self, service: Service, kind: BalancerKind, observed: ObservedLoadBalancer, *, was_used: bool
    ) -> None:
        """Deletes, preserves or hands back the balancer, and records which of these."""
        owner = owner_of(service, self._configuration)
        preserve = was_used and succession.preserves(service, kind)
        if preserve:
            self._check_consent(service, kind, observed)
        steps = planning.plan_removal(kind, owner, observed, preserve=preserve)
        undoing = self._effects.carry_out(service, kind, steps, observed)
        are_left_over = all(isinstance(step, LEFT_OVER) for step in steps)
        await (self._unless_in_use(service, undoing) if are_left_over else undoing)
        is_own, was_preserved = kind.naming.is_own(observed, owner), kind.naming.is_preserved(observed, owner)
        if preserve and (is_own or was_preserved):
            self._limits.preserve(kind)
            what, reason = "was preserved", event_reasons.PRESERVED_LOAD_BALANCER
        elif not is_own:
            what, reason = _why_it_stays(observed, kind, owner), event_reasons.RETURNED_LOAD_BALANCER
            left = planning.left_in_use(kind, owner, observed, steps) if steps else ()
            if texts := [f"{part}: {IN_USE}" for part in left]:
                self._states.record(service, event_reasons.SYNC_LOAD_BALANCER_FAILED, *texts)
        else:
            self._states.note_deleted(service.key, kind, observed)
            self._limits.forget(kind, observed.identity)
            self._limits.release(service, kind)
            what, reason = "was deleted", event_reasons.DELETED_LOAD_BALANCER
        self._states.record(service, reason, f"load balancer [{observed.identity}] {what}")

    async def _unless_in_use(self, service: Service, deletion: Awaitable[object]) -> None:
        """Deletes what is left of a Service; after a while, what others have begun to use is left to them, and told.

        Raises CloudError. A balancer that has just gone may use its parts for minutes.
        """
        try:
            await deletion
        except StepsRefused as error:
            are_in_use = all(isinstance(each, CloudConflict) for each in error.refusals)
            if not (are_in_use and self._states.is_long_in_use(service.key)):
                raise
            texts = [f"{each.message}; {IN_USE}" for each in error.refusals]
            self._states.record(service, event_reasons.SYNC_LOAD_BALANCER_FAILED, *texts)

    def _check_consent(self, service: Service, kind: BalancerKind, observed: ObservedLoadBalancer) -> None:
        """Raises NotGranted when the balancer is to outlive its Service, and nobody has agreed to pay for it."""
        owner = owner_of(service, self._configuration)
        granted = self._grants.of(owner.namespace)
        if need := succession.refused_preservation(service, kind, owner, observed, granted):
            LOAD_BALANCER_REFUSALS.labels("grant").inc()
            raise NotGranted(succession.waiting_for_consent(need, owner.namespace))

    async def _remove_finalizer(self, service: Service, kind: BalancerKind, successor: str) -> None:
        """Removes address, labels and finalizer; reads the Service again first, as others add finalizers too.

        What is published of a balancer that has taken the place of this one stays, and so do the labels as long as they
        may name a balancer of another kind that is to be removed.
        """
        if successor or self._effects.balancers.held(service) == [kind]:
            self._states.forget(service.key)
        with suppress(NotFound):  # the Service is gone already: there is nothing to release
            if not successor and not service.terminating and service.status.loadBalancer.ingress:
                await self._effects.publish_ingress(service, [])
            fresh = await self._effects.client.get(Service, service.name, service.metadata.namespace)
            naming, is_last = kind.naming, successor or self._effects.balancers.held(fresh) == [kind]
            given_up = {naming.other_identity_label: None, naming.successor_label: None}
            labels = {naming.identity_label: successor or None, **given_up} if is_last else None
            updated = await finalizers.remove(self._effects.client, fresh, kind.naming.finalizer, labels=labels)
            if updated is not None:
                self._effects.services.note(updated)


def _why_it_stays(observed: ObservedLoadBalancer, kind: BalancerKind, owner: BalancerOwner) -> str:
    """Returns what is said of a balancer that lacks one of the tags by which we would delete it."""
    naming = kind.naming
    if not naming.is_named_after(observed, owner) or naming.reuse_tag in observed.tags:
        return "is not ours and stays"
    has = naming.other_cluster(observed, owner) or "(none)"
    return (
        f"stays, and costs on: it was made for this Service, but its tag {naming.cluster_tag} is {has} where this"
        f" cluster's ID is {owner.cluster}; delete it by hand if nothing uses it"
    )
