"""Containers as timers, and the status that a kubelet makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool_lab.containers import ContainerPlace, PodContainers
from spiderpool_lab.kubelet_pod import (
    ContainerExit,
    KubeletContainer,
    KubeletPod,
    container_exit,
    container_ports,
    pre_stop_seconds,
)
from spiderpool_lab.pod_servers import PodIdentity
from spiderpool_lab.pod_status import PodPlace, StatusReporter, pod_status
from spiderpool_lab.static_pods import read_manifests
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

HERE = ContainerPlace(None, "127.0.0.1", PodIdentity("default/web", "master"))
PLACE = PodPlace(("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), "2026-01-01T00:00:00Z")
EXIT_0, EXIT_1 = ["sh", "-c", "exit 0"], ["sh", "-c", "exit 1"]


def pod(*containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **spec: Any) -> KubeletPod:
    """As decoded from the API server, on the host network: no port is served that is not declared."""
    named = [{"name": f"c{index}", **container} for index, container in enumerate(containers)]
    first = [{"name": f"i{index}", **container} for index, container in enumerate(inits)]
    whole = {"hostNetwork": True, "containers": named, "initContainers": first, **spec}
    return msgspec.json.decode(json.dumps({"spec": whole}), type=KubeletPod)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        (["/bin/true"], ContainerExit(0, 0)),
        (["false"], ContainerExit(0, 1)),
        (["sleep", "2.5"], ContainerExit(2.5, 0)),
        (["sh", "-c", "sleep 3; exit 4"], ContainerExit(3, 4)),
        (["/bin/sh", "-c", "exit 4"], ContainerExit(0, 4)),
        (["/bin/sh", "-c", "sleep 9"], ContainerExit(9, 0)),
        (["sh", "-c", "rm -rf /"], None),
        (["sleep", "infinity"], None),
        (["nginx"], None),
        ([], None),
    ],
)
def test_when_a_container_ends_is_read_from_its_command(command: list[str], end: ContainerExit | None) -> None:
    assert container_exit(KubeletContainer("c", command=command)) == end
    assert container_exit(KubeletContainer("c", command=command[:1], args=command[1:])) == end


def test_ports_of_all_containers_once_and_80_if_there_are_none() -> None:
    declared = pod(
        {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 8080}, {"containerPort": 8080}]},
        {"ports": [{"containerPort": 9, "protocol": "SCTP"}, {"containerPort": 8080}, {"containerPort": 81}]},
    )
    assert container_ports(declared) == {"c0": [("TCP", 8080), ("UDP", 53)], "c1": [("TCP", 81)]}
    assert container_ports(pod({}, {}, hostNetwork=False)) == {"c0": [("TCP", 80)], "c1": []}
    assert container_ports(pod({})) == {"c0": []}


def test_containers_go_on_for_their_longest_sleep_within_the_grace() -> None:
    sleeping = [{"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}} for seconds in (5, 20)]
    assert pre_stop_seconds(pod(*sleeping, {})) == 20
    assert pre_stop_seconds(pod(*sleeping, terminationGracePeriodSeconds=7)) == 7
    assert pre_stop_seconds(pod({})) == 0


def containers(given: KubeletPod, changed: Callable[[], None] = lambda: None) -> PodContainers:
    return PodContainers(given, 0.01, changed)


@pytest.mark.parametrize(
    ("policy", "command", "failed"),
    [("Never", EXIT_0, False), ("Never", EXIT_1, True), ("OnFailure", EXIT_0, False)],
)
async def test_a_pod_ends_as_its_policy_says(policy: str, command: list[str], failed: bool) -> None:
    run = containers(pod({"command": command}, {"command": EXIT_0}, restartPolicy=policy))
    async with asyncio.timeout(5):
        await run.run(HERE)
    assert run.failed is failed
    ended = pod_status(PLACE, run, "Failed" if failed else "Succeeded")
    assert [status["state"]["terminated"]["exitCode"] for status in ended["containerStatuses"]] == [int(failed), 0]
    assert {entry["type"]: entry["status"] for entry in ended["conditions"]}["Ready"] == "False"


@pytest.mark.parametrize(("policy", "command"), [("Always", EXIT_0), ("OnFailure", EXIT_1)])
async def test_containers_are_restarted_as_the_policy_says(policy: str, command: list[str]) -> None:
    run = containers(pod({"command": command}, restartPolicy=policy))
    task = asyncio.create_task(run.run(HERE))
    await eventually(lambda: run.mains[0].restarts > 1)
    task.cancel()
    status = run.mains[0].status()
    assert status["lastState"]["terminated"]["exitCode"] == int(command == EXIT_1)


async def test_init_containers_come_first_and_sidecars_stay() -> None:
    order: list[str] = []
    sidecar = {"restartPolicy": "Always"}
    given = pod({}, inits=({"command": EXIT_0}, sidecar, {"command": ["sleep", "0.1"]}))
    run = containers(given, lambda: order.append(" ".join(name(run) for run in (*run.inits, *run.mains))))

    def name(one: Any) -> str:
        return str(next(iter(one.state)))

    task = asyncio.create_task(run.run(HERE))
    await eventually(lambda: run.ready)
    assert order[-1] == "terminated running terminated running"
    assert "terminated running running waiting" in order
    assert run.started
    run.lose()
    assert (run.started, run.ready, run.mains[0].restarts) == (False, False, 1)
    task.cancel()


async def test_an_init_container_that_fails_ends_a_pod_that_is_never_restarted() -> None:
    run = containers(pod({}, inits=({"command": EXIT_1},), restartPolicy="Never"))
    async with asyncio.timeout(5):
        await run.run(HERE)
    assert (run.failed, run.started) == (True, False)


async def test_a_killed_container_is_restarted() -> None:
    run = containers(pod({}))
    task = asyncio.create_task(run.run(HERE))
    await eventually(lambda: run.ready)
    run.kill("c0")
    await eventually(lambda: run.mains[0].restarts == 1 and run.ready)
    assert run.mains[0].last_state["terminated"]["exitCode"] == 137
    with pytest.raises(KeyError):
        run.kill("other")
    task.cancel()


@pytest.mark.parametrize("probed", ["httpGet", "tcpSocket"])
async def test_a_pod_is_ready_when_its_probe_is_answered(probed: str, unused_tcp_port: int) -> None:
    probe = {probed: {"port": "web"}, "periodSeconds": 1}
    port = {"containerPort": unused_tcp_port, "name": "web"}
    run = containers(pod({"ports": [port], "readinessProbe": probe}))
    task = asyncio.create_task(run.run(HERE))
    await eventually(lambda: run.ready)
    task.cancel()


async def test_a_probe_without_an_answer_keeps_a_pod_unready(unused_tcp_port: int) -> None:
    run = containers(pod({"readinessProbe": {"tcpSocket": {"port": unused_tcp_port}}}))
    task = asyncio.create_task(run.run(HERE))
    await eventually(lambda: run.started)
    await asyncio.sleep(0.2)
    assert not run.ready
    task.cancel()


def test_status_before_and_after_the_network_is_there() -> None:
    run = containers(pod({"image": "web:1"}))
    before = pod_status(PodPlace(PLACE.node, (), PLACE.since), run, "Pending")
    run.mains[0].start()
    after = pod_status(PLACE, run, "Running")
    assert (before["phase"], before["containerStatuses"][0]["ready"]) == ("Pending", False)
    assert "podIP" not in before
    assert (after["podIP"], after["podIPs"]) == ("10.0.0.2", [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}])
    names = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
    assert {entry["type"]: entry["status"] for entry in after["conditions"]} == dict.fromkeys(names, "True")


async def test_the_newest_status_is_reported_and_waited_for() -> None:
    sent: list[Any] = []
    go = asyncio.Event()

    async def send(status: dict[str, Any]) -> None:
        await go.wait()
        sent.append(status["phase"])

    reporter = StatusReporter(send)
    task = asyncio.create_task(reporter.run())
    reporter.set({"phase": "Pending"})
    await asyncio.sleep(0)
    for phase in ("Running", "Succeeded"):
        reporter.set({"phase": phase})
    go.set()
    async with asyncio.timeout(5):
        await reporter.flush()
    assert sent[-1] == "Succeeded"
    assert len(sent) < 3
    task.cancel()


def test_a_static_pod_is_named_after_its_node_and_has_a_uid_of_its_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text("{metadata: {name: web}, spec: {containers: [{name: c, image: i}]}}")
    ((uid, mirror),) = read_manifests(tmp_path, "master").items()
    assert (mirror.key, len(uid), mirror.spec["nodeName"]) == ("default/web-master", 32, "master")
    annotations = mirror.metadata.annotations or {}
    assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"] == uid
    manifest.write_text(manifest.read_text().replace("image: i", "image: j"))
    assert uid not in read_manifests(tmp_path, "master")
