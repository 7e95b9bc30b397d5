"""Stories of single pods: how they become ready, fail, are restarted, finish and are replaced."""

from __future__ import annotations

import time
from typing import Any

from spiderpool_lab.images import AGNHOST, SERVER
from spiderpool_lab.stories.stage import Stage, container, is_ready, pod, replicated, script
from spiderpool_lab.stories.story import expect, story

LIFE = ["ADD netns", "DEL netns result"]
"""The calls of a pod that comes and goes, without the two late ones."""


@story()
def probes(stage: Stage) -> None:
    """A pod with HTTP, TCP, gRPC and exec probes.

    Probes come from the node's own address, so that they pass by veth0.
    """
    often = {"periodSeconds": 1, "failureThreshold": 20}
    kinds: dict[str, Any] = {"http": {"httpGet": {"port": 80}}, "tcp": {"tcpSocket": {"port": 80}}}
    kinds |= {"exec": {"exec": {"command": ["true"]}}, "grpc": {"grpc": {"port": 5000}}}
    for name, kind in kinds.items():
        probe = {**kind, **often}
        probed = container(readiness_probe=probe, liveness_probe=probe)
        if name == "grpc":
            probed |= {"image": AGNHOST, "args": ["grpc-health-checking"], "ports": [{"containerPort": 8080}]}
        stage.apply(pod(name, stage.nodes[0], containers=[probed]))
    stage.ready(*kinds)
    time.sleep(4)
    restarts = [status["restartCount"] for name in kinds for status in stage.pod(name)["status"]["containerStatuses"]]
    expect(not any(restarts), f"no probe fails: restarts {restarts}")
    stage.serves("http", "tcp", "exec")


@story()
def pause_killed(stage: Stage) -> None:
    """The pause process is killed: a new sandbox for the same pod, with the same address."""
    stage.apply(pod("web", stage.nodes[0]))
    stage.ready("web")
    before = stage.addresses("web")
    stage.kill("web")
    stage.wait("a second ADD", lambda: stage.shapes("web").count("ADD netns") == 2)
    stage.wait("the restart", lambda: _restarts(stage, "web", "web"))
    stage.ready("web")
    expect(stage.addresses("web") == before, "the address is the same")
    expect(stage.shapes("web")[:3] == [*LIFE, "ADD netns"], f"DEL comes before the second ADD: {stage.shapes('web')}")
    stage.serves("web")


@story()
def container_killed(stage: Stage) -> None:
    """A container is killed: it is restarted in the same sandbox, without a CNI call."""
    stage.apply(pod("web", stage.nodes[0]))
    stage.ready("web")
    before = stage.addresses("web")
    stage.kill("web", "web")
    stage.wait("the restart", lambda: stage.pod("web")["status"]["containerStatuses"][0]["restartCount"] == 1)
    stage.ready("web")
    expect(stage.addresses("web") == before, "the address is the same")
    expect(stage.shapes("web") == LIFE[:1], f"no call: {stage.shapes('web')}")
    stage.serves("web")


@story(real_only="containers of fast nodes use no memory of their own")
def out_of_memory(stage: Stage) -> None:
    """A container uses too much memory."""
    grow = script("x=0123456789abcdef; while :; do x=$x$x; done")
    limits = {"limits": {"memory": "24Mi"}}
    stage.apply(pod("web", stage.nodes[0], containers=[container(), container("big", grow, resources=limits)]))
    stage.wait("it is killed", lambda: _last_reason(stage, "web", "big") == "OOMKilled")
    expect(stage.shapes("web") == LIFE[:1], f"no call: {stage.shapes('web')}")


def _last_reason(stage: Stage, name: str, which: str) -> str:
    statuses = {one["name"]: one for one in stage.pod(name)["status"]["containerStatuses"]}
    states = (statuses[which].get("lastState", {}), statuses[which].get("state", {}))
    return next((state["terminated"].get("reason", "") for state in states if "terminated" in state), "")


