"""The annotations of a Service that shape its balancer: which there are, what they may say, what holds without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from spiderpool.core.cloud.loadbalancer.values import Kind

PREFIX = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
LEGACY_PREFIX = "service.beta.kubernetes.io/alicloud-loadbalancer-"
BACKEND_TYPE = "service.beta.kubernetes.io/backend-type"
CLASS = "service.beta.kubernetes.io/class"
"""With any value: the classic balancer controller leaves the Service alone."""

CLB: tuple[Kind, ...] = ("clb",)
NLB: tuple[Kind, ...] = ("nlb",)
BOTH: tuple[Kind, ...] = ("clb", "nlb")


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words, in any case of letters."""

    words: tuple[str, ...]

    def read(self, text: str) -> str:
        """The word as the cloud spells it. Raises ValueError."""
        for word in self.words:
            if word.lower() == text.strip().lower():
                return word
        raise ValueError(f"must be one of {', '.join(self.words)}")

    def __str__(self) -> str:
        return ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number between two others, or one that has a meaning of its own."""

    low: int
    high: int
    also: int | None = None
    unit: str = ""

    def read(self, text: str) -> str:
        """The number without blanks or leading zeros. Raises ValueError."""
        if re.fullmatch(r"-?[0-9]{1,9}", text.strip()):
            number = int(text)
            if self.low <= number <= self.high or number == self.also:
                return str(number)
        raise ValueError(f"must be a whole number, {self}")

    def __str__(self) -> str:
        also = f" or {self.also}" if self.also is not None else ""
        return f"{self.low}–{self.high}{also}{self.unit and ' ' + self.unit}"


@dataclass(frozen=True, slots=True)
class Words:
    """Text of a form, or several of that form with commas between them."""

    form: str
    pattern: str
    several: bool = False

    def read(self, text: str) -> str:
        """The text without blanks around its parts. Raises ValueError."""
        parts = [part.strip() for part in text.split(",")] if self.several else [text.strip()]
        if not all(re.fullmatch(self.pattern, part) for part in parts):
            raise ValueError(f"must be {self.form}{' with commas between them' if self.several else ''}")
        return ",".join(parts)

    def __str__(self) -> str:
        return f"{self.form},…" if self.several else self.form


Check: TypeAlias = OneOf | Number | Words

ON_OFF = OneOf(("on", "off"))
TRUE_FALSE = OneOf(("true", "false"))
IDENTITY = Words("an identity", r"[A-Za-z0-9._-]{1,128}")
IDENTITIES = Words("identities", r"[A-Za-z0-9._-]{1,128}", several=True)
PORTS = r"[0-9]{1,5}"
SCHEDULERS: Mapping[Kind, OneOf] = {
    "clb": OneOf(("wrr", "rr", "wlc", "sch", "tch", "qch")),
    "nlb": OneOf(("Wrr", "rr", "Wlc", "sch", "tch", "qch")),
}
"""As each API spells them."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, without its prefix. An empty default is left out, or taken from the configuration."""

    suffix: str
    kinds: tuple[Kind, ...]
    check: Check
    default: str
    meaning: str


ANNOTATIONS: tuple[Annotation, ...] = (
    Annotation("type", BOTH, OneOf(("clb", "nlb")), "", "kind of balancer, where the Service has no class"),
    Annotation("address-type", BOTH, OneOf(("internet", "intranet")), "internet", "public or private address"),
    Annotation("id", BOTH, IDENTITY, "", "use this balancer of yours"),
    Annotation("force-override-listeners", BOTH, TRUE_FALSE, "false", "manage the listeners of your balancer"),
    Annotation("name", BOTH, Words("a name", r"[\w一-鿿./-]{1,80}"), "", "name of a new balancer"),
    Annotation("resource-group-id", BOTH, IDENTITY, "", "resource group of a new balancer"),
    Annotation(
        "additional-resource-tags",
        BOTH,
        Words("key=value", r"[^=,]{1,64}=[^=,]{0,128}", several=True),
        "",
        "further tags of a new balancer",
    ),
    Annotation("delete-protection", BOTH, ON_OFF, "on", "nobody deletes it by mistake"),
    Annotation(
        "modification-protection",
        BOTH,
        OneOf(("ConsoleProtection", "NonProtection")),
        "ConsoleProtection",
        "nobody changes it in the console by mistake",
    ),
    Annotation("preserve-lb-on-delete", BOTH, OneOf(("on", "off", "true", "false")), "off", "outlives the Service"),
    Annotation("ip-version", CLB, OneOf(("ipv4", "ipv6")), "ipv4", "family of its address"),
    Annotation("ip-version", NLB, OneOf(("ipv4", "DualStack")), "ipv4", "families of its addresses"),
    Annotation("backend-ip-version", BOTH, OneOf(("ipv4", "ipv6")), "ipv4", "family of its backends"),
    Annotation("hostname", CLB, Words("a host name", r"[A-Za-z0-9.-]{1,253}"), "", "published instead of the address"),
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
        Words("protocol:port", rf"(?i:tcp|udp|http|https):{PORTS}", several=True),
        "",
        "protocol of a Service port",
    ),
    Annotation(
        "protocol-port",
        NLB,
        Words("protocol:port", rf"(?i:tcp|udp|tcpssl):{PORTS}", several=True),
        "",
        "protocol of a Service port",
    ),
    Annotation(
        "forward-port", CLB, Words("port:port", rf"{PORTS}:{PORTS}", several=True), "", "redirect http to an https port"
    ),
    Annotation("cert-id", CLB, IDENTITY, "", "certificate of https"),
    Annotation("cert-id", NLB, IDENTITIES, "", "certificate of TCPSSL"),
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
    Annotation("health-check-type", NLB, OneOf(("TCP", "HTTP")), "TCP", "health check of TCP listeners"),
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
    Annotation("proxy-protocol", BOTH, ON_OFF, "off", "tell servers the client by PROXY v2 (layer 4)"),
    Annotation("xforwardedfor-proto", CLB, ON_OFF, "off", "header X-Forwarded-Proto"),
    Annotation("xforwardedfor-slbport", CLB, ON_OFF, "off", "header X-Forwarded-Port"),
    Annotation("xforwardedfor-clientsrcport", CLB, ON_OFF, "off", "header X-Forwarded-Client-srcport"),
    Annotation("default-weight", BOTH, Number(0, 100), "100", "weight of a server, with Cluster and of pods"),
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
        "at least two zones; required for a new balancer",
    ),
    Annotation("security-group-ids", NLB, IDENTITIES, "", "security groups; without it they are left alone"),
    Annotation("bandwidth-package-id", NLB, IDENTITY, "", "shared bandwidth of a new balancer"),
    Annotation("cross-zone-enabled", NLB, TRUE_FALSE, "true", "forward to servers of other zones"),
    Annotation("server-group-type", NLB, OneOf(("Instance", "Ip")), "Instance", "pods as ENIs or as addresses"),
    Annotation("preserve-client-ip", NLB, ON_OFF, "", "servers see the client; default on, with TCPSSL off"),
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

