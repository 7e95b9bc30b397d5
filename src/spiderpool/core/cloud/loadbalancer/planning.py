"""From the observed balancer to the desired one: the steps, in an order that interrupts as little traffic as possible.

Who is admitted comes before all that would admit others. Then come servers and listeners: servers are added before
others are removed, groups are filled before a listener forwards to them, and what is no longer needed is removed after
that. Settings and tags of the balancer come last: what the cloud refuses of them stops no traffic. What is not
recognised as ours is left alone.

A balancer sends nothing to a new server before its health checks have passed. So a server whose pods are terminating
and still answer keeps its weight while no other one is known to be well, and then gets weight 0: no new connections,
and those that it has go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer import source_lists, tagging
from spiderpool.core.cloud.loadbalancer.adoption import adapted, is_adopted, servers_of_others
from spiderpool.core.cloud.loadbalancer.check_steps import changes_check, is_outdated, outdated_meanwhile
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.node_checks import with_present_check
from spiderpool.core.cloud.loadbalancer.settling import by_key, is_server_well, staying
from spiderpool.core.cloud.loadbalancer.steps import (
    DESCRIPTION,
    GROUP,
    AddServers,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    DeleteSourceList,
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
    changes_between,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerOwner,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
    ServerPlace,
    parameter_of,
)
from spiderpool.core.cloud.loadbalancer.waiting import while_unresolved


def plan(
    model: LoadBalancerModel, observed: ObservedLoadBalancer | None, unsettled: Collection[ServerPlace] = ()
) -> tuple[Step, ...]:
    """Returns the steps that turn the observed balancer (None: there is none) into the desired one.

    ``unsettled`` are servers that the balancer may not have found well yet.
    """
    # A new balancer has its settings and tags from the beginning, so that little is left to change but its parts.
    present = observed or ObservedLoadBalancer("", model.name, "", model.initial, {**model.tags, **model.origin})
    creation = [] if observed or model.reuse else [CreateBalancer(model)]
    return (*creation, *plan_adapted(adapted(model, present), present, unsettled))


def plan_adapted(
    model: LoadBalancerModel, present: ObservedLoadBalancer, unsettled: Collection[ServerPlace] = ()
) -> tuple[Step, ...]:
    """Returns the same for a model that has been adapted to the balancer, which is there."""
    model = while_unresolved(model, present)
    model = replace(model, groups=tuple(_with_ending(group, model, present, unsettled) for group in model.groups))
    settings, listeners = [*_balancer(model, present)], [*_listeners(model, present, unsettled)]
    checks = [step for step in listeners if changes_check(step, model.kind)]
    groups = [*_fill_groups(model, present)]
    steps = (
        *source_lists.changes(model, present),
        *(step for step in settings if source_lists.is_admission(step, model.kind)),
        *outdated_meanwhile(model, present, (*listeners, *groups)),
        *checks,
        *groups,
        *(step for step in listeners if step not in checks),
        *_remove_servers(model, present, unsettled),
        *_stale_groups(model, present, unsettled),
        *(step for step in settings if not source_lists.is_admission(step, model.kind)),
    )
    return (*steps, *source_lists.unused(model.kind, present, steps, model.sources))


def only_backends(steps: Sequence[Step], refused: Collection[str] = ()) -> tuple[Step, ...]:
    """Returns the steps about servers of existing groups: those that need not wait for a correction of the Service.

    ``refused`` are groups that the Service may not use. Those that it no longer uses keep their servers: what takes
    their place is not made meanwhile.
    """
    left_out = {step.group.name for step in steps if isinstance(step, CreateGroup)}.union(refused)
    left_out |= {step.group for step in steps if isinstance(step, RemoveServers) and step.is_former}
    return tuple(
        step
        for step in steps
        if isinstance(step, AddServers | SetWeights | RemoveServers) and step.group not in left_out
    )


def unchangeable(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> tuple[str, ...]:
    """Returns what the Service asks for and its balancer cannot be changed to."""
    suffixes = model.kind.annotation_of
    said = model.options.given if is_adopted(model, observed) else suffixes.values()
    tags = (
        f"additional-resource-tags of a balancer that is not the Service's cannot change tag {key}: "
        f"it is {observed.tags[key]}, the Service asks for {model.tags[key]}"
        for key in sorted(tagging.foreign(model, observed))
        if observed.tags[key] != model.tags[key]
    )
    fixed = (
        f"{suffixes[parameter_of(key)]} of a balancer cannot be changed: "
        f"it is {observed.settings[key]}, the Service asks for {value}"
        for key, value in model.fixed.items()
        if suffixes[parameter_of(key)] in said and observed.settings.get(key, value).lower() != value.lower()
    )
    return (*fixed, *tags, *servers_of_others(model, observed), *source_lists.unheeded(model, observed))


def reuse_fault(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> str | None:
    """Returns why the Service may not use the balancer that it names; None when it may, or names none."""
    naming = model.kind.naming
    if model.reuse and naming.is_made_by_controller(observed):
        return (
            f"balancer {observed.identity} was made for a Service and cannot be lent to another: "
            f"remove its tags {' and '.join(naming.own_tags(model.owner))} if nothing uses it any more"
        )
    absent = [group.name for group in model.groups if group.is_lent and observed.group(group.name) is None]
    if absent:
        key = f"annotation {model.kind.annotations.prefix}vgroup-port"
        return f"{key} names {', '.join(absent)}, which is no server group of yours at balancer {observed.identity}"
    others = [each for each in observed.listeners if _is_of_another(model, each)]
    taken = [str(each) for each in model.listeners if any(each.overlaps(other) for other in others)]
    if model.reuse and model.manages_listeners and taken:
        listeners = f"listener {', '.join(taken)} of balancer {observed.identity}"
        return f"{listeners} belongs to another Service: use another port"
    return None


def ownership_fault(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> str | None:
    """Returns why the balancer that the Service's label names is not its own; None when it is.

    A balancer that an annotation names is judged by `reuse_fault`. Without this check, anybody who may write labels
    could take over any balancer of the account.
    """
    naming = model.kind.naming
    if model.reuse:
        return None
    if naming.reuse_tag in observed.tags:
        return (
            f"balancer {observed.identity} is lent to this Service, and annotation "
            f"{model.kind.annotations.prefix}id is gone: set it again, or delete the Service and create it anew"
        )
    if cluster := naming.other_cluster(observed, model.owner):
        return (
            f"balancer {observed.identity} has tag {naming.cluster_tag}: {cluster}, and this cluster's ID is "
            f"{model.owner.cluster}: set the cluster's ID back if it was changed, or write the new one into the tag; "
            "until then the balancer is left alone"
        )
    if naming.is_own(observed, model.owner) or naming.is_named_after(observed, model.owner):
        return None
    return (
        f"label {naming.identity_label} names balancer {observed.identity}, which lacks the tags of this Service "
        f"({', '.join(naming.own_tags(model.owner))}): put them back, or remove the label"
    )


def plan_removal(
    kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer, *, preserve: bool
) -> tuple[Step, ...]:
    """Returns the steps that take back what a Service was given.

    A balancer whose tags do not say that it is ours is never deleted, and one of another cluster is left alone. So is
    one that was preserved before, by steps after which the Service could not be released: it keeps its parts.
    """
    if kind.naming.other_cluster(observed, owner) or (preserve and kind.naming.is_preserved(observed, owner)):
        return ()
    if not kind.naming.is_own(observed, owner):
        parts, given = tuple(_remove_parts(kind, owner, observed)), tuple(tagging.removal(kind, owner, observed))
        lists = tuple(source_lists.unused(kind, observed, parts))
        # The tag first, while parts or the record still prove that the Service was given the balancer.
        return (*tagging.release(kind, owner, observed), *parts, *lists, *given) if parts or lists or given else ()
    lifted = changes_between(observed.settings, kind.unprotected)
    steps: list[Step] = [Unprotect(observed.identity, lifted)] if lifted else []
    if preserve:
        marked = Tag(tuple(kind.naming.preserved_tags(owner).items()))
        return (*steps, marked, Untag(tuple(kind.naming.own_tags(owner))))
    groups = _own_groups(kind, owner, observed) if kind.groups_outlive_balancer else ()
    steps += [DeleteBalancer(observed.identity), *groups]
    return (*steps, *source_lists.unused(kind, observed, steps))


def left_in_use(
    kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer, removal: Sequence[Step]
) -> Iterator[str]:
    """Yields the groups and lists that were made for a Service and that its removal leaves to listeners that stay."""
    deleted = {step.identity for step in removal if isinstance(step, DeleteGroup | DeleteSourceList)}
    for group in observed.groups:
        if kind.naming.is_part_of(group.name, owner) and group.identity not in deleted:
            yield f"server group {group.name}"
    for each in observed.source_lists:
        if each.identity not in deleted:
            yield f"{kind.source_lists.noun} {each.name}"


def _is_of_another(model: LoadBalancerModel, present: Listener) -> bool:
    """Whether a listener was made for another Service of this cluster."""
    naming = model.kind.naming
    if not naming.is_part_of_any(present.description, model.owner.cluster):
        return False
    return not naming.is_part_of(present.description, model.owner)


def _balancer(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Step]:
    """Yields changes of settings, what is taken away first.

    A package goes before the address that it is for, and that before the list of the clients that it had admitted.
    """
    aspects: list[SetBalancer] = []
    for aspect, parameters in model.kind.aspects.items():
        desired = {key: value for key, value in model.settings.items() if parameter_of(key) in parameters}
        if changes := changes_between(observed.settings, desired):
            aspects.append(SetBalancer(model, aspect, changes))
    yield from sorted(aspects, key=_turn)
    yield from tagging.changes(model, observed)


def _turn(step: SetBalancer) -> int:
    kind = step.model.kind
    if source_lists.is_opening(step, kind):
        return 2
    if source_lists.is_withdrawal(step, kind):
        return 1
    return 3 if any(change.new for change in step.changes) else 0


def _with_ending(
    group: ServerGroup,
    model: LoadBalancerModel,
    observed: ObservedLoadBalancer,
    unsettled: Collection[ServerPlace],
) -> ServerGroup:
    """Returns a group with those of its ending servers that it is to have now, as ordinary ones."""
    if not group.servers:
        return replace(group, servers=group.ending)
    present, ready = by_key(observed.group(group.name)), by_key(group)
    ending = [server for server in group.ending if server.key in present and server.key not in ready]
    if any(is_server_well(server, present, unsettled, group.name) for server in group.servers):
        # Where weights are not ours to set, the server goes at once.
        ending = [] if model.keeps_weights else [replace(server, weight=0) for server in ending]
    return replace(group, servers=group.servers.union(ending))


def _fill_groups(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Step]:
    """Yields new groups, changes of their settings, and servers that are added or changed."""
    for group in model.groups:
        present = observed.group(group.name)
        if present is None and not group.is_lent:
            yield CreateGroup(model, replace(group, servers=frozenset()))
        elif present and (changes := changes_between(present.settings, group.settings)):
            yield SetGroup(replace(group, identity=present.identity), changes)
        yield from _servers(group, present, keeps_weights=model.keeps_weights)


def _servers(group: ServerGroup, present: ServerGroup | None, *, keeps_weights: bool) -> Iterator[Step]:
    servers = by_key(present)
    others = present.others if present else frozenset()
    new = [server for server in group.servers if server.key not in servers and server.key not in others]
    changed = [server for server in group.servers if server.key in servers and server != servers[server.key]]
    if new:
        yield AddServers(group.name, _sorted(new))
    if changed and not keeps_weights:
        yield SetWeights(group.name, _sorted(changed))


def _remove_servers(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Collection[ServerPlace]
) -> Iterator[Step]:
    """Yields servers to remove: from its groups, and all from users' groups that it no longer uses."""
    used = {*model.lent_groups, *(each.group for each in staying(model, observed, unsettled))}
    former = (group for group in observed.groups if group.is_lent and group.name not in used)
    yield from (RemoveServers(group.name, _sorted(group.servers), is_former=True) for group in former if group.servers)
    for group in model.groups:
        present = observed.group(group.name)
        desired = {server.key for server in group.servers}
        gone = [
            server
            for server in (present.servers if present else ())
            if server.key not in desired and (server.address, server.port) not in group.keep
        ]
        if gone:
            yield RemoveServers(group.name, _sorted(gone), have_gone=group.is_full)