@story()
def crash_loop(stage: Stage) -> None:
    """A container fails again and again: the sandbox and its address stay."""
    failing = container("failing", script("sleep 1; exit 1"))
    stage.apply(pod("web", stage.nodes[0], containers=[container(), failing]))
    stage.wait("two restarts", lambda: _restarts(stage, "web", "failing") >= 2)
    expect(stage.shapes("web") == LIFE[:1], f"one ADD: {stage.shapes('web')}")
    stage.serves("web")


def _restarts(stage: Stage, name: str, which: str) -> int:
    statuses = stage.pod(name)["status"].get("containerStatuses", [])
    return sum(one["restartCount"] for one in statuses if one["name"] == which)


@story()
def init_and_sidecar(stage: Stage) -> None:
    """Init containers and a sidecar share the sandbox with the others."""
    first, beside = (
        container("first", script("sleep 1")),
        container("beside", script("sleep 3600"), restart_policy="Always"),
    )
    stage.apply(pod("web", stage.nodes[0], init_containers=[first, beside]))
    stage.ready("web")
    inits = {one["name"]: one["state"] for one in stage.pod("web")["status"]["initContainerStatuses"]}
    expect("terminated" in inits["first"] and "running" in inits["beside"], f"the sidecar goes on: {inits}")
    expect(stage.shapes("web") == LIFE[:1], f"one ADD: {stage.shapes('web')}")
    stage.serves("web")


@story()
def jobs(stage: Stage) -> None:
    """Jobs that complete and fail: the address is free as soon as the phase is final."""
    ends = {"completes": ("sleep 1; exit 0", "Succeeded"), "fails": ("sleep 1; exit 1", "Failed")}
    stage.apply(*(_job(name, text) for name, (text, _) in ends.items()))
    for name, (_, phase) in ends.items():
        made = _pod_of(stage, name)
        stage.phase(made, phase)
        stage.free(made, timeout=10)
        expect(stage.shapes(made)[:2] == LIFE, f"ADD and DEL: {stage.shapes(made)}")


def _pod_of(stage: Stage, job: str) -> str:
    """The name of a Job's pod, which has yet to be made."""
    return stage.wait(f"the pod of {job}", lambda: next((name for name in stage.pods() if name.startswith(job)), ""))


