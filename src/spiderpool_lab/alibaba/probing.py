"""Health checks of backends by TCP, HTTP or UDP, from inside a network namespace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

from spiderpool.telemetry import logger
from spiderpool_lab import namespaces
from spiderpool_lab.alibaba.forwarding import HealthCheck

HealthListener = Callable[[HealthCheck, bool], None]
"""Gets a check and whether its backend is healthy."""

log = logger("balancers")

_HTTP_ANSWER_MAX = 4096
"""Bytes to read of an HTTP answer; the status line is enough."""


class Prober:
    """Runs health checks and calls the listener at every change of health.

    The first result of a check counts at once, unless its backend is known to be healthy, or not, by another check.

    ``source`` is the IPv4 source address. ``time_scale`` multiplies all times: 0.1 is ten times as fast.
    """

    def __init__(
        self, netns: Path | None, listener: HealthListener, *, source: str | None = None, time_scale: float = 1.0
    ) -> None:
        self._netns = netns
        self._listener = listener
        self._source = source
        self._time_scale = time_scale
        self._tasks: dict[HealthCheck, asyncio.Task[None]] = {}  # check → the task that repeats it

    def set_checks(self, checks: Iterable[HealthCheck], known: Mapping[HealthCheck, bool] | None = None) -> None:
        """Run exactly these checks from now on; ``known``: new ones whose backend counts as healthy, or not."""
        desired = set(checks)
        for check in self._tasks.keys() - desired:
            self._tasks.pop(check).cancel()
        for check in desired - self._tasks.keys():
            self._tasks[check] = asyncio.create_task(self._repeat(check, (known or {}).get(check)))

    async def stop(self) -> None:
        """End all checks."""
        tasks = list(self._tasks.values())
        self.set_checks(())
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("health check failed", error=repr(error))

    async def _repeat(self, check: HealthCheck, healthy: bool | None) -> None:
        streak = 0
        while True:
            passed = await self._is_healthy(check)
            streak = streak + 1 if passed != healthy else 0
            if healthy is None or streak >= (check.rise if passed else check.fall):
                healthy, streak = passed, 0
                self._listener(check, healthy)
            await asyncio.sleep(check.interval * self._time_scale)

    async def _is_healthy(self, check: HealthCheck) -> bool:
        try:
            async with asyncio.timeout(check.timeout * self._time_scale):
                return await self._probe(check)
        except TimeoutError:
            return check.kind == "udp"  # no ICMP error: as on the real NLB, silence of a UDP server counts as healthy
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return False

    async def _probe(self, check: HealthCheck) -> bool:
        kind = socket.SOCK_DGRAM if check.kind == "udp" else socket.SOCK_STREAM
        with self._socket(check, kind) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (check.address, check.port))
            match check.kind:
                case "tcp":
                    return True
                case "udp":
                    await loop.sock_sendall(sock, b"\0")
                    await loop.sock_recv(sock, 1)
                    return True
                case "http":
                    await loop.sock_sendall(sock, _request(check))
                    return _is_accepted(await loop.sock_recv(sock, _HTTP_ANSWER_MAX), check)

    def _socket(self, check: HealthCheck, kind: int) -> socket.socket:
        version = ip_address(check.address).version
        sock = namespaces.open_socket(self._netns, socket.AF_INET if version == 4 else socket.AF_INET6, kind)
        sock.setblocking(False)
        if self._source is not None and version == 4:
            sock.bind((self._source, 0))
        return sock


def _request(check: HealthCheck) -> bytes:
    host = check.host or f"{check.address}:{check.port}"
    return f"{check.method} {check.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def _is_accepted(answer: bytes, check: HealthCheck) -> bool:
    """Whether the status code counts as healthy; the check lists codes as ``http_2xx``."""
    version, _, rest = answer.partition(b" ")
    return version.startswith(b"HTTP/") and f"http_{rest[:1].decode()}xx" in check.codes
