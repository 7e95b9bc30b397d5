"""Each annotation with what the cloud is sent for it: the action, the parameter, and its value.

Annotations whose effect is not a parameter have tests of their own, which name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE

PARTS = {"BackendServers", "LoadBalancerId"}
PODS = {BACKEND_TYPE: "eni"}
ZONES = {"zone-maps": "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"}


@dataclass(frozen=True, slots=True)
class AnnotatedService:
    """A Service that says much by annotations."""

    kind: str
    ports: tuple[dict[str, Any], ...]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnnotationRow:
    """What the cloud is sent for an annotation of such a Service."""

    service: str
    suffix: str
    action: str
    parameter: str
    sent: str
    """The value; of parameters in `PARTS` a part of it."""

    @property
    def kind(self) -> str:
        """``clb`` or ``nlb``."""
        return SERVICES[self.service].kind

    def __str__(self) -> str:
        return f"{self.service}, {self.suffix}"


TCP, UDP = {"port": 80, "nodePort": 30080}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}
WEB, TLS = {"port": 8080, "nodePort": 30808}, {"port": 443, "nodePort": 30443}
REDIRECTED = {"port": 8081, "nodePort": 30809}

SERVICES: Mapping[str, AnnotatedService] = {
    "classic, paid by size": AnnotatedService(
        "clb",
        (TCP,),
        {
            "name": "shop",
            "resource-group-id": "rg-1",
            "additional-resource-tags": "team=x",
            "delete-protection": "off",
            "modification-protection": "NonProtection",
            "master-zoneid": "cn-hangzhou-h",
            "slave-zoneid": "cn-hangzhou-i",
            "instance-charge-type": "PayBySpec",
            "spec": "slb.s2.small",
            "charge-type": "paybybandwidth",
            "bandwidth": "9",
        },
    ),
    "classic, private": AnnotatedService(
        "clb",
        (TCP,),
        {"address-type": "intranet", "vswitch-id": "vsw-2", "ip": "172.31.208.77"},
    ),
    "classic, IPv6": AnnotatedService(
        "clb",
        (TCP,),
        {"ip-version": "ipv6", "backend-ip-version": "ipv6", **PODS},
        {"ipFamilies": ["IPv6"]},
    ),
    "classic, layer 4": AnnotatedService(
        "clb",
        (TCP,),
        {
            "scheduler": "rr",
            "persistence-timeout": "61",
            "established-timeout": "62",
            "connection-drain": "on",
            "connection-drain-timeout": "63",
            "proxy-protocol": "on",
            "health-check-type": "http",
            "health-check-uri": "/healthz",
            "health-check-domain": "web.example.com",
            "health-check-httpcode": "http_3xx",
            "health-check-connect-port": "8082",
            "health-check-connect-timeout": "7",
            "health-check-interval": "8",
            "healthy-threshold": "4",
            "unhealthy-threshold": "6",
            "acl-status": "on",
            "acl-id": "acl-1",
            "acl-type": "black",
            "default-weight": "41",
            "backend-label": "role=edge",
            "remove-unscheduled-backend": "on",
        },
    ),
    "classic, without checks": AnnotatedService("clb", (UDP,), {"health-check-switch": "off"}),
    "classic, layer 7": AnnotatedService(
        "clb",
        (WEB, TLS, REDIRECTED),
        {
            "protocol-port": "http:8080,https:443,http:8081",
            "forward-port": "8081:443",
            "cert-id": "crt-1",
            "domain-extensions": "a.example.com:crt-2",
            "tls-cipher-policy": "tls_cipher_policy_1_2",
            "http2-enabled": "off",
            "idle-timeout": "31",
            "request-timeout": "91",
            "xforwardedfor-proto": "on",
            "xforwardedfor-slbport": "on",
            "xforwardedfor-clientsrcport": "on",
            "sticky-session": "on",
            "cookie-timeout": "65",
            "health-check-flag": "on",
            "health-check-method": "get",
            "health-check-timeout": "9",
        },
    ),
    "classic, cookies of servers": AnnotatedService(
        "clb",
        (WEB,),
        {"protocol-port": "http:8080", "sticky-session": "on", "sticky-session-type": "server", "cookie": "web"},
    ),
    "network, public": AnnotatedService(
        "nlb",
        (TCP,),
        {
            **ZONES,
            "address-type": "internet",
            "name": "shop",
            "resource-group-id": "rg-1",
            "additional-resource-tags": "team=x",
            "delete-protection": "off",
            "modification-protection": "NonProtection",
            "ip-version": "dualstack",
            "ipv6-address-type": "internet",
            "security-group-ids": "sg-1",
            "bandwidth-package-id": "cbwp-1",
            "cross-zone-enabled": "off",
        },
    ),
    "network, TCP": AnnotatedService(
        "nlb",
        (TCP,),
        {
            **ZONES,
            "scheduler": "rr",
            "preserve-client-ip": "off",
            "connection-drain": "on",
            "connection-drain-timeout": "63",
            "proxy-protocol": "on",
            "ppv2-pvl-vpc-id-enabled": "on",
            "ppv2-pvl-ep-id-enabled": "on",
            "ppv2-pvl-eps-id-enabled": "on",
            "idle-timeout": "66",
            "cps": "100",
            "health-check-type": "http",
            "health-check-uri": "/healthz",
            "health-check-domain": "web.example.com",
            "health-check-method": "head",
            "health-check-httpcode": "http_3xx",
            "health-check-connect-port": "8082",
            "health-check-connect-timeout": "7",
            "health-check-interval": "8",
            "healthy-threshold": "4",
            "unhealthy-threshold": "6",
            "default-weight": "41",
            "backend-label": "role=edge",
            "remove-unscheduled-backend": "on",
        },
    ),
    "network, without checks": AnnotatedService("nlb", (TCP,), {**ZONES, "health-check-flag": "off"}),
    "network, TCPSSL": AnnotatedService(
        "nlb",
        (TLS,),
        {
            **ZONES,
            "protocol-port": "tcpssl:443",
            "cert-id": "crt-1",
            "additional-cert-ids": "crt-2",
            "tls-cipher-policy": "tls_cipher_policy_1_2",
            "cacert": "on",
            "cacert-id": "ca-1",
            "alpn": "on",
            "alpn-policy": "HTTP1Only",
        },
    ),
    "network, ranges and addresses": AnnotatedService(
        "nlb",
        (TCP,),
        {
            **ZONES,
            **PODS,
            "listener-port-range": "80-90:80",
            "server-group-type": "Ip",
            "ip-version": "dualstack",
            "backend-ip-version": "dualstack",
        },
        {"ipFamilies": ["IPv4", "IPv6"]},
    ),
}
"""What each Service says, by values that are not the defaults."""

CREATE_CLB, CREATE_TCP = "slb:CreateLoadBalancer", "slb:CreateLoadBalancerTCPListener"
CREATE_UDP, CREATE_HTTP = "slb:CreateLoadBalancerUDPListener", "slb:CreateLoadBalancerHTTPListener"
CREATE_HTTPS, ADD_SERVERS = "slb:CreateLoadBalancerHTTPSListener", "slb:AddVServerGroupBackendServers"
CREATE_NLB, CREATE_GROUP = "nlb:CreateLoadBalancer", "nlb:CreateServerGroup"
CREATE_LISTENER, ADD_TO_GROUP = "nlb:CreateListener", "nlb:AddServersToServerGroup"
CHECK, PROXY = "HealthCheckConfig.", "ProxyProtocolV2Config."

_SENT: Mapping[str, tuple[tuple[str, str, str, str], ...]] = {
    "classic, paid by size": (
        ("name", CREATE_CLB, "LoadBalancerName", "shop"),
        ("resource-group-id", CREATE_CLB, "ResourceGroupId", "rg-1"),
        ("additional-resource-tags", CREATE_CLB, "Tag.1.Key", "team"),
        ("delete-protection", CREATE_CLB, "DeleteProtection", "off"),
        ("modification-protection", CREATE_CLB, "ModificationProtectionStatus", "NonProtection"),
        ("master-zoneid", CREATE_CLB, "MasterZoneId", "cn-hangzhou-h"),
        ("slave-zoneid", CREATE_CLB, "SlaveZoneId", "cn-hangzhou-i"),
        ("instance-charge-type", CREATE_CLB, "InstanceChargeType", "PayBySpec"),
        ("spec", CREATE_CLB, "LoadBalancerSpec", "slb.s2.small"),
        ("charge-type", CREATE_CLB, "InternetChargeType", "paybybandwidth"),
        ("bandwidth", CREATE_CLB, "Bandwidth", "9"),
    ),
    "classic, private": (
        ("address-type", CREATE_CLB, "AddressType", "intranet"),
        ("vswitch-id", CREATE_CLB, "VSwitchId", "vsw-2"),
        ("ip", CREATE_CLB, "Address", "172.31.208.77"),
    ),
    "classic, IPv6": (
        ("ip-version", CREATE_CLB, "AddressIPVersion", "ipv6"),
        ("backend-ip-version", ADD_SERVERS, "BackendServers", '"ServerIp": "2408:4005:1::9"'),
    ),
    "classic, layer 4": (
        ("scheduler", CREATE_TCP, "Scheduler", "rr"),
        ("persistence-timeout", CREATE_TCP, "PersistenceTimeout", "61"),
        ("established-timeout", CREATE_TCP, "EstablishedTimeout", "62"),
        ("connection-drain", CREATE_TCP, "ConnectionDrain", "on"),
        ("connection-drain-timeout", CREATE_TCP, "ConnectionDrainTimeout", "63"),
        ("proxy-protocol", CREATE_TCP, "ProxyProtocolV2Enabled", "true"),
        ("health-check-type", CREATE_TCP, "HealthCheckType", "http"),
        ("health-check-uri", CREATE_TCP, "HealthCheckURI", "/healthz"),
        ("health-check-domain", CREATE_TCP, "HealthCheckDomain", "web.example.com"),
        ("health-check-httpcode", CREATE_TCP, "HealthCheckHttpCode", "http_3xx"),
        ("health-check-connect-port", CREATE_TCP, "HealthCheckConnectPort", "8082"),
        ("health-check-connect-timeout", CREATE_TCP, "HealthCheckConnectTimeout", "7"),
        ("health-check-interval", CREATE_TCP, "healthCheckInterval", "8"),
        ("healthy-threshold", CREATE_TCP, "HealthyThreshold", "4"),
        ("unhealthy-threshold", CREATE_TCP, "UnhealthyThreshold", "6"),
        ("acl-status", CREATE_TCP, "AclStatus", "on"),
        ("acl-id", CREATE_TCP, "AclId", "acl-1"),
        ("acl-type", CREATE_TCP, "AclType", "black"),
        ("default-weight", ADD_SERVERS, "BackendServers", '"Weight": "41"'),
        ("backend-label", ADD_SERVERS, "BackendServers", '[{"ServerId": "i-a", '),
        ("remove-unscheduled-backend", ADD_SERVERS, "BackendServers", '[{"ServerId": "i-a", '),
    ),
    "classic, without checks": (("health-check-switch", CREATE_UDP, "HealthCheckSwitch", "off"),),
    "classic, layer 7": (
        ("protocol-port", CREATE_HTTP, "ListenerPort", "8080"),
        ("forward-port", CREATE_HTTP, "ForwardPort", "443"),
        ("cert-id", CREATE_HTTPS, "ServerCertificateId", "crt-1"),
        ("domain-extensions", "slb:CreateDomainExtension", "Domain", "a.example.com"),
        ("tls-cipher-policy", CREATE_HTTPS, "TLSCipherPolicy", "tls_cipher_policy_1_2"),
        ("http2-enabled", CREATE_HTTPS, "EnableHttp2", "off"),
        ("idle-timeout", CREATE_HTTP, "IdleTimeout", "31"),
        ("request-timeout", CREATE_HTTP, "RequestTimeout", "91"),
        ("xforwardedfor-proto", CREATE_HTTP, "XForwardedFor_proto", "on"),
        ("xforwardedfor-slbport", CREATE_HTTP, "XForwardedFor_SLBPORT", "on"),
        ("xforwardedfor-clientsrcport", CREATE_HTTP, "XForwardedFor_ClientSrcPort", "on"),
        ("sticky-session", CREATE_HTTP, "StickySession", "on"),
        ("cookie-timeout", CREATE_HTTP, "CookieTimeout", "65"),
        ("health-check-flag", CREATE_HTTP, "HealthCheck", "on"),
        ("health-check-method", CREATE_HTTP, "HealthCheckMethod", "get"),
        ("health-check-timeout", CREATE_HTTP, "HealthCheckTimeout", "9"),
    ),
    "classic, cookies of servers": (
        ("sticky-session-type", CREATE_HTTP, "StickySessionType", "server"),
        ("cookie", CREATE_HTTP, "Cookie", "web"),
    ),
    "network, public": (
        ("address-type", CREATE_NLB, "AddressType", "Internet"),
        ("name", CREATE_NLB, "LoadBalancerName", "shop"),
        ("resource-group-id", CREATE_NLB, "ResourceGroupId", "rg-1"),
        ("additional-resource-tags", CREATE_NLB, "Tag.1.Key", "team"),
        ("delete-protection", CREATE_NLB, "DeletionProtectionConfig.Enabled", "false"),
        ("modification-protection", CREATE_NLB, "ModificationProtectionConfig.Status", "NonProtection"),
        ("ip-version", CREATE_NLB, "AddressIpVersion", "DualStack"),
        ("ipv6-address-type", "nlb:EnableLoadBalancerIpv6Internet", "LoadBalancerId", "nlb-"),
        ("security-group-ids", "nlb:LoadBalancerJoinSecurityGroup", "SecurityGroupIds.1", "sg-1"),
        ("bandwidth-package-id", CREATE_NLB, "BandwidthPackageId", "cbwp-1"),
        ("cross-zone-enabled", "nlb:UpdateLoadBalancerAttribute", "CrossZoneEnabled", "false"),
        ("zone-maps", CREATE_NLB, "ZoneMappings.2.VSwitchId", "vsw-2"),
    ),
    "network, TCP": (
        ("scheduler", CREATE_GROUP, "Scheduler", "rr"),
        ("preserve-client-ip", CREATE_GROUP, "PreserveClientIpEnabled", "false"),
        ("connection-drain", CREATE_GROUP, "ConnectionDrainEnabled", "true"),
        ("connection-drain-timeout", CREATE_GROUP, "ConnectionDrainTimeout", "63"),
        ("proxy-protocol", CREATE_LISTENER, "ProxyProtocolEnabled", "true"),
        ("ppv2-pvl-vpc-id-enabled", CREATE_LISTENER, f"{PROXY}Ppv2VpcIdEnabled", "true"),
        ("ppv2-pvl-ep-id-enabled", CREATE_LISTENER, f"{PROXY}Ppv2PrivateLinkEpIdEnabled", "true"),
        ("ppv2-pvl-eps-id-enabled", CREATE_LISTENER, f"{PROXY}Ppv2PrivateLinkEpsIdEnabled", "true"),
        ("idle-timeout", CREATE_LISTENER, "IdleTimeout", "66"),
        ("cps", CREATE_LISTENER, "Cps", "100"),
        ("health-check-type", CREATE_GROUP, f"{CHECK}HealthCheckType", "HTTP"),
        ("health-check-uri", CREATE_GROUP, f"{CHECK}HealthCheckUrl", "/healthz"),
        ("health-check-domain", CREATE_GROUP, f"{CHECK}HealthCheckDomain", "web.example.com"),
        ("health-check-method", CREATE_GROUP, f"{CHECK}HttpCheckMethod", "HEAD"),
        ("health-check-httpcode", CREATE_GROUP, f"{CHECK}HealthCheckHttpCode.1", "http_3xx"),
        ("health-check-connect-port", CREATE_GROUP, f"{CHECK}HealthCheckConnectPort", "8082"),
        ("health-check-connect-timeout", CREATE_GROUP, f"{CHECK}HealthCheckConnectTimeout", "7"),
        ("health-check-interval", CREATE_GROUP, f"{CHECK}HealthCheckInterval", "8"),
        ("healthy-threshold", CREATE_GROUP, f"{CHECK}HealthyThreshold", "4"),
        ("unhealthy-threshold", CREATE_GROUP, f"{CHECK}UnhealthyThreshold", "6"),
        ("default-weight", ADD_TO_GROUP, "Servers.1.Weight", "41"),
        ("backend-label", ADD_TO_GROUP, "Servers.1.ServerId", "i-a"),
        ("remove-unscheduled-backend", ADD_TO_GROUP, "Servers.1.ServerId", "i-a"),
    ),
    "network, without checks": (("health-check-flag", CREATE_GROUP, f"{CHECK}HealthCheckEnabled", "false"),),
    "network, TCPSSL": (
        ("protocol-port", CREATE_LISTENER, "ListenerProtocol", "TCPSSL"),
        ("cert-id", CREATE_LISTENER, "CertificateIds.1", "crt-1"),
        (
            "additional-cert-ids",
            "nlb:AssociateAdditionalCertificatesWithListener",
            "AdditionalCertificateIds.1",
            "crt-2",
        ),
        ("tls-cipher-policy", CREATE_LISTENER, "SecurityPolicyId", "tls_cipher_policy_1_2"),
        ("cacert", CREATE_LISTENER, "CaEnabled", "true"),
        ("cacert-id", CREATE_LISTENER, "CaCertificateIds.1", "ca-1"),
        ("alpn", CREATE_LISTENER, "AlpnEnabled", "true"),
        ("alpn-policy", CREATE_LISTENER, "AlpnPolicy", "HTTP1Only"),
    ),
    "network, ranges and addresses": (
        ("listener-port-range", CREATE_LISTENER, "EndPort", "90"),
        ("server-group-type", CREATE_GROUP, "ServerGroupType", "Ip"),
        ("backend-ip-version", CREATE_GROUP, "IpVersionAffinityMode", "Affinity"),
    ),
}

ROWS: tuple[AnnotationRow, ...] = tuple(AnnotationRow(name, *row) for name, rows in _SENT.items() for row in rows)
