"""Settings of a classic load balancer and its listeners, as its API spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.alibaba.checking import common_faults, common_remarks
from spiderpool.core.cloud.loadbalancer.kinds import (
    DEFAULT_AFFINITY,
    BalancerOptions,
    SettingSources,
    affinity_seconds,
)
from spiderpool.core.cloud.loadbalancer.node_checks import without_node_check
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Listener, Settings

SERVER_PORT = "-520"
"""Value of a health check's port that stands for the port on which the server gets its traffic."""

MAX_PERSISTENCE = 3600
"""Seconds for which a TCP listener keeps a client at one server at most."""

HASHES = frozenset({"sch", "tch", "qch"})
"""Schedulers by hash: a listener cannot be changed to or from one of them."""

UNPROTECTED: Settings = {"DeleteProtection": "off", "ModificationProtectionStatus": "NonProtection"}
"""Values of the parameters that protect a balancer, when it is not protected."""

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "name": ("LoadBalancerName",),
    "delete protection": ("DeleteProtection",),
    "modification protection": ("ModificationProtectionStatus",),
    "payment": ("InstanceChargeType",),
    "size": ("LoadBalancerSpec",),
    "bandwidth": ("InternetChargeType", "Bandwidth"),
}
"""Aspect of a balancer that can be changed later → parameters that one call sends together."""

ANNOTATION_OF: Mapping[str, str] = {
    "AddressType": "address-type",
    "AddressIPVersion": "ip-version",
    "VSwitchId": "vswitch-id",
    "MasterZoneId": "master-zoneid",
    "SlaveZoneId": "slave-zoneid",
    "ResourceGroupId": "resource-group-id",
    "Address": "ip",
}
"""Parameter that cannot be changed after creation → suffix of the annotation that sets it."""

OF_PRIVATE = ("VSwitchId", "Address")
"""Those of them that say where a private address is from: a public balancer of ours is made without."""

OPEN_TO_ALL: Settings = {"AclStatus": "off"}
"""Values of the parameters of a listener that keep clients out, when they keep none out."""

DOMAINS = "DomainExtensions"
"""Setting of an https listener that has actions of its own; not a parameter of the listener's actions."""
SET_BY = SettingSources(
    balancer={
        "LoadBalancerName": "name",
        "DeleteProtection": "delete-protection",
        "ModificationProtectionStatus": "modification-protection",
        "InstanceChargeType": "instance-charge-type",
        "LoadBalancerSpec": "spec",
        "InternetChargeType": "charge-type",
        "Bandwidth": "bandwidth",
    },
    listener={
        "Scheduler": "scheduler",
        "ProxyProtocolV2Enabled": "proxy-protocol",
        "HealthCheckSwitch": "health-check-switch",
        "HealthCheck": "health-check-flag",
        "HealthCheckType": "health-check-type",
        "HealthCheckConnectPort": "health-check-connect-port",
        "HealthyThreshold": "healthy-threshold",
        "UnhealthyThreshold": "unhealthy-threshold",
        "HealthCheckInterval": "health-check-interval",
        "HealthCheckConnectTimeout": "health-check-connect-timeout",
        "HealthCheckTimeout": "health-check-timeout",
        "HealthCheckMethod": "health-check-method",
        "HealthCheckURI": "health-check-uri",
        "HealthCheckDomain": "health-check-domain",
        "HealthCheckHttpCode": "health-check-httpcode",
        "PersistenceTimeout": "persistence-timeout",
        "EstablishedTimeout": "established-timeout",
        "ConnectionDrain": "connection-drain",
        "ConnectionDrainTimeout": "connection-drain-timeout",
        "IdleTimeout": "idle-timeout",
        "RequestTimeout": "request-timeout",
        "XForwardedFor_proto": "xforwardedfor-proto",
        "XForwardedFor_SLBPORT": "xforwardedfor-slbport",
        "XForwardedFor_ClientSrcPort": "xforwardedfor-clientsrcport",
        "StickySession": "sticky-session",
        "StickySessionType": "sticky-session-type",
        "Cookie": "cookie",
        "CookieTimeout": "cookie-timeout",
        "ServerCertificateId": "cert-id",
        DOMAINS: "domain-extensions",
        "EnableHttp2": "http2-enabled",
        "TLSCipherPolicy": "tls-cipher-policy",
        "AclStatus": "acl-status",
        "AclId": "acl-id",
        "AclType": "acl-type",
    },
    group={},
)
"""Which annotation sets which parameter."""

