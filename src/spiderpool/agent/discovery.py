"""What this server says of its ENIs, read from the cloud's metadata service and published on the Node.

Only a good reading changes what is published. What was published is kept on disk too, for a start at which the
service does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.cloud.alibaba.metadata import ENDPOINT, MetadataClient
from spiderpool.core.cloud.instances import (
    INSTANCE_ANNOTATION,
    Instance,
    doubt,
    is_ours,
    joined,
    placed,
    read_instance,
    text_of,
)
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import SpiderpoolError, Undecodable
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import all_links, opened_kernel
from spiderpool.kernel.observing import node_addresses
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import METADATA_READINGS, logger

FIRST_LIST = 300.0
"""Seconds that we wait for the Node to be known."""
REPAIR_PAUSE = 1.0
"""Seconds before a Node that somebody else changed is written again."""
FORMAT = 1
"""Version of the file's content; another one is not read."""

log = logger("discovery")


class MetadataSource(Protocol):
    """A cloud's metadata service."""

    async def read(self) -> Instance:
        """The server and its ENIs, without their Linux names. Raises SpiderpoolError."""

    def forget(self) -> None:
        """Ask everything again next time."""


@dataclass(frozen=True, slots=True)
class HostLinks:
    """The node's links and own addresses."""

    links: tuple[Link, ...]
    addresses: tuple[str, ...]


async def look(node: Path | None = None) -> HostLinks:
    """What the kernel knows of a node (None: our own network namespace). Raises SpiderpoolError."""

    def body() -> HostLinks:
        with contextlib.ExitStack() as finish, opened_kernel(None, node, finish) as kernel:
            links = all_links(kernel.node)
            return HostLinks(links, tuple(str(one.address) for one in node_addresses(kernel.node)))

    return await run_inside(None, body)


class _Stored(msgspec.Struct):
    version: int
    instance: Instance


class InstanceCache:
    """The last description on disk: one file, replaced as a whole, readable by us alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Instance | None:
        """What was stored; None when there is nothing that can be used."""
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("stored description not used", file=str(self._path), error=str(error))
            return None
        usable = stored.version == FORMAT and doubt(stored.instance) is None
        return stored.instance if usable else None

    def store(self, instance: Instance) -> None:
        """Replace what is stored; a full disk costs the next start its memory, and nothing else."""
        content = msgspec.json.encode(_Stored(FORMAT, instance))
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            log.warning("description not stored", file=str(self._path), error=str(error))


class ENIDiscovery:
    """Reads again and again, and keeps the Node's annotation as the last two good readings tell."""

    def __init__(
        self,
        client: Client,
        nodes: Informer[Node],
        node: str,
        source: MetadataSource,
        cache: InstanceCache,
        interval: float,
        look: Callable[[], Awaitable[HostLinks]] = look,
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._node = node
        self._source = source
        self._cache = cache
        self._interval = interval
        self._look = look
        self._last: Instance | None = None
        """The last good reading, or at the start what was published before."""
        self._told: Instance | None = None
        """What the Node is to say."""
        self._strayed = asyncio.Event()
        nodes.subscribe(self._on_node)

    async def run(self) -> None:
        """Read and publish until cancelled. Raises NotReady when the Node stays unknown."""
        await self._nodes.synced(FIRST_LIST)
        while True:
            await self._round()
            await self._publish_for(self._interval * random.uniform(0.8, 1.2))

    async def _round(self) -> None:
        try:
            await self._read()
        except SpiderpoolError as error:
            self._report("unanswered", error.message)
        except Exception:  # a bug here must not end the agent, which serves pods
            log.exception("reading failed", node=self._node)

    async def _read(self) -> None:
        sight = await self._look()
        if self._told is None:
            self._remember(sight)
        reading = await self._source.read()
        if reason := self._doubt(reading, sight):
            self._source.forget()
            self._report("doubtful", reason)
            return
        METADATA_READINGS.labels("good").inc()
        self._tell(placed(reading, sight.links, sight.addresses))

    def _doubt(self, reading: Instance, sight: HostLinks) -> str | None:
        if reason := doubt(reading, self._last):
            return reason
        return None if is_ours(reading, sight.links) else "no link of this machine has the MAC of the primary ENI"

    def _tell(self, reading: Instance) -> None:
        told, self._last = joined(self._last, reading), reading
        if told != self._told:
            self._told = told
            self._cache.store(told)
            log.info("cards", node=self._node, instance=told.provider_id, cards=_summary(told))

    def _remember(self, sight: HostLinks) -> None:
        """What was published before, from disk or from the Node, if it speaks of this machine."""
        known = (self._cache.load(), self._published())
        self._told = self._last = next((each for each in known if each and is_ours(each, sight.links)), None)

    def _published(self) -> Instance | None:
        try:
            return read_instance(text) if (text := self._annotation()) else None
        except Undecodable as error:
            log.warning("annotation not used", node=self._node, annotation=INSTANCE_ANNOTATION, error=error.message)
            return None

    def _report(self, outcome: str, reason: str) -> None:
        METADATA_READINGS.labels(outcome).inc()
        log.warning("reading of the cards changes nothing", node=self._node, outcome=outcome, reason=reason)

    async def _publish_for(self, seconds: float) -> None:
        """Publish, and again whenever the Node says something else, for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._strayed.clear()
                    await self._publish()
                    await self._strayed.wait()
                    await asyncio.sleep(REPAIR_PAUSE)

    async def _publish(self) -> None:
        text = text_of(self._told) if self._told else None
        if text is None or self._nodes.get(self._node) is None or self._annotation() == text:
            return
        try:
            body = {"metadata": {"annotations": {INSTANCE_ANNOTATION: text}}}
            self._nodes.note(await self._client.patch(Node, self._node, body))
        except SpiderpoolError as error:
            log.warning("cards not published", node=self._node, error=error.message)

    def _on_node(self, _: Node | None, new: Node | None) -> None:
        if new is not None and self._told is not None and self._annotation() != text_of(self._told):
            self._strayed.set()

    def _annotation(self) -> str | None:
        node = self._nodes.get(self._node)
        return (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION) if node else None


def _summary(instance: Instance) -> dict[str, int]:
    return {f"{eni.identity} {eni.device}": len(eni.addresses) + len(eni.ipv6_addresses) for eni in instance.enis}


async def discover(client: Client, nodes: Informer[Node], settings: AgentSettings) -> None:
    """Read and publish this node's ENIs until cancelled."""
    cloud = settings.common.cloud
    cache = InstanceCache(settings.socket.with_name(f"instance-{settings.node}.json"))
    async with MetadataClient(cloud.metadata_endpoint or ENDPOINT) as source:
        await ENIDiscovery(client, nodes, settings.node, source, cache, cloud.interval).run()
