"""From what is to what should be: the steps, in an order in which no client is turned away needlessly.

Servers are added before others are removed, groups are filled before a listener leads to them, and what is no longer
wanted goes last. What is not recognised as ours is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spiderpool.core.cloud.alibaba.naming import (
    IDENTITY_LABEL,
    LENT_TAG,
    balancer_name,
    is_made_by_controller,
    is_own,
    is_part_of,
    is_part_of_any,
    own_tags,
)
from spiderpool.core.cloud.loadbalancer.kinds import KINDS
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    ParameterChange,
    RemoveServers,
    SetBalancer,
    SetGroup,
    SetListener,
    SetWeights,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerOwner,
    Kind,
    Listener,
    LoadBalancerModel,
    ObservedLoadBalancer,
    ServerGroup,
    Settings,
)

HASHES = frozenset({"sch", "tch", "qch"})
"""Schedulers that a classic listener can neither take on nor give up."""
PROTECTIONS: dict[Kind, Settings] = {
    "clb": {"DeleteProtection": "off", "ModificationProtectionStatus": "NonProtection"},
    "nlb": {"DeletionProtectionEnabled": "false", "ModificationProtectionStatus": "NonProtection"},
}
"""How a balancer is without protections."""


def plan(model: LoadBalancerModel, seen: ObservedLoadBalancer | None) -> tuple[Step, ...]:
    """The steps that make the balancer as it should be; none when it is."""
    there = seen or ObservedLoadBalancer("", model.name, "", model.settings, model.tags)
    return (
        *([] if seen or model.reuse else [CreateBalancer(model)]),
        *_balancer(model, there),
        *_fill_groups(model, there),
        *_listeners(model, there),
        *_stale_listeners(model, there),
        *_empty_groups(model, there),
        *_stale_groups(model, there),
    )


def only_backends(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps about servers of groups that exist: what is done while the rest waits for a correction."""
    made = {step.group.name for step in steps if isinstance(step, CreateGroup)}
    return tuple(
        step for step in steps if isinstance(step, AddServers | SetWeights | RemoveServers) and step.group not in made
    )


