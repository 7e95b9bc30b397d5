"""The account as a real agent publishes it to a real API server, of namespaces of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from spiderpool.agent.install import NETWORK_LIST
from spiderpool.api.cni import CNICall
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.agent.conftest import MakeAgent, MakePods
from tests.kernel.environment import World
from tests.support.eventually import wait_until
from tests.support.local_agent import AgentOptions, LocalAgent, ipam_call, node_objects

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(120)]

NODE, OTHER = "told", "other"
WHILE = 3.0
"""Seconds for what must not happen: the first account is published within one."""


def published(plane: ControlPlane) -> dict[str, Any]:
    """The SpiderNode; empty while there is none."""
    found: dict[str, Any] = json.loads(plane.kubectl("get", "spidernodes", "-o", "json"))
    return next((each for each in found["items"] if each["metadata"]["name"] == NODE), {})


def told(plane: ControlPlane) -> dict[str, list[str]]:
    """Published addresses by pod."""
    sandboxes = published(plane).get("status", {}).get("sandboxes", [])
    return {
        each["pod"]: [address for link in each.get("interfaces", []) for address in link.get("addresses", [])]
        for each in sandboxes
    }


def call(command: str, name: str, uid: str, netns: str) -> CNICall:
    made = ipam_call(command, "default", name, uid)
    return CNICall(made.plugin, {**made.environment, "CNI_NETNS": netns}, made.stdin)


def added(agent: LocalAgent, world: World, name: str, uid: str) -> str:
    """ADD as an interface plugin does it; the address, which the sandbox then has."""
    netns = world.pod(name)
    answer = asyncio.run(agent.call(call("ADD", name, uid, netns)))
    address = answer["ips"][0]["address"]
    link = ("link add eth0 type veth peer name far", f"address add {address} dev eth0", "link set eth0 up")
    world.batch(Path(netns), *link)
    return str(ip_interface(address).ip)


def test_pods_come_and_go_and_questions_are_answered(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: Callable[..., None], world: World
) -> None:
    control_plane.apply(f"apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}")
    pool("account", "10.9.0.1-10.9.0.9")
    agent = make_agent(NODE)
    wait_until(lambda: published(control_plane).get("status", {}).get("sandboxes") == [], "the first account")
    (owner,) = published(control_plane)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Node", NODE)
    ((name, uid),) = make_pods(1, [NODE]).items()
    address = added(agent, world, name, uid)
    wait_until(lambda: name in told(control_plane), "the sandbox")
    record = json.loads(control_plane.kubectl("get", "spiderip", address, "-o", "json"))
    assert int(published(control_plane)["status"]["recordVersion"]) >= int(record["metadata"]["resourceVersion"])

    control_plane.kubectl("patch", "spidernode", NODE, "--type=merge", "-p", '{"spec": {"accountRequest": 1}}')
    generation = published(control_plane)["metadata"]["generation"]
    assert generation > 1
    wait_until(lambda: published(control_plane)["status"]["observedGeneration"] == generation, "the answer")
    assert told(control_plane) == {name: [address]}

    agent.kill()
    agent.start()
    control_plane.kubectl("patch", "spidernode", NODE, "--type=merge", "-p", '{"spec": {"accountRequest": 2}}')
    wait_until(lambda: published(control_plane)["status"]["observedGeneration"] == generation + 1, "the next agent's")
    assert told(control_plane) == {name: [address]}

    control_plane.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    assert asyncio.run(agent.call(call("DEL", name, uid, ""))) == {}
    wait_until(lambda: told(control_plane) == {}, "the end of the sandbox")
    control_plane.kubectl("delete", "node", NODE)


def records(plane: ControlPlane) -> dict[str, str]:
    """Pods by address."""
    found = json.loads(plane.kubectl("get", "spiderips", "-o", "json"))["items"]
    return {each["metadata"]["name"]: each["spec"]["pod"] for each in found}


def events(plane: ControlPlane, reason: str) -> set[str]:
    """Names of the pods with an Event."""
    found = json.loads(plane.kubectl("get", "events", "-o", "json", "--field-selector", f"reason={reason}"))["items"]
    return {each["involvedObject"]["name"] for each in found}


def test_spiderips_that_are_deleted_while_their_pods_run_come_back(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: Callable[..., None], world: World
) -> None:
    control_plane.apply(f"apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}")
    pool("account", "10.9.0.1-10.9.0.4")
    agent = make_agent(NODE)
    *running, last = make_pods(4, [NODE]).items()
    before = {added(agent, world, name, uid): name for name, uid in running}
    wait_until(lambda: set(told(control_plane)) == {*before.values()}, "the sandboxes")
    control_plane.kubectl("delete", "spiderips", "--all")
    next_one = added(agent, world, *last)
    assert next_one not in before
    wait_until(lambda: records(control_plane) == before | {next_one: last[0]}, "all records")
    wait_until(lambda: events(control_plane, "SpiderIPRestored") == {*before.values()}, "an Event for each")

    agent.kill()
    control_plane.kubectl("delete", "spiderips", "--all")
    agent.start()
    wait_until(lambda: records(control_plane) == before | {next_one: last[0]}, "all records again")
    control_plane.kubectl("delete", "node", NODE)


WEB = f"""
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web, namespace: default}}
spec:
  replicas: 1
  serviceName: web
  updateStrategy: {{type: OnDelete}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{nodeName: {NODE}, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: none}}]}}
