"""Lists of the clients that Services admit: how one comes, changes, is used and goes.

A list has all its entries before anything uses it, and is deleted after nothing does. So a Service that is to be closed
is never open to more clients than it asks for, and one whose ranges change never keeps out those that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
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


def changes(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[Step]:
    """Yields what makes the list of a Service as it is to be."""
    wanted = model.sources
    if wanted is None:
        return
    present = next((each for each in observed.source_lists if each.name == wanted.name), None)
    if present is None:
        yield CreateSourceList(model, wanted)
    elif present.entries != wanted.entries:
        added, removed = wanted.entries - present.entries, present.entries - wanted.entries
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


def is_admission(step: Step, wanted: SourceList | None) -> bool:
    """Whether a step has all listeners of a balancer admit clients by a list."""
    return (
        wanted is not None
        and isinstance(step, SetBalancer)
        and any(wanted.name in change.new.split(",") for change in step.changes)
    )


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
    return {key: value for key, value in settings.items() if key not in rules.parameters} | {**rules.unused}


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
