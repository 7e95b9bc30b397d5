"""Stories of nodes and daemons: restarts, power cuts, an agent or an API server that is away, many pods at once."""

from __future__ import annotations

import signal
import time

from spiderpool_lab.control_plane import API_SERVER
from spiderpool_lab.node import CNI_CONFIGURATION
from spiderpool_lab.stories.stage import Stage, pod, replicated
from spiderpool_lab.stories.story import expect, story

_LIST = f"{CNI_CONFIGURATION}/00-spiderpool.conflist"
_STABLE = 8.0
"""Seconds after a restart in which nothing may happen to pods."""


def _several(stage: Stage, count: int = 3, node: int = 0) -> list[str]:
    """Start some pods on a node, and return their names."""
    names = [f"web-{number}" for number in range(count)]
    stage.apply(*(pod(name, stage.nodes[node]) for name in names))
    stage.ready(*names)
    return names


def _all_addresses(stage: Stage) -> dict[str, list[str]]:
    return {name: stage.addresses(name) for name in stage.pods()}


def _untouched(stage: Stage, child: str) -> None:
    """Kill a daemon: its pods keep their sandboxes and addresses, without a CNI call."""
    names = _several(stage)
    before = _all_addresses(stage)
    stage.restart(stage.nodes[0], child)
    time.sleep(_STABLE)
    stage.node_ready(stage.nodes[0])
    stage.ready(*names)
    expect(_all_addresses(stage) == before, "the addresses are the same")
    expect(all(stage.shapes(name) == ["ADD netns"] for name in names), "no call was made")
    stage.serves(*names)


@story()
def kubelet_killed(stage: Stage) -> None:
    """The kubelet is killed."""
    _untouched(stage, "kubelet")


@story(real_only="fast nodes have one process for kubelet and containerd")
def containerd_killed(stage: Stage) -> None:
    """Containerd is killed."""
    _untouched(stage, "containerd")


@story()
def agent_restarted(stage: Stage) -> None:
    """The agent is killed while pods run."""
    _untouched(stage, "agent")


@story(steady=False)
def agent_killed_during_adds(stage: Stage) -> None:
    """The agent is killed again and again in the middle of many ADDs."""
    node, names = stage.nodes[0], [f"web-{number:02}" for number in range(stage.scale.burst)]
    stage.apply(*(pod(name, node) for name in names))
    for _ in range(3):
        stage.wait("the next ADD", lambda: len(stage.calls()) > len(stage.ready_pods()), 30)
        stage.restart(node, "agent")
    stage.ready(*names, timeout=180)
    stage.serves(*names)


@story(steady=False)
def many_at_once(stage: Stage) -> None:
    """Many pods are made at once on one node, and deleted at once."""
    stage.apply(replicated("Deployment", "many", stage.scale.burst, node=stage.nodes[0]))
    stage.wait("all are Ready", lambda: len(stage.ready_pods()) == stage.scale.burst, 240)
    stage.serves(*stage.ready_pods())
    stage.kubectl("scale", "deployment/many", "--replicas=0")
    stage.wait("all are gone", lambda: not stage.pods(), 240)


@story(steady=False)
def crowded_node(stage: Stage) -> None:
    """One node has as many pods as it may have."""
    stage.apply(replicated("Deployment", "crowd", stage.scale.crowd, node=stage.nodes[0]))
    stage.wait("all are Ready", lambda: len(stage.ready_pods()) == stage.scale.crowd, 600)
    stage.serves(*stage.ready_pods())


def _power_cut(stage: Stage, *, keep_disk: bool) -> None:
    """Cut the power of a node for a while: the same pods come back, one that was deleted meanwhile does not."""
    node, names = stage.nodes[1], _several(stage, node=1)
    before = {name: stage.addresses(name) for name in names[1:]}
    stage.cut_power(node)
    stage.delete(names[0], wait=False)
    stage.boot(node, keep_disk=keep_disk)
    stage.wait("the deleted pod is gone", lambda: names[0] not in stage.pods(), 180)
    stage.wait("another ADD of each", lambda: all(_adds(stage, name) == 2 for name in names[1:]), 180)
    stage.node_ready(node)
    stage.ready(*names[1:], timeout=180)
    expect({name: stage.addresses(name) for name in names[1:]} == before, "the addresses are the same")
    stage.serves(*names[1:])


def _adds(stage: Stage, name: str) -> int:
    return stage.shapes(name).count("ADD netns")


@story()
def power_cut_with_disk(stage: Stage) -> None:
    """A node loses its power, and boots with its disk."""
    _power_cut(stage, keep_disk=True)


@story()
def power_cut_without_disk(stage: Stage) -> None:
    """A node loses its power, and boots with an empty disk."""
    _power_cut(stage, keep_disk=False)


@story(steady=False)
def node_lost(stage: Stage) -> None:
    """A node is lost: pods of a StatefulSet are deleted by force and made elsewhere; then the node comes back."""
    node = stage.nodes[1]
    stage.apply(replicated("StatefulSet", "set", 2, node=node))
    stage.ready("set-0", "set-1")
    stage.cut_power(node)
    stage.node_ready(node, ready=False)
    stage.kubectl(
        "patch",
        "statefulset/set",
        "--type=json",
        "-p",
        '[{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]',
    )
    stage.kubectl("delete", "pod", "set-0", "set-1", "--force", "--grace-period=0")
    stage.wait(
        "on the other node", lambda: {one["spec"].get("nodeName") for one in stage.pods().values()} == {stage.nodes[0]}
    )
    stage.ready("set-0", "set-1")
    expect(not stage.reach(stage.nodes[0], stage.addresses("set-0")), "the new pod answers")
    stage.boot(node, keep_disk=True)
    stage.node_ready(node)
    stage.serves("set-0", "set-1")


