"""Which servers a port of a Service is forwarded to, and why not others."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.core_v1 import Node, NodeAddress
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.cloud.loadbalancer.backends import (
    BackendSnapshot,
    PortBackends,
    eligible,
    exclusion,
    may_become_backend,
    node_backends,
    pod_addresses,
    pod_backends,
    reported_enis,
    shared_out,
)
from spiderpool.core.cloud.loadbalancer.backends import families as backend_families
from spiderpool.core.cloud.loadbalancer.values import BackendServer
from tests.core.pretend_balancers import endpoints, node, options, service

pytestmark = pytest.mark.unit

PLAIN = options("clb", {})
HTTP = {"port": 80, "nodePort": 30698}
ABC = [node("a"), node("b"), node("c")]
THREE_PODS = endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"))
ENDING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("requested", "annotations", "reason"),
    [
        (node("a"), {}, None),
        (node("a", ready=False), {}, None),
        (
            node("a", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
            {},
            "label node.kubernetes.io/exclude-from-external-load-balancers",
        ),
        (
            node("a", labels={"alpha.service-controller.kubernetes.io/exclude-balancer": ""}),
            {},
            "label alpha.service-controller.kubernetes.io/exclude-balancer",
        ),
        (
            node("a", labels={"service.alibabacloud.com/exclude-node": "true"}),
            {},
            "label service.alibabacloud.com/exclude-node",
        ),
        (
            node("a", labels={"service.beta.kubernetes.io/exclude-node": ""}),
            {},
            "label service.beta.kubernetes.io/exclude-node",
        ),
        (node("a", labels={"node-role.kubernetes.io/control-plane": ""}), {}, None),
        (node("a", taints=[{"key": "ToBeDeletedByClusterAutoscaler"}]), {}, "taint ToBeDeletedByClusterAutoscaler"),
        (node("a", taints=[{"key": "dedicated"}]), {}, None),
        (node("a", labels={"type": "virtual-kubelet"}), {}, "it is no machine (label type=virtual-kubelet)"),
        (node("a", unschedulable=True), {}, None),
        (node("a", unschedulable=True), {"remove-unscheduled-backend": "on"}, "it is cordoned"),
        (node("a", labels={"role": "edge"}), {"backend-label": "role=edge"}, None),
        (node("a", labels={"role": "edge"}), {"backend-label": "role=edge,zone=h"}, "it has no label zone=h"),
        (node("a", labels={"role": "core"}), {"backend-label": "role=edge"}, "it has no label role=edge"),
        (node("a", providerID="ack-hybrid://x.y"), {}, "its providerID 'ack-hybrid://x.y' names no instance"),
        (node("a", providerID=None), {}, "its providerID '' names no instance"),
    ],
)
def test_which_nodes_are_backends(requested: Node, annotations: dict[str, str], reason: str | None) -> None:
    assert exclusion(requested, options("clb", annotations)) == reason


@pytest.mark.parametrize(
    ("kind", "given", "requested", "expected"),
    [
        ("clb", {}, node("a", ready=False), True),
        ("clb", {}, node("a", providerID=None), True),
        ("clb", {}, node("a", providerID="ack-hybrid://x.y"), False),
        ("clb", {}, node("a", labels={"node-role.kubernetes.io/master": ""}), False),
        ("clb", {"backend-label": "role=edge"}, node("a"), False),
        ("nlb", {"server-group-type": "ip"}, node("a", providerID="ack-hybrid://x.y"), True),
        ("nlb", {"server-group-type": "ip"}, node("without"), True),
        ("nlb", {"server-group-type": "ip", "backend-ip-version": "dualstack"}, node("a"), True),
    ],
)
def test_which_nodes_become_backends_by_themselves(
    kind: str, given: dict[str, str], requested: Node, *, expected: bool
) -> None:
    assert may_become_backend(requested, options(kind, given)) is expected


@pytest.mark.parametrize(
    ("ready", "chosen", "notes"),
    [
        ((True, False, True), "ac", ("node b is no backend: it is not ready",)),
        ((False, False, False), "abc", ()),
    ],
)
def test_nodes_that_are_not_ready_are_left_out_unless_none_is(
    ready: tuple[bool, ...], chosen: str, notes: tuple[str, ...]
) -> None:
    nodes = [node(name, ready=each) for name, each in zip("abc", ready, strict=True)]
    assert [each.ready for each in nodes] == list(ready)
    assert eligible(nodes, PLAIN) == ([each for each in nodes if each.name in chosen], notes)


MASTER = {"node-role.kubernetes.io/master": ""}


@pytest.mark.parametrize(
    ("ready", "chosen", "notes"),
    [
        (True, "b", {"a": "label node-role.kubernetes.io/master"}),
        (False, "b", {"a": "label node-role.kubernetes.io/master"}),
        (None, "a", {}),
    ],
)
def test_the_control_plane_is_a_backend_only_where_there_are_no_other_nodes(
    ready: bool | None, chosen: str, notes: dict[str, str]
) -> None:
    workers = [] if ready is None else [node("b", ready=ready)]
    found, said = eligible([node("a", labels=MASTER), *workers], PLAIN)
    assert [each.name for each in found] == [chosen]
    assert said == tuple(f"node {name} is no backend: {reason}" for name, reason in notes.items())


def test_each_node_that_is_none_is_told_with_its_reason() -> None:
    nodes = [node("c", ready=False), node("b", providerID=""), node("a")]
    assert eligible(nodes, PLAIN) == (
        [nodes[2]],
        ("node b is no backend: its providerID '' names no instance", "node c is no backend: it is not ready"),
    )


def of_nodes(slices: list[EndpointSlice], annotations: dict[str, str] | None = None, **spec: Any) -> PortBackends:
    requested = service(HTTP, **spec)
    port = (requested.spec.ports or [])[0]
    found = node_backends(requested, port, BackendSnapshot(ABC, slices), ABC, options("clb", annotations or {}))
    assert found.unresolved == frozenset()
    return found


def nodes(weights: dict[str, int]) -> frozenset[BackendServer]:
    """Instances by their node port, with their weights."""
    return frozenset(BackendServer(name, "instance", 30698, weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("policy", "annotations", "weights"),
    [
        ("Cluster", {}, {"i-a": 100, "i-b": 100, "i-c": 100}),
        (None, {}, {"i-a": 100, "i-b": 100, "i-c": 100}),
        ("Cluster", {"default-weight": "7"}, {"i-a": 7, "i-b": 7, "i-c": 7}),
        ("Local", {}, {"i-a": 2, "i-b": 1}),
        ("Local", {"default-weight": "7"}, {"i-a": 2, "i-b": 1}),
    ],
)
def test_nodes_by_their_node_port(policy: str | None, annotations: dict[str, str], weights: dict[str, int]) -> None:
    assert of_nodes([THREE_PODS], annotations, externalTrafficPolicy=policy) == PortBackends(nodes(weights))


@pytest.mark.parametrize(
    "slices",
    [
        [endpoints(("10.0.0.1", "a"), ready=False)],
        [endpoints(("10.0.0.1", "a"), conditions={**ENDING, "serving": False})],
        [endpoints(("10.0.0.1", "a"), conditions={**ENDING, "terminating": False})],
        [endpoints(("10.0.0.1", "a"), name="other")],
        [endpoints(("10.0.0.1", "a"), protocol="UDP")],
        [endpoints(("fd00::1", "a"), family="IPv6")],
        [endpoints(("10.0.0.1", ""))],
        [],
    ],
)
def test_with_local_traffic_a_node_without_a_pod_for_the_port_gets_none(slices: list[EndpointSlice]) -> None:
    assert of_nodes(slices, externalTrafficPolicy="Local") == PortBackends(frozenset())


def test_a_node_all_of_whose_pods_end_is_told_apart() -> None:
    slices = [
        endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"), conditions=ENDING),
        endpoints(("10.0.0.7", "b")),
    ]
    found = of_nodes(slices, externalTrafficPolicy="Local")
    assert found == PortBackends(nodes({"i-b": 1}), ending=nodes({"i-a": 2}))
    assert of_nodes(slices, externalTrafficPolicy="Cluster").ending == frozenset()


def test_a_node_with_many_pods_is_as_heavy_as_the_cloud_allows() -> None:
    many = endpoints(*((f"10.0.1.{place}", "a") for place in range(120)))
    assert of_nodes([many], externalTrafficPolicy="Local") == PortBackends(nodes({"i-a": 100}))


def test_a_pod_that_two_slices_name_weighs_once() -> None:
    found = of_nodes([THREE_PODS, endpoints(("10.0.0.3", "b"))], externalTrafficPolicy="Local")
    assert found == PortBackends(nodes({"i-a": 2, "i-b": 1}))


def test_a_node_without_instance_is_no_server() -> None:
    port = (service(HTTP).spec.ports or [])[0]
    nowhere = [node("a", providerID=""), node("b")]
    assert node_backends(service(HTTP), port, BackendSnapshot(nowhere), nowhere, PLAIN).servers == nodes({"i-b": 100})


def test_a_port_without_node_port_has_no_nodes() -> None:
    requested = service({"port": 80, "nodePort": None})
    port = (requested.spec.ports or [])[0]
    assert node_backends(requested, port, BackendSnapshot(ABC), ABC, PLAIN) == PortBackends(frozenset())


def addressed(name: str, *addresses: str, **spec: Any) -> Node:
    """A node with internal addresses."""
    found = node(name, **spec)
    found.status.addresses = [NodeAddress("InternalIP", each) for each in addresses]
    return found


@pytest.mark.parametrize(
    ("versions", "addresses"),
    [("ipv4", {"10.0.0.9"}), ("ipv6", {"fd00::9"}), ("dualstack", {"10.0.0.9", "fd00::9"})],
)
def test_nodes_by_their_internal_addresses_need_no_instance(versions: str, addresses: set[str]) -> None:
    chosen = options("nlb", {"server-group-type": "Ip", "backend-ip-version": versions})
    found = [addressed("a", "10.0.0.9", "fd00::9", "10.0.0.8", providerID="ack-hybrid://x.y"), node("bb")]
    allowed, notes = eligible(found, chosen)
    assert notes == (f"node bb is no backend: it has no InternalIP of {' or '.join(backend_families(chosen))}",)
    port = (service(HTTP).spec.ports or [])[0]
    servers = node_backends(service(HTTP), port, BackendSnapshot(found), allowed, chosen).servers
    assert servers == {BackendServer(each, "address", 30698, 100, each) for each in addresses}


def test_a_pod_with_an_address_of_each_family_weighs_once() -> None:
    requested = service(HTTP, externalTrafficPolicy="Local")
    port = (requested.spec.ports or [])[0]
    slices = [THREE_PODS, endpoints(("fd00::1", "a"), ("fd00::2", "a"), ("fd00::3", "b"), family="IPv6")]
    chosen = options("nlb", {"backend-ip-version": "dualstack"})
    found = node_backends(requested, port, BackendSnapshot(ABC, slices), ABC, chosen)
    assert found.servers == nodes({"i-a": 2, "i-b": 1})


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_pods_on_virtual_nodes_are_told_apart(policy: str) -> None:
    requested = service(HTTP, externalTrafficPolicy=policy)
    port = (requested.spec.ports or [])[0]
    found = [node("a"), node("b", labels={"type": "virtual-kubelet"})]
    snapshot = BackendSnapshot(found, [THREE_PODS])
    servers = node_backends(requested, port, snapshot, found[:1], PLAIN)
    assert servers.virtual == {("10.0.0.3", 80)}
    assert {each.identity for each in servers.servers} == {"i-a"}


def of_pods(slices: list[EndpointSlice], kind: Any = "clb", **annotations: str) -> PortBackends:
    port = (service(HTTP).spec.ports or [])[0]
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    snapshot = BackendSnapshot([], slices, {"10.0.0.1": "eni-1", "10.0.0.2": "eni-1"})
    return pod_backends(port, snapshot, options(kind, given))


def test_pods_by_the_eni_of_their_address() -> None:
    found = of_pods([endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"), port=8080)])
    assert found.servers == {
        BackendServer("eni-1", "eni", 8080, 100, "10.0.0.1"),
        BackendServer("eni-1", "eni", 8080, 100, "10.0.0.2"),
    }
    assert found.unresolved == {("10.0.0.3", 8080)}


def test_pods_by_address_need_no_eni() -> None:
    found = of_pods([endpoints(("10.0.0.3", "b"))], "nlb", server_group_type="ip", default_weight="5")
    assert found == PortBackends(frozenset({BackendServer("10.0.0.3", "address", 80, 5, "10.0.0.3")}))


def test_pods_that_end_are_told_apart_and_their_enis_not_looked_for() -> None:
    found = of_pods([endpoints(("10.0.0.1", "a"), ("10.0.0.9", "b"), conditions=ENDING), endpoints(("10.0.0.2", "a"))])
    ready, ending = (BackendServer("eni-1", "eni", 80, 100, address) for address in ("10.0.0.2", "10.0.0.1"))
    assert found == PortBackends(frozenset({ready}), ending=frozenset({ending}))


def test_pods_of_the_other_family_when_the_service_says_so() -> None:
    slices = [THREE_PODS, endpoints(("fd00::1", "a"), family="IPv6")]
    assert of_pods(slices, backend_ip_version="ipv6").unresolved == {("fd00::1", 80)}


def test_pods_of_both_families() -> None:
    slices = [THREE_PODS, endpoints(("fd00::1", "a"), family="IPv6")]
    found = of_pods(slices, "nlb", backend_ip_version="dualstack")
    assert {server.address for server in found.servers} == {"10.0.0.1", "10.0.0.2"}
    assert found.unresolved == {("10.0.0.3", 80), ("fd00::1", 80)}


@pytest.mark.parametrize(
    ("own", "total", "weights"),
    [
        ({"i-a": 100, "i-b": 100}, 100, {"i-a": 50, "i-b": 50}),
        ({"i-a": 3, "i-b": 1}, 60, {"i-a": 45, "i-b": 15}),
        ({"i-a": 100, "i-b": 100, "i-c": 100}, 2, {"i-a": 1, "i-b": 1, "i-c": 1}),
        ({"i-a": 0, "i-b": 0}, 10, {"i-a": 5, "i-b": 5}),
        ({"i-a": 3, "i-b": 1}, 0, {"i-a": 0, "i-b": 0}),
        ({}, 10, {}),
    ],
)
def test_a_weight_is_shared_out(own: dict[str, int], total: int, weights: dict[str, int]) -> None:
    found = shared_out(PortBackends(nodes(own), ending=nodes({"i-z": 1})), total)
    assert {each.identity: each.weight for each in found.servers} == weights
    assert {each.identity for each in found.ending} == {"i-z"}


def test_the_addresses_whose_enis_must_be_known() -> None:
    ports = service(HTTP, {"port": 443, "name": "tls"}).spec.ports or ()
    others = endpoints(("10.0.0.5", "a"), ready=False), endpoints(("10.0.0.6", "a"), conditions=ENDING)
    slices = [THREE_PODS, endpoints(("10.0.0.4", "a"), name="tls"), *others]
    assert pod_addresses(ports, slices, PLAIN) == {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"}


def test_enis_are_known_from_what_nodes_say() -> None:
    subnet = "vsw-1", "10.0.0.0/24", "fd00::/64", "10.0.0.253", None
    eni = ENI("eni-1", "00:16:3e:00:00:01", True, "10.0.0.9", ("10.0.0.1", "10.0.0.2"), ("fd00::1",), *subnet)
    one = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", "i-a", "ecs.g7.large", (eni,))
    assert reported_enis([one, None]) == dict.fromkeys(("10.0.0.9", "10.0.0.1", "10.0.0.2", "fd00::1"), "eni-1")
    other = changed(
        eni, identity="eni-2", primary_address="10.0.0.8", addresses=("10.0.0.2", "10.0.0.3"), ipv6_addresses=()
    )
    found = reported_enis([one, changed(one, identity="i-b", enis=(other,))])
    known = {"10.0.0.9": "eni-1", "10.0.0.1": "eni-1", "fd00::1": "eni-1", "10.0.0.8": "eni-2", "10.0.0.3": "eni-2"}
    assert found == known, "no node takes an address by a claim"


def test_no_node_takes_the_own_address_of_another_by_a_claim() -> None:
    subnet = "vsw-1", "10.0.0.0/24", None
    own = ENI("eni-1", "00:16:3e:00:00:01", True, "10.0.0.9", (), (), *subnet)
    lie = ENI("eni-2", "00:16:3e:00:00:02", True, "10.0.0.8", ("10.0.0.9",), (), *subnet)
    one = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", "i-a", "ecs.g7.large", (own,))
    assert reported_enis([one, changed(one, identity="i-b", enis=(lie,))]) == {"10.0.0.8": "eni-2"}
