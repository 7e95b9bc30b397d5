"""Which steps of a plan wait for which: the others are carried out side by side, and a refusal stops none of them.

What is about servers and listeners waits for its own group and port alone; settings and tags of the balancer wait for
all that. Where a refused step would leave a port or a group without a server that it has now, what follows is not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    BalancerStep,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetGroup,
    SetListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer


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
        self._created = {step.listener.key: step.listener for step in steps if isinstance(step, CreateListener)}

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
                return not isinstance(step, BalancerStep)
            case CreateGroup(_, group):
                return group.name in (_group_of(step), self._target(step))
            case AddServers(group):
                return self._lives_on(step, group)
            case _:
                return self._needs_listener(step, earlier)

    def _needs_listener(self, step: Step, earlier: Step) -> bool:
        """The same for an earlier step about a listener."""
        match earlier:
            case CreateListener(listener) if _leads_to(self._wanted(step), listener):
                return True
            case DeleteListener(listener) if isinstance(step, CreateListener) and step.listener.key == listener.key:
                return True
            case CreateListener(listener) | DeleteListener(listener) | SetListener(listener, _):
                former = self._observed.listener(*listener.key)
                return isinstance(step, DeleteGroup) and former is not None and former.group == step.name
            case _:
                return False

    def _follows(self, step: Step, earlier: Step) -> bool:
        """Whether a step waits until an earlier one has ended, well or not."""
        if isinstance(step, BalancerStep):
            return True  # a balancer whose settings are being changed refuses changes of its listeners
        group = _group_of(earlier)
        if group and group in (_group_of(step), self._target(step)):
            return True
        if not isinstance(step, ListenerStep) or not isinstance(earlier, ListenerStep):
            return False
        if step.listener.key == earlier.listener.key:
            return True
        former = self._observed.listener(*earlier.listener.key)
        return isinstance(step, DeleteListener) and former is not None and not former.group  # perhaps a redirect to it

    def _wanted(self, step: Step) -> Listener | None:
        """Returns the listener that a port gets by a step, or by that which follows its deletion."""
        match step:
            case DeleteListener(listener):
                return self._created.get(listener.key)
            case CreateListener(listener) | SetListener(listener):
                return listener
            case _:
                return None

    def _target(self, step: Step) -> str:
        """Returns the name of the group that a port is forwarded to after a step; empty for all other steps."""
        wanted = self._wanted(step)
        return wanted.group if wanted else ""

    def _lives_on(self, step: Step, group: str) -> bool:
        """Whether a port or group would be without any server after a step, if none is added to the group."""
        match step:
            case RemoveServers(name, servers):
                return name == group and not self._remaining(group) - {server.key for server in servers}
            case SetListener(listener, changes):
                moves = any(change.new == group for change in changes)
                return moves and listener.group == group and not self._remaining(group)
            case DeleteListener():
                return self._target(step) == group and not self._remaining(group)
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


def _leads_to(redirect: Listener | None, target: Listener) -> bool:
    """Whether a listener redirects clients to the port of another; its settings name that port."""
    return redirect is not None and not redirect.group and str(target.port) in redirect.settings.values()