@story(steady=False)
def node_deleted(stage: Stage) -> None:
    """A Node is deleted while its pods run, and registered again by its kubelet."""
    node = stage.nodes[1]
    stage.apply(replicated("Deployment", "web", 2, node=node))
    stage.wait("both are Ready", lambda: len(stage.ready_pods()) == 2)
    before = set(stage.pods())
    stage.cluster.plane.kubectl("delete", "node", node)
    stage.restart(node, "kubelet")
    stage.wait("registered again", lambda: node in {one["metadata"]["name"] for one in stage.cluster.objects("nodes")})
    stage.node_ready(node)
    stage.wait("pods are Ready", lambda: len(stage.ready_pods()) == 2, 180)
    stage.serves(*stage.ready_pods())
    expect(before, "there were pods")


@story(steady=False)
def drained(stage: Stage) -> None:
    """A node is drained, which a PodDisruptionBudget slows down."""
    node = stage.nodes[1]
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    stage.apply(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": budget},
        replicated("Deployment", "web", 2, tolerations=[]),
    )
    stage.wait("both are Ready", lambda: len(stage.ready_pods()) == 2)
    try:
        stage.cluster.plane.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=120s")
        stage.wait("both are elsewhere", lambda: _on(stage, stage.nodes[0]) == 2)
        stage.serves(*stage.ready_pods())
    finally:
        stage.cluster.plane.kubectl("uncordon", node)


def _on(stage: Stage, node: str) -> int:
    return sum(one["spec"].get("nodeName") == node for name, one in stage.pods().items() if name in stage.ready_pods())


@story(steady=False)
def api_server_away(stage: Stage) -> None:
    """The API server is away: pods keep their traffic, an agent is restarted, nothing is lost afterwards."""
    node, names = stage.nodes[0], _several(stage)
    before, plane = _all_addresses(stage), stage.cluster.plane
    plane.processes.kill(API_SERVER, signal.SIGKILL)
    end = time.monotonic() + stage.scale.outage
    try:
        stage.restart(node, "agent")
        while time.monotonic() < end:
            wrong = [fault for addresses in before.values() for fault in stage.reach(stage.nodes[1], addresses)]
            expect(not wrong, f"pods answer without the API server: {wrong}")
            time.sleep(3)
    finally:
        plane.restart_api_server()
    stage.node_ready(node)
    stage.ready(*names)
    expect(_all_addresses(stage) == before, "the addresses are the same")
    expect(all(stage.shapes(name) == ["ADD netns"] for name in names), "no call was made")
    stage.delete(*names)


@story(steady=False)
def configuration_late(stage: Stage) -> None:
    """The network configuration list is removed, so the node is not ready, and comes back."""
    node = stage.nodes[0]
    _several(stage, 1)
    stage.run(node, f"mv {_LIST} /run/tmp/list")
    stage.node_ready(node, ready=False)
    stage.apply(pod("late", node))
    time.sleep(3)
    expect(not stage.shapes("late"), "a pod waits for the list")
    stage.run(node, f"mv /run/tmp/list {_LIST}")
    stage.node_ready(node)
    stage.ready("web-0", "late")
    stage.serves("web-0", "late")


@story(steady=False)
def configuration_replaced(stage: Stage) -> None:
    """The list has another name when a pod is deleted: its DEL has no result, and frees all the same."""
    node = stage.nodes[0]
    _several(stage, 2)
    stage.run(node, f'sed -i \'s/"name":"spiderpool"/"name":"renamed"/\' {_LIST}; grep -q renamed {_LIST}')
    time.sleep(3)
    try:
        stage.delete("web-0")
        stage.free("web-0", timeout=15)
        stage.apply(pod("after", node))
        stage.ready("after")
    finally:
        stage.restart(node, "agent")
        stage.wait(
            "the agent's own list", lambda: "spiderpool" in stage.run(node, f'grep -o \'"name":"spiderpool"\' {_LIST}')
        )
    stage.delete("after")
    stage.free("after", timeout=15)
    expect("DEL netns" in stage.shapes("web-0"), f"the list of another name knows no result: {stage.shapes('web-0')}")
    stage.serves("web-1")


@story(steady=False)
def disk_full(stage: Stage) -> None:
    """The disk with the CNI folder is full when the agent starts: running pods go on, and it recovers with the disk."""
    node, names = stage.nodes[0], _several(stage, 2)
    stage.run(
        node,
        f"mount -t tmpfs -o size=4k tmpfs {CNI_CONFIGURATION}; head -c 8192 /dev/zero > {CNI_CONFIGURATION}/x || true",
    )
    try:
        stage.signal(node, "agent")
        stage.node_ready(node, ready=False)
        stage.serves(*names)
    finally:
        stage.run(node, f"umount {CNI_CONFIGURATION}")
    stage.node_ready(node)
    stage.apply(pod("after", node))
    stage.ready("after", *names)
    stage.serves("after", *names)


@story(steady=False, own_kernel=True)
def clock_off(stage: Stage) -> None:
    """The clock of a node is an hour ahead."""
    node = stage.nodes[1]
    stage.run(node, 'date -s "@$(($(date +%s) + 3600))"')
    try:
        stage.restart(node, "agent")
        names = _several(stage, 2, node=1)
        stage.serves(*names)
        stage.delete(*names)
    finally:
        stage.run(node, 'date -s "@$(($(date +%s) - 3600))"')
