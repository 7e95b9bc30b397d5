"""How every daemon of ours begins, answers probes, and ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from spiderpool import daemon
from spiderpool.agent import main as agent
from spiderpool.api.coordination_v1 import Lease
from spiderpool.cloudcontroller import main as cloudcontroller
from spiderpool.controller import main as controller
from spiderpool.errors import BadConfig, NotReady
from spiderpool.kube.lease import Election, LeaseLock, LeaseTimings
from spiderpool.telemetry import POOLS, Values
from spiderpool_lab.ports import free_ports
from tests.support.api_server import ApiServer
from tests.support.environment import bare_environment
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

WORKING = """
import asyncio
from spiderpool import daemon
async def work() -> None:
    print("at work", flush=True)
    await asyncio.Event().wait()
daemon.run(work)
"""
FAILING = """
import asyncio
from spiderpool import daemon
from spiderpool.errors import BadConfig, NotReady
async def fail(error: Exception) -> None:
    raise error
async def work() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(NotReady("no lists yet")))
        group.create_task(fail(BadConfig("no such pool")))
daemon.run(work)
"""
UNSET = """
from spiderpool import daemon
from spiderpool.errors import BadConfig
def begin():
    raise BadConfig("SPIDERPOOL_NODE_NAME is missing")
daemon.run(begin)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("program", "messages"), [(FAILING, ["no lists yet", "no such pool"]), (UNSET, ["SPIDERPOOL_NODE_NAME is missing"])]
)
def test_errors_of_ours_are_told_and_end_it(program: str, messages: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert all(message in told for message in messages)
    assert "Traceback" not in told


DAEMONS = {
    "spiderpool-agent": agent.PROGRAM,
    "spiderpool-controller": controller.PROGRAM,
    "spiderpool-cloud": cloudcontroller.PROGRAM,
}
MODULES = {
    "spiderpool-agent": "spiderpool.agent.main",
    "spiderpool-controller": "spiderpool.controller.main",
    "spiderpool-cloud": "spiderpool.cloudcontroller.main",
}


class TestCommandLine:
    @pytest.mark.parametrize("name", DAEMONS)
    def test_help_names_the_program_its_work_and_its_settings(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as end:
            daemon.parse_arguments(DAEMONS[name], ["--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 0
        assert text.startswith(f"usage: {name} ")
        assert DAEMONS[name].summary in text
        for source in ("environment variables", "ConfigMap", "SPIDERPOOL_CONFIG", "docs/reference/settings.md"):
            assert source in text

    @pytest.mark.parametrize("name", DAEMONS)
    def test_version_is_the_installed_one(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            daemon.parse_arguments(DAEMONS[name], ["--version"])
        assert end.value.code == 0
        assert capsys.readouterr().out == f"{name} {metadata.version('spiderpool')}\n"

    @pytest.mark.parametrize("name", DAEMONS)
    @pytest.mark.parametrize("arguments", [["--colour"], ["dirty"], ["clean", "clean"]])
    def test_other_arguments_are_errors(
        self, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as end:
            daemon.parse_arguments(DAEMONS[name], arguments)
        assert end.value.code == 2
        assert "usage:" in capsys.readouterr().err

    def test_agent_and_controller_have_commands(self) -> None:
        assert daemon.parse_arguments(controller.PROGRAM, ["clean"]) == "clean"
        assert [daemon.parse_arguments(program, []) for program in DAEMONS.values()] == [None] * 3
        assert [name for name, program in DAEMONS.items() if program.commands] == [
            "spiderpool-agent",
            "spiderpool-controller",
        ]

    @pytest.mark.parametrize("name", MODULES)
    @pytest.mark.parametrize(
        ("variable", "value", "config"),
        [
            ("SPIDERPOOL_HEALTH_PORT", "many", ""),
            ("SPIDERPOOL_LOG_LEVEL", "loud", ""),
            ("SPIDERPOOL_LOG_LEVEL", "info", "enableIPv5: true"),
            ("SPIDERPOOL_LOG_LEVEL", "info", "- a list"),
            ("SPIDERPOOL_LOG_LEVEL", "info", "key: ["),
            ("KUBECONFIG", "/nonexistent/kubeconfig", "cloud: {provider: alibaba, region: cn-hangzhou}"),
        ],
    )
    def test_wrong_settings_are_one_sentence_and_status_1(
        self, name: str, variable: str, value: str, config: str, tmp_path: Path
    ) -> None:
        (tmp_path / "conf.yml").write_text(config)
        given = {"SPIDERPOOL_CONFIG": str(tmp_path / "conf.yml"), "SPIDERPOOL_NODE_NAME": "n1", variable: value}
        words, environment = [sys.executable, "-m", MODULES[name]], bare_environment(**given)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        (line,) = (done.stdout + done.stderr).splitlines()
        entry = json.loads(line)
        assert (entry["level"], entry["event"]) == ("error", "cannot run")
        assert variable in entry["error"] or "conf.yml" in entry["error"]

    def test_a_misspelt_variable_is_a_line_of_the_log(self, tmp_path: Path) -> None:
        environment = bare_environment(SPIDERPOOL_NODE_NAMES="n1", SPIDERPOOL_CONFIG=str(tmp_path / "x"))
        words = [sys.executable, "-m", MODULES["spiderpool-agent"]]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20)
        warning, error = map(json.loads, done.stdout.splitlines())
        assert (warning["level"], error["level"]) == ("warning", "error")
        assert "SPIDERPOOL_NODE_NAMES is not read; did you mean SPIDERPOOL_NODE_NAME?" in warning["warning"]


async def test_an_address_in_use_is_a_wrong_setting() -> None:
    (port,) = free_ports(1)
    async with daemon.listening(web.Application(), "127.0.0.1", port):
        with pytest.raises(BadConfig, match=f"port {port}"):
            async with daemon.listening(web.Application(), "127.0.0.1", port):
                pass
    with pytest.raises(BadConfig, match="port 70000"):
        async with daemon.listening(web.Application(), "127.0.0.1", 70000):
            pass


class Leader:
    """Leads until told to end."""

    def __init__(self) -> None:
        self.not_ready_reason: str | None = "lists are missing"
        self.over = asyncio.Event()

    async def run(self) -> None:
        await self.over.wait()
        raise NotReady("no lists")


class TestReplica:
    TIMINGS = LeaseTimings(duration=0.6, renew=0.4, retry=0.05)

    async def test_leads_gives_the_lease_back_and_says_why_it_is_not_ready(self) -> None:
        async with ApiServer(Lease.KIND) as server, server.client() as client:
            leaders: list[Leader] = []
            blockers: list[str] = []

            def lead() -> Leader:
                leaders.append(Leader())
                return leaders[-1]

            def replica(name: str) -> daemon.Replica:
                election = Election(client, LeaseLock("lease", "kube-system", name), self.TIMINGS)
                return daemon.Replica(election, lead, lambda: blockers[0] if blockers else None)

            first, second = replica("first"), replica("second")
            assert (first.not_ready_reason, first.leading) == ("no leader is known", False)
            tasks = [asyncio.create_task(first.run())]
            await eventually(lambda: first.leading)
            assert first.not_ready_reason == "leading, lists are missing"
            leaders[0].not_ready_reason = None
            assert first.not_ready_reason is None
            blockers.append("no certificate")
            assert first.not_ready_reason == "no certificate"
            blockers.clear()
            tasks.append(asyncio.create_task(second.run()))
            await eventually(lambda: second.not_ready_reason is None)
            assert not second.leading
            leaders[0].over.set()
            with pytest.raises(NotReady, match="no lists"):
                await tasks[0]
            assert not first.leading
            await eventually(lambda: second.leading)
            tasks[1].cancel()
            await asyncio.wait((tasks[1],))
            assert server.stored(Lease)["kube-system/lease"].spec.holderIdentity is None


async def test_probes_and_metrics_of_a_replica() -> None:
    (port,) = free_ports(1)
    leader = Leader()

    async def get(path: str) -> tuple[int, str]:
        async with http.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()

    async with ApiServer(Lease.KIND) as server, server.client() as client:
        lock = LeaseLock("lease", "kube-system", "one")
        replica = daemon.Replica(Election(client, lock, TestReplica.TIMINGS), lambda: leader)
        async with daemon.listening(daemon.runtime(replica), "127.0.0.1", port), aiohttp.ClientSession() as http:
            assert await get("/v1/runtime/readiness") == (503, "no leader is known")
            assert await get("/v1/runtime/liveness") == (200, "standing by")
            task = asyncio.create_task(replica.run())
            await eventually(lambda: replica.leading)
            leader.not_ready_reason = None
            assert await get("/v1/runtime/startup") == (200, "ok")
            assert await get("/v1/runtime/liveness") == (200, "leading")
            status, text = await get("/metrics")
            task.cancel()
            await asyncio.wait((task,))
    assert status == 200
    assert "spiderpool_" in text


async def test_metrics_are_computed_once_a_second_however_often_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    computed: list[int] = []

    def values() -> Values:
        computed.append(len(computed))
        return {(): float(len(computed))}

    async def get(session: aiohttp.ClientSession) -> str:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
            return await response.text()

    async with ApiServer(Lease.KIND) as server, server.client() as client:
        lock = LeaseLock("lease", "kube-system", "one")
        replica = daemon.Replica(Election(client, lock, TestReplica.TIMINGS), Leader)
        monkeypatch.setattr(daemon, "METRICS_AGE", 60.0)
        async with (
            daemon.listening(daemon.runtime(replica), "127.0.0.1", port),
            aiohttp.ClientSession() as session,
        ):
            with POOLS.computed_by(values):
                texts = {await get(session) for _ in range(5)}
    assert computed == [0]
    assert len(texts) == 1
    assert "spiderpool_total_ippool_counts 1.0" in texts.pop()
