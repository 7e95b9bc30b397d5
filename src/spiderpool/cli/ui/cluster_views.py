"""Nodes, subnets and refusals, from what is watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.event_reasons import ADDRESS_IN_CONFLICT, ADDRESS_REFUSED
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import ENI, SpiderServer
from spiderpool.api.subnet import OWNER_SUBNET_LABEL, SpiderSubnet
from spiderpool.cli.printing import seconds_since
from spiderpool.cli.top import Usage, node_table, subnet_table
from spiderpool.cli.ui.documents import counts
from spiderpool.cli.ui.pool_map import PoolMap
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.cli.usage import reserved_by_family
from spiderpool.core.ipam.applications import pool_application
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.core.labels import label_value

MOST_RANGES = 8
"""Ranges of a pool that the list of subnets shows."""
RECENT = timedelta(hours=1)
"""How long refusals are shown."""
MOST_REFUSALS = 200
REFUSALS = frozenset((ADDRESS_REFUSED.name, ADDRESS_IN_CONFLICT.name))
"""Reasons of Events with which an agent says why a pod has no address."""


def node_documents(watched: WatchedCluster) -> list[dict[str, Any]]:
    """The nodes with their addresses, as `top nodes` counts them, their ENIs and their agents' accounts."""
    nodes = {each.name: each for each in watched.items(Node)}
    accounts = {each.name: each for each in watched.items(SpiderNode)}
    pools, records = watched.items(SpiderIPPool), watched.items(SpiderIP)
    reserved = reserved_by_family(watched.items(SpiderReservedIP))
    by_eni: dict[str, list[str]] = {}
    for pool in pools:
        by_eni.setdefault(pool.eni or "", []).append(pool.name)
    usages = node_table([*nodes, *accounts], pools, records, reserved).items
    return [
        _node_document(each, nodes.get(each.name), accounts.get(each.name))
        | _enis(watched.informer(SpiderServer).get(each.name), by_eni)
        for each in usages
    ]


def _node_document(usage: Usage, node: Node | None, account: SpiderNode | None) -> dict[str, Any]:
    status = account.status if account else None
    return {
        "name": usage.name,
        "used": usage.used,
        "free": usage.free,
        "total": usage.total,
        "shared": usage.shared,
        "ready": node.ready if node else None,
        "stopped": why_stopped(node, account) if node else None,
        "sandboxes": None if status is None else len(status.sandboxes or ()),
        "answered": account.answered if account else None,
        "observed": status.observedAt if status else None,
    }


def _enis(server: SpiderServer | None, by_eni: Mapping[str, list[str]]) -> dict[str, Any]:
    if server is None:
        return {"type": None, "enis": []}
    return {"type": server.spec.instance_type, "enis": [_eni(each, by_eni) for each in server.spec.enis]}


def _eni(eni: ENI, by_eni: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        "id": eni.identity,
        "mac": eni.mac,
        "device": eni.device,
        "subnet": eni.subnet,
        "primary": eni.primary_address,
        "addresses": len(eni.pod_addresses),
        "pools": by_eni.get(eni.identity, []),
    }


def quota_documents(quotas: Iterable[SpiderIPQuota]) -> list[dict[str, Any]]:
    """The quotas, those first of which least is left."""
    found = [
        {
            "namespace": each.metadata.namespace,
            "name": each.name,
            "used": each.status.used if each.status else None,
            "limit": each.spec.addresses,
        }
        for each in quotas
    ]
    return sorted(found, key=lambda each: (each["limit"] - (each["used"] or 0), each["namespace"], each["name"]))


def subnet_documents(watched: WatchedCluster, maps: Mapping[str, PoolMap]) -> list[dict[str, Any]]:
    """The subnets as `top subnets` has them, each with the pools that are cut from it."""
    subnets, pools = watched.items(SpiderSubnet), watched.items(SpiderIPPool)
    by_name = {each.name: each for each in subnets}
    return [
        {
            "name": each.name,
            "subnet": by_name[each.name].spec.subnet,
            "used": each.used,
            "total": each.total,
            "percent": each.percent,
            "pools": [_pool_of_subnet(pool, maps.get(pool.name)) for pool in _owned(pools, each.name)],
        }
        for each in subnet_table(subnets, pools).items
    ]


def _owned(pools: Iterable[SpiderIPPool], subnet: str) -> list[SpiderIPPool]:
    label = label_value(subnet)
    found = (each for each in pools if (each.metadata.labels or {}).get(OWNER_SUBNET_LABEL) == label)
    return sorted(found, key=lambda each: each.name)


def _pool_of_subnet(pool: SpiderIPPool, found: PoolMap | None) -> dict[str, Any]:
    application = pool_application(pool)
    ranges = list(pool.spec.ips or ())
    more = [f"… (+{len(ranges) - MOST_RANGES})"] if len(ranges) > MOST_RANGES else []
    return {
        "name": pool.name,
        "application": f"{application.namespace}/{application.name}" if application else None,
        "counts": counts(found) if found else None,
        "ranges": [*ranges[:MOST_RANGES], *more],
    }


def refusal_documents(events: Iterable[Event], now: datetime) -> list[dict[str, Any]]:
    """Refusals of agents in the last hour, the last one first, in their own words."""
    recent = [each for each in events if each.reason in REFUSALS and _is_recent(each, now)]
    recent.sort(key=lambda each: each.lastTimestamp or "", reverse=True)
    return [
        {
            "at": each.lastTimestamp,
            "object": _subject(each),
            "reason": each.reason,
            "message": each.message,
            "count": each.count or 1,
        }
        for each in recent[:MOST_REFUSALS]
    ]


def _is_recent(event: Event, now: datetime) -> bool:
    seconds = seconds_since(event.lastTimestamp, now)
    return seconds is not None and seconds <= RECENT.total_seconds()


def _subject(event: Event) -> str:
    about = event.involvedObject
    return f"{about.kind or ''} {'/'.join(filter(None, (about.namespace, about.name)))}".strip()
