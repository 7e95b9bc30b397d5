"""What kube-proxy does with a connection, by the policies of the Service and by who connects."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.core.network.service_proxy import (
    ClientPlace,
    ProxyDecision,
    ProxySettings,
    ServiceAddressKind,
    ServiceClient,
    ServiceEndpoint,
    ServiceFrontend,
    decide,
    usable_endpoints,
)

pytestmark = pytest.mark.unit

POD, NODE, NETWORK = ClientPlace.POD, ClientPlace.NODE, ClientPlace.NETWORK
CLUSTER_IP, BALANCER, NODE_PORT = (
    ServiceAddressKind.CLUSTER_IP,
    ServiceAddressKind.BALANCER,
    ServiceAddressKind.NODE_PORT,
)
CIDR = ProxySettings(detect_local_mode="ClusterCIDR", cluster_cidrs=(ip_network("10.9.0.0/16"),))


def frontend(kind: ServiceAddressKind, version: int = 4, **spec: Any) -> ServiceFrontend:
    text = {
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"ports": [{"port": 80, "nodePort": 30080}], **spec},
    }
    service = msgspec.convert(text, Service)
    assert service.spec.ports
    return ServiceFrontend(service, service.spec.ports[0], kind, version)


def slices(**ready: Any) -> list[EndpointSlice]:
    """Node → conditions of its endpoint."""
    found = [
        {"addresses": [f"10.0.0.{number}"], "nodeName": node, "conditions": conditions}
        for number, (node, conditions) in enumerate(ready.items(), 1)
    ]
    text = {"addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": found}
    return [msgspec.convert(text, EndpointSlice)]


BOTH = slices(n1={"ready": True}, n2={})


def decision(
    kind: ServiceAddressKind, place: ClientPlace, settings: ProxySettings | None = None, **spec: Any
) -> ProxyDecision:
    client = ServiceClient(place, "n1", ip_address("10.0.0.99"))
    return decide(frontend(kind, **spec), client, BOTH, settings or ProxySettings())


def nodes(found: ProxyDecision) -> list[str | None]:
    return [endpoint.node for endpoint in found.endpoints]


@pytest.mark.parametrize(
    ("kind", "place", "policy", "expected", "masquerades"),
    [
        (CLUSTER_IP, POD, "Cluster", ["n1", "n2"], False),
        (CLUSTER_IP, NODE, "Local", ["n1", "n2"], False),  # externalTrafficPolicy is not about ClusterIPs
        (BALANCER, POD, "Cluster", ["n1", "n2"], True),
        (BALANCER, POD, "Local", ["n1", "n2"], False),
        (BALANCER, NODE, "Local", ["n1", "n2"], True),
        (BALANCER, NETWORK, "Local", ["n1"], False),
        (NODE_PORT, NETWORK, "Cluster", ["n1", "n2"], True),
        (NODE_PORT, POD, "Local", ["n1", "n2"], False),
        (NODE_PORT, NETWORK, "Local", ["n1"], False),
    ],
)
def test_the_table_of_the_data_path(
    kind: ServiceAddressKind, place: ClientPlace, policy: str, expected: list[str], masquerades: bool
) -> None:
    found = decision(kind, place, externalTrafficPolicy=policy)
    assert (nodes(found), found.masquerades) == (expected, masquerades)


def test_policy_local_for_clients_inside() -> None:
    assert nodes(decision(CLUSTER_IP, POD, internalTrafficPolicy="Local")) == ["n1"]


@pytest.mark.parametrize(
    ("kind", "place", "spec"),
    [
        (CLUSTER_IP, POD, {"internalTrafficPolicy": "Local"}),
        (NODE_PORT, NETWORK, {"externalTrafficPolicy": "Local"}),
    ],
)
def test_policy_local_without_an_endpoint_here(kind: ServiceAddressKind, place: ClientPlace, spec: Any) -> None:
    client = ServiceClient(place, "n3", ip_address("10.0.0.99"))
    found = decide(frontend(kind, **spec), client, BOTH, ProxySettings())
    assert found.endpoints == ()
    assert "has no endpoint on node n3" in found.refusal


def test_clients_that_are_taken_for_outsiders() -> None:
    """kubeadm's ``--cluster-cidr`` does not have the addresses of pods of ours."""
    assert decision(CLUSTER_IP, POD, CIDR).masquerades
    assert nodes(decision(BALANCER, POD, CIDR, externalTrafficPolicy="Local")) == ["n1"]
    assert decision(CLUSTER_IP, POD, ProxySettings(masquerade_all=True)).because == "masqueradeAll of kube-proxy"


def test_without_a_way_to_tell_pods_apart_nobody_is_masqueraded_by_a_cluster_ip() -> None:
    nobody = ProxySettings(detect_local_mode="ClusterCIDR")
    assert not decision(CLUSTER_IP, POD, nobody).masquerades
    assert nodes(decision(BALANCER, POD, nobody, externalTrafficPolicy="Local")) == ["n1"]


