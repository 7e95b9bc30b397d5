"""Far ends that many tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import NodeManager  # type: ignore[import-untyped]

from spiderpool.lab.control_plane import ControlPlane
from spiderpool.lab.processes import Processes

CHART = Path(__file__).parent.parent / "charts" / "spiderpool"

PATIENCE = 60
"""Seconds that workers get to take down what they made when the run is interrupted."""

GROUPS = {"agent": "node", "balancer": "node", "compat": "cluster", "controller": "cluster", "kube": "cluster"}
"""Folders whose tests share one API server and run in order. The lab is a group of its own, the rest another."""


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each group to one worker, the largest first: two labs of one name would take each other down."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return "lab" if folder == "lab" else GROUPS.get(folder, "rest")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """Where tests run side by side."""
    return Groups(config, log)


def pytest_configure() -> None:
    """End as by Ctrl-C when told to terminate, so that fixtures take down what they made."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs are born with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    NodeManager.EXIT_TIMEOUT = PATIENCE


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with our custom resources and our roles."""
    directory = tmp_path_factory.mktemp("control-plane")
    plane = ControlPlane(directory, Processes(directory / "processes"))
    plane.start()
    try:
        plane.apply(*sorted(CHART.glob("crds/*.yaml")))
        plane.apply(*sorted(CHART.glob("templates/*-rbac.yaml")))
        if (CHART / "crds").is_dir():
            plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane
    finally:
        plane.stop()
