"""The fabric and its booted nodes, shared by the tests of one module."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name

LOG_TAIL = 3000
"""Characters of each log that are shown with a failure."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the cluster's processes with a failure: they are removed with the cluster."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, LabCluster):
        report.sections += [(name, file.read_text(errors="replace")[-LOG_TAIL:]) for name, file in cluster.logs.items()]
    return report


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    """The network of the walkthrough, on the backend that this machine has."""
    fabric = Fabric(WALKTHROUGH, lab_name("machines"))
    fabric.up()
    yield fabric
    fabric.down()


@pytest.fixture(scope="module")
def machines(fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Both nodes, without a cluster's daemons."""
    directory = tmp_path_factory.mktemp("lab")
    machines = Machines(fabric, Processes(directory / "processes"), directory / "nodes")
    machines.start()
    yield machines
    machines.stop()