def _job(name: str, text: str) -> dict[str, Any]:
    template = pod(name, restart_policy="Never", containers=[container("c", script(text))])["spec"]
    spec = {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": name}}, "spec": template}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


@story()
def restart_policies(stage: Stage) -> None:
    """Each restartPolicy with containers that succeed and fail, and a deadline.

    A pod whose phase is final has no address, whatever its restartPolicy; one that is restarted keeps it.
    """
    stage.apply(
        *(
            pod(
                f"{policy.lower()}-{code}",
                restart_policy=policy,
                containers=[container("c", script(f"sleep 1; exit {code}"))],
            )
            for policy in ("Always", "OnFailure", "Never")
            for code in (0, 1)
        ),
        pod("deadline", restart_policy="Always", active_deadline_seconds=5),
    )
    ends = {"onfailure-0": "Succeeded", "never-0": "Succeeded", "never-1": "Failed", "deadline": "Failed"}
    for name, phase in ends.items():
        stage.phase(name, phase)
        stage.free(name, timeout=15)
    for name in ("always-0", "always-1", "onfailure-1"):
        stage.wait(f"{name} is restarted", lambda name=name: _restarts(stage, name, "c"))  # type: ignore[misc]
        expect(stage.shapes(name) == LIFE[:1], f"one ADD: {stage.shapes(name)}")
        expect(stage.records(name), f"{name} keeps its address")


@story()
def stateful_set(stage: Stage) -> None:
    """A pod of a StatefulSet is deleted, then deleted by force while it runs."""
    stage.apply(replicated("StatefulSet", "set", 2))
    stage.ready("set-0", "set-1")
    for arguments in ((), ("--force", "--grace-period=0")):
        before = stage.pod("set-0")["metadata"]["uid"]
        stage.kubectl("delete", "pod", "set-0", *arguments)
        stage.wait("another pod of the name", lambda before=before: stage.pod("set-0")["metadata"]["uid"] != before)  # type: ignore[misc]
        stage.ready("set-0", "set-1")
    stage.serves("set-0", "set-1")


@story()
def graceful_end(stage: Stage) -> None:
    """A pod ends slowly: it has its address and its traffic to the end."""
    grace = stage.scale.grace
    slow = container(lifecycle={"preStop": {"sleep": {"seconds": grace - 3}}})
    stage.apply(pod("web", stage.nodes[0], termination_grace_period_seconds=grace, containers=[slow]))
    stage.ready("web")
    addresses, started = stage.addresses("web"), time.monotonic()
    stage.delete("web", wait=False)
    while time.monotonic() < started + grace - 5:
        wrong = stage.reach(stage.nodes[1], addresses)
        expect(not wrong, f"traffic {time.monotonic() - started:.0f} s after the deletion: {wrong}")
        expect(stage.records("web"), f"records {time.monotonic() - started:.0f} s after the deletion")
        expect(stage.shapes("web") == LIFE[:1], f"no DEL yet: {stage.shapes('web')}")
        time.sleep(1)
    stage.wait("the pod is gone", lambda: "web" not in stage.pods())
    stage.free("web", timeout=15)


@story(real_only="fast nodes need no image")
def image_missing(stage: Stage) -> None:
    """An image is missing for a while: the sandbox lives with its address."""
    absent = {**container(), "image": "docker.io/library/absent:1"}
    stage.apply(pod("web", stage.nodes[0], containers=[absent]))
    stage.wait("an address", lambda: stage.records("web"))
    time.sleep(20)
    before = stage.records("web")
    stage.kubectl("patch", "pod", "web", "--type=json", "-p", _replace_image())
    stage.ready("web", timeout=400)
    expect(stage.records("web") == before, "the address is the same")
    expect(stage.shapes("web") == LIFE[:1], f"one ADD: {stage.shapes('web')}")


def _replace_image() -> str:
    return f'[{{"op": "replace", "path": "/spec/containers/0/image", "value": "{SERVER}"}}]'


@story()
def static_pod(stage: Stage) -> None:
    """A static pod whose mirror is deleted: it goes on with its address."""
    node, name = stage.nodes[0], f"static-{stage.nodes[0]}"
    manifest = pod("static")
    manifest["metadata"]["namespace"] = stage.namespace
    stage.put_manifest(node, "static.yaml", manifest)
    try:
        stage.ready(name)
        before, uid = stage.addresses(name), stage.pod(name)["metadata"]["uid"]
        calls = stage.shapes(name)  # one ADD, or more: it is refused until the mirror exists
        stage.delete(name, wait=False)
        stage.wait("another mirror", lambda: stage.pod(name)["metadata"]["uid"] != uid, 120)
        stage.ready(name)
        expect(stage.addresses(name) == before, "the address is the same")
        time.sleep(5)
        held = {address for found in stage.records(name).values() for address in found}
        expect(held == set(before), f"the records are those of its addresses: {held} for {before}")
        expect(stage.shapes(name) == calls, f"no further call: {stage.shapes(name)}")
        stage.serves(name)
    finally:
        stage.put_manifest(node, "static.yaml", None)
    stage.wait("the mirror is gone", lambda: name not in stage.pods())
    stage.free(name)


@story()
def late_del(stage: Stage) -> None:
    """A late DEL, twice and without a namespace, frees nothing of another pod."""
    stage.apply(pod("old", stage.nodes[0]))
    stage.ready("old")
    (add,) = stage.calls("old")
    stage.delete("old")
    stage.free("old")
    stage.apply(pod("old", stage.nodes[0]))
    stage.ready("old")
    before = stage.records("old")
    for _ in range(2):
        stage.call_plugin(stage.nodes[0], "DEL", stage.plugin_call("old", add.uid, add.container, add.plugin))
    time.sleep(3)
    expect(stage.records("old") == before, "the pod of the same name keeps its address")
    expect(is_ready(stage.pod("old")), "and is Ready")
    stage.serves("old")
