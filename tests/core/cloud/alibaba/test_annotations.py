"""What a Service may say: each annotation with its values, its default, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.core.cloud.alibaba.annotations import (
    ANNOTATIONS,
    BACKEND_SUFFIXES,
    BACKEND_TYPE,
    BOTH,
    BY_KIND,
    LEGACY_PREFIX,
    PREFIX,
    UNSUPPORTED,
    table_of,
)
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions, read_options
from tests.core.pretend_balancers import KINDS

pytestmark = pytest.mark.unit

ON_OFF = ("on", "off")
TRUE_FALSE = ("true", "false")

WORDS: list[tuple[str, str, tuple[str, ...], str]] = [
    # kinds, annotation, words, default
    ("C N", "type", ("clb", "nlb"), ""),
    ("C N", "address-type", ("internet", "intranet"), "internet"),
    ("C", "external-ip-type", ("eip",), ""),
    ("C N", "force-override-listeners", TRUE_FALSE, "false"),
    ("C N", "delete-protection", ON_OFF, "on"),
    ("C N", "modification-protection", ("ConsoleProtection", "NonProtection"), "ConsoleProtection"),
    ("C N", "preserve-lb-on-delete", (*ON_OFF, *TRUE_FALSE), "off"),
    ("C", "ip-version", ("ipv4", "ipv6"), "ipv4"),
    ("N", "ip-version", ("ipv4", "DualStack"), "ipv4"),
    ("N", "ipv6-address-type", ("internet", "intranet"), "intranet"),
    ("C", "backend-ip-version", ("ipv4", "ipv6"), "ipv4"),
    ("N", "backend-ip-version", ("ipv4", "ipv6", "dualstack"), "ipv4"),
    ("C", "instance-charge-type", ("PayByCLCU", "PayBySpec"), "PayByCLCU"),
    ("C", "charge-type", ("paybytraffic", "paybybandwidth"), "paybytraffic"),
    ("C", "http2-enabled", ON_OFF, "on"),
    ("C", "scheduler", ("wrr", "rr", "wlc", "sch", "tch", "qch"), "wrr"),
    ("N", "scheduler", ("Wrr", "rr", "Wlc", "sch", "tch", "qch"), "Wrr"),
    ("C", "sticky-session", ON_OFF, "off"),
    ("C", "sticky-session-type", ("insert", "server"), "insert"),
    ("C", "health-check-flag", ON_OFF, "off"),
    ("N", "health-check-flag", ON_OFF, "on"),
    ("C", "health-check-switch", ON_OFF, "on"),
    ("C", "health-check-type", ("tcp", "http"), "tcp"),
    ("N", "health-check-type", ("TCP", "HTTP", "UDP"), "TCP"),
    ("C", "health-check-method", ("head", "get"), "head"),
    ("N", "health-check-method", ("GET", "HEAD"), "GET"),
    ("C", "acl-status", ON_OFF, "off"),
    ("C", "acl-type", ("white", "black"), "white"),
    ("C N", "connection-drain", ON_OFF, "off"),
    ("C N", "graceful-shutdown", ("on", "off", "true", "false"), "on"),
    ("C N", "proxy-protocol", ON_OFF, "off"),
    ("C", "xforwardedfor-proto", ON_OFF, "off"),
    ("C", "xforwardedfor-slbport", ON_OFF, "off"),
    ("C", "xforwardedfor-clientsrcport", ON_OFF, "off"),
    ("C N", "ignore-weight-update", ON_OFF, "off"),
    ("C N", "remove-unscheduled-backend", ON_OFF, "off"),
    ("N", "cross-zone-enabled", (*ON_OFF, *TRUE_FALSE), "on"),
    ("N", "server-group-type", ("Instance", "Ip"), "Instance"),
    ("N", "preserve-client-ip", ON_OFF, ""),
    ("N", "ppv2-pvl-vpc-id-enabled", ON_OFF, "off"),
    ("N", "ppv2-pvl-ep-id-enabled", ON_OFF, "off"),
    ("N", "ppv2-pvl-eps-id-enabled", ON_OFF, "off"),
    ("N", "cacert", ON_OFF, "off"),
    ("N", "alpn", ON_OFF, "off"),
    ("N", "alpn-policy", ("HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"), "HTTP2Optional"),
]

RANGES: list[tuple[str, str, int, int, str]] = [
    # kinds, annotation, from, to, default
    ("C", "bandwidth", 1, 5120, "50"),
    ("C", "persistence-timeout", 0, 3600, "0"),
    ("C", "established-timeout", 10, 900, "900"),
    ("C", "cookie-timeout", 1, 86400, "1800"),
    ("C", "idle-timeout", 1, 60, "15"),
    ("N", "idle-timeout", 10, 900, ""),
    ("C", "request-timeout", 1, 180, "60"),
    ("C", "health-check-connect-port", 1, 65535, "-520"),
    ("N", "health-check-connect-port", 0, 65535, "0"),
    ("C", "healthy-threshold", 2, 10, "3"),
    ("N", "healthy-threshold", 2, 10, "2"),
    ("C", "unhealthy-threshold", 2, 10, "3"),
    ("N", "unhealthy-threshold", 2, 10, "2"),
    ("C", "health-check-interval", 1, 50, "2"),
    ("N", "health-check-interval", 1, 50, "5"),
    ("C N", "health-check-connect-timeout", 1, 300, "5"),
    ("C", "health-check-timeout", 1, 300, "5"),
    ("C N", "connection-drain-timeout", 10, 900, "300"),
    ("C N", "default-weight", 0, 100, "100"),
    ("C N", "weight", 0, 100, ""),
    ("N", "cps", 0, 1000000, "0"),
]

TEXTS: list[tuple[str, str, list[str], list[str], str]] = [
    # kinds, annotation, accepted, refused, default
    ("C N", "id", ["lb-bp1x", "nlb-1"], ["", "lb 1", "lb/1"], ""),
    ("C N", "name", ["web", "web-1.shop/a_b", "网站"], ["", "a b", "a" * 81], ""),
    ("C N", "resource-group-id", ["rg-acfm"], ["rg,1"], ""),
    ("C N", "additional-resource-tags", ["team=x", "team=x,cost=", "a b=c d", "team,x=y"], ["", "=x", "a=b=c"], ""),
    ("C", "hostname", ["web.example.com"], ["web_1", "web.example.com/"], ""),
    ("C", "ip", ["192.168.0.9", "2408::9"], ["web", "192.168.0.0/24"], ""),
    ("C", "vswitch-id", ["vsw-bp1"], ["vsw-1,vsw-2"], ""),
    ("C", "master-zoneid", ["cn-hangzhou-h"], ["cn hangzhou"], ""),
    ("C", "slave-zoneid", ["cn-hangzhou-i"], ["cn hangzhou"], ""),
    ("C", "spec", ["slb.s1.small", "slb.s3.large"], ["small", "slb."], "slb.s1.small"),
    ("C", "protocol-port", ["http:80", "http:80,https:443", "TCP:53,Udp:54"], ["http", "80:http", "tcpssl:443"], ""),
    ("N", "protocol-port", ["tcp:80", "TCPSSL:443,udp:53"], ["http:80", "https:443"], ""),
    ("C N", "tunnel-type", ["tunnel"], ["", "a b"], ""),
    ("N", "listener-port-range", ["80-90:80", "80-90:80,100-110:443"], ["80:80", "80-90", "a-b:80"], ""),
    ("C", "forward-port", ["80:443", "80:443,81:444"], ["80", "http:https"], ""),
    ("C", "cert-id", ["1231_cn-hangzhou"], ["a,b"], ""),
    ("C", "domain-extensions", ["a.example.com:crt-1", "*.b.c:crt-1,d:crt-2", ""], ["a", "a:", ":crt"], ""),
    ("N", "cert-id", ["a", "a,b"], ["a;b", "a,,b"], ""),
    ("C N", "tls-cipher-policy", ["tls_cipher_policy_1_2"], ["tls 1.2"], "tls_cipher_policy_1_0"),
    ("C", "cookie", ["JSESSIONID", "my-cookie_1"], ["a;b", "a=b", "x" * 201], ""),
    ("C N", "health-check-uri", ["/", "/healthz?full=1"], ["healthz", "/a b", "/" + "x" * 80], "/"),
    ("C", "health-check-domain", ["$_ip", "web.example.com"], ["$SERVER_IP", "a/b"], "$_ip"),
    ("N", "health-check-domain", ["$SERVER_IP", "web.example.com"], ["$_ip", "a/b"], "$SERVER_IP"),
    ("C N", "health-check-httpcode", ["http_2xx", "http_2xx,http_3xx"], ["200", "http_6xx"], "http_2xx"),
    ("C N", "vgroup-port", ["rsp-1:80", "sgp-1:80,sgp-2:443"], ["rsp-1", "80", "rsp-1:http", "a b:80"], ""),
    ("C", "acl-id", ["acl-1", "acl-1,acl-2"], ["acl 1"], ""),
    ("C N", "backend-label", ["role=edge", "role=edge,topology.kubernetes.io/zone=h", "role="], ["role", "a=b c"], ""),
    ("N", "zone-maps", ["h:vsw-h,i:vsw-i", "h:vsw-h:10.0.0.9:eip-1,i:vsw-i"], ["h", "h:"], ""),
    ("N", "security-group-ids", ["sg-1", "sg-1,sg-2", ""], ["sg 1", ","], ""),
    ("N", "bandwidth-package-id", ["cbwp-1", ""], ["a,b"], ""),
    ("N", "additional-cert-ids", ["crt-1", "crt-1,crt-2", ""], ["crt 1"], ""),
    ("N", "cacert-id", ["ca-1", "ca-1,ca-2"], ["ca 1"], ""),
]


EFFECTIVE = {"vgroup-port": {"id": "lb-1"}, "weight": {"id": "lb-1", "vgroup-port": "rsp-1:80"}}
"""Annotations without which others have no effect."""


def kinds(text: str) -> list[str]:
    return [{"C": "clb", "N": "nlb"}[each] for each in text.split()]


def read(annotations: dict[str, str], kind: str) -> BalancerOptions:
    return read_options(annotations, KINDS[kind])


def options(kind: str, suffix: str, text: str) -> BalancerOptions:
    needed = {PREFIX + key: value for key, value in EFFECTIVE.get(suffix, {}).items()}
    return read({**needed, PREFIX + suffix: text}, kind)


def accepted(kind: str, suffix: str, text: str) -> str:
    found = options(kind, suffix, text)
    assert found.faults == ()
    return found[suffix]


def refused(kind: str, suffix: str, text: str) -> str:
    (fault,) = options(kind, suffix, text).faults
    assert suffix not in options(kind, suffix, text).given
    assert fault.startswith(f"annotation {PREFIX}{suffix} must be ")
    assert fault.endswith(f", not {text!r}")
    return fault


def test_the_tables_name_every_annotation_and_its_default() -> None:
    defaults = [(row[0], row[1], row[-1]) for table in (WORDS, RANGES, TEXTS) for row in table]
    table = {(kind, suffix): default for names, suffix, default in defaults for kind in kinds(names)}
    assert table == {(kind, suffix): each.default for kind in BOTH for suffix, each in BY_KIND[kind].items()}


@pytest.mark.parametrize(("names", "suffix", "words"), [row[:-1] for row in WORDS])
def test_words_in_any_case_are_read_as_the_cloud_spells_them(names: str, suffix: str, words: tuple[str, ...]) -> None:
    for kind in kinds(names):
        assert [accepted(kind, suffix, f" {word.upper()} ") for word in words] == list(words)
        assert ", ".join(words) in refused(kind, suffix, "maybe")


@pytest.mark.parametrize(("names", "suffix", "low", "high"), [row[:-1] for row in RANGES])
def test_numbers_have_ends(names: str, suffix: str, low: int, high: int) -> None:
    for kind in kinds(names):
        assert [accepted(kind, suffix, str(each)) for each in (low, high)] == [str(low), str(high)]
        assert accepted(kind, suffix, f" 0{high} ") == str(high)
        for text in (str(low - 1), str(high + 1), "", "many", "1.5", "1s", "9" * 10):
            assert f"{low}–{high}" in refused(kind, suffix, text)


def test_the_servers_port_of_a_classic_health_check_has_a_number_of_its_own() -> None:
    assert accepted("clb", "health-check-connect-port", "-520") == "-520"
    assert "1–65535 or -520" in refused("clb", "health-check-connect-port", "-521")


@pytest.mark.parametrize(("names", "suffix", "good", "bad"), [row[:-1] for row in TEXTS])
def test_texts_have_a_form(names: str, suffix: str, good: list[str], bad: list[str]) -> None:
    for kind in kinds(names):
        assert [accepted(kind, suffix, text) for text in good] == good
        for text in bad:
            refused(kind, suffix, text)


def test_blanks_around_the_parts_of_a_list_do_not_matter() -> None:
    found = options("clb", "backend-label", " role=edge , zone=h ")
    assert found.list("backend-label") == ("role=edge", "zone=h")
    assert found.list("acl-id") == ()


@pytest.mark.parametrize(
    ("suffix", "text", "on"),
    [
        ("delete-protection", "on", True),
        ("delete-protection", "off", False),
        ("preserve-lb-on-delete", "true", True),
        ("preserve-lb-on-delete", "false", False),
        ("preserve-lb-on-delete", "ON", True),
    ],
)
def test_switches(suffix: str, text: str, on: bool) -> None:
    assert options("clb", suffix, text).on(suffix) is on


def test_every_default_is_valid() -> None:
    for each in ANNOTATIONS:
        assert not each.default or each.type.read(each.default) == each.default, each.suffix


def test_the_older_prefix_holds_where_the_newer_is_absent() -> None:
    older = {LEGACY_PREFIX + "bandwidth": "7", LEGACY_PREFIX + "spec": "slb.s2.small", PREFIX + "bandwidth": "8"}
    options = read(older, "clb")
    assert (options["bandwidth"], options["spec"]) == ("8", "slb.s2.small")


@pytest.mark.parametrize(
    ("kind", "suffix", "said"),
    [
        ("clb", "bandwith", "there is no such annotation; did you mean bandwidth?"),
        ("clb", "frobnicate", "there is no such annotation"),
        ("clb", "zone-maps", "it is for network load balancers, this one is a classic one"),
        ("nlb", "bandwidth", "it is for classic load balancers, this one is a network one"),
        ("nlb", "ppv2-vpc-id", "there is no such annotation; did you mean ppv2-pvl-vpc-id-enabled?"),
        ("clb", "ppv2-pvl-vpc-id-enabled", "it is for network load balancers, this one is a classic one"),
        *[("clb", each, "it is not supported") for each in sorted(UNSUPPORTED)],
    ],
)
def test_annotations_without_effect_are_said(kind: str, suffix: str, said: str) -> None:
    found = options(kind, suffix, "x")
    assert found.remarks == (f"annotation {PREFIX}{suffix} has no effect: {said}",)
    assert (found.given, found.faults) == ({}, ())


@pytest.mark.parametrize(("text", "pods"), [(None, None), ("eni", True), ("ecs", False)])
def test_pods_or_nodes(text: str | None, pods: bool | None) -> None:
    assert read({} if text is None else {BACKEND_TYPE: text}, "clb").pods is pods


def test_a_backend_type_that_there_is_not() -> None:
    found = read({BACKEND_TYPE: "pod"}, "clb")
    assert found.faults == (f"annotation {BACKEND_TYPE} must be eni (pods) or ecs (nodes), not 'pod'",)
    assert not found.backends_valid


def test_a_fault_about_something_else_leaves_it_clear_which_servers_there_are() -> None:
    assert options("clb", "bandwidth", "many").backends_valid
    for suffix in sorted(BACKEND_SUFFIXES & BY_KIND["clb"].keys() - {"id"}):
        assert not options("clb", suffix, "?").backends_valid, suffix


def test_annotations_of_others_are_nothing_to_us() -> None:
    assert read({"example.com/bandwidth": "many", "bandwidth": "many"}, "clb") == BalancerOptions(
        KINDS["clb"], {}, None
    )


@pytest.mark.parametrize(
    ("given", "effective", "without"),
    [
        ({"id": "lb-1", "vgroup-port": "rsp-1:80", "weight": "7"}, {"id", "vgroup-port", "weight"}, []),
        ({"id": "lb-1", "weight": "7"}, {"id"}, ["weight has no effect without annotation", "vgroup-port"]),
        ({"vgroup-port": "rsp-1:80", "weight": "7"}, set(), ["vgroup-port has no effect without annotation", "-id"]),
    ],
)
def test_annotations_that_have_an_effect_with_another_alone(
    given: dict[str, str], effective: set[str], without: list[str]
) -> None:
    found = read({PREFIX + suffix: value for suffix, value in given.items()}, "clb")
    assert found.given.keys() == effective
    assert found.faults == ()
    assert bool(found.remarks) is bool(without)
    assert all(each in found.remarks[0] for each in without)


def test_the_reference_names_every_annotation() -> None:
    text = (Path(__file__).parents[4] / "docs/reference/load-balancer-annotations.md").read_text()
    names = {("clb",): "C", ("nlb",): "N", BOTH: "C N"}
    for each in ANNOTATIONS:
        row = f"| `{each.suffix}` | {names[each.kinds]} | {each.meaning} | {each.type} | {each.default or '–'} |"
        assert row in text, row
    for suffix in UNSUPPORTED:
        assert f"| `{suffix}` | " in text


def test_the_table_of_a_kind() -> None:
    table = table_of("nlb")
    assert (table.title, table.prefix, table.backend_type.name) == ("network", PREFIX, BACKEND_TYPE)
    assert table.known == BY_KIND["nlb"]
    assert table.other_kinds["bandwidth"] == "classic"
    assert not table.other_kinds.keys() & table.known.keys()
