"""The commands that only read, against a real API server: its selectors, its objects, its refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spiderpool.cli.installation import LEASES
from spiderpool.cli.main import cli
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, node_objects

pytestmark = pytest.mark.control_plane

EVENT = """
apiVersion: v1
kind: Event
metadata: {name: NAME, namespace: default}
involvedObject: {kind: Pod, name: web, namespace: default}
reason: AddressRefused
message: no IPv4 address
type: Warning
source: {component: COMPONENT}
lastTimestamp: "2026-01-01T00:00:00Z"
"""


POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: operator}
spec: {subnet: 10.98.0.0/24, ipVersion: 4, ips: [10.98.0.7-10.98.0.9], nodeName: [n1]}
"""
RECORD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: 10.98.0.7, labels: {ipam.spidernet.io/ippool: operator}}
spec: {address: 10.98.0.7/24, pool: operator, node: n1, namespace: default, pod: none, podUID: u, interface: eth0}
"""


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane without what daemons of other tests have left, and without our objects afterwards."""
    control_plane.delete_events()
    control_plane.kubectl("delete", "leases", "-n", "kube-system", *LEASES.values(), "--ignore-not-found")
    yield control_plane
    control_plane.kubectl("delete", "spiderips,spiderippools,net-attach-def", "-n", "default", "--all")
    control_plane.delete_events()


def run(plane: ControlPlane, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--kubeconfig", str(plane.admin_kubeconfig)])


def test_status_finds_the_warnings_of_our_daemons_alone(plane: ControlPlane) -> None:
    for name, component in (("ours", "spiderpool-agent"), ("theirs", "kubelet")):
        plane.apply(EVENT.replace("NAME", name).replace("COMPONENT", component))
    result = run(plane, "status", "-o", "json")
    found = json.loads(result.stdout)
    assert found["kubernetes"].startswith("v1.")
    assert [each["object"] for each in found["warnings"]] == ["pod/default/web"]
    assert result.exit_code == 1  # there is no controller
    assert "no spiderpool-controller has ever led" in found["problems"][0]["text"]


def test_status_of_an_account_that_may_read_little(plane: ControlPlane) -> None:
    account = str(plane.service_account_kubeconfig("default", "default"))
    result = CliRunner().invoke(cli, ["status", "--kubeconfig", account])
    assert "Agents:    not known" in result.stdout
    assert "Node objects may not be read: nodes is forbidden" in result.stderr
    assert "kinds could not be read, so that nothing is known of what is wrong there" in result.stdout
    assert result.exit_code == 1


NETWORK = """
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: operator, namespace: default}
spec:
  config: '{"cniVersion": "1.0.0", "name": "any", "type": "ipvlan", "master": "eth1", "ipam": {"type": "spiderpool"}}'
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: operator, namespace: default, annotations: {v1.multus-cni.io/default-network: default/operator}}
spec: {nodeName: n1, containers: [{name: c, image: none}]}
"""


async def refusal_of(agent: LocalAgent, uid: str) -> str:
    """What the agent says when it gives a pod no address, as soon as it sees the pools."""

    async def refused() -> str | None:
        answer = await agent.address("ADD", "default", "operator", uid)
        return answer["msg"] if "operator: " in answer.get("msg", "") else None

    return await eventually(refused, timeout=20.0) or ""


def test_explain_says_what_the_agent_says(plane: ControlPlane, tmp_path: Path) -> None:
    full = POOL.replace("10.98.0.7-10.98.0.9", "10.98.0.7").replace("nodeName", "default: true, nodeName")
    with node_objects(plane, "n1"):
        plane.apply(NETWORK, full, RECORD, POD)
        uid = plane.kubectl("get", "pod", "operator", "-o", "jsonpath={.metadata.uid}")
        agent = LocalAgent(plane, Processes(tmp_path / "processes"), tmp_path, "n1")
        agent.start()
        try:
            said = asyncio.run(refusal_of(agent, uid))
            result = run(plane, "explain", "pod", "default/operator", "-o", "json")
        finally:
            agent.stop()
            plane.kubectl("delete", "pod", "operator", "--force", "--grace-period=0")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["refusal"] == said
    assert "operator: 1 of 1 addresses in use" in said
    assert found["advice"][0].startswith("add addresses to spec.ips of pool operator")


KINDS = "spiderips,spiderippools,spiderreservedips,spideripquotas,spiderservers,spidernodes,net-attach-def"


def test_explain_in_the_controllers_pod_lacks_events_and_settings_alone(plane: ControlPlane) -> None:
    account = str(plane.service_account_kubeconfig("kube-system", "spiderpool-controller"))
    with node_objects(plane, "n1"):
        plane.apply(NETWORK, POD)
        plane.kubectl("get", KINDS, "--all-namespaces")  # waits until a new API server has them in its cache
        try:
            result = CliRunner().invoke(cli, ["explain", "pod", "default/operator", "--kubeconfig", account])
        finally:
            plane.kubectl("delete", "pod", "operator", "--force")
    forbidden = [line for line in result.stderr.splitlines() if "may not be read" in line]
    left_out = [line.partition(" may not")[0] for line in forbidden]
    assert left_out == ["ConfigMap kube-system/spiderpool-conf", "Event objects"]


def test_who_reads_a_record_and_its_pool(plane: ControlPlane) -> None:
    plane.apply(POOL, RECORD)
    result = run(plane, "who", "10.98.0.7", "-o", "json")
    found = json.loads(result.stdout)
    assert (found["state"], found["pod"], found["interface"]) == ("held", "default/none", "eth0")
    assert found["since"]
    assert (result.exit_code, found["problems"][0][:39]) == (1, "pod default/none does not hold it any m")
    other = json.loads(run(plane, "who", "10.98.0.8", "-o", "json").stdout)
    assert (other["state"], other["pools"][0]["reason"]) == ("free", "for node n1")


def test_top_counts_the_records_of_each_node(plane: ControlPlane) -> None:
    plane.apply(POOL, RECORD)
    found = json.loads(run(plane, "top", "nodes", "-o", "json").stdout)["items"]
    node = next(each for each in found if each["name"] == "n1")
    assert (node["used"], node["total"], node["percent"], node["pools"]) == (1, 3, 33, 1)
    pools = run(plane, "top", "pools", "-o", "name").stdout.split()
    assert "spiderippool.spiderpool.spidernet.io/operator" in pools
    assert run(plane, "top", "subnets").stdout.startswith("SUBNET")


WORKERS = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: drained}}
- apiVersion: spiderpool.spidernet.io/v2beta1
  kind: SpiderIPPool
  metadata: {name: worker-1-eth1}
  spec:
    {subnet: 172.31.192.0/20, ipVersion: 4, ips: [172.31.199.185-172.31.199.190], nodeName: [worker-1], default: true}
