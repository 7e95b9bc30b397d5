"""What is remembered of Services between two reconciliations, so that no Event is recorded again and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import LoadBalancerIngress, Service
from spiderpool.api.event_reasons import EventReason
from spiderpool.cloud.provider import CloudConflict, CloudError, CloudUnavailable, StepsRefused, Throttled
from spiderpool.cloudcontroller.balancer_grants import NotGranted
from spiderpool.cloudcontroller.balancer_limits import TooManyLoadBalancers
from spiderpool.cloudcontroller.service_inputs import ServiceTimings
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, ServerGroup, ServerPlace
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.events import Recorder

MOST_EVENTS = 10
"""Events about one reconciliation of a Service that was refused."""


@dataclass(slots=True)
class ServiceState:
    """What is remembered of a Service between two reconciliations."""

    applied: tuple[LoadBalancerModel, list[LoadBalancerIngress]] | None = None
    """The model that was applied last, and the addresses published for it; None: reconcile in any case."""
    kept: BalancerKind | None = None
    """Kind of a balancer that another controller made and that stays, when it was looked at last."""
    used: frozenset[BalancerKind] = frozenset()
    """Kinds of the balancers that clients use, while one takes the place of another; none: whichever it has."""
    events: dict[EventReason[Service], tuple[str, ...]] = field(default_factory=dict)
    """Reason → messages that were recorded last."""
    missing_since: dict[BalancerKind, float] = field(default_factory=dict)
    """Kind → time at which its balancer of this kind was first missing."""
    in_use_since: float | None = None
    """Time at which others were first found to use what is to be deleted with it."""
    full_groups: frozenset[str] = frozenset()
    """Server groups that a quota kept servers out of the last time: others may make room."""
    stuck_groups: frozenset[str] = frozenset()
    """Those where they did not: no server got in for one that was taken out."""
    lent_groups: set[str] = field(default_factory=set)
    """Users' server groups in which it may have servers."""
    servers_since: dict[BalancerKind, dict[ServerPlace, float]] = field(default_factory=dict)
    """Server with a weight → time since which its balancer, of this kind, is known to have it."""
    groups_used_since: dict[BalancerKind, dict[str, float]] = field(default_factory=dict)
    """Server group → time since which a listener of its balancer, of this kind, is known to lead to it."""
    other_mark: str | None = None
    """What the cloud's own controller has last written on the Service; None: not read yet."""
    surely_unmade: set[BalancerKind] = field(default_factory=set)
    """Kinds of which nobody has asked for a balancer, but where that was refused: none can appear later."""
    made: dict[BalancerKind, str] = field(default_factory=dict)
    """Kind → identity of the balancer that was made last: it may not be found by its tags at once."""

    def is_used(self, kind: BalancerKind) -> bool:
        """Whether clients use the balancer of a kind, so that pods have to wait for it."""
        return not self.used or kind in self.used

    def note_quota(self, groups: Iterable[ServerGroup], error: CloudError | None) -> bool:
        """Notes which of the groups of a plan are full; returns whether some take servers now that took none before."""
        if error is not None and not isinstance(error, StepsRefused):
            return False
        names = {group.name for group in groups}
        full = error.full if error else frozenset[str]()
        stuck = full & (self.stuck_groups | (error.stuck if error else frozenset()))
        freed = self.stuck_groups & names - full
        self.full_groups = self.full_groups - names | full - stuck
        self.stuck_groups = self.stuck_groups - names | stuck
        return bool(freed)


