"""Asking backends whether they are well, as the balancers do: by TCP, HTTP or UDP, from inside a namespace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from spiderpool_lab import namespaces
from spiderpool_lab.alibaba.forwarding import HealthCheck

Report = Callable[[HealthCheck, bool], None]


class Prober:
    """Carries out the checks that it is given and reports every change of health; the first answer counts at once.

    ``source`` is the IPv4 address that it asks from. ``pace`` stretches all times: 0.1 is ten times as fast.
    """

    def __init__(self, netns: Path | None, report: Report, *, source: str | None = None, pace: float = 1.0) -> None:
        self._netns = netns
        self._report = report
        self._source = source
        self._pace = pace
        self._tasks: dict[HealthCheck, asyncio.Task[None]] = {}

    def follow(self, checks: Iterable[HealthCheck]) -> None:
        """Carry out these checks from now on, and no others."""
        wanted = set(checks)
        for check in self._tasks.keys() - wanted:
            self._tasks.pop(check).cancel()
        for check in wanted - self._tasks.keys():
            self._tasks[check] = asyncio.create_task(self._watch(check))

    async def stop(self) -> None:
        """End all checks."""
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, check: HealthCheck) -> None:
        healthy: bool | None = None
        streak = 0
        while True:
            answered = await self._ask(check)
            streak = streak + 1 if answered != healthy else 0
            if healthy is None or streak >= (check.rise if answered else check.fall):
                healthy, streak = answered, 0
                self._report(check, healthy)
            await asyncio.sleep(check.interval * self._pace)

    async def _ask(self, check: HealthCheck) -> bool:
        try:
            async with asyncio.timeout(check.timeout * self._pace):
                return await self._try(check)
        except TimeoutError:
            return check.kind == "udp"  # silence is all that a well UDP server owes a stranger
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return False

    async def _try(self, check: HealthCheck) -> bool:
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
                    return _accepted(await loop.sock_recv(sock, 4096), check)

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


def _accepted(answer: bytes, check: HealthCheck) -> bool:
    """Whether a status is one of those that count as well, written as ``http_2xx``."""
    if not answer.startswith(b"HTTP/"):
        return False
    status = answer.split(maxsplit=2)[1].decode()
    return f"http_{status[0]}xx" in check.codes
