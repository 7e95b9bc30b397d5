"""`spiderpoolctl trace` to Services: by their addresses, NodePorts and balancers, as kube-proxy is configured."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import ConfigMap, ServicePort
from spiderpool.cli.trace.case import proxy_settings
from spiderpool.core.network.service_proxy import ProxySettings
from tests.cli.trace_cluster import (
    BALANCER,
    NODES,
    POLICIES,
    SERVICE_IP,
    address,
    api,
    cluster,
    coordinator,
    endpoints,
    link,
    places,
    seen,
    service,
    traced,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("target", "spec", "names", "expected"),
    [  # the table "Whose address a server sees" of docs/reference/data-path.md; server on the own node, then elsewhere
        (f"{SERVICE_IP}:80", {}, ("near", "far"), ["pod", "n1"]),
        (f"{BALANCER}:80", {"type": "LoadBalancer"}, ("near", "far"), ["n1", "n1"]),
        (f"{BALANCER}:80", {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, ("near", "far"), ["pod", "n1"]),
        ("n1:30080", {"type": "NodePort"}, ("near", "far"), ["n1", "n1"]),
        ("n1:30080", {"type": "NodePort", "externalTrafficPolicy": "Local"}, ("near", "far"), ["pod", "n1"]),
        ("n2:30080", {"type": "NodePort"}, ("near", "far"), ["n2", "n2"]),
        ("n2:30080", {"type": "NodePort", "externalTrafficPolicy": "Local"}, ("near", "far"), ["pod"]),
        (f"{SERVICE_IP}:80", {}, ("web",), ["n1"]),
    ],
)
def test_whose_address_a_server_sees(target: str, spec: Any, names: tuple[str, ...], expected: list[str]) -> None:
    node, _, port = target.partition(":")
    written = f"{NODES[node]['eth0']}:{port}" if node in NODES else target
    found = traced(cluster(*api(*names, **spec), coordinator(BALANCER)), "web", written)
    assert found.goes_through
    who = {"pod": address("web"), **{name: own["eth0"] for name, own in NODES.items()}}
    assert seen(found) == [who[one] for one in expected]


def test_the_node_port_of_a_node_without_endpoint() -> None:
    objects = cluster(*api("near", type="NodePort", externalTrafficPolicy="Local"))
    found = traced(objects, "far", f"{NODES['n2']['eth0']}:30080")
    assert found.goes_through  # by its own node a pod reaches all endpoints
    found = traced(objects, "web", f"{NODES['n2']['eth0']}:30080")
    assert found.drop is not None
    assert "externalTrafficPolicy Local: Service shop/api has no endpoint on node n2" in found.drop.reason


def test_answers_of_a_service_go_back_through_the_node() -> None:
    found = traced(cluster(*api("near")), "web", f"{SERVICE_IP}:80")
    pod_, node = found.paths[0].way_back
    assert (pod_.mark, pod_.interface, node.place) == ("0x1", "veth0", "node n1")
    assert "fwmark 0x1 lookup 100" in pod_.rule
    assert "translates them back" in node.does


def test_a_service_without_ready_endpoint() -> None:
    found = traced(cluster(service(), endpoints("near", ready=False)), "web", "svc/api:80")
    assert found.drop is not None
    assert found.drop.place == "node n1"
    assert "kube-proxy: Service shop/api has no ready endpoint for port 80" in found.drop.reason
    assert found.target == f"svc/api:80/TCP ({SERVICE_IP}:80)"


def test_a_port_that_the_service_does_not_have() -> None:
    found = traced(cluster(*api("near")), "web", f"{SERVICE_IP}:81")
    assert found.drop is not None
    assert found.drop.reason == "Service shop/api has no port 81/TCP, only 80/TCP"


def test_other_ports_of_an_external_ip_belong_to_the_machine_that_has_it() -> None:
    """kube-proxy takes the ports of the Service and leaves the others alone."""
    n2 = NODES["n2"]["eth0"]
    objects = cluster(*api("far", externalIPs=[n2], type="NodePort"))
    found = traced(objects, "web", f"{n2}:22")
    assert (found.outcome, places(found)[-1]) == ("goes through", "node n2")
    assert "kube-proxy" not in found.paths[0].hops[-1].does
    assert "externalIP of Service shop/api" in traced(objects, "web", f"{n2}:80").paths[0].hops[1].does
    assert "NodePort of Service shop/api" in traced(objects, "web", f"{n2}:30080").paths[0].hops[1].does
    led = cluster(*api("far", externalIPs=[n2]), coordinator(n2))  # pods send it to their own node
    assert traced(led, "web", f"{n2}:22").goes_through
    assert traced(led, "far", f"{n2}:22").goes_through


def test_other_ports_of_an_external_ip_that_no_object_has() -> None:
    objects = cluster(*api("far", externalIPs=["203.0.113.5"]), coordinator("203.0.113.5"))
    found = traced(objects, "web", "203.0.113.5:443")
    assert found.drop is not None
    assert found.drop.reason == "Service shop/api has no port 443/TCP, only 80/TCP"
    found = traced(cluster(*api("far", externalIPs=["203.0.113.5"])), "web", "203.0.113.5:443")
    assert places(found)[-1] == "outside"


def test_services_that_share_an_external_ip() -> None:
    other = service("other", clusterIP="10.233.0.11", clusterIPs=["10.233.0.11"], externalIPs=["203.0.113.5"])
    other = replace(other, spec=replace(other.spec, ports=[ServicePort(port=443)]))
    objects = cluster(*api("far", externalIPs=["203.0.113.5"]), other, coordinator("203.0.113.5"))
    assert "externalIP of Service shop/api" in traced(objects, "web", "203.0.113.5:80").paths[0].hops[1].does
    for port, reason in ((443, "Service shop/other has no ready endpoint"), (81, "Service shop/other has no port 81")):
        found = traced(objects, "web", f"203.0.113.5:{port}")
        assert found.drop is not None
        assert reason in found.drop.reason


def test_a_port_that_the_balancer_does_not_have() -> None:
    found = traced(cluster(*api("far", type="LoadBalancer")), "web", f"{BALANCER}:81")
    assert found.drop is not None
    assert (found.drop.place, found.drop.reason) == (
        f"load balancer {BALANCER}",
        "Service shop/api has no port 81/TCP, only 80/TCP",
    )


def test_an_endpoint_in_the_network_of_a_node() -> None:
    found = traced(cluster(*api("host")), "web", "api.shop:80")
    assert found.paths[0].endpoint == f"{NODES['n2']['eth0']}:8080 (pod shop/host)"
    assert seen(found) == [NODES["n1"]["eth0"]]


def test_a_headless_service_leads_to_its_pods() -> None:
    found = traced(cluster(*api("near", "far", clusterIP="None", clusterIPs=["None"])), "web", "api.shop")
    assert [places(found, number)[-1] for number in (0, 1)] == ["pod shop/near", "pod shop/far"]
    assert seen(found) == [address("web")] * 2


def test_a_balancer_whose_address_is_not_routed_to_the_node() -> None:
    """Its Service is newer than what the controller has told: the pod takes it for an address outside."""
    found = traced(cluster(*api("far", type="LoadBalancer")), "web", f"{BALANCER}:80")
    assert link(found) == "eth0"
    assert f"clb {BALANCER}" in places(found)


def test_source_ranges_that_do_not_have_the_pod() -> None:
    spec = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]}
    found = traced(cluster(*api("far", **spec), coordinator(BALANCER)), "web", f"{BALANCER}:80")
    assert found.drop is not None
    assert "172.31.199.11 is in none of spec.loadBalancerSourceRanges" in found.drop.reason


# --- from outside


def test_a_balancer_uses_all_nodes_or_those_with_endpoints() -> None:
    found = traced(cluster(*api("far", type="LoadBalancer")), "svc", "shop/api", outside=True)
    assert (found.outcome, len(found.paths)) == ("goes through", 2)
    assert seen(found) == [NODES["n1"]["eth0"], NODES["n2"]["eth0"]]
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    found = traced(cluster(*api("far", **local)), "svc", "shop/api:80", outside=True)
    assert (found.outcome, seen(found)) == ("goes through", ["the client"])
    assert places(found) == ["the client", f"clb {BALANCER}", "node n2", "node n2", "pod shop/far"]


def test_a_balancer_with_pods_behind_it() -> None:
    of_pods = service(type="LoadBalancer")
    of_pods.metadata.annotations = {"service.beta.kubernetes.io/backend-type": "eni"}
    found = traced(cluster(of_pods, endpoints("far")), "svc/shop/api", outside=True)
    assert places(found) == ["the client", f"clb {BALANCER}", "pod shop/far"]
    assert found.paths[0].hops[-1].interface == "eth0"


def test_from_outside_a_client_chooses_the_node() -> None:
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    found = traced(cluster(*api("far", **spec)), "svc", "shop/api", outside=True)
    assert found.outcome == "goes through by 1 of 2 ways"
    assert found.goes_through


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"type": "ClusterIP"}, "is for clients in the cluster"),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, "has no server"),
    ],
)
def test_what_drops_it_from_outside(spec: Any, reason: str) -> None:
    found = traced(cluster(service(**spec), endpoints("far", ready=False)), "svc", "shop/api", outside=True)
    assert found.drop is not None
    assert reason in found.drop.reason


def test_a_service_that_waits_for_its_balancer() -> None:
    waiting = replace(service(type="LoadBalancer"), status=service().status)
    found = traced(cluster(waiting, endpoints("far")), "svc", "shop/api", outside=True)
    assert found.drop is not None
    assert "has no load balancer yet" in found.drop.reason


# --- the configuration of kube-proxy


CONFIG = """
mode: ipvs
detectLocalMode: ClusterCIDR
clusterCIDR: 10.9.0.0/16,fd00:9::/64
iptables: {masqueradeAll: true}
nodePortAddresses: [192.168.0.0/24]
"""


def test_the_configuration_of_kube_proxy() -> None:
    found, notes = proxy_settings(ConfigMap(data={"config.conf": CONFIG}))
    cidrs = (ip_network("10.9.0.0/16"), ip_network("fd00:9::/64"))
    assert found == ProxySettings("ipvs", "ClusterCIDR", "", cidrs, True, (ip_network("192.168.0.0/24"),))
    assert notes == ()
    for config in (None, ConfigMap(data={"config.conf": "- no mapping"})):
        found, notes = proxy_settings(config)
        assert found == ProxySettings()
        assert len(notes) == 1


@pytest.mark.parametrize(
    ("config", "served"),
    [
        ("mode: iptables", ["eth0", "eth1"]),
        ("mode: nftables", ["eth0"]),
        ("nodePortAddresses: [primary]", ["eth0"]),
        ("{mode: nftables, nodePortAddresses: [all]}", ["eth0", "eth1"]),
        ('{mode: nftables, nodePortAddresses: ["0.0.0.0/0", "::/0"]}', ["eth0", "eth1"]),
        ("nodePortAddresses: [192.168.0.0/24]", ["eth1"]),
        ("nodePortAddresses: ['fd00::/8']", ["eth0", "eth1"]),  # of IPv4 nothing is named
        ("nodePortAddresses: [localhost]", []),
    ],
)
def test_on_which_addresses_node_ports_are_served(config: str, served: list[str]) -> None:
    proxy, notes = proxy_settings(ConfigMap(data={"config.conf": config}))
    tuned = dataclasses.replace(POLICIES, nodes=dataclasses.replace(POLICIES.nodes, tune_node=True))
    objects = cluster(*api("far", type="NodePort"), proxy=proxy, policies=tuned)
    through = []
    for nic in ("eth0", "eth1"):
        found = traced(objects, "second", f"{NODES['n2'][nic]}:30080")
        translated = any("kube-proxy: NodePort" in hop.does for hop in found.paths[0].hops)
        through += [nic] if found.goes_through and translated else []
        if nic not in served:
            assert found.drop is not None
            assert f"NodePort 30080 of Service shop/api is not served on {NODES['n2'][nic]}" in found.drop.reason
    assert (through, notes) == (served, ())


def test_from_outside_a_client_takes_an_address_where_node_ports_are_served() -> None:
    proxy, _ = proxy_settings(ConfigMap(data={"config.conf": "nodePortAddresses: [192.168.0.0/24]"}))
    found = traced(cluster(*api("far", type="NodePort"), proxy=proxy), "svc", "shop/api", outside=True)
    assert f"it connects to {NODES['n1']['eth1']}:30080" in found.paths[0].hops[0].does


def test_one_wrong_entry_leaves_the_rest_of_the_configuration() -> None:
    config = CONFIG.replace("[192.168.0.0/24]", "[nonsense, 192.168.0.0/24]").replace("10.9.0.0/16", "10.9.0.0/99")
    found, notes = proxy_settings(ConfigMap(data={"config.conf": config}))
    cidrs = (ip_network("fd00:9::/64"),)
    assert found == ProxySettings("ipvs", "ClusterCIDR", "", cidrs, True, (ip_network("192.168.0.0/24"),))
    assert ["nonsense" in notes[0], "10.9.0.0/99" in notes[1]] == [True, True]
