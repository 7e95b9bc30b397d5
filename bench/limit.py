"""The limit: creating objects of SpiderIP's size with nothing of ours in between, by the cheapest client there is."""

from __future__ import annotations

import asyncio
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.allocation import record
from spiderpool.core.selection import Ask
from spiderpool.kube.client import encode


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: median seconds of one call, calls per second, failed calls."""

    median: float
    rate: float
    failed: int


async def measure(call: Callable[[int], Awaitable[bool]], count: int, parallel: int) -> Figures:
    """Make ``count`` calls, at most ``parallel`` at a time; a call tells whether it succeeded."""
    gate = asyncio.Semaphore(parallel)
    seconds: list[float] = []
    failed = 0

    async def one(index: int) -> None:
        nonlocal failed
        async with gate:
            start = time.perf_counter()
            failed += not await call(index)
            seconds.append(time.perf_counter() - start)

    begin = time.perf_counter()
    await asyncio.gather(*(one(index) for index in range(count)))
    return Figures(statistics.median(seconds), count / (time.perf_counter() - begin), failed)


class RawCreator:
    """POSTs SpiderIPs over kept connections, answers unread but for their status."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def create(self, address: int) -> bool:
        """Create the record of one address; whether the server took it."""
        async with self._session.post(
            self._url, data=body(address), headers={"Content-Type": "application/json"}
        ) as answer:
            await answer.read()
            return answer.status == 201


def body(address: int) -> bytes:
    """A SpiderIP as the agent writes it."""
    pool = SpiderIPPool(metadata=ObjectMeta(name="limit"), spec=IPPoolSpec(subnet="10.0.0.0/8"))
    ask = Ask(
        "default", f"limit-{address:06d}", "9f1d3c57-2f3a-4d5e-8c7b-000000000000", "eth0", "limit", "kube-system/x"
    )
    return encode(record(ask, pool, address))


def session(kubeconfig: Path, parallel: int) -> tuple[aiohttp.ClientSession, str]:
    """A session with the credentials of a kubeconfig of the lab, and the URL of SpiderIPs."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cafile=_file(kubeconfig, cluster, "certificate-authority"))
    context.load_cert_chain(_file(kubeconfig, user, "client-certificate"), _file(kubeconfig, user, "client-key"))
    connector = aiohttp.TCPConnector(limit=parallel, ssl=context)
    return aiohttp.ClientSession(connector=connector), f"{cluster['server']}/{SpiderIP.KIND.path()}"


def _file(kubeconfig: Path, section: dict[str, str], key: str) -> str:
    """A file that a kubeconfig names, or its embedded data written beside it."""
    if key in section:
        return section[key]
    import base64

    path = kubeconfig.with_name(f"{kubeconfig.name}.{key}.pem")
    path.write_bytes(base64.b64decode(section[f"{key}-data"]))
    return str(path)
