"""Cases of listeners: protocols, redirects, certificates, health checks and ranges of ports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.planning import plan
from tests.core.cloud.alibaba.reference_cases.playing import (
    PODS,
    brief,
    changes,
    classic,
    either,
    judged,
    network,
    said,
    servers,
)
from tests.core.pretend_balancers import HTTP, KINDS, SECURE, endpoints, reached

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])
DNS = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
WEB = {"protocol-port": "http:80"}
TLS = {"protocol-port": "https:443", "cert-id": "crt"}
TCPSSL = {"protocol-port": "tcpssl:443", "cert-id": "crt"}
REDIRECTED = {"protocol-port": "http:80,https:443", "cert-id": "crt", "forward-port": "80:443"}
SET = "change listener tcp/80:"
OF_PODS = BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=8080)], {"10.0.0.1": "eni-1"})


def on_port_80(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What another annotation changes of a classic balancer with one TCP port."""
    return changes(classic(annotations=before), classic(annotations=after))


@shows("a scheduler")
@BOTH
def test_a_scheduler(kind: str) -> None:
    default, other = (either(kind, annotations=each) for each in ({}, {"scheduler": "rr"}))
    (step,) = changes(default, other)
    assert step.endswith({"clb": "tcp/80: Scheduler wrr → rr", "nlb": "web.default.c1: Scheduler Wrr → rr"}[kind])


@shows("the scheduler by default", "scheduler")
def test_the_scheduler_by_default() -> None:
    assert reached(classic(), None).listeners[0].settings["Scheduler"] == "wrr"


@shows("an access list")
def test_an_access_list() -> None:
    first, second = ({"acl-status": "on", "acl-id": text, "acl-type": "black"} for text in ("acl-1", "acl-1,acl-2"))
    assert on_port_80({}, first) == [f"{SET} AclStatus off → on, AclId (none) → acl-1, AclType (none) → black"]
    assert on_port_80(first, second) == [f"{SET} AclId acl-1 → acl-1,acl-2"]
    assert on_port_80(second, {}) == [f"{SET} AclStatus on → off"]


@shows("access lists in another order")
def test_access_lists_in_another_order() -> None:
    one, other = ({"acl-status": "on", "acl-id": text} for text in ("acl-1,acl-2", "acl-2,acl-1"))
    assert on_port_80(one, other) == []


@shows("headers and time-outs of HTTP")
def test_headers_and_time_outs_of_http() -> None:
    more = {
        "xforwardedfor-proto": "on",
        "xforwardedfor-slbport": "on",
        "xforwardedfor-clientsrcport": "on",
        "idle-timeout": "30",
        "request-timeout": "90",
    }
    assert on_port_80(WEB, WEB | more) == [
        "change listener http/80: IdleTimeout 15 → 30, RequestTimeout 60 → 90, XForwardedFor_proto off → on, "
        "XForwardedFor_SLBPORT off → on, XForwardedFor_ClientSrcPort off → on"
    ]
    steps = on_port_80({}, {"established-timeout": "60", "persistence-timeout": "30"})
    assert steps == [f"{SET} PersistenceTimeout 0 → 30, EstablishedTimeout 900 → 60"]


@shows("health checks of layer 4")
def test_health_checks_of_layer_4() -> None:
    http = {"health-check-type": "http", "health-check-uri": "/healthz", "healthy-threshold": "4"}
    (step,) = on_port_80({}, http)
    assert step.startswith(
        f"{SET} HealthyThreshold 3 → 4, HealthCheckType tcp → http, HealthCheckURI (none) → /healthz"
    )
    assert on_port_80({}, {"health-check-switch": "off"}) == [f"{SET} HealthCheckSwitch on → off"]
    (step,) = changes(network(), network(annotations=http))
    assert "HealthCheckConfig.HealthCheckType TCP → HTTP" in step
    assert "HealthCheckConfig.HealthCheckUrl (none) → /healthz" in step


@shows("health checks of HTTP listeners")
def test_health_checks_of_http_listeners() -> None:
    (step,) = on_port_80(WEB, {**WEB, "health-check-flag": "on", "health-check-uri": "/healthz"})
    assert step.startswith("change listener http/80: HealthCheck off → on")
    assert "HealthCheckURI (none) → /healthz" in step


