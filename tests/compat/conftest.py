"""A cluster whose nodes give addresses only: a real control plane, our controller, our agents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.controller.conftest import WEBHOOKS, Running, refuses, start_controller, wait
from tests.support.local_agent import AgentOptions, LocalAgent

CONFIG = "enableIPv6: true\npodResourceInject: {enabled: true}\n"
BOTH = "enableIPv6: true"

LEFT = "spiderippools,spidersubnets,spiderreservedips,spidermultusconfigs,spidercoordinators"


@pytest.fixture(scope="package")
def controller(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A controller whose webhooks the API server calls. What was made with it goes with it."""
    running = start_controller(control_plane, tmp_path_factory.mktemp("controller"), config=CONFIG)
    try:
        wait(running, lambda: running.is_ready, "not ready")
        wait(running, lambda: refuses(control_plane), "webhooks not in use")
        yield running
        control_plane.kubectl("delete", LEFT, "--all", "--all-namespaces")
        running.stop()
    finally:
        running.kill()
        control_plane.kubectl("delete", WEBHOOKS, "--field-selector=metadata.name=spiderpool-controller")


@contextmanager
def nodes(control_plane: ControlPlane, labels: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Node objects on which the scheduler places pods, by name, with labels."""
    for name, each in labels.items():
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **each}}
        control_plane.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
    try:
        yield
    finally:
        control_plane.kubectl("delete", "nodes", *labels)


@contextmanager
def agents(
    control_plane: ControlPlane, directory: Path, names: Sequence[str], settings: str = BOTH
) -> Iterator[dict[str, LocalAgent]]:
    """The agents of nodes."""
    processes = Processes(directory / "processes")
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-agent")
    started = {name: LocalAgent(kubeconfig, processes, directory, name, AgentOptions(settings)) for name in names}
    try:
        for agent in started.values():
            agent.start()
        yield started
    finally:
        processes.stop_all()
