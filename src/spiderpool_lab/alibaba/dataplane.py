"""The data plane of load balancers: forwards in a network namespace as the listeners of the account say.

Layer 4 is destination NAT by nftables, so backends see the client's address. Layer 7 is HAProxy, which adds
X-Forwarded-For. Health checks come from ``SOURCE``; only healthy backends get traffic. The namespace must route to the
backends and must be the next hop of their answers, as the router of a VPC is.

Needs root and the lab's namespaces, so ``python -m spiderpool_lab.alibaba`` does without it.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from spiderpool.errors import BadConfig, KernelFailure
from spiderpool.telemetry import logger
from spiderpool_lab import namespaces
from spiderpool_lab.alibaba import rendering
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.forwarding import Frontend, HealthCheck, changed_checks, checks, frontends
from spiderpool_lab.alibaba.probing import Prober
from spiderpool_lab.alibaba.tables import TableChange
from spiderpool_lab.certificates import Authority
from spiderpool_lab.processes import Processes

SOURCE = "100.97.0.1"
"""Source address of health checks and layer 7 requests, in the block 100.64.0.0/10 that the real cloud uses."""

INTERFACE = "lo"

log = logger("balancers")

_BALANCER_TABLES = ("clbs", "clb_groups", "access_lists", "nlbs", "nlb_listeners", "nlb_groups", "security_groups")


def _nothing(_: Iterable[Frontend]) -> None:
    """For a namespace whose kernel keeps no connections."""


class DataPlane:
    """Forwards in a named namespace, whose loopback interface gets the addresses of the load balancers.

    ``directory`` gets the configuration, certificates and logs of HAProxy. ``time_scale`` multiplies the intervals and
    timeouts of health checks; tests use less than 1. ``end_stale`` is called in the namespace after each change, to end
    connections to targets that are no more.
    """

    def __init__(
        self,
        account: Account,
        namespace: str,
        directory: Path,
        *,
        time_scale: float = 1.0,
        end_stale: Callable[[Iterable[Frontend]], None] = _nothing,
    ) -> None:
        self.account = account
        self.namespace = namespace
        self.authority = Authority.create("simulated-balancers")
        self._end_stale = end_stale
        self._directory = directory
        self._processes = Processes(directory / "processes")
        self._changed = asyncio.Event()  # set when the account or the health of a target changed: forward anew
        self._healthy: dict[HealthCheck, bool] = {}  # check → last result; none yet counts as unhealthy
        self._desired: list[Frontend] = []  # as the account says, with all targets
        self._addresses: set[str] = set()  # on the interface now
        self._applied: tuple[Frontend, ...] = ()  # forwarded now, with healthy targets only
        self._proxy_text = ""  # configuration of the running HAProxy
        self._numbers = itertools.count(1)  # names of HAProxy processes
        self._prober = Prober(namespaces.path(namespace), self._record_health, source=SOURCE, time_scale=time_scale)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DataPlane]:
        """Forward while the context is open, then clear the namespace. Raises BadConfig without haproxy(1)."""
        if shutil.which("haproxy") is None:
            raise BadConfig("balancers of layer 7 need haproxy; install the Debian package haproxy")
        self._directory.mkdir(parents=True, exist_ok=True)
        await self._set_addresses({SOURCE})
        unsubscribe = self.account.subscribe(self._on_change)
        reconciler = asyncio.create_task(self._reconcile())
        try:
            yield self
        finally:
            unsubscribe()
            reconciler.cancel()
            (error,) = await asyncio.gather(reconciler, return_exceptions=True)
            if isinstance(error, Exception):
                log.error("forwarding of load balancers failed", error=repr(error))
            await self._prober.stop()
            await self._clear()

    @property
    def applied(self) -> tuple[Frontend, ...]:
        """What is forwarded now, without unhealthy targets."""
        return self._applied

    def _on_change(self, change: TableChange) -> None:
        if change.table in _BALANCER_TABLES:
            self._changed.set()

    def _record_health(self, check: HealthCheck, healthy: bool) -> None:
        self._healthy[check] = healthy
        for target in (each for frontend in self._desired for each in frontend.targets):
            if target.check == check:
                self.account.health[target.address, target.port] = healthy
        self._changed.set()

    async def _reconcile(self) -> None:
        while True:
            self._changed.clear()
            former, self._desired = self._desired, frontends(self.account.tables)
            known = {
                new: self._healthy[old] for old, new in changed_checks(former, self._desired) if old in self._healthy
            }
            self._healthy |= known
            self._prober.set_checks(checks(self._desired), known)
            try:
                await self._apply(tuple(self._healthy_targets(frontend) for frontend in self._desired))
            except KernelFailure as error:
                log.error("what the balancers are told cannot be forwarded", error=error.message, details=error.details)
            await self._changed.wait()

    def _healthy_targets(self, frontend: Frontend) -> Frontend:
        """A frontend without unhealthy targets. Targets without a check count as healthy."""
        healthy = (item for item in frontend.targets if item.check is None or self._healthy.get(item.check))
        return replace(frontend, targets=tuple(healthy))

    async def _apply(self, desired: tuple[Frontend, ...]) -> None:
        if desired == self._applied:
            return
        await self._set_addresses({SOURCE, *(frontend.address for frontend in desired)})
        await self._nft(rendering.nft_ruleset(desired))
        await asyncio.to_thread(namespaces.call_in, namespaces.path(self.namespace), lambda: self._end_stale(desired))
        self._proxy(desired)
        self._applied = desired

    async def _set_addresses(self, desired: set[str]) -> None:
        removed, added = self._addresses - desired, desired - self._addresses
        lines = [f"addr del {_host(address)} dev {INTERFACE}" for address in sorted(removed)]
        lines += [f"addr replace {_host(address)} dev {INTERFACE}" for address in sorted(added)]
        if lines:
            await asyncio.to_thread(namespaces.ip_batch, lines, netns=self.namespace)
        self._addresses = desired

    async def _nft(self, text: str) -> None:
        argv = ["ip", "netns", "exec", self.namespace, "nft", "-f", "-"]
        await asyncio.to_thread(namespaces.run_tool, argv, text)

    def _proxy(self, desired: tuple[Frontend, ...]) -> None:
        """Start a new HAProxy that takes over the ports of the old one, which ends with its last client."""
        found = [frontend for frontend in desired if frontend.layer_7]
        if not found:
            self._processes.stop_all()
            self._proxy_text = ""
            return
        text = rendering.haproxy_config(found, SOURCE, self._certificates(found))
        old = self._running()
        if text != self._proxy_text or not old:
            self._proxy_text = text
            self._start_proxy(text, old)

    def _start_proxy(self, text: str, old: list[int]) -> None:
        name = f"haproxy-{next(self._numbers)}"
        file = self._directory / f"{name}.cfg"
        file.write_text(text)
        finish = ["-sf", *map(str, old)] if old else []
        self._processes.start(name, ["haproxy", "-db", "-f", file, *finish], netns=self.namespace)

    def _running(self) -> list[int]:
        """Pids of running HAProxy processes. Removes the files of those that ended."""
        pids = {name: self._processes.pid(name) for name in self._processes.names()}
        for name in [name for name, pid in pids.items() if pid is None]:
            self._processes.stop(name)
            self._processes.log(name).unlink(missing_ok=True)
            (self._directory / f"{name}.cfg").unlink(missing_ok=True)
        return [pid for pid in pids.values() if pid is not None]

    def _certificates(self, found: list[Frontend]) -> dict[str, Path]:
        """Address → PEM file with certificate and key, for all HTTPS frontends; created if missing."""
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
        await self._set_addresses(set())


def _host(address: str) -> str:
    return f"{address}/128 nodad" if ":" in address else f"{address}/32"
