"""Admission as users meet it: objects of every kind by kubectl, and new pods, against a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.control_plane import ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

API = "spiderpool.spidernet.io/v2beta1"
INJECT = "cni.spidernet.io/rdma-resource-inject"
NETWORKS = "k8s.v1.cni.cncf.io/networks"


def manifest(kind: str, name: str, spec: str, namespace: str = "") -> str:
    where = f", namespace: {namespace}" if namespace else ""
    return f"apiVersion: {API}\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec: {spec}\n"


def apply(plane: ControlPlane, text: str) -> None:
    plane.kubectl("apply", "-f", "-", input=text)


def refusal(plane: ControlPlane, text: str, verb: str = "create") -> str:
    """What kubectl prints when a manifest is refused."""
    with pytest.raises(SpiderpoolError) as refused:
        plane.kubectl(*verb.split(), "-f", "-", input=text)
    return refused.value.message


def get(plane: ControlPlane, *words: str) -> Any:
    return json.loads(plane.kubectl("get", *words, "-o", "json"))


@pytest.fixture(scope="module")
def subnet(control_plane: ControlPlane) -> Iterator[str]:
    """A subnet, 10.60.0.0/16, with gateway and route."""
    routes = "[{dst: 10.99.0.0/16, gw: 10.60.255.253}]"
    spec = f"{{subnet: 10.60.0.0/16, ips: [10.60.0.9, 10.60.0.1-10.60.0.8], gateway: 10.60.255.254, routes: {routes}}}"
    apply(control_plane, manifest("SpiderSubnet", "sixty", spec))
    yield "sixty"
    control_plane.kubectl("delete", "spiderippools,spidersubnets", "--all", "--wait=false")


class TestSubnets:
    def test_it_gets_its_defaults(self, control_plane: ControlPlane, subnet: str) -> None:
        stored = get(control_plane, "spidersubnet", subnet)
        assert stored["spec"]["ips"] == ["10.60.0.1-10.60.0.9"]
        assert stored["spec"]["ipVersion"] == 4
        assert stored["metadata"]["labels"] == {"ipam.spidernet.io/subnet-cidr": "10-60-0-0-16"}
        assert stored["metadata"]["finalizers"] == ["spiderpool.spidernet.io/in-use"]

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            (
                "{subnet: 10.60.7.0/24}",
                'spec.subnet: Invalid value: "10.60.7.0/24": overlaps 10.60.0.0/16 of SpiderSubnet sixty',
            ),
            (
                "{subnet: 10.61.0.0/16, ips: [10.62.0.1]}",
                'spec.ips[0]: Invalid value: "10.62.0.1": 10.62.0.1 lies outside the subnet',
            ),
            ("{subnet: 10.61.0.0/16, gateway: 10.6.0.1}", 'spec.gateway: Invalid value: "10.6.0.1": lies outside the'),
        ],
    )
    def test_a_faulty_one_is_refused(self, control_plane: ControlPlane, subnet: str, spec: str, message: str) -> None:
        assert message in refusal(control_plane, manifest("SpiderSubnet", "wrong", spec))

    def test_its_author_is_warned_of_addresses_that_no_pod_gets(self, control_plane: ControlPlane) -> None:
        for kind, name in (("SpiderSubnet", "whole"), ("SpiderIPPool", "whole-pool")):
            text = manifest(kind, name, "{subnet: 10.62.0.0/24, ips: [10.62.0.0-10.62.0.255]}")
            with pytest.raises(SpiderpoolError, match=r"no pod gets 10\.62\.0\.0, 10\.62\.0\.255"):
                control_plane.kubectl("create", "--warnings-as-errors", "-f", "-", input=text)

    def test_a_pool_for_what_is_not_there_is_accepted_with_a_warning(self, control_plane: ControlPlane) -> None:
        spec = "{subnet: 10.63.0.0/24, ips: [10.63.0.9], nodeName: [nowhere], multusName: [default/nothing]}"
        text = manifest("SpiderIPPool", "for-nobody", spec)
        warned = refusal(control_plane, text, "create --dry-run=server --warnings-as-errors")
        assert "spec.nodeName[0]: there is no Node nowhere yet" in warned
        assert "spec.multusName[0]: there is no NetworkAttachmentDefinition default/nothing yet" in warned
        network = "{cniType: ipvlan, ipvlan: {master: [eth0], ippools: {ipv4: [no-pool]}}}"
        text = manifest("SpiderMultusConfig", "poolless", network, "default")
        warned = refusal(control_plane, text, "create --dry-run=server --warnings-as-errors")
        assert "spec.ipvlan.ippools.ipv4[0]: there is no SpiderIPPool no-pool yet" in warned

    def test_a_pool_inherits_and_stays_within_the_subnet(self, control_plane: ControlPlane, subnet: str) -> None:
        apply(control_plane, manifest("SpiderIPPool", "inside", "{subnet: 10.60.0.0/16, ips: [10.60.0.1-10.60.0.4]}"))
        stored = get(control_plane, "spiderippool", "inside")
        assert [owner["name"] for owner in stored["metadata"]["ownerReferences"]] == [subnet]
        assert stored["metadata"]["labels"]["ipam.spidernet.io/owner-spider-subnet"] == subnet
        assert stored["spec"]["gateway"] == "10.60.255.254"
        assert stored["spec"]["routes"] == [{"dst": "10.99.0.0/16", "gw": "10.60.255.253"}]

        outside = manifest("SpiderIPPool", "outside", "{subnet: 10.60.0.0/16, ips: [10.60.0.9-10.60.0.10]}")
        assert "spec.ips: Forbidden: SpiderSubnet sixty does not have 10.60.0.10; add" in refusal(
            control_plane, outside
        )

        smaller = manifest("SpiderSubnet", subnet, "{subnet: 10.60.0.0/16, ips: [10.60.0.2-10.60.0.9]}")
        message = refusal(control_plane, smaller, "apply")
        assert "spec.ips: Forbidden: takes away 10.60.0.1 of pool inside" in message

    def test_the_subnet_of_pools_and_subnets_cannot_be_changed(self, control_plane: ControlPlane, subnet: str) -> None:
        apply(control_plane, manifest("SpiderIPPool", "inside", "{subnet: 10.60.0.0/16, ips: [10.60.0.1-10.60.0.4]}"))
        for kind, name, noun in (("SpiderIPPool", "inside", "pool"), ("SpiderSubnet", subnet, "subnet")):
            message = refusal(control_plane, manifest(kind, name, "{subnet: 10.61.0.0/16}"), "apply")
            fault = f"spec.subnet: Forbidden: cannot be changed; create another {noun}"
            assert fault in message

    def test_the_pool_of_an_application_cannot_be_resized_by_hand(
        self, control_plane: ControlPlane, subnet: str
    ) -> None:
        auto = manifest("SpiderIPPool", "auto4-web", "{subnet: 10.60.0.0/16, ips: [10.60.0.7]}").replace(
            "{name: auto4-web}", "{name: auto4-web, labels: {ipam.spidernet.io/owner-application-name: web}}"
        )
        assert "spec.ips: Forbidden: the pool's size follows its application" in refusal(control_plane, auto)


class TestReservedIPs:
    def test_it_gets_its_family_and_keeps_it(self, control_plane: ControlPlane) -> None:
        apply(control_plane, manifest("SpiderReservedIP", "kept", "{ips: [10.70.0.2, 10.70.0.1]}"))
        assert get(control_plane, "spiderreservedip", "kept")["spec"] == {
            "ipVersion": 4,
            "ips": ["10.70.0.1-10.70.0.2"],
        }
        changed = manifest("SpiderReservedIP", "kept", "{ipVersion: 6, ips: [fd00::1]}")
        message = refusal(control_plane, changed, "apply")
        assert "spec.ipVersion: Forbidden: cannot be changed; create another SpiderReservedIP" in message
        control_plane.kubectl("delete", "spiderreservedip", "kept")

    def test_a_faulty_object_is_refused(self, control_plane: ControlPlane) -> None:
        message = refusal(control_plane, manifest("SpiderReservedIP", "wrong", "{ips: [10.70.0.1, fd00::1]}"))
        assert '"wrong" is invalid: spec.ips[1]: Invalid value: "fd00::1": not an IPv4 address' in message


@pytest.fixture(scope="module")
def network(control_plane: ControlPlane) -> Iterator[None]:
    """Network ``rdma`` in namespace ``net``, and three namespaces for pods."""
    names = ("net", "plain", "asking", "left-alone")
    apply(
        control_plane, "---\n".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n" for name in names)
    )
    control_plane.kubectl("annotate", "namespace", "asking", "left-alone", f"{INJECT}=ai")
    block = "{master: [eth1], rdmaResourceName: nv/rdma, ippools: {ipv4: [p]}}"
    text = manifest("SpiderMultusConfig", "rdma", f"{{cniType: macvlan, macvlan: {block}}}", "net")
    apply(control_plane, text.replace("namespace: net", f"namespace: net, annotations: {{{INJECT}: ai}}"))
    yield
    control_plane.kubectl("delete", "namespace", *names, "--wait=false")


def pod(name: str, namespace: str, annotations: str = "{}", spec: str = "") -> str:
    metadata = f"{{name: {name}, namespace: {namespace}, annotations: {annotations}}}"
    spec = f"{{schedulerName: nobody, {spec} containers: [{{name: one, image: i}}, {{name: two, image: i}}]}}"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {spec}"


def made(plane: ControlPlane, text: str) -> tuple[str | None, list[Any]]:
    """Networks annotation and container resources of a pod after admission."""
    stored = json.loads(plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=text))
    resources = [each["resources"] for each in stored["spec"]["containers"]]
    return stored["metadata"].get("annotations", {}).get(NETWORKS), resources


RDMA = {
    "limits": {"nv/rdma": "1", "spidernet.io/eth1-nic": "1"},
    "requests": {"nv/rdma": "1", "spidernet.io/eth1-nic": "1"},
}


@pytest.mark.usefixtures("network")
class TestPods:
    @pytest.mark.parametrize(
        ("namespace", "annotations", "networks", "resources"),
        [
            ("plain", "{}", None, {}),
            ("plain", f"{{{INJECT}: ai}}", "net/rdma", RDMA),
            ("plain", f"{{{INJECT}: ai, {NETWORKS}: net/other}}", "net/other,net/rdma", RDMA),
            ("asking", "{}", "net/rdma", RDMA),
            ("asking", f"{{{INJECT}: ''}}", None, {}),
            ("left-alone", f"{{{INJECT}: ai}}", None, {}),
        ],
    )
    def test_it_gets_the_networks_that_it_requests(
        self, control_plane: ControlPlane, namespace: str, annotations: str, networks: str | None, resources: Any
    ) -> None:
        assert made(control_plane, pod("p", namespace, annotations)) == (networks, [resources, {}])

    def test_a_pod_on_the_host_network_gets_nothing(self, control_plane: ControlPlane) -> None:
        assert made(control_plane, pod("p", "asking", spec="hostNetwork: true,")) == (None, [{}, {}])

    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            (f"{{{INJECT}: nothing}}", f"annotation {INJECT}='nothing' matches no SpiderMultusConfig; create one"),
            (f"{{{INJECT}: a b}}", "write a value that a label may have"),
        ],
    )
    def test_a_request_that_matches_no_network_is_refused(
        self, control_plane: ControlPlane, annotations: str, message: str
    ) -> None:
        assert message in refusal(control_plane, pod("p", "plain", annotations))
