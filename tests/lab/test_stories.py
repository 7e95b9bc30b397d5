"""Fast nodes do in the stories what real ones were seen to do (``tests/lab/data/stories/real.json``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import pytest

from spiderpool.errors import BadConfig
from spiderpool_lab.stories import command, contract, report
from spiderpool_lab.stories.packet_sizes import link_mtus
from spiderpool_lab.stories.report import Report, StoryOutcome
from spiderpool_lab.stories.runner import messages
from spiderpool_lab.stories.stage import CALLS_IN_PROGRESS, pod, replicated
from spiderpool_lab.stories.story import STORIES, Story, StoryFailed, expect
from spiderpool_lab.topology import enlarged
from tests.lab.names import lab_name
from tests.lab.test_story_audit import ADD
from tests.support.eventually import wait_until

QUICK = ("pause-killed",)
"""Stories that take seconds and were seen on real nodes. ``make stories`` plays all."""


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_fast_nodes_do_what_real_ones_were_seen_to_do() -> None:
    """All stories in one run, because the late calls of each come while the others are played."""
    assert {*QUICK} <= report.load("real").traces.keys(), "there is something to compare with"
    arguments = ["stories", "--name", lab_name("stories"), *QUICK]
    run = [sys.executable, "-m", "spiderpool_lab.main", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=390, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("│ pass") == len(QUICK)


LIVES = {"web-abcde": [[ADD, msgspec.structs.replace(ADD, command="DEL", has_netns=False)]]}


@pytest.mark.unit
def test_a_trace_has_the_calls_of_each_sandbox_without_random_names() -> None:
    found = contract.trace(LIVES, {"web-abcde": "Running"})
    assert found.sandboxes == {"web": [["ADD netns", "DEL"]]}
    assert found.statuses == {"web": "Running"}
    assert contract.plain_name("many-5d78c9869d-x2k4v") == "many"
    assert contract.plain_name("static-master") == "static-master"


@pytest.mark.unit
def test_late_calls_with_nothing_count_once() -> None:
    late = msgspec.structs.replace(ADD, command="DEL", has_netns=False)
    assert contract.trace({"a": [[ADD, late, late, late]]}, {}).sandboxes == {"a": [["ADD netns", "DEL"]]}


@pytest.mark.unit
def test_differences_name_the_pod_and_both_sides() -> None:
    real = contract.trace(LIVES, {"web-abcde": "Running"})
    assert contract.differences(real, real) == []
    fast = msgspec.structs.replace(real, sandboxes={"web": [["ADD netns"]]}, statuses={})
    assert contract.differences(real, fast) == [
        "sandboxes of web: real [['ADD netns', 'DEL']], fast [['ADD netns']]",
        "statuses of web: real Running, fast nothing",
    ]


def _story(name: str, *, steady: bool = True, real_only: str = "") -> Story:
    return Story(name, name.title(), lambda _: None, real_only, steady)


@pytest.mark.unit
def test_only_steady_stories_that_both_have_played_are_compared() -> None:
    seen = contract.trace(LIVES, {})
    other = msgspec.structs.replace(seen, sandboxes={})
    real = Report(traces={"a": seen, "b": seen, "c": seen})
    fast = Report(traces={"a": other, "b": other})
    found = report.unlike(real, fast, [_story("a"), _story("b", steady=False), _story("c")])
    assert list(found) == ["a"]


@pytest.mark.unit
def test_the_page_has_a_row_for_each_story_and_kind_of_nodes() -> None:
    outcome = StoryOutcome("a", "A", 3.2, ["lost"], {"ADD": 2, "DEL!": 1})
    stories = {"a": _story("a"), "b": _story("b", real_only="needs images")}
    rows = report.page(stories, {"real": Report("v1", {"a": outcome}), "fast": Report()}).splitlines()
    assert "| A (`a`) | real | 2 ADD, 1 DEL! | fail: lost | 3 |" in rows
    assert "| A (`a`) | fast | | not played yet | |" in rows
    assert "| B (`b`) | fast | | not played: needs images | |" in rows
    assert "- real: v1" in rows


@pytest.mark.unit
def test_the_page_is_that_of_the_files() -> None:
    assert report.PAGE.read_text() == report.page(STORIES, {kind: report.load(kind) for kind in command.KINDS})


@pytest.mark.unit
def test_a_name_that_is_no_story_is_refused() -> None:
    command.check_names(["jobs"])
    with pytest.raises(BadConfig, match="there is no story jbos; there are"):
        command.check_names(["jbos"])


@pytest.mark.unit
def test_manifests_of_stories() -> None:
    made = pod("web", "master", host_network=True)
    assert made["spec"]["hostNetwork"]
    assert made["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "master"}
    assert replicated("StatefulSet", "set", 2)["spec"]["serviceName"] == "set"
    with pytest.raises(StoryFailed, match="not so: the sky is green"):
        expect(False, "the sky is green")


@pytest.mark.unit
def test_why_a_story_failed_is_said_also_when_undoing_fails() -> None:
    def paint() -> None:
        try:
            expect(False, "the sky is green")
        finally:
            expect(False, "the brush is clean")

    with pytest.raises(StoryFailed) as caught:
        paint()
    assert messages(caught.value) == ["not so: the sky is green", "not so: the brush is clean"]


@pytest.mark.unit
def test_the_pods_of_calls_in_progress_are_found() -> None:
    """With a command that nothing else on this machine has."""
    command = f"TEST-{os.getpid()}"
    environment = {"CNI_COMMAND": command, "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web"}
    look = ["sh", "-ec", CALLS_IN_PROGRESS.format(command=command)]
    with subprocess.Popen(["sleep", "60"], env=environment) as call:
        found = wait_until(lambda: subprocess.check_output(look, text=True), "the call is found", timeout=10)
        call.kill()
    assert found == "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web\n"
    assert subprocess.check_output(look, text=True) == ""


@pytest.mark.unit
def test_mtus_of_a_pod_s_links_and_of_the_node_s_end() -> None:
    inside = [{"ifindex": 1, "ifname": "lo"}, {"ifindex": 2, "ifname": "eth0", "mtu": 8500}]
    inside += [{"ifindex": 3, "ifname": "veth0", "mtu": 1500, "link_index": 7}]
    outside = [{"ifindex": 7, "ifname": "veth0a1", "mtu": 1400}, {"ifindex": 2, "ifname": "eth0", "mtu": 9000}]
    found = link_mtus(json.dumps(inside), json.dumps(outside))
    assert found == {"eth0": 8500, "veth0": 1500, "node": 1400}


@pytest.mark.unit
def test_a_larger_topology_has_addresses_that_no_server_has() -> None:
    large = enlarged(130)
    every = [address for node in large.nodes for eni in node.enis for address in eni.registered]
    assert len(every) == len({*every})
    assert [len(node.enis[0].secondaries) for node in large.nodes] == [130, 130]
