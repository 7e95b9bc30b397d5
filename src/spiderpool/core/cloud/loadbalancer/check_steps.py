"""Changes of health checks: which come first, and which are made even where all else but the servers must wait.

A check may ask nodes at a port that the Service no longer has: Kubernetes takes it away when externalTrafficPolicy
becomes Cluster. By that check no server would stay well, so it is changed wherever clients are sent by it: also at a
listener or a server group that the Service no longer asks for, or asks for otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.adoption import is_adopted, is_made_for
from spiderpool.core.cloud.loadbalancer.check_times import is_off
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.node_checks import CHECK, PORT, QUESTION, is_of_node_check, with_check_alone
from spiderpool.core.cloud.loadbalancer.steps import (
    GROUP,
    SetGroup,
    SetListener,
    Step,
    changes_between,
)
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, ServerGroup, Settings


def changes_check(step: Step, kind: BalancerKind) -> bool:
    """Whether a step changes what is checked of servers to which a listener leads already."""
    if not isinstance(step, SetListener):
        return False
    changed = {each.parameter for each in step.changes}
    return GROUP not in changed and any(kind.set_by.listener.get(each) in QUESTION for each in changed)


def outdated_checks(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Iterator[SetListener | SetGroup]:
    """Yields changes of such checks of a balancer that we made, and of nothing else."""
    if is_adopted(model, observed):
        return
    for listener in observed.listeners:
        if (settings := _mended_listener(listener, model, observed)) is not None:
            changes = changes_between(listener.settings, settings)
            yield SetListener(replace(listener, settings=settings), changes)
    protocols = {each.group: each.protocol for each in (*model.listeners, *observed.listeners)}
    for group in observed.groups:
        is_ours = model.kind.naming.is_part_of(group.name, model.owner) and not group.is_lent
        if not is_ours or group.name not in protocols or not _may_be_nodes(group):
            continue
        asked = _as_present(model.options, group.settings, model.kind.set_by.group)
        desired = model.kind.group(protocols[group.name], asked)
        if (settings := _mended(group.settings, desired, model.kind.set_by.group, model)) is not None:
            yield SetGroup(replace(group, settings=settings), changes_between(group.settings, settings))


def is_outdated(present: Listener, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether a present listener of a balancer that we made has such a check."""
    return not is_adopted(model, observed) and _mended_listener(present, model, observed) is not None


def outdated_meanwhile(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, steps: Iterable[Step]
) -> Iterator[SetListener | SetGroup]:
    """Yields those of them that no step of a plan makes, where the Service has the port still.

    These are listeners and groups that stay as they are until others are well or can be made.
    """
    found = [*steps]
    ports = [each for each in observed.listeners if any(each.overlaps(wanted) for wanted in model.listeners)]
    changed = {step.listener.key for step in found if isinstance(step, SetListener)}
    keys = {each.key for each in ports} - changed
    groups = {each.group for each in ports} - {step.group.name for step in found if isinstance(step, SetGroup)}
    for step in outdated_checks(model, observed):
        if (step.listener.key in keys) if isinstance(step, SetListener) else (step.group.name in groups):
            yield step


def _mended_listener(present: Listener, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Settings | None:
    """Returns the settings by which a present listener of ours has another check; None where it needs none."""
    kind, group = model.kind, observed.group(present.group)
    is_desired = any(each.key == present.key for each in model.listeners)
    is_ours = (is_desired and is_made_for(kind, model.owner, observed)) or kind.naming.is_part_of(
        present.description, model.owner
    )
    if not is_ours or (group is not None and not _may_be_nodes(group)):
        return None
    desired = kind.listener(present.protocol, _as_present(model.options, present.settings, kind.set_by.listener))
    return _mended(present.settings, desired, kind.set_by.listener, model)


def _mended(
    present: Settings, desired: Settings, sources: Mapping[str, str], model: LoadBalancerModel
) -> Settings | None:
    """Returns present settings with the desired check; None unless they ask nodes at a port that is gone."""
    ports = [parameter for parameter, suffix in sources.items() if suffix == PORT]
    usual = model.kind.annotations.known[PORT].default  # where a server gets its traffic
    # The Service's own port stands, whatever else of its check cannot be read.
    standing = {usual, str(model.health_check_port), model.options[PORT]}
    is_gone = any(present.get(each, usual) not in standing for each in ports)
    if not is_gone or is_off(present, sources) or not is_of_node_check(present, sources):
        return None
    return with_check_alone(present, desired, sources)


def _as_present(options: BalancerOptions, present: Settings, sources: Mapping[str, str]) -> BalancerOptions:
    """Returns options that ask for the desired check, and for what is there else: a part of it would be refused."""
    standing = {suffix: present[each] for each, suffix in sources.items() if each in present and suffix not in CHECK}
    given = {suffix: value for suffix, value in _readable(options).given.items() if suffix in CHECK}
    return replace(options, given={**standing, **given})


def _readable(options: BalancerOptions) -> BalancerOptions:
    """Returns options that say what is checked only where all of that is valid; parts of it could find all ill."""
    if not QUESTION & options.unread:
        return options
    return replace(options, given={key: value for key, value in options.given.items() if key not in QUESTION})


def _may_be_nodes(group: ServerGroup) -> bool:
    """Whether the servers of a group may be nodes: pods are never asked at such a port."""
    return not any(server.type == "eni" for server in group.servers)
