"""The walkthrough where nobody writes a pool: the cloud tells, and what becomes of pods and Services when it errs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spiderpool.cli.services import plans
from spiderpool.cloud import registry
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool_lab import cloud_checks, facts
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.checks import Check, ask
from spiderpool_lab.cluster import EXAMPLE, LabCluster, temporary
from spiderpool_lab.demo import Demo
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.walkthrough import pod_asker

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""

KINDS = "secrets,configmaps,events,nodes,services,leases,pods,spiderippools,spidermultusconfigs,serviceaccounts"
POOL = "master-eth0-v4"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{v1.multus-cni.io/default-network: kube-system/ipvlan-eth0}}}}
spec:
  nodeName: master
  containers: [{{name: web, image: web}}]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """A cluster into which nobody has written anything; it reads its ENIs often."""
    with temporary("discovered", discovery=True, agent_env={"SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": "2"}) as cluster:
        yield cluster


def pool(cluster: LabCluster, name: str = POOL) -> dict[str, Any]:
    return next(each for each in cluster.objects("spiderippools") if each["metadata"]["name"] == name)


def failed(outcome: Iterable[Check]) -> list[Check]:
    return [check for check in outcome if not check.passed]


def test_the_whole_walkthrough_passes(cluster: LabCluster) -> None:
    told = io.StringIO()
    assert Demo(cluster, Console(file=told, width=130, emoji=False)).play(), told.getvalue()


def test_an_address_that_is_taken_off_its_eni_leaves_the_pool_and_is_told_of_while_a_pod_has_it(
    cluster: LabCluster,
) -> None:
    console = cluster.cloud.console
    addresses = sorted(console.registered()[cluster.fabric.topology.nodes[0].enis[0].mac])
    cluster.plane.apply(POD.format(name="holder"))
    cluster.wait_for(
        "the pod is Running", lambda: facts.pods(cluster, "--field-selector=status.phase=Running"), PATIENCE
    )
    (holder,) = facts.pods(cluster)
    address, neighbour = holder.address, cluster.fabric.topology.nodes[1].enis[0].address
    reach = pod_asker(holder).asks("reach", "ping", neighbour)
    sent = {"NetworkInterfaceId": "eni-master-eth0", "PrivateIpAddress.1": address}
    assert not failed(ask(cluster, [reach]))
    console.perform("ecs", "UnassignPrivateIpAddresses", **sent)
    assert failed(ask(cluster, [reach]))
    cluster.wait_for("it is told of", lambda: told(cluster, "AddressNotRegistered", address), PATIENCE)
    assert pool(cluster)["spec"]["excludeIPs"] == [address]
    console.perform("ecs", "AssignPrivateIpAddresses", **sent)
    assert not failed(ask(cluster, [reach]))
    cluster.wait_for("it is told of again", lambda: told(cluster, "AddressRegistered", address), PATIENCE)
    assert sorted(console.registered()[cluster.fabric.topology.nodes[0].enis[0].mac]) == addresses
    cluster.plane.kubectl("delete", "pod", "holder", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)


def told(cluster: LabCluster, reason: str, word: str) -> list[str]:
    events = cluster.objects("events", f"--field-selector=reason={reason}")
    return [each["message"] for each in events if word in each["message"]]


def test_a_metadata_service_that_fails_or_answers_nothing_takes_no_address_away(cluster: LabCluster) -> None:
    before = pool(cluster)["spec"]
    console = cluster.cloud.console
    for fault in (Fault(kind="drop", actions="metadata:*"), Fault(kind="empty", actions="metadata:*")):
        number = console.break_down(fault)
        enough = len(readings(cluster)) + 2
        cluster.wait_for("servers have read in vain", partial(has_read_in_vain, cluster, enough), PATIENCE)
        console.repair(number)
        assert pool(cluster)["spec"] == before


def has_read_in_vain(cluster: LabCluster, times: int) -> bool:
    return len(readings(cluster)) >= times


def readings(cluster: LabCluster) -> list[str]:
    """Lines of the master's agent that tell of a reading that changed nothing."""
    log = (cluster.machines.share(cluster.fabric.topology.nodes[0]) / "agent.log").read_text()
    return [line for line in log.splitlines() if "reading of the ENIs changes nothing" in line]


