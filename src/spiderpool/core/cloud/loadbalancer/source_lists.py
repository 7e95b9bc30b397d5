"""Lists of the clients that Services admit: how one comes, changes, is used and goes.

A list has all its entries before anything uses it, and is deleted after nothing does. So a Service that is to be closed
is never open to more clients than it asks for, and one whose ranges change never keeps out those that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, admitting, present_versions, versions_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, source_list, with_options
from spiderpool.core.cloud.loadbalancer.source_ranges import admitted, version_of_range
from spiderpool.core.cloud.loadbalancer.steps import (
    CreateListener,
    CreateSourceList,
    DeleteBalancer,
    DeleteListener,
    DeleteSourceList,
    SetBalancer,
    SetListener,
    SetSourceList,
    Step,
)
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, Settings, SourceList


def as_it_is(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model that admits the clients of the Service's ranges by the addresses that a balancer has.

    An annotation may say otherwise, or nothing of a user's balancer: then clients of the IP version that nobody
    reckoned with would all be let in. Where no range is of the balancer's versions, all stays as the annotation has it.
    """
    options, kind, owner = model.options, model.kind, model.owner
    versions = present_versions(options, observed)
    is_same = versions == versions_of(options) or not options.ranges
    if is_same or is_out_of_reach(model) or not any(version_of_range(each) in versions for each in options.ranges):
        return model
    if kind.source_lists.suffixes & options.given.keys() and not options.sources:
        return model
    standing = admitting(options, admitted(options.ranges, versions), owner)
    return replace(with_options(model, standing), sources=source_list(standing, versions, owner))


def is_out_of_reach(model: LoadBalancerModel) -> bool:
    """Whether who is admitted is not for the Service to say: the balancer is a user's, or its listeners are."""
    return bool(model.reuse) and (model.kind.shares_source_lists or not model.manages_listeners)


def unheeded(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[str]:
    """Yields which ranges would keep out clients of a balancer that is there, and cannot."""
    options = model.options
    versions = present_versions(options, observed)
    if versions != versions_of(options) and is_out_of_reach(model) and admitted(options.ranges, versions):
        names = " and ".join(f"IPv{version}" for version in versions)
        yield (
            f"source ranges keep nobody out: balancer {observed.identity} is yours and has {names} addresses; "
            f"have it admit by a {model.kind.source_lists.noun} of yours"
        )


def changes(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Step]:
    """Yields what makes the list of a Service as it is to be."""
    wanted = model.sources
    if wanted is None:
        return
    present = next((each for each in observed.source_lists if each.name == wanted.name), None)
    if present is None:
        yield CreateSourceList(model, wanted)
        return
    added, removed = wanted.entries - present.entries - present.others, present.entries - wanted.entries
    if added or removed:
        yield SetSourceList(model, replace(wanted, identity=present.identity), added, removed)


def unused(
    kind: BalancerKind, observed: ObservedLoadBalancer, steps: Iterable[Step], wanted: SourceList | None = None
) -> Iterator[Step]:
    """Yields the deletion of lists that nothing uses after the steps, but for the one that is wanted."""
    remaining = [*_settings_after(observed, [*steps])]
    for each in observed.source_lists:
        is_wanted = wanted is not None and each.name == wanted.name
        if not is_wanted and not any(uses(settings, kind, each.name) for settings in remaining):
            yield DeleteSourceList(each.name, each.identity)


def uses(settings: Settings, kind: BalancerKind, name: str) -> bool:
    """Whether a listener or a balancer of these settings admits clients by a list."""
    rules = kind.source_lists
    named, is_off = settings.get(rules.parameter, ""), rules.unused.items() <= settings.items()
    return name in named.split(",") and not is_off


def is_admission(step: Step, kind: BalancerKind) -> bool:
    """Whether a step has all listeners of a balancer admit clients by lists, of ours or of an administrator."""
    parameter = kind.source_lists.parameter
    return isinstance(step, SetBalancer) and any(each.parameter == parameter and each.new for each in step.changes)


def is_opening(step: Step, kind: BalancerKind) -> bool:
    """Whether a step has all listeners of a balancer admit everybody."""
    parameter = kind.source_lists.parameter
    return isinstance(step, SetBalancer) and any(each.parameter == parameter and not each.new for each in step.changes)


def is_publication(step: Step, kind: BalancerKind) -> bool:
    """Whether a step has the Internet reach a balancer."""
    return isinstance(step, SetBalancer) and any(kind.public.get(each.parameter) == each.new for each in step.changes)


def is_withdrawal(step: Step, kind: BalancerKind) -> bool:
    """Whether after a step the Internet reaches a balancer no longer."""
    return isinstance(step, SetBalancer) and any(kind.public.get(each.parameter) == each.old for each in step.changes)


def released(settings: Settings, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Settings:
    """Returns present settings of a listener or a balancer without the lists of a Service that asks for none.

    Lists of others stay. They are what is left of what a user has set, whom nothing tells that ours is gone.
    """
    rules = model.kind.source_lists
    listed = settings.get(rules.parameter, "").split(",")
    ours = {each.name for each in observed.source_lists}.intersection(listed)
    if model.sources is not None or not ours:
        return settings
    if others := [each for each in listed if each not in ours]:
        return {**settings, rules.parameter: ",".join(others)}
    set_by = {**model.kind.set_by.balancer, **model.kind.set_by.listener}
    return {key: value for key, value in settings.items() if set_by.get(key) not in rules.suffixes} | {**rules.unused}


def by_name(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model with the names of lists that were made for the Service, where annotations have identities."""
    names = {each.identity: each.name for each in observed.source_lists}
    parameter = model.kind.source_lists.parameter
    listeners = tuple(replace(each, settings=with_names(each.settings, parameter, names)) for each in model.listeners)
    return replace(model, settings=with_names(model.settings, parameter, names), listeners=listeners)


def with_names(settings: Settings, parameter: str, names: Mapping[str, str]) -> Settings:
    """Returns settings with the names of lists in place of their identities, in a parameter that lists some."""
    listed = settings.get(parameter, "").split(",")
    if not names.keys() & {*listed}:
        return settings
    return {**settings, parameter: ",".join(sorted({names.get(each, each) for each in listed}))}


def without_former(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model of a balancer that all listeners share a list of, without this list if it is not wanted."""
    rules = model.kind.source_lists
    present = released(observed.settings, model, observed)
    is_said = bool(rules.suffixes & model.options.given.keys())
    if present is observed.settings or model.reuse or is_said:
        return model
    return replace(model, settings={**model.settings, rules.parameter: present[rules.parameter]})


def _settings_after(observed: ObservedLoadBalancer, steps: list[Step]) -> Iterator[Settings]:
    """Yields the settings of a balancer and its listeners as they are after the steps."""
    if any(isinstance(step, DeleteBalancer) for step in steps):
        return
    changed = [change for step in steps if isinstance(step, SetBalancer) for change in step.changes]
    yield {**observed.settings, **{change.parameter: change.new for change in changed}}
    gone = {step.listener.key for step in steps if isinstance(step, DeleteListener | SetListener)}
    yield from (each.settings for each in observed.listeners if each.key not in gone)
    yield from (step.listener.settings for step in steps if isinstance(step, CreateListener | SetListener))