def _listeners(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Collection[ServerPlace]
) -> Iterator[Step]:
    """Yields what becomes of listeners: those that go do so when another needs their ports, or else in the end."""
    if not model.manages_listeners:
        return
    staying_listeners = staying(model, observed, unsettled)
    leaving = {each.key: each for each in _leaving(model, observed) if each not in staying_listeners}
    remaining = dict(leaving)
    for listener in sorted(model.listeners, key=lambda each: not each.group):  # a redirect needs its target first
        present = observed.listener(*listener.key)
        if present is not None and present in staying_listeners:
            if observed.group(present.group) and not _must_be_replaced(model.kind, present, listener):
                is_wrong = is_outdated(present, model, observed)
                checked = listener if is_wrong else with_present_check(listener, present, model.options)
                yield from _change(present, replace(checked, group=present.group))
        elif present is not None and present.key not in leaving:
            yield from _change(present, listener)
        elif not any(each.overlaps(listener) for each in staying_listeners):
            yield from _replace(listener, remaining)
    yield from map(DeleteListener, remaining.values())


def _replace(listener: Listener, leaving: dict[tuple[int, str], Listener]) -> Iterator[Step]:
    """Yields a new listener after the deletion of those that have its ports, which are taken out of those leaving."""
    for former in [each for each in leaving.values() if each.overlaps(listener)]:
        yield DeleteListener(leaving.pop(former.key))
    yield CreateListener(listener)


