"""What a Service, its endpoints and the nodes ask for: the balancer that there should be."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE
from spiderpool.core.cloud.alibaba.naming import balancer_name
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import (
    LoadBalancerModel,
    group_of,
    owner_of,
    ports_of_pods,
    protocol_of,
    protocols,
    redirects,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerConfiguration,
    Listener,
)
from tests.core.pretend_balancers import CONFIGURATION, UID, endpoints, model_of, node, options, service

pytestmark = pytest.mark.unit

HTTP = {"port": 80, "nodePort": 30698}
SECURE = {"port": 443, "nodePort": 30443}
DNS = {"port": 53, "protocol": "UDP", "nodePort": 30053}
TWO_ZONES = "cn-hangzhou-h:vsw-h,cn-hangzhou-i:vsw-i"
NETWORK: dict[str, Any] = {"loadBalancerClass": "alibabacloud.com/nlb"}
PODS = {BACKEND_TYPE: "eni"}


def test_the_layer_4_service_of_the_walkthrough() -> None:
    requested = service({"port": 999, "nodePort": 32635}, externalTrafficPolicy="Local")
    pods = endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"))
    model = model_of(requested, BackendSnapshot([node("a"), node("b"), node("c")], [pods]))
    (listener,) = model.listeners
    assert (str(listener), listener.description) == ("tcp/999", "k8s/999/web/default/c1")
    assert listener.group == "k8s/32635/web/default/c1"
    assert (listener.settings["Bandwidth"], listener.settings["HealthCheckSwitch"]) == ("-1", "on")
    (group,) = model.groups
    assert group.servers == {BackendServer("i-a", "instance", 32635, 2), BackendServer("i-b", "instance", 32635, 1)}
    assert model.tags == {"kubernetes.do.not.delete": model.name, "ack.aliyun.com": "c1"}
    assert model.fixed == {"AddressType": "internet", "AddressIPVersion": "ipv4"}
    assert (model.name, model.settings["LoadBalancerName"]) == (balancer_name(model.owner),) * 2


def test_the_layer_7_service_of_the_walkthrough() -> None:
    model = model_of(service(HTTP, annotations={"protocol-port": "http:80"}), BackendSnapshot([node("a")]))
    (listener,) = model.listeners
    assert (str(listener), listener.group) == ("http/80", "k8s/30698/web/default/c1")
    assert listener.settings["StickySession"] == "off"


def test_session_affinity_is_in_the_listeners_of_a_classic_and_the_groups_of_a_network_balancer() -> None:
    sticky = {"sessionAffinity": "ClientIP"}
    (listener,) = model_of(service(HTTP, **sticky), BackendSnapshot([node("a")])).listeners
    assert listener.settings["PersistenceTimeout"] == "3600"
    given = {"zone-maps": TWO_ZONES}
    model = model_of(service(HTTP, annotations=given, **NETWORK, **sticky), BackendSnapshot([node("a")]))
    assert [group.settings["Scheduler"] for group in model.groups] == ["sch"]


def test_a_range_of_ports_has_one_listener_and_servers_without_a_port() -> None:
    given = {"zone-maps": TWO_ZONES, "listener-port-range": "80-90:80", **PODS}
    snapshot = BackendSnapshot([], [endpoints(("10.0.0.1", "a"), ("10.0.0.9", "a"))], {"10.0.0.1": "eni-1"})
    model = model_of(service({"port": 80, "targetPort": 8080}, annotations=given, **NETWORK), snapshot)
    ((listener,), (group,)) = model.listeners, model.groups
    assert (listener.port, listener.settings["StartPort"], listener.settings["EndPort"]) == (80, "80", "90")
    assert ".80_90." in listener.description
    assert ".80_90." in group.name
    assert group.settings["AnyPortEnabled"] == "true"
    assert group.settings["HealthCheckConfig.HealthCheckConnectPort"] == "8080"
    assert group.servers == {BackendServer("eni-1", "eni", 0, 100, "10.0.0.1")}
    assert group.keep == {("10.0.0.9", 0)}


def test_a_network_balancer() -> None:
    annotations = {"zone-maps": TWO_ZONES, "protocol-port": "TCPSSL:443", "cert-id": "crt", "ip-version": "dualstack"}
    model = model_of(service(HTTP, DNS, SECURE, annotations=annotations, **NETWORK), BackendSnapshot([node("a")]))
    assert [(str(each), each.description, each.group) for each in model.listeners] == [
        ("tcp/80", "k8s.80.TCP.web.default.c1", "k8s.30698.TCP.web.default.c1"),
        ("udp/53", "k8s.53.UDP.web.default.c1", "k8s.30053.UDP.web.default.c1"),
        ("tcpssl/443", "k8s.443.TCPSSL.web.default.c1", "k8s.30443.TCPSSL.web.default.c1"),
    ]
    assert [(group.name, group.settings["Protocol"], len(group.servers)) for group in model.groups] == [
        ("k8s.30698.TCP.web.default.c1", "TCP", 1),
        ("k8s.30053.UDP.web.default.c1", "UDP", 1),
        ("k8s.30443.TCPSSL.web.default.c1", "TCP", 1),
    ]
    assert (model.settings["ZoneMappings"], model.fixed["AddressIpVersion"]) == (TWO_ZONES, "DualStack")
    assert model.vpc == "vpc-1"


def test_a_service_without_ports_has_a_balancer_without_listeners() -> None:
    model = model_of(service(), BackendSnapshot([node("a")]))
    assert (model.listeners, model.groups) == ((), ())


@pytest.mark.parametrize(
    ("kind", "port", "annotations", "protocol"),
    [
        ("clb", HTTP, {}, "tcp"),
        ("clb", DNS, {}, "udp"),
        ("clb", HTTP, {"protocol-port": "http:80"}, "http"),
        ("clb", HTTP, {"protocol-port": "HTTPS:80"}, "https"),
        ("clb", HTTP, {"protocol-port": "http:81"}, "tcp"),
        ("clb", {"port": 80, "protocol": "UDP"}, {"protocol-port": "http:80"}, "udp"),
        ("clb", {"port": 80, "protocol": "UDP"}, {"protocol-port": "udp:80,http:80"}, "udp"),
        ("clb", HTTP, {"protocol-port": "http:80,udp:80"}, "http"),
        ("nlb", HTTP, {"protocol-port": "TcpSSL:80"}, "tcpssl"),
    ],
)
def test_the_protocol_of_a_listener(
    kind: str, port: dict[str, Any], annotations: dict[str, str], protocol: str
) -> None:
    requested = (service(port).spec.ports or [])[0]
    assert protocol_of(requested, options(kind, annotations)) == protocol


def test_lists_of_ports() -> None:
    given = {"protocol-port": "http:80,https:443"}
    assert protocols(options("clb", given)) == {(80, "TCP"): "http", (443, "TCP"): "https"}
    assert redirects(options("clb", given | {"forward-port": "80:443,81:443"})) == {80: 443, 81: 443}
    assert (protocols(options("nlb", {})), redirects(options("nlb", {}))) == ({}, {})


def test_a_redirect_is_a_listener_without_servers() -> None:
    given = {"protocol-port": "http:80,https:443", "forward-port": "80:443", "cert-id": "crt"}
    model = model_of(service(HTTP, SECURE, annotations=given), BackendSnapshot([node("a")]))
    plain, secure = model.listeners
    redirected = {"ListenerForward": "on", "ForwardPort": "443"}
    assert plain == Listener(80, "http", "k8s/80/web/default/c1", "", redirected)
    assert secure.settings["ServerCertificateId"] == "crt"
    assert [group.name for group in model.groups] == ["k8s/30443/web/default/c1"]


@pytest.mark.parametrize(
    ("backend_type", "by_default", "pods"),
    [(None, False, False), (None, True, True), ("eni", False, True), ("instance", True, False)],
)
def test_pods_or_nodes(backend_type: str | None, by_default: bool, pods: bool) -> None:
    annotations = {BACKEND_TYPE: backend_type} if backend_type else {}
    configuration = BalancerConfiguration(cluster="c1", pod_backends=by_default)
    model = model_of(service(HTTP, annotations=annotations), BackendSnapshot([node("a")]), configuration)
    assert [len(group.servers) for group in model.groups] == [0 if pods else 1]
    assert bool(ports_of_pods(service(HTTP), options("clb", {}), configuration)) is by_default


@pytest.mark.parametrize(
    ("allocated", "node_port", "pods"), [(False, None, True), (False, 30698, False), (None, None, False)]
)
def test_pods_are_servers_where_no_node_ports_are_wanted(
    allocated: bool | None, node_port: int | None, pods: bool
) -> None:
    requested = service({"port": 80, "nodePort": node_port}, allocateLoadBalancerNodePorts=allocated)
    assert bool(ports_of_pods(requested, options("clb", {}), CONFIGURATION)) is pods


def test_a_port_with_a_node_port_keeps_its_nodes_whatever_another_port_has() -> None:
    ports: list[dict[str, Any]] = [
        HTTP,
        {"port": 8080, "nodePort": None, "targetPort": 80},
        {"port": 81, "nodePort": None},
    ]
    ports[2]["targetPort"] = HTTP["nodePort"]
    model = model_of(
        service(*ports, allocateLoadBalancerNodePorts=False),
        BackendSnapshot([node("a")], [endpoints(("10.0.0.1", "a"))]),
    )
    assert [listener.group for listener in model.listeners] == [
        "k8s/30698/web/default/c1",
        "k8s/80/web/default/c1",
        "k8s/pods_30698/web/default/c1",
    ]
    assert [group.servers for group in model.groups[:2]] == [{BackendServer("i-a", "instance", 30698)}, frozenset()]
    assert model.unresolved == ("10.0.0.1",)


ENIS = {"10.0.0.1": "eni-1", "10.0.0.2": "eni-2"}


def test_pods_as_backends() -> None:
    slices = [endpoints(("10.0.0.1", "a"), ("10.0.0.3", "b"), ("10.0.0.2", "b"))]
    model = model_of(service(HTTP, annotations=PODS), BackendSnapshot([node("a", providerID="")], slices, ENIS))
    (group,) = model.groups
    assert group.name == "k8s/80/web/default/c1"
    assert group.servers == {
        BackendServer("eni-1", "eni", 80, 100, "10.0.0.1"),
        BackendServer("eni-2", "eni", 80, 100, "10.0.0.2"),
    }
    assert group.keep == {("10.0.0.3", 80)}
    assert model.unresolved == ("10.0.0.3",)
    assert model.notes == ()


def test_nodes_that_are_no_backends_are_told() -> None:
    model = model_of(service(HTTP), BackendSnapshot([node("a"), node("b", providerID="")]))
    assert model.notes == ("node b is no backend: its providerID '' names no instance",)


@pytest.mark.parametrize(
    ("kind", "port", "annotations", "spec", "name"),
    [
        ("clb", HTTP, {}, {}, "k8s/30698/web/default/c1"),
        ("clb", {"port": 80, "targetPort": 8080}, PODS, {}, "k8s/8080/web/default/c1"),
        ("clb", {"port": 80, "targetPort": "http"}, PODS, {}, "k8s/http/web/default/c1"),
        ("clb", {"port": 80, "targetPort": None}, PODS, {}, "k8s/80/web/default/c1"),
        ("clb", {"port": 80, "targetPort": 8080}, PODS, {"selector": None}, "k8s/80/web/default/c1"),
        ("clb", {"port": 80, "nodePort": None}, {}, {}, "k8s/0/web/default/c1"),
        ("nlb", HTTP, {}, {}, "k8s.30698.TCP.web.default.c1"),
        ("nlb", HTTP, {"server-group-type": "ip"}, {}, "k8s.30698.TCP-ip.web.default.c1"),
        ("nlb", HTTP, {"backend-ip-version": "ipv6"}, {}, "k8s.30698.TCP-dualstack.web.default.c1"),
    ],
)
def test_the_group_of_a_port(
    kind: str, port: dict[str, Any], annotations: dict[str, str], spec: dict[str, Any], name: str
) -> None:
    requested = service(port, annotations=annotations, **spec, **(NETWORK if kind == "nlb" else {}))
    (group,) = model_of(requested, BackendSnapshot()).groups
    assert group.name == name


def test_two_ports_that_lead_to_one_share_its_group() -> None:
    requested = service({"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080}, annotations=PODS)
    model = model_of(requested, BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=8080)], ENIS))
    assert [listener.group for listener in model.listeners] == ["k8s/8080/web/default/c1"] * 2
    assert [len(group.servers) for group in model.groups] == [1]


def test_whose_it_is() -> None:
    requested = service(HTTP)
    owner = owner_of(requested, CONFIGURATION)
    assert (owner.namespace, owner.service, owner.uid, owner.cluster) == ("default", "web", UID, "c1")
    port = (requested.spec.ports or [])[0]
    assert group_of(requested, port, options("clb", {}), CONFIGURATION) == "k8s/30698/web/default/c1"


def requested(**annotations: str) -> LoadBalancerModel:
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    return model_of(service(HTTP, annotations=given), BackendSnapshot([node("a")]))


def test_a_new_balancer_has_tags_of_ours_and_of_its_user() -> None:
    model = requested(additional_resource_tags="team=x,cost=")
    ours = {"kubernetes.do.not.delete": model.name, "ack.aliyun.com": "c1"}
    record = model.kind.naming.recorded({"team": "", "cost": ""}, model.owner)
    assert model.tags == {**record, "team": "x", "cost": "", **ours}


def test_nobody_tags_a_balancer_as_another_clusters() -> None:
    assert requested(additional_resource_tags="ack.aliyun.com=c2").tags["ack.aliyun.com"] == "c1"


def test_nobody_says_by_tags_for_whom_a_balancer_was_made() -> None:
    model = requested(additional_resource_tags="spiderpool.made-for=c1/other,kubernetes.reused.by.user=true,team=x")
    record = model.kind.naming.recorded({"team": "x"}, model.owner)
    assert set(model.tags) == {"kubernetes.do.not.delete", "ack.aliyun.com", *record}
    assert model.origin == {"spiderpool.made-for": "c1/default"}


def test_a_server_group_of_the_user_has_the_servers_of_its_ports() -> None:
    given = {"id": "lb-u", "vgroup-port": "rsp-1:80,rsp-1:443", "weight": "10", "force-override-listeners": "true"}
    model = model_of(service(HTTP, SECURE, {"port": 81}, annotations=given), BackendSnapshot([node("a"), node("b")]))
    lent, own = model.groups
    assert (lent.name, lent.identity, lent.is_lent, lent.settings) == ("rsp-1", "rsp-1", True, {})
    assert {(each.identity, each.port, each.weight, each.description) for each in lent.servers} == {
        ("i-a", 30698, 5, "k8s/30698/web/default/c1"),
        ("i-b", 30698, 5, "k8s/30698/web/default/c1"),
        ("i-a", 30443, 5, "k8s/30443/web/default/c1"),
        ("i-b", 30443, 5, "k8s/30443/web/default/c1"),
    }
    assert not own.is_lent
    assert [each.group for each in model.listeners] == ["rsp-1", "rsp-1", own.name]
    assert model.lent_groups == ("rsp-1",)


def test_a_lent_balancer_is_left_as_it_is_but_for_its_listeners_if_its_user_says_so() -> None:
    model = requested(id="lb-u", delete_protection="off")
    assert (model.reuse, model.creation, model.fixed, model.settings, model.tags) == ("lb-u", {}, {}, {}, {})
    named = requested(id="lb-u", address_type="intranet", additional_resource_tags="a=b")
    assert named.fixed == {"AddressType": "intranet"}
    assert named.tags == model.kind.naming.recorded({"a": "b"}, model.owner)
    assert not model.manages_listeners
    assert requested(id="lb-u", force_override_listeners="true").manages_listeners
    assert requested(force_override_listeners="false").manages_listeners


def test_a_name_of_the_users_choice() -> None:
    model = requested(name="shop")
    assert (model.name, model.settings["LoadBalancerName"]) == ("shop", "shop")
    assert model.tags["kubernetes.do.not.delete"] == balancer_name(model.owner)


def test_what_else_is_asked_for() -> None:
    assert (requested().hostname, requested().keeps_weights) == ("", False)
    assert requested(hostname="web.example.com").hostname == "web.example.com"
    assert requested(ignore_weight_update="on").keeps_weights


def test_a_model_says_how_long_its_servers_take_to_be_found_well() -> None:
    assert model_of(service(HTTP), BackendSnapshot([node("a")])).settling == 7.0


def test_source_ranges_make_a_list() -> None:
    model = model_of(service(HTTP, loadBalancerSourceRanges=["10.0.0.0/8"]), BackendSnapshot([node("a")]))
    assert model.sources is not None
    assert model.sources.entries == {"10.0.0.0/8"}
    assert {each.settings["AclId"] for each in model.listeners} == {model.sources.name}
    assert model_of(service(HTTP), BackendSnapshot([node("a")])).sources is None
