"""Network balancers: what an annotation changes of what the cloud is sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import ServicePort
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.nlb import (
    affinity,
    creation,
    creation_faults,
    faults,
    fixed,
    group,
    group_variant,
    has_affinity,
    listener,
    must_replace,
    port_range,
    range_settings,
    servers_by_address,
    settings,
    zone_text,
    zones,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Listener
from tests.core.pretend_balancers import CONFIGURATION, difference, options, service

pytestmark = pytest.mark.unit

TWO_ZONES = {"zone-maps": "cn-hangzhou-h:vsw-h,cn-hangzhou-i:vsw-i"}
PLAIN = options("nlb", TWO_ZONES)

LISTENER = {"IdleTimeout": "900", "ProxyProtocolEnabled": "false", "Cps": "0"}
TLS = {
    "SecurityPolicyId": "tls_cipher_policy_1_0",
    "CertificateIds": "crt",
    "CaEnabled": "false",
    "AlpnEnabled": "false",
}
CERTIFICATE = {"cert-id": "crt"}


def proxy(vpc: str, endpoint: str, service: str) -> dict[str, str]:
    names = ("Ppv2VpcIdEnabled", "Ppv2PrivateLinkEpIdEnabled", "Ppv2PrivateLinkEpsIdEnabled")
    return {f"ProxyProtocolV2Config.{name}": value for name, value in zip(names, (vpc, endpoint, service), strict=True)}


@pytest.mark.parametrize(
    ("protocol", "annotations", "sent"),
    [
        ("tcp", {}, LISTENER),
        ("udp", {}, LISTENER | {"IdleTimeout": "20"}),
        ("tcpssl", CERTIFICATE, LISTENER | TLS),
        ("tcp", {"idle-timeout": "60"}, LISTENER | {"IdleTimeout": "60"}),
        ("udp", {"idle-timeout": "15"}, LISTENER | {"IdleTimeout": "15"}),
        ("udp", {"idle-timeout": "60"}, LISTENER | {"IdleTimeout": "20"}),
        ("tcp", {"proxy-protocol": "on"}, LISTENER | {"ProxyProtocolEnabled": "true"}),
        ("tcp", {"cps": "1000"}, LISTENER | {"Cps": "1000"}),
        ("tcp", CERTIFICATE | {"cacert": "on", "cacert-id": "ca", "alpn": "on"}, LISTENER),
        ("tcpssl", {"cert-id": "one,two"}, LISTENER | TLS | {"CertificateIds": "one,two"}),
        (
            "tcpssl",
            CERTIFICATE | {"tls-cipher-policy": "tls_cipher_policy_1_2"},
            LISTENER | TLS | {"SecurityPolicyId": "tls_cipher_policy_1_2"},
        ),
        (
            "tcpssl",
            CERTIFICATE | {"cacert": "on", "cacert-id": "ca"},
            LISTENER | TLS | {"CaEnabled": "true", "CaCertificateIds": "ca"},
        ),
        ("tcpssl", CERTIFICATE | {"cacert-id": "ca", "alpn-policy": "HTTP2Only"}, LISTENER | TLS),
        (
            "tcpssl",
            CERTIFICATE | {"additional-cert-ids": "b,a,b"},
            LISTENER | TLS | {"AdditionalCertificateIds": "a,b"},
        ),
        ("tcpssl", CERTIFICATE | {"additional-cert-ids": ""}, LISTENER | TLS | {"AdditionalCertificateIds": ""}),
        ("tcp", {"additional-cert-ids": "a"}, LISTENER),
        ("tcp", {"ppv2-pvl-ep-id-enabled": "on"}, LISTENER | proxy("false", "true", "false")),
        (
            "udp",
            {"ppv2-pvl-vpc-id-enabled": "off"},
            LISTENER | {"IdleTimeout": "20"} | proxy("false", "false", "false"),
        ),
        (
            "tcp",
            {"proxy-protocol": "on", "ppv2-pvl-vpc-id-enabled": "on", "ppv2-pvl-eps-id-enabled": "on"},
            LISTENER | {"ProxyProtocolEnabled": "true"} | proxy("true", "false", "true"),
        ),
        (
            "tcpssl",
            CERTIFICATE | {"alpn": "on"},
            LISTENER | TLS | {"AlpnEnabled": "true", "AlpnPolicy": "HTTP2Optional"},
        ),
        (
            "tcpssl",
            CERTIFICATE | {"alpn": "on", "alpn-policy": "http1only"},
            LISTENER | TLS | {"AlpnEnabled": "true", "AlpnPolicy": "HTTP1Only"},
        ),
    ],
)
def test_a_listener(protocol: str, annotations: dict[str, str], sent: dict[str, str]) -> None:
    assert listener(protocol, options("nlb", annotations)) == sent


def check(**settings: str | None) -> dict[str, str | None]:
    return {f"HealthCheckConfig.{key}": value for key, value in settings.items()}


CHECK = check(
    HealthCheckType="TCP",
    HealthCheckConnectPort="0",
    HealthyThreshold="2",
    UnhealthyThreshold="2",
    HealthCheckInterval="5",
    HealthCheckConnectTimeout="5",
)
GROUP = {
    "Protocol": "TCP",
    "ServerGroupType": "Instance",
    "AddressIPVersion": "ipv4",
    "Scheduler": "Wrr",
    "PreserveClientIpEnabled": "true",
    "ConnectionDrainEnabled": "false",
    **check(HealthCheckEnabled="true"),
    **CHECK,
}
HTTP_CHECK = check(
    HealthCheckType="HTTP",
    HealthCheckUrl="/",
    HealthCheckDomain="$SERVER_IP",
    HttpCheckMethod="GET",
    HealthCheckHttpCode="http_2xx",
)


def test_a_server_group_without_annotations() -> None:
    assert group("tcp", PLAIN) == GROUP


@pytest.mark.parametrize(
    ("protocol", "annotations", "changed"),
    [
        ("udp", {}, {"Protocol": "UDP", **check(HealthCheckType="UDP")}),
        ("tcpssl", {}, {"PreserveClientIpEnabled": "false"}),
        ("tcp", {"preserve-client-ip": "off"}, {"PreserveClientIpEnabled": "false"}),
        ("tcp", {"preserve-client-ip": "on"}, {}),
        ("tcp", {"server-group-type": "ip"}, {"ServerGroupType": "Ip", "PreserveClientIpEnabled": "false"}),
        (
            "tcp",
            {"backend-ip-version": "ipv6"},
            {"AddressIPVersion": "DualStack", "IpVersionAffinityMode": "NonAffinity"},
        ),
        (
            "tcp",
            {"backend-ip-version": "DualStack"},
            {"AddressIPVersion": "DualStack", "IpVersionAffinityMode": "Affinity"},
        ),
        ("tcp", {"scheduler": "wlc"}, {"Scheduler": "Wlc"}),
        ("tcp", {"scheduler": "RR"}, {"Scheduler": "rr"}),
        (
            "udp",
            {"scheduler": "qch"},
            {"Protocol": "UDP", "Scheduler": "qch", **check(HealthCheckType="UDP")},
        ),
        (
            "tcp",
            {"connection-drain": "on"},
            {"ConnectionDrainEnabled": "true", "ConnectionDrainTimeout": "300"},
        ),
        (
            "tcp",
            {"connection-drain": "on", "connection-drain-timeout": "30"},
            {"ConnectionDrainEnabled": "true", "ConnectionDrainTimeout": "30"},
        ),
        ("tcp", {"connection-drain-timeout": "30"}, {}),
        (
            "tcp",
            {"health-check-flag": "off"},
            check(HealthCheckEnabled="false") | dict.fromkeys(CHECK),
        ),
        ("tcp", {"health-check-connect-port": "8080"}, check(HealthCheckConnectPort="8080")),
        ("tcp", {"healthy-threshold": "4"}, check(HealthyThreshold="4")),
        ("tcp", {"unhealthy-threshold": "5"}, check(UnhealthyThreshold="5")),
        ("tcp", {"health-check-interval": "7"}, check(HealthCheckInterval="7")),
        ("tcp", {"health-check-connect-timeout": "9"}, check(HealthCheckConnectTimeout="9")),
        ("tcp", {"health-check-type": "http"}, HTTP_CHECK),
        (
            "tcp",
            {
                "health-check-type": "http",
                "health-check-uri": "/healthz",
                "health-check-domain": "web.example.com",
                "health-check-method": "head",
                "health-check-httpcode": "http_2xx,http_3xx",
            },
            check(
                HealthCheckType="HTTP",
                HealthCheckUrl="/healthz",
                HealthCheckDomain="web.example.com",
                HttpCheckMethod="HEAD",
                HealthCheckHttpCode="http_2xx,http_3xx",
            ),
        ),
        ("tcp", {"health-check-uri": "/healthz"}, {}),
        ("udp", {"health-check-type": "http"}, {"Protocol": "UDP", **check(HealthCheckType="UDP")}),
        ("udp", {"health-check-type": "udp"}, {"Protocol": "UDP", **check(HealthCheckType="UDP")}),
        ("tcp", {"health-check-type": "udp"}, {}),
    ],
)
def test_what_an_annotation_changes_of_a_server_group(
    protocol: str, annotations: dict[str, str], changed: dict[str, str | None]
) -> None:
    assert difference(group("tcp", PLAIN), group(protocol, options("nlb", annotations))) == changed


def test_a_balancer_without_annotations() -> None:
    assert settings(PLAIN, "web") == {
        "LoadBalancerName": "web",
        "CrossZoneEnabled": "true",
        "DeletionProtectionEnabled": "true",
        "ModificationProtectionStatus": "ConsoleProtection",
        "ZoneMappings": "cn-hangzhou-h:vsw-h,cn-hangzhou-i:vsw-i",
    }
    assert fixed(PLAIN) == {"AddressIpVersion": "ipv4"}
    begin = {"LoadBalancerType": "network", "VpcId": "vpc-1", "AddressType": "Internet", **TWO_ZONES}
    assert creation(PLAIN, CONFIGURATION) == begin
    assert "AddressType" not in creation(options("nlb", TWO_ZONES | {"address-type": "internet"}), CONFIGURATION)


@pytest.mark.parametrize(
    ("annotations", "changed"),
    [
        ({"cross-zone-enabled": "false"}, {"CrossZoneEnabled": "false"}),
        ({"cross-zone-enabled": "off"}, {"CrossZoneEnabled": "false"}),
        ({"cross-zone-enabled": "on"}, {}),
        ({"delete-protection": "off"}, {"DeletionProtectionEnabled": "false"}),
        ({"modification-protection": "nonprotection"}, {"ModificationProtectionStatus": "NonProtection"}),
        ({"security-group-ids": "sg-2,sg-1"}, {"SecurityGroupIds": "sg-1,sg-2"}),
        ({"security-group-ids": "sg-1,sg-1"}, {"SecurityGroupIds": "sg-1"}),
        ({"security-group-ids": ""}, {"SecurityGroupIds": ""}),
        ({"address-type": "intranet"}, {"AddressType": "Intranet"}),
        ({"address-type": "internet"}, {"AddressType": "Internet"}),
        ({"ipv6-address-type": "internet"}, {"Ipv6AddressType": "Internet"}),
        ({"bandwidth-package-id": "cbwp-1"}, {"BandwidthPackageId": "cbwp-1"}),
        ({"bandwidth-package-id": ""}, {"BandwidthPackageId": ""}),
        (
            {"zone-maps": "i:vsw-i,h:vsw-h:10.0.0.9:eip-1"},
            {"ZoneMappings": "h:vsw-h,i:vsw-i", "AllocationId@h": "eip-1", "AddressType": "Internet"},
        ),
        (
            {"zone-maps": "i:vsw-i,h:vsw-h:10.0.0.9:eip-1", "address-type": "intranet"},
            {"ZoneMappings": "h:vsw-h,i:vsw-i", "AddressType": "Intranet"},
        ),
    ],
)
def test_what_an_annotation_changes_of_a_balancer(annotations: dict[str, str], changed: dict[str, str | None]) -> None:
    assert difference(settings(PLAIN, "web"), settings(options("nlb", TWO_ZONES | annotations), "web")) == changed


@pytest.mark.parametrize(
    ("annotations", "unchangeable", "once"),
    [
        ({"ip-version": "dualstack"}, {"AddressIpVersion": "DualStack"}, {}),
        ({"resource-group-id": "rg-1"}, {"ResourceGroupId": "rg-1"}, {}),
        (
            {"zone-maps": "i:vsw-i,h:vsw-h:10.0.0.9:eip-1"},
            {"PrivateIPv4Address@h": "10.0.0.9"},
            {"zone-maps": "i:vsw-i,h:vsw-h:10.0.0.9:eip-1", "AddressType": None},
        ),
    ],
)
def test_what_a_balancer_is_made_with(
    annotations: dict[str, str], unchangeable: dict[str, str], once: dict[str, str | None]
) -> None:
    requested = options("nlb", TWO_ZONES | annotations)
    assert difference(fixed(PLAIN), fixed(requested)) == unchangeable
    assert difference(creation(PLAIN, CONFIGURATION), creation(requested, CONFIGURATION)) == once


def test_the_clusters_resource_group_holds_for_new_balancers_and_is_not_compared_later() -> None:
    assert creation(PLAIN, BalancerConfiguration(vpc="vpc-1", resource_group="rg-c"))["ResourceGroupId"] == "rg-c"
    assert "ResourceGroupId" not in fixed(PLAIN)


def test_the_clusters_zones_hold_for_new_balancers_and_are_not_compared_later() -> None:
    zoned, without = replace(CONFIGURATION, zones="h:vsw-1,i:vsw-2"), options("nlb", {})
    assert [*faults(service({"port": 80}), without, zoned)] == []
    assert creation(without, zoned)["zone-maps"] == "h:vsw-1,i:vsw-2"
    assert creation(PLAIN, zoned) == creation(PLAIN, CONFIGURATION)
    assert "ZoneMappings" not in settings(without, "web")


def test_a_listener_of_a_range_of_ports() -> None:
    given = options("nlb", {"listener-port-range": "80-90:80,100-110:443"})
    assert [port_range(port, given) for port in (80, 443, 81)] == [range(80, 91), range(100, 111), None]
    port = ServicePort(80, targetPort=8080)
    listener, group = range_settings(port, range(80, 91), given)
    assert listener == {"StartPort": "80", "EndPort": "90"}
    assert group == {"AnyPortEnabled": "true", **check(HealthCheckConnectPort="8080")}
    for other in ({"health-check-flag": "off"}, {"health-check-connect-port": "9"}):
        assert range_settings(port, range(80, 91), options("nlb", other))[1] == {"AnyPortEnabled": "true"}


def test_what_keeps_a_client_at_a_server() -> None:
    assert not has_affinity("tcp", PLAIN)
    assert has_affinity("udp", options("nlb", affinity(60)))


def test_zones_with_what_they_are_to_have() -> None:
    assert zones("h:vsw-h:10.0.0.9:eip-1,i:vsw-i") == (("h", "vsw-h", "10.0.0.9", "eip-1"), ("i", "vsw-i"))
    assert zones("") == ()


def test_zones_are_compared_in_one_order() -> None:
    assert zone_text({"i": "vsw-i", "h": "vsw-h"}) == zone_text({"h": "vsw-h", "i": "vsw-i"}) == "h:vsw-h,i:vsw-i"


@pytest.mark.parametrize(
    ("annotations", "variant"),
    [
        ({}, "TCP"),
        ({"server-group-type": "Ip"}, "TCP-ip"),
        ({"backend-ip-version": "ipv6"}, "TCP-dualstack"),
        ({"backend-ip-version": "dualstack"}, "TCP-dualstack"),
        ({"server-group-type": "Ip", "backend-ip-version": "ipv6"}, "TCP-ip-dualstack"),
    ],
)
def test_groups_are_named_with_what_cannot_be_changed_in_them(annotations: dict[str, str], variant: str) -> None:
    found = options("nlb", annotations)
    assert group_variant("tcp", found) == variant
    assert servers_by_address(found) is ("server-group-type" in annotations)


def test_listeners_of_one_protocol_are_never_replaced() -> None:
    one, other = (Listener(80, "tcp", "", "", {"IdleTimeout": seconds}) for seconds in ("10", "20"))
    assert not must_replace(one, other)


def test_listeners_are_replaced_where_the_range_of_their_ports_changes() -> None:
    plain, small, large = (Listener(80, "tcp", "", "", {"EndPort": end} if end else {}) for end in ("", "90", "95"))
    assert must_replace(plain, small)
    assert must_replace(small, large)
    assert not must_replace(small, small)


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        (
            {},
            "zone-maps is missing: a network load balancer needs zone:vswitch,zone:vswitch, or an administrator may set"
            " cloud.loadBalancers.zoneMaps for all",
        ),
        ({"zone-maps": "h:vsw-h"}, "zone-maps names one zone: a network load balancer needs at least two"),
        (
            {"zone-maps": "h:vsw-h,h:vsw-i"},
            "zone-maps names h twice: a network load balancer has one vSwitch in a zone",
        ),
        (TWO_ZONES, None),
        ({"id": "nlb-1", "cacert": "on"}, "cacert-id is missing: cacert is on"),
        (
            {"id": "nlb-1", "protocol-port": "tcpssl:80", "preserve-client-ip": "on"},
            "preserve-client-ip cannot be on with TCPSSL",
        ),
    ],
)
def test_faults(annotations: dict[str, str], fault: str | None) -> None:
    said = options("nlb", annotations)
    found = (*creation_faults(said, CONFIGURATION), *faults(service({"port": 80}), said, CONFIGURATION))
    assert [message.removeprefix(f"annotation {PREFIX}") for message in found] == ([fault] if fault else [])


def test_each_certificate_is_shown_once() -> None:
    given = {"cert-id": "crt-1", "additional-cert-ids": "crt-2,crt-1,crt-2", "cacert": "on", "cacert-id": "ca-1,ca-1"}
    found = listener("tcpssl", options("nlb", {"protocol-port": "tcpssl:443", **given}))
    assert [found[key] for key in ("CertificateIds", "AdditionalCertificateIds", "CaCertificateIds")] == [
        "crt-1",
        "crt-2",
        "ca-1",
    ]


def test_a_new_balancer_needs_a_vpc() -> None:
    requested = service({"port": 80})
    (fault,) = faults(requested, options("nlb", TWO_ZONES), BalancerConfiguration())
    assert fault.startswith("the VPC of the cluster is not known")
    assert not list(faults(requested, options("nlb", {"id": "nlb-1"}), BalancerConfiguration()))
