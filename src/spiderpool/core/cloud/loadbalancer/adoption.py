"""What is desired of a balancer that is there already, by what it has.

What cannot be changed and the names of its parts stay. Balancers that others made, the cloud's own controller or a user
who lends one, go further: on these only what an annotation says is changed. Whoever tuned them in the console meant it:
a default of ours could open a listener to everybody, or change how the balancer is paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.annotations import Annotation
from spiderpool.core.cloud.loadbalancer.check_times import present_parts, settling_time
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, substituted, with_options
from spiderpool.core.cloud.loadbalancer.node_checks import without_node_check
from spiderpool.core.cloud.loadbalancer.source_lists import as_it_is, by_name, released, without_former
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerOwner,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
    Settings,
    parameter_of,
)


def is_adopted(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether others made the balancer: it is lent, or lacks the tag that each balancer gets that we make."""
    return bool(model.reuse) or is_of_others(model.kind, model.owner, observed)


def is_of_others(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer lacks the tag that each one gets that we make."""
    return not kind.naming.origin_tags(owner).keys() <= observed.tags.keys()


def is_made_for(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer was made for a Service, by its tags; by its name where it lacks that of the cluster.

    So it is with those that the other controller made before it had that tag.
    """
    naming = kind.naming
    is_named = naming.is_named_after(observed, owner) and not naming.other_cluster(observed, owner)
    return is_named or naming.is_own(observed, owner)


def has_parts(kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer has listeners or server groups of a Service, or, where groups are beside it, leads to one."""
    is_part_of, behind = kind.naming.is_part_of, {listener.group for listener in observed.listeners}
    return any(is_part_of(listener.description, owner) for listener in observed.listeners) or any(
        (is_part_of(group.name, owner) or (group.is_lent and group.servers))
        and (not kind.groups_outlive_balancer or group.name in behind)
        for group in observed.groups
    )


def keeps_its_kind(service: Service, kind: BalancerKind, owner: BalancerOwner, observed: ObservedLoadBalancer) -> bool:
    """Whether a Service's balancer of this kind is not exchanged, although an annotation asks for another kind.

    So it is where another controller made it, which may not have followed that annotation: it says nothing then about
    what is wanted.
    """
    is_made = is_made_for(kind, owner, observed)
    return not service.spec.loadBalancerClass and is_made and is_of_others(kind, owner, observed)


def adapted(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with the names that its server groups have already.

    Where others made the balancer, also with its present settings as far as no annotation says otherwise.
    """
    model = _with_present_names(_as_it_stays(as_it_is(model, observed), observed), observed)
    return _settled(by_name(_adapted(model, observed), observed), observed)


def _settled(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with the time within which the present checks find a server well, and the desired ones."""
    parts: list[Listener | ServerGroup] = [*model.listeners, *model.groups, *present_parts(observed, model.groups)]
    return replace(model, settling=settling_time(model.options, parts))


def _adapted(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with present settings, where others made the balancer and no annotation says otherwise."""
    if not is_adopted(model, observed):
        return without_former(model, observed)
    # Only annotations have a check of others' balancers ask nodes: one that we add would keep the port for good.
    model = with_options(model, without_node_check(model.options))
    options, kind = model.options, model.kind
    if model.settings:
        said = _said(lambda given: kind.settings(given, model.name), options, kind.set_by.balancer, observed.settings)
        model = without_former(replace(model, settings=said), observed)
    listeners = tuple(_listener(listener, model, observed) for listener in model.listeners)
    groups = tuple(_group(group, model, observed) for group in model.groups)
    return replace(model, listeners=listeners, groups=(*groups, *_present_idle_groups(model, observed)))


def _present_idle_groups(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[ServerGroup]:
    """Yields those groups of ports that redirect clients which are there: the other controller makes them."""
    used = {group.name for group in model.groups}
    for group in model.idle_groups:
        if group.name not in used and observed.group(group.name) is not None:
            used.add(group.name)
            yield group


def servers_of_others(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[str]:
    """Yields which servers are in a user's group already, put there by the user or for another Service."""
    for group in model.groups:
        present = observed.group(group.name)
        there = present.others if present else frozenset()
        for server in sorted(group.servers | group.ending, key=lambda each: each.key):
            if server.key in there:
                place = f"{server.address or server.identity}:{server.port} is in {group.name} already"
                yield f"server {place}, as another's: it stays as it is, and goes when the other takes it out"


def _with_present_names(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with the names of groups that are there already and are as the Service asks, spelt otherwise.

    A new group in their place would lead nowhere until its servers have passed their health checks.
    """
    names = {group.name: _present_name(group, model.kind, observed) for group in model.groups}
    if all(name == present for name, present in names.items()):
        return model
    return replace(
        model,
        listeners=tuple(replace(each, group=names.get(each.group, each.group)) for each in model.listeners),
        groups=tuple(replace(group, name=names[group.name]) for group in model.groups),
    )


def _as_it_stays(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with the settings of a balancer as it is in what cannot be changed.

    A private balancer has no payment for the Internet, whatever its Service asks for by now.
    """
    kind, known = model.kind, model.kind.annotations.known
    stays = {
        suffix: _spelt(observed.settings[parameter], known[suffix])
        for parameter, suffix in kind.annotation_of.items()
        if parameter in model.fixed.keys() & observed.settings.keys()
    }
    options = replace(model.options, given={**model.options.given, **stays})
    usual, standing = (kind.settings(each, model.name) for each in (model.options, options))
    return replace(model, settings=substituted(model.settings, usual, standing)) if model.settings else model


def _present_name(group: ServerGroup, kind: BalancerKind, observed: ObservedLoadBalancer) -> str:
    """Returns the name under which a desired group is there; else the first that is free."""
    names = {name: observed.group(name) for name in (group.name, *group.other_names)}
    fitting = [name for name, present in names.items() if present is not None and _fits(group, present, kind)]
    free = [name for name, present in names.items() if present is None]
    return next(iter(fitting + free), group.name)


def _fits(group: ServerGroup, present: ServerGroup, kind: BalancerKind) -> bool:
    """Whether nothing would have to be changed in a group that cannot be."""
    fixed = [name for name in kind.fixed_of_group if name in group.settings]
    return all(
        present.settings.get(name, group.settings[name]).lower() == group.settings[name].lower() for name in fixed
    )


def _listener(listener: Listener, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Listener:
    """Returns a desired listener; one that redirects, or whose protocol changes, is made by our defaults."""
    present, options, kind = observed.listener(*listener.key), model.options, model.kind
    if present is None or present.protocol != listener.protocol or not (present.group and listener.group):
        return listener
    former = released(present.settings, model, observed)
    settings = _said(lambda given: kind.listener(listener.protocol, given), options, kind.set_by.listener, former)
    usual = kind.listener(listener.protocol, options)
    return replace(listener, settings=substituted(listener.settings, usual, settings))


def _group(group: ServerGroup, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> ServerGroup:
    present = observed.group(group.name)
    if present is None or group.is_lent:
        return group
    options, kind = model.options, model.kind
    protocol = next((listener.protocol for listener in model.listeners if listener.group == group.name), None)
    if protocol is None:  # of a port that redirects clients
        return group
    settings = _said(lambda given: kind.group(protocol, given), options, kind.set_by.group, present.settings)
    return replace(group, settings=substituted(group.settings, kind.group(protocol, options), settings))


def _said(
    wanted: Callable[[BalancerOptions], Settings],
    options: BalancerOptions,
    set_by: Mapping[str, str],
    present: Settings,
) -> dict[str, str]:
    """Returns the present settings, changed as the annotations say.

    Annotations that depend on another one are taken with the present value of that one: the interval of a health check
    that somebody switched off says nothing.
    """
    known = options.kind.annotations.known
    defaults = {
        suffix: _spelt(present[parameter], known[suffix])
        for parameter, suffix in set_by.items()
        if parameter in present
    }
    settings = wanted(options.with_defaults(defaults))
    said = {parameter for parameter in settings if set_by.get(parameter_of(parameter)) in options.given}
    return {
        parameter: value if parameter in said else present[parameter]
        for parameter, value in settings.items()
        if parameter in said or parameter in present
    }


def _spelt(text: str, annotation: Annotation) -> str:
    """Returns a present value as its annotation spells it; unchanged where the annotation does not know it."""
    with suppress(ValueError):
        return annotation.type.read(text)
    return text
