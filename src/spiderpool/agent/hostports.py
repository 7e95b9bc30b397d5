"""Ports of the node that lead to pods (``hostPort``): which pod has which, and the node's rules that make them work.

The ports of all pods are one list, kept in memory and in a file beside the socket for the agent's next start. After
each change the node's rules are loaded anew from that list, so nothing of an earlier pod can be left, and what was lost
comes back. At the end of a pod a failure is logged only, and repaired by the next load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from spiderpool.agent.json_files import write_file
from spiderpool.core.network.hostports import Connection, HostPort, bypasses, leads_to
from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.errors import Drift, KernelFailure, SpiderpoolError, is_bug
from spiderpool.kernel import conntrack, hostports
from spiderpool.kernel.namespaces import run_inside
from spiderpool.telemetry import logger

PERIOD = 60.0
"""Seconds between two looks at whether the rules are still there: others may flush the packet filter."""

Ports = tuple[HostPort, ...]

log = logger("hostports")


class HostPorts:
    """The ports of the node that lead to its pods. ``file`` remembers them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, Ports] = {}  # by container ID, the last one added wins a port that two have
        self._is_loaded = False  # whether the last load has succeeded
        self._changing = asyncio.Lock()

    async def run(self, containers: Callable[[], Collection[str]]) -> None:
        """Repair the rules now and every minute until cancelled.

        ``containers`` are those that have a sandbox; the ports of others are given up.
        """
        while True:
            try:
                await self._repair(containers())
            except Exception as error:
                details = getattr(error, "details", "")
                facts = {"error": str(error), "details": details, "again": PERIOD}
                log.warning("host ports not checked", **facts, exc_info=is_bug(error))
            await asyncio.sleep(PERIOD)

    async def read(self) -> None:
        """Load the rules that the file of an earlier agent asks for; what it cannot give is logged."""
        try:
            self._ports = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Ports])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("host ports forgotten, restart their pods", file=str(self._file), error=str(error))
        try:
            await self._load()
        except KernelFailure as error:
            log.warning("host ports not loaded", error=error.message, details=error.details, again=PERIOD)

    async def add(self, container: str, ports: Ports) -> None:
        """Let ports lead to a pod. May be repeated. Raises KernelFailure or IOFailure; then call `remove`."""
        if not ports and container not in self._ports:
            return  # without waiting for the rules of other pods
        async with self._changing:
            others = {name: theirs for name, theirs in self._ports.items() if name != container}
            self._ports = others | ({container: ports} if ports else {})
            self._save()
            await self._load()
            if any(port.version == 4 for port in ports):
                await run_inside(None, lambda: hostports.open_loopback(host_interface(container)))
            await _forget(ports, bypasses)

    async def remove(self, container: str) -> None:
        """Give up a pod's ports; failures are logged."""
        if container not in self._ports:
            return  # without waiting for the rules of other pods
        async with self._changing:
            ports = self._ports.pop(container, ())
            self._is_loaded = False  # also when the file cannot be written: then the next repair loads
            try:
                self._save()
                await self._load()
            except SpiderpoolError as error:
                log.warning("host ports not removed", error=error.message, details=error.details, again=PERIOD)
            await _forget(ports, leads_to)

    async def check(self, container: str, ports: Ports) -> None:
        """Raises Drift when the container has other ports, or when their rules are missing."""
        if self._ports.get(container, ()) != ports:
            raise Drift(f"the host ports of container {container} are not those that the runtime names")
        absent = await run_inside(None, lambda: hostports.missing(ports)) if ports else ()
        if absent:
            raise Drift(f"rules of host ports are missing: {'; '.join(absent)}")

    async def _repair(self, containers: Collection[str]) -> None:
        for gone in [name for name in self._ports if name not in containers]:
            await self.remove(gone)
        async with self._changing:
            wanted = self._wanted()
            absent = await run_inside(None, lambda: hostports.missing(wanted)) if self._is_loaded else ()
            if absent:
                log.warning("rules of host ports were removed by another program; loading them again", rules=absent)
            if absent or not self._is_loaded:
                await self._load()

    def _wanted(self) -> Ports:
        """All ports, those of the newest container first."""
        return tuple(port for ports in reversed(self._ports.values()) for port in ports)

    async def _load(self) -> None:
        """Raises KernelFailure. Waits for the end of the load also when cancelled: the next one must come after it."""
        wanted = self._wanted()
        self._is_loaded = False
        loading = asyncio.ensure_future(run_inside(None, lambda: hostports.load(wanted)))
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            await asyncio.wait([loading])
            raise
        self._is_loaded = True

    def _save(self) -> None:
        """Raises IOFailure."""
        write_file(self._file, msgspec.json.encode(self._ports))


async def _forget(ports: Ports, is_stale: Callable[[Connection, HostPort], bool]) -> None:
    """End the UDP connections that would go on to where their first packet went; TCP ends by itself."""
    by_version = {
        version: [port for port in ports if (port.protocol, port.version) == ("udp", version)] for version in (4, 6)
    }
    for version, mine in by_version.items():

        def work(version: int = version, mine: list[HostPort] = mine) -> int:
            numbers = frozenset(port.port for port in mine)
            return conntrack.forget_udp(version, numbers, lambda found: any(is_stale(found, port) for port in mine))

        try:
            if mine:
                await run_inside(None, work)
        except KernelFailure as error:
            log.warning("connections of host ports not ended", error=error.message)
