"""The annotations of Alibaba Cloud's load balancers: names, values and defaults, for both kinds.

Names and values are those of Alibaba Cloud's own cloud controller manager, so that its Services work unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from spiderpool.core.cloud.loadbalancer.annotations import (
    Annotation,
    AnnotationTable,
    BackendTypeAnnotation,
    Number,
    OneOf,
    Words,
)

PREFIX = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
LEGACY_PREFIX = "service.beta.kubernetes.io/alicloud-loadbalancer-"
BACKEND_TYPE = "service.beta.kubernetes.io/backend-type"
CLASS = "service.beta.kubernetes.io/class"
"""With any value but the empty one: the Service is left alone, unless ``spec.loadBalancerClass`` is ours."""

CLB: tuple[str, ...] = ("clb",)
NLB: tuple[str, ...] = ("nlb",)
BOTH: tuple[str, ...] = ("clb", "nlb")
TITLES: Mapping[str, str] = {"clb": "classic", "nlb": "network"}
"""Name of a kind → the kind in plain words."""

ON_OFF = OneOf(("on", "off"))
TRUE_FALSE = OneOf(("true", "false"))
SWITCH = OneOf(("on", "off", "true", "false"))
IDENTITY = Words("an identity", r"[A-Za-z0-9._-]{1,128}")
IDENTITIES = Words("identities", r"[A-Za-z0-9._-]{1,128}", several=True)
SOME_IDENTITIES = Words("identities", r"[A-Za-z0-9._-]{1,128}", several=True, or_empty=True)
SOME_IDENTITY = Words("an identity", r"[A-Za-z0-9._-]{1,128}", or_empty=True)
PORTS = r"[0-9]{1,5}"
SCHEDULERS: Mapping[str, OneOf] = {
    "clb": OneOf(("wrr", "rr", "wlc", "sch", "tch", "qch")),
    "nlb": OneOf(("Wrr", "rr", "Wlc", "sch", "tch", "qch")),
}
"""Kind → schedulers as the API of that kind spells them."""


def _protocol_ports(*protocols: str) -> Words:
    return Words(f"protocol:port ({', '.join(protocols)})", rf"(?i:{'|'.join(protocols)}):{PORTS}", several=True)


ANNOTATIONS: tuple[Annotation, ...] = (
    Annotation("tunnel-type", BOTH, Words("a word", r"[!-~]{1,63}"), "", "other software serves the Service: refused"),
    Annotation("type", BOTH, OneOf(("clb", "nlb")), "", "kind of balancer, where the Service has no class"),
    Annotation("address-type", BOTH, OneOf(("internet", "intranet")), "internet", "public or private address"),
    Annotation("id", BOTH, IDENTITY, "", "use this balancer of yours"),
    Annotation("force-override-listeners", BOTH, TRUE_FALSE, "false", "manage the listeners of your balancer"),
    Annotation("name", BOTH, Words("a name", r"[\w一-鿿./-]{1,80}"), "", "name of a new balancer"),
    Annotation("resource-group-id", BOTH, IDENTITY, "", "resource group of a new balancer"),
    Annotation(
        "additional-resource-tags",
        BOTH,
        Words("key=value or key", r"[^=,]{1,64}(=[^=,]{0,128})?", several=True),
        "",
        "further tags",
    ),
    Annotation("delete-protection", BOTH, ON_OFF, "on", "nobody deletes it by mistake"),
    Annotation(
        "modification-protection",
        BOTH,
        OneOf(("ConsoleProtection", "NonProtection")),
        "ConsoleProtection",
        "nobody changes it in the console by mistake",
    ),
    Annotation("preserve-lb-on-delete", BOTH, SWITCH, "off", "outlives the Service"),
    Annotation("ip-version", CLB, OneOf(("ipv4", "ipv6")), "ipv4", "family of its address"),
    Annotation("ip-version", NLB, OneOf(("ipv4", "DualStack")), "ipv4", "families of its addresses"),
    Annotation("ipv6-address-type", NLB, OneOf(("internet", "intranet")), "intranet", "public or private IPv6 address"),
    Annotation("backend-ip-version", CLB, OneOf(("ipv4", "ipv6")), "ipv4", "family of its backends"),
    Annotation("backend-ip-version", NLB, OneOf(("ipv4", "ipv6", "dualstack")), "ipv4", "families of its backends"),
    Annotation("hostname", CLB, Words("a host name", r"[A-Za-z0-9.-]{1,253}"), "", "published instead of the address"),
    Annotation("external-ip-type", CLB, OneOf(("eip",)), "", "publish the elastic IP bound to a private balancer"),
    Annotation("ip", CLB, Words("an address", r"[0-9a-fA-F.:]{2,39}"), "", "wanted private address"),
    Annotation("vswitch-id", CLB, IDENTITY, "", "vSwitch of a private address"),
    Annotation("master-zoneid", CLB, IDENTITY, "", "primary zone"),
    Annotation("slave-zoneid", CLB, IDENTITY, "", "secondary zone"),
    Annotation("instance-charge-type", CLB, OneOf(("PayByCLCU", "PayBySpec")), "PayByCLCU", "paid by use or by size"),
    Annotation("spec", CLB, Words("a size", r"slb\.[a-z0-9.]{1,30}"), "slb.s1.small", "size, with PayBySpec"),
    Annotation(
        "charge-type", CLB, OneOf(("paybytraffic", "paybybandwidth")), "paybytraffic", "how the Internet is paid"
    ),
    Annotation("bandwidth", CLB, Number(1, 5120, unit="Mbit/s"), "50", "with paybybandwidth"),
    Annotation(
        "protocol-port",
        CLB,
        _protocol_ports("tcp", "udp", "http", "https"),
        "",
        "protocol of a Service port",
    ),
    Annotation(
        "protocol-port",
        NLB,
        _protocol_ports("tcp", "udp", "tcpssl"),
        "",
        "protocol of a Service port",
    ),
    Annotation(
        "listener-port-range",
        NLB,
        Words("from-to:port", rf"{PORTS}-{PORTS}:{PORTS}", several=True),
        "",
        "a Service port listens on all these, and each leads to the same port of the pods",
    ),
    Annotation(
        "forward-port", CLB, Words("port:port", rf"{PORTS}:{PORTS}", several=True), "", "redirect http to an https port"
    ),
    Annotation("cert-id", CLB, IDENTITY, "", "certificate of https"),
    Annotation("cert-id", NLB, IDENTITIES, "", "certificate of TCPSSL"),
    Annotation(
        "domain-extensions",
        CLB,
        Words("domain:certificate", r"[A-Za-z0-9.*-]{1,253}:[A-Za-z0-9._-]{1,128}", several=True, or_empty=True),
        "",
        "further certificates of https, each for a domain",
    ),
    Annotation("tls-cipher-policy", BOTH, IDENTITY, "tls_cipher_policy_1_0", "TLS versions and ciphers"),
    Annotation("http2-enabled", CLB, ON_OFF, "on", "HTTP/2 with https"),
    Annotation("scheduler", CLB, SCHEDULERS["clb"], "wrr", "how a server is chosen; sch, tch: layer 4, qch: UDP"),
    Annotation("scheduler", NLB, SCHEDULERS["nlb"], "Wrr", "how a server is chosen; qch: UDP"),
    Annotation("persistence-timeout", CLB, Number(0, 3600, unit="s"), "0", "same client, same server (tcp)"),
    Annotation("established-timeout", CLB, Number(10, 900, unit="s"), "900", "idle connection (tcp)"),
    Annotation("sticky-session", CLB, ON_OFF, "off", "same cookie, same server (http)"),
    Annotation("sticky-session-type", CLB, OneOf(("insert", "server")), "insert", "whose cookie"),
    Annotation("cookie", CLB, Words("a name", r"[A-Za-z0-9_-]{1,200}"), "", "name of the server's cookie"),
    Annotation("cookie-timeout", CLB, Number(1, 86400, unit="s"), "1800", "life of an inserted cookie"),
    Annotation("idle-timeout", CLB, Number(1, 60, unit="s"), "15", "idle connection (http)"),
    Annotation("idle-timeout", NLB, Number(10, 900, unit="s"), "", "idle connection; default 900, for UDP 20"),
    Annotation("request-timeout", CLB, Number(1, 180, unit="s"), "60", "answer of a server (http)"),
    Annotation("health-check-flag", CLB, ON_OFF, "off", "health check of http listeners"),
    Annotation("health-check-flag", NLB, ON_OFF, "on", "health check"),
    Annotation("health-check-switch", CLB, ON_OFF, "on", "health check of tcp and udp listeners"),
    Annotation("health-check-type", CLB, OneOf(("tcp", "http")), "tcp", "health check of tcp listeners"),
    Annotation(
        "health-check-type",
        NLB,
        OneOf(("TCP", "HTTP", "UDP")),
        "TCP",
        "health check; UDP is for UDP alone",
    ),
    Annotation("health-check-connect-port", CLB, Number(1, 65535, also=-520), "-520", "-520: the server's port"),
    Annotation("health-check-connect-port", NLB, Number(0, 65535), "0", "0: the server's port"),
    Annotation("health-check-uri", BOTH, Words("a path", r"/[!-~]{0,79}"), "/", "http check"),
    Annotation("health-check-domain", CLB, Words("a host name", r"\$_ip|[A-Za-z0-9.-]{1,80}"), "$_ip", "http check"),
    Annotation(
        "health-check-domain", NLB, Words("a host name", r"\$SERVER_IP|[A-Za-z0-9.-]{1,80}"), "$SERVER_IP", "http check"
    ),
    Annotation("health-check-method", CLB, OneOf(("head", "get")), "head", "http check of http listeners"),
    Annotation("health-check-method", NLB, OneOf(("GET", "HEAD")), "GET", "http check"),
    Annotation(
        "health-check-httpcode", BOTH, Words("http_2xx", r"http_[1-5]xx", several=True), "http_2xx", "http check"
    ),
    Annotation("healthy-threshold", CLB, Number(2, 10), "3", "good checks in a row"),
    Annotation("healthy-threshold", NLB, Number(2, 10), "2", "good checks in a row"),
    Annotation("unhealthy-threshold", CLB, Number(2, 10), "3", "bad checks in a row"),
    Annotation("unhealthy-threshold", NLB, Number(2, 10), "2", "bad checks in a row"),
    Annotation("health-check-interval", CLB, Number(1, 50, unit="s"), "2", "between two checks"),
    Annotation("health-check-interval", NLB, Number(1, 50, unit="s"), "5", "between two checks"),
    Annotation("health-check-connect-timeout", BOTH, Number(1, 300, unit="s"), "5", "answer to a check (layer 4)"),
    Annotation("health-check-timeout", CLB, Number(1, 300, unit="s"), "5", "answer to a check (http)"),
    Annotation("acl-status", CLB, ON_OFF, "off", "access list"),
    Annotation("acl-id", CLB, IDENTITIES, "", "the access list"),
    Annotation("acl-type", CLB, OneOf(("white", "black")), "white", "whether it permits or denies"),
    Annotation("connection-drain", CLB, ON_OFF, "off", "let connections of removed servers end (tcp)"),
    Annotation("connection-drain", NLB, ON_OFF, "off", "let connections of removed servers end"),
    Annotation("connection-drain-timeout", BOTH, Number(10, 900, unit="s"), "300", "for so long"),
    Annotation("graceful-shutdown", BOTH, SWITCH, "on", "servers whose pods end keep their connections: always so"),
    Annotation("proxy-protocol", BOTH, ON_OFF, "off", "tell servers the client by PROXY v2 (layer 4)"),
    Annotation("xforwardedfor-proto", CLB, ON_OFF, "off", "header X-Forwarded-Proto"),
    Annotation("xforwardedfor-slbport", CLB, ON_OFF, "off", "header X-Forwarded-Port"),
    Annotation("xforwardedfor-clientsrcport", CLB, ON_OFF, "off", "header X-Forwarded-Client-srcport"),
    Annotation("default-weight", BOTH, Number(0, 100), "100", "weight of a server, with Cluster and of pods"),
    Annotation(
        "vgroup-port",
        BOTH,
        Words("group:port", rf"[A-Za-z0-9._-]{{1,128}}:{PORTS}", several=True),
        "",
        "server groups of yours for ports, with id",
    ),
    Annotation("weight", BOTH, Number(0, 100), "", "weight of all servers together, with vgroup-port"),
    Annotation("ignore-weight-update", BOTH, ON_OFF, "off", "leave weights alone"),
    Annotation(
        "backend-label",
        BOTH,
        Words("label=value", r"[A-Za-z0-9._/-]+=[A-Za-z0-9._-]*", several=True),
        "",
        "only nodes with all these labels",
    ),
    Annotation("remove-unscheduled-backend", BOTH, ON_OFF, "off", "drop cordoned nodes"),
    Annotation(
        "zone-maps",
        NLB,
        Words("zone:vswitch[:address[:eip]]", r"[a-z0-9-]+:[a-z0-9-]+(:[0-9.]*(:[a-z0-9-]*)?)?", several=True),
        "",
        "at least two zones; required for a new balancer unless the settings name some",
    ),
    Annotation("security-group-ids", NLB, SOME_IDENTITIES, "", "security groups; without it they are left alone"),
    Annotation("bandwidth-package-id", NLB, SOME_IDENTITY, "", "shared bandwidth of a public balancer; empty: none"),
    Annotation("cross-zone-enabled", NLB, SWITCH, "on", "forward to servers of other zones"),
    Annotation("server-group-type", NLB, OneOf(("Instance", "Ip")), "Instance", "servers by identity or by address"),
    Annotation("preserve-client-ip", NLB, ON_OFF, "", "servers see the client; default on, with TCPSSL off"),
    Annotation("additional-cert-ids", NLB, SOME_IDENTITIES, "", "further certificates of TCPSSL, chosen by SNI"),
    Annotation("ppv2-pvl-vpc-id-enabled", NLB, ON_OFF, "off", "PROXY v2 also tells the client's VPC"),
    Annotation("ppv2-pvl-ep-id-enabled", NLB, ON_OFF, "off", "PROXY v2 also tells the PrivateLink endpoint"),
    Annotation("ppv2-pvl-eps-id-enabled", NLB, ON_OFF, "off", "PROXY v2 also tells the endpoint's service"),
    Annotation("cps", NLB, Number(0, 1000000), "0", "new connections per second; 0: no limit"),
    Annotation("cacert", NLB, ON_OFF, "off", "ask clients for a certificate (TCPSSL)"),
    Annotation("cacert-id", NLB, IDENTITIES, "", "who signs clients' certificates"),
    Annotation("alpn", NLB, ON_OFF, "off", "ALPN (TCPSSL)"),
    Annotation(
        "alpn-policy",
        NLB,
        OneOf(("HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred")),
        "HTTP2Optional",
        "ALPN policy",
    ),
)

UNSUPPORTED: Mapping[str, str] = {
    "network-type": "the classic network, which no longer exists",
    "slb-network-type": "the classic network, which no longer exists",
}
"""Annotations that Alibaba Cloud's own controller acts on and we do not → what it is, and what to do instead."""

