"""Which steps of a plan wait for which: the others are carried out side by side, and a refusal stops none of them.

What is about servers and listeners waits for its own group and port alone, and a listener for the list of the clients
that it admits, which all listeners of a balancer may share; other settings and tags of the balancer wait for all that.
Where a refused step would leave a port or a group without a server that it has now, what follows is not done. So
servers leave a group last of all that leads elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.source_lists import (
    is_admission,
    is_opening,
    is_publication,
    is_withdrawal,
    uses,
)
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    BalancerStep,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    CreateSourceList,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    DeleteSourceList,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetBalancer,
    SetGroup,
    SetListener,
    SetSourceList,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, Settings

OPENING = (CreateListener, StartListener)
"""Steps after which clients come in by a port."""


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """The earlier steps that a step waits for, by their places in the plan."""

    ended: frozenset[int] = frozenset()
    """Those that must have ended, well or not."""
    done: frozenset[int] = frozenset()
    """Those of them that must have been carried out: without them the step would be refused, or do harm."""


def prerequisites(steps: Sequence[Step], observed: ObservedLoadBalancer | None) -> tuple[Prerequisites, ...]:
    """Returns for every step of a plan, which was made for the observed balancer, what it waits for."""
    relations = _Relations(steps, observed or ObservedLoadBalancer("", "", ""))
    return tuple(relations.of(place) for place in range(len(steps)))


class _Relations:
    """What steps of one plan have to do with each other."""

    def __init__(self, steps: Sequence[Step], observed: ObservedLoadBalancer) -> None:
        self._steps = steps
        self._observed = observed
        self._created = [step.listener for step in steps if isinstance(step, CreateListener)]

    def of(self, place: int) -> Prerequisites:
        """Returns what the step at a place waits for."""
        step = self._steps[place]
        done = frozenset(each for each in range(place) if self._needs(step, self._steps[each]))
        return Prerequisites(done.union(each for each in range(place) if self._follows(step, self._steps[each])), done)

    def _needs(self, step: Step, earlier: Step) -> bool:
        """Whether a step is only carried out after an earlier one has been."""
        match earlier:
            case CreateBalancer() | Unprotect() | DeleteBalancer():
                return True
            case Tag():
                return isinstance(step, Untag)
            case Untag():
                return isinstance(step, Tag) or not isinstance(step, BalancerStep)
            case CreateGroup(_, group):
                return group.name in (_group_of(step), *self._targets(step))
            case AddServers(group):
                return self._lives_on(step, group)
            case CreateSourceList() | SetSourceList() | SetBalancer():
                return self._needs_admission(step, earlier)
            case _:
                return self._needs_listener(step, earlier)

    def _needs_admission(self, step: Step, earlier: CreateSourceList | SetSourceList | SetBalancer) -> bool:
        """The same for an earlier step that decides who is admitted: nothing may be open before, or closed to all.

        Nor may a listener be deleted whose successor would have to wait.
        """
        if isinstance(step, DeleteListener) and (successors := self._wanted(step)):
            return any(self._needs_admission(CreateListener(each), earlier) for each in successors)
        match earlier:
            case CreateSourceList(model, sources):
                return self._uses(step, model.kind, sources.name)
            case SetSourceList(model, sources):
                is_opened = _opens(step, model.kind) and model.kind.shares_source_lists
                kind, name = model.kind, sources.name
                return is_opened or (self._uses(step, kind, name) and not self._used(step, kind, name))
            case SetBalancer(model, _, changes):
                if isinstance(step, DeleteSourceList):
                    return any(step.name in change.old.split(",") for change in changes)
                if is_withdrawal(earlier, model.kind) and is_opening(step, model.kind):
                    return True
                return is_admission(earlier, model.kind) and _opens(step, model.kind)

    def _uses(self, step: Step, kind: BalancerKind, name: str) -> bool:
        """Whether a listener or the balancer admits clients by a list after a step."""
        match step:
            case CreateListener(listener) | SetListener(listener, _):
                return uses(listener.settings, kind, name)
            case StartListener(listener):
                return any(uses(each.settings, kind, name) for each in (listener, *self._changed(listener)))
            case SetBalancer(_, _, changes):
                return any(name in change.new.split(",") for change in changes)
            case _:
                return False

    def _changed(self, listener: Listener) -> list[Listener]:
        """Returns the listener as it is after the change of it, if there is one."""
        return [step.listener for step in self._steps if isinstance(step, SetListener) and _is_same(step, listener)]

    def _used(self, step: Step, kind: BalancerKind, name: str) -> bool:
        """Whether a listener does so before a step already."""
        former = self._observed.listener(*step.listener.key) if isinstance(step, SetListener) else None
        return former is not None and uses(former.settings, kind, name)

    def _needs_listener(self, step: Step, earlier: Step) -> bool:
        """The same for an earlier step about a listener."""
        match earlier:
            case SetListener() if isinstance(step, StartListener) and _is_same(earlier, step.listener):
                return True  # what it is not to admit would come in
            case CreateListener(listener) if any(_leads_to(each, listener) for each in self._wanted(step)):
                return True
            case DeleteListener(listener) if isinstance(step, CreateListener) and step.listener.overlaps(listener):
                return True
            case CreateListener(listener) | DeleteListener(listener) | SetListener(listener, _):
                present = [each for each in self._observed.listeners if each.overlaps(listener)]
                if isinstance(step, DeleteSourceList):
                    return any(_names(each.settings, step.name) for each in present)
                formers = {each.group for each in present}
                return self._leaves(step, formers - self._targets(earlier), formers)
            case _:
                return False

    def _leaves(self, step: Step, left: Collection[str], formers: Collection[str]) -> bool:
        """Whether a step takes away what a listener leads to, or, of the groups that it leaves, the last servers."""
        match step:
            case DeleteGroup(name):
                return name in formers
            case RemoveServers(name, servers):
                return name in left and not self._remaining(name) - {server.key for server in servers}
            case _:
                return False

    def _follows(self, step: Step, earlier: Step) -> bool:
        """Whether a step waits until an earlier one has ended, well or not."""
        if isinstance(step, BalancerStep):
            return True  # a balancer whose settings are being changed refuses changes of its listeners
        group = _group_of(earlier)
        if group and group in (_group_of(step), *self._targets(step)):
            return True
        if isinstance(earlier, SetBalancer) and isinstance(step, ListenerStep):
            return True  # for the same reason
        if not isinstance(step, ListenerStep) or not isinstance(earlier, ListenerStep):
            return False
        if step.listener.overlaps(earlier.listener):
            return True
        former = self._observed.listener(*earlier.listener.key)
        return isinstance(step, DeleteListener) and former is not None and not former.group  # perhaps a redirect to it

    def _wanted(self, step: Step) -> list[Listener]:
        """Returns the listeners that ports get by a step, or by those that follow their deletion."""
        match step:
            case DeleteListener(listener):
                return [each for each in self._created if each.overlaps(listener)]
            case CreateListener(listener) | SetListener(listener):
                return [listener]
            case _:
                return []

    def _targets(self, step: Step) -> set[str]:
        """Returns the names of the groups that ports are forwarded to after a step; none for all other steps."""
        return {each.group for each in self._wanted(step) if each.group}

    def _lives_on(self, step: Step, group: str) -> bool:
        """Whether a port or group would be without any server after a step, if none is added to the group.

        A former group's servers may be all that its user's listeners have, until there are some elsewhere.
        """
        match step:
            case RemoveServers(_, _, is_former=True):
                return not self._remaining(group)
            case RemoveServers(name, servers):
                return name == group and not self._remaining(group) - {server.key for server in servers}
            case SetListener(listener, changes):
                moves = any(change.new == group for change in changes)
                return moves and listener.group == group and not self._remaining(group)
            case DeleteListener():
                return group in self._targets(step) and not self._remaining(group)
            case _:
                return False

    def _remaining(self, group: str) -> set[object]:
        present = self._observed.group(group)
        return {server.key for server in present.servers} if present else set()


def _group_of(step: Step) -> str:
    """Returns the name of the group that a step changes; empty when it changes none."""
    match step:
        case CreateGroup(_, group) | SetGroup(group, _):
            return group.name
        case DeleteGroup(name, _):
            return name
        case _:
            return step.group if isinstance(step, ServerStep) else ""


def _is_same(step: ListenerStep, listener: Listener) -> bool:
    """Whether a step is about a listener."""
    return step.listener.key == listener.key


def _opens(step: Step, kind: BalancerKind) -> bool:
    """Whether more clients come in after a step, be it by another port or from elsewhere."""
    return isinstance(step, OPENING) or is_publication(step, kind)


def _names(settings: Settings, name: str) -> bool:
    """Whether settings name a list of the clients that are admitted, be it in use or switched off."""
    return any(name in value.split(",") for value in settings.values())


def _leads_to(redirect: Listener, target: Listener) -> bool:
    """Whether a listener redirects clients to the port of another; its settings name that port."""
    is_named = str(target.port) in redirect.settings.values()
    return not redirect.group and target.transport == "tcp" and is_named
