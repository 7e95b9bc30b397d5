"""The controller as a process of its own, under its own service account, beside a real API server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from spiderpool.api.core_v1 import Namespace
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.ports import free_ports
from tests.controller.subnet_objects import PATIENCE, emptied, has_account
from tests.support.environment import bare_environment
from tests.support.eventually import eventually, wait_until

STOP_TIMEOUT = 20
"""Seconds for a controller to end after SIGTERM."""

REGISTRATIONS = [
    f"{kind}/spiderpool-controller" for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
]
"""Our webhook configurations."""

REFUSED_POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: refused}
spec: {subnet: 10.0.0.1/24}
"""


CONFIG = """
enableIPv6: true
podResourceInject: {enabled: true, namespacesExclude: [kube-system, left-alone]}
agent: {networkResourcePlugin: {enabled: true, resourceAdvertisement: [{masterNIC: {}}]}}
"""
"""Content of the ConfigMap's file."""


@dataclass(frozen=True)
class Running:
    """A running controller."""

    process: subprocess.Popen[bytes]
    health: str
    log: Path

    @property
    def is_leading(self) -> bool:
        """Whether it leads, as its liveness probe says."""
        return self.probe("liveness") == (200, "leading")

    @property
    def is_ready(self) -> bool:
        """What its readiness probe says."""
        return self.probe("readiness")[0] == 200

    def probe(self, name: str) -> tuple[int, str]:
        """Status and text of a probe; (0, "") when it does not answer."""
        try:
            with build_opener(ProxyHandler({})).open(f"{self.health}/v1/runtime/{name}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    def stop(self) -> None:
        """Stop in order. Fails when it does not end, or ends with an error."""
        self.process.terminate()
        assert self.process.wait(timeout=STOP_TIMEOUT) == 0, self.log.read_text()

    def kill(self) -> None:
        """End it, dead or alive."""
        self.process.kill()
        self.process.wait(timeout=10)


def start_controller(
    control_plane: ControlPlane,
    directory: Path,
    *,
    port: int | None = None,
    config: str = CONFIG,
    command: str = "",
    **variables: str,
) -> Running:
    """Start a controller whose webhooks listen on ``port``; ``variables`` are added to its environment."""
    directory.mkdir(exist_ok=True)
    webhook, health = port or free_ports(1)[0], free_ports(1)[0]
    url = variables.pop("SPIDERPOOL_WEBHOOK_URL", f"https://127.0.0.1:{webhook}")
    control_plane.admit_webhook_url(url)
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    environment = {
        **bare_environment(),
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_CONFIG": str(directory / "conf.yml"),
        "SPIDERPOOL_WEBHOOK_HOST": "127.0.0.1",
        "SPIDERPOOL_WEBHOOK_PORT": str(webhook),
        "SPIDERPOOL_WEBHOOK_URL": url,
        "SPIDERPOOL_HEALTH_PORT": str(health),
        "SPIDERPOOL_GC_INTERVAL_SECONDS": "0.3",
        "SPIDERPOOL_GC_GRACE_SECONDS": "1",
        "SPIDERPOOL_GC_NODE_GRACE_SECONDS": "2",
        "SPIDERPOOL_GC_AGENT_GRACE_SECONDS": "3",
        "SPIDERPOOL_CNI_CONFIG_DIR": str(directory / "net.d"),
    }
    (directory / "conf.yml").write_text(config)
    log = directory / "controller.log"
    with log.open("wb") as out:
        words = [sys.executable, "-m", "spiderpool.controller.main", *command.split()]
        process = subprocess.Popen(words, env=environment | variables, stdout=out, stderr=subprocess.STDOUT)
    return Running(process, f"http://127.0.0.1:{health}", log)


def wait(running: Running, condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Wait until a condition holds. Fails, with the log, when it does not, or when the controller ends before."""

    def holds_while_it_runs() -> bool:
        assert running.process.poll() is None, "the controller has ended"
        return condition()

    try:  # most conditions run kubectl, which takes processor time from the controller: not too often
        wait_until(holds_while_it_runs, what, timeout=timeout, interval=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{running.log.read_text()}") from error


def refuses(control_plane: ControlPlane) -> bool:
    """Whether the API server asks us about pools."""
    try:
        control_plane.kubectl("create", "--dry-run=server", "-f", "-", input=REFUSED_POOL)
    except SpiderpoolError as error:
        return "spec.subnet" in error.message
    return False


def unregister(control_plane: ControlPlane) -> None:
    """Empty the webhook configurations, so that the API server asks nobody."""
    control_plane.kubectl("patch", *REGISTRATIONS, "--type=merge", "--patch", '{"webhooks": null}')


@pytest.fixture(scope="package")
def controller(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A controller whose webhooks the API server calls. Its webhooks are removed at the end."""
    directory = tmp_path_factory.mktemp("controller")
    running = start_controller(control_plane, directory, SPIDERPOOL_REMOVE_STARTUP_TAINT="true")
    try:
        wait(running, lambda: running.is_ready, "not ready")
        wait(running, lambda: refuses(control_plane), "webhooks not in use")
        yield running
        running.stop()
    finally:
        running.kill()
        unregister(control_plane)


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """An administrator's client."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client


@pytest.fixture
async def namespace(client: Client, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of the test's own; at the end what it holds goes, then the cluster's pools and subnets."""
    name = "ns-" + re.sub(r"[^a-z0-9]", "-", request.node.name.lower())[:40].strip("-")
    await client.create(Namespace(metadata=ObjectMeta(name=name)))
    await eventually(lambda: has_account(client, name), timeout=PATIENCE)
    yield name
    await client.delete(Namespace, name)
    for ip in await client.list(SpiderIP):
        await client.delete(SpiderIP, ip.name)
    for reserved in await client.list(SpiderReservedIP):
        await client.delete(SpiderReservedIP, reserved.name)
    await eventually(lambda: emptied(client), timeout=30)
