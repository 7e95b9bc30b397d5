"""Agents of one node or two against the real API server, giving addresses only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.agent.address_cluster import NAMESPACE, AddressCluster
from tests.agent.attaching_node import AttachingNode
from tests.kernel.fixtures import kind, strict, wide, world
from tests.support.local_agent import AgentOptions, LocalAgent, node_objects

__all__ = ["kind", "strict", "wide", "world"]

POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: {name}}}
spec: {{subnet: {subnet}, ipVersion: 4, default: true, ips: [{ips}], gateway: {gateway}}}
"""


class MakeAgent(Protocol):
    """Starts the agent of a node; ``config`` is added to its conf.yml, ``environment`` to its environment."""

    def __call__(self, node: str, config: str = "", **environment: str) -> LocalAgent: ...


MakePods = Callable[[int, list[str]], dict[str, str]]


@pytest.fixture
def make_agent(control_plane: ControlPlane, tmp_path: Path) -> Iterator[MakeAgent]:
    """Starts agents, and makes their Nodes; ends them when the test ends."""
    processes = Processes(tmp_path / "processes")
    nodes = ExitStack()

    def make(node: str, config: str = "", **environment: str) -> LocalAgent:
        nodes.enter_context(node_objects(control_plane, node))
        agent = LocalAgent(control_plane, processes, tmp_path, node, AgentOptions(environment=environment))
        with (tmp_path / f"{node}.yml").open("a") as file:
            file.write(config)
        agent.start()
        return agent

    with nodes:
        yield make
        processes.stop_all()


@pytest.fixture
def nothing_is_left(node: AttachingNode) -> Iterator[None]:
    """Pods of a test go, and with their interfaces all that was theirs."""
    yield
    assert node.end_pods() == set()


@pytest.fixture
def pool(control_plane: ControlPlane) -> Iterator[Callable[..., None]]:
    """Makes default pools; the test's pools, pods and records go when it ends."""

    def make(name: str, ips: str, subnet: str = "10.9.0.0/16", gateway: str = "10.9.255.254") -> None:
        control_plane.apply(POOL.format(name=name, ips=ips, subnet=subnet, gateway=gateway))

    yield make
    control_plane.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
    control_plane.kubectl("delete", "spiderippools,spiderips", "--all")


@pytest.fixture
def make_pods(control_plane: ControlPlane) -> MakePods:
    """Makes pods bound to nodes in turn; UIDs by name."""

    def make(count: int, nodes: list[str]) -> dict[str, str]:
        manifests = (_pod(f"pod-{i:03}", nodes[i % len(nodes)]) for i in range(count))
        control_plane.kubectl("create", "-f", "-", input="\n---\n".join(manifests), timeout=120)
        listed = json.loads(control_plane.kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in listed}

    return make


def _pod(name: str, node: str) -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
        f"spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: none}}]}}"
    )


@pytest.fixture(scope="package")
def namespace(control_plane: ControlPlane) -> Iterator[None]:
    """The namespace of `AddressCluster`."""
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: None) -> Iterator[AddressCluster]:
    """Everything in it goes when the test ends."""
    yield AddressCluster(control_plane)
    control_plane.kubectl("delete", "statefulsets", "-n", NAMESPACE, "--all", "--cascade=foreground")
    control_plane.kubectl("delete", "pods", "-n", NAMESPACE, "--all", "--force", "--grace-period=0")
    control_plane.kubectl("delete", "spiderippools,spiderips,spiderreservedips,spidercoordinators", "--all")
