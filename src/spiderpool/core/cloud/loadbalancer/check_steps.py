"""Changes of health checks: which come first, and which are made even where all else but the servers must wait.

A check may ask nodes at a port that the Service no longer has: Kubernetes takes it away when externalTrafficPolicy
becomes Cluster. By that check no server would stay well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.adoption import is_adopted
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.node_checks import PORT, QUESTION, is_of_node_check, with_check_alone
from spiderpool.core.cloud.loadbalancer.steps import (
    GROUP,
    ParameterChange,
    SetGroup,
    SetListener,
    Step,
    changes_between,
)
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, Settings


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
    sources = model.kind.set_by
    for listener in model.listeners:
        present = observed.listener(*listener.key)
        if present is None or present.protocol != listener.protocol:
            continue
        if changes := _changes(present.settings, listener.settings, sources.listener):
            settings = with_check_alone(present.settings, listener.settings, sources.listener)
            yield SetListener(replace(present, settings=settings), changes)
    for group in model.groups:
        former = observed.group(group.name)
        if former and (changes := _changes(former.settings, group.settings, sources.group)):
            settings = with_check_alone(former.settings, group.settings, sources.group)
            yield SetGroup(replace(former, settings=settings), changes)


def _changes(present: Settings, desired: Settings, sources: Mapping[str, str]) -> tuple[ParameterChange, ...]:
    """Returns the changes of a check that asks nodes at a port that is not the desired one."""
    ports = [parameter for parameter, suffix in sources.items() if suffix == PORT and parameter in desired]
    is_outdated = any(present.get(each, desired[each]) != desired[each] for each in ports)
    if not is_outdated or not is_of_node_check(present, sources):
        return ()
    return changes_between(present, with_check_alone(present, desired, sources))
