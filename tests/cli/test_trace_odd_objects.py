"""`spiderpoolctl trace` where objects hold what nobody can read: it leaves that out with a note, and still answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import LoadBalancerIngress, NodeAddress, PodIP
from spiderpool.api.ippool import Route
from spiderpool.api.meta import Object
from spiderpool.errors import SpiderpoolError
from tests.cli.trace_cluster import (
    BALANCER,
    NODES,
    PODS,
    SERVICE_IP,
    cluster,
    coordinator,
    endpoints,
    node,
    pod,
    pool,
    records,
    server,
    service,
    traced,
)

pytestmark = pytest.mark.unit

ODD = ["", "x", "worker.example", "172.31.199.5/20", "10.0.0.0/8", "010.1.1.1", "fd00::/64", "fd00::7", "10.0.0.9-3"]
USED = pool("eth0", "eth0").spec
FAR = f"{PODS['far'][1]['eth0'][0]}:80"


def odd_pool(**spec: Any) -> Object:
    made = pool("odd", "eth0")
    return replace(made, spec=replace(made.spec, **spec))


def odd_eni(**fields: Any) -> Object:
    made = server("n1")
    first, *others = made.spec.enis
    return replace(made, spec=replace(made.spec, enis=(replace(first, **fields), *others)))


def odd_node(text: str) -> Object:
    made = node("n1")
    held = [*(made.status.addresses or ()), NodeAddress("InternalIP", text)]
    return replace(made, status=replace(made.status, addresses=held))


def odd_record(text: str) -> Object:
    made = next(each for each in records() if each.spec.pod == "web")
    return replace(made, spec=replace(made.spec, address=text))


def odd_pod(name: str, **spec: Any) -> Object:
    made = pod(name)
    return replace(made, spec=replace(made.spec, **spec))


def odd_status(text: str) -> Object:
    made = pod("far")
    return replace(made, status=replace(made.status, podIPs=[PodIP(text)]))


def odd_coordinator(**status: Any) -> SpiderCoordinator:
    made = coordinator(BALANCER)
    assert made.status is not None
    return replace(made, status=replace(made.status, **status))


def odd_balancer(text: str) -> Object:
    made = service(type="LoadBalancer")
    listed = [LoadBalancerIngress(ip=BALANCER), LoadBalancerIngress(ip=text)]
    return replace(made, status=replace(made.status, loadBalancer=replace(made.status.loadBalancer, ingress=listed)))


def odd_slice(text: str) -> Object:
    made = endpoints("far")
    assert made.endpoints
    return replace(made, endpoints=[*made.endpoints, replace(made.endpoints[0], addresses=[text])])


OBJECTS: dict[str, Callable[[str], Object]] = {
    "subnet of a pool": lambda text: odd_pool(subnet=text),
    "gateway of a pool": lambda text: odd_pool(gateway=text),
    "ips of a pool": lambda text: odd_pool(ips=[text]),
    "excludeIPs of a pool": lambda text: odd_pool(excludeIPs=[text]),
    "destination of a route": lambda text: odd_pool(routes=[Route(text, "172.31.207.253")]),
    "gateway of a route": lambda text: odd_pool(routes=[Route("10.0.0.0/8", text)]),
    "gateway of a pool in use": lambda text: replace(pool("eth0", "eth0"), spec=replace(USED, gateway=text)),
    "subnet of a pool in use": lambda text: replace(pool("eth0", "eth0"), spec=replace(USED, subnet=text)),
    "subnet of an ENI": lambda text: odd_eni(subnet=text),
    "IPv6 subnet of an ENI": lambda text: odd_eni(subnet6=text),
    "gateway of an ENI": lambda text: odd_eni(gateway=text),
    "address of an ENI": lambda text: odd_eni(addresses=(text,)),
    "IPv6 address of an ENI": lambda text: odd_eni(ipv6_addresses=(text,)),
    "primary address of an ENI": lambda text: odd_eni(primary_address=text),
    "device of an ENI": lambda text: odd_eni(device=text),
    "InternalIP": odd_node,
    "SpiderIP": odd_record,
    "address of a pod": odd_status,
    "node of a pod": lambda text: odd_pod("web", nodeName=text),
    "node of another pod": lambda text: odd_pod("far", nodeName=text),
    "node of a pod in the network of its node": lambda text: odd_pod("host", nodeName=text),
    "clusterIP": lambda text: service(clusterIPs=[text], clusterIP=text),
    "externalIP": lambda text: service(externalIPs=[text]),
    "source ranges": lambda text: service(type="LoadBalancer", loadBalancerSourceRanges=[text]),
    "address of a balancer": odd_balancer,
    "type of a Service": lambda text: service(type=text),
    "endpoint": odd_slice,
    "Service CIDR": lambda text: odd_coordinator(serviceCIDR=[text]),
    "overlay": lambda text: odd_coordinator(overlayPodCIDR=[text]),
    "address of a Service": lambda text: odd_coordinator(serviceAddresses=[text]),
}
QUESTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("web", FAR), {}),
    (("host", FAR), {}),
    (("two", f"{PODS['two-far'][1]['net1'][0]}:80"), {}),
    (("six", "[fd00:1::27]:80"), {}),
    (("web", "172.31.199.77:80"), {}),
    (("web", f"{NODES['n1']['eth1']}:30080"), {}),
    (("web", "8.8.8.8:53"), {}),
    (("web", f"{SERVICE_IP}:80"), {}),
    (("web", f"{BALANCER}:80"), {}),
    (("web", "svc/api"), {}),
    ((FAR,), {"node": "n1"}),
    (("svc/api",), {"outside": True}),
]


@settings(max_examples=80, deadline=None)
@given(
    odd=st.dictionaries(st.sampled_from(sorted(OBJECTS)), st.sampled_from(ODD), min_size=1, max_size=3),
    question=st.sampled_from(QUESTIONS),
)
def test_it_never_ends_by_a_traceback(odd: dict[str, str], question: tuple[tuple[str, ...], dict[str, Any]]) -> None:
    words, options = question
    objects = [service(), endpoints("far", "host"), *(OBJECTS[name](text) for name, text in odd.items())]
    try:
        assert traced(cluster(*objects), *words, **options).outcome
    except SpiderpoolError as refusal:  # in words, as where a Service has no address left
        assert refusal.message


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        (
            odd_pool(subnet="172.31.199.5/20"),
            "pool odd cannot be understood, and is left out: 172.31.199.5/20",
        ),
        (odd_pool(gateway="x"), "the gateway of pool odd cannot be understood"),
        (odd_node("worker.example"), "an InternalIP of node n1 cannot be understood"),
        (odd_eni(subnet=""), "the subnet of ENI eni-n1-eth0 of server n1 cannot be understood"),
        (service(externalIPs=["010.1.1.1"]), "an address of Service shop/api cannot be understood"),
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_note(odd: Object, note: str) -> None:
    found = traced(cluster(odd), "web", FAR)
    assert found.goes_through
    assert [each for each in found.notes if each.startswith(note)]


@pytest.mark.parametrize("name", ["web", "host"])
@pytest.mark.parametrize(("on", "why"), [("gone", "node gone of pod shop/"), (None, "is on no node yet")])
def test_a_client_without_node_is_not_known(name: str, on: str | None, why: str) -> None:
    found = traced(cluster(odd_pod(name, nodeName=on)), name, FAR)
    assert found.outcome == "is not known to arrive"
    assert why in found.paths[0].unknown


def test_a_server_whose_node_is_gone_is_not_known() -> None:
    found = traced(cluster(odd_pod("far", nodeName="gone")), "web", FAR)
    assert found.outcome == "is not known to arrive"
    assert "node gone of pod shop/far does not exist" in found.paths[0].unknown


def test_the_gateway_of_a_pool_that_is_not_understood_is_not_known() -> None:
    broken = pool("eth0", "eth0")
    found = traced(cluster(replace(broken, spec=replace(broken.spec, subnet="172.31.199.5/20"))), "web", "8.8.8.8:53")
    assert found.outcome == "is not known to arrive"
    assert "pool eth0, of which pod shop/web has 172.31.199.11/20, is gone or not understood" in found.paths[0].unknown


def test_objects_are_not_changed() -> None:
    odd = service(externalIPs=["010.1.1.1"])
    before = msgspec.json.encode(odd)
    traced(cluster(odd), "web", FAR)
    assert msgspec.json.encode(odd) == before
