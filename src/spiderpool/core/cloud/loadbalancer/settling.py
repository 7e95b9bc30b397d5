"""What waits until the balancer has found a server well, which it does after some health checks.

Whether it has is not asked: a server that it has had for as long as its checks take counts as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
    ServerKey,
    ServerPlace,
)


def waits(model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Collection[ServerPlace]) -> bool:
    """Whether a server or a listener remains as it is only until another server has been found well.

    This is a matter of time. ``observed`` is what the plan was made for.
    """
    ends = any(
        group.ending and any((group.name, server.key) in unsettled for server in group.servers)
        for group in model.groups
    )
    return ends or bool(staying(model, observed, unsettled))


def is_well(model: LoadBalancerModel, settled: Collection[ServerPlace]) -> bool:
    """Whether a balancer has found well, by now, a server of each group to which the model wants connections sent.

    ``settled`` are the servers that it is known to have had, behind a listener, for as long as its checks take. Not
    while the ENI of a pod is unknown: the balancer in whose place this one comes may have it as a server.
    """
    return not model.unresolved and all(
        any((group.name, server.key) in settled for server in wanted)
        for group in _led_to(model)
        if (wanted := _used(group))
    )


def serves(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether a balancer, as it was read, forwards each port to a server of the Service, where that has any.

    So its address may be published whatever else is refused.
    """
    forwards = all(_is_served(listener, model, observed) for listener in model.listeners if model.manages_listeners)
    has_servers = all(_has_any(_used(group), observed.group(group.name)) for group in model.groups)
    return forwards and has_servers and not groups_without_listener(model, observed)


def groups_without_listener(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> list[str]:
    """Returns the groups with servers to which no listener of a user's leads who keeps them himself."""
    if model.manages_listeners:
        return []
    in_use = groups_in_use(observed.listeners)
    return [group.name for group in _led_to(model) if _used(group) and group.name not in in_use]


def groups_in_use(listeners: Iterable[Listener]) -> frozenset[str]:
    """Returns the groups to which listeners forward connections: no check of another group's servers counts."""
    return frozenset(listener.group for listener in listeners if listener.running and listener.group)


def _led_to(model: LoadBalancerModel) -> list[ServerGroup]:
    """Returns the groups to which listeners are to lead: another controller made some for ports that redirect."""
    wanted = {listener.group for listener in model.listeners}
    return [group for group in model.groups if group.name in wanted]


def _used(group: ServerGroup) -> Collection[BackendServer]:
    """Returns the servers to which connections are to be sent; where there are no others, those that end."""
    return [server for server in group.servers if server.weight] or group.ending


def _is_served(wanted: Listener, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether a listener is there and leads where it should, or still to a former group of the Service with servers."""
    present = observed.listener(*wanted.key)
    if present is None or not present.running or present.protocol != wanted.protocol:
        return False
    group = observed.group(present.group)
    is_ours = group is not None and model.kind.naming.is_part_of(group.name, model.owner)
    return present.group == wanted.group or (is_ours and _serves(present, model, observed))


def _has_any(wanted: Collection[BackendServer], group: ServerGroup | None) -> bool:
    present = {key for key, server in by_key(group).items() if server.weight}
    others = group.others if group else frozenset()
    return not wanted or any(server.key in present | others for server in wanted)


def staying(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, unsettled: Collection[ServerPlace]
) -> list[Listener]:
    """Returns the present listeners that stay at their group until a server of the desired one is well."""
    groups = {group.name: group for group in model.groups}
    found: list[Listener] = []
    for listener in model.listeners if model.manages_listeners else ():
        present, group = observed.listener(*listener.key), groups.get(listener.group)
        if present is None or group is None or present.group == group.name or not _serves(present, model, observed):
            continue
        there, is_served = by_key(observed.group(group.name)), any(server.weight for server in group.servers)
        if is_served and not any(is_server_well(server, there, unsettled, group.name) for server in group.servers):
            found.append(present)
    return found


def _serves(listener: Listener, model: LoadBalancerModel, observed: ObservedLoadBalancer) -> bool:
    """Whether a present listener forwards to servers, as far as is known: of groups not ours no servers are known."""
    group = observed.group(listener.group)
    is_ours = group is not None and model.kind.naming.is_part_of(group.name, model.owner)
    return bool(listener.group) and (group is None or not is_ours or any(each.weight for each in group.servers))


def is_server_well(
    server: BackendServer,
    present: Mapping[ServerKey, BackendServer],
    unsettled: Collection[ServerPlace],
    group: str,
) -> bool:
    """Whether the balancer sends connections to a server by now, as far as can be known."""
    observed = present.get(server.key)
    return observed is not None and observed.weight > 0 and (group, server.key) not in unsettled


def by_key(group: ServerGroup | None) -> dict[ServerKey, BackendServer]:
    """Returns the servers of a group by what identifies them; none where there is no group."""
    return {server.key: server for server in group.servers} if group else {}