def _leaving(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Listener]:
    """Yields listeners to replace, and those of this Service on ports that it no longer has."""
    desired = {listener.key: listener for listener in model.listeners}
    for present in sorted(observed.listeners, key=lambda each: bool(each.group)):  # a redirect before its target
        listener = desired.get(present.key)
        if listener is None:
            if model.kind.naming.is_part_of(present.description, model.owner):
                yield present
        elif _must_be_replaced(model.kind, present, listener):
            yield present


def _change(present: Listener, listener: Listener) -> Iterator[Step]:
    parts = {DESCRIPTION: listener.description, GROUP: listener.group}
    current = {DESCRIPTION: present.description, GROUP: present.group}
    if changes := changes_between(current, parts) + changes_between(present.settings, listener.settings):
        yield SetListener(replace(listener, identity=present.identity), changes)
    if not present.running:
        yield StartListener(present)


def _must_be_replaced(kind: BalancerKind, present: Listener, listener: Listener) -> bool:
    """Whether the cloud cannot change one into the other."""
    return present.protocol != listener.protocol or kind.must_replace(present, listener)


def _stale_groups(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Collection[ServerPlace]
) -> Iterator[Step]:
    """Yields groups of this Service that it no longer needs and no other listener forwards to."""
    desired = {group.name for group in model.groups}
    used = _groups_in_use(model, observed) | {each.group for each in staying(model, observed, unsettled)}
    for group in observed.groups:
        if group.name not in desired | used and model.kind.naming.is_part_of(group.name, model.owner):
            yield DeleteGroup(group.name, group.identity)


def _groups_in_use(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> set[str]:
    """Returns the names of groups behind listeners that this plan leaves alone."""
    ours = {listener.key for listener in model.listeners}
    return {
        each.group
        for each in observed.listeners
        if not model.manages_listeners
        or (each.key not in ours and not model.kind.naming.is_part_of(each.description, model.owner))
    }


def _remove_parts(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> Iterator[Step]:
    ours = [each for each in observed.listeners if kind.naming.is_part_of(each.description, owner)]
    others = {each.group for each in observed.listeners if each not in ours}
    yield from map(DeleteListener, ours)
    lent = (group for group in observed.groups if group.is_lent and group.servers)
    yield from (RemoveServers(group.name, _sorted(group.servers)) for group in lent)
    yield from (step for step in _own_groups(kind, owner, observed) if step.name not in others)


def _own_groups(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> Iterator[DeleteGroup]:
    for group in observed.groups:
        if kind.naming.is_part_of(group.name, owner):
            yield DeleteGroup(group.name, group.identity)


def _sorted(servers: Iterable[BackendServer]) -> tuple[BackendServer, ...]:
    return tuple(sorted(servers, key=lambda server: server.key))
