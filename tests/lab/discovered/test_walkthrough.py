"""The walkthrough with discovered pools, and what happens to pods and Services when the cloud fails."""

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

from spiderpool.cli.printing import View
from spiderpool.cli.service_objects import objects_of
from spiderpool.cli.services import PlanRules, plans
from spiderpool.cloud import registry
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool_lab import cloud_checks, facts
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.checks import CheckResult, run_checks
from spiderpool_lab.cluster import EXAMPLE, LabCluster
from spiderpool_lab.demo import Demo
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.walkthrough import pod_source
from tests.conftest import write_calls
from tests.lab.discovered.applications import PATIENCE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

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


def pool(cluster: LabCluster, name: str = POOL) -> dict[str, Any]:
    return next(pool for pool in cluster.objects("spiderippools") if pool["metadata"]["name"] == name)


def failed(outcome: Iterable[CheckResult]) -> list[CheckResult]:
    return [result for result in outcome if not result.passed]


def test_the_whole_walkthrough_passes(cluster: LabCluster, request: pytest.FixtureRequest) -> None:
    output = io.StringIO()
    assert Demo(cluster, Console(file=output, width=130, emoji=False)).run(), output.getvalue()
    if recorded := request.config.getoption("--calls"):
        write_calls(cluster.plane, recorded / "walkthrough")


def test_an_address_unassigned_from_its_eni_leaves_the_pool_with_an_event_while_a_pod_has_it(
    cluster: LabCluster,
) -> None:
    admin = cluster.cloud.admin
    addresses = sorted(admin.registered_addresses()[cluster.fabric.topology.nodes[0].enis[0].mac])
    cluster.plane.apply(POD.format(name="holder"))
    cluster.wait_for("the pod is Running", lambda: facts.running_pods(cluster), PATIENCE)
    (holder,) = facts.pods(cluster)
    address, neighbour = holder.address, cluster.fabric.topology.nodes[1].enis[0].address
    ping = pod_source(holder).check("neighbour", "ping", neighbour)
    target = {"NetworkInterfaceId": "eni-master-eth0", "PrivateIpAddress.1": address}
    assert not failed(run_checks(cluster, [ping]))
    admin.call("ecs", "UnassignPrivateIpAddresses", **target)
    assert failed(run_checks(cluster, [ping]))
    cluster.wait_for("an Event reports it", lambda: event_messages(cluster, "AddressNotRegistered", address), PATIENCE)
    assert pool(cluster)["spec"]["excludeIPs"] == [address]
    admin.call("ecs", "AssignPrivateIpAddresses", **target)
    assert not failed(run_checks(cluster, [ping]))
    cluster.wait_for(
        "an Event reports it again", lambda: event_messages(cluster, "AddressRegistered", address), PATIENCE
    )
    assert sorted(admin.registered_addresses()[cluster.fabric.topology.nodes[0].enis[0].mac]) == addresses
    cluster.plane.kubectl("delete", "pod", "holder", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)


def event_messages(cluster: LabCluster, reason: str, word: str) -> list[str]:
    """Messages of the Events with a reason that contain a word."""
    events = cluster.objects("events", f"--field-selector=reason={reason}")
    return [event["message"] for event in events if word in event["message"]]


def test_a_metadata_service_that_fails_or_answers_nothing_takes_no_address_away(cluster: LabCluster) -> None:
    before = pool(cluster)["spec"]
    admin = cluster.cloud.admin
    for fault in (Fault(kind="drop", actions="metadata:*"), Fault(kind="empty", actions="metadata:*")):
        number = admin.set_fault(fault)
        enough = len(readings(cluster)) + 2
        try:
            cluster.wait_for("servers have read in vain", partial(has_read_in_vain, cluster, enough), PATIENCE)
        finally:
            admin.clear_faults(number)
        assert pool(cluster)["spec"] == before


def has_read_in_vain(cluster: LabCluster, times: int) -> bool:
    return len(readings(cluster)) >= times


def readings(cluster: LabCluster) -> list[str]:
    """Log lines of the master's agent about readings that changed nothing."""
    log = (cluster.machines.share(cluster.fabric.topology.nodes[0]) / "agent.log").read_text()
    return [line for line in log.splitlines() if "reading of the ENIs changes nothing" in line]


