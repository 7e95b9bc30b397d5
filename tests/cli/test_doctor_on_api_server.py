"""`doctor` against a real API server: a cluster that is well, and broken ones, of which the cause comes first."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spiderpool.cli.doctor.look import DEFINITIONS
from spiderpool.cli.finding import CHECKS
from spiderpool.cli.main import cli
from spiderpool_lab import chart
from spiderpool_lab.control_plane import ControlPlane
from tests.support.local_agent import node_objects
from tests.support.self_signed import certificate, pem

pytestmark = pytest.mark.control_plane

HOME = "kube-system"
CONTROLLER = "spiderpool-controller"
OURS = "spiderpool.spidernet.io/v2beta1"
ALL = "spiderips,spiderippools,spidernodes,spiderservers,spidermultusconfigs,spidersubnets,spidercoordinators"
WEBHOOKS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lease() -> dict[str, Any]:
    spec = {"holderIdentity": "controller-1", "leaseDurationSeconds": 3600, "renewTime": written(datetime.now(UTC))}
    metadata = {"name": f"{CONTROLLER}-leases", "namespace": HOME}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def service() -> dict[str, Any]:
    metadata = {"name": CONTROLLER, "namespace": HOME}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443}]}}


def endpoints(*, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{CONTROLLER}-planted",
            "namespace": HOME,
            "labels": {"kubernetes.io/service-name": CONTROLLER},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": ready}}],
        "ports": [{"port": 5722}],
    }


def fill_certificate(plane: ControlPlane, until: datetime) -> None:
    """The certificate of the webhooks, and webhooks that trust it and that nothing calls."""
    leaf = pem(certificate(until))
    secret = {"data": {"tls.crt": base64.b64encode(leaf).decode()}}
    plane.kubectl("patch", "secret", "spiderpool-webhook-certs", "-n", HOME, "-p", json.dumps(secret))
    where = {"service": {"namespace": HOME, "name": CONTROLLER}, "caBundle": base64.b64encode(leaf).decode()}
    rule = {"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nones"]}
    hook = {"name": "none.example.com", "clientConfig": where, "rules": [rule], "sideEffects": "None"}
    hooks = json.dumps({"webhooks": [hook | {"admissionReviewVersions": ["v1"]}]})
    for kind in WEBHOOKS:
        plane.kubectl("patch", kind, CONTROLLER, "--type", "merge", "-p", hooks)


def pool(name: str = "blue", **spec: Any) -> dict[str, Any]:
    whole = {"subnet": "10.97.0.0/24", "ips": ["10.97.0.7-10.97.0.8"], "default": True} | spec
    return {"apiVersion": OURS, "kind": "SpiderIPPool", "metadata": {"name": name}, "spec": whole}


def record(last: int, pod: str, uid: str, node: str = "n1") -> dict[str, Any]:
    spec = {"address": f"10.97.0.{last}/24", "pool": "blue", "node": node, "namespace": "default", "pod": pod}
    metadata = {"name": f"10.97.0.{last}", "labels": {"ipam.spidernet.io/node": node}}
    return {
        "apiVersion": OURS,
        "kind": "SpiderIP",
        "metadata": metadata,
        "spec": spec | {"podUID": uid, "interface": "eth0"},
    }


def account(plane: ControlPlane, node: str, *sandboxes: tuple[str, str, str]) -> None:
    """What the agent of a node says: pod, its UID, its address."""
    plane.apply(json.dumps({"apiVersion": OURS, "kind": "SpiderNode", "metadata": {"name": node}}))
    generation = int(plane.kubectl("get", "spidernode", node, "-o", "jsonpath={.metadata.generation}"))
    listed = [
        {
            "podUID": uid,
            "namespace": "default",
            "pod": pod,
            "containerID": f"c{number}",
            "interfaces": [{"name": "eth0", "addresses": [address]}],
        }
        for number, (pod, uid, address) in enumerate(sandboxes)
    ]
    status = {
        "status": {"observedGeneration": generation, "observedAt": written(datetime.now(UTC)), "sandboxes": listed}
    }
    plane.kubectl("patch", "spidernode", node, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def create(plane: ControlPlane, *documents: dict[str, Any]) -> None:
    plane.apply(*map(json.dumps, documents))


def run(plane: ControlPlane, *words: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *words, "--kubeconfig", str(plane.admin_kubeconfig)])


def findings(plane: ControlPlane, *words: str) -> list[dict[str, Any]]:
    """The findings, in their order, with their words as they are printed."""
    result = run(plane, *words, "-o", "json")
    assert result.exit_code in (0, 1), result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    assert result.exit_code == bool(found)
    for each in found:
        assert each["remedy"]
        assert each["consequence"] == CHECKS[each["check"]].consequence
    return found


def first(plane: ControlPlane, *words: str) -> dict[str, Any]:
    return findings(plane, *words)[0]


def clear(plane: ControlPlane) -> None:
    plane.kubectl("delete", f"{ALL},spiderreservedips,spideripquotas", "-A", "--all", "--wait=false")
    plane.kubectl("delete", "net-attach-def", "-A", "--all")
    plane.delete_events()


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The objects of an installation that is well, without daemons."""
    plane = control_plane
    clear(plane)
    create(plane, lease(), service(), endpoints())
    fill_certificate(plane, datetime.now(UTC) + timedelta(days=300))
    with node_objects(plane, "n1", "n2"):
        yield plane
    for kind in WEBHOOKS:
        plane.kubectl("patch", kind, CONTROLLER, "--type", "merge", "-p", '{"webhooks": []}')
    plane.kubectl("patch", "secret", "spiderpool-webhook-certs", "-n", HOME, "-p", '{"data": null}')
    plane.kubectl("delete", "-n", HOME, f"lease/{CONTROLLER}-leases", f"service/{CONTROLLER}")
    plane.kubectl("delete", "-n", HOME, "endpointslices", "--all")


