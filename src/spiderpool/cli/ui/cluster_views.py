"""Nodes, subnets and refusals, from what is watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Self

import msgspec

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
from spiderpool.cli.ui.documents import Number, counts
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


class ENIDocument(msgspec.Struct, frozen=True):
    """An ENI of a node's server."""

    id: str
    mac: str
    device: str | None
    subnet: str
    primary: str
    """The server's own address."""
    addresses: int
    """Those that pods may use."""
    pools: list[str]

    @classmethod
    def of(cls, eni: ENI, pools: list[str]) -> Self:
        """That of an ENI with the pools that are made from it."""
        own = eni.primary_address
        return cls(eni.identity, eni.mac, eni.device, eni.subnet, own, len(eni.pod_addresses), pools)


class NodeDocument(msgspec.Struct, frozen=True):
    """A node with its addresses, as `top nodes` counts them; None stands for what nobody says."""

    name: str
    used: int | None
    free: int | None
    total: int | None
    shared: int | None
    ready: bool | None
    stopped: str | None
    """Why nothing of its last boot runs any more."""
    sandboxes: int | None
    answered: bool | None
    observed: str | None
    type: str | None
    """That of its server."""
    enis: list[ENIDocument]


def node_documents(watched: WatchedCluster) -> list[NodeDocument]:
    """The nodes with their addresses, their ENIs and their agents' accounts."""
    nodes = {each.name: each for each in watched.items(Node)}
    accounts = {each.name: each for each in watched.items(SpiderNode)}
    servers = watched.informer(SpiderServer)
    pools, records = watched.items(SpiderIPPool), watched.items(SpiderIP)
    reserved = reserved_by_family(watched.items(SpiderReservedIP))
    by_eni: dict[str, list[str]] = {}
    for pool in pools:
        by_eni.setdefault(pool.eni or "", []).append(pool.name)
    usages = node_table([*nodes, *accounts], pools, records, reserved).items
    documents = []
    for each in usages:
        server = servers.get(each.name)
        enis = [ENIDocument.of(eni, by_eni.get(eni.identity, [])) for eni in (server.spec.enis if server else ())]
        server_type = server.spec.instance_type if server else None
        documents.append(_node_document(each, nodes.get(each.name), accounts.get(each.name), server_type, enis))
    return documents


def _node_document(
    usage: Usage, node: Node | None, account: SpiderNode | None, server_type: str | None, enis: list[ENIDocument]
) -> NodeDocument:
    status = account.status if account else None
    return NodeDocument(
        name=usage.name,
        used=usage.used,
        free=usage.free,
        total=usage.total,
        shared=usage.shared,
        ready=node.ready if node else None,
        stopped=why_stopped(node, account) if node else None,
        sandboxes=len(account.sandboxes) if account and status else None,
        answered=account.answered if account else None,
        observed=status.observedAt if status else None,
        type=server_type,
        enis=enis,
    )


class QuotaDocument(msgspec.Struct, frozen=True):
    """The quota of a Namespace."""

    namespace: str | None
    name: str
    used: int | None
    limit: int


def quota_documents(quotas: Iterable[SpiderIPQuota]) -> list[QuotaDocument]:
    """The quotas, those first of which least is left."""
    found = [
        QuotaDocument(
            each.metadata.namespace, each.name, each.status.used if each.status else None, each.spec.addresses
        )
        for each in quotas
    ]
    return sorted(found, key=lambda each: (each.limit - (each.used or 0), each.namespace or "", each.name))


class SubnetPoolDocument(msgspec.Struct, frozen=True):
    """A pool that is cut from a subnet."""

    name: str
    application: str | None
    """``namespace/name`` of what it is made for."""
    counts: list[Number] | None
    ranges: list[str]
    """MOST_RANGES of them, and how many more there are."""

    @classmethod
    def of(cls, pool: SpiderIPPool, found: PoolMap | None) -> Self:
        """That of a pool with its map."""
        application = pool_application(pool)
        ranges = list(pool.spec.ips or ())
        more = [f"… (+{len(ranges) - MOST_RANGES})"] if len(ranges) > MOST_RANGES else []
        return cls(
            pool.name,
            f"{application.namespace}/{application.name}" if application else None,
            counts(found) if found else None,
            [*ranges[:MOST_RANGES], *more],
        )


class SubnetDocument(msgspec.Struct, frozen=True):
    """A subnet as `top subnets` has it."""

    name: str
    subnet: str
    used: int | None
    total: int | None
    percent: int | None
    pools: list[SubnetPoolDocument]


def subnet_documents(watched: WatchedCluster, maps: Mapping[str, PoolMap]) -> list[SubnetDocument]:
    """The subnets, each with the pools that are cut from it."""
    subnets, pools = watched.items(SpiderSubnet), watched.items(SpiderIPPool)
    by_name = {each.name: each for each in subnets}
    return [
        SubnetDocument(
            each.name,
            by_name[each.name].spec.subnet,
            each.used,
            each.total,
            each.percent,
            [SubnetPoolDocument.of(pool, maps.get(pool.name)) for pool in _owned(pools, each.name)],
        )
        for each in subnet_table(subnets, pools).items
    ]


def _owned(pools: Iterable[SpiderIPPool], subnet: str) -> list[SpiderIPPool]:
    label = label_value(subnet)
    found = (each for each in pools if (each.metadata.labels or {}).get(OWNER_SUBNET_LABEL) == label)
    return sorted(found, key=lambda each: each.name)


class RefusalDocument(msgspec.Struct, frozen=True):
    """An Event with which an agent says why a pod has no address, in its words."""

    at: str | None
    object: str
    reason: str
    message: str
    count: int


def refusal_documents(events: Iterable[Event], now: datetime) -> list[RefusalDocument]:
    """Refusals of agents in the last hour, the last one first."""
    recent = [each for each in events if each.reason in REFUSALS and _is_recent(each, now)]
    recent.sort(key=lambda each: each.lastTimestamp or "", reverse=True)
    return [
        RefusalDocument(each.lastTimestamp, _subject(each), each.reason, each.message, each.count or 1)
        for each in recent[:MOST_REFUSALS]
    ]


def _is_recent(event: Event, now: datetime) -> bool:
    seconds = seconds_since(event.lastTimestamp, now)
    return seconds is not None and seconds <= RECENT.total_seconds()


def _subject(event: Event) -> str:
    about = event.involvedObject
    return f"{about.kind or ''} {'/'.join(filter(None, (about.namespace, about.name)))}".strip()