UNSUPPORTED = frozenset(
    {
        "additional-cert-ids",
        "domain-extensions",
        "external-ip-type",
        "ipv6-address-type",
        "listener-port-range",
        "network-type",
        "slb-network-type",
        "vgroup-port",
        "weight",
    }
)
"""Annotations of Alibaba Cloud's own controller that are not acted upon here."""

ABOUT_BACKENDS = frozenset(
    {
        "id",
        "backend-ip-version",
        "backend-label",
        "default-weight",
        "forward-port",
        "ignore-weight-update",
        "protocol-port",
        "remove-unscheduled-backend",
        "server-group-type",
    }
)
"""Annotations that say which servers there are, and under which group."""

BY_KIND: Mapping[Kind, Mapping[str, Annotation]] = {
    kind: {each.suffix: each for each in ANNOTATIONS if kind in each.kinds} for kind in BOTH
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the annotations of a Service ask for."""

    kind: Kind
    given: Mapping[str, str]
    """What is set, known and valid."""
    pods: bool | None
    """Whether pods are the backends; None when the Service does not say."""
    remarks: tuple[str, ...] = ()
    """Annotations without effect, and why."""
    faults: tuple[str, ...] = ()
    """Annotations whose value cannot be right."""
    backends_clear: bool = True
    """Whether none of the faults is about which servers there are."""

    def __getitem__(self, suffix: str) -> str:
        """What holds: the value that is set, or the default."""
        return self.given.get(suffix, BY_KIND[self.kind][suffix].default)

    def on(self, suffix: str) -> bool:
        """Whether a switch is on."""
        return self[suffix] in ("on", "true")

    def list(self, suffix: str) -> tuple[str, ...]:
        """The parts of a list."""
        return tuple(self[suffix].split(",")) if self[suffix] else ()


def read(annotations: Mapping[str, str], kind: Kind) -> Options:
    """Read a Service's annotations for one kind of balancer. The older prefix holds where the newer is absent."""
    texts = _suffixed(annotations, LEGACY_PREFIX) | _suffixed(annotations, PREFIX)
    given: dict[str, str] = {}
    faults: list[str] = []
    clear = True
    for suffix, text in sorted(texts.items()):
        if known := BY_KIND[kind].get(suffix):
            try:
                given[suffix] = known.check.read(text)
            except ValueError as error:
                faults.append(f"annotation {PREFIX}{suffix} {error}, not {text!r}")
                clear = clear and suffix not in ABOUT_BACKENDS
    remarks = tuple(_remarks(texts, kind))
    backend = annotations.get(BACKEND_TYPE)
    if backend not in (None, "eni", "ecs"):
        faults.append(f"annotation {BACKEND_TYPE} must be eni (pods) or ecs (nodes), not {backend!r}")
        clear = False
    return Options(kind, given, None if backend is None else backend == "eni", remarks, tuple(faults), clear)


def _suffixed(annotations: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in annotations.items() if key.startswith(prefix)}


def _remarks(suffixes: Iterable[str], kind: Kind) -> Iterator[str]:
    names = {"clb": "classic", "nlb": "network"}
    other: Kind = "nlb" if kind == "clb" else "clb"
    for suffix in sorted(suffixes):
        if suffix in BY_KIND[kind]:
            continue
        key = f"annotation {PREFIX}{suffix}"
        if suffix in BY_KIND[other]:
            yield f"{key} has no effect: it is for {names[other]} load balancers, this one is a {names[kind]} one"
        elif suffix in UNSUPPORTED or suffix.startswith("ppv2-"):
            yield f"{key} has no effect: it is not supported"
        else:
            near = get_close_matches(suffix, BY_KIND[kind], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{key} has no effect: there is no such annotation{hint}"
