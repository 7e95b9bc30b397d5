"""What must be corrected in a Service, as its Event says it, before the cloud is requested."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress
from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE, PREFIX
from spiderpool.core.cloud.loadbalancer.checking import are_backends_valid, faults, remarks
from spiderpool.core.cloud.loadbalancer.kinds import options_of, read_options
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from tests.core.pretend_balancers import CONFIGURATION, KINDS, service

pytestmark = pytest.mark.unit

HTTP = {"port": 80, "nodePort": 30698}
DNS = {"port": 53, "protocol": "UDP"}
TWO_ZONES = "cn-hangzhou-h:vsw-h,cn-hangzhou-i:vsw-i"
SECURE = {"protocol-port": "http:80,https:443", "cert-id": "crt"}
BY_SIZE = "instance-charge-type: PayBySpec"
IPV6 = {"backend-ip-version": "ipv6"}
BOTH_FAMILIES = {"backend-ip-version": "dualstack"}


def found(
    annotations: dict[str, str],
    *ports: dict[str, Any],
    kind: str = "clb",
    configuration: BalancerConfiguration = CONFIGURATION,
    **spec: Any,
) -> tuple[str, ...]:
    requested = service(*(ports or (HTTP, DNS)), annotations=annotations, **spec)
    return faults(requested, options_of(requested, KINDS[kind]), configuration)


def network(annotations: dict[str, str], configuration: BalancerConfiguration = CONFIGURATION) -> tuple[str, ...]:
    return found(annotations, kind="nlb", configuration=configuration)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"bandwidth": "0"}, "bandwidth must be a whole number, 1–5120 Mbit/s, not '0'"),
        ({BACKEND_TYPE: "pod"}, "must be eni (pods) or ecs (nodes), not 'pod'"),
        ({"protocol-port": "http:80,tcp:80"}, "protocol-port names TCP port 80 twice; keep one protocol of it"),
        ({"protocol-port": "https:80"}, "cert-id is missing: https listeners need a certificate"),
        ({"charge-type": "paybybandwidth"}, f"charge-type paybybandwidth needs annotation {PREFIX}{BY_SIZE}"),
        ({"acl-status": "on"}, "acl-id is missing: acl-status is on"),
        (
            {"sticky-session": "on", "sticky-session-type": "server"},
            "cookie is missing: sticky-session-type is server",
        ),
        ({"domain-extensions": "a.b:crt-1,A.B:crt-2"}, "domain-extensions names a domain twice"),
        ({"tunnel-type": "x"}, "says that other software serves this Service: remove it to have a balancer from us"),
        ({"external-ip-type": "eip"}, f"to which elastic IPs are bound: set {PREFIX}address-type: intranet"),
        ({"scheduler": "qch"}, "qch is for UDP alone, and the listener of port 80 is tcp"),
        ({"scheduler": "sch", "protocol-port": "http:80"}, "sch is not for http, which the listener of port 80 is"),
        (
            {"additional-resource-tags": ",".join(f"k{n}=v" for n in range(9))},
            "additional-resource-tags: a balancer has at most 8 beside ours",
        ),
    ],
)
def test_a_value_that_cannot_be_right_is_told(annotations: dict[str, str], said: str) -> None:
    (fault,) = found(annotations)
    assert fault.startswith("annotation service.beta.kubernetes.io/")
    assert fault.endswith(said)


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"protocol-port": "udp:53,tcp:80"},
        {"acl-status": "on", "acl-id": "acl-1"},
        {"acl-status": "off"},
        {"sticky-session": "on"},
        {"sticky-session": "on", "sticky-session-type": "server", "cookie": "JSESSIONID"},
        {"scheduler": "sch"},
        {"additional-resource-tags": ",".join(f"k{n}=v" for n in range(8))},
        {"address-type": "intranet"},
        {"id": "lb-1", "address-type": "intranet"},
        {"protocol-port": "http:81,udp:80,https:53"},
        {"forward-port": "80:443"},
        {"charge-type": "paybybandwidth", "instance-charge-type": "PayBySpec"},
        {"charge-type": "paybybandwidth", "id": "lb-1"},
        {"external-ip-type": "eip", "address-type": "intranet"},
        {"charge-type": "paybybandwidth", "address-type": "intranet"},
    ],
)
def test_a_service_that_is_right(annotations: dict[str, str]) -> None:
    assert found(annotations) == ()


def test_a_redirect_needs_both_its_ports() -> None:
    both = (HTTP, {"port": 443})
    assert found({**SECURE, "forward-port": "80:443"}, *both) == ()
    for half in ({"protocol-port": "http:80"}, {**SECURE, "protocol-port": "https:443"}):
        (fault,) = found({"cert-id": "crt", **half, "forward-port": "80:443"}, *both)
        assert fault.endswith("forward-port 80:443 needs protocol-port http:80,https:443")


@pytest.mark.parametrize(
    ("kind", "annotations", "said"),
    [
        ("clb", {"protocol-port": "http:80"}, []),
        ("clb", {"protocol-port": "http:81"}, ["protocol-port: http:81 has no effect: the Service has no TCP port 81"]),
        ("clb", {"protocol-port": "udp:80"}, ["protocol-port: udp:80 has no effect: the Service has no UDP port 80"]),
        ("nlb", {"protocol-port": "tcpssl:53"}, ["tcpssl:53 has no effect: the Service has no TCP port 53"]),
        ("clb", {"forward-port": "80:443"}, ["forward-port: 80:443 has no effect: the Service has no TCP port 443"]),
        ("clb", {"forward-port": "81:443"}, ["81:443 has no effect: the Service has no TCP port 81 and 443"]),
        ("clb", {"bandwith": "1"}, ["there is no such annotation; did you mean bandwidth?"]),
        ("nlb", {"health-check-type": "udp"}, ["on port 80, which is not UDP: the check is TCP there"]),
        ("nlb", {"ppv2-pvl-ep-id-enabled": "on"}, ["ppv2-pvl-ep-id-enabled has no effect without proxy-protocol: on"]),
        ("nlb", {"ppv2-pvl-ep-id-enabled": "on", "proxy-protocol": "on"}, []),
        ("clb", {"spec": "slb.s1.small"}, ["spec has no effect without instance-charge-type: PayBySpec"]),
        ("clb", {"bandwidth": "5"}, ["bandwidth has no effect without charge-type: paybybandwidth"]),
        (
            "clb",
            {"address-type": "intranet", "charge-type": "paybytraffic", "bandwidth": "5"},
            [
                "charge-type has no effect: the balancer is private",
                "bandwidth has no effect: the balancer is private",
            ],
        ),
    ],
)
def test_what_has_no_effect_is_said_and_refuses_nothing(
    kind: str, annotations: dict[str, str], said: list[str]
) -> None:
    requested = service(HTTP, DNS, annotations=annotations)
    listed = remarks(requested, options_of(requested, KINDS[kind]))
    assert [part in each for part, each in zip(said, listed, strict=True)] == [True] * len(said)


def test_a_balancer_that_was_made_with_another_way_of_paying_is_not_refused() -> None:
    sized = service(HTTP, annotations={"spec": "slb.s1.small", "bandwidth": "5"})
    sized.status.loadBalancer.ingress = [LoadBalancerIngress(ip="198.51.100.1")]
    assert remarks(sized, options_of(sized, KINDS["clb"])) == ()
    requested = service(HTTP, annotations={"charge-type": "paybybandwidth"})
    requested.status.loadBalancer.ingress = [LoadBalancerIngress(ip="198.51.100.1")]
    options = read_options(requested.metadata.annotations or {}, KINDS["clb"])
    assert faults(requested, options, CONFIGURATION) == ()


def test_a_hash_over_quic_is_for_services_of_udp_alone() -> None:
    assert found({"scheduler": "qch"}, DNS) == ()
    assert network({"scheduler": "qch", "zone-maps": TWO_ZONES})[0].endswith("the listener of port 80 is tcp")


@pytest.mark.parametrize(
    ("configuration", "annotations", "said"),
    [
        (BalancerConfiguration(), {"address-type": "intranet"}, "vswitch-id is missing: a private balancer needs one"),
        (BalancerConfiguration(), {"address-type": "intranet", "vswitch-id": "vsw-1"}, None),
        (BalancerConfiguration(), {"address-type": "intranet", "id": "lb-1"}, None),
        (BalancerConfiguration(public_allowed=False), {}, "public load balancers are switched off: set annotation "),
        (BalancerConfiguration(public_allowed=False), {"id": "lb-1"}, None),
        (BalancerConfiguration(public_allowed=False, vswitch="vsw-1"), {"address-type": "intranet"}, None),
    ],
)
def test_what_depends_on_the_installation(
    configuration: BalancerConfiguration, annotations: dict[str, str], said: str | None
) -> None:
    messages = found(annotations, configuration=configuration)
    assert [said in each for each in messages if said] == ([True] if said else [])
    assert bool(messages) is (said is not None)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"zone-maps": TWO_ZONES}, None),
        ({"id": "nlb-1"}, None),
        (
            {},
            "zone-maps is missing: a network load balancer needs zone:vswitch,zone:vswitch, or an administrator may set"
            " cloud.loadBalancers.zoneMaps for all",
        ),
        ({"zone-maps": "h:vsw-h"}, "zone-maps names one zone: a network load balancer needs at least two"),
        ({"id": "nlb-1", "cacert": "on"}, "cacert-id is missing: cacert is on"),
        ({"id": "nlb-1", "cacert": "on", "cacert-id": "ca"}, None),
        ({"id": "nlb-1", "protocol-port": "tcpssl:80"}, "cert-id is missing: tcpssl listeners need a certificate"),
        ({"id": "nlb-1", "protocol-port": "tcpssl:80", "cert-id": "crt"}, None),
        (
            {"id": "nlb-1", "protocol-port": "tcpssl:80", "cert-id": "crt", "preserve-client-ip": "on"},
            "preserve-client-ip cannot be on with TCPSSL",
        ),
        ({"id": "nlb-1", "preserve-client-ip": "on"}, None),
        ({"zone-maps": TWO_ZONES, "bandwidth-package-id": "cbwp-1"}, None),
        ({"zone-maps": TWO_ZONES, "bandwidth-package-id": "", "address-type": "intranet"}, None),
        (
            {"zone-maps": TWO_ZONES, "bandwidth-package-id": "cbwp-1", "address-type": "intranet"},
            f"is for public balancers: set {PREFIX}address-type: internet, or the package to an empty text",
        ),
        ({"zone-maps": TWO_ZONES, "ipv6-address-type": "intranet"}, f"needs {PREFIX}ip-version: dualstack"),
        ({"zone-maps": TWO_ZONES, "ipv6-address-type": "internet", "ip-version": "dualstack"}, None),
        ({"id": "nlb-1", "ipv6-address-type": "internet"}, None),
    ],
)
def test_a_network_balancer(annotations: dict[str, str], said: str | None) -> None:
    messages = network(annotations)
    assert [each.endswith(said) for each in messages if said] == ([True] if said else [])
    assert bool(messages) is (said is not None)


WEB = {"port": 80, "targetPort": 8080}
TLS = {"port": 443, "targetPort": 8443}


@pytest.mark.parametrize(
    ("text", "ports", "said"),
    [
        ("80-90:80", [WEB], None),
        ("80-90:80,91-99:443", [WEB, TLS], None),
        ("80-90:80", [WEB, {"port": 85, "protocol": "UDP"}], None),
        ("80-90:81", [WEB], None),
        ("90-80:80", [WEB], "listener-port-range: 90-80 is no range of ports"),
        ("80-80:80", [WEB], "listener-port-range: 80-80 is no range of ports"),
        ("0-80:80", [WEB], "listener-port-range: 0-80 is no range of ports"),
        ("80-65536:80", [WEB], "listener-port-range: 80-65536 is no range of ports"),
        ("400-500:80", [WEB, TLS], "ports 443 and 80 would listen on the same ports"),
        ("80-90:80,90-99:443", [WEB, TLS], "ports 443 and 80 would listen on the same ports"),
        ("80-90:80", [{"port": 80, "targetPort": "web"}], "port 80 needs a targetPort that is a number"),
    ],
)
def test_ranges_of_ports(text: str, ports: list[dict[str, Any]], said: str | None) -> None:
    given = {"zone-maps": TWO_ZONES, "listener-port-range": text, BACKEND_TYPE: "eni"}
    messages = found(given, *ports, kind="nlb")
    assert [said in each for each in messages if said] == ([True] if said else [])
    assert bool(messages) is (said is not None)


def test_ranges_of_ports_are_for_pods() -> None:
    (fault,) = network({"zone-maps": TWO_ZONES, "listener-port-range": "80-90:80"})
    assert fault.endswith(f"needs pods as servers: set annotation {BACKEND_TYPE}: eni")


def test_public_ipv6_addresses_can_be_switched_off() -> None:
    given = {"zone-maps": TWO_ZONES, "address-type": "intranet", "ip-version": "dualstack"}
    shut = BalancerConfiguration(vpc="vpc-1", public_allowed=False)
    assert network(given | {"ipv6-address-type": "intranet"}, shut) == ()
    (fault,) = network(given | {"ipv6-address-type": "internet"}, shut)
    assert fault.endswith(f"switched off: set annotation {PREFIX}ipv6-address-type: intranet")


def test_a_network_balancer_needs_the_clusters_vpc_unless_it_is_lent() -> None:
    (fault,) = network({"zone-maps": TWO_ZONES}, BalancerConfiguration())
    assert fault == (
        "the VPC of the cluster is not known: set cloud.loadBalancers.vpcID in the chart's values, or in conf.yml"
    )
    assert network({"id": "nlb-1"}, BalancerConfiguration()) == ()


@pytest.mark.parametrize(
    ("kind", "families", "annotations", "enabled", "said"),
    [
        ("clb", ["IPv4"], {}, False, None),
        ("clb", None, {}, False, None),
        ("clb", ["IPv4", "IPv6"], {}, False, None),
        ("clb", ["IPv6", "IPv4"], {}, False, None),
        ("clb", ["IPv6"], {}, False, "have IPv6 backends enabled for this cluster, and set"),
        ("clb", ["IPv6"], {}, True, "add IPv4 to them, or set"),
        ("clb", ["IPv6"], IPV6 | {"ip-version": "ipv6"}, False, "unless IPv6 backends are enabled"),
        ("clb", ["IPv6"], IPV6, True, "of a balancer that is not ipv6"),
        ("clb", ["IPv6"], IPV6 | {"ip-version": "ipv6"}, True, None),
        ("nlb", ["IPv6"], IPV6, True, "of a balancer that is not DualStack"),
        ("nlb", ["IPv6"], IPV6 | {"ip-version": "dualstack"}, True, None),
        ("nlb", ["IPv6"], {}, False, "ip-version: dualstack"),
        ("nlb", ["IPv4", "IPv6"], BOTH_FAMILIES, False, "unless IPv6 backends are enabled"),
        ("nlb", ["IPv4", "IPv6"], BOTH_FAMILIES, True, "backend-ip-version: dualstack and "),
        ("nlb", ["IPv4", "IPv6"], BOTH_FAMILIES | {"ip-version": "dualstack"}, True, None),
    ],
)
def test_ipv6_servers_are_refused_as_the_cloud_would(
    kind: str, families: list[str] | None, annotations: dict[str, str], enabled: bool, said: str | None
) -> None:
    configuration = BalancerConfiguration(vpc="vpc-1", ipv6_backends=enabled)
    lent = annotations | {"id": "lb-1"}
    messages = found(lent, kind=kind, configuration=configuration, ipFamilies=families)
    if said is None:
        assert messages == ()
    else:
        (fault,) = messages
        assert said in fault
        assert "(the cloud: ServerGroupNotSupportIpv6)" in fault


def test_ipv6_servers_of_a_service_that_has_none() -> None:
    configuration = BalancerConfiguration(ipv6_backends=True)
    (fault,) = found(IPV6 | {"ip-version": "ipv6"}, configuration=configuration, ipFamilies=["IPv4"])
    assert fault.endswith("backend-ip-version is ipv6, and this Service has ipFamilies ['IPv4']: add IPv6 to them")


def test_servers_of_both_families_of_a_service_with_one() -> None:
    configuration = BalancerConfiguration(vpc="vpc-1", ipv6_backends=True)
    given = BOTH_FAMILIES | {"ip-version": "dualstack", "id": "nlb-1"}
    (fault,) = found(given, kind="nlb", configuration=configuration, ipFamilies=["IPv4"])
    assert fault.endswith("backend-ip-version is dualstack, and this Service has ipFamilies ['IPv4']: add IPv6 to them")


@pytest.mark.parametrize(
    ("annotations", "families", "clear"),
    [
        ({}, ["IPv4"], True),
        ({"bandwidth": "many"}, ["IPv4"], True),
        ({"acl-status": "on"}, ["IPv4"], True),
        ({"default-weight": "many"}, ["IPv4"], False),
        ({BACKEND_TYPE: "pod"}, ["IPv4"], False),
        ({}, ["IPv6"], False),
    ],
)
def test_servers_are_kept_right_while_something_else_waits_for_its_correction(
    annotations: dict[str, str], families: list[str], clear: bool
) -> None:
    requested = service(HTTP, annotations=annotations, ipFamilies=families)
    options = read_options(requested.metadata.annotations or {}, KINDS["clb"])
    assert are_backends_valid(requested, options, CONFIGURATION) is clear


@pytest.mark.parametrize("both", ["tcp:53,udp:53", "udp:53,tcp:53", "https:53,udp:53", "udp:53,http:53", "udp:53"])
def test_tcp_and_udp_on_one_port_number_are_two_ports(both: str) -> None:
    annotations = {"protocol-port": both, "cert-id": "crt"}
    assert found(annotations, {"port": 53}, DNS) == ()
    assert found(annotations | {"protocol-port": "udp:53,tcp:53"}, DNS) == ()


SHUT = ["10.0.0.0/8"]
ALL = ["0.0.0.0/0"]
OLDER = "service.beta.kubernetes.io/load-balancer-source-ranges"


@pytest.mark.parametrize(
    ("kind", "annotations", "ranges", "said"),
    [
        (
            "clb",
            {"acl-status": "on", "acl-id": "acl-1"},
            SHUT,
            f"annotation {PREFIX}acl-id and annotation {PREFIX}acl-st",
        ),
        ("clb", {"acl-status": "off"}, SHUT, "loadBalancerSourceRanges and annotation"),
        ("nlb", {"security-group-ids": ""}, SHUT, f"annotation {PREFIX}security-group-ids both say who is admitted"),
        ("clb", {OLDER: "10.0.0.0/8", "acl-status": "off"}, [], f"{OLDER} and annotation {PREFIX}acl-status both say"),
        ("clb", {}, ["::/0"], "admits nobody, as the balancer has IPv4 addresses alone: add a range of these"),
        ("clb", {"ip-version": "ipv6"}, SHUT, "admits nobody, as the balancer has IPv6 addresses alone"),
        ("clb", {}, ["10.0.0.0/8", "office"], "'office' is no range of addresses such as 10.0.0.0/8"),
        (
            "clb",
            {},
            [f"10.0.{n // 256}.{n % 256}/32" for n in range(300)],
            "300 ranges, and the balancer's access list",
        ),
        ("nlb", {}, [f"10.0.0.{number}/32" for number in range(198)], "group has room for 197"),
        ("clb", {"id": "lb-1"}, SHUT, f"needs annotation {PREFIX}force-override-listeners: true, as the listeners"),
        ("nlb", {"id": "nlb-1"}, SHUT, "would be for all that use balancer nlb-1, which is yours: remove it, and put"),
    ],
)
def test_ranges_that_cannot_be_served(kind: str, annotations: dict[str, str], ranges: list[str], said: str) -> None:
    given = annotations if kind == "clb" or "id" in annotations else {"zone-maps": "a:v,b:w", **annotations}
    (fault,) = found(given, kind=kind, loadBalancerSourceRanges=ranges)
    assert said in fault


@pytest.mark.parametrize(
    ("kind", "annotations", "ranges"),
    [
        ("clb", {}, SHUT),
        ("clb", {OLDER: "10.0.0.0/8"}, []),
        ("clb", {"acl-status": "on", "acl-id": "acl-1"}, ALL),
        ("clb", {"id": "lb-1", "force-override-listeners": "true"}, SHUT),
        ("clb", {"ip-version": "ipv6"}, ["2001:db8::/32"]),
        ("clb", {}, [f"10.0.{n // 256}.{n % 256}/32" for n in range(299)]),
        ("nlb", {}, [f"10.0.0.{number}/32" for number in range(197)]),
        ("nlb", {"ip-version": "dualstack"}, SHUT),
        ("nlb", {"id": "nlb-1"}, ALL),
    ],
)
def test_ranges_that_are_served(kind: str, annotations: dict[str, str], ranges: list[str]) -> None:
    given = annotations if kind == "clb" or "id" in annotations else {"zone-maps": "a:v,b:w", **annotations}
    assert found(given, kind=kind, loadBalancerSourceRanges=ranges) == ()


@pytest.mark.parametrize(
    ("annotations", "ranges", "said"),
    [
        ({}, ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::/32 has no effect: the balancer has no IPv6 address"),
        ({"ip-version": "ipv6"}, ["10.0.0.0/8", "::/0"], "10.0.0.0/8 has no effect: the balancer has no IPv4 address"),
        (
            {"protocol-port": "http:80,https:443", "forward-port": "80:443", "cert-id": "crt"},
            SHUT,
            "has no effect on port 80, which does nothing but redirect clients",
        ),
    ],
)
def test_ranges_without_an_effect_are_told(annotations: dict[str, str], ranges: list[str], said: str) -> None:
    requested = service(HTTP, {"port": 443}, annotations=annotations, loadBalancerSourceRanges=ranges)
    (remark,) = remarks(requested, options_of(requested, KINDS["clb"]))
    assert said in remark


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("clb", {"loadBalancerIP": "1.2.3.4"}, "spec.loadBalancerIP is not served, the cloud chooses the address"),
        (
            "nlb",
            {"sessionAffinity": "ClientIP", "annotations": {"scheduler": "wrr"}},
            f"by tcp listeners: set it to None, and use annotation {PREFIX}scheduler: sch instead",
        ),
        (
            "clb",
            {"allocateLoadBalancerNodePorts": False, "annotations": {BACKEND_TYPE: "ecs"}},
            "so nodes cannot serve port 80, 443: set it to true, or ",
        ),
        ("clb", {"ports": [{"port": 9, "protocol": "SCTP"}]}, "port 9 is SCTP, which the balancer cannot forward"),
    ],
)
def test_fields_of_kubernetes_that_the_balancer_would_not_follow(kind: str, spec: dict[str, Any], said: str) -> None:
    annotations = {"id": "lb-1"} | spec.pop("annotations", {})
    ports = spec.pop("ports", [{"port": 80, "nodePort": None}, {"port": 443, "nodePort": None}])
    (fault,) = found(annotations, *ports, kind=kind, **spec)
    assert said in fault


@pytest.mark.parametrize(
    ("protocols", "said"),
    [
        ("http:80,https:443", f"set it to None, and use annotation {PREFIX}sticky-session: on instead"),
        ("http:80,tcp:443", f"http listeners: set it to None, and use annotation {PREFIX}sticky-session: on instead"),
        ("http:80,udp:443", "by http, udp listeners: set it to None"),  # no annotation fits both
        ("udp:443", f"by udp listeners: set it to None, and use annotation {PREFIX}scheduler: sch instead"),
    ],
)
def test_what_keeps_clients_at_a_server_fits_the_protocol_of_the_listeners(protocols: str, said: str) -> None:
    annotations = {"id": "lb-1", "protocol-port": protocols, "cert-id": "crt"}
    transport = "UDP" if "udp" in protocols else "TCP"
    ports = ({"port": 80}, {"port": 443, "protocol": transport})
    (fault,) = found(annotations, *ports, kind="clb", sessionAffinity="ClientIP")
    assert fault.endswith(said)


@pytest.mark.parametrize(
    ("kind", "annotations", "ports"),
    [
        ("clb", {}, [HTTP]),
        ("clb", {"scheduler": "sch"}, [HTTP, DNS]),
        ("clb", {"persistence-timeout": "60"}, [HTTP]),
        ("nlb", {}, [HTTP, DNS]),
        ("nlb", {"scheduler": "sch"}, [HTTP, DNS]),
    ],
)
def test_clients_are_kept_at_a_server(kind: str, annotations: dict[str, str], ports: list[dict[str, Any]]) -> None:
    given = {"id": "lb-1", **annotations}
    assert found(given, *ports, kind=kind, sessionAffinity="ClientIP") == ()


@pytest.mark.parametrize(("seconds", "said"), [(3600, False), (3601, True), (10800, False)])
def test_a_client_is_kept_for_an_hour_at_most(seconds: int, said: bool) -> None:
    config = {"clientIP": {"timeoutSeconds": seconds}}
    requested = service(HTTP, sessionAffinity="ClientIP", sessionAffinityConfig=config)
    remarked = remarks(requested, options_of(requested, KINDS["clb"]))
    assert [f"{seconds} s are too much for the balancer, which does 3600 s" in each for each in remarked] == [
        True
    ] * said


@pytest.mark.parametrize(
    ("annotations", "spec"),
    [
        ({}, {"loadBalancerSourceRanges": []}),
        ({}, {"loadBalancerSourceRanges": ALL}),
        ({"ip-version": "ipv6"}, {"loadBalancerSourceRanges": ["::/0", *ALL]}),
        ({"service.beta.kubernetes.io/load-balancer-source-ranges": "0.0.0.0/0"}, {}),
        ({}, {"loadBalancerIP": "", "sessionAffinity": "None", "allocateLoadBalancerNodePorts": True}),
        ({}, {"allocateLoadBalancerNodePorts": False}),  # the ports are there all the same
    ],
)
def test_fields_of_kubernetes_that_change_nothing(annotations: dict[str, str], spec: dict[str, Any]) -> None:
    assert found(annotations, **spec) == ()


def test_no_node_ports_are_needed_where_pods_are_the_servers() -> None:
    bare = {"port": 80, "nodePort": None}
    assert found({BACKEND_TYPE: "eni"}, bare, allocateLoadBalancerNodePorts=False) == ()
    by_default = BalancerConfiguration(pod_backends=True)
    assert found({}, bare, configuration=by_default, allocateLoadBalancerNodePorts=False) == ()
    assert found({}, bare, allocateLoadBalancerNodePorts=False) == ()
    requested = service(bare, allocateLoadBalancerNodePorts=False)
    options = read_options({BACKEND_TYPE: "ecs"}, KINDS["clb"])
    assert not are_backends_valid(requested, options, CONFIGURATION)  # else it would lose all servers
