"""What clients in the cluster see of an installation by the chart: an upgrade, a removal, and another installation.

What one on the internet sees, under load and in more cases, is `make life-cycle`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from spiderpool_lab.cluster import temporary
from spiderpool_lab.life_cycle.stage import PATIENCE, LifeStage, options
from spiderpool_lab.probes import TrafficProbe
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

INTERVAL = 0.1
"""Seconds between two rounds of requests."""


@dataclass
class Requests:
    """What became of requests from one node to each pod and to the Service."""

    sent: int = 0
    lost: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def stage() -> Iterator[LifeStage]:
    """A cluster in which the product was installed by its chart, and an application with a pod on each node."""
    with temporary(lab_name("chart"), options()) as cluster:
        stage = LifeStage(cluster)
        stage.start_application()
        yield stage


@contextmanager
def requesting(stage: LifeStage, *, by_service: bool) -> Iterator[Requests]:
    """Send requests while the context lasts."""
    pods = [address for found in stage.application().values() for address in found]
    targets = [*pods, *(stage.service()["clusterIPs"] if by_service else ())]
    probes = [TrafficProbe(kind="http", target=target, port=80, timeout=2.0) for target in targets]
    client, seen, ended = stage.cluster.machines.client("worker"), Requests(), threading.Event()

    def work() -> None:
        while not ended.wait(INTERVAL):
            for probe, answer in zip(probes, client.probe(probes), strict=True):
                seen.sent += 1
                if not answer.ok:
                    seen.lost.append(f"{probe.target}: {answer}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join(PATIENCE)
    assert seen.sent > 10


def free_but_for_the_application(stage: LifeStage) -> bool:
    """Whether each pod of the application has its two addresses, and nobody else has one."""
    return len(stage.cluster.objects("spiderips")) == 2 * len(stage.application())


def test_an_upgrade_replaces_agents_while_pods_keep_addresses_and_traffic(stage: LifeStage) -> None:
    before, former = stage.application(), stage.agents().keys()
    with requesting(stage, by_service=True) as seen:
        stage.release.upgrade("--set", "spiderpoolAgent.podAnnotations.upgrade=second")
        stage.release.wait()
    assert seen.lost == []
    assert stage.agents().keys().isdisjoint(former)
    assert stage.application() == before
    stage.scale("app", 4)
    stage.wait("new pods run", lambda: len(stage.application()) == 4)
    stage.scale("app", 2)
    stage.wait("two pods are left", lambda: len(stage.application()) == 2)
    stage.wait("addresses are free", lambda: free_but_for_the_application(stage))


def test_after_a_removal_and_another_installation_pods_have_their_addresses_and_traffic(stage: LifeStage) -> None:
    """Not by the Service: nodes without a network list are not Ready, so Kubernetes takes their pods out of it."""
    before, records = stage.application(), stage.records()
    pools = {pool["metadata"]["name"] for pool in stage.cluster.objects("spiderippools")}
    with requesting(stage, by_service=False) as seen:
        stage.release.uninstall()
        stage.wait("nothing of the release is left", lambda: stage.left() == [])
        stage.cluster.install()
    assert seen.lost == []
    stage.wait("the application is ready again", lambda: stage.application() == before)
    assert stage.records() == records
    assert pools <= {pool["metadata"]["name"] for pool in stage.cluster.objects("spiderippools")}
    stage.cluster.plane.kubectl("rollout", "restart", "deployment", "app")
    stage.wait("all pods are new ones", lambda: len(stage.application().keys() - before.keys()) == 2)
    stage.wait("addresses are free", lambda: free_but_for_the_application(stage))
