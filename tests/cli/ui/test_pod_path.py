"""The path of a pod."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ippool import Route
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.explain.answer import AddressFacts, Explanation, InterfaceFacts
from spiderpool.cli.ui.pod_path import interface_paths, leading_services

pytestmark = pytest.mark.unit


def address(interface: str, text: str, *, held: bool = True) -> AddressFacts:
    return AddressFacts(interface, 4, "the default pools", (), text, "blue", None, held, None)


def explained(*addresses: AddressFacts) -> Explanation:
    interfaces = (
        InterfaceFacts("eth0", "kube-system/eth0", "ipvlan on eth1"),
        InterfaceFacts("net1", "shop/b", "vlan"),
    )
    return Explanation("shop/web", "n1", "has", interfaces, (), addresses, None, (), (), ())


def test_interfaces_have_what_the_endpoint_says() -> None:
    detail = InterfaceDetail(
        "eth0", "10.0.0.3/24", "blue", ipv4Gateway="10.0.0.253", routes=[Route("10.9.0.0/16", "10.0.0.1")]
    )
    second = InterfaceDetail("net1", ipv6="fd00::3/64", ipv6Pool="six", ipv6Gateway="fd00::1", cleanGateway=True)
    status = EndpointStatus(CurrentDetail("u", "n1", [detail, second]), "Pod", "web")
    endpoint = SpiderEndpoint(metadata=ObjectMeta(name="web", namespace="shop"), status=status)
    first, other = interface_paths(explained(), endpoint, {"blue": "eni-1"})
    assert (first.addresses, first.pools, first.gateways) == (("10.0.0.3/24",), ("blue",), ("10.0.0.253",))
    assert (first.routes, first.eni, first.made_as) == ((Route("10.9.0.0/16", "10.0.0.1"),), "eni-1", "ipvlan on eth1")
    assert (other.addresses, other.gateways, other.eni) == (("fd00::3/64",), (), None)


def test_without_an_endpoint_they_have_what_the_pod_holds() -> None:
    found = explained(address("eth0", "10.0.0.3"), address("net1", "10.0.0.4", held=False))
    first, other = interface_paths(found, None, {})
    assert (first.addresses, first.pools) == (("10.0.0.3",), ("blue",))
    assert other.addresses == ()


def service(name: str, selector: dict[str, str] | None, **spec: object) -> Service:
    return Service(metadata=ObjectMeta(name=name), spec=ServiceSpec(selector=selector, **spec))  # type: ignore[arg-type]


def test_services_lead_to_pods_with_their_labels() -> None:
    ports = [ServicePort(80, targetPort=8080, nodePort=30080)]
    public = service(
        "public",
        {"app": "web"},
        type="LoadBalancer",
        clusterIP="10.96.0.7",
        clusterIPs=["10.96.0.7", "fd00:96::7"],
        ports=ports,
    )
    public.status = ServiceStatus(LoadBalancerStatus([LoadBalancerIngress("47.0.0.1")]))
    services = [service("other", {"app": "web", "tier": "db"}), public, service("all", None), service("none", {})]
    headless = service("headless", {"app": "web"}, clusterIP="None")
    second, first = leading_services([*services, headless], {"app": "web", "version": "2"})
    assert (first.name, first.addresses, first.ports) == (
        "public",
        ("10.96.0.7", "fd00:96::7", "47.0.0.1"),
        ("80 → 8080/TCP, node 30080",),
    )
    assert (second.name, second.addresses) == ("headless", ())