@shows("a health check by UDP")
def test_a_health_check_by_udp() -> None:
    model = network(HTTP, DNS, annotations={"health-check-type": "udp"})
    kinds = {group.settings["Protocol"]: group.settings["HealthCheckConfig.HealthCheckType"] for group in model.groups}
    assert kinds == {"TCP": "TCP", "UDP": "UDP"}
    (note,) = said(judged(HTTP, DNS, kind=NLB, annotations={"health-check-type": "udp"}).notes)
    assert note == "annotation health-check-type UDP has no effect on port 80, which is not UDP: the check is TCP there"


@shows("sticky sessions by a cookie")
def test_sticky_sessions_by_a_cookie() -> None:
    insert = {**WEB, "sticky-session": "on", "cookie-timeout": "60"}
    server = {**WEB, "sticky-session": "on", "sticky-session-type": "server", "cookie": "web"}
    assert on_port_80(WEB, insert) == [
        "change listener http/80: StickySession off → on, StickySessionType (none) → insert, CookieTimeout (none) → 60"
    ]
    assert on_port_80(insert, server) == [
        "change listener http/80: StickySessionType insert → server, Cookie (none) → web"
    ]


@shows("connections of servers that are removed", "connection-drain", "connection-drain-timeout")
def test_connections_of_servers_that_are_removed() -> None:
    drain = {"connection-drain": "on", "connection-drain-timeout": "30"}
    assert on_port_80({}, drain) == [f"{SET} ConnectionDrain off → on, ConnectionDrainTimeout (none) → 30"]
    assert changes(classic(DNS), classic(DNS, annotations=drain)) == []
    (step,) = changes(network(), network(annotations=drain))
    assert step.endswith("ConnectionDrainEnabled false → true, ConnectionDrainTimeout (none) → 30")
    (fault,) = said(judged(kind=NLB, annotations={"connection-drain-timeout": "0"}).faults)
    assert "10–900" in fault


@shows("a protocol that does not fit the Service's port", "a protocol for a port that the Service lacks")
@pytest.mark.parametrize("text", ["udp:80", "tcp:8080"])
@BOTH
def test_a_protocol_for_what_the_service_lacks(kind: str, text: str) -> None:
    model, found = (
        either(kind, annotations={"protocol-port": text}),
        judged(kind=KINDS[kind], annotations={"protocol-port": text}),
    )
    transport, _, port = text.upper().partition(":")
    assert said(found.notes) == [
        f"annotation protocol-port: {text} has no effect: the Service has no {transport} port {port}"
    ]
    assert not found.faults
    assert [str(each) for each in model.listeners] == ["tcp/80"]


@shows("certificates for further domains")
def test_certificates_for_further_domains() -> None:
    none, two, other, empty = (
        classic(SECURE, annotations=TLS | each)
        for each in ({}, *({"domain-extensions": text} for text in ("a.b:c1,c.d:c2", "a.b:c3", "")))
    )
    change = "change listener https/443: DomainExtensions"
    assert changes(none, two) == [f"{change} (none) → a.b:c1,c.d:c2"]
    assert changes(two, other) == [f"{change} a.b:c1,c.d:c2 → a.b:c3"]
    assert changes(other, empty) == [f"{change} a.b:c3 → (none)"]
    assert changes(two, none) == [], "without the annotation they stay"


@shows("a redirect to https: on, off, and to another port")
def test_a_redirect_to_https() -> None:
    further = {"port": 444, "nodePort": 30444}
    plain = {**REDIRECTED, "protocol-port": "http:80,https:443,https:444"}
    to_443 = classic(HTTP, SECURE, further, annotations=plain)
    to_444 = classic(HTTP, SECURE, further, annotations=plain | {"forward-port": "80:444"})
    off = classic(HTTP, SECURE, further, annotations={key: plain[key] for key in plain if key != "forward-port"})
    assert brief(changes(off, to_443)) == [
        "delete listener http/80",
        "create listener http/80",
        "delete server group k8s/30698/web/default/c1",
    ]
    assert brief(changes(to_443, to_444)) == ["delete listener http/80", "create listener http/80"]
    assert reached(to_444, None).listeners[-1].settings == {"ListenerForward": "on", "ForwardPort": "444"}
    back = brief(changes(to_443, off))
    assert back[:2] == ["create server group k8s/30698/web/default/c1", "add to k8s/30698/web/default/c1"]
    assert [step.split(" to ")[0] for step in back[2:]] == ["delete listener http/80", "create listener http/80"]