---
apiVersion: v1
kind: Node
metadata: {{name: {NODE}}}
---
apiVersion: v1
kind: Node
metadata: {{name: {OTHER}}}
"""


def web(plane: ControlPlane, node: str) -> str:
    """The UID of the StatefulSet's pod, once it is on a node."""
    path = "jsonpath={.items[?(@.spec.nodeName=='" + node + "')].metadata.uid}"
    return wait_until(lambda: plane.kubectl("get", "pods", "-l", "app=web", "-o", path), "the pod")


@pytest.mark.full
def test_the_address_of_a_lost_nodes_pod_waits_for_a_word_about_the_node(
    control_plane: ControlPlane, make_agent: MakeAgent, pool: Callable[..., None], world: World
) -> None:
    control_plane.apply(WEB)
    pool("account", "10.9.0.1-10.9.0.4")
    lost, other = make_agent(NODE), make_agent(OTHER, SPIDERPOOL_GC_AGENT_GRACE_SECONDS="2")
    address = added(lost, world, "web-0", web(control_plane, NODE))
    wait_until(lambda: told(control_plane) == {"web-0": [address]} or told(control_plane) == {"web-0": []}, "account")
    lost.kill()
    move = json.dumps({"spec": {"template": {"spec": {"nodeName": OTHER}}}})
    control_plane.kubectl("patch", "statefulset", "web", "--type=merge", "-p", move)
    control_plane.kubectl("delete", "pod", "web-0", "--force", "--grace-period=0")
    uid = web(control_plane, OTHER)
    netns = world.pod("next")
    refused = asyncio.run(other.call(call("ADD", "web-0", uid, netns)))
    assert (refused["code"], address in refused["msg"], f"fence {NODE}" in refused["msg"]) == (11, True, True)
    wait_until(lambda: "web-0" in events(control_plane, "AddressRefused"), "the Event")
    control_plane.kubectl("taint", "node", NODE, "node.kubernetes.io/out-of-service=yes:NoExecute")
    granted = asyncio.run(other.call(call("ADD", "web-0", uid, netns)))
    assert granted["ips"][0]["address"].startswith(f"{address}/")
    control_plane.kubectl("delete", "statefulset", "web")
    control_plane.kubectl("delete", "node", NODE, OTHER)


def test_the_first_account_says_that_the_nodes_files_are_installed(
    control_plane: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A pipe in place of the network list, which the agent reads before it replaces it, holds the installation up."""
    files = {name: tmp_path / name for name in ("executable", "bin", "net.d")}
    files["executable"].write_text("executable")
    files["net.d"].mkdir()
    pipe = files["net.d"] / NETWORK_LIST
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    environment = {
        "SPIDERPOOL_INSTALL_CNI": "true",
        "SPIDERPOOL_CNI_EXECUTABLE": str(files["executable"]),
        "SPIDERPOOL_CNI_BIN_DIR": str(files["bin"]),
        "SPIDERPOOL_CNI_CONF_DIR": str(files["net.d"]),
    }
    processes = Processes(tmp_path / "processes")
    request.addfinalizer(processes.stop_all)
    with node_objects(control_plane, NODE):
        LocalAgent(control_plane, processes, tmp_path, NODE, AgentOptions(environment=environment)).launch()
        wait_until((files["bin"] / "spiderpool").exists, "the installation has begun")
        time.sleep(WHILE)
        assert "status" not in published(control_plane)
        pipe.write_text("")
        wait_until(lambda: "bootID" in published(control_plane).get("status", {}), "the first account")
        assert pipe.is_file()
