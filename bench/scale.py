"""Measures the leaders of a large cluster: how long their event loop is blocked, and how soon they begin.

The leaders of spiderpool-controller and spiderpool-cloud run as they are, each in a process of its own; API server and
cloud are pretended. A blocked loop renews no Lease: a leader whose loop is blocked for long enough loses it. Blocks are
CPU time of the loop's thread between two turns, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table
from tests.support.api_server import ApiServer

from bench import far_end
from bench.scale_cluster import DEVICE, NAMESPACE, Size, cluster, eni_of, node, node_name, pool_in_use
from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.address_resources import AdvertisingNode
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import Object
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cloud.provider import CloudServer, Quota, RegisteredENI
from spiderpool.cloud.registry import CloudConnection
from spiderpool.cloudcontroller.main import CloudLeader
from spiderpool.controller.certificates import Certificates
from spiderpool.controller.main import ControllerLeader
from spiderpool.controller.pools import SENT_PER_SECOND, status_of
from spiderpool.controller.registration import hosts
from spiderpool.core.network.address_requests import AddressRequirement
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess
from spiderpool.settings import cloud_settings, controller_settings
from spiderpool.settings.source import SettingsSource
from spiderpool.telemetry import configure

CONTROLLER_KINDS: tuple[type[Object], ...] = (SpiderIPPool, SpiderIP, Pod, Node, SpiderEndpoint)
CLOUD_KINDS: tuple[type[Object], ...] = (Node, SpiderIPPool, SpiderIP)
CONF = {
    "enableIPv4": True,
    "enableIPv6": False,
    "cloud": {"provider": "alibaba", "alibaba": {"assign": True}, "loadBalancers": {"enabled": False}},
}
START_LIMIT = 3600.0
"""Seconds that a leader gets to begin: more than it would have in a cluster, to show the figure."""
LOST = 10
"""Nodes that are lost one after the other, so that the longest block is that of one."""
VIEW = 2_000
"""Addresses of the pool whose status is measured."""
MOST_BLOCK, MOST_START = 0.1, 2.0
"""The claims: seconds of blocking, and the start as a multiple of the list."""


class LoopWatch:
    """The longest blocks of the running event loop, with the stack in the middle of the longest one."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.stack = ""
        self._seen = ""  # stack during the present turn
        self._turn = (0.0, 0.0)  # wall time and CPU time at the last turn

    async def run(self) -> None:
        """Look every millisecond until cancelled."""
        sampler = threading.Thread(target=self._sample, args=(threading.get_ident(),), daemon=True)
        self._next()
        sampler.start()
        while True:
            await asyncio.sleep(0.001)
            seen = self._seen
            if (block := self._next()) > self.longest:
                self.longest, self.stack = block, seen

    def reset(self) -> None:
        """Forget what was seen."""
        self.longest, self.stack = 0.0, ""

    def _next(self) -> float:
        before = self._turn[1]
        self._turn, self._seen = (time.perf_counter(), time.thread_time()), ""
        return self._turn[1] - before

    def _sample(self, thread: int) -> None:
        while True:
            time.sleep(0.02)
            if time.perf_counter() - self._turn[0] > MOST_BLOCK / 2:
                frames = traceback.extract_stack(sys._current_frames()[thread])  # the only way
                self._seen = " ← ".join(
                    f"{each.filename.rpartition('/')[2]}:{each.lineno} {each.name}" for each in frames[:-6:-1]
                )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of this process."""

    now: int
    peak: int

    @classmethod
    def read(cls) -> Memory:
        """As the kernel says (proc_pid_status(5))."""
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return cls(*(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))

    @staticmethod
    def forget_peak() -> None:
        """Let the peak begin now."""
        Path("/proc/self/clear_refs").write_text("5")


@dataclass(slots=True)
class Figures:
    """What was measured of one leader."""

    listing: float = 0.0
    """Seconds."""
    start: float = 0.0
    """Seconds."""
    memory: Memory = Memory(0, 0)
    advertising: int | None = None
    """Nodes that advertise free addresses; None where they should not."""
    blocks: list[tuple[str, float, str]] = field(default_factory=list)
    """(phase, seconds of the longest block, where)"""


class QuietCloud:
    """A cloud that has what the cluster reports, and in which nothing ever changes."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def parse_provider_id(self, text: str) -> tuple[str, str] | None:
        """``region.instance``."""
        region, _, instance = text.partition(".")
        return region, instance

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        """All that are asked for."""
        return {
            each: CloudServer(each, "ecs.g7.4xlarge", f"{region}-a", "Running", stopped=False) for each in identities
        }

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        """The ENIs of pods, in pages as the real one."""
        found: dict[str, RegisteredENI] = {}
        for identity in sorted(identities):
            if len(found) % 100 == 0:
                await asyncio.sleep(0)
            if identity.endswith("-1"):
                found[identity] = eni_of(int(identity.split("-")[1]), self._size)
        return found

    async def quota(self, region: str, instance_type: str) -> Quota:
        """As many as there are."""
        return Quota(200, 0)

    async def free_addresses(self, region: str, vswitch: str) -> int:
        """Enough."""
        return 1_000_000

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        """Never called: every ENI has its free addresses."""
        raise AssertionError(f"{count} addresses requested for {eni}")

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        """Never called."""
        raise AssertionError(f"{addresses} given back")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    size: Size
    url: str
    calm: float
    """Seconds to look after each phase."""


