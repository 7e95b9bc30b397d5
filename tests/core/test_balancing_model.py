"""What a Service, its endpoints and the nodes ask for: tables that can be read against the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spiderpool.core.balancing import PREFIX, Configuration, Server, World, faults, kind_of, owner_of, read
from spiderpool.core.balancing.annotations import ANNOTATIONS, BACKEND_TYPE, BOTH, CLASS, LEGACY_PREFIX
from spiderpool.core.balancing.backends import refusal
from spiderpool.core.balancing.naming import balancer_name, group_name, is_part_of, part_name
from spiderpool.core.balancing.values import Owner
from tests.core.pretend_balancers import CONFIGURATION, UID, endpoints, model_of, node, service

pytestmark = pytest.mark.unit

HTTP = {"port": 80, "nodePort": 30698}
TWO_ZONES = "cn-hangzhou-h:vsw-h,cn-hangzhou-i:vsw-i"
THREE_PODS = endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"))


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({}, "clb"),
        ({"type": "ClusterIP"}, None),
        ({"loadBalancerClass": "alibabacloud.com/nlb"}, "nlb"),
        ({"loadBalancerClass": "example.com/other"}, None),
        ({"annotations": {CLASS: "mine"}}, None),
        ({"annotations": {"type": "NLB"}}, "nlb"),
        ({"loadBalancerClass": "example.com/other", "annotations": {"type": "nlb"}}, None),
    ],
)
def test_a_service_asks_for_one_kind(spec: dict[str, Any], kind: str | None) -> None:
    assert kind_of(service(HTTP, **spec)) == kind


def test_the_layer_4_service_of_the_walkthrough() -> None:
    asked = service({"port": 999, "nodePort": 32635}, externalTrafficPolicy="Local")
    model = model_of(asked, World([node("a"), node("b"), node("c")], [THREE_PODS]))
    (listener,) = model.listeners
    assert (str(listener), listener.description) == ("tcp/999", "k8s/999/web/default/c1")
    assert listener.group == "k8s/32635/web/default/c1"
    assert listener.settings["Bandwidth"] == "-1"
    assert listener.settings["HealthCheckSwitch"] == "on"
    (group,) = model.groups
    assert group.servers == {Server("i-a", "ecs", 32635, 2), Server("i-b", "ecs", 32635, 1)}
    assert model.tags == {"kubernetes.do.not.delete": model.name, "ack.aliyun.com": "c1"}
    assert model.fixed == {"AddressType": "internet", "AddressIPVersion": "ipv4"}


def test_the_layer_7_service_of_the_walkthrough() -> None:
    model = model_of(service(HTTP, annotations={"protocol-port": "http:80"}), World([node("a")]))
    (listener,) = model.listeners
    assert str(listener) == "http/80"
    assert listener.settings["HealthCheck"] == "off"
    assert listener.settings["StickySession"] == "off"


@pytest.mark.parametrize(
    ("policy", "servers"),
    [
        ("Cluster", {("i-a", 100), ("i-b", 100), ("i-c", 100)}),
        ("Local", {("i-a", 2), ("i-b", 1)}),
    ],
)
def test_nodes_as_backends(policy: str, servers: set[tuple[str, int]]) -> None:
    asked = service(HTTP, externalTrafficPolicy=policy)
    (group,) = model_of(asked, World([node("a"), node("b"), node("c")], [THREE_PODS])).groups
    assert {(server.identity, server.weight) for server in group.servers} == servers
    assert {server.port for server in group.servers} == {30698}


def test_pods_that_are_not_ready_or_of_another_port_or_family_weigh_nothing() -> None:
    slices = [
        endpoints(("10.0.0.1", "a"), ready=False),
        endpoints(("10.0.0.2", "a"), name="other"),
        endpoints(("fd00::1", "a"), family="IPv6"),
        endpoints(("10.0.0.4", "a"), protocol="UDP"),
    ]
    (group,) = model_of(service(HTTP, externalTrafficPolicy="Local"), World([node("a")], slices)).groups
    assert group.servers == frozenset()


def test_pods_as_backends() -> None:
    asked = service(HTTP, annotations={BACKEND_TYPE: "eni"})
    cards = {"10.0.0.1": "eni-1", "10.0.0.2": "eni-1"}
    model = model_of(asked, World([], [endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"))], cards))
    (group,) = model.groups
    assert group.name == "k8s/80/web/default/c1"
    assert group.servers == {
        Server("eni-1", "eni", 80, 100, "10.0.0.1"),
        Server("eni-1", "eni", 80, 100, "10.0.0.2"),
    }
    assert group.keep == {("10.0.0.3", 80)}
    assert model.unresolved == ("10.0.0.3",)


@pytest.mark.parametrize(
    ("asked", "annotations", "reason"),
    [
        (node("a"), {}, None),
        (node("a", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""}), {}, "label node.kub"),
        (node("a", labels={"alpha.service-controller.kubernetes.io/exclude-balancer": ""}), {}, "label alpha"),
        (node("a", labels={"service.alibabacloud.com/exclude-node": ""}), {}, "label service.ali"),
        (node("a", taints=[{"key": "ToBeDeletedByClusterAutoscaler"}]), {}, "taint ToBeDeleted"),
        (node("a", labels={"type": "virtual-kubelet"}), {}, "no machine"),
        (node("a", unschedulable=True), {}, None),
        (node("a", unschedulable=True), {"remove-unscheduled-backend": "on"}, "cordoned"),
        (node("a", labels={"role": "edge"}), {"backend-label": "role=edge"}, None),
        (node("a", labels={"role": "edge"}), {"backend-label": "role=edge,zone=h"}, "no label zone=h"),
        (node("a", providerID="alicloud://cn-hangzhou.i-a"), {}, None),
        (node("a", providerID="ack-hybrid://x.y"), {}, "names no instance"),
        (node("a", providerID=""), {}, "names no instance"),
        (node("a", providerID="cn.hangzhou.i-a"), {}, "names no instance"),
    ],
)
def test_which_nodes_are_backends(asked: Any, annotations: dict[str, str], reason: str | None) -> None:
    options = read({PREFIX + key: value for key, value in annotations.items()}, "clb")
    found = refusal(asked, options)
    assert found is None if reason is None else reason in (found or "")


def test_nodes_that_are_not_ready_are_left_out_unless_none_is() -> None:
    def servers(*ready: bool) -> set[str]:
        nodes = [node(name, ready=each) for name, each in zip("abc", ready, strict=True)]
        return {server.identity for server in model_of(service(HTTP), World(nodes)).groups[0].servers}

    assert servers(True, False, True) == {"i-a", "i-c"}
    assert servers(False, False, False) == {"i-a", "i-b", "i-c"}


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"bandwidth": "0"}, "1–5120 Mbit/s, not '0'"),
        ({"scheduler": "best"}, "must be one of wrr"),
        ({"health-check-interval": "51"}, "1–50 s"),
        ({"health-check-connect-port": "-1"}, "or -520"),
        ({"protocol-port": "http"}, "must be protocol:port"),
        ({"protocol-port": "http:81"}, "which the Service does not have"),
        ({"protocol-port": "udp:80"}, "cannot be udp"),
        ({"protocol-port": "https:80"}, "cert-id is missing"),
        ({"forward-port": "80:443"}, "needs protocol-port"),
        ({"acl-status": "on"}, "acl-id is missing"),
        ({"sticky-session": "on", "sticky-session-type": "server"}, "cookie is missing"),
        ({"additional-resource-tags": ",".join(f"k{n}=v" for n in range(9))}, "at most 8"),
        ({BACKEND_TYPE: "pod"}, "must be eni"),
    ],
)
def test_values_that_cannot_be_right(annotations: dict[str, str], said: str) -> None:
    asked = service(HTTP, annotations=annotations)
    found = faults(asked, read(asked.metadata.annotations or {}, "clb"), CONFIGURATION)
    assert any(said in each for each in found), found


def test_a_network_balancer_needs_two_zones_unless_it_is_lent() -> None:
    def found(**annotations: str) -> tuple[str, ...]:
        asked = service(HTTP, annotations={key.replace("_", "-"): value for key, value in annotations.items()})
        return faults(asked, read(asked.metadata.annotations or {}, "nlb"), CONFIGURATION)

    assert "zone-maps is missing" in found()[0]
    assert "at least two" in found(zone_maps="cn-hangzhou-h:vsw-h")[0]
    assert found(zone_maps=TWO_ZONES) == ()
    assert found(id="nlb-1") == ()


@pytest.mark.parametrize(
    ("families", "annotations", "enabled", "said"),
    [
        (["IPv4"], {}, False, None),
        (["IPv4", "IPv6"], {}, False, None),
        (["IPv6", "IPv4"], {}, False, None),
        (["IPv6"], {}, False, "add IPv4 to them"),
        (["IPv6"], {"backend-ip-version": "ipv6", "ip-version": "ipv6"}, False, "unless IPv6 backends are enabled"),
        (["IPv6"], {"backend-ip-version": "ipv6"}, True, "of a balancer that is not ipv6"),
        (["IPv6"], {"backend-ip-version": "ipv6", "ip-version": "ipv6"}, True, None),
        (["IPv4"], {"backend-ip-version": "ipv6", "ip-version": "ipv6"}, True, "add IPv6 to them"),
    ],
)
def test_ipv6_servers_are_refused_before_the_cloud_is_asked(
    families: list[str], annotations: dict[str, str], enabled: bool, said: str | None
) -> None:
    asked = service(HTTP, ipFamilies=families, annotations=annotations)
    options = read(asked.metadata.annotations or {}, "clb")
    found = faults(asked, options, Configuration(cluster="c1", ipv6_backends=enabled))
    assert (said is None) == (not found)
    assert said is None or said in found[0]
    assert said is None or said == "add IPv6 to them" or "ServerGroupNotSupportIpv6" in found[0]


def test_the_older_prefix_holds_where_the_newer_is_absent() -> None:
    older = {LEGACY_PREFIX + "bandwidth": "7", LEGACY_PREFIX + "spec": "slb.s2.small", PREFIX + "bandwidth": "8"}
    options = read(older, "clb")
    assert (options["bandwidth"], options["spec"]) == ("8", "slb.s2.small")


def test_annotations_without_effect_are_said() -> None:
    given = {PREFIX + "bandwith": "7", PREFIX + "zone-maps": "x", PREFIX + "vgroup-port": "x"}
    found = read(given, "clb").remarks
    assert "did you mean bandwidth?" in found[0]
    assert "not supported" in found[1]
    assert "for network load balancers" in found[2]


def test_every_default_is_valid() -> None:
    for each in ANNOTATIONS:
        assert not each.default or each.check.read(each.default) == each.default, each.suffix
    for kind in BOTH:
        suffixes = [each.suffix for each in ANNOTATIONS if kind in each.kinds]
        assert len(suffixes) == len(set(suffixes))


def test_names_say_whose_a_part_is() -> None:
    owner = Owner("default", "web", UID, "c1")
    assert balancer_name(owner) == "a0a1b2c3d4e5f60718293a4b5c6d7e8f"
    assert part_name("nlb", 80, "tcp", owner) == "k8s.80.tcp.web.default.c1"
    for kind in BOTH:
        name = part_name(kind, 80, "tcp", owner)
        assert is_part_of(kind, name, owner)
        for other in (
            Owner("default", "web2", UID, "c1"),
            Owner("other", "web", UID, "c1"),
            Owner("default", "web", UID, "c2"),
        ):
            assert not is_part_of(kind, part_name(kind, 80, "tcp", other), owner)
        assert not is_part_of(kind, "mine", owner)
        assert not is_part_of(kind, name.replace("80", "80/x" if kind == "clb" else "80.x"), owner)


def test_names_that_are_too_long_carry_a_digest() -> None:
    long = Owner("n" * 63, "s" * 63, UID, "c1")
    for kind in BOTH:
        name = group_name(kind, 80, "tcp", long)
        assert len(name) <= 128
        assert is_part_of(kind, name, long)
        assert not is_part_of(kind, name, Owner("n" * 63, "t" * 63, UID, "c1"))


def test_redirects_lead_from_http_to_https() -> None:
    given = {"protocol-port": "http:80,https:443", "forward-port": "80:443", "cert-id": "crt"}
    model = model_of(service(HTTP, {"port": 443}, annotations=given), World())
    plain, secure = model.listeners
    assert (plain.group, plain.settings) == ("", {"ListenerForward": "on", "ForwardPort": "443"})
    assert secure.settings["ServerCertificateId"] == "crt"
    assert len(model.groups) == 1


def test_a_network_balancer() -> None:
    asked = service(
        HTTP,
        {"port": 53, "protocol": "UDP", "nodePort": 30053},
        {"port": 443, "nodePort": 30443},
        loadBalancerClass="alibabacloud.com/nlb",
        annotations={
            "zone-maps": TWO_ZONES,
            "protocol-port": "TCPSSL:443",
            "cert-id": "crt",
            "ip-version": "dualstack",
        },
    )
    model = model_of(asked, World([node("a")]))
    assert [str(listener) for listener in model.listeners] == ["tcp/80", "udp/53", "tcpssl/443"]
    assert [group.name.split(".web")[0] for group in model.groups] == [
        "k8s.30698.tcp",
        "k8s.30053.udp",
        "k8s.30443.tcpssl",
    ]
    assert [group.settings["Protocol"] for group in model.groups] == ["TCP", "UDP", "TCP"]
    assert [group.settings["PreserveClientIpEnabled"] for group in model.groups] == ["true", "true", "false"]
    assert model.fixed["ZoneMappings"] == TWO_ZONES
    assert model.fixed["AddressIpVersion"] == "DualStack"
    assert owner_of(asked, CONFIGURATION).uid == UID


def test_the_reference_names_every_annotation() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/load-balancer-annotations.md").read_text()
    kinds = {("clb",): "C", ("nlb",): "N", BOTH: "C N"}
    for each in ANNOTATIONS:
        row = f"| `{each.suffix}` | {kinds[each.kinds]} | {each.meaning} | {each.check} | {each.default or '–'} |"
        assert row in text, row