def test_load_balancers_come_and_go_although_the_cloud_throttles_loses_and_refuses(cluster: LabCluster) -> None:
    console = cluster.cloud.console
    cluster.plane.apply(EXAMPLE / "apps.yaml")
    cluster.wait_for("the pods are Running", lambda: len(running(cluster)) == 4, PATIENCE)
    for fault in (
        Fault(kind="throttle", actions="slb:*LoadBalancer*", every=3, seconds=0.2),
        Fault(kind="lose", actions="slb:Create*", every=2, times=2),
        Fault(kind="refuse", actions="slb:*VServerGroup*", every=2, times=3),
    ):
        console.break_down(fault)
    cluster.plane.apply(EXAMPLE / "load-balancers.yaml")
    cluster.wait_for("the load balancers serve", lambda: cloud_checks.balancers_serve(cluster), PATIENCE)
    assert len(console.state()["clbs"]) == len(cloud_checks.PORTS)
    text = cluster.plane.kubectl("get", "services,nodes,endpointslices", "--all-namespaces", "-o", "yaml")
    planned = plans(text, BalancerConfiguration(cluster=cluster.name), registry.DEFAULT.kind_of)
    assert all(balancer["name"] in planned for balancer in console.state()["clbs"]), planned
    assert all(f"{server}:" in planned for server in ("i-master", "i-worker"))


def running(cluster: LabCluster) -> list[facts.PodFact]:
    return facts.pods(cluster, "--field-selector=status.phase=Running")


def test_keys_are_with_spiderpool_cloud_alone(cluster: LabCluster) -> None:
    """They are looked for while it uses them: in files, environments, command lines, the API server, the nodes."""
    keys = role_keys(cluster)
    assert {call["identity"] for call in cluster.cloud.console.calls()["last"]} >= {"spiderpool-cloud"}
    assert all(len(key) >= 20 for key in keys)
    assert [str(file) for file, text in files(cluster.directory) if any(key in text for key in keys)] == []
    assert any(str(cluster.cloud.config.authority).encode() in text for _, text in processes()), "or it sees nothing"
    assert [pid for pid, text in processes() if any(key in text for key in keys)] == []
    stored = cluster.plane.kubectl("get", KINDS, "--all-namespaces", "-o", "json").encode()
    assert len(stored) > 10_000
    assert not any(key in stored for key in keys)
    for node in cluster.fabric.topology.nodes:
        script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; find /run -type f -size -1M -exec cat {} +"
        seen = cluster.machines.client(node.name).exec(
            ["sh", "-c", f"({script}) 2>/dev/null | tr -d '\\0'"], timeout=30
        )
        assert "SPIDERPOOL_NODE_NAME" in seen.stdout
        assert not any(key.decode() in seen.stdout for key in keys)


def role_keys(cluster: LabCluster) -> list[bytes]:
    """Access key, secret and token as spiderpool-cloud has them."""
    with closing(HTTPConnection("127.0.0.1", cluster.cloud.config.role, timeout=5)) as connection:
        connection.request("PUT", "/latest/api/token", headers={"X-aliyun-ecs-metadata-token-ttl-seconds": "60"})
        token = connection.getresponse().read().decode()
        path = "/latest/meta-data/ram/security-credentials/spiderpool-cloud"
        connection.request("GET", path, headers={"X-aliyun-ecs-metadata-token": token})
        document = json.loads(connection.getresponse().read())
    return [document[name].encode() for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken")]


def files(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def processes() -> Iterator[tuple[str, bytes]]:
    """Environment and command line of every process of this machine."""
    for entry in Path("/proc").iterdir():
        if re.fullmatch("[0-9]+", entry.name):
            for name in ("environ", "cmdline"):
                try:
                    yield entry.name, (entry / name).read_bytes()
                except OSError:
                    continue


def test_load_balancers_go_with_their_services(cluster: LabCluster) -> None:
    cluster.cloud.console.repair()
    cluster.plane.kubectl("delete", "--wait=false", "--filename", str(EXAMPLE / "load-balancers.yaml"))
    cluster.wait_for("they are gone", lambda: not cluster.cloud.console.state()["clbs"], PATIENCE)
    cluster.plane.kubectl(
        "delete", "--filename", str(EXAMPLE / "apps.yaml"), f"--timeout={PATIENCE}s", timeout=PATIENCE + 10
    )


def test_a_server_that_is_lost_is_cut_off(cluster: LabCluster) -> None:
    """The last test: the server does not come back. Its Node stays as long as its kubelet is heard."""
    gateway = cluster.fabric.topology.nodes[1].enis[0].vswitch.gateway
    assert cluster.probe("worker", [TrafficProbe(kind="ping", target=gateway)])[0].ok
    cluster.cloud.console.lose("i-worker")
    assert not cluster.probe("worker", [TrafficProbe(kind="ping", target=gateway)])[0].ok
    assert len(cluster.objects("nodes")) == 2
