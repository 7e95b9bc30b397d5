"""The controller as a process of its own, under its own service account, beside a real API server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.lab.control_plane import ControlPlane

WEBHOOKS = "mutatingwebhookconfigurations,validatingwebhookconfigurations"

REFUSED_POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: refused}
spec: {subnet: 10.0.0.1/24}
"""


@dataclass(frozen=True)
class Running:
    """A running controller."""

    process: subprocess.Popen[bytes]
    health: str
    log: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(control_plane: ControlPlane, directory: Path) -> Running:
    webhook, health = _free_port(), _free_port()
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_CONFIG": str(directory / "conf.yml"),
        "SPIDERPOOL_WEBHOOK_HOST": "127.0.0.1",
        "SPIDERPOOL_WEBHOOK_PORT": str(webhook),
        "SPIDERPOOL_WEBHOOK_URL": f"https://127.0.0.1:{webhook}",
        "SPIDERPOOL_HEALTH_PORT": str(health),
        "SPIDERPOOL_GC_INTERVAL_SECONDS": "0.3",
        "SPIDERPOOL_GC_GRACE_SECONDS": "1",
    }
    (directory / "conf.yml").write_text("enableIPv6: true\n")
    log = directory / "controller.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "spiderpool.controller.main"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    return Running(process, f"http://127.0.0.1:{health}", log)


def _wait(running: Running, condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert running.process.poll() is None, running.log.read_text()
        assert time.monotonic() < deadline, f"{what}: {running.log.read_text()}"
        time.sleep(0.05)


def _ready(running: Running) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{running.health}/v1/runtime/readiness", timeout=5) as reply:
            return bool(reply.status == 200)
    except URLError:
        return False


def _refuses(control_plane: ControlPlane) -> bool:
    try:
        control_plane.kubectl("create", "--dry-run=server", "-f", "-", input=REFUSED_POOL)
    except SpiderpoolError as error:
        return "spec.subnet" in error.message
    return False


@pytest.fixture(scope="package")
def controller(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A controller whose webhooks the API server calls. Its webhooks are removed at the end."""
    running = _start(control_plane, tmp_path_factory.mktemp("controller"))
    try:
        _wait(running, lambda: _ready(running), "not ready")
        _wait(running, lambda: _refuses(control_plane), "webhooks not in use")
        yield running
        running.process.terminate()
        assert running.process.wait(timeout=2) == 0, running.log.read_text()
    finally:
        running.process.kill()
        running.process.wait(timeout=10)
        control_plane.kubectl("delete", WEBHOOKS, "--field-selector=metadata.name=spiderpool-controller")


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """An administrator's client."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client


async def eventually(condition: Callable[[], Awaitable[bool]], timeout: float) -> None:
    """Wait until a condition holds. Fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.05)