@pytest.fixture
def plane(installed: ControlPlane) -> Iterator[ControlPlane]:
    """The same, with a pool, and nodes that have said what they hold."""
    create(installed, pool(), network())
    for node in ("n1", "n2"):
        account(installed, node)
    yield installed
    installed.kubectl("delete", "pods", "-n", "default", "--all", "--force", "--grace-period=0")
    clear(installed)


def network() -> dict[str, Any]:
    plugin = {"type": "ipvlan", "master": "eth1", "ipam": {"type": "spiderpool"}}
    config = json.dumps({"cniVersion": "1.0.0", "name": "any"} | plugin)
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "net", "namespace": "default"},
        "spec": {"config": config},
    }


def start(plane: ControlPlane, name: str = "web", node: str = "n1", address: str | None = None) -> str:
    """A pod on a node, that waits for an address, or runs with one; its UID."""
    metadata = {
        "name": name,
        "namespace": "default",
        "annotations": {"v1.multus-cni.io/default-network": "default/net"},
    }
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
    create(plane, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    if address:
        running = [{"name": "c", "image": "none", "imageID": "", "ready": True, "restartCount": 0}]
        running[0]["state"] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": running}
        body = json.dumps({"status": status})
        plane.kubectl("patch", "pod", name, "-n", "default", "--subresource=status", "-p", body)
    return plane.kubectl("get", "pod", name, "-n", "default", "-o", "jsonpath={.metadata.uid}")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods count as waiting as soon as they are made."""
    monkeypatch.setattr("spiderpool.cli.doctor.checks_pods.WAITS", -1.0)


def test_nothing_is_wrong_with_a_cluster_that_is_well(plane: ControlPlane) -> None:
    uid = start(plane, address="10.97.0.7")
    create(plane, record(7, "web", uid))
    account(plane, "n1", ("web", uid, "10.97.0.7"))
    result = run(plane)
    assert (result.exit_code, result.stdout) == (0, "Spiderpool in kube-system: nothing is found wrong\n")


@pytest.mark.usefixtures("at_once")
class TestPodWithoutAddress:
    """A pod waits, by the explanation of the agents' functions."""

    def test_the_pool_is_full(self, plane: ControlPlane) -> None:
        for last, name in ((7, "a"), (8, "b")):
            create(plane, record(last, name, start(plane, name, address=f"10.97.0.{last}")))
        start(plane)
        found = first(plane)
        assert (found["check"], found["object"]) == ("pod-refused", "spiderippool.spiderpool.spidernet.io/blue")
        assert found["what"].endswith("pod default/web on node n1 gets no address: pool blue: 2 of 2 addresses in use")
        assert found["remedy"].startswith("add addresses to spec.ips of pool blue")

    def test_the_pool_is_for_another_node(self, plane: ControlPlane) -> None:
        create(plane, pool(nodeName=["n2"]))
        start(plane)
        found = first(plane)
        assert found["check"] == "pod-refused"
        assert found["what"].endswith("gets no address: pool blue: is for node n2, not n1")
        assert found["remedy"].startswith("add the node to spec.nodeName of pool blue")

    def test_the_pool_is_for_a_node_that_does_not_exist(self, plane: ControlPlane) -> None:
        create(plane, pool(nodeName=["gone"]))
        assert first(plane)["what"] == "pool blue is for Node gone alone, and there is none"

    def test_the_pool_is_for_another_network(self, plane: ControlPlane) -> None:
        create(plane, network() | {"metadata": {"name": "other", "namespace": "default"}})
        create(plane, pool(multusName=["default/other"]))
        start(plane)
        found = first(plane)
        assert "pool blue: is for network default/other, not default/net" in found["what"]
        assert "spec.multusName of pool blue" in found["remedy"]


def test_a_leaked_record_is_released_by_fix(plane: ControlPlane) -> None:
    create(plane, record(7, "gone", "u"))
    found = first(plane)
    assert (found["check"], found["fixable"]) == ("record-leaked", True)
    assert "would release 10.97.0.7" in run(plane, "--fix", "--dry-run").stderr
    refused = run(plane, "--fix", "--yes")  # nobody answers for the node
    assert refused.exit_code == 1
    assert "10.97.0.7/24 is not released: the agent of node n1 has not said what its sandboxes hold" in refused.stderr


def test_a_leaked_record_of_a_node_that_is_gone_is_released(plane: ControlPlane) -> None:
    create(plane, record(7, "gone", "u", node="lost"))
    result = run(plane, "--fix", "--yes")
    assert (result.exit_code, first_line(result.stderr)) == (
        0,
        "10.97.0.7/24 of pod default/gone is released: node lost does not exist",
    )
    assert findings(plane) == []


def first_line(text: str) -> str:
    return text.splitlines()[0]


def test_a_pod_runs_without_a_record(plane: ControlPlane) -> None:
    uid = start(plane, address="10.97.0.7")
    account(plane, "n1", ("web", uid, "10.97.0.7"))
    found = first(plane)
    assert found["check"] == "address-unrecorded"
    assert found["what"] == "pod default/web on node n1 uses 10.97.0.7 without a record"


def test_an_agent_is_down(plane: ControlPlane) -> None:
    create(plane, record(7, "gone", "u"))
    plane.kubectl("patch", "spidernode", "n1", "--type=merge", "-p", '{"spec": {"accountRequest": 9}}')
    found = findings(plane)
    assert [each["check"] for each in found] == ["node-silent", "record-leaked"]
    assert found[0]["what"].startswith("node n1: its agent has not answered the last question")


def test_the_certificate_has_ended(plane: ControlPlane) -> None:
    fill_certificate(plane, datetime.now(UTC) - timedelta(days=1))
    try:
        found = first(plane)
    finally:
        fill_certificate(plane, datetime.now(UTC) + timedelta(days=300))
    assert found["check"] == "certificate-ended"
    assert found["severity"] == "critical"


@pytest.mark.parametrize("is_there", [True, False])
def test_the_webhooks_are_not_reachable(plane: ControlPlane, is_there: bool) -> None:
    create(plane, endpoints(ready=False))
    if not is_there:
        plane.kubectl("delete", "service", CONTROLLER, "-n", HOME)
    try:
        found = first(plane)
    finally:
        create(plane, service(), endpoints())
    assert found["check"] == "webhook-unreachable"
    assert ("has no ready endpoint" if is_there else "does not exist") in found["what"]


def test_a_role_lacks_a_rule(plane: ControlPlane) -> None:
    remove = '[{"op": "remove", "path": "/rules/0"}]'
    plane.kubectl("patch", "clusterrole", "spiderpool-agent", "--type=json", "-p", remove)
    plane.kubectl("patch", "spidernode", "n1", "--type=merge", "-p", '{"spec": {"accountRequest": 9}}')
    try:
        found = findings(plane)
    finally:
        plane.apply(chart.template("agent-rbac.yaml"))
    assert [each["check"] for each in found] == ["right-missing", "node-silent"]
    assert found[0]["evidence"] == ["spiderips.spiderpool.spidernet.io: get, list, watch, create, update, delete"]
    assert found[0]["object"] == "clusterrole.rbac.authorization.k8s.io/spiderpool-agent"


def test_an_address_is_in_use_twice(plane: ControlPlane) -> None:
    mine, other = start(plane, "a", address="10.97.0.7"), start(plane, "b", "n2", address="10.97.0.7")
    create(plane, record(7, "a", mine))
    account(plane, "n1", ("a", mine, "10.97.0.7"))
    account(plane, "n2", ("b", other, "10.97.0.7"))
    found = first(plane)
    assert found["check"] == "address-twice"
    assert found["what"] == "10.97.0.7 is in use twice: pod default/a on node n1 and pod default/b on node n2"
    assert found["remedy"] == "delete pod default/b, so that it gets another address"


def test_the_cloud_has_removed_an_address(plane: ControlPlane) -> None:
    node = json.loads(plane.kubectl("get", "node", "n1", "-o", "json"))
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"]}
    eni = {"id": "eni-1", "mac": "00:16:3e:00:00:01", "primary": False, "primaryAddress": "10.97.0.4"}
    eni |= {"addresses": ["10.97.0.7"], "ipv6Addresses": [], "vswitch": "vsw-1", "subnet": "10.97.0.0/24"}
    instance = {"provider": "alibaba", "region": "r", "zone": "z", "id": "i-1", "instanceType": "t", "enis": [eni]}
    metadata = {"name": "n1", "ownerReferences": [owner]}
    create(plane, {"apiVersion": OURS, "kind": "SpiderServer", "metadata": metadata, "spec": instance})
    mine = pool(nodeName=["n1"])
    mine["metadata"]["labels"] = {"cloud.spidernet.io/card": "eni-1"}
    create(plane, mine)
    for last, name in ((7, "a"), (8, "b")):
        create(plane, record(last, name, start(plane, name, address=f"10.97.0.{last}")))
    found = first(plane)
    assert found["check"] == "address-unregistered"
    assert found["what"] == "ENI eni-1 of node n1 does not have 10.97.0.8 of pod default/b"


def test_an_agent_says_that_a_rule_was_removed(plane: ControlPlane) -> None:
    create(
        plane,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "lost", "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": "n2"},
            "reason": "NodeRoutesRestored",
            "message": "another program has removed rules or routes of pods, which were made again",
            "type": "Warning",
            "source": {"component": "spiderpool-agent"},
            "lastTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )
    found = first(plane)
    assert (found["check"], found["node"]) == ("node-network-fault", "n2")
    assert findings(plane, "--node", "n1") == []


def test_a_node_is_asked_about_alone(plane: ControlPlane) -> None:
    create(plane, record(7, "gone", "u"), record(8, "gone", "v", node="n2"))
    assert [each["node"] for each in findings(plane, "--node", "n2")] == ["n2"]


def test_a_bundle_has_what_the_api_server_has(plane: ControlPlane, tmp_path: Path) -> None:
    create(plane, record(7, "gone", "u"))
    target = tmp_path / "bundle.tar.gz"
    words = ["bundle", str(target), "--kubeconfig", str(plane.admin_kubeconfig)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{target}: ")
    with tarfile.open(target) as tar:
        files = {each.name.removeprefix("bundle/"): tar.extractfile(each) for each in tar.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file}
    counts = {
        "spiderips.spiderpool.spidernet.io": 1,
        "leases.coordination.k8s.io": 1,
        "clusterroles.rbac.authorization.k8s.io": 3,
        "mutatingwebhookconfigurations.admissionregistration.k8s.io": 1,
        "customresourcedefinitions.apiextensions.k8s.io": len(DEFINITIONS),
        "services": 1,
        "endpointslices.discovery.k8s.io": 1,
        "nodes": 2,
    }
    assert {name: texts[f"objects/{name}.jsonl"].count("\n") for name in counts} == counts
    assert "record-leaked" in texts["doctor.txt"]
    assert "not read: " not in texts["index.html"]
