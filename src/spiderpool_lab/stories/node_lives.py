"""Stories of nodes: power cuts, a node that is lost or deleted, drained or crowded."""

from __future__ import annotations

import json
from typing import Any

from spiderpool.core.ipam.new_nodes import UNINITIALIZED
from spiderpool_lab.stories import audit
from spiderpool_lab.stories.stage import Stage, pod, replicated
from spiderpool_lab.stories.story import expect, story

_FINAL = ("Succeeded", "Failed")
_HOSTNAME = "kubernetes.io/hostname"
_COLLECTION = 90.0
"""Seconds within which the controller frees what no DEL frees: SPIDERPOOL_GC_AGENT_GRACE_SECONDS is 30."""

Json = dict[str, Any]


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
    """One node has 20 pods more, or with LONG=1 as many as it may have: then one more waits."""
    node = stage.nodes[0]
    crowd = stage.scale.crowd or _room(stage, node)
    stage.apply(replicated("Deployment", "crowd", crowd, node=node))
    stage.wait(f"all {crowd} are Ready", lambda: len(stage.ready_pods()) == crowd, 900)
    if not stage.scale.crowd:
        stage.apply(pod("one-more", node))
        stage.wait("one more waits", lambda: "Too many pods" in json.dumps(stage.pod("one-more")["status"]))
        stage.delete("one-more")
    addresses = [address for found in stage.all_addresses().values() for address in found]
    expect(len(addresses) == len({*addresses}) == 2 * crowd, f"each has two addresses of its own: {addresses}")
    stage.serves(*stage.ready_pods())


def _room(stage: Stage, node: str) -> int:
    """How many more pods a node may have."""
    pods = stage.cluster.objects("pods", "--all-namespaces")
    there = [one for one in pods if one["spec"].get("nodeName") == node and one["status"]["phase"] not in _FINAL]
    return int(_node(stage, node)["status"]["allocatable"]["pods"]) - len(there)


def _node(stage: Stage, name: str) -> Json:
    """A Node; empty while there is none."""
    return next((one for one in stage.cluster.objects("nodes") if one["metadata"]["name"] == name), {})


def _power_cut(stage: Stage, *, keep_disk: bool) -> None:
    """Cut the power of a node for a while: the same pods come back, one that was deleted meanwhile does not."""
    node, names = stage.nodes[1], stage.several(node=1)
    before, starts = {name: stage.addresses(name) for name in names[1:]}, _starts(stage, names[1:])
    try:
        stage.cut_power(node)
        stage.delete(names[0], wait=False)
    finally:
        stage.boot(node, keep_disk=keep_disk)
    stage.wait("the deleted pod is gone", lambda: names[0] not in stage.pods(), 180)
    stage.wait("another ADD of each", lambda: all(_adds(stage, name) == 2 for name in names[1:]), 180)
    stage.wait("containers are started again", lambda: not starts & _starts(stage, names[1:]), 180)
    stage.node_ready(node)
    stage.ready(*names[1:], timeout=180)
    expect({name: stage.addresses(name) for name in names[1:]} == before, "the addresses are the same")
    stage.serves(*names[1:])


def _adds(stage: Stage, name: str) -> int:
    return stage.shapes(name).count("ADD netns")


def _starts(stage: Stage, names: list[str]) -> set[tuple[str, str]]:
    """Each pod with the time at which its container was started. Raises StoryFailed unless all run."""
    states = {name: stage.pod(name)["status"]["containerStatuses"][0]["state"] for name in names}
    expect(all("running" in state for state in states.values()), f"all run: {states}")
    return {(name, state["running"]["startedAt"]) for name, state in states.items()}


@story()
def power_cut_with_disk(stage: Stage) -> None:
    """A node loses its power, and boots with its disk."""
    _power_cut(stage, keep_disk=True)


@story()
def power_cut_without_disk(stage: Stage) -> None:
    """A node loses its power, and boots with an empty disk.

    No runtime knows the sandbox of the pod that was deleted meanwhile, so that the controller has to free its address.
    """
    _power_cut(stage, keep_disk=False)
    stage.free("web-0", timeout=_COLLECTION)