class ServiceStates:
    """The states of all Services, and the Events about them."""

    def __init__(self, recorder: Recorder, timings: ServiceTimings) -> None:
        self._recorder = recorder
        self._timings = timings
        self._states: dict[str, ServiceState] = defaultdict(ServiceState)  # Service key → state

    def of(self, key: str) -> ServiceState:
        """Returns the state of a Service, which may be changed."""
        return self._states[key]

    def forget(self, key: str) -> None:
        """Forgets a Service that is gone, or has no balancer any more."""
        self._states.pop(key, None)

    def forget_applied(self, key: str) -> None:
        """Has a Service compared with its balancer the next time, unless the Service was deleted meanwhile."""
        if key in self._states:
            self._states[key].applied = self._states[key].kept = None

    def note_servers(self, key: str, kind: BalancerKind, groups: Iterable[ServerGroup], in_use: Iterable[str]) -> None:
        """Notes the servers to which the balancer may send connections; forgets the others.

        ``in_use`` are the groups to which its listeners lead.
        """
        state, now = self._states[key], self._timings.clock()
        used = state.groups_used_since.get(kind, {})
        state.groups_used_since[kind] = {name: used.get(name, now) for name in in_use}
        kept = [(group.name, server) for group in groups for server in group.servers | group.ending]
        present = [(name, server.key) for name, server in kept if server.weight]
        former = state.servers_since.get(kind, {})
        state.servers_since[kind] = {each: former.get(each, now) for each in present}

    def unsettled(self, key: str, kind: BalancerKind, settling: float) -> frozenset[ServerPlace]:
        """Returns the servers that the balancer has had for less than ``settling`` seconds."""
        since, now = self._states[key].servers_since.get(kind, {}), self._timings.clock()
        return frozenset(server for server, begin in since.items() if now - begin < settling)

    def settled(self, key: str, kind: BalancerKind, settling: float) -> frozenset[ServerPlace]:
        """Returns the servers that the balancer has had, behind a listener, for ``settling`` seconds or more."""
        used, now = self._states[key].groups_used_since.get(kind, {}), self._timings.clock()
        known = frozenset(self._states[key].servers_since.get(kind, ())) - self.unsettled(key, kind, settling)
        return frozenset(place for place in known if now - used.get(place[0], now) >= settling)

    def note_missing(self, key: str, kind: BalancerKind) -> bool:
        """Notes that an answer lacks the balancer; returns whether one lacked it long enough before."""
        now = self._timings.clock()
        return now - self._states[key].missing_since.setdefault(kind, now) >= self._timings.confirm

    def note_creation(self, key: str, kind: BalancerKind, *, is_refused: bool) -> None:
        """Notes that a balancer was asked for, which the cloud may have made whatever it answers, unless it refuses."""
        state = self._states[key]
        if is_refused:
            state.surely_unmade.add(kind)
        else:
            state.surely_unmade.discard(kind)
            state.missing_since.pop(kind, None)

    def note_deleted(self, key: str, kind: BalancerKind, observed: ObservedLoadBalancer) -> None:
        """Notes that a balancer was deleted by us: it is not looked for as one that was made last."""
        if self._states[key].made.get(kind) == observed.identity:
            del self._states[key].made[kind]

    def note_found(self, key: str, kind: BalancerKind) -> None:
        """Notes that the balancer is there: an answer that lacks it later is the first one again."""
        self._states[key].missing_since.pop(kind, None)

    def is_long_in_use(self, key: str) -> bool:
        """Whether others have used for long what is to be deleted with a Service; notes the time of the first call."""
        state, now = self._states[key], self._timings.clock()
        if state.in_use_since is None:
            state.in_use_since = now
        return now - state.in_use_since >= self._timings.in_use

    def record(self, service: Service, reason: EventReason[Service], *messages: str, repeat: bool = False) -> None:
        """Records an Event for each message; the same messages again only with ``repeat``."""
        state = self._states[service.key]
        if not repeat and state.events.get(reason, ()) == messages:
            return
        state.events[reason] = messages
        for message in messages:
            self._recorder.event(service, reason, message)


def is_refusal(error: CloudError) -> bool:
    """Whether the cloud has surely not done what it was asked for.

    A call that was throttled may have been sent before, without an answer.
    """
    errors = error.refusals if isinstance(error, StepsRefused) else (error,)
    return not any(isinstance(each, CloudUnavailable | CloudConflict | Throttled) for each in errors)


def messages_of(error: SpiderpoolError) -> tuple[str, ...]:
    """Returns the messages of the Events about an error: one for each refused step, without those that say the same."""
    errors = error.refusals if isinstance(error, StepsRefused) else (error,)
    messages = tuple(dict.fromkeys(each.message for each in errors))
    others = len(messages) - MOST_EVENTS
    return (*messages[:MOST_EVENTS], f"{others} further steps were refused") if others > 0 else messages


def reason_of(error: SpiderpoolError) -> EventReason[Service]:
    """Returns the reason of the Event about an error."""
    match error:
        case NotGranted():
            return event_reasons.NOT_GRANTED
        case TooManyLoadBalancers():
            return event_reasons.TOO_MANY_LOAD_BALANCERS
        case _:
            return event_reasons.SYNC_LOAD_BALANCER_FAILED
