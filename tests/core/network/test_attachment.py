"""From a pod's annotations and networks to one plan per interface, and to what the kernel is to make."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from spiderpool.api.cni import PortMapping
from spiderpool.api.cni_result import ResultInterface, ResultIP
from spiderpool.api.coordinator import SYNCED, ClusterCoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.network.attachment import (
    AttachmentPolicy,
    PodAttachment,
    SandboxTarget,
    cni_result,
    kernel_attachment,
    plan_pod,
    with_ports,
)
from spiderpool.core.network.chains import Chain
from spiderpool.errors import BadConfig, NotReady, Refused

pytestmark = pytest.mark.unit

IPAM = {"type": "spiderpool", "default_ipv4_ippool": ["p"]}
DNS = {"nameservers": ["10.0.0.53"]}
NETWORKS = {
    "kube-system/a": [
        {"type": "ipvlan", "master": "eth0", "mtu": 1400, "ipam": IPAM, "dns": DNS},
        {"type": "coordinator"},
    ],
    "kube-system/b": [{"type": "macvlan", "master": "eth1", "ipam": IPAM}],
    "kube-system/bare": [{"type": "macvlan", "master": "eth1"}],
    "kube-system/cut-off": [
        {"type": "ipvlan", "master": "eth0", "ipam": IPAM},
        {"type": "coordinator", "mode": "disable"},
    ],
    "kube-system/mapping": [{"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    "kube-system/executed": [{"type": "bridge", "ipam": {"type": "host-local"}}],
}
POLICY = AttachmentPolicy("a", "kube-system")
CLUSTER = SpiderCoordinator(
    metadata=ObjectMeta(name="default"),
    spec=ClusterCoordinatorSpec(mode="underlay"),
    status=CoordinatorStatus(phase=SYNCED, overlayPodCIDR=[], serviceCIDR=["10.96.0.0/12"]),
)
TARGET = SandboxTarget("c1", "/run/netns/x")
GRANT = Grant("10.0.0.5/24", "p", "10.0.0.1", (("10.9.0.0/16", "10.0.0.2"),))


def definition(network: str) -> NetworkAttachmentDefinition | None:
    plugins = NETWORKS.get(network)
    if plugins is None:
        return None
    text = json.dumps({"cniVersion": "1.0.0", "name": network.partition("/")[2], "plugins": plugins})
    return NetworkAttachmentDefinition(metadata=ObjectMeta(name=network.partition("/")[2]), spec=NADSpec(text))


def attachment(policy: AttachmentPolicy = POLICY, **annotations: str) -> PodAttachment:
    keys = {"first": DEFAULT_NETWORK_ANNOTATION, "further": NETWORKS_ANNOTATION}
    given = {keys.get(key, f"ipam.spidernet.io/{key.replace('_', '-')}"): text for key, text in annotations.items()}
    pod = Pod(metadata=ObjectMeta(name="web", namespace="default", uid="u", annotations=given))
    return plan_pod(pod, "eth0", policy, definition)


def test_one_plan_per_interface_the_first_one_first() -> None:
    found = attachment(further="kube-system/b,kube-system/bare@data0,kube-system/executed")
    assert [plan.interface for plan in found.interfaces] == ["eth0", "net1", "data0", "net3"]
    assert found.first_interface == "eth0"
    assert [request.interface for request in found.address_requests] == ["eth0", "net1"], "the others have no ipam"


def test_addresses_that_the_pod_asks_for_are_requested() -> None:
    found = attachment(further='[{"name": "b", "namespace": "kube-system", "ips": ["10.1.0.7/24"]}]')
    assert found.address_requests[1].ips == ("10.1.0.7",)


def test_a_network_that_does_not_exist_and_one_of_another_namespace_are_refused() -> None:
    with pytest.raises(Refused, match="network kube-system/none does not exist"):
        attachment(first="none")
    isolated = AttachmentPolicy("a", "kube-system", isolated=True, shared_namespaces=())
    with pytest.raises(Refused, match="belongs to another namespace"):
        attachment(isolated, further="kube-system/b")


def made(found: PodAttachment, index: int = 0, *grants: Grant, cluster: SpiderCoordinator | None = CLUSTER) -> Any:
    return kernel_attachment(TARGET, found, found.interfaces[index], grants, cluster)


def test_the_kernels_input_has_the_networks_settings_and_what_was_granted() -> None:
    wanted = made(attachment(), 0, GRANT)
    assert (wanted.container_id, wanted.netns, wanted.ifname) == ("c1", "/run/netns/x", "eth0")
    assert (wanted.kind, wanted.master, wanted.mtu) == ("ipvlan", "eth0", 1400)
    assert wanted.addresses == (ip_interface("10.0.0.5/24"),)
    assert wanted.gateways == (ip_address("10.0.0.1"),)
    assert wanted.routes == ((ip_network("10.9.0.0/16"), ip_address("10.0.0.2")),)
    assert wanted.coordination.service_cidrs == (ip_network("10.96.0.0/12"),)


def test_without_an_address_there_is_nothing_to_coordinate() -> None:
    assert made(attachment(), 0).coordination is None
    with pytest.raises(NotReady, match="there is no SpiderCoordinator yet"):
        made(attachment(), 0, GRANT, cluster=None)


def test_the_default_route_goes_by_the_network_that_the_pod_chose() -> None:
    found = attachment(further='[{"name": "b", "namespace": "kube-system", "default-route": ["10.1.0.9"]}]')
    assert made(found, 0, GRANT).gateways == ()
    assert made(found, 1, GRANT).gateways == (ip_address("10.1.0.9"),)
    assert made(found, 0, GRANT).coordination.default_route_nic == "net1"


def test_the_default_route_goes_by_the_annotation_where_no_network_is_chosen() -> None:
    found = attachment(further="kube-system/b", default_route_nic="net1")
    assert made(found, 0, GRANT).coordination.default_route_nic == "net1"


def test_what_only_executed_plugins_can_do_is_an_error() -> None:
    found = attachment(further='[{"name": "b", "namespace": "kube-system", "bandwidth": {"ingressRate": 1}}]')
    with pytest.raises(BadConfig, match="does not do bandwidth"):
        made(found, 1, GRANT)


def test_the_cni_result_names_interface_addresses_and_routes() -> None:
    interface = ResultInterface("eth0", "02:00:00:00:00:01", 1400, "/run/netns/x")
    chain = attachment().interfaces[0].chain
    assert isinstance(chain, Chain)
    result = cni_result(made(attachment(), 0, GRANT), [GRANT], interface, chain)
    assert result.dns == {"nameservers": ["10.0.0.53"]}
    assert result.interfaces == (interface,)
    assert result.ips == (ResultIP("10.0.0.5/24", "10.0.0.1", 0),)
    assert result.routes == (("0.0.0.0/0", "10.0.0.1"), ("10.9.0.0/16", "10.0.0.2"))


PORTS = (PortMapping(8080, 80), PortMapping(53, 53, "udp"))


def test_ports_of_the_node_are_the_agents_work_unless_a_plugin_of_the_first_network_has_the_capability() -> None:
    for first in ("a", "executed"):
        found = with_ports(attachment(first=first), PORTS, CLUSTER)
        assert (found.ports, found.port_faults) == (PORTS, ())
    found = with_ports(attachment(first="mapping", further="kube-system/executed"), PORTS, CLUSTER)
    assert (found.ports, found.port_faults) == ((), ())
    assert found.interfaces[0].request.runtime_config()["portMappings"][1] == {
        "hostPort": 53,
        "containerPort": 53,
        "protocol": "udp",
        "hostIP": "",
    }
    assert found.interfaces[1] == attachment(first="mapping", further="kube-system/executed").interfaces[1]
    assert with_ports(attachment(first="mapping"), (), CLUSTER) == attachment(first="mapping")


@pytest.mark.parametrize("first", ["bare", "b", "cut-off"])
def test_ports_of_the_node_need_a_path_to_the_pod(first: str) -> None:
    found = with_ports(attachment(first=first), PORTS, CLUSTER)
    assert found.ports == ()
    assert found.port_faults[0] == (
        f"hostPort 8080/tcp does not lead to the pod: network kube-system/{first} gives it no path to its node; "
        "add the coordinator to it"
    )
    assert "53/udp" in found.port_faults[1]