def test_load_balancers_come_and_go_although_the_cloud_throttles_loses_and_refuses(cluster: LabCluster) -> None:
    admin = cluster.cloud.admin
    cluster.plane.apply(EXAMPLE / "apps.yaml")
    cluster.wait_for("the pods are Running", lambda: len(running(cluster)) == 4, PATIENCE)
    for fault in (
        Fault(kind="throttle", actions="slb:*LoadBalancer*", every=3, seconds=0.2),
        Fault(kind="lose", actions="slb:Create*", every=2, times=2),
        Fault(kind="refuse", actions="slb:*VServerGroup*", every=2, times=3),
    ):
        admin.set_fault(fault)
    cluster.plane.apply(EXAMPLE / "load-balancers.yaml")
    cluster.wait_for("the load balancers serve", lambda: cloud_checks.balancers_serve(cluster), PATIENCE)
    assert len(admin.state()["clbs"]) == len(cloud_checks.PORTS)
    text = cluster.plane.kubectl("get", "services,nodes,spiderservers,endpointslices", "--all-namespaces", "-o", "yaml")
    rules = PlanRules(BalancerConfiguration(cluster=cluster.name), registry.DEFAULT.kind_of)
    found = plans(objects_of(text), rules)
    planned = "\n".join(found.lines(View()))
    assert all(balancer["name"] in planned for balancer in admin.state()["clbs"]), planned
    assert all(f"{server}:" in planned for server in ("i-master", "i-worker"))


def running(cluster: LabCluster) -> list[facts.PodFact]:
    return facts.running_pods(cluster)


def test_keys_are_with_spiderpool_cloud_alone(cluster: LabCluster) -> None:
    """Searches files, environments, command lines, the API server and the nodes while the keys are in use."""
    keys = role_keys(cluster)
    assert {call["identity"] for call in cluster.cloud.admin.calls()["last"]} >= {"spiderpool-cloud"}
    assert all(len(key) >= 20 for key in keys)
    assert [str(file) for file, text in files(cluster.directory) if any(key in text for key in keys)] == []
    assert any(str(cluster.cloud.config.authority).encode() in text for _, text in processes()), (
        "the search finds nothing at all"
    )
    assert [pid for pid, text in processes() if any(key in text for key in keys)] == []
    stored = cluster.plane.kubectl("get", KINDS, "--all-namespaces", "-o", "json").encode()
    assert len(stored) > 10_000
    assert not any(key in stored for key in keys)
    for node in cluster.fabric.topology.nodes:
        script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; find /run -type f -size -1M -exec cat {} +"
        dump = cluster.machines.client(node.name).exec(
            ["sh", "-c", f"({script}) 2>/dev/null | tr -d '\\0'"], timeout=30
        )
        assert "SPIDERPOOL_NODE_NAME" in dump.stdout
        assert not any(key.decode() in dump.stdout for key in keys)


def role_keys(cluster: LabCluster) -> list[bytes]:
    """Access key, secret and token, from where spiderpool-cloud gets them."""
    with closing(HTTPConnection("127.0.0.1", cluster.cloud.config.role_port, timeout=5)) as connection:
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
    cluster.cloud.admin.clear_faults()
    cluster.plane.kubectl("delete", "--wait=false", "--filename", str(EXAMPLE / "load-balancers.yaml"))
    cluster.wait_for("they are gone", lambda: not cluster.cloud.admin.state()["clbs"], PATIENCE)
    cluster.plane.kubectl(
        "delete", "--filename", str(EXAMPLE / "apps.yaml"), f"--timeout={PATIENCE}s", timeout=PATIENCE + 10
    )


def test_a_server_that_is_lost_is_cut_off(cluster: LabCluster) -> None:
    """The last test: the server does not come back. Its Node stays as long as its kubelet renews its Lease."""
    gateway = cluster.fabric.topology.nodes[1].enis[0].vswitch.gateway
    assert cluster.probe("worker", [TrafficProbe(kind="ping", target=gateway)])[0].ok
    cluster.cloud.admin.remove_instance("i-worker")
    assert not cluster.probe("worker", [TrafficProbe(kind="ping", target=gateway)])[0].ok
    assert len(cluster.objects("nodes")) == 2
