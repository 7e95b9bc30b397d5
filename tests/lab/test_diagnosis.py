"""What `spiderpoolctl doctor` finds, and which alerts fire, where a lab has been broken in one way at a time.

Agents, kernels, API server, Prometheus and its rules are real. The commands of the alert's runbook show the cause. Each
fault is mended by the remedy that the finding or the runbook names; then nothing is found wrong and the alert ends.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spiderpool.api.ip import RELEASE_ANNOTATION
from spiderpool.cli.main import cli
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool.errors import NotReady
from spiderpool_lab import facts
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.cluster import CLOUD, CONTROLLER, EXAMPLE, LabCluster, LabOptions, temporary
from tests.lab.alerts import METRICS_OF_AGENTS, PATIENCE, Operator, alerts_of
from tests.lab.names import lab_name
from tests.pages.shell import shell

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(300)]

NODES = ("master", "worker")
STANDSTILL = 8.0
"""Seconds in which an agent gets no CPU: the alert begins with five."""
BALANCER_LISTS = 16.0
"""Seconds after which spiderpool-cloud lists load balancers anew."""
ON_THE_ENI = 5
"""Addresses that the cloud has registered for pods on each ENI."""
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{group: {group}}}
  annotations: {{v1.multus-cni.io/default-network: kube-system/ipvlan-eth0{pool}}}
spec:
  nodeName: {node}
  containers: [{{name: web, image: web}}]
"""
SHARED_ADDRESS = "172.31.199.240"
SHARED = f"""
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: shared}}
spec: {{subnet: 172.31.192.0/20, gateway: 172.31.207.253, ips: [{SHARED_ADDRESS}]}}
"""
LEAKED = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: 172.31.199.186, labels: {ipam.spidernet.io/node: master, ipam.spidernet.io/ippool: master-eth0-v4}}
spec:
  address: 172.31.199.186/20
  pool: master-eth0-v4
  node: master
  namespace: default
  pod: nobody
  podUID: 00000000-0000-4000-8000-000000000000
  interface: eth0
"""
BALANCED = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, annotations: {annotations}}}
spec: {{type: LoadBalancer, selector: {{group: first}}, ports: [{{port: 80}}]}}
"""
NAMED = "NAMESPACE/NAME"

Finding = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """Pools of what the cloud has registered, and a running pod on each node."""
    with temporary(lab_name("diagnosis"), LabOptions(discovery=True), agent_env=METRICS_OF_AGENTS) as cluster:
        cluster.plane.apply(EXAMPLE / "networks.yaml")
        cluster.wait_for("pools are made", lambda: len(cluster.objects("spiderippools")) >= 2 * len(NODES), PATIENCE)
        run_pods(cluster, *((f"first-{node}", node) for node in NODES))
        yield cluster


