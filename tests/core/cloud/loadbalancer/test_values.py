"""Servers, listeners and balancers as values: what makes two the same, and how they read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerConfiguration,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
)

pytestmark = pytest.mark.unit

NODE = BackendServer("i-a", "instance", 30698)
POD = BackendServer("eni-1", "eni", 80, 5, "10.0.0.1")


def test_another_weight_is_the_same_server_and_another_port_is_not() -> None:
    assert replace(NODE, weight=1).key == NODE.key
    assert replace(NODE, port=30699).key != NODE.key
    assert replace(POD, address="10.0.0.2").key != POD.key


def test_servers_as_text() -> None:
    assert str(NODE) == "i-a:30698 weight 100"
    assert str(POD) == "eni-1/10.0.0.1:80 weight 5"


@pytest.mark.parametrize(
    ("protocol", "transport"),
    [("tcp", "tcp"), ("udp", "udp"), ("http", "tcp"), ("https", "tcp"), ("tcpssl", "tcp")],
)
def test_listeners_share_a_port_only_with_another_transport(protocol: str, transport: str) -> None:
    listener = Listener(53, protocol, "mine")
    assert listener.key == (53, transport)
    assert str(listener) == f"{protocol}/53"


def test_parts_of_a_balancer_are_found_by_name_and_port() -> None:
    dns, web = Listener(53, "udp", ""), Listener(53, "http", "")
    observed = ObservedLoadBalancer(
        "lb-1", "web", "198.51.100.1", listeners=(dns, web), groups=(ServerGroup("one"), ServerGroup("two"))
    )
    assert (observed.listener(53, "udp"), observed.listener(53, "tcp"), observed.listener(80, "tcp")) == (
        dns,
        web,
        None,
    )
    assert (observed.group("two"), observed.group("three")) == (ServerGroup("two"), None)


def test_what_an_installation_has_when_nothing_is_set() -> None:
    plain = BalancerConfiguration()
    assert (plain.cluster, plain.public_allowed, plain.pod_backends, plain.ipv6_backends) == (
        "clusterid",
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("port", "protocol", "shared"), [(69, "tcp", False), (70, "tcp", True), (75, "tcpssl", True), (76, "tcp", False)]
)
def test_a_range_of_ports_overlaps_listeners_within_it(port: int, protocol: str, shared: bool) -> None:
    listener, ports = Listener(port, protocol, "other"), Listener(70, "tcp", "mine", last_port=75)
    assert listener.overlaps(ports) is shared
    assert ports.overlaps(listener) is shared
    assert not ports.overlaps(replace(listener, protocol="udp"))
