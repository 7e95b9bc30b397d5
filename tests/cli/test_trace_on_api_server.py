"""`spiderpoolctl trace` against a real API server: what docs/usage/spiderpoolctl.md shows, word for word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spiderpool.cli.main import cli
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.topology import SERVICE_CIDR
from tests.support.local_agent import node_objects

pytestmark = pytest.mark.control_plane

PAGE = Path(__file__).parents[2] / "docs" / "usage" / "spiderpoolctl.md"
NODES = {"worker-1": "172.31.199.183", "worker-2": "172.31.199.184"}
PODS = {
    "web-1": ("worker-1", "172.31.199.187"),
    "web-2": ("worker-1", "172.31.199.188"),
    "api-1": ("worker-2", "172.31.199.190"),
}
OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: trace}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: ipvlan-eth0, namespace: trace}
spec:
  config: '{"cniVersion": "1.0.0", "name": "ipvlan-eth0", "plugins": [
    {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}, {"type": "coordinator"}]}'
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: eth0}
spec:
  subnet: 172.31.192.0/20
  ipVersion: 4
  ips: [172.31.199.187-172.31.199.199]
  gateway: 172.31.207.253
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata: {name: default}
spec: {mode: auto}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: trace}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: trace}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: trace, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints:
- addresses: [172.31.199.190]
  nodeName: worker-2
  targetRef: {kind: Pod, namespace: trace, name: api-1}
"""
NETWORK = "v1.multus-cni.io/default-network"


def pod(name: str) -> str:
    node, _ = PODS[name]
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
    metadata = {"name": name, "namespace": "trace", "annotations": {NETWORK: "trace/ipvlan-eth0"}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def record(name: str, uid: str) -> str:
    node, address = PODS[name]
    spec = {
        **{"address": f"{address}/20", "pool": "eth0", "node": node, "interface": "eth0"},
        **{"namespace": "trace", "pod": name, "podUID": uid},
    }
    kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIP"}
    return json.dumps({**kind, "metadata": {"name": address}, "spec": spec})


def set_status(plane: ControlPlane, kind: str, name: str, status: dict[str, Any]) -> None:
    words = ("-n", "trace") if kind == "pod" else ()
    patch = json.dumps({"status": status})
    plane.kubectl("patch", kind, name, *words, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster of the page: two nodes, three pods, a Service with an endpoint and one without."""
    with node_objects(control_plane, *NODES), _removed_at_the_end(control_plane):
        control_plane.apply(OBJECTS, *map(pod, PODS))
        for name, address in NODES.items():
            set_status(control_plane, "node", name, {"addresses": [{"type": "InternalIP", "address": address}]})
        for name, (_, address) in PODS.items():
            uid = control_plane.kubectl("get", "pod", name, "-n", "trace", "-o", "jsonpath={.metadata.uid}")
            control_plane.apply(record(name, uid))
            status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
            set_status(control_plane, "pod", name, status if name != "web-2" else {"phase": "Pending"})
        coordinated = {"phase": "Synced", "overlayPodCIDR": [], "serviceCIDR": [SERVICE_CIDR], "serviceAddresses": []}
        set_status(control_plane, "spidercoordinator", "default", coordinated)
        yield control_plane


@contextmanager
def _removed_at_the_end(control_plane: ControlPlane) -> Iterator[None]:
    """Also when the cluster of the page could not be made: other tests use the same control plane."""
    try:
        yield
    finally:
        control_plane.kubectl("delete", "namespace", "trace", "--ignore-not-found", "--wait=false")
        control_plane.kubectl("delete", "pods", "-n", "trace", "--all", "--force", "--grace-period=0")
        control_plane.kubectl("delete", "spiderips,spiderippools,spidercoordinators", "--all")


def run(plane: ControlPlane, *words: str) -> Result:
    return CliRunner().invoke(cli, ["trace", *words, "--kubeconfig", str(plane.admin_kubeconfig)])


def shown(command: str) -> str:
    """What the page shows below a command."""
    blocks = PAGE.read_text().split(f"    $ {command}\n")[1].splitlines()
    lines = []
    for line in blocks:
        if line and (not line.startswith("    ") or line.startswith("    $")):
            break
        lines.append(line[4:])
    return "\n".join(lines).strip()


def without_notes(text: str) -> list[str]:
    """The words of an answer without what is said of the settings, which are those of no real cluster."""
    return text.partition("\nNote: ")[0].split()


def test_a_service_as_the_page_shows_it(plane: ControlPlane) -> None:
    result = run(plane, "trace/web-1", "api.trace:80")
    address = plane.kubectl("get", "service", "api", "-n", "trace", "-o", "jsonpath={.spec.clusterIP}")
    text = result.stdout.replace(address, "10.233.27.14")
    text = text.replace("trace/", "shop/")
    expected = shown("spiderpoolctl trace shop/web-1 api.shop:80")
    assert without_notes(text.replace("api.trace", "api.shop")) == expected.split()
    assert result.exit_code == 0


def test_an_address_without_a_server_as_the_page_shows_it(plane: ControlPlane) -> None:
    result = run(plane, "trace/web-1", "172.31.199.188:8080")
    text = result.stdout.replace("trace/", "shop/")
    assert without_notes(text) == shown("spiderpoolctl trace shop/web-1 172.31.199.188:8080").split()
    assert result.exit_code == 1


def test_a_service_without_endpoints_in_json(plane: ControlPlane) -> None:
    result = run(plane, "trace/web-1", "svc/empty", "-o", "json")
    found = json.loads(result.stdout)
    assert (found["outcome"], found["drop"]["place"]) == ("is dropped", "node worker-1")
    assert "Service trace/empty has no ready endpoint" in found["drop"]["reason"]
    assert result.exit_code == 1


def test_without_the_right_to_read_there_is_no_answer(plane: ControlPlane) -> None:
    account = str(plane.service_account_kubeconfig("default", "default"))
    result = CliRunner().invoke(cli, ["trace", "trace/web-1", "10.0.0.1:80", "--kubeconfig", account])
    assert "objects may not be read" in result.stderr
    assert result.exit_code == 1
