from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spiderpool.errors import BadConfig
from spiderpool_lab import binaries, cluster, conformance, namespaces
from spiderpool_lab.conformance_report import E2EOutcome, failures
from spiderpool_lab.conformance_tests import plan, smoke
from spiderpool_lab.topology import enlarged
from tests.lab.names import lab_name


@pytest.mark.unit
def test_nodes_have_addresses_for_many_pods_and_none_twice() -> None:
    topology = enlarged(conformance.ADDRESSES)
    registered = [address for node in topology.nodes for eni in node.enis for address in eni.registered]
    assert len(registered) == len({*registered})
    for node in topology.nodes:
        assert len(node.enis[0].secondaries) == len(node.enis[0].secondaries6) == conformance.ADDRESSES


@pytest.mark.lab
@pytest.mark.full
@pytest.mark.timeout(420)
@pytest.mark.skipif(binaries.locate("e2e.test") is None, reason="`make conformance` builds e2e.test")
def test_a_few_of_kubernetes_own_tests_pass(tmp_path: Path) -> None:
    names = smoke(conformance.list_tests()).run
    with cluster.temporary(lab_name("conf"), conformance.lab_options()) as lab:
        conformance.reach_api_server_from_internet(lab)
        tests = conformance.Tests(lab, tmp_path, limit=120)
        asyncio.run(tests.run(names, 4, time.monotonic() + 240))
    outcomes = [outcome for name in names if (outcome := tests.known(name))]
    assert [outcome.name for outcome in outcomes] == [*names]
    assert not failures(outcomes)


RIVAL = """
import sys
from spiderpool_lab.cluster import LabCluster

cluster = LabCluster(sys.argv[1])
cluster.prepare()
cluster.fabric.up()
print(flush=True)
sys.stdin.readline()
cluster.down()
"""


@pytest.mark.lab
@pytest.mark.full  # it needs Kubernetes' tests
@pytest.mark.timeout(60)
def test_the_lab_of_another_run_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = lab_name("confrival")
    monkeypatch.setattr(conformance, "NAME", name)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", RIVAL, name], stdin=pipe, stdout=pipe, text=True) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        with pytest.raises(BadConfig, match=f"spiderpool-lab down --name {name}"), conformance.lab(keep=False):
            pass
        assert namespaces.path(cluster.LabCluster(name).fabric.vpc).exists()
        rival.communicate("\n", timeout=30)
    assert rival.returncode == 0
    cluster.state_directory(name).with_name(f"{name}.lock").unlink()


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("keep", [False, True])
def test_a_lab_is_not_used_by_two_runs(monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """Nothing of it is touched by the second one, with ``keep`` neither."""
    name = lab_name("confsole")
    monkeypatch.setattr(conformance, "NAME", name)
    file = cluster.state_directory(name).with_name(f"{name}.lock")
    with conformance._only_run(file), pytest.raises(BadConfig, match="is under way"), conformance.lab(keep=keep):
        pass
    assert not cluster.state_directory(name).exists()
    file.unlink()


@pytest.mark.unit
@pytest.mark.skipif(binaries.locate("e2e.test") is None, reason="`make conformance` builds e2e.test")
def test_the_version_has_all_conformance_tests_of_the_network() -> None:
    chosen = plan(conformance.list_tests())
    assert len([name for name in chosen.run if name.startswith("[sig-network]") and "[Conformance]" in name]) >= 40
    assert not [name for name in chosen.left_out if "[Conformance]" in name]
    assert len(smoke(chosen.run).run) == 4


BY_DESIGN = "Networking should set TCP CLOSE_WAIT timeout"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("option", "wanted"), [("", ["good", "bad", BY_DESIGN, "new"]), ("again", ["bad", "new"]), ("missing", ["new"])]
)
def test_outcomes_of_earlier_runs_decide_what_is_run(option: str, wanted: list[str]) -> None:
    choice = conformance.Choice(again=option == "again", missing=option == "missing", side_by_side=1, limit=1, until=1)
    failed = {name: E2EOutcome(name, "failed", 1.0) for name in ("bad", BY_DESIGN)}
    known = {"good": E2EOutcome("good", "passed", 1.0), **failed, "new": None}
    assert [name for name, outcome in known.items() if choice.wants(outcome)] == wanted