- apiVersion: spiderpool.spidernet.io/v2beta1
  kind: SpiderIPPool
  metadata: {name: worker-2-eth1}
  spec: {subnet: 172.31.192.0/20, ipVersion: 4, ips: [172.31.198.10-172.31.198.11], nodeName: [worker-2], default: true}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: drained}
  spec:
    replicas: 2
    selector: {matchLabels: {app: web}}
    template:
      metadata:
        labels: {app: web}
        annotations: {v1.multus-cni.io/default-network: default/operator}
      spec: {containers: [{name: web, image: web}]}
"""
WEB_SET = """
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-7d4b, namespace: drained, ownerReferences: [OWNER]}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}
"""
WEB_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  namespace: drained
  labels: {app: web}
  annotations: {v1.multus-cni.io/default-network: default/operator}
  ownerReferences: [OWNER]
spec: {nodeName: worker-1, containers: [{name: web, image: web}]}
"""
WEB_RECORD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: ADDRESS, labels: {ipam.spidernet.io/ippool: worker-1-eth1, ipam.spidernet.io/node: worker-1}}
spec:
  {address: ADDRESS/20, pool: worker-1-eth1, node: worker-1, namespace: drained, pod: NAME, podUID: HOLDER,
   interface: eth0}
"""


def reference(plane: ControlPlane, kind: str, name: str) -> str:
    """The ownerReference to an object as its controller."""
    uid = plane.kubectl("get", kind, name, "-n", "drained", "-o", "jsonpath={.metadata.uid}")
    return f"{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: {uid}, controller: true}}"


def put_workload(plane: ControlPlane) -> None:
    """Two ready nodes, and two pods of a Deployment on the first one, with addresses."""
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    for name in ("worker-1", "worker-2"):
        plane.kubectl("patch", "node", name, "-p", '{"spec": {"taints": null}}')
        plane.kubectl("patch", "node", name, "--subresource=status", "-p", json.dumps(ready))
    plane.apply(NETWORK, WORKERS)
    plane.apply(WEB_SET.replace("OWNER", reference(plane, "Deployment", "web")))
    for name, address in (("web-7d4b-1", "172.31.199.185"), ("web-7d4b-2", "172.31.199.186")):
        plane.apply(WEB_POD.replace("OWNER", reference(plane, "ReplicaSet", "web-7d4b")).replace("NAME", name))
        uid = plane.kubectl("get", "pod", name, "-n", "drained", "-o", "jsonpath={.metadata.uid}")
        plane.apply(WEB_RECORD.replace("ADDRESS", address).replace("NAME", name).replace("HOLDER", uid))


def test_plan_of_a_drained_node(plane: ControlPlane) -> None:
    with node_objects(plane, "worker-1", "worker-2"):
        try:
            put_workload(plane)
            drain = run(plane, "plan", "drain", "worker-1", "-o", "json")
        finally:
            plane.kubectl("delete", "deployments,replicasets,pods", "-n", "drained", "--all", "--force")
            plane.kubectl("delete", "spiderips", "172.31.199.185", "172.31.199.186", "--ignore-not-found")
    moved = json.loads(drain.stdout)
    assert drain.exit_code == 0
    assert [(each["workload"], each["pods"]) for each in moved["workloads"]] == [("ReplicaSet drained/web-7d4b", 2)]
    assert {each["node"]: (each["free"], each["even"]) for each in moved["nodes"]} == {"worker-2": (2, 0)}