_CHECK = {
    "HealthCheckConnectPort": SERVER_PORT,
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
DEFAULTS: Mapping[str, Settings] = {
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
"""Protocol → settings that the cloud's description of a listener leaves out, with their values."""


def creation(options: BalancerOptions, configuration: BalancerConfiguration) -> Settings:
    """Returns parameters of the creation that are not compared afterwards, as the Service does not ask for them."""
    private = options["address-type"] == "intranet"
    found = {"VpcId": configuration.vpc if private else "", "ResourceGroupId": configuration.resource_group}
    if private and "vswitch-id" not in options.given:
        found["VSwitchId"] = configuration.vswitch
    return _without_empty(found)


def fixed(options: BalancerOptions) -> Settings:
    """Returns parameters of the creation that cannot be changed afterwards."""
    found = {parameter: options.given.get(suffix, "") for parameter, suffix in ANNOTATION_OF.items()}
    found |= {"AddressType": options["address-type"], "AddressIPVersion": options["ip-version"]}
    if not options["id"] and options["address-type"] == "internet":
        found |= dict.fromkeys(OF_PRIVATE, "")
    return _without_empty(found)


def settings(options: BalancerOptions, name: str) -> Settings:
    """Returns parameters of a balancer of our own that can be changed."""
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


def listener(protocol: str, options: BalancerOptions) -> Settings:
    """Returns settings of a listener that forwards to a server group."""
    match protocol:
        case "tcp":
            return _layer4(options) | _tcp(options) | _access(options)
        case "udp":
            # The cloud checks UDP by UDP alone, which nothing answers at the port where nodes are asked by HTTP.
            return _layer4(without_node_check(options)) | _access(options)
        case "http":
            return _layer7(options) | _access(options) | {"ListenerForward": "off"}
        case _:
            return _layer7(options) | _access(options) | _https(options)


def group(protocol: str, options: BalancerOptions) -> Settings:
    """Returns settings of a server group: none, since its listener has them all."""
    return {}


def port_range(port: int, options: BalancerOptions) -> range | None:
    """Returns None: a listener of this kind has one port."""
    return None


def range_settings(port: ServicePort, ports: range, options: BalancerOptions) -> tuple[Settings, Settings]:
    """Returns no settings: this kind has no listeners of port ranges."""
    return {}, {}


def redirect(target: int) -> Settings:
    """Returns settings of an http listener that redirects clients to an https port."""
    return {"ListenerForward": "on", "ForwardPort": str(target)}


def group_variant(protocol: str, options: BalancerOptions) -> str:
    """Returns the protocol in a server group's name, which this kind leaves out."""
    return protocol


def other_variants(protocol: str, options: BalancerOptions) -> tuple[str, ...]:
    """Returns other spellings of the variant: none."""
    return ()


def servers_by_address(options: BalancerOptions) -> bool:
    """Whether servers are registered by an address alone: never, this kind knows instances and ENIs only."""
    return False


def affinity(seconds: int) -> Mapping[str, str]:
    """Returns the annotations by which TCP listeners keep a client at one server."""
    return {"persistence-timeout": str(min(seconds, MAX_PERSISTENCE))}


def has_affinity(protocol: str, options: BalancerOptions) -> bool:
    """Whether a listener keeps a client, by its address, at one server; of http ones a cookie may do so instead."""
    return protocol in ("tcp", "udp") and (
        options["scheduler"] == "sch" or (protocol == "tcp" and options["persistence-timeout"] != "0")
    )


def must_replace(present: Listener, listener: Listener) -> bool:
    """Whether the API cannot change a listener into another: redirects and hashing are decided at its creation."""
    if _redirect_target(present) != _redirect_target(listener):
        return True
    schedulers = {each.settings.get("Scheduler", "") for each in (present, listener)}
    return len(schedulers) > 1 and bool(schedulers & HASHES)


def _redirect_target(listener: Listener) -> str:
    """Returns the port that a listener redirects clients to; empty for one that forwards to servers."""
    return listener.settings.get("ForwardPort", "") if listener.settings.get("ListenerForward") == "on" else ""


def faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields what must be corrected in a Service before its classic balancer can be made."""
    yield from common_faults(service, options)
    if options.on("acl-status") and not options["acl-id"]:
        yield f"annotation {options.annotation('acl-id')} is missing: acl-status is on"
    if options["acl-id"] and "acl-status" not in options.given:
        key = options.annotation("acl-status")
        yield f"annotation {key} is missing: without it nobody is shut out by the list of acl-id; set it to on"
    if options.on("sticky-session") and options["sticky-session-type"] == "server" and not options["cookie"]:
        yield f"annotation {options.annotation('cookie')} is missing: sticky-session-type is server"
    if len(domains(options["domain-extensions"])) < len(options.list("domain-extensions")):
        yield f"annotation {options.annotation('domain-extensions')} names a domain twice"
    private = options["address-type"] == "intranet" and not options["id"]
    if private and not (options["vswitch-id"] or configuration.vswitch):
        yield f"annotation {options.annotation('vswitch-id')} is missing: a private balancer needs one"
    yield from _payment_faults(service, options)
    if options["external-ip-type"] and (options["address-type"] != "intranet" or options["ip-version"] != "ipv4"):
        key, needed = options.annotation("external-ip-type"), options.annotation("address-type")
        yield f"annotation {key} is for private IPv4 balancers, to which elastic IPs are bound: set {needed}: intranet"


def _payment_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which way of paying there is not: by bandwidth only where the balancer is paid by its size.

    A Service that has a balancer and names only one of the two may have one that was made with the other.
    """
    is_settled = service.status.loadBalancer.ingress and "instance-charge-type" not in options.given
    if options["id"] or options["address-type"] == "intranet" or is_settled:
        return
    if options["charge-type"] == "paybybandwidth" and options["instance-charge-type"] != "PayBySpec":
        key, needed = options.annotation("charge-type"), options.annotation("instance-charge-type")
        yield f"annotation {key} paybybandwidth needs annotation {needed}: PayBySpec"


def remarks(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which annotations have no effect beside the others, and which field has not all that it says."""
    yield from common_remarks(options)
    seconds = affinity_seconds(service)
    is_too_long = seconds > MAX_PERSISTENCE and seconds != DEFAULT_AFFINITY
    if service.spec.sessionAffinity == "ClientIP" and is_too_long:
        limit = f"the balancer, which does {MAX_PERSISTENCE} s"
        yield f"spec.sessionAffinityConfig: {seconds} s are too much for {limit}"
    if not options["id"]:
        yield from (
            f"annotation {options.annotation(suffix)} has no effect{why}"
            for suffix, why in (*_unplaced(options), *_unpaid(service, options))
            if suffix in options.given
        )


def _unplaced(options: BalancerOptions) -> Iterator[tuple[str, str]]:
    """Yields annotations that would say where a private address is from that the balancer has not, and why."""
    if options["address-type"] == "internet":
        yield from ((ANNOTATION_OF[parameter], ": the balancer is public") for parameter in OF_PRIVATE)


def _unpaid(service: Service, options: BalancerOptions) -> Iterator[tuple[str, str]]:
    """Yields annotations that would say how something is paid for that the balancer has not, and why."""
    is_new = not service.status.loadBalancer.ingress  # one that exists may be paid for in another way
    if options["address-type"] == "intranet":
        yield from ((suffix, ": the balancer is private") for suffix in ("charge-type", "bandwidth"))
    elif is_new and options["charge-type"] != "paybybandwidth":
        yield "bandwidth", " without charge-type: paybybandwidth"
    if is_new and options["instance-charge-type"] != "PayBySpec":
        yield "spec", " without instance-charge-type: PayBySpec"


def _layer4(options: BalancerOptions) -> dict[str, str]:
    found = {
        "Bandwidth": "-1",
        "Scheduler": options["scheduler"],
        "ProxyProtocolV2Enabled": "true" if options.on("proxy-protocol") else "false",
        "HealthCheckSwitch": options["health-check-switch"],
    }
    if options.on("health-check-switch"):
        found |= _check(options) | {"HealthCheckConnectTimeout": options["health-check-connect-timeout"]}
    return found


def _tcp(options: BalancerOptions) -> dict[str, str]:
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


def _layer7(options: BalancerOptions) -> dict[str, str]:
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


def domains(text: str) -> Mapping[str, str]:
    """Returns the domains of ``domain:certificate,…`` in lower case, each with its certificate."""
    pairs = (part.partition(":") for part in text.split(",") if part)
    return {domain.lower(): certificate for domain, _, certificate in pairs}


def domain_text(certificates: Mapping[str, str]) -> str:
    """Returns domains and their certificates as text that can be compared."""
    return ",".join(f"{domain}:{certificate}" for domain, certificate in sorted(certificates.items()))


def _https(options: BalancerOptions) -> dict[str, str]:
    further = {DOMAINS: domain_text(domains(options["domain-extensions"]))}
    return (further if "domain-extensions" in options.given else {}) | {
        "ServerCertificateId": options["cert-id"],
        "EnableHttp2": options["http2-enabled"],
        "TLSCipherPolicy": options["tls-cipher-policy"],
    }


def _cookie(options: BalancerOptions) -> dict[str, str]:
    kind = options["sticky-session-type"]
    life = {"CookieTimeout": options["cookie-timeout"]} if kind == "insert" else {"Cookie": options["cookie"]}
    return {"StickySessionType": kind} | life


def _check(options: BalancerOptions) -> dict[str, str]:
    return {
        "HealthCheckConnectPort": options["health-check-connect-port"],
        "HealthyThreshold": options["healthy-threshold"],
        "UnhealthyThreshold": options["unhealthy-threshold"],
        "HealthCheckInterval": options["health-check-interval"],
    }


def _http_check(options: BalancerOptions) -> dict[str, str]:
    return {
        "HealthCheckURI": options["health-check-uri"],
        "HealthCheckDomain": options["health-check-domain"],
        "HealthCheckHttpCode": options["health-check-httpcode"],
    }


def _access(options: BalancerOptions) -> dict[str, str]:
    if not options.on("acl-status"):
        return {**OPEN_TO_ALL}
    return {"AclStatus": "on", "AclId": ",".join(sorted({*options.list("acl-id")})), "AclType": options["acl-type"]}


def _without_empty(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if value}
