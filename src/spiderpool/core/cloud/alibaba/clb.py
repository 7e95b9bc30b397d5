"""Settings of a classic load balancer and its listeners, as its API spells them."""

from __future__ import annotations

from collections.abc import Mapping

from spiderpool.core.cloud.loadbalancer.annotations import Options
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Settings

SERVERS_PORT = "-520"
"""A health check's port: the one that the server is sent traffic on."""

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "name": ("LoadBalancerName",),
    "delete protection": ("DeleteProtection",),
    "modification protection": ("ModificationProtectionStatus",),
    "payment": ("InstanceChargeType",),
    "size": ("LoadBalancerSpec",),
    "bandwidth": ("InternetChargeType", "Bandwidth"),
}
"""What can be changed later, and by which parameters that are sent together."""

ANNOTATION_OF: Mapping[str, str] = {
    "AddressType": "address-type",
    "AddressIPVersion": "ip-version",
    "VSwitchId": "vswitch-id",
    "MasterZoneId": "master-zoneid",
    "SlaveZoneId": "slave-zoneid",
    "ResourceGroupId": "resource-group-id",
    "Address": "ip",
}
"""Which annotation gives a parameter that cannot be changed."""

_CHECK = {
    "HealthCheckConnectPort": SERVERS_PORT,
    "HealthyThreshold": "3",
    "UnhealthyThreshold": "3",
    "HealthCheckInterval": "2",
}
_HTTP_CHECK = {"HealthCheckDomain": "$_ip", "HealthCheckURI": "/", "HealthCheckHttpCode": "http_2xx"}
_LAYER_4 = _CHECK | {
    "Scheduler": "wrr",
    "AclStatus": "off",
    "ProxyProtocolV2Enabled": "false",
    "HealthCheckSwitch": "on",
    "HealthCheckConnectTimeout": "5",
}
_HTTP = (
    _CHECK
    | _HTTP_CHECK
    | {
        "Scheduler": "wrr",
        "AclStatus": "off",
        "StickySession": "off",
        "IdleTimeout": "15",
        "RequestTimeout": "60",
        "HealthCheck": "off",
        "HealthCheckMethod": "head",
        "HealthCheckTimeout": "5",
        "XForwardedFor_proto": "off",
        "XForwardedFor_SLBPORT": "off",
        "XForwardedFor_ClientSrcPort": "off",
        "ListenerForward": "off",
    }
)
UNSAID: Mapping[str, Settings] = {
    "tcp": _LAYER_4
    | _HTTP_CHECK
    | {
        "HealthCheckType": "tcp",
        "PersistenceTimeout": "0",
        "EstablishedTimeout": "900",
        "ConnectionDrain": "off",
    },
    "udp": _LAYER_4 | {"HealthCheckConnectTimeout": "10", "HealthCheckInterval": "5"},
    "http": _HTTP,
    "https": _HTTP | {"EnableHttp2": "on", "TLSCipherPolicy": "tls_cipher_policy_1_0"},
}
"""What holds of a listener when the cloud's description of it does not say."""


def creation(options: Options, configuration: BalancerConfiguration) -> Settings:
    """Parameters of the creation that are not compared later, as the Service does not ask for them."""
    private = options["address-type"] == "intranet"
    found = {"VpcId": configuration.vpc if private else "", "ResourceGroupId": configuration.resource_group}
    if private and "vswitch-id" not in options.given:
        found["VSwitchId"] = configuration.vswitch
    return _said(found)


def fixed(options: Options) -> Settings:
    """Parameters of the creation that cannot be changed."""
    found = {parameter: options.given.get(suffix, "") for parameter, suffix in ANNOTATION_OF.items()}
    found |= {"AddressType": options["address-type"], "AddressIPVersion": options["ip-version"]}
    return _said(found)


def settings(options: Options, name: str) -> Settings:
    """Parameters of a balancer of our own that can be changed."""
    found = {
        "LoadBalancerName": name,
        "DeleteProtection": options["delete-protection"],
        "ModificationProtectionStatus": options["modification-protection"],
        "InstanceChargeType": options["instance-charge-type"],
    }
    if options["instance-charge-type"] == "PayBySpec":
        found["LoadBalancerSpec"] = options["spec"]
    if options["address-type"] == "internet":
        found["InternetChargeType"] = options["charge-type"]
        if options["charge-type"] == "paybybandwidth":
            found["Bandwidth"] = options["bandwidth"]
    return found


