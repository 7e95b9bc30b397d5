"""A real control plane with our controller, and agents that only allocate addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.controller.conftest import Running, refuses, start_controller, unregister, wait
from tests.support.local_agent import AgentOptions, LocalAgent

CONFIG = "enableIPv6: true\npodResourceInject: {enabled: true}\n"
BOTH = "enableIPv6: true"

KINDS_TO_DELETE = "spiderippools,spidersubnets,spiderreservedips,spidermultusconfigs,spidercoordinators"


@pytest.fixture(scope="package")
def controller(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A controller whose webhooks the API server calls. Deletes our objects before it stops."""
    running = start_controller(control_plane, tmp_path_factory.mktemp("controller"), config=CONFIG)
    try:
        wait(running, lambda: running.is_ready, "not ready")
        wait(running, lambda: refuses(control_plane), "webhooks not in use")
        yield running
        control_plane.kubectl("delete", KINDS_TO_DELETE, "--all", "--all-namespaces")
        running.stop()
    finally:
        running.kill()
        unregister(control_plane)


@contextmanager
def nodes(control_plane: ControlPlane, labels: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Create Node objects, so that the scheduler uses them; ``labels`` are by name of the node."""
    for name, node_labels in labels.items():
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **node_labels}}
        control_plane.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
    try:
        yield
    finally:
        control_plane.kubectl("delete", "nodes", *labels)


@contextmanager
def agents(
    control_plane: ControlPlane, directory: Path, names: Sequence[str], settings: str = BOTH
) -> Iterator[dict[str, LocalAgent]]:
    """Run the agents of nodes. Yields them by name of the node."""
    processes = Processes(directory / "processes")
    started = {name: LocalAgent(control_plane, processes, directory, name, AgentOptions(settings)) for name in names}
    try:
        for agent in started.values():
            agent.start()
        yield started
    finally:
        processes.stop_all()
