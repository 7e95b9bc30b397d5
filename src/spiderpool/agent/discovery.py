"""Discovers this server's ENIs: reads the cloud's metadata service and publishes the result on the Node.

Only a good reading changes what is published. The published description is also stored on disk, for a start at which
the metadata service does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.cloud import registry
from spiderpool.cloud.provider import MetadataSource
from spiderpool.core.cloud.instances import (
    INSTANCE_ANNOTATION,
    Instance,
    completed,
    defect,
    is_this_machine,
    merged,
    read_instance,
    text_of,
    with_devices,
)
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import SpiderpoolError, Undecodable, is_bug
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import all_links, opened_kernel
from spiderpool.kernel.nic_path import NICPath
from spiderpool.kernel.observing import node_addresses
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import METADATA_READINGS, logger

FIRST_LIST = 300.0
"""Seconds until the first list of the Node must have arrived."""
REPAIR_PAUSE = 1.0
"""Seconds before an annotation that another client changed is written again."""
JITTER = (0.8, 1.2)
"""Factors of the interval between two readings, so that the agents of a cluster do not read at the same time."""
FORMAT = 1
"""Version of the file's content; files of other versions are ignored."""

log = logger("discovery")


@dataclass(frozen=True, slots=True)
class HostLinks:
    """The node's links and own addresses."""

    links: tuple[Link, ...]
    addresses: tuple[str, ...]


async def read_links(node: Path | None = None) -> HostLinks:
    """Returns links and addresses of a network namespace (None: our own). Raises SpiderpoolError."""

    def body() -> HostLinks:
        with contextlib.ExitStack() as finish, opened_kernel(None, node, finish) as kernel:
            links = all_links(kernel.node)
            return HostLinks(links, tuple(str(one.address) for one in node_addresses(kernel.node)))

    return await run_inside(None, body)


class _Stored(msgspec.Struct):
    version: int
    instance: Instance