async def measure(plan: Plan, kinds: Iterable[type[Object]], leader: Callable[[Client], object]) -> Figures:
    """List, then lead, then heartbeats of all nodes, then 50 nodes that are lost and come back."""
    figures, watch = Figures(), LoopWatch()
    async with (
        Client(ClusterAccess(plan.url, ssl.create_default_context(), ClientCredentials())) as client,
        asyncio.TaskGroup() as group,
    ):
        watching = group.create_task(watch.run())
        begin = time.perf_counter()
        lists = await asyncio.gather(*(client.list_at(kind, timeout=START_LIMIT) for kind in kinds))
        figures.listing = time.perf_counter() - begin
        for _, objects in lists:
            while objects:  # to free all of them takes longer than a leader may be blocked
                del objects[-1000:]
                await asyncio.sleep(0)
        watch.reset()
        Memory.forget_peak()
        await _lead(plan, figures, watch, leader(client))
        figures.memory = Memory.read()
        if plan.size.requested:
            nodes = await client.list(AdvertisingNode, timeout=START_LIMIT)
            figures.advertising = sum(bool(each.status.allocatable) for each in nodes)
        watching.cancel()
    return figures


async def _lead(plan: Plan, figures: Figures, watch: LoopWatch, leader: object) -> None:
    async with _running(leader):
        begin = time.perf_counter()
        while leader.not_ready_reason:  # type: ignore[attr-defined]  # both leaders have it
            await asyncio.sleep(0.01)
        figures.start = time.perf_counter() - begin
        _note(figures, watch, "start")
        await asyncio.sleep(plan.calm)
        _note(figures, watch, "the first look")
        await _send(plan, range(plan.size.nodes))
        await asyncio.sleep(plan.calm)
        _note(figures, watch, "a heartbeat of each node")
        for ready in (False, True):
            for number in range(LOST):
                await _send(plan, [number], ready=ready)
        await asyncio.sleep(plan.calm / 2)
        _note(figures, watch, f"{LOST} nodes lost and back one by one")
        for ready in (False, True):
            await _send(plan, range(0, plan.size.nodes, max(plan.size.nodes // 50, 1)), ready=ready)
            await asyncio.sleep(plan.calm / 2)
        _note(figures, watch, "50 nodes lost and back")


async def _send(plan: Plan, numbers: Sequence[int], *, ready: bool = True) -> None:
    """Write Nodes as their kubelets would, over some seconds."""
    async with aiohttp.ClientSession() as session:
        for start in range(0, len(numbers), 100):
            nodes = [node(number, plan.size, ready=ready) for number in numbers[start : start + 100]]
            body = [("nodes", msgspec.to_builtins(each)) for each in nodes]
            async with session.post(f"{plan.url}/bench/events", json=body):
                await asyncio.sleep(0.1)


@asynccontextmanager
async def _running(leader: object) -> AsyncIterator[None]:
    task = asyncio.create_task(leader.run())  # type: ignore[attr-defined]
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _note(figures: Figures, watch: LoopWatch, phase: str) -> None:
    figures.blocks.append((phase, watch.longest, watch.stack))
    watch.reset()


def controller(plan: Plan) -> Figures:
    """The figures of spiderpool-controller."""
    configure("error")
    network = f"{NAMESPACE}/ipvlan-{DEVICE}"
    advertising = {"SPIDERPOOL_NODE_ADDRESS_RESOURCES": "advertise", "MULTUS_CLUSTER_NETWORK": network}
    source = SettingsSource(advertising if plan.size.requested else {}, CONF)
    settings = replace(controller_settings(source), gc_full_interval=plan.calm / 2)

    async def run() -> Figures:
        async with Client(ClusterAccess(plan.url, ssl.create_default_context(), ClientCredentials())) as client:
            certificates = Certificates(client, settings.common.namespace, hosts(settings))
            task = asyncio.create_task(certificates.run())
            while certificates.trusted is None:
                await asyncio.sleep(0.01)
            try:
                return await measure(
                    plan, CONTROLLER_KINDS, lambda client: ControllerLeader(client, settings, certificates)
                )
            finally:
                task.cancel()

    return asyncio.run(run())


def cloud(plan: Plan) -> Figures:
    """The figures of spiderpool-cloud."""
    configure("error")
    settings = cloud_settings(SettingsSource({}, CONF))
    connection = CloudConnection(QuietCloud(plan.size), lambda region, vpc: None)  # type: ignore[arg-type, return-value]
    return asyncio.run(measure(plan, CLOUD_KINDS, lambda client: CloudLeader(client, settings, connection)))


async def first_lists() -> tuple[int, int]:
    """How many lists an agent's caches begin with, and how many of them come from etcd; each is followed by a watch."""
    ours = (SpiderIP, SpiderIPPool, SpiderReservedIP, SpiderIPQuota, SpiderCoordinator)
    kinds = (*ours, Pod, Node, Namespace, NetworkAttachmentDefinition)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        cache = ClusterCache(client, node_name(0))
        task = asyncio.create_task(cache.run())
        await cache.synced(START_LIMIT)
        async with asyncio.timeout(START_LIMIT):  # for what agents do not wait for
            while len({plural for plural, _ in server.list_queries}) < len(kinds):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        queries = [query for _, query in server.list_queries]
    return len(queries), sum("resourceVersion" not in query for query in queries)


def status_length() -> int:
    """Characters of the status of a pool of which so many addresses are in use."""
    pool, records = pool_in_use(VIEW)
    return len(msgspec.json.encode(status_of(pool, records, datetime.now(UTC))))


def agent_rows() -> Iterator[tuple[str, str]]:
    """What each agent costs the API server, and what a large pool costs the agents."""
    lists, from_etcd = asyncio.run(first_lists())
    yield "watches of an agent's caches", f"{lists}; of the first lists {from_etcd} from etcd"
    length = status_length()
    yield f"status of a pool with {VIEW:,} addresses in use", f"{length / 1000:.0f} kB"
    yield "writes of that status, at most", f"{SENT_PER_SECOND / length:.2f}/s"


@contextmanager
def serving(size: Size) -> Iterator[str]:
    """A pretend API server in a process of its own."""
    context = get_context("spawn")
    ready, sender = context.Pipe(duplex=False)
    process = context.Process(target=far_end.serve, args=(partial(cluster, size), sender), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.recv()}"
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """Measure and print; exit status 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--addresses", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="to look after each phase")
    parser.add_argument("--only", choices=["controller", "cloud"], help="one of the two leaders")
    parser.add_argument("--advertise", action="store_true", help="nodes advertise free addresses, pods request them")
    parser.add_argument("--where", action="store_true", help="print where the longest blocks were")
    given = parser.parse_args()
    requested = AddressRequirement(f"{NAMESPACE}/ipvlan-{DEVICE}").resource if given.advertise else ""
    size, holds = Size(given.nodes, given.addresses, requested), True
    console = Console(width=150)
    for name, leader in (("controller", controller), ("cloud", cloud)):
        if given.only in (None, name):
            with serving(size) as url, ProcessPoolExecutor(1, get_context("spawn")) as pool:
                figures = pool.submit(leader, Plan(size, url, given.seconds)).result()
            table = Table(f"spiderpool-{name}", "measured", "claim", "holds", *(["where"] if given.where else []))
            for row in rows(figures, given.where):
                table.add_row(*row)
                holds = holds and row[3] != "NO"
            console.print(table)
    table = Table("spiderpool-agent", "measured")
    for each in agent_rows():
        table.add_row(*each)
    console.print(table)
    sys.exit(0 if holds else 1)


def rows(figures: Figures, where: bool) -> Iterator[tuple[str, ...]]:
    """The cells of the table."""
    ratio = figures.start / figures.listing
    start = f"{figures.start:.1f} s, list {figures.listing:.1f} s: {ratio:.2f}"
    yield (
        "start",
        start,
        f"< {MOST_START:.0f} × list",
        "yes" if ratio < MOST_START else "NO",
        *([""] if where else []),
    )
    memory = f"{figures.memory.now / 1e6:.0f} MB, at most {figures.memory.peak / 1e6:.0f} MB"
    yield ("memory", memory, "", "", *([""] if where else []))
    if figures.advertising is not None:
        yield ("nodes that advertise addresses", f"{figures.advertising:,}", "", "", *([""] if where else []))
    for phase, block, stack in figures.blocks:
        held = "yes" if block <= MOST_BLOCK else "NO"
        yield (
            f"longest block: {phase}",
            f"{block * 1e3:.0f} ms",
            f"<= {MOST_BLOCK * 1e3:.0f} ms",
            held,
            *([stack] if where else []),
        )


if __name__ == "__main__":
    main()
