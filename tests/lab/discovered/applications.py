"""Pods of one file of tests, in the cluster that all files share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiderpool_lab import facts
from spiderpool_lab.cluster import LabCluster

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""


@contextmanager
def running(cluster: LabCluster, *manifests: Path | str, pods: int) -> Iterator[LabCluster]:
    """The cluster while this many pods of some manifests run; afterwards it has neither pods nor Services of ours."""
    cluster.plane.apply(*manifests)
    cluster.wait_for("all pods are Running", lambda: len(facts.running_pods(cluster)) == pods, PATIENCE)
    yield cluster
    cluster.plane.kubectl("delete", "services", "--field-selector=metadata.name!=kubernetes")
    kinds = "deployments,daemonsets,pods"
    cluster.plane.kubectl("delete", kinds, "--all", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    cluster.wait_for("every address is free", lambda: cluster.objects("spiderips") == [], PATIENCE)