class InstanceCache:
    """The published description on disk: one file, replaced atomically, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Instance | None:
        """Returns the stored description; None when there is none, or it cannot be used."""
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("stored description not used", file=str(self._path), error=str(error))
            return None
        usable = stored.version == FORMAT and defect(stored.instance) is None
        return stored.instance if usable else None

    def store(self, instance: Instance) -> None:
        """Replaces the stored description. An error is logged only: it costs the next start its cache, nothing else."""
        content = msgspec.json.encode(_Stored(FORMAT, instance))
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            log.warning("description not stored", file=str(self._path), error=str(error))


@dataclass(frozen=True, slots=True)
class OwnNode:
    """Access to the Node object of this node: written by the client, read from the informer."""

    client: Client
    informer: Informer[Node]
    name: str

    def get(self) -> Node | None:
        """Returns the Node from the informer; None while it is unknown."""
        return self.informer.get(self.name)

    def annotation(self) -> str | None:
        """Returns the published description; None when there is none."""
        node = self.get()
        return (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION) if node else None


class ENIDiscovery:
    """Reads the metadata service periodically, and keeps the Node's annotation up to date with good readings."""

    def __init__(
        self,
        node: OwnNode,
        source: MetadataSource,
        cache: InstanceCache,
        interval: float,
        read_links: Callable[[], Awaitable[HostLinks]] = read_links,
    ) -> None:
        self._node = node
        self._source = source
        self._cache = cache
        self._interval = interval
        self._read_links = read_links
        self._last: Instance | None = None  # the last good reading; at the start, the description published before
        self._desired: Instance | None = None  # desired content of the Node's annotation
        self._overwritten = asyncio.Event()  # set when another client changed the annotation
        node.informer.subscribe(self._on_node)

    async def run(self) -> None:
        """Reads and publishes until cancelled. Raises NotReady when the Node stays unknown."""
        await self._node.informer.synced(FIRST_LIST)
        while True:
            await self._round()
            await self._publish_for(self._interval * random.uniform(*JITTER))

    async def _round(self) -> None:
        try:
            await self._read()
        except SpiderpoolError as error:
            self._report("unanswered", error.message)
        except Exception:  # a bug here must not stop the agent, which serves pods
            log.exception("reading failed", node=self._node.name)

    async def _read(self) -> None:
        links = await self._read_links()
        if self._desired is None:
            self._restore(links)
        reading = await self._source.read()
        if reason := self._defect(reading, links):
            self._source.forget()
            self._report("doubtful", reason)
            return
        METADATA_READINGS.labels("good").inc()
        self._accept(with_devices(reading, links.links, links.addresses))

    def _defect(self, reading: Instance, links: HostLinks) -> str | None:
        """Returns why a reading is not used; None when it is good."""
        if reason := defect(reading, self._last):
            return reason
        if is_this_machine(reading, links.links):
            return None
        return "no link of this machine has the MAC of the primary ENI"

    def _accept(self, reading: Instance) -> None:
        """Updates the desired annotation after a good reading."""
        reading = completed(self._last, reading)
        desired, self._last = merged(self._last, reading), reading
        if desired != self._desired:
            self._desired = desired
            self._cache.store(desired)
            log.info("ENIs", node=self._node.name, instance=desired.provider_id, enis=_summary(desired))

    def _restore(self, links: HostLinks) -> None:
        """Restores the description published before the start, from disk or the Node, if it is about this machine."""
        known = (self._cache.load(), self._published())
        self._desired = self._last = next(
            (instance for instance in known if instance and is_this_machine(instance, links.links)), None
        )

    def _published(self) -> Instance | None:
        try:
            return read_instance(text) if (text := self._node.annotation()) else None
        except Undecodable as error:
            log.warning(
                "annotation not used", node=self._node.name, annotation=INSTANCE_ANNOTATION, error=error.message
            )
            return None

    def _report(self, outcome: str, reason: str) -> None:
        METADATA_READINGS.labels(outcome).inc()
        log.warning("reading of the ENIs changes nothing", node=self._node.name, outcome=outcome, reason=reason)

    async def _publish_for(self, seconds: float) -> None:
        """Publishes now and, for that many seconds, again whenever another client changes the annotation."""
        with contextlib.suppress(TimeoutError):  # the end of this interval
            async with asyncio.timeout(seconds):
                while True:
                    self._overwritten.clear()
                    await self._publish()
                    await self._overwritten.wait()
                    await asyncio.sleep(REPAIR_PAUSE)

    async def _publish(self) -> None:
        text = text_of(self._desired) if self._desired else None
        if text is None or self._node.get() is None or self._node.annotation() == text:
            return
        try:
            body = {"metadata": {"annotations": {INSTANCE_ANNOTATION: text}}}
            self._node.informer.note(await self._node.client.patch(Node, self._node.name, body))
        except Exception as error:  # a bug here must not stop the agent, which serves pods
            log.warning("ENIs not published", node=self._node.name, error=str(error), exc_info=is_bug(error))

    def _on_node(self, _: Node | None, new: Node | None) -> None:
        if new is not None and self._desired is not None and self._node.annotation() != text_of(self._desired):
            self._overwritten.set()


def _summary(instance: Instance) -> dict[str, int]:
    return {f"{eni.identity} {eni.device}": len(eni.addresses) + len(eni.ipv6_addresses) for eni in instance.enis}


async def discover(client: Client, nodes: Informer[Node], settings: AgentSettings) -> None:
    """Reads and publishes this node's ENIs until cancelled. Raises BadConfig for an unknown provider."""
    cloud = settings.common.cloud
    cache = InstanceCache(settings.socket.with_name(f"instance-{settings.node}.json"))
    async with registry.provider(cloud.provider).metadata(cloud.metadata_endpoint, NICPath()) as source:
        await ENIDiscovery(OwnNode(client, nodes, settings.node), source, cache, cloud.interval).run()