@shows("a redirect whose http port is gone")
@pytest.mark.parametrize("protocols", ["http:80,https:443", "https:443"])
def test_a_redirect_whose_http_port_is_gone(protocols: str) -> None:
    annotations = {**REDIRECTED, "protocol-port": protocols}
    found = judged(SECURE, annotations=annotations)
    assert not found.faults
    assert said(found.notes)[-1] == "annotation forward-port: 80:443 has no effect: the Service has no TCP port 80"
    assert brief(changes(classic(HTTP, SECURE, annotations=REDIRECTED), classic(SECURE, annotations=annotations))) == [
        "delete listener http/80"
    ]


@shows("ports are added and taken away", "spec.ports")
@BOTH
def test_ports_are_added_and_taken_away(kind: str) -> None:
    one, two = either(kind, HTTP), either(kind, HTTP, SECURE)
    added, gone = changes(one, two), changes(two, one)
    assert [step.split()[0] for step in added] == ["create", "add", "create"]
    assert [step.split()[0] for step in gone] == ["delete", "delete"]
    (fault,) = said(judged({"port": 7, "protocol": "SCTP"}, kind=KINDS[kind]).faults)
    assert fault == "port 7 is SCTP, which the balancer cannot forward: remove it"


@shows("TCP and UDP on one port number")
@BOTH
def test_tcp_and_udp_on_one_port_number(kind: str) -> None:
    tcp = {**DNS, "protocol": "TCP", "nodePort": 30054}
    model = either(kind, DNS, tcp)
    assert sorted(str(each) for each in reached(model, None).listeners) == ["tcp/53", "udp/53"]
    assert len(model.groups) == 2


@shows("a listener is deleted by hand")
@BOTH
def test_a_listener_is_deleted_by_hand(kind: str) -> None:
    model = either(kind, HTTP, SECURE)
    observed = reached(model, None)
    (step,) = plan(model, replace(observed, listeners=observed.listeners[1:]))
    assert str(step).startswith("create listener tcp/80 to ")


@shows("the PROXY protocol")
def test_the_proxy_protocol() -> None:
    on = {"proxy-protocol": "on"}
    assert on_port_80({}, on) == [f"{SET} ProxyProtocolV2Enabled false → true"]
    assert changes(network(), network(annotations=on)) == [f"{SET} ProxyProtocolEnabled false → true"]
    assert changes(network(annotations=on), network()) == [f"{SET} ProxyProtocolEnabled true → false"]


@shows("TCP becomes TCPSSL, and the other way round")
def test_tcp_becomes_tcpssl() -> None:
    tcp, tls = network(SECURE), network(SECURE, annotations=TCPSSL)
    assert [step.split()[0] for step in changes(tcp, tls)] == ["create", "add"], (
        "it moves when the new servers are well"
    )
    assert [str(each) for each in reached(tls, reached(tcp, None)).listeners] == ["tcpssl/443"]
    assert reached(tcp, reached(tls, None)).listeners[0].protocol == "tcp"


@shows("TCP becomes UDP")
def test_tcp_becomes_udp() -> None:
    tcp, udp = network({**DNS, "protocol": "TCP"}), network(DNS)
    after = reached(udp, reached(tcp, None))
    assert [str(each) for each in after.listeners] == ["udp/53"]
    assert [group.settings["Protocol"] for group in after.groups] == ["UDP"]


@shows("ALPN, clients' certificates, new connections per second, idle connections, ciphers")
def test_settings_of_tcpssl() -> None:
    more = {
        "alpn": "on",
        "alpn-policy": "http2only",
        "cacert": "on",
        "cacert-id": "ca",
        "cps": "100",
        "idle-timeout": "60",
        "tls-cipher-policy": "tls_cipher_policy_1_2",
    }
    plain, full = network(SECURE, annotations=TCPSSL), network(SECURE, annotations=TCPSSL | more)
    assert changes(plain, full) == [
        "change listener tcpssl/443: IdleTimeout 900 → 60, Cps 0 → 100, "
        "SecurityPolicyId tls_cipher_policy_1_0 → tls_cipher_policy_1_2, CaEnabled false → true, AlpnEnabled false → "
        "true, CaCertificateIds (none) → ca, AlpnPolicy (none) → HTTP2Only"
    ]
    (back,) = changes(full, plain)
    assert "CaEnabled true → false" in back
    assert "AlpnEnabled true → false" in back


