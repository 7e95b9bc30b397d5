"""Discovers this server's ENIs: reads the cloud's metadata service and publishes the result as the node's SpiderServer.

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
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.cloud import registry
from spiderpool.cloud.provider import MetadataSource
from spiderpool.core.cloud.instances import completed, defect, is_this_machine, merged, with_devices
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import SpiderpoolError, is_bug
from spiderpool.kernel.namespaces import run_inside
from spiderpool.kernel.netlink import all_links, opened_kernel
from spiderpool.kernel.nic_path import NICPath
from spiderpool.kernel.observing import node_addresses
from spiderpool.kube.client import AlreadyExists, Client
from spiderpool.kube.informer import Informer
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import METADATA_READINGS, logger

FIRST_LIST = 300.0
"""Seconds until the first lists of Node and SpiderServer must have arrived."""
REPAIR_PAUSE = 1.0
"""Seconds before a SpiderServer that another client changed is written again."""
JITTER = (0.8, 1.2)
"""Factors of the interval between two readings, so that the agents of a cluster do not read at the same time."""
FORMAT = 2
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
class OwnServer:
    """Access to the SpiderServer of this node: written by the client, read from informers."""

    client: Client
    nodes: Informer[Node]
    servers: Informer[SpiderServer]
    name: str

    async def synced(self) -> None:
        """Wait for the first lists. Raises NotReady."""
        await self.nodes.synced(FIRST_LIST)
        await self.servers.synced(FIRST_LIST)

    def published(self) -> SpiderServer | None:
        """Returns what is published; None when nothing is."""
        return self.servers.get(self.name)

    def is_published(self, instance: Instance) -> bool:
        """Whether a description is published for this very Node; also while there is no Node."""
        node, found = self.nodes.get(self.name), self.published()
        return node is None or (found is not None and found.is_of(node) and found.spec == instance)

    async def publish(self, instance: Instance) -> None:
        """Publishes a description. Raises SpiderpoolError."""
        node, found = self.nodes.get(self.name), self.published()
        if node is None:
            return  # without its Node it would be deleted at once
        wanted = SpiderServer.of(node, instance)
        if found is None:
            with contextlib.suppress(AlreadyExists):  # its event leads here again
                self.servers.note(await self.client.create(wanted))
            return
        owners = msgspec.to_builtins(wanted.metadata.ownerReferences)
        body = {
            "metadata": {"uid": found.metadata.uid, "ownerReferences": owners},
            "spec": msgspec.to_builtins(instance),
        }
        self.servers.note(await self.client.patch(SpiderServer, self.name, body))


class ENIDiscovery:
    """Reads the metadata service periodically, and keeps the node's SpiderServer up to date with good readings."""

    def __init__(
        self,
        own: OwnServer,
        source: MetadataSource,
        cache: InstanceCache,
        interval: float,
        read_links: Callable[[], Awaitable[HostLinks]] = read_links,
    ) -> None:
        self._own = own
        self._source = source
        self._cache = cache
        self._interval = interval
        self._read_links = read_links
        self._last: Instance | None = None  # the last good reading; at the start, the description published before
        self._desired: Instance | None = None  # what is to be published
        self._overwritten = asyncio.Event()  # set when another client changed it, or there is another Node
        own.nodes.subscribe(self._on_change)
        own.servers.subscribe(self._on_change)

    async def run(self) -> None:
        """Reads and publishes until cancelled. Raises NotReady when the Node stays unknown."""
        await self._own.synced()
        while True:
            await self._round()
            await self._publish_for(self._interval * random.uniform(*JITTER))

    async def _round(self) -> None:
        try:
            await self._read()
        except SpiderpoolError as error:
            self._report("unanswered", error.message)
        except Exception:  # a bug here must not stop the agent, which serves pods
            log.exception("reading failed", node=self._own.name)

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
        """Updates what is to be published after a good reading."""
        reading = completed(self._last, reading)
        desired, self._last = merged(self._last, reading), reading
        if desired != self._desired:
            self._desired = desired
            self._cache.store(desired)
            log.info("ENIs", node=self._own.name, instance=desired.provider_id, enis=_summary(desired))

    def _restore(self, links: HostLinks) -> None:
        """Restores the description published before the start, on disk or here, if it is about this machine."""
        known = (self._cache.load(), self._published())
        self._desired = self._last = next(
            (instance for instance in known if instance and is_this_machine(instance, links.links)), None
        )

    def _published(self) -> Instance | None:
        published = self._own.published()
        if published is None:
            return None
        if reason := defect(published.spec):
            log.warning("published description not used", node=self._own.name, reason=reason)
            return None
        return published.spec

    def _report(self, outcome: str, reason: str) -> None:
        METADATA_READINGS.labels(outcome).inc()
        log.warning("reading of the ENIs changes nothing", node=self._own.name, outcome=outcome, reason=reason)

    async def _publish_for(self, seconds: float) -> None:
        """Publishes now and, for that many seconds, again whenever another client changes it."""
        with contextlib.suppress(TimeoutError):  # the end of this interval
            async with asyncio.timeout(seconds):
                while True:
                    self._overwritten.clear()
                    await self._publish()
                    await self._overwritten.wait()
                    await asyncio.sleep(REPAIR_PAUSE)

    async def _publish(self) -> None:
        if self._desired is None or self._own.is_published(self._desired):
            return
        try:
            await self._own.publish(self._desired)
        except Exception as error:  # a bug here must not stop the agent, which serves pods
            log.warning("ENIs not published", node=self._own.name, error=str(error), exc_info=is_bug(error))

    def _on_change(self, _: object, __: object) -> None:
        if self._desired is not None and not self._own.is_published(self._desired):
            self._overwritten.set()


def _summary(instance: Instance) -> dict[str, int]:
    return {f"{eni.identity} {eni.device}": len(eni.pod_addresses) for eni in instance.enis}


async def discover(own: OwnServer, settings: AgentSettings) -> None:
    """Reads and publishes this node's ENIs until cancelled. Raises BadConfig for an unknown provider."""
    cloud = settings.common.cloud
    cache = InstanceCache(settings.socket.with_name(f"instance-{settings.node}.json"))
    async with registry.provider(cloud.provider).metadata(cloud.metadata_endpoint, NICPath()) as source:
        await ENIDiscovery(own, source, cache, cloud.interval).run()