def listener(protocol: str, options: Options) -> Settings:
    """Settings of a listener that forwards to a server group."""
    match protocol:
        case "tcp":
            return _layer4(options) | _tcp(options) | _access(options)
        case "udp":
            return _layer4(options) | _access(options)
        case "http":
            return _layer7(options) | _access(options) | {"ListenerForward": "off"}
        case _:
            return _layer7(options) | _access(options) | _https(options)


def group(protocol: str, options: Options) -> Settings:
    """Settings of a server group: it has none, for its listener has them all."""
    return {}


def redirect(target: int) -> Settings:
    """Settings of an http listener that sends clients to an https port."""
    return {"ListenerForward": "on", "ForwardPort": str(target)}


def _layer4(options: Options) -> dict[str, str]:
    found = {
        "Bandwidth": "-1",
        "Scheduler": options["scheduler"],
        "ProxyProtocolV2Enabled": "true" if options.on("proxy-protocol") else "false",
        "HealthCheckSwitch": options["health-check-switch"],
    }
    if options.on("health-check-switch"):
        found |= _check(options) | {"HealthCheckConnectTimeout": options["health-check-connect-timeout"]}
    return found


def _tcp(options: Options) -> dict[str, str]:
    found = {
        "PersistenceTimeout": options["persistence-timeout"],
        "EstablishedTimeout": options["established-timeout"],
        "ConnectionDrain": options["connection-drain"],
    }
    if options.on("connection-drain"):
        found["ConnectionDrainTimeout"] = options["connection-drain-timeout"]
    if options.on("health-check-switch"):
        found["HealthCheckType"] = options["health-check-type"]
        if options["health-check-type"] == "http":
            found |= _http_check(options)
    return found


def _layer7(options: Options) -> dict[str, str]:
    found = {
        "Bandwidth": "-1",
        "Scheduler": options["scheduler"],
        "IdleTimeout": options["idle-timeout"],
        "RequestTimeout": options["request-timeout"],
        "XForwardedFor_proto": options["xforwardedfor-proto"],
        "XForwardedFor_SLBPORT": options["xforwardedfor-slbport"],
        "XForwardedFor_ClientSrcPort": options["xforwardedfor-clientsrcport"],
        "StickySession": options["sticky-session"],
        "HealthCheck": options["health-check-flag"],
    }
    if options.on("sticky-session"):
        found |= _cookie(options)
    if options.on("health-check-flag"):
        found |= _check(options) | _http_check(options)
        found |= {
            "HealthCheckMethod": options["health-check-method"],
            "HealthCheckTimeout": options["health-check-timeout"],
        }
    return found


def _https(options: Options) -> dict[str, str]:
    return {
        "ServerCertificateId": options["cert-id"],
        "EnableHttp2": options["http2-enabled"],
        "TLSCipherPolicy": options["tls-cipher-policy"],
    }


def _cookie(options: Options) -> dict[str, str]:
    kind = options["sticky-session-type"]
    life = {"CookieTimeout": options["cookie-timeout"]} if kind == "insert" else {"Cookie": options["cookie"]}
    return {"StickySessionType": kind} | life


def _check(options: Options) -> dict[str, str]:
    return {
        "HealthCheckConnectPort": options["health-check-connect-port"],
        "HealthyThreshold": options["healthy-threshold"],
        "UnhealthyThreshold": options["unhealthy-threshold"],
        "HealthCheckInterval": options["health-check-interval"],
    }


def _http_check(options: Options) -> dict[str, str]:
    return {
        "HealthCheckURI": options["health-check-uri"],
        "HealthCheckDomain": options["health-check-domain"],
        "HealthCheckHttpCode": options["health-check-httpcode"],
    }


def _access(options: Options) -> dict[str, str]:
    if not options.on("acl-status"):
        return {"AclStatus": "off"}
    return {"AclStatus": "on", "AclId": options["acl-id"], "AclType": options["acl-type"]}


def _said(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if value}
