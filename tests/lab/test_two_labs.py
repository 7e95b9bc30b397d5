"""Two labs are up on one machine at once, and one stays as it is when the other is taken down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from spiderpool.errors import BadConfig
from spiderpool_lab import facts
from spiderpool_lab.cluster import LabCluster, LabOptions, state_directory
from spiderpool_lab.namespaces import DIRECTORY
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""

MASTER = WALKTHROUGH.nodes[0]
ONE_NODE = msgspec.structs.replace(
    WALKTHROUGH, vswitches=WALKTHROUGH.vswitches[:1], nodes=(msgspec.structs.replace(MASTER, enis=MASTER.enis[:1]),)
)
"""The smallest lab: one server with one ENI."""

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {v1.multus-cni.io/default-network: kube-system/ipvlan-eth0}}
spec:
  nodeName: master
  containers: [{name: web, image: web}]
"""


@pytest.fixture
def labs() -> Iterator[tuple[LabCluster, LabCluster]]:
    """Two labs with all their parts, each with its own control plane, network, cloud and node."""
    with ExitStack() as stack:
        pair = [LabCluster(lab_name(name), LabOptions(topology=ONE_NODE, discovery=True)) for name in ("one", "two")]
        for cluster in pair:
            stack.callback(cluster.down)
            cluster.up()
        yield pair[0], pair[1]


def run_pod(cluster: LabCluster) -> str:
    """Run the pod and return its address."""
    cluster.plane.apply(POD)
    cluster.wait_for("the pod is Running", lambda: facts.running_pods(cluster), PATIENCE)
    return facts.running_pods(cluster)[0].address


def reaches_gateway(cluster: LabCluster) -> bool:
    """Whether the pod reaches the cloud's router."""
    probe = TrafficProbe(kind="ping", source="default/web", target=MASTER.enis[0].vswitch.gateway)
    return cluster.probe("master", [probe])[0].ok


def pids(cluster: LabCluster) -> dict[str, int | None]:
    return {name: cluster.processes.pid(name) for name in cluster.processes.names()}


def test_two_labs_do_not_touch_each_other(labs: tuple[LabCluster, LabCluster]) -> None:
    one, two = labs
    assert run_pod(one) in MASTER.enis[0].secondaries
    assert run_pod(two) in MASTER.enis[0].secondaries
    assert [reaches_gateway(one), reaches_gateway(two)] == [True, True]
    assert one.plane.server != two.plane.server
    assert set(pids(one).values()).isdisjoint(pids(two).values())
    with pytest.raises(BadConfig, match=f"spiderpool-lab down --name {one.name}"):
        LabCluster(one.name).up()
    before = pids(two)
    one.down()
    assert traces(one.name) == []
    assert pids(two) == before
    assert None not in before.values()
    assert reaches_gateway(two)
    two.plane.kubectl("delete", "pod", "web", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    assert two.objects("spiderips") == []


def traces(name: str) -> list[Path]:
    """Namespaces and files of a lab that are left."""
    return [*DIRECTORY.glob(f"spl-{name}-*"), *filter(Path.exists, [state_directory(name)])]
