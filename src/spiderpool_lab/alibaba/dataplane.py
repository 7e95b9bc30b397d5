"""The data plane of an account's balancers: it forwards in a network namespace what the account says, as it changes.

Layer 4 is translated by nftables, so backends see the client's address; layer 7 is HAProxy with X-Forwarded-For.
Backends are asked for their health from ``SOURCE``, and only those that are well get traffic. The namespace must
route to the backends and be on their way back, as the router of a VPC is.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from spiderpool.errors import BadConfig, KernelFailure
from spiderpool.telemetry import logger
from spiderpool_lab import namespaces
from spiderpool_lab.alibaba import rendering
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.forwarding import Frontend, HealthCheck, checks, frontends
from spiderpool_lab.alibaba.probing import Prober
from spiderpool_lab.alibaba.tables import TableChange
from spiderpool_lab.certificates import Authority
from spiderpool_lab.processes import Processes

SOURCE = "100.97.0.1"
"""Where requests of layer 7 and health checks come from: an address of the provider's own block 100.64.0.0/10."""

log = logger("balancers")

_TABLES = ("clbs", "clb_groups", "nlbs", "nlb_listeners", "nlb_groups")


class DataPlane:
    """Forwards in the named namespace, which has an interface to hold the balancers' addresses.

    ``directory`` gets the configuration, certificates and log of HAProxy. ``pace`` stretches the times of checks.
    """

    def __init__(
        self, account: Account, namespace: str, directory: Path, *, interface: str = "lo", pace: float = 1.0
    ) -> None:
        self.account = account
        self.namespace = namespace
        self.interface = interface
        self.authority = Authority.create("simulated-balancers")
        self._directory = directory
        self._processes = Processes(directory / "processes")
        self._changed = asyncio.Event()
        self._healthy: dict[HealthCheck, bool] = {}
        self._addresses: set[str] = set()
        self._applied: tuple[Frontend, ...] = ()
        self._proxy_text = ""
        self._numbers = itertools.count(1)
        self._prober = Prober(namespaces.path(namespace), self._report, source=SOURCE, pace=pace)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DataPlane]:
        """Forward for the length of a context; then nothing is left in the namespace."""
        if shutil.which("haproxy") is None:
            raise BadConfig("balancers of layer 7 need haproxy; install the Debian package haproxy")
        self._directory.mkdir(parents=True, exist_ok=True)
        await self._addresses_become({SOURCE})
        unsubscribe = self.account.subscribe(self._notice)
        follower = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            unsubscribe()
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            await self._prober.stop()
            await self._clear()

    @property
    def applied(self) -> tuple[Frontend, ...]:
        """What is forwarded now: targets that are not well are left out."""
        return self._applied

    def _notice(self, change: TableChange) -> None:
        if change.table in _TABLES:
            self._changed.set()

    def _report(self, check: HealthCheck, healthy: bool) -> None:
        self._healthy[check] = healthy
        self.account.health[check.address, check.port] = healthy
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            wanted = frontends(self.account.world)
            self._prober.follow(checks(wanted))
            try:
                await self._apply(tuple(self._well(frontend) for frontend in wanted))
            except KernelFailure as error:
                log.error("what the balancers are told cannot be forwarded", error=error.message, details=error.details)
            await self._changed.wait()

    def _well(self, frontend: Frontend) -> Frontend:
        """A frontend with the targets that are well."""
        well = (item for item in frontend.targets if item.check is None or self._healthy.get(item.check))
        return replace(frontend, targets=tuple(well))

    async def _apply(self, wanted: tuple[Frontend, ...]) -> None:
        if wanted == self._applied:
            return
        await self._addresses_become({SOURCE, *(frontend.address for frontend in wanted)})
        await self._nft(rendering.translation(wanted))
        self._proxy(wanted)
        self._applied = wanted

    async def _addresses_become(self, wanted: set[str]) -> None:
        gone, new = self._addresses - wanted, wanted - self._addresses
        lines = [f"addr del {_host(address)} dev {self.interface}" for address in sorted(gone)]
        lines += [f"addr replace {_host(address)} dev {self.interface}" for address in sorted(new)]
        if lines:
            await asyncio.to_thread(namespaces.ip_batch, lines, netns=self.namespace)
        self._addresses = wanted

    async def _nft(self, text: str) -> None:
        argv = ["ip", "netns", "exec", self.namespace, "nft", "-f", "-"]
        await asyncio.to_thread(namespaces.run_tool, argv, text)

    def _proxy(self, wanted: tuple[Frontend, ...]) -> None:
        """Have HAProxy serve what is wanted; a new one takes over from the one before, which ends with its clients."""
        found = [frontend for frontend in wanted if frontend.layer_7]
        if not found:
            self._processes.stop_all()
            self._proxy_text = ""
            return
        text = rendering.proxy(found, SOURCE, self._certificates(found))
        before = self._running()
        if text != self._proxy_text or not before:
            self._proxy_text = text
            self._take_over(text, before)

    def _take_over(self, text: str, before: list[int]) -> None:
        name = f"haproxy-{next(self._numbers)}"
        file = self._directory / f"{name}.cfg"
        file.write_text(text)
        finish = ["-sf", *map(str, before)] if before else []
        self._processes.start(name, ["haproxy", "-db", "-f", file, *finish], netns=self.namespace)

    def _running(self) -> list[int]:
        """The processes that still serve; the files of those that ended are removed."""
        pids = {name: self._processes.pid(name) for name in self._processes.names()}
        for name in [name for name, pid in pids.items() if pid is None]:
            self._processes.stop(name)
            self._processes.log(name).unlink(missing_ok=True)
            (self._directory / f"{name}.cfg").unlink(missing_ok=True)
        return [pid for pid in pids.values() if pid is not None]

    def _certificates(self, found: list[Frontend]) -> dict[str, Path]:
        """A certificate for every address that speaks HTTPS, made when it is first needed."""
        files = {item.address: self._directory / f"{item.address}.pem" for item in found if item.transport == "https"}
        for address, file in files.items():
            if not file.exists():
                pair = self.authority.server([address])
                file.touch(mode=0o600)
                file.write_bytes(pair.certificate + pair.key)
        return files

    async def _clear(self) -> None:
        self._processes.stop_all()
        await self._nft(f"table inet {rendering.TABLE}\ndelete table inet {rendering.TABLE}\n")
        await self._addresses_become(set())


def _host(address: str) -> str:
    return f"{address}/128 nodad" if ":" in address else f"{address}/32"
