"""Servers that stay although the Service no longer asks for them: until others are well, or while these find no room.

A node answers as long as it is there. A pod may have gone, and its address may belong to another by now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.settling import by_key, is_server_well
from spiderpool.core.cloud.loadbalancer.values import BackendServer, ObservedLoadBalancer, ServerGroup, ServerPlace


def with_leaving_nodes(
    model: LoadBalancerModel,
    observed: ObservedLoadBalancer,
    unsettled: Collection[ServerPlace],
    full: Collection[str] = (),
    nodes: Collection[str] = (),
) -> LoadBalancerModel:
    """Returns a model whose groups keep nodes that are to leave until another server is well.

    Not pods. Of ``full`` groups, by their names, all nodes stay but those that make room for others, and at least one.
    ``nodes`` are the addresses of nodes, by which some kinds of groups know them.
    """
    groups = (
        _with_leaving_nodes(group, observed, unsettled, nodes, is_full=group.name in full) for group in model.groups
    )
    return replace(model, groups=tuple(groups))


def leaving(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, groups: Collection[str]
) -> Iterator[BackendServer]:
    """Yields the servers in these groups, by their names, that the Service no longer asks for."""
    for group in model.groups:
        if group.name in groups:
            yield from _leaving(group, observed)


def with_answering(
    model: LoadBalancerModel, observed: ObservedLoadBalancer, stuck: Collection[str], answering: Collection[str]
) -> LoadBalancerModel:
    """Returns a model whose ``stuck`` groups keep those servers that answer.

    These are groups that a quota keeps others out of whatever leaves them. ``answering`` are the addresses of nodes and
    pods that answer.
    """
    groups = (_with_answering(group, observed, answering) if group.name in stuck else group for group in model.groups)
    return replace(model, groups=tuple(groups))


def _leaving(group: ServerGroup, observed: ObservedLoadBalancer) -> Iterator[BackendServer]:
    desired = {server.key for server in group.servers | group.ending}
    yield from (server for key, server in by_key(observed.group(group.name)).items() if key not in desired)


def _with_leaving_nodes(
    group: ServerGroup,
    observed: ObservedLoadBalancer,
    unsettled: Collection[ServerPlace],
    nodes: Collection[str],
    *,
    is_full: bool,
) -> ServerGroup:
    present = by_key(observed.group(group.name))
    if not group.servers or any(is_server_well(server, present, unsettled, group.name) for server in group.servers):
        return group
    leaving = sorted(_leaving(group, observed), key=lambda server: server.key)
    staying = [each for each in leaving if each.weight and _answers(each, nodes)]
    if is_full:
        coming = sum(server.key not in present for server in group.servers)
        places = max(coming - (len(leaving) - len(staying)), 0)
        staying = staying[places:] or staying[-1:]
    return replace(group, ending=group.ending.union(staying))


def _with_answering(group: ServerGroup, observed: ObservedLoadBalancer, answering: Collection[str]) -> ServerGroup:
    staying = (server for server in _leaving(group, observed) if _answers(server, answering))
    return replace(group, servers=group.servers.union(staying), is_full=True)


def _answers(server: BackendServer, addresses: Collection[str]) -> bool:
    return server.type == "instance" or server.address in addresses