@story(steady=False)
def node_lost(stage: Stage) -> None:
    """A node is lost: pods of a StatefulSet are deleted by force and made elsewhere; then the node comes back.

    They get addresses of the other node's ENIs. Those of the lost node stay reserved until an administrator has said
    that nothing of it runs any more.
    """
    other, node = stage.nodes
    names = ("set-0", "set-1")
    stage.apply(replicated("StatefulSet", "set", 2, node=node))
    stage.ready(*names)
    lost = _held(stage, names)
    try:
        stage.cut_power(node)
        stage.node_ready(node, ready=False)
        selector = {"spec": {"template": {"spec": {"nodeSelector": {_HOSTNAME: other}}}}}
        stage.kubectl("patch", "statefulset/set", "--type=merge", "-p", json.dumps(selector))
        stage.kubectl("delete", "pod", *names, "--force", "--grace-period=0")
        stage.wait("both are on the other node", lambda: [*_places(stage).values()] == [other] * 2)
        stage.ready(*names)
        expect(lost < _held(stage, names), f"addresses of the lost node stay reserved: {lost}")
        stage.state("node", "fence", node)
        stage.wait("they are free", lambda: not lost & _held(stage, names))
        wrong = stage.reach(other, [address for name in names for address in stage.addresses(name)])
        expect(not wrong, f"the new pods answer: {wrong}")
    finally:
        stage.boot(node, keep_disk=True)
    stage.node_ready(node)
    stage.serves(*names)


def _held(stage: Stage, names: tuple[str, ...]) -> set[str]:
    """The addresses that SpiderIPs reserve for pods of these names, whatever their UID."""
    return {address for name in names for found in stage.records(name).values() for address in found}


def _places(stage: Stage) -> dict[str, str]:
    """Pod → its node."""
    return {name: one["spec"].get("nodeName", "") for name, one in stage.pods().items()}


@story(steady=False)
def node_deleted(stage: Stage) -> None:
    """A Node is deleted and registered anew by its kubelet: its pods run on, with their addresses.

    The agent describes its server again, and spiderpool-cloud takes the taint of a new Node away.
    """
    node, names = stage.nodes[1], stage.several(2, node=1)
    uid, pods, addresses = _node(stage, node)["metadata"]["uid"], _uids(stage), stage.all_addresses()
    try:
        stage.cluster.plane.kubectl("delete", "node", node)
    finally:
        stage.restart(node, "kubelet")  # a kubelet registers its Node when it starts
    stage.wait("another Node, described and initialized", lambda: _is_initialized(stage, node, uid))
    stage.node_ready(node)
    stage.apply(pod("after", node))
    stage.ready("after", *names)
    expect({name: found for name, found in _uids(stage).items() if name in names} == pods, "the pods are the same")
    expect({name: stage.addresses(name) for name in names} == addresses, "the addresses are the same")
    expect(all(stage.shapes(name) == ["ADD netns"] for name in names), "no call was made")
    stage.serves("after", *names)


def _uids(stage: Stage) -> dict[str, str]:
    """Pod → its UID."""
    return {name: one["metadata"]["uid"] for name, one in stage.pods().items()}


def _is_initialized(stage: Stage, name: str, former: str) -> bool:
    """Whether a Node is another than the one with the former UID, and agent and cloud controller have seen it."""
    node = _node(stage, name)
    spec, uid = node.get("spec", {}), node.get("metadata", {}).get("uid", former)
    servers = [one["metadata"] for one in stage.cluster.objects("spiderservers")]
    return (
        uid != former
        and any(one["name"] == name and one["ownerReferences"][0]["uid"] == uid for one in servers)
        and "providerID" in spec
        and UNINITIALIZED not in {taint["key"] for taint in spec.get("taints", [])}
    )


@story(steady=False)
def drained(stage: Stage) -> None:
    """A node is drained, which a PodDisruptionBudget slows down."""
    other, node = stage.nodes
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    kubectl = stage.cluster.plane.kubectl
    try:
        kubectl("cordon", other)  # so that both begin on the other one
        stage.apply(
            {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": budget},
            replicated("Deployment", "web", 2, tolerations=[]),
        )
        stage.wait("both are Ready", lambda: len(stage.ready_pods()) == 2)
        former = _places(stage)
        expect({*former.values()} == {node}, f"both are on one node: {former}")
        kubectl("uncordon", other)
        kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=180s", timeout=200)
        stage.wait("both are elsewhere", lambda: [*_places(stage).values()] == [other] * 2)
        stage.wait("both are Ready", lambda: len(stage.ready_pods()) == 2)
        stage.serves(*stage.ready_pods())
    finally:
        kubectl("uncordon", *stage.nodes)
    first, last = audit.first_add(stage.calls(), former), audit.last_del(stage.calls(), former)
    expect(first < last, f"one pod stayed until another had its address: {last - first:.1f} s later")