def immutable(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> tuple[str, ...]:
    """What the Service asks for and the balancer that is there cannot become."""
    names = KINDS[model.kind].annotation_of
    return tuple(
        f"{names[key]} of a balancer cannot be changed: it is {seen.settings[key]}, the Service asks for {value}"
        for key, value in model.fixed.items()
        if seen.settings.get(key, value).lower() != value.lower()
    )


def lending_fault(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> str | None:
    """Why a balancer cannot be used though the Service names it; None when it can."""
    if model.reuse and is_made_by_controller(seen):
        return (
            f"balancer {seen.identity} was made for a Service and cannot be lent to another: "
            "remove its tags kubernetes.do.not.delete and ack.aliyun.com if nothing uses it any more"
        )
    taken = [str(each) for each in model.listeners if _is_anothers(model, seen.listener(*each.key))]
    if model.reuse and model.manages_listeners and taken:
        return f"listener {', '.join(taken)} of balancer {seen.identity} belongs to another Service: use another port"
    return None


def ownership_fault(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> str | None:
    """Why a balancer that the Service's label names is not its own; None when it is.

    Whoever may write labels must not get at every balancer of the account.
    """
    if model.reuse or is_own(seen, model.owner) or seen.name == balancer_name(model.owner):
        return None
    return (
        f"label {IDENTITY_LABEL} names balancer {seen.identity}, which lacks the tags of this Service "
        f"({', '.join(own_tags(model.owner))}): put them back, or remove the label"
    )


def removal(kind: Kind, owner: BalancerOwner, seen: ObservedLoadBalancer, *, preserve: bool) -> tuple[Step, ...]:
    """The steps that take back what a Service was given. A balancer that is not ours by its tags is never deleted."""
    if not is_own(seen, owner):
        return (*_return_parts(kind, owner, seen), *_return_lent(kind, owner, seen))
    lifted = _changes(PROTECTIONS[kind], seen.settings)
    steps: list[Step] = [Unprotect(seen.identity, lifted)] if lifted else []
    if preserve:
        return (*steps, Untag(tuple(own_tags(owner))))
    return (*steps, DeleteBalancer(seen.identity), *(_own_groups(kind, owner, seen) if kind == "nlb" else ()))


def _is_anothers(model: LoadBalancerModel, there: Listener | None) -> bool:
    """Whether a listener was made for another Service of this cluster."""
    if there is None or not is_part_of_any(model.kind, there.description, model.owner.cluster):
        return False
    return not is_part_of(model.kind, there.description, model.owner)


def _balancer(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    for aspect, parameters in KINDS[model.kind].aspects.items():
        wanted = {key: model.settings[key] for key in parameters if key in model.settings}
        if changes := _changes(wanted, seen.settings):
            yield SetBalancer(model, aspect, changes)
    tags = {LENT_TAG: "true"} if model.reuse else model.tags
    if missing := tuple(sorted(tags.items() - seen.tags.items())):
        yield Tag(missing)


def _fill_groups(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    """New groups, settings, and servers that come or change."""
    for group in model.groups:
        there = seen.group(group.name)
        if there is None:
            yield CreateGroup(model, replace(group, servers=frozenset()))
        elif changes := _changes(group.settings, there.settings):
            yield SetGroup(replace(group, identity=there.identity), changes)
        yield from _servers(group, there, keeps_weights=model.keeps_weights)


def _servers(group: ServerGroup, there: ServerGroup | None, *, keeps_weights: bool) -> Iterator[Step]:
    present = {server.key: server for server in there.servers} if there else {}
    new = [server for server in group.servers if server.key not in present]
    changed = [server for server in group.servers if server.key in present and server != present[server.key]]
    if new:
        yield AddServers(group.name, _sorted(new))
    if changed and not keeps_weights:
        yield SetWeights(group.name, _sorted(changed))


def _empty_groups(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    """Servers that go."""
    for group in model.groups:
        there = seen.group(group.name)
        wanted = {server.key for server in group.servers}
        gone = [
            server
            for server in (there.servers if there else ())
            if server.key not in wanted and (server.address, server.port) not in group.keep
        ]
        if gone:
            yield RemoveServers(group.name, _sorted(gone))


def _listeners(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    if not model.manages_listeners:
        return
    for listener in sorted(model.listeners, key=lambda each: not each.group):  # a redirect needs its target first
        there = seen.listener(*listener.key)
        if there is None:
            yield CreateListener(listener)
        elif _must_be_replaced(model.kind, there, listener):
            yield DeleteListener(there)
            yield CreateListener(listener)
        else:
            yield from _change(there, listener)


def _change(there: Listener, listener: Listener) -> Iterator[Step]:
    parts = {"description": listener.description, "server group": listener.group}
    present = {"description": there.description, "server group": there.group}
    if changes := _changes(parts, present) + _changes(listener.settings, there.settings):
        yield SetListener(replace(listener, identity=there.identity), changes)
    if not there.running:
        yield StartListener(there)


def _must_be_replaced(kind: Kind, there: Listener, listener: Listener) -> bool:
    """Whether the cloud cannot turn one into the other."""
    if there.protocol != listener.protocol:
        return True
    if _redirect(there) != _redirect(listener):
        return True
    schedulers = {each.settings.get("Scheduler", "") for each in (there, listener)}
    return kind == "clb" and len(schedulers) > 1 and bool(schedulers & HASHES)


def _redirect(listener: Listener) -> str:
    """Where a listener sends clients instead of to servers; empty if nowhere."""
    return listener.settings.get("ForwardPort", "") if listener.settings.get("ListenerForward") == "on" else ""


def _stale_listeners(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    """Listeners that say they are this Service's, on ports that it no longer has."""
    if model.manages_listeners:
        wanted = {listener.key for listener in model.listeners}
        for there in seen.listeners:
            if there.key not in wanted and is_part_of(model.kind, there.description, model.owner):
                yield DeleteListener(there)


def _stale_groups(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> Iterator[Step]:
    """Groups that are this Service's, that it no longer needs, and that no other listener leads to."""
    wanted = {group.name for group in model.groups}
    used = _groups_in_use(model, seen)
    for group in seen.groups:
        if group.name not in wanted | used and is_part_of(model.kind, group.name, model.owner):
            yield DeleteGroup(group.name, group.identity)


def _groups_in_use(model: LoadBalancerModel, seen: ObservedLoadBalancer) -> set[str]:
    """Groups that listeners lead to which this plan leaves alone."""
    ours = {listener.key for listener in model.listeners}
    return {
        each.group
        for each in seen.listeners
        if not model.manages_listeners
        or (each.key not in ours and not is_part_of(model.kind, each.description, model.owner))
    }


def _return_parts(kind: Kind, owner: BalancerOwner, seen: ObservedLoadBalancer) -> Iterator[Step]:
    ours = [each for each in seen.listeners if is_part_of(kind, each.description, owner)]
    others = {each.group for each in seen.listeners if each not in ours}
    yield from map(DeleteListener, ours)
    yield from (step for step in _own_groups(kind, owner, seen) if step.name not in others)


def _return_lent(kind: Kind, owner: BalancerOwner, seen: ObservedLoadBalancer) -> Iterator[Step]:
    """The tag that says the balancer is lent, unless it still is to another Service."""
    names = [each.description for each in seen.listeners] + [each.name for each in seen.groups]
    others = (each for each in names if is_part_of_any(kind, each, owner.cluster) and not is_part_of(kind, each, owner))
    if LENT_TAG in seen.tags and not any(others):
        yield Untag((LENT_TAG,))


def _own_groups(kind: Kind, owner: BalancerOwner, seen: ObservedLoadBalancer) -> Iterator[DeleteGroup]:
    for group in seen.groups:
        if is_part_of(kind, group.name, owner):
            yield DeleteGroup(group.name, group.identity)


def _changes(wanted: Settings, present: Settings) -> tuple[ParameterChange, ...]:
    return tuple(
        ParameterChange(key, present.get(key, ""), value)
        for key, value in wanted.items()
        if present.get(key, "") != value
    )


def _sorted(servers: Iterable[BackendServer]) -> tuple[BackendServer, ...]:
    return tuple(sorted(servers, key=lambda server: server.key))
