"""What an installation in a lab and its life cycle are made of, without a lab; `make life-cycle` plays the cases."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest
import yaml

from spiderpool_lab import chart, executable, probes
from spiderpool_lab.chart_release import lab_values
from spiderpool_lab.life_cycle import prober, report
from spiderpool_lab.life_cycle.cases import CASES, FIRST
from spiderpool_lab.life_cycle.command import chosen
from spiderpool_lab.life_cycle.report import CaseOutcome
from spiderpool_lab.pod_servers import PodIdentity, serving
from spiderpool_lab.ports import free_ports, is_free
from spiderpool_lab.probes import TrafficProbe

pytestmark = pytest.mark.unit

SERVER_SOURCE = Path(prober.__file__).parents[1] / "pod_server.c"
OWN_NETWORK = Path("/proc/self/ns/net")


def test_the_chart_takes_the_values_of_a_lab(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    cloud = {"clusterID": "a", "discovery": True, "loadBalancers": {"vpcID": "vpc-lab"}}
    values = lab_values(cloud, "https://198.18.0.1:8443", {"SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS": "5"})
    file.write_text(yaml.safe_dump(values))
    text = chart.helm("template", chart.RELEASE, chart.CHART, "--namespace", chart.NAMESPACE, "--values", file)
    (cloud_pod,) = (
        each["spec"]["template"]["spec"]
        for each in chart.documents(text)
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "spiderpool-cloud"
    )
    (container,) = cloud_pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["SPIDERPOOL_CLOUD_ENDPOINT"] == "https://198.18.0.1:8443"
    folders = {each["mountPath"] for each in container["volumeMounts"]}
    assert str(Path(environment["SPIDERPOOL_CLOUD_CA"] or "").parent) in folders
    assert environment["SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS"] == "5"


async def test_a_client_counts_what_is_answered_and_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "PROMPT", 0.0)
    (port,) = free_ports(1, tmp_path)
    probe = TrafficProbe(kind="http", target="127.0.0.1", port=port, count=1, timeout=prober.TIMEOUT)
    file = tmp_path / "probes.json"
    task = asyncio.create_task(prober.run(probe, OWN_NETWORK, file))
    async with asyncio.timeout(30):
        async with serving(OWN_NETWORK, (("TCP", port),), PodIdentity("a", "b")):
            while not (file.exists() and prober.read(file).answered > 3):
                await asyncio.sleep(0.05)
        while not prober.read(file).lost:
            await asyncio.sleep(0.05)
    seen = prober.read(file)
    assert seen.lost[0] >= seen.answered
    assert seen.late == seen.answered
    assert seen.ended + len(seen.open) == seen.sent
    assert "Connect call failed" in prober.read(file).latest[0]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_server_logs_the_numbers_of_the_requests_that_it_gets(tmp_path: Path) -> None:
    program = executable.compile_static(SERVER_SOURCE, tmp_path / "pod-server")
    ports = free_ports(2, tmp_path)
    with subprocess.Popen([program, *map(str, ports)], stdout=subprocess.PIPE, text=True) as server:
        while is_free(ports[0]):
            assert server.poll() is None
        paths = ("/17", "/18" + 500 * "8", "/19?a")
        sent = [TrafficProbe(kind="http", target="127.0.0.1", port=ports[0], path=path) for path in paths]
        answers = asyncio.run(probes.run_all([(probe, OWN_NETWORK) for probe in sent]))
        server.terminate()
        log = server.stdout.read() if server.stdout else ""
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert sorted(len(line) for line in log.splitlines()) == [16, 18, 254]
    assert prober.logged(log) == {17}


def test_the_page_has_a_row_for_each_case_with_what_was_lost() -> None:
    bad = CaseOutcome("upgrade", "Something", 100, 4, 3, 1, 2, 31.4, ("lost: 10:00:00 no answer",))
    good = CaseOutcome("rollback", "Another", 50, 0, 0, 0, 0, 20.0)
    noted = CaseOutcome("store-restored", "More", 50, 0, 1, 0, 0, 20.0, loses="it is away", notes=("a pod ended",))
    skipped = CaseOutcome("earlier-agents", "Older", 0, 0, 0, 0, 0, 0.0, skipped="skipped: no commit")
    rows = [
        line for line in report.page([bad, good, noted, skipped], "Kubernetes 1").splitlines() if line.startswith("| ")
    ]
    assert rows[1:] == [
        "| Something (`upgrade`) | 100 | 4 | 3 | 1 | 2 | 31 | fail: lost: 10:00:00 no answer |",
        "| Another (`rollback`) | 50 | 0 | 0 | 0 | 0 | 20 | pass |",
        "| More (`store-restored`) | 50 | 0 | 1 | 0 | 0 | 20 | pass: it is away; a pod ended |",
        "| Older (`earlier-agents`) | 0 | 0 | 0 | 0 | 0 | 0 | skipped: no commit |",
    ]


def test_where_a_case_needs_the_earlier_version_its_update_comes_first() -> None:
    assert [case.name for case in chosen(("nothing", "earlier-agents"))] == [FIRST, "earlier-agents", "nothing"]
    assert [case.name for case in chosen(("removal", "nothing"))] == ["nothing", "removal"]


def test_cases_are_known_by_names_and_titles() -> None:
    assert {"upgrade", "upgrade-while-pods-start", "rollback", "image-missing", "removal"} <= CASES.keys()
    assert all(case.title and not case.title.endswith(".") for case in CASES.values())
