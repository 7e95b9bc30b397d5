"""spiderpool-cloud as a process of its own, under its own service account."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from spiderpool.cloudcontroller.main import caller
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings, SettingsSource, cloud_settings
from spiderpool_lab.control_plane import ControlPlane
from tests.cloudcontroller.conftest import World
from tests.support.eventually import eventually

CONFIG = """
cloud: {provider: alibaba, region: cn-hangzhou, alibaba: {assign: true, minFreeAddresses: 2, maxFreeAddresses: 4}}
"""


@dataclass(frozen=True)
class Running:
    """A running replica."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    async def get(self, path: str) -> str:
        """The text of a page; empty when there is none."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}{path}") as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def is_leading(self) -> bool:
        """Whether it leads."""
        return await self.get("/v1/runtime/liveness") == "leading"

    async def is_ready(self) -> bool:
        """Whether its readiness probe succeeds."""
        return await self.get("/v1/runtime/readiness") == "ok"


Start = Callable[[World], Running]


@pytest.fixture
def start(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Start]:
    """Starts replicas; ends them with the test."""
    running: list[Running] = []
    (tmp_path / "conf.yml").write_text(CONFIG)

    def begin(world: World) -> Running:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path / f"cloud-{port}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")),
            "SPIDERPOOL_CONFIG": str(tmp_path / "conf.yml"),
            "SPIDERPOOL_CLOUD_ENDPOINT": str(world.far.access.override),
            "SPIDERPOOL_CLOUD_CA": str(world.far.access.authority),
            "SPIDERPOOL_CLOUD_SECRET_DIR": str(world.far.secret),
            "SPIDERPOOL_CLOUD_CREDENTIALS": "secret",
            "SPIDERPOOL_HEALTH_PORT": str(port),
            "SPIDERPOOL_LEADER_DURATION": "3",
            "SPIDERPOOL_LEADER_RENEW_DEADLINE": "2",
            "SPIDERPOOL_LEADER_RETRY_PERIOD": "0.5",
            "SPIDERPOOL_POD_NAME": f"cloud-{port}",
        }
        with log.open("wb") as out:
            words = [sys.executable, "-m", "spiderpool.cloudcontroller.main"]
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT)
        running.append(Running(process, f"http://127.0.0.1:{port}", log))
        return running[-1]

    yield begin
    for replica in running:
        replica.process.kill()
        replica.process.wait(timeout=10)


@pytest.mark.control_plane
async def test_one_of_two_replicas_works_and_the_other_takes_over(world: World, start: Start) -> None:
    world.add_server("master")
    await world.add_node("master")
    one = start(world)
    await eventually(one.is_leading, timeout=30)
    two = start(world)
    await eventually(two.is_ready, timeout=30)
    assert not await two.is_leading()

    async def served(name: str) -> bool:
        node = await world.node(name)
        return node.spec.providerID == f"cn-hangzhou.i-{name}" and len(world.registered(f"eni-{name}-0")) == 3

    await eventually(lambda: served("master"), timeout=30)
    metrics = await one.get("/metrics")
    assert 'spiderpool_cloud_calls_total{action="AssignPrivateIpAddresses",outcome="OK"} 1.0' in metrics
    assert 'spiderpool_cloud_call_budget{action="AssignPrivateIpAddresses"} 400.0' in metrics
    one.process.kill()
    world.add_server("worker")
    await world.add_node("worker")
    await eventually(lambda: served("worker"), timeout=30)
    two.process.terminate()
    assert await asyncio.to_thread(two.process.wait, 20) == 0, two.log.read_text()
    secret = (world.far.secret / "accessKeySecret").read_text()
    assert secret not in one.log.read_text() + two.log.read_text()
    assert "Traceback" not in one.log.read_text() + two.log.read_text()


@pytest.mark.unit
class TestSettings:
    def test_names_what_it_lacks(self) -> None:
        with pytest.raises(BadConfig, match=r"cloud\.provider"):
            caller(CloudSettings())

    def test_reads_conf_yml_and_the_environment(self) -> None:
        block = {
            "provider": "alibaba",
            "clusterID": "prod",
            "internalEndpoints": False,
            "alibaba": {"assign": True, "minFreeAddresses": 2, "maxFreeAddresses": 4},
        }
        environ = {"SPIDERPOOL_CLOUD_REGION": "cn-beijing", "SPIDERPOOL_CLOUD_CA": "/ca.pem"}
        settings = cloud_settings(SettingsSource(environ, {"cloud": block}))
        assert (settings.region, settings.cluster_id, settings.authority) == ("cn-beijing", "prod", Path("/ca.pem"))
        assert not settings.internal_endpoints
        given = settings.preallocation
        assert (given.enabled, given.low, given.high) == (True, 2, 4)
        assert caller(settings)

    def test_assigns_nothing_unless_told_to(self) -> None:
        assert not cloud_settings(SettingsSource({}, {"cloud": {"provider": "alibaba"}})).preallocation.enabled

    @pytest.mark.parametrize("block", [{"minFreeAddresses": 0}, {"minFreeAddresses": 9, "maxFreeAddresses": 8}])
    def test_refuses_marks_that_cannot_be(self, block: dict[str, int]) -> None:
        with pytest.raises(BadConfig, match="minFreeAddresses"):
            cloud_settings(SettingsSource({}, {"cloud": {"alibaba": block}}))