def test_source_ranges_concern_the_balancers_address_alone() -> None:
    ranges: Any = {"loadBalancerSourceRanges": ["192.0.2.0/24"]}
    assert "loadBalancerSourceRanges" in decision(BALANCER, POD, **ranges).refusal
    assert decision(NODE_PORT, POD, **ranges).endpoints
    assert decision(BALANCER, POD, loadBalancerSourceRanges=["10.0.0.0/24"]).endpoints


def test_a_service_of_another_proxy() -> None:
    asked = frontend(CLUSTER_IP)
    asked.service.metadata.labels = {"service.kubernetes.io/service-proxy-name": "other"}
    client = ServiceClient(POD, "n1", ip_address("10.0.0.99"))
    assert "leaves Service shop/api to another proxy" in decide(asked, client, BOTH, ProxySettings()).refusal


ENDING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"n1": {"ready": True}, "n2": {"ready": False}}, ["n1"]),
        ({"n1": {"ready": True}, "n2": ENDING}, ["n1"]),
        ({"n1": {"ready": False}, "n2": ENDING}, ["n2"]),
        ({"n1": {"ready": False}}, []),
    ],
)
def test_which_endpoints_are_used(conditions: dict[str, Any], expected: list[str]) -> None:
    assert [each.node for each in usable_endpoints(frontend(CLUSTER_IP), slices(**conditions))] == expected


@pytest.mark.parametrize(
    ("kind", "place", "spec"),
    [
        (CLUSTER_IP, POD, {"internalTrafficPolicy": "Local"}),
        (NODE_PORT, NETWORK, {"externalTrafficPolicy": "Local"}),
        (BALANCER, NETWORK, {"externalTrafficPolicy": "Local"}),
    ],
)
@pytest.mark.parametrize(("here", "expected"), [([ENDING], ["n1"]), ([{"ready": False}], []), ([], [])])
def test_policy_local_takes_what_ends_here_though_another_node_has_a_ready_one(
    kind: ServiceAddressKind, place: ClientPlace, spec: Any, here: list[Any], expected: list[str]
) -> None:
    """CategorizeEndpoints of kube-proxy chooses by the node first."""
    known = [*(one for conditions in here for one in slices(n1=conditions)), *slices(n2={})]
    client = ServiceClient(place, "n1", ip_address("10.0.0.99"))
    assert nodes(decide(frontend(kind, **spec), client, known, ProxySettings())) == expected


def test_policy_cluster_leaves_out_what_ends() -> None:
    client = ServiceClient(POD, "n1", ip_address("10.0.0.99"))
    found = decide(frontend(CLUSTER_IP), client, slices(n1=ENDING, n2={}), ProxySettings())
    assert nodes(found) == ["n2"]


def test_no_endpoint_of_the_family() -> None:
    client = ServiceClient(POD, "n1", ip_address("fd00::9"))
    assert "no ready endpoint" in decide(frontend(CLUSTER_IP, 6), client, BOTH, ProxySettings()).refusal


@pytest.mark.parametrize(
    ("settings", "address", "serves"),
    [
        (ProxySettings(), "10.1.0.9", True),
        (ProxySettings(node_port_primary=True), "10.1.0.1", True),
        (ProxySettings(node_port_primary=True), "10.1.0.9", False),
        (ProxySettings(node_port_cidrs=(ip_network("10.2.0.0/16"),)), "10.1.0.1", False),
        (ProxySettings(node_port_cidrs=(ip_network("10.2.0.0/16"),)), "fd00::1", True),
    ],
)
def test_the_addresses_on_which_node_ports_are_served(settings: ProxySettings, address: str, serves: bool) -> None:
    assert settings.serves_node_ports(ip_address(address), [ip_address("10.1.0.1")]) is serves


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        (ProxySettings(), True),
        (ProxySettings(interface_prefix=""), None),
        (CIDR, True),
        (ProxySettings(detect_local_mode="ClusterCIDR"), None),
        (ProxySettings(detect_local_mode="NodeCIDR"), False),
    ],
)
def test_who_counts_as_a_pod_of_the_cluster(settings: ProxySettings, counts: bool | None) -> None:
    assert settings.takes_for_pod(ip_address("10.9.0.1")) is counts


@pytest.mark.parametrize(("address", "shown"), [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80")])
def test_an_endpoint_is_written_as_in_an_address_of_a_server(address: str, shown: str) -> None:
    assert str(ServiceEndpoint(ip_address(address), 80, "n1", None)) == shown


def test_a_client_of_the_network_is_no_pod_by_its_link() -> None:
    client = ServiceClient(NETWORK, "n1", ip_address("10.9.0.1"))
    assert decide(frontend(CLUSTER_IP), client, BOTH, ProxySettings()).endpoints
