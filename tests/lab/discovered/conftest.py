"""One cluster with discovered pools, shared by all tests of this folder: each file runs its own pods in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from tests.lab.discovered.applications import PATIENCE
from tests.lab.names import lab_name


@pytest.fixture(scope="package")
def cluster() -> Iterator[LabCluster]:
    """A cluster without written pools, whose agents read their ENIs often."""
    often = {"SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": "2"}
    with temporary(lab_name("discovered"), LabOptions(discovery=True), agent_env=often) as cluster:
        cluster.wait_for("networks", lambda: len(cluster.objects("spidermultusconfigs", "-A")) == 2, PATIENCE)
        yield cluster
