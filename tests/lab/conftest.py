"""The fabric and its booted nodes, shared by the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiderpool.lab.fabric import Fabric
from spiderpool.lab.machines import Machines
from spiderpool.lab.processes import Processes
from spiderpool.lab.topology import WALKTHROUGH


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    """The network of the tutorial, on the backend that this machine has."""
    fabric = Fabric(WALKTHROUGH, "test")
    fabric.up()
    yield fabric
    fabric.down()


@pytest.fixture(scope="module")
def machines(fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Both nodes, without any service of a cluster."""
    directory = tmp_path_factory.mktemp("lab")
    machines = Machines(fabric, Processes(directory / "processes"), directory / "nodes")
    machines.start()
    yield machines
    machines.stop()
