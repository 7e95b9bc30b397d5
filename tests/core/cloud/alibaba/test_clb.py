"""Classic balancers: what an annotation changes of what the cloud is sent."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import ServicePort
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.clb import (
    DEFAULTS,
    affinity,
    creation,
    faults,
    fixed,
    group,
    group_variant,
    has_affinity,
    listener,
    must_replace,
    port_range,
    range_settings,
    redirect,
    remarks,
    servers_by_address,
    settings,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Listener, Settings
from tests.core.pretend_balancers import CONFIGURATION, difference, options, service

pytestmark = pytest.mark.unit

PLAIN = options("clb", {})

CHECK = {
    "HealthCheckConnectPort": "-520",
    "HealthyThreshold": "3",
    "UnhealthyThreshold": "3",
    "HealthCheckInterval": "2",
}
LAYER_4 = {
    "Bandwidth": "-1",
    "Scheduler": "wrr",
    "ProxyProtocolV2Enabled": "false",
    "HealthCheckSwitch": "on",
    **CHECK,
    "HealthCheckConnectTimeout": "5",
    "AclStatus": "off",
}
LAYER_7 = {
    "Bandwidth": "-1",
    "Scheduler": "wrr",
    "IdleTimeout": "15",
    "RequestTimeout": "60",
    "XForwardedFor_proto": "off",
    "XForwardedFor_SLBPORT": "off",
    "XForwardedFor_ClientSrcPort": "off",
    "StickySession": "off",
    "HealthCheck": "off",
    "AclStatus": "off",
}


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        (
            "tcp",
            LAYER_4
            | {
                "PersistenceTimeout": "0",
                "EstablishedTimeout": "900",
                "ConnectionDrain": "off",
                "HealthCheckType": "tcp",
            },
        ),
        ("udp", LAYER_4),
        ("http", LAYER_7 | {"ListenerForward": "off"}),
        (
            "https",
            LAYER_7 | {"ServerCertificateId": "", "EnableHttp2": "on", "TLSCipherPolicy": "tls_cipher_policy_1_0"},
        ),
    ],
)
def test_a_listener_without_annotations(protocol: str, sent: dict[str, str]) -> None:
    assert listener(protocol, PLAIN) == sent


NO_CHECK = dict.fromkeys((*CHECK, "HealthCheckConnectTimeout"))
HTTP_CHECK = {"HealthCheckURI": "/", "HealthCheckDomain": "$_ip", "HealthCheckHttpCode": "http_2xx"}


@pytest.mark.parametrize(
    ("protocol", "annotations", "changed"),
    [
        ("tcp", {"scheduler": "RR"}, {"Scheduler": "rr"}),
        ("tcp", {"persistence-timeout": "60"}, {"PersistenceTimeout": "60"}),
        ("tcp", {"established-timeout": "600"}, {"EstablishedTimeout": "600"}),
        ("tcp", {"proxy-protocol": "on"}, {"ProxyProtocolV2Enabled": "true"}),
        ("tcp", {"connection-drain": "on"}, {"ConnectionDrain": "on", "ConnectionDrainTimeout": "300"}),
        (
            "tcp",
            {"connection-drain": "on", "connection-drain-timeout": "30"},
            {"ConnectionDrain": "on", "ConnectionDrainTimeout": "30"},
        ),
        ("tcp", {"connection-drain-timeout": "30"}, {}),
        (
            "tcp",
            {"health-check-switch": "off"},
            {"HealthCheckSwitch": "off", "HealthCheckType": None, **NO_CHECK},
        ),
        ("tcp", {"health-check-flag": "on"}, {}),
        ("tcp", {"health-check-connect-port": "8080"}, {"HealthCheckConnectPort": "8080"}),
        ("tcp", {"health-check-connect-timeout": "9"}, {"HealthCheckConnectTimeout": "9"}),
        ("tcp", {"healthy-threshold": "4"}, {"HealthyThreshold": "4"}),
        ("tcp", {"unhealthy-threshold": "5"}, {"UnhealthyThreshold": "5"}),
        ("tcp", {"health-check-interval": "7"}, {"HealthCheckInterval": "7"}),
        ("tcp", {"health-check-type": "http"}, {"HealthCheckType": "http", **HTTP_CHECK}),
        (
            "tcp",
            {
                "health-check-type": "http",
                "health-check-uri": "/healthz",
                "health-check-domain": "web.example.com",
                "health-check-httpcode": "http_2xx,http_3xx",
            },
            {
                "HealthCheckType": "http",
                "HealthCheckURI": "/healthz",
                "HealthCheckDomain": "web.example.com",
                "HealthCheckHttpCode": "http_2xx,http_3xx",
            },
        ),
        ("tcp", {"acl-id": "acl-1"}, {}),
        (
            "tcp",
            {"acl-status": "on", "acl-id": "acl-1"},
            {"AclStatus": "on", "AclId": "acl-1", "AclType": "white"},
        ),
        (
            "tcp",
            {"acl-status": "on", "acl-id": "acl-2,acl-1,acl-2"},
            {"AclStatus": "on", "AclId": "acl-1,acl-2", "AclType": "white"},
        ),
        ("udp", {"health-check-switch": "off"}, {"HealthCheckSwitch": "off", **NO_CHECK}),
        ("udp", {"health-check-type": "http", "persistence-timeout": "9", "established-timeout": "99"}, {}),
        ("udp", {"scheduler": "qch"}, {"Scheduler": "qch"}),
        (
            "udp",
            {"acl-status": "on", "acl-id": "acl-1", "acl-type": "black"},
            {"AclStatus": "on", "AclId": "acl-1", "AclType": "black"},
        ),
        ("http", {"scheduler": "wlc"}, {"Scheduler": "wlc"}),
        ("http", {"idle-timeout": "30"}, {"IdleTimeout": "30"}),
        ("http", {"request-timeout": "90"}, {"RequestTimeout": "90"}),
        ("http", {"xforwardedfor-proto": "on"}, {"XForwardedFor_proto": "on"}),
        ("http", {"xforwardedfor-slbport": "on"}, {"XForwardedFor_SLBPORT": "on"}),
        ("http", {"xforwardedfor-clientsrcport": "on"}, {"XForwardedFor_ClientSrcPort": "on"}),
        (
            "http",
            {"sticky-session": "on"},
            {"StickySession": "on", "StickySessionType": "insert", "CookieTimeout": "1800"},
        ),
        (
            "http",
            {"sticky-session": "on", "cookie-timeout": "60"},
            {"StickySession": "on", "StickySessionType": "insert", "CookieTimeout": "60"},
        ),
        (
            "http",
            {"sticky-session": "on", "sticky-session-type": "server", "cookie": "JSESSIONID"},
            {"StickySession": "on", "StickySessionType": "server", "Cookie": "JSESSIONID"},
        ),
        ("http", {"cookie": "JSESSIONID", "cookie-timeout": "60"}, {}),
        (
            "http",
            {"health-check-flag": "on"},
            {"HealthCheck": "on", "HealthCheckMethod": "head", "HealthCheckTimeout": "5", **CHECK, **HTTP_CHECK},
        ),
        (
            "http",
            {
                "health-check-flag": "on",
                "health-check-method": "get",
                "health-check-timeout": "9",
                "health-check-uri": "/healthz",
                "health-check-connect-port": "8080",
            },
            {
                "HealthCheck": "on",
                **CHECK,
                **HTTP_CHECK,
                "HealthCheckMethod": "get",
                "HealthCheckTimeout": "9",
                "HealthCheckURI": "/healthz",
                "HealthCheckConnectPort": "8080",
            },
        ),
        ("http", {"health-check-switch": "off", "proxy-protocol": "on", "established-timeout": "60"}, {}),
        ("https", {"cert-id": "crt"}, {"ServerCertificateId": "crt"}),
        ("https", {"http2-enabled": "off"}, {"EnableHttp2": "off"}),
        ("https", {"domain-extensions": "b:crt-2,A:crt-1"}, {"DomainExtensions": "a:crt-1,b:crt-2"}),
        ("https", {"domain-extensions": ""}, {"DomainExtensions": ""}),
        ("http", {"domain-extensions": "b:crt-2"}, {}),
        ("https", {"tls-cipher-policy": "tls_cipher_policy_1_2"}, {"TLSCipherPolicy": "tls_cipher_policy_1_2"}),
        ("http", {"cert-id": "crt", "http2-enabled": "off"}, {}),
    ],
)
def test_what_an_annotation_changes_of_a_listener(
    protocol: str, annotations: dict[str, str], changed: dict[str, str | None]
) -> None:
    assert difference(listener(protocol, PLAIN), listener(protocol, options("clb", annotations))) == changed


BALANCER = {
    "LoadBalancerName": "web",
    "DeleteProtection": "on",
    "ModificationProtectionStatus": "ConsoleProtection",
    "InstanceChargeType": "PayByCLCU",
    "InternetChargeType": "paybytraffic",
}


def test_a_balancer_without_annotations() -> None:
    assert settings(PLAIN, "web") == BALANCER
    assert fixed(PLAIN) == {"AddressType": "internet", "AddressIPVersion": "ipv4"}
    assert creation(PLAIN, CONFIGURATION) == {}


@pytest.mark.parametrize(
    ("annotations", "changed"),
    [
        ({"delete-protection": "off"}, {"DeleteProtection": "off"}),
        ({"modification-protection": "NonProtection"}, {"ModificationProtectionStatus": "NonProtection"}),
        (
            {"instance-charge-type": "PayBySpec"},
            {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s1.small"},
        ),
        (
            {"instance-charge-type": "PayBySpec", "spec": "slb.s3.large"},
            {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s3.large"},
        ),
        ({"spec": "slb.s3.large"}, {}),
        ({"charge-type": "paybybandwidth"}, {"InternetChargeType": "paybybandwidth", "Bandwidth": "50"}),
        (
            {"charge-type": "paybybandwidth", "bandwidth": "9"},
            {"InternetChargeType": "paybybandwidth", "Bandwidth": "9"},
        ),
        ({"bandwidth": "9"}, {}),
        ({"address-type": "intranet"}, {"InternetChargeType": None}),
        ({"address-type": "intranet", "charge-type": "paybybandwidth"}, {"InternetChargeType": None}),
    ],
)
def test_what_an_annotation_changes_of_a_balancer(annotations: dict[str, str], changed: dict[str, str | None]) -> None:
    assert difference(BALANCER, settings(options("clb", annotations), "web")) == changed


@pytest.mark.parametrize(
    ("annotations", "unchangeable", "once"),
    [
        ({"ip-version": "ipv6"}, {"AddressIPVersion": "ipv6"}, {}),
        ({"address-type": "intranet"}, {"AddressType": "intranet"}, {"VpcId": "vpc-1", "VSwitchId": "vsw-1"}),
        (
            {"address-type": "intranet", "vswitch-id": "vsw-2", "ip": "192.168.0.9"},
            {"AddressType": "intranet", "VSwitchId": "vsw-2", "Address": "192.168.0.9"},
            {"VpcId": "vpc-1"},
        ),
        (
            {"master-zoneid": "cn-hangzhou-h", "slave-zoneid": "cn-hangzhou-i"},
            {"MasterZoneId": "cn-hangzhou-h", "SlaveZoneId": "cn-hangzhou-i"},
            {},
        ),
        ({"resource-group-id": "rg-1"}, {"ResourceGroupId": "rg-1"}, {}),
    ],
)
def test_what_a_balancer_is_made_with(
    annotations: dict[str, str], unchangeable: dict[str, str], once: dict[str, str]
) -> None:
    requested = options("clb", annotations)
    assert difference(fixed(PLAIN), fixed(requested)) == unchangeable
    assert creation(requested, CONFIGURATION) == once


def test_a_public_balancer_is_not_made_where_no_grant_was_asked_for() -> None:
    placed = {"vswitch-id": "vsw-9", "ip": "10.0.0.9", "master-zoneid": "cn-hangzhou-h"}
    requested = options("clb", placed)
    assert difference(fixed(PLAIN), fixed(requested)) == {"MasterZoneId": "cn-hangzhou-h"}
    said = [text for text in remarks(service({"port": 80}, annotations=placed), requested) if "is public" in text]
    assert [text.split()[1] for text in said] == [f"{PREFIX}vswitch-id", f"{PREFIX}ip"]
    lent = options("clb", {**placed, "id": "lb-1"})
    assert fixed(lent)["VSwitchId"] == "vsw-9", "one of the user's may be private, and is compared"


def test_the_clusters_resource_group_holds_for_new_balancers_and_is_not_compared_later() -> None:
    assert creation(PLAIN, BalancerConfiguration(resource_group="rg-c")) == {"ResourceGroupId": "rg-c"}
    assert "ResourceGroupId" not in fixed(PLAIN)


def test_a_redirect_has_no_other_settings() -> None:
    assert redirect(443) == {"ListenerForward": "on", "ForwardPort": "443"}


def test_a_server_group_has_no_settings() -> None:
    assert group("tcp", options("clb", {"scheduler": "rr", "connection-drain": "on"})) == {}


@pytest.mark.parametrize("protocol", ["tcp", "udp", "http", "https"])
def test_what_the_cloud_does_not_say_is_a_default_that_we_can_send(protocol: str) -> None:
    full = {
        "health-check-flag": "on",
        "health-check-type": "http",
        "sticky-session": "on",
        "connection-drain": "on",
        "acl-status": "on",
        "acl-id": "acl-1",
    }
    sent = {*listener(protocol, options("clb", full)), "ListenerForward"}
    assert DEFAULTS[protocol].keys() <= sent


def test_groups_are_named_without_what_this_kind_has_not() -> None:
    assert group_variant("tcp", PLAIN) == "tcp"
    assert not servers_by_address(PLAIN)


@pytest.mark.parametrize(
    ("present", "desired", "replaced"),
    [
        ({"Scheduler": "wrr"}, {"Scheduler": "rr"}, False),
        ({"Scheduler": "sch"}, {"Scheduler": "sch"}, False),
        ({"Scheduler": "wrr"}, {"Scheduler": "sch"}, True),
        ({"Scheduler": "tch"}, {"Scheduler": "wrr"}, True),
        ({"ListenerForward": "off"}, redirect(443), True),
        (redirect(443), redirect(444), True),
        (redirect(443), redirect(443), False),
    ],
)
def test_redirects_and_hashing_are_decided_at_the_creation(
    present: Settings, desired: Settings, replaced: bool
) -> None:
    assert must_replace(Listener(80, "http", "", "", present), Listener(80, "http", "", "", desired)) is replaced


@pytest.mark.parametrize(
    ("protocol", "annotations", "kept"),
    [
        ("tcp", {}, False),
        ("tcp", affinity(60), True),
        ("tcp", affinity(0), False),
        ("tcp", {"scheduler": "sch"}, True),
        ("udp", affinity(60), False),
        ("udp", {"scheduler": "sch"}, True),
        ("http", affinity(60), False),
    ],
)
def test_what_keeps_a_client_at_a_server(protocol: str, annotations: dict[str, str], kept: bool) -> None:
    assert has_affinity(protocol, options("clb", annotations)) is kept


def test_a_client_is_kept_for_an_hour_at_most() -> None:
    assert [affinity(seconds)["persistence-timeout"] for seconds in (60, 3600, 10800)] == ["60", "3600", "3600"]


def test_there_are_no_ranges_of_ports() -> None:
    assert port_range(80, PLAIN) is None
    assert range_settings(ServicePort(80), range(80, 90), PLAIN) == ({}, {})


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        ({}, None),
        ({"acl-status": "on"}, "acl-id is missing: acl-status is on"),
        ({"acl-status": "on", "acl-id": "acl-1"}, None),
        (
            {"acl-id": "acl-1"},
            "acl-status is missing: without it nobody is shut out by the list of acl-id; set it to on",
        ),
        ({"acl-status": "off", "acl-id": "acl-1"}, None),
        (
            {"sticky-session": "on", "sticky-session-type": "server"},
            "cookie is missing: sticky-session-type is server",
        ),
        ({"address-type": "intranet"}, "vswitch-id is missing: a private balancer needs one"),
        ({"address-type": "intranet", "vswitch-id": "vsw-1"}, None),
        ({"address-type": "intranet", "id": "lb-1"}, None),
    ],
)
def test_faults(annotations: dict[str, str], fault: str | None) -> None:
    found = list(faults(service({"port": 80}), options("clb", annotations), BalancerConfiguration()))
    assert found == ([f"annotation {PREFIX}{fault}"] if fault else [])