BACKEND_SUFFIXES = frozenset(
    {
        "id",
        "backend-ip-version",
        "backend-label",
        "default-weight",
        "forward-port",
        "ignore-weight-update",
        "listener-port-range",
        "protocol-port",
        "remove-unscheduled-backend",
        "server-group-type",
        "vgroup-port",
        "weight",
    }
)
"""Annotations that decide which servers there are and which group they are in."""

REQUIREMENTS: Mapping[str, str] = {"vgroup-port": "id", "weight": "vgroup-port"}
"""Suffix → suffix of the annotation without which it has no effect, in this order."""

BY_KIND: Mapping[str, Mapping[str, Annotation]] = {
    kind: {annotation.suffix: annotation for annotation in ANNOTATIONS if kind in annotation.kinds} for kind in BOTH
}
"""Name of a kind → suffix → annotation."""


def table_of(kind: str) -> AnnotationTable:
    """Returns the annotations of a kind of balancer, ``clb`` or ``nlb``."""
    known = BY_KIND[kind]
    return AnnotationTable(
        title=TITLES[kind],
        prefix=PREFIX,
        legacy_prefix=LEGACY_PREFIX,
        backend_type=BackendTypeAnnotation(BACKEND_TYPE, pods="eni", nodes="ecs"),
        known=known,
        other_kinds={suffix: TITLES[other] for other in BOTH for suffix in BY_KIND[other] if suffix not in known},
        unsupported=frozenset(UNSUPPORTED),
        backend_suffixes=BACKEND_SUFFIXES,
        requirements=REQUIREMENTS,
    )