@shows("ports of several protocols")
def test_ports_of_several_protocols() -> None:
    observed = reached(network(HTTP, SECURE, DNS, annotations=TCPSSL), None)
    assert sorted(str(each) for each in observed.listeners) == ["tcp/80", "tcpssl/443", "udp/53"]
    layers = {"protocol-port": "http:80,https:443", "cert-id": "crt"}
    observed = reached(classic(HTTP, SECURE, DNS, annotations=layers), None)
    assert sorted(str(each) for each in observed.listeners) == ["http/80", "https/443", "udp/53"]


@shows("further certificates of TCPSSL")
def test_further_certificates_of_tcpssl() -> None:
    none, two, other, empty = (
        network(SECURE, annotations=TCPSSL | each)
        for each in ({}, *({"additional-cert-ids": text} for text in ("c2,c1", "c3", "")))
    )
    change = "change listener tcpssl/443: AdditionalCertificateIds"
    assert changes(none, two) == [f"{change} (none) → c1,c2"]
    assert changes(two, other) == [f"{change} c1,c2 → c3"]
    assert changes(other, empty) == [f"{change} c3 → (none)"]


@shows("what PROXY v2 tells of PrivateLink")
def test_what_proxy_v2_tells_of_privatelink() -> None:
    on = {"proxy-protocol": "on"}
    names = ("ppv2-pvl-vpc-id-enabled", "ppv2-pvl-ep-id-enabled", "ppv2-pvl-eps-id-enabled")
    alone, full, off = (
        network(annotations=on | each) for each in ({}, dict.fromkeys(names, "on"), dict.fromkeys(names, "off"))
    )
    told = reached(full, None).listeners[0].settings
    assert {key: value for key, value in told.items() if "Ppv2" in key} == {
        "ProxyProtocolV2Config.Ppv2VpcIdEnabled": "true",
        "ProxyProtocolV2Config.Ppv2PrivateLinkEpIdEnabled": "true",
        "ProxyProtocolV2Config.Ppv2PrivateLinkEpsIdEnabled": "true",
    }
    assert [len(step.split(", ")) for step in changes(alone, full)] == [3]
    assert [step.count("true → false") for step in changes(full, off)] == [3]
    (first, *_) = changes(network(), full)
    assert "ProxyProtocolEnabled false → true" in first


@shows("a range of ports", "several ranges, and one beside a single port")
def test_a_range_of_ports() -> None:
    target = {"port": 80, "targetPort": 8080}
    model = network(target, snapshot=OF_PODS, annotations={**PODS, "listener-port-range": "80-90:80"})
    (listener,), (group,) = model.listeners, model.groups
    assert (listener.settings["StartPort"], listener.settings["EndPort"]) == ("80", "90")
    assert (group.settings["AnyPortEnabled"], group.settings["HealthCheckConfig.HealthCheckConnectPort"]) == (
        "true",
        "8080",
    )
    assert servers(model) == {"eni-1/10.0.0.1:0 weight 100"}
    two = {**PODS, "listener-port-range": "80-90:80,500-510:443"}
    several = network(target, SECURE, {"port": 99, "nodePort": 30099}, snapshot=OF_PODS, annotations=two)
    assert [each.ports for each in reached(several, None).listeners] == [range(80, 91), range(500, 511), range(99, 100)]


@shows("a range of ports comes, changes and goes")
def test_a_range_of_ports_comes_changes_and_goes() -> None:
    single, small, large = (
        network(snapshot=OF_PODS, annotations=PODS | each)
        for each in ({}, *({"listener-port-range": text} for text in ("80-90:80", "80-95:80")))
    )
    seen = []
    for before, after in ((single, small), (small, large), (large, single)):
        assert [step.split()[0] for step in changes(before, after)] == ["create", "add"], "first the new servers"
        seen.append([each.ports for each in reached(after, reached(before, None)).listeners])
    assert seen == [[range(80, 91)], [range(80, 96)], [range(80, 81)]]


@shows("a range of ports with nodes as servers, or ranges that overlap")
def test_ranges_that_there_cannot_be() -> None:
    (fault,) = said(judged(kind=NLB, annotations={"listener-port-range": "80-90:80"}).faults)
    assert fault.startswith("annotation listener-port-range needs pods as servers")
    overlapping = {**PODS, "listener-port-range": "80-500:80"}
    (fault,) = said(judged(HTTP, SECURE, kind=NLB, annotations=overlapping).faults)
    assert fault == "annotation listener-port-range: ports 443 and 80 would listen on the same ports"
