"""The questions of the page, each answered by the functions of the other commands, from what is watched or read now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.connection import Cluster
from spiderpool.cli.history import HistorySubject, history_table, look_back
from spiderpool.cli.installation import DEFAULT_NAMESPACE
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.status import read_status
from spiderpool.cli.ui import cluster_views, documents
from spiderpool.cli.ui.addresses import look_at_address
from spiderpool.cli.ui.map_keeping import MapKeeper
from spiderpool.cli.ui.pod_path import look_at_pod
from spiderpool.cli.ui.recent_changes import read_forecast, read_time_line
from spiderpool.cli.ui.searching import SearchInput, search
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.cli.usage import Reserved, reserved_by_family
from spiderpool.core.addresses import canonical
from spiderpool.errors import SpiderpoolError

AT_A_TIME = 2
"""Answers at a time for which something is read of the API server; others wait."""
MOST_QUERY = 253
"""Characters of a search."""
MOST_HOURS = 24 * 7
"""The longest time line, in hours: the history of a large cluster is not read for longer."""
STATUS_SECONDS, FORECAST_SECONDS = 5.0, 60.0
"""Seconds for which an answer serves all pages that are open: what it is made from is much."""

Read = Callable[[Cluster], Awaitable[Any]]


def as_json(value: Any, status: int = 200) -> web.Response:
    """An answer."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


class Answers:
    """The routes below /api/. ``namespace`` is that of Spiderpool; None: where its leader's Lease is."""

    def __init__(
        self, cluster: Cluster, watched: WatchedCluster, keeper: MapKeeper, namespace: str | None = None
    ) -> None:
        self._cluster = cluster
        self._watched = watched
        self._keeper = keeper
        self._namespace = namespace
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._remembered: dict[str, tuple[float, bytes]] = {}  # question → until when it serves all pages, the answer

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes: Mapping[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/api/status": self._status,
            "/api/pools": self._pools,
            "/api/pools/{name}": self._pool,
            "/api/addresses/{address}": self._address,
            "/api/history/{address}": self._history,
            "/api/nodes": self._nodes,
            "/api/subnets": self._subnets,
            "/api/search": self._search,
            "/api/pods/{namespace}/{name}": self._pod,
            "/api/changes": self._changes,
            "/api/refusals": self._refusals,
            "/api/growth": self._growth,
        }
        for path, handler in routes.items():
            router.add_get(path, handler, allow_head=False)

    # --- from what is watched

    def _reserved(self) -> Reserved:
        return reserved_by_family(self._watched.items(SpiderReservedIP))

    async def _pools(self, _: web.Request) -> web.Response:
        pools = documents.pool_documents(self._watched.items(SpiderIPPool), self._reserved(), self._keeper.maps)
        return as_json({"pools": pools})

    async def _pool(self, request: web.Request) -> web.Response:
        found = self._keeper.maps.get(request.match_info["name"])
        if found is None:
            return as_json({"error": f"there is no pool {request.match_info['name']}, or it may not be read"}, 404)
        return as_json(documents.MapDocument.of(found, self._keeper.revision))

    async def _nodes(self, _: web.Request) -> web.Response:
        quotas = cluster_views.quota_documents(self._watched.items(SpiderIPQuota))
        return as_json({"nodes": cluster_views.node_documents(self._watched), "quotas": quotas})

    async def _subnets(self, _: web.Request) -> web.Response:
        return as_json({"subnets": cluster_views.subnet_documents(self._watched, self._keeper.maps)})

    async def _refusals(self, _: web.Request) -> web.Response:
        found = cluster_views.refusal_documents(self._watched.items(Event), datetime.now(UTC))
        return as_json({"refusals": found})

    async def _search(self, request: web.Request) -> web.Response:
        watched = self._watched
        objects = SearchInput(
            watched.items(SpiderIP),
            watched.informer(SpiderIP).get,
            watched.items(SpiderIPPool),
            watched.items(Node),
            watched.items(SpiderNode),
            watched.items(SpiderServer),
        )
        query = request.query.get("q", "")[:MOST_QUERY]
        return as_json(await asyncio.to_thread(search, objects, query))

    # --- from what is read now

    async def _read(self, work: Read, remember: str = "", seconds: float = 0.0) -> web.Response:
        """What a read of the cluster gives, with the sentences about what may not be read."""
        cluster = Cluster(self._cluster.client, self._cluster.timeout, self._cluster.namespace)
        try:
            async with self._turns:
                if (known := self._remembered.get(remember)) and known[0] > asyncio.get_running_loop().time():
                    return web.Response(body=known[1], content_type="application/json")
                found = await work(cluster)
        except SpiderpoolError as error:
            return as_json({"error": error.message}, 502)
        answer = as_json({"answer": found, "leftOut": cluster.left_out})
        if remember and isinstance(answer.body, bytes):
            self._remembered[remember] = (asyncio.get_running_loop().time() + seconds, answer.body)
        return answer

    async def _status(self, _: web.Request) -> web.Response:
        return await self._read(lambda cluster: read_status(cluster, self._namespace), "status", STATUS_SECONDS)

    async def _address(self, request: web.Request) -> web.Response:
        address = _canonical(request)
        return await self._read(lambda cluster: look_at_address(cluster, self._watched, address, datetime.now(UTC)))

    async def _history(self, request: web.Request) -> web.Response:
        address, now = _canonical(request), datetime.now(UTC)

        async def work(cluster: Cluster) -> Any:
            return history_table(await look_back(cluster, HistorySubject.address(address), now), None, now)

        return await self._read(work)

    async def _pod(self, request: web.Request) -> web.Response:
        key = f"{request.match_info['namespace']}/{request.match_info['name']}"
        options = PolicyOptions(self._namespace or DEFAULT_NAMESPACE, None, None)
        pools = self._watched.items(SpiderIPPool)
        return await self._read(lambda cluster: look_at_pod(cluster, key, pools, options))

    async def _changes(self, request: web.Request) -> web.Response:
        text = request.query.get("hours", "6")
        hours = min(max(int(text[:6]), 1), MOST_HOURS) if text.isascii() and text.isdigit() else 6
        return await self._read(lambda cluster: read_time_line(cluster, hours, datetime.now(UTC)))

    async def _growth(self, _: web.Request) -> web.Response:
        pools, reserved = self._watched.items(SpiderIPPool), self._reserved()
        return await self._read(
            lambda cluster: read_forecast(cluster, pools, reserved, datetime.now(UTC)), "growth", FORECAST_SECONDS
        )


def _canonical(request: web.Request) -> str:
    try:
        return canonical(request.match_info["address"])
    except ValueError as error:
        raise web.HTTPNotFound(text="that is no address\n") from error
