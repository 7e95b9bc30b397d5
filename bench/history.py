"""Measures what the history of addresses costs: memory and time of the controller, objects of the API server.

The writer runs as it is, against a pretend API server in a process of its own; the SpiderIPs are put into its cache.
Blocks are CPU time of the event loop's thread between two turns.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context

from bench import far_end
from bench.scale import LoopWatch, Memory
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.pool_growth import growth_of_pools
from spiderpool.controller.history import HistoryOptions, HistoryWriter
from spiderpool.core.addresses import from_int
from spiderpool.core.ipam.history import moment, read
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess
from spiderpool.kube.histories import parts
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import configure

FIRST = int.from_bytes(bytes((10, 0, 0, 0)))
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of the names that Kubernetes makes."""
OBJECTS = 256
INTERVAL = 0.2
"""Seconds between two writes, so that the measurement does not take as long as the real ones."""
ROUND = 500
"""Pods that are replaced between two writes."""


def nothing() -> Iterator[Object]:
    """The objects of the API server at first."""
    return iter(())


@dataclass(slots=True)
class Population:
    """SpiderIPs with names as Kubernetes makes them."""

    nodes: int
    addresses: int
    random: random.Random
    version: int = 0

    def record(self, number: int) -> SpiderIP:
        """A new record of an address, of a new pod."""
        self.version += 1
        name, node = from_int(FIRST + number, 4), f"node-{number % self.nodes:05d}"
        suffix = "".join(self.random.choices(LETTERS, k=15))
        pod = f"app-{self.random.randrange(300)}-{suffix[:10]}-{suffix[10:]}"
        uid, own = (str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(2))
        spec = IPSpec(f"{name}/8", f"{node}-eth1", node, f"team-{number % 40}", pod, uid, "eth0")
        meta = ObjectMeta(name=name, uid=own, resourceVersion=str(self.version), creationTimestamp=moment(time.time()))
        return SpiderIP(metadata=meta, spec=spec)


@contextmanager
def serving() -> Iterator[str]:
    """An empty pretend API server in a process of its own."""
    context = get_context("spawn")
    ready, sender = context.Pipe(duplex=False)
    process = context.Process(target=far_end.serve, args=(nothing, sender), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.recv()}"
    finally:
        process.terminate()
        process.join()


@asynccontextmanager
async def writing(client: Client, ips: Informer[SpiderIP]) -> AsyncIterator[HistoryWriter]:
    """A leader's writer."""
    writer = HistoryWriter(client, ips, Informer(client, Pod), HistoryOptions(OBJECTS, INTERVAL))
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _until_written(writer: HistoryWriter) -> None:
    while not writer._is_compared or writer._waiting:
        await asyncio.sleep(0.05)


async def _stored(client: Client) -> tuple[int, int, int]:
    """Objects, their rows, and characters of data."""
    found = [(part.spec.rows, len(part.spec.data)) async for _, part, _ in parts(client, timeout=60.0)]
    return len(found), sum(rows for rows, _ in found), sum(size for _, size in found)


async def measure(nodes: int, addresses: int, replaced: int, url: str) -> None:
    """Print the figures of one leader after the other."""
    world = Population(nodes, addresses, random.Random(1))
    async with Client(ClusterAccess(url, ssl.create_default_context(), ClientCredentials())) as client:
        ips = Informer(client, SpiderIP)
        for number in range(addresses):
            ips.note(world.record(number))
        watch = LoopWatch()
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(0.1)
        for phase in ("first", "second"):
            before, began, watch.longest = Memory.read().now, time.process_time(), 0.0
            Memory.forget_peak()
            async with writing(client, ips) as writer:
                await _until_written(writer)
                memory, spent = Memory.read(), time.process_time() - began
                print(
                    f"{phase} leader caught up: {spent:.1f} s CPU, longest block {watch.longest * 1e3:.0f} ms, "
                    f"memory +{(memory.now - before) / 1e6:.0f} MB, at most +{(memory.peak - before) / 1e6:.0f} MB"
                )
                await _report(client)
                if phase == "first":
                    await _replace(world, ips, writer, replaced)
                    await _report(client)
        began = time.process_time()
        address = from_int(FIRST + 7, 4)
        texts = [text async for _, _, text in parts(client, timeout=60.0)]
        held = read((text for text in texts if f"{address}\t" in text), lambda each: each.address == address)
        print(f"one question: {len(held)} tenures, {time.process_time() - began:.1f} s CPU")
        del texts
        before, began = Memory.read().now, time.process_time()
        Memory.forget_peak()
        grown = await growth_of_pools(Cluster(client, 60.0), datetime.now(UTC))
        spent, peak = time.process_time() - began, Memory.read().peak - before
        print(f"growth of all pools: {len(grown)} pools, {spent:.1f} s CPU, at most +{peak / 1e6:.0f} MB")
        watching.cancel()


async def _replace(world: Population, ips: Informer[SpiderIP], writer: HistoryWriter, replaced: int) -> None:
    began, rounds = time.process_time(), max(replaced // ROUND, 1)
    for _ in range(rounds):
        for _ in range(ROUND):
            number = world.random.randrange(world.addresses)
            old = ips.get(from_int(FIRST + number, 4))
            assert old is not None
            ips.forget(old)
            ips.note(world.record(number))
        await _until_written(writer)
    spent = (time.process_time() - began) / (rounds * ROUND)
    print(f"{rounds * ROUND:,} pods replaced: {spent * 1e6:.0f} µs CPU for each, informer and random names included")


async def _report(client: Client) -> None:
    objects, rows, size = await _stored(client)
    kind = SpiderIPHistory.KIND.plural
    print(f"  {objects} {kind}, {rows:,} rows, {size / 1e6:.1f} MB, {size / max(rows, 1):.0f} bytes a row")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--addresses", type=int, default=150_000)
    parser.add_argument("--replaced", type=int, default=250_000, help="pods, so that the oldest objects go")
    given = parser.parse_args()
    configure("warn")
    with serving() as url:
        asyncio.run(partial(measure, given.nodes, given.addresses, given.replaced, url)())


if __name__ == "__main__":
    main()