@pytest.fixture(scope="module")
def operator(cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Somebody with a Prometheus, a shell and the runbooks."""
    with alerts_of(cluster, tmp_path_factory.mktemp("prometheus")) as server:
        yield Operator(cluster, server, shell(tmp_path_factory.mktemp("shell"), cluster.plane.admin_kubeconfig))


@pytest.fixture(autouse=True)
def well_before_and_after(cluster: LabCluster, operator: Operator) -> Iterator[None]:
    """Nothing is found wrong and no alert fires, and once a test has applied the remedy, that is so again."""
    well(cluster)
    operator.has_quiet()
    yield
    cluster.plane.kubectl("delete", "pods", "-l", "group=temporary", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
    cluster.plane.delete_events()
    well(cluster)
    operator.has_quiet()


def well(cluster: LabCluster) -> None:
    found_first(cluster, None)


def findings(cluster: LabCluster, *words: str) -> list[Finding]:
    found: list[Finding] = json.loads(doctor(cluster, *words, "-o", "json").stdout)["findings"]
    return found


def doctor(cluster: LabCluster, *words: str) -> Result:
    """What the command prints; its status is 0 or 1."""
    result = CliRunner().invoke(cli, ["doctor", *words, "--kubeconfig", str(cluster.plane.admin_kubeconfig)])
    assert result.exit_code in (0, 1), result.output
    return result


def first(cluster: LabCluster, check: str) -> Finding:
    """The first finding, once it is of this check."""
    found = found_first(cluster, check)
    assert found is not None
    return found


def found_first(cluster: LabCluster, check: str | None) -> Finding | None:
    """The first finding, once it is of this check; None stands for no finding."""
    seen: list[Finding] = []

    def is_first() -> bool:
        seen[:] = findings(cluster)
        return (seen[0]["check"] if seen else None) == check

    try:
        cluster.wait_for(f"{check or 'nothing'} is found first", is_first, PATIENCE)
    except NotReady as error:
        raise AssertionError(f"{error}, but {json.dumps(seen, indent=1)}") from error
    return seen[0] if seen else None


def pod(name: str, node: str, pool: str = "") -> str:
    named = json.dumps({"ipv4": [pool]})
    annotation = f", ipam.spidernet.io/ippool: '{named}'" if pool else ""
    group = "first" if name.startswith("first") else "temporary"
    return POD.format(name=name, group=group, node=node, pool=annotation)


def run_pods(cluster: LabCluster, *where: tuple[str, str]) -> dict[str, str]:
    """Make pods and wait until they run; their addresses by their names."""
    cluster.plane.apply(*(pod(name, node) for name, node in where))
    names = {name for name, _ in where}
    cluster.wait_for(f"{', '.join(names)} run", lambda: names <= addresses(cluster).keys(), PATIENCE)
    return addresses(cluster)


def addresses(cluster: LabCluster) -> dict[str, str]:
    return {each.key.partition("/")[2]: each.address for each in facts.running_pods(cluster)}


@contextmanager
def stopped(cluster: LabCluster, node: str, process: str = "agent") -> Iterator[None]:
    client = cluster.machines.client(node)
    client.signal(process, signal.SIGSTOP)
    try:
        yield
    finally:
        client.signal(process, signal.SIGCONT)


def test_nothing_is_wrong_with_a_lab_that_is_well(cluster: LabCluster) -> None:
    assert doctor(cluster).stdout == "Spiderpool in kube-system: nothing is found wrong\n"


def test_a_pool_that_is_full(cluster: LabCluster, operator: Operator) -> None:
    held = dict.fromkeys(("second", "third", "fourth", "fifth"), "master")
    run_pods(cluster, *held.items())
    cluster.plane.apply(pod("late", "master"))
    found = first(cluster, "pod-refused")
    assert "pod default/late on node master gets no address" in found["what"]
    full = f"master-eth0-v4: {ON_THE_ENI} of {ON_THE_ENI} addresses in use"
    assert full in found["what"]
    holders = [address for name, address in addresses(cluster).items() if name != "first-worker"]
    operator.is_paged("SpiderpoolPoolFull", full, "pod/late", *holders, POOL="master-eth0-v4")
    operator.is_paged("SpiderpoolAllocationFails", full, "What to change", **{NAMED: "default/late"})
    delete(cluster, "third")
    cluster.wait_for("the pod runs", lambda: "late" in addresses(cluster), PATIENCE)
    delete(cluster, "late")


def test_a_pool_of_another_node(cluster: LabCluster, operator: Operator) -> None:
    cluster.plane.apply(pod("lost", "master", "worker-eth0-v4"))
    found = first(cluster, "pod-refused")
    assert "worker-eth0-v4: no IPv4 pool of that name that node master may use" in found["what"]
    remedy = "name a pool of the pod's own node: worker-eth0-v4 is for an ENI of node worker"
    assert found["remedy"].startswith(remedy)
    operator.is_paged("SpiderpoolAllocationFails", "default/lost", remedy, **{NAMED: "default/lost"})
    delete(cluster, "lost")
    run_pods(cluster, ("found", "master"))


def test_an_agent_that_does_not_answer(cluster: LabCluster, operator: Operator) -> None:
    """Its node has the address of a pod that is gone."""
    run_pods(cluster, ("ended", "worker"))
    address = addresses(cluster)["ended"]
    with stopped(cluster, "worker"):
        cluster.plane.kubectl("delete", "pod", "ended", "--force", "--grace-period=0")
        found = first(cluster, "node-silent")
        assert found["node"] == "worker"
        assert found["what"].startswith("node worker: its agent has not answered the last question")
        operator.is_paged("SpiderpoolCollectionWaits", "node-silent: node worker", address)


def test_a_record_without_a_pod(cluster: LabCluster, operator: Operator) -> None:
    """It is collected, unless the controller may not, and then `doctor` releases it."""
    cluster.plane.apply(LEAKED)
    operator.is_paged("SpiderpoolAddressesLeaked", "Collected", "172.31.199.186")
    with without_rights(cluster, "spiderpool-controller", verb="delete", resource="spiderips"):
        cluster.plane.apply(LEAKED)
        assert first(cluster, "right-missing")["object"].endswith("/spiderpool-controller")
        operator.is_paged("SpiderpoolCollectionFails", "right-missing", "spiderips.spiderpool.spidernet.io: delete")
        assert "record-leaked" in [each["check"] for each in findings(cluster)]
        assert "172.31.199.186/20 of pod default/nobody is released" in doctor(cluster, "--fix", "--yes").output


def test_an_address_that_was_taken_from_the_eni(cluster: LabCluster, operator: Operator) -> None:
    address = addresses(cluster)["first-master"]
    change_eni(cluster, "UnassignPrivateIpAddresses", address)
    found = first(cluster, "address-unregistered")
    assert found["what"] == f"ENI eni-master-eth0 of node master does not have {address} of pod default/first-master"
    operator.is_paged("SpiderpoolAddressesUnregistered", f"does not have {address} of pod default/first-master")
    change_eni(cluster, "AssignPrivateIpAddresses", address)


def change_eni(cluster: LabCluster, action: str, address: str) -> None:
    """Assign an address at the cloud, or unassign it, as somebody does at its console."""
    named = {"NetworkInterfaceId": "eni-master-eth0", "PrivateIpAddress.1": address}
    cluster.cloud.admin.call("ecs", action, **named)


def test_routes_of_pods_that_were_flushed(cluster: LabCluster) -> None:
    """The agent makes them again, and says that somebody does that."""
    node = cluster.machines.client("worker")
    before = routes(cluster)
    assert before
    node.exec(["ip", "route", "flush", "table", "500"])
    found = first(cluster, "node-network-fault")
    assert found["node"] == "worker"
    assert "rules and routes of this node to its pods were missing and have been made again" in found["what"]
    assert routes(cluster) == before


def routes(cluster: LabCluster) -> str:
    """What leads from the other node to its pods."""
    return cluster.machines.client("worker").exec(["ip", "route", "show", "table", "500"]).stdout


def test_a_record_that_is_missing(cluster: LabCluster, operator: Operator) -> None:
    address = addresses(cluster)["first-master"]
    with stopped(cluster, "master"):
        delete_record(cluster, address)
        found = first(cluster, "address-unrecorded")
        assert found["what"] == f"pod default/first-master on node master uses {address} without a record"
    cluster.wait_for("its agent makes the record again", lambda: address in records(cluster), PATIENCE)
    operator.is_paged("SpiderpoolRecordRestored", "SpiderIPRestored", address)


def records(cluster: LabCluster) -> set[str]:
    return {each["metadata"]["name"] for each in cluster.objects("spiderips")}


def delete_record(cluster: LabCluster, address: str) -> None:
    """Delete a SpiderIP as somebody does who insists on it."""
    uid = cluster.plane.kubectl("get", "spiderip", address, "-o", "jsonpath={.metadata.uid}")
    cluster.plane.kubectl("annotate", "spiderip", address, f"{RELEASE_ANNOTATION}={uid}")
    cluster.plane.kubectl("delete", "spiderip", address)


def test_an_address_that_two_pods_have(cluster: LabCluster, operator: Operator) -> None:
    """Somebody deletes the record of a pod whose agent hangs, and another node gives the address away."""
    cluster.plane.apply(SHARED, pod("mine", "master", "shared"))
    cluster.wait_for("the pod runs", lambda: "mine" in addresses(cluster), PATIENCE)
    with stopped(cluster, "master"):
        delete_record(cluster, SHARED_ADDRESS)
        cluster.plane.apply(pod("other", "worker", "shared"))
        cluster.wait_for("the other pod runs", lambda: "other" in addresses(cluster), PATIENCE)
        found = first(cluster, "address-twice")
        assert f"{SHARED_ADDRESS} is in use twice: " in found["what"]
        assert found["remedy"] == "delete pod default/mine, so that it gets another address"
    operator.is_paged("SpiderpoolAddressDuplicate", SHARED_ADDRESS, "default/mine", "default/other")
    delete(cluster, "mine")
    cluster.wait_for("no address is in use twice", lambda: not twice(cluster), PATIENCE)
    delete(cluster, "other")
    cluster.plane.kubectl("delete", "spiderippool", "shared")


def twice(cluster: LabCluster) -> bool:
    return "address-twice" in [each["check"] for each in findings(cluster)]


def test_a_right_that_is_missing(cluster: LabCluster) -> None:
    with without_rights(cluster, "spiderpool-agent", verb="create", resource="spiderips"):
        found = first(cluster, "right-missing")
        assert found["object"] == "clusterrole.rbac.authorization.k8s.io/spiderpool-agent"
        assert found["evidence"] == ["spiderips.spiderpool.spidernet.io: create"]


@contextmanager
def without_rights(cluster: LabCluster, name: str, *, verb: str, resource: str) -> Iterator[None]:
    """Somebody has edited the ClusterRole of a daemon."""
    role = f"clusterrole/{name}"
    rules = json.loads(cluster.plane.kubectl("get", role, "-o", "json"))["rules"]
    fewer = [
        {**rule, "verbs": [each for each in rule["verbs"] if each != verb]} if resource in rule["resources"] else rule
        for rule in rules
    ]
    cluster.plane.kubectl("patch", role, "--type=merge", "-p", json.dumps({"rules": fewer}))
    try:
        yield
    finally:
        cluster.plane.kubectl("patch", role, "--type=merge", "-p", json.dumps({"rules": rules}))


def test_a_controller_that_is_gone(cluster: LabCluster, operator: Operator) -> None:
    cluster.processes.stop(CONTROLLER)
    try:
        found = first(cluster, "no-leader")
        assert CONTROLLER in found["what"]
        operator.is_paged("SpiderpoolNoLeader", "no-leader")
    finally:
        cluster.start_controller()


def test_a_cloud_that_refuses_calls(cluster: LabCluster, operator: Operator) -> None:
    fault = Fault(kind="refuse", actions="slb:*", code="Forbidden.RAM", message="not authorized", status=403)
    cluster.cloud.admin.set_fault(fault)
    try:
        cluster.plane.apply(BALANCED.format(name="refused", annotations="{}"))
        operator.is_paged("SpiderpoolCloudCallsFail", "Forbidden.RAM", "slb:CreateLoadBalancer")
    finally:
        cluster.cloud.admin.clear_faults()
    cluster.wait_for("it has a load balancer", lambda: ingress(cluster, "refused"), PATIENCE)
    cluster.plane.kubectl("delete", "service", "refused")


def test_metadata_that_nodes_cannot_read(cluster: LabCluster, operator: Operator) -> None:
    cluster.cloud.admin.set_fault(Fault(kind="drop", actions="metadata:*"))
    try:
        operator.is_paged("SpiderpoolMetadataUnread", "exit status 52")  # curl: an empty reply
    finally:
        cluster.cloud.admin.clear_faults()


def test_a_release_that_the_api_server_refuses(cluster: LabCluster, operator: Operator) -> None:
    address = run_pods(cluster, ("ended", "worker"))["ended"]
    with without_rights(cluster, "spiderpool-agent", verb="delete", resource="spiderips"):
        assert first(cluster, "right-missing")["object"].endswith("/spiderpool-agent")
        delete(cluster, "ended")
        operator.is_paged("SpiderpoolReleaseFails", "right-missing", "spiderips.spiderpool.spidernet.io: delete")
    cluster.wait_for("its address is released", lambda: address not in records(cluster), PATIENCE)


def test_an_address_that_another_machine_has(cluster: LabCluster, operator: Operator) -> None:
    """As the kernel of the node finds it, since the other machine is the node itself."""
    cluster.plane.apply(SHARED)
    node, address = cluster.machines.client("master"), f"{SHARED_ADDRESS}/32"
    node.exec(["ip", "address", "add", address, "dev", "eth0"])
    try:
        cluster.plane.apply(pod("late", "master", "shared"))
        operator.is_paged("SpiderpoolAddressConflict", SHARED_ADDRESS)
    finally:
        node.exec(["ip", "address", "delete", address, "dev", "eth0"])
    cluster.wait_for("the pod runs", lambda: "late" in addresses(cluster), PATIENCE)
    delete(cluster, "late")
    cluster.plane.kubectl("delete", "spiderippool", "shared")


def test_an_agent_that_gets_no_cpu(cluster: LabCluster, operator: Operator) -> None:
    with stopped(cluster, "worker"):
        time.sleep(STANDSTILL)
    operator.is_paged("SpiderpoolEventLoopBlocked")


def test_certificates_that_live_for_hours(cluster: LabCluster, operator: Operator) -> None:
    """A week before they end somebody is told, and on the last day somebody is paged."""
    renew_certificates(cluster, SPIDERPOOL_WEBHOOK_CERTIFICATE_LIFE_SECONDS="7200")
    try:
        operator.is_paged("SpiderpoolCertificateExpires", "certificate-ends")
        operator.is_paged("SpiderpoolCertificateEnds", "certificate-ends")
    finally:
        renew_certificates(cluster)


def renew_certificates(cluster: LabCluster, **variables: str) -> None:
    """Have a controller with these variables make the certificates anew."""
    cluster.processes.stop(CONTROLLER)
    emptied = ("patch", "secret", "spiderpool-webhook-certs", "--type=merge", "-p", json.dumps({"data": None}))
    cluster.plane.kubectl("-n", "kube-system", *emptied)
    cluster.start_controller(**variables)


def test_load_balancers_whose_service_is_gone(cluster: LabCluster, operator: Operator) -> None:
    """Somebody has taken the finalizer away while spiderpool-cloud was off; it counts when it makes the next one."""
    cluster.plane.apply(BALANCED.format(name="forgotten", annotations="{}"))
    cluster.wait_for("it has a load balancer", lambda: ingress(cluster, "forgotten"), PATIENCE)
    label = IDENTITY_LABEL.replace(".", r"\.")
    identity = cluster.plane.kubectl("get", "service", "forgotten", "-o", f"jsonpath={{.metadata.labels.{label}}}")
    cluster.processes.stop(CLOUD)
    try:
        body = json.dumps({"metadata": {"finalizers": None}})
        cluster.plane.kubectl("patch", "service", "forgotten", "--type=merge", "-p", body)
        cluster.plane.kubectl("delete", "service", "forgotten")
    finally:
        cluster.start_cloud_controller()
    with another_service(cluster, "next"):
        operator.is_paged("SpiderpoolLoadBalancersOrphaned", "load balancers without a Service", identity)
        unprotected = {"LoadBalancerId": identity, "DeleteProtection": "off"}
        cluster.cloud.admin.call("slb", "SetLoadBalancerDeleteProtection", **unprotected)
        cluster.cloud.admin.call("slb", "DeleteLoadBalancer", LoadBalancerId=identity)
        time.sleep(BALANCER_LISTS)
        with another_service(cluster, "last"):
            operator.has_quiet()


@contextmanager
def another_service(cluster: LabCluster, name: str) -> Iterator[None]:
    cluster.plane.apply(BALANCED.format(name=name, annotations="{}"))
    cluster.wait_for("it has a load balancer", lambda: ingress(cluster, name), PATIENCE)
    yield
    cluster.plane.kubectl("delete", "service", name)


def test_a_service_whose_wishes_nobody_has_granted(cluster: LabCluster, operator: Operator) -> None:
    cluster.plane.apply(BALANCED.format(name="wishes", annotations=f"{{{PREFIX}id: lb-of-others}}"))
    operator.is_paged("SpiderpoolServicesRefused", "service/wishes")
    cluster.plane.kubectl("delete", "service", "wishes")


def ingress(cluster: LabCluster, service: str) -> str:
    return cluster.plane.kubectl("get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")


def delete(cluster: LabCluster, name: str) -> None:
    cluster.plane.kubectl("delete", "pod", name, f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
