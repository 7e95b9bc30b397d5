"""What stays while the ENIs of pods are not known: a port keeps the servers that it has until it can have others.

A server group none of whose pods is known would be empty: no listener moves to it, and no node leaves it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Listener, ObservedLoadBalancer, ServerGroup


def while_unresolved(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> LoadBalancerModel:
    """Returns the model as far as a balancer may follow it before the ENIs of its pods are known."""
    if not model.unresolved:
        return model
    awaited = {group.name: _awaited(group, model, observed) for group in model.groups}
    groups = {each.name: _with_nodes(each, observed) if awaited[each.name] else each for each in model.groups}
    listeners = []
    for listener in model.listeners:
        staying, group = _staying(listener, awaited.get(listener.group, ()), model, observed)
        listeners.append(staying)
        if group is not None:
            groups.setdefault(group.name, group)
    return replace(model, listeners=tuple(listeners), groups=tuple(groups.values()))


def _awaited(group: ServerGroup, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> Collection[str]:
    """Returns the addresses of pods without which a desired group would be empty; none when it would not be."""
    present = observed.group(group.name)
    is_served = present is not None and any((each.address, each.port) in group.keep for each in present.servers)
    if group.servers or group.ending or is_served:
        return ()
    return {address for address, _ in group.keep}.intersection(model.unresolved)


def _with_nodes(group: ServerGroup, observed: ObservedLoadBalancer) -> ServerGroup:
    """Returns a desired group with the nodes that are in it now."""
    present = observed.group(group.name)
    return group if present is None else replace(group, servers=_without_gone(present, ()))


def _staying(
    listener: Listener, awaited: Collection[str], model: LoadBalancerModel, observed: ObservedLoadBalancer
) -> tuple[Listener, ServerGroup | None]:
    """Returns a desired listener as it may be now, and the group at which it stays if this has servers of ours."""
    present = observed.listener(*listener.key)
    if present is None or present.group in ("", listener.group) or not awaited:
        return listener, None
    former = observed.group(present.group)
    if former is None or not (former.is_lent or model.kind.naming.is_part_of(former.name, model.owner)):
        return present, None  # nobody knows its servers
    servers = _without_gone(former, awaited)
    if not servers:
        return listener, None
    can_be_changed = present.protocol == listener.protocol and not model.kind.must_replace(present, listener)
    return replace(listener, group=former.name) if can_be_changed else present, replace(former, servers=servers)


def _without_gone(group: ServerGroup, pods: Collection[str]) -> frozenset[BackendServer]:
    """Returns the servers of a present group but for pods that answer no more: others may have their addresses."""
    return frozenset(server for server in group.servers if server.type != "eni" or server.address in pods)
