"""Keeps pods from the cloud's metadata service, but for those of Namespaces that the settings name; or none at all.

Outside clouds there is none, and its address may be anybody's: there nothing is loaded.

What may pass is an address, so it must be nobody else's while it may: a pod's addresses are let through once it has its
interfaces, and no more before it loses them: while the kernel refuses to end that, they are not released, for at most
`HOLD`. Their Namespace is that of the runtime's call, which no tenant writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from spiderpool.agent.attachment_store import AttachmentStore, SandboxRecord
from spiderpool.api.cni import PodArgs
from spiderpool.cloud import registry
from spiderpool.errors import IOFailure, KernelFailure, is_bug
from spiderpool.kernel import metadata_filter
from spiderpool.kernel.events import address_changes
from spiderpool.kernel.namespaces import run_inside
from spiderpool.telemetry import METADATA_OPEN, logger

LOOK = 60.0
"""Seconds between two looks at the rules, and at which NICs there are."""
HOLD = 120.0
"""Seconds for which the end of a pod waits at most until its addresses pass no more. Then it goes on: a packet filter
that is broken for that long keeps nobody from the service, as log and metric say, and pods must come to an end."""
PAUSE = 5.0
"""Seconds before addresses are followed again after a failure."""

OPEN = "pods reach the cloud's metadata service"

log = logger("metadata-access")


class MetadataFilter(Protocol):
    """The part of a node's kernel that keeps pods from a service: `spiderpool.kernel.metadata_filter`."""

    def load(self, address: IPv4Address, allowed: Collection[IPv4Address] = (), /) -> None:
        """Keep pods from it, but for some addresses of theirs. Raises KernelFailure."""

    def unload(self, address: IPv4Address, /) -> None:
        """Undo `load`. Raises KernelFailure."""


