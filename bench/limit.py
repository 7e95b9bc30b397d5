"""Measures the upper limit that the API server sets: creating SpiderIPs by a minimal client, without an agent."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.allocation import new_record
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.kube.client import encode
from spiderpool.kube.config import load_access


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: median seconds of one call, calls per second, failed calls."""

    median: float
    rate: float
    failed: int


async def measure(call: Callable[[int], Awaitable[bool]], count: int, parallel: int) -> Figures:
    """Make ``count`` calls, at most ``parallel`` at a time. ``call`` gets a number and returns whether it succeeded."""
    slots = asyncio.Semaphore(parallel)
    seconds: list[float] = []

    async def one(index: int) -> bool:
        async with slots:
            start = time.perf_counter()
            succeeded = await call(index)
            seconds.append(time.perf_counter() - start)
            return succeeded

    begin = time.perf_counter()
    succeeded = await asyncio.gather(*(one(index) for index in range(count)))
    return Figures(statistics.median(seconds), count / (time.perf_counter() - begin), succeeded.count(False))


class RawCreator:
    """Creates SpiderIPs one after the other over one connection: the minimum cost of a record."""

    def __init__(self, kubeconfig: Path, first: int) -> None:
        self._access = load_access(kubeconfig)
        self._address = itertools.count(first)  # next address, as a number

    def __enter__(self) -> Self:
        url = urlsplit(self._access.server)
        self._connection = HTTPSConnection(url.hostname or "", url.port, context=self._access.tls, timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def create(self) -> bool:
        """Create the record of the next address. Returns whether the API server accepted it."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/{SpiderIP.KIND.path()}", spider_ip(next(self._address)), headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status == 201


class ParallelCreator:
    """Creates SpiderIPs concurrently over a pool of connections."""

    def __init__(self, kubeconfig: Path, first: int) -> None:
        self._access = load_access(kubeconfig)
        self._address = itertools.count(first)  # next address, as a number

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._access.tls, keepalive_timeout=300)
        self._session = aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def create(self, _: int) -> bool:
        """Create the record of the next address. Returns whether the API server accepted it."""
        url = f"{self._access.server}/{SpiderIP.KIND.path()}"
        async with self._session.post(url, data=spider_ip(next(self._address))) as answer:
            await answer.read()
            return answer.status == 201


def spider_ip(address: int) -> bytes:
    """A SpiderIP as the agent writes it, encoded as JSON."""
    pool = SpiderIPPool(metadata=ObjectMeta(name="limit"), spec=IPPoolSpec(subnet="10.0.0.0/8"))
    request = AllocationRequest(
        "default", f"limit-{address:06d}", "9f1d3c57-2f3a-4d5e-8c7b-000000000000", "eth0", "limit", "kube-system/x"
    )
    return encode(new_record(request, pool, address))