class MetadataAccess:
    """The rules of one node: of ``provider``, or without one none.

    Unless ``blocked``, all pods reach the service; else those of ``namespaces``.
    """

    def __init__(
        self,
        provider: str = "",
        *,
        blocked: bool = True,
        namespaces: Collection[str] = (),
        kernel: MetadataFilter = metadata_filter,
    ) -> None:
        self._kernel = kernel
        self._address = registry.provider(provider).metadata_address if provider else None
        self._blocked = blocked
        self._namespaces = frozenset(namespaces) if provider and blocked else frozenset[str]()
        self._allowed: dict[tuple[str, str], frozenset[IPv4Address]] = {}  # container ID and interface → addresses
        self._leaving: dict[tuple[str, str], float] = {}  # those that may pass no more, but perhaps do, and since when
        self._loaded: tuple[IPv4Address, ...] | None = None  # None: not known to be loaded
        self._loading = asyncio.Lock()
        self._said = ""  # the last failure that was logged

    async def run(self) -> None:
        """Load the rules at once, after each change of the node's addresses, which they let pass, and every minute.

        Without a provider remove what was loaded earlier, and return.
        """
        if self._address is None:
            return await self._remove([each.metadata_address for each in registry.PROVIDERS.values()])
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow_addresses(changed))
            while True:
                changed.clear()
                await self._load(anew=True)  # NICs, addresses and the rules themselves may have changed
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await changed.wait()

    def restore(self, stores: Iterable[AttachmentStore]) -> None:
        """Know the pods that an earlier agent has attached, before the first call is served."""
        if not self._namespaces:
            return
        for store in stores:
            try:
                for sandbox in store.all():
                    self._note(sandbox.with_end() if store.is_gone(sandbox) else sandbox)
            except IOFailure as error:
                log.warning("pods keep no access to the metadata service, restart them", error=error.message)

    def admits(self, pod: PodArgs | None) -> bool:
        """Whether a pod is one of those that may reach the service."""
        return pod is not None and pod.namespace in self._namespaces

    async def admit(self, sandbox: SandboxRecord | None) -> None:
        """Let the addresses of a sandbox pass, which has its interfaces, if its Namespace may. Raises nothing."""
        if sandbox is not None and self._note(sandbox):
            await self._load()

    async def withdraw(self, store: AttachmentStore, container_id: str, interface: str = "") -> None:
        """Let addresses pass no more that an interface is about to lose, or a sandbox as a whole, by its file.

        Raises KernelFailure while they may pass, until `HOLD` seconds after the first call; then that is logged.
        """
        self._note_end(store, container_id, interface)
        now = asyncio.get_running_loop().time()
        for key in _keys(self._allowed, container_id, interface):
            del self._allowed[key]
            self._leaving[key] = now
        if not _keys(self._leaving, container_id, interface):
            return
        await self._load()
        left = {key: self._leaving[key] for key in _keys(self._leaving, container_id, interface)}
        if left and now - min(left.values()) < HOLD:
            raise KernelFailure(
                "the pod's addresses may still reach the cloud's metadata service, so they are not released yet:"
                f" {self._said}"
            )
        for key in left:
            del self._leaving[key]
            log.warning("addresses released that may still reach the metadata service", container=key[0], nic=key[1])

    def is_leaving(self, container_id: str) -> bool:
        """Whether addresses of a sandbox may still pass although they should not."""
        return bool(_keys(self._leaving, container_id))

    def _note_end(self, store: AttachmentStore, container_id: str, interface: str) -> None:
        """Have a later agent know that addresses may pass no more, should the removal fail from now on."""
        if not self._namespaces:
            return
        try:
            sandbox = store.load(container_id)
            if sandbox is not None and self.admits(sandbox.pod):
                store.save(sandbox.with_end(interface))
        except IOFailure as error:  # a full disk must not keep pods from their end
            log.warning("the end of a pod is not on file", container=container_id, error=error.message)

    def _note(self, sandbox: SandboxRecord) -> bool:
        """Whether addresses of a sandbox may pass."""
        if not self.admits(sandbox.pod):
            return False
        for interface in sandbox.interfaces:
            key = sandbox.container_id, interface.name
            if interface.ending:  # an earlier agent's rules may let it pass
                self._leaving.setdefault(key, asyncio.get_running_loop().time())
                continue
            self._leaving.pop(key, None)
            self._allowed[key] = frozenset(each for each in interface.given if isinstance(each, IPv4Address))
        return True

    def _wanted(self) -> tuple[IPv4Address, ...]:
        wanted = sorted({address for addresses in self._allowed.values() for address in addresses})
        if left_out := len(wanted[metadata_filter.MOST_ALLOWED :]):
            log.warning("addresses beyond the limit do not reach the metadata service", addresses=left_out)
        return tuple(wanted[: metadata_filter.MOST_ALLOWED])

    async def _load(self, *, anew: bool = False) -> None:
        """Load the rules as they should be now, if they may not be so. A failure is logged, and tried again."""
        if self._address is None:
            return
        async with self._loading:
            wanted, leaving = self._wanted(), tuple(self._leaving)
            if self._loaded == wanted and not anew:
                return self._have_left(leaving)
            self._loaded = None
            work = (
                partial(self._kernel.load, self._address, wanted)
                if self._blocked
                else partial(self._kernel.unload, self._address)
            )
            try:
                await _completed(work)
            except Exception as error:
                self._report(error)
            else:
                METADATA_OPEN.set(not self._blocked)
                self._loaded, self._said = wanted, ""
                self._have_left(leaving)

    def _have_left(self, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            self._leaving.pop(key, None)

    def _report(self, error: Exception) -> None:
        METADATA_OPEN.set(1)
        if str(error) != self._said:
            self._said = str(error)
            details = getattr(error, "details", "")
            log.warning(OPEN, error=self._said, details=details, exc_info=is_bug(error))

    async def _remove(self, addresses: Iterable[IPv4Address]) -> None:
        for address in addresses:
            try:
                await run_inside(None, partial(self._kernel.unload, address))
            except Exception as error:
                facts = {"address": str(address), "error": str(error), "details": getattr(error, "details", "")}
                log.warning("rules of a cloud stay", **facts, exc_info=is_bug(error))


def _keys(of: Iterable[tuple[str, str]], container_id: str, interface: str = "") -> list[tuple[str, str]]:
    """The keys of a container's interface, or of all its interfaces."""
    return [key for key in of if key[0] == container_id and interface in ("", key[1])]


async def _completed(work: partial[None]) -> None:
    """Run work to its end, also when cancelled: a later load must come after it."""
    running = asyncio.ensure_future(run_inside(None, work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _follow_addresses(changed: asyncio.Event) -> None:
    while True:
        try:
            async for _ in address_changes(at_once=True):
                changed.set()
        except Exception as error:
            log.warning("addresses of the node not followed", error=str(error), pause=PAUSE, exc_info=is_bug(error))
        await asyncio.sleep(PAUSE)
