"""Settings of a network load balancer, its listeners and server groups, as its API spells them.

A dot leads into an object of the API: ``HealthCheckConfig.HealthCheckType``. Lists are texts with commas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.alibaba.checking import common_faults, common_remarks
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions, SettingSources
from spiderpool.core.cloud.loadbalancer.model import ports_of_pods, protocol_of, protocols
from spiderpool.core.cloud.loadbalancer.values import PART, BalancerConfiguration, Listener, Settings

UNPROTECTED: Settings = {"DeletionProtectionEnabled": "false", "ModificationProtectionStatus": "NonProtection"}
"""Values of the parameters that protect a balancer, when it is not protected."""

MIN_ZONES = 2
"""Zones that a network load balancer must have at least."""
MAX_PORT = 65535
MAX_UDP_IDLE = 20
"""Seconds that a UDP listener may wait for the next packet of a client."""

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "attributes": ("LoadBalancerName", "CrossZoneEnabled"),
    "protection": ("DeletionProtectionEnabled", "ModificationProtectionStatus"),
    "security groups": ("SecurityGroupIds",),
    "address type": ("AddressType",),
    "IPv6 address type": ("Ipv6AddressType",),
    "zones": ("ZoneMappings", "AllocationId"),
    "bandwidth package": ("BandwidthPackageId",),
}
"""Aspect of a balancer that can be changed later → parameters that one call sends together."""

PUBLIC: Settings = {"AddressType": "Internet", "Ipv6AddressType": "Internet"}
"""Values by which the Internet reaches a balancer."""

ANNOTATION_OF: Mapping[str, str] = {
    "AddressIpVersion": "ip-version",
    "PrivateIPv4Address": "zone-maps",
    "ResourceGroupId": "resource-group-id",
}
"""Parameter that cannot be changed after creation → suffix of the annotation that sets it."""

_CHECK = "HealthCheckConfig."

ADDITIONAL_CERTIFICATES = "AdditionalCertificateIds"
"""Setting of a listener that has actions of its own; not a parameter of the listener's actions."""

PROXY_V2: Mapping[str, str] = {
    "ppv2-pvl-vpc-id-enabled": "ProxyProtocolV2Config.Ppv2VpcIdEnabled",
    "ppv2-pvl-ep-id-enabled": "ProxyProtocolV2Config.Ppv2PrivateLinkEpIdEnabled",
    "ppv2-pvl-eps-id-enabled": "ProxyProtocolV2Config.Ppv2PrivateLinkEpsIdEnabled",
}
"""Suffix of an annotation → parameter of a listener. They are sent together, if one of the annotations is given."""

SET_BY = SettingSources(
    balancer={
        "LoadBalancerName": "name",
        "CrossZoneEnabled": "cross-zone-enabled",
        "DeletionProtectionEnabled": "delete-protection",
        "ModificationProtectionStatus": "modification-protection",
        "SecurityGroupIds": "security-group-ids",
        "AddressType": "address-type",
        "Ipv6AddressType": "ipv6-address-type",
        "ZoneMappings": "zone-maps",
        "AllocationId": "zone-maps",
        "BandwidthPackageId": "bandwidth-package-id",
    },
    listener={
        "IdleTimeout": "idle-timeout",
        "ProxyProtocolEnabled": "proxy-protocol",
        "Cps": "cps",
        "SecurityPolicyId": "tls-cipher-policy",
        "CertificateIds": "cert-id",
        "CaEnabled": "cacert",
        "CaCertificateIds": "cacert-id",
        "AlpnEnabled": "alpn",
        "AlpnPolicy": "alpn-policy",
        ADDITIONAL_CERTIFICATES: "additional-cert-ids",
        **{parameter: suffix for suffix, parameter in PROXY_V2.items()},
    },
    group={
        "Scheduler": "scheduler",
        "PreserveClientIpEnabled": "preserve-client-ip",
        "ConnectionDrainEnabled": "connection-drain",
        "ConnectionDrainTimeout": "connection-drain-timeout",
        f"{_CHECK}HealthCheckEnabled": "health-check-flag",
        f"{_CHECK}HealthCheckType": "health-check-type",
        f"{_CHECK}HealthCheckConnectPort": "health-check-connect-port",
        f"{_CHECK}HealthyThreshold": "healthy-threshold",
        f"{_CHECK}UnhealthyThreshold": "unhealthy-threshold",
        f"{_CHECK}HealthCheckInterval": "health-check-interval",
        f"{_CHECK}HealthCheckConnectTimeout": "health-check-connect-timeout",
        f"{_CHECK}HealthCheckUrl": "health-check-uri",
        f"{_CHECK}HealthCheckDomain": "health-check-domain",
        f"{_CHECK}HttpCheckMethod": "health-check-method",
        f"{_CHECK}HealthCheckHttpCode": "health-check-httpcode",
    },
)
"""Which annotation sets which parameter."""

REQUESTED_ZONES = "zone-maps"
"""The annotation's own text, with the addresses that its zones are to have; not a parameter of the API."""

PRIVATE_ADDRESS, ELASTIC_IP = 2, 3
"""Places in a part of the annotation ``zone-maps``, which need not have them."""

FIXED_OF_GROUP = ("Protocol", "ServerGroupType", "AddressIPVersion", "AnyPortEnabled")
"""Settings of a server group that cannot be changed; its name follows from them."""

NOT_IN_OTHER_NAMES = ("ServerGroupType", "AddressIPVersion")
"""Those of them that a name of Alibaba Cloud's own controller does not tell."""

AFFINITY: Mapping[str, str] = {"ipv6": "NonAffinity", "dualstack": "Affinity"}
"""Families of backends → which of them a client reaches: all where there are only IPv6 ones, else those of its own."""

LISTS = frozenset({"CertificateIds", "CaCertificateIds", "HealthCheckConfig.HealthCheckHttpCode"})
"""Parameters that the API takes as lists."""


def zones(text: str) -> tuple[tuple[str, ...], ...]:
    """Returns zone, vSwitch, private and public address of each part of ``zone:vswitch[:address[:eip]],…``."""
    return tuple(tuple(part.split(":")) for part in text.split(",") if part)


def requested_zones(options: BalancerOptions, configuration: BalancerConfiguration) -> str:
    """Returns the zones of a new balancer, in the annotation's form; those of the settings where it names none."""
    return options["zone-maps"] or configuration.zones


def zone_text(pairs: Mapping[str, str]) -> str:
    """Returns zones and their vSwitches as text that can be compared."""
    return ",".join(f"{zone}:{vswitch}" for zone, vswitch in sorted(pairs.items()))


def creation(options: BalancerOptions, configuration: BalancerConfiguration) -> Settings:
    """Returns parameters of the creation that are not compared afterwards."""
    found = {
        "LoadBalancerType": "network",
        "VpcId": configuration.vpc,
        "ResourceGroupId": configuration.resource_group,
        REQUESTED_ZONES: requested_zones(options, configuration),
    }
    if not _is_address_type_said(options):  # decides only how a balancer begins: none becomes public by a default
        found["AddressType"] = address_type(options)
    return {key: value for key, value in found.items() if value}


def fixed(options: BalancerOptions) -> Settings:
    """Returns parameters of the creation that cannot be changed afterwards."""
    found = {
        "AddressIpVersion": options["ip-version"],
        "ResourceGroupId": options.given.get("resource-group-id", ""),
        **_of_zones(options, "PrivateIPv4Address", PRIVATE_ADDRESS),
    }
    return {key: value for key, value in found.items() if value}


def settings(options: BalancerOptions, name: str) -> Settings:
    """Returns parameters of a balancer of our own that can be changed."""
    found = {
        "LoadBalancerName": name,
        "CrossZoneEnabled": _flag(options, "cross-zone-enabled"),
        "DeletionProtectionEnabled": _flag(options, "delete-protection"),
        "ModificationProtectionStatus": options["modification-protection"],
    }
    if named := zones(options["zone-maps"]):  # a default decides only how a balancer begins
        found["ZoneMappings"] = zone_text({zone[0]: zone[1] for zone in named})
    if "security-group-ids" in options.given:
        found["SecurityGroupIds"] = ",".join(sorted({*options.list("security-group-ids")}))
    if "bandwidth-package-id" in options.given:
        found["BandwidthPackageId"] = options["bandwidth-package-id"]
    if "ipv6-address-type" in options.given:
        found["Ipv6AddressType"] = options["ipv6-address-type"].capitalize()
    if _is_address_type_said(options):
        found["AddressType"] = address_type(options)
    public = options["address-type"] == "internet"
    return found | (_of_zones(options, "AllocationId", ELASTIC_IP) if public else {})


def address_type(options: BalancerOptions) -> str:
    """Returns whether the balancer is to have public or private addresses, as the API spells it."""
    return options["address-type"].capitalize()


def _is_address_type_said(options: BalancerOptions) -> bool:
    """Whether the Service says what addresses its balancer has: by the annotation, or by naming elastic IPs."""
    return "address-type" in options.given or bool(_of_zones(options, "AllocationId", ELASTIC_IP))


def _of_zones(options: BalancerOptions, parameter: str, place: int) -> dict[str, str]:
    """Returns a parameter of each zone that has it in the annotation ``zone-maps``."""
    parts = (zone for zone in zones(options["zone-maps"]) if len(zone) > place and zone[place])
    return {f"{parameter}{PART}{zone[0]}": zone[place] for zone in parts}


def listener(protocol: str, options: BalancerOptions) -> Settings:
    """Returns settings of a listener."""
    found = {
        "IdleTimeout": idle_timeout(protocol, options),
        "ProxyProtocolEnabled": _flag(options, "proxy-protocol"),
        "Cps": options["cps"],
    }
    if PROXY_V2.keys() & options.given.keys():
        found |= {parameter: _flag(options, suffix) for suffix, parameter in PROXY_V2.items()}
    if protocol == "tcpssl":
        found |= {"SecurityPolicyId": options["tls-cipher-policy"]}
        found |= {"CertificateIds": _once(options.list("cert-id"))}
        found |= {"CaEnabled": _flag(options, "cacert"), "AlpnEnabled": _flag(options, "alpn")}
        found |= {"CaCertificateIds": _once(options.list("cacert-id"))} if options.on("cacert") else {}
        found |= {"AlpnPolicy": options["alpn-policy"]} if options.on("alpn") else {}
        if "additional-cert-ids" in options.given:
            further = {*options.list("additional-cert-ids")}.difference(options.list("cert-id"))
            found[ADDITIONAL_CERTIFICATES] = ",".join(sorted(further))
    return found


def idle_timeout(protocol: str, options: BalancerOptions) -> str:
    """Returns the seconds after which an idle connection is closed; with UDP at most 20."""
    if protocol == "udp":
        return str(min(int(options["idle-timeout"] or MAX_UDP_IDLE), MAX_UDP_IDLE))
    return options["idle-timeout"] or "900"


def group(protocol: str, options: BalancerOptions) -> Settings:
    """Returns settings of a server group behind a listener of a protocol."""
    found = {
        "Protocol": "UDP" if protocol == "udp" else "TCP",
        "ServerGroupType": options["server-group-type"],
        "AddressIPVersion": "ipv4" if options["backend-ip-version"] == "ipv4" else "DualStack",
        "Scheduler": options["scheduler"],
        "PreserveClientIpEnabled": _preserve(protocol, options),
        "ConnectionDrainEnabled": _flag(options, "connection-drain"),
        f"{_CHECK}HealthCheckEnabled": _flag(options, "health-check-flag"),
    }
    if affinity := AFFINITY.get(options["backend-ip-version"]):
        found["IpVersionAffinityMode"] = affinity
    if options.on("connection-drain"):
        found["ConnectionDrainTimeout"] = options["connection-drain-timeout"]
    if options.on("health-check-flag"):
        found |= {f"{_CHECK}{key}": value for key, value in _health(protocol, options).items()}
    return found


def group_variant(protocol: str, options: BalancerOptions) -> str:
    """Returns the protocol in a server group's name, with what else cannot be changed in a group."""
    return protocol.upper() + _variant_suffix(options)


def other_variants(protocol: str, options: BalancerOptions) -> tuple[str, ...]:
    """Returns other spellings: our former one, and that of Alibaba Cloud's own controller, whose names say no type."""
    suffix = _variant_suffix(options)
    return tuple(dict.fromkeys((protocol + suffix, protocol.upper(), protocol)))


def port_range(port: int, options: BalancerOptions) -> range | None:
    """Returns the ports on which the listener of a Service port listens; None: on this port alone."""
    return port_ranges(options).get(port)


def port_ranges(options: BalancerOptions) -> Mapping[int, range]:
    """Returns the Service ports of the annotation ``listener-port-range`` with the ports on which they listen."""
    found: dict[int, range] = {}
    for part in options.list("listener-port-range"):
        ports, _, port = part.partition(":")
        first, _, last = ports.partition("-")
        found[int(port)] = range(int(first), int(last) + 1)
    return found


def range_settings(port: ServicePort, ports: range, options: BalancerOptions) -> tuple[Settings, Settings]:
    """Returns parameters of a listener of a port range and of its group, whose servers have no port of their own.

    Servers are checked at the Service's target port.
    """
    listener = {"StartPort": str(ports.start), "EndPort": str(ports.stop - 1)}
    group = {"AnyPortEnabled": "true"}
    if options.on("health-check-flag") and "health-check-connect-port" not in options.given:
        group[f"{_CHECK}HealthCheckConnectPort"] = str(port.targetPort or port.port)
    return listener, group


def servers_by_address(options: BalancerOptions) -> bool:
    """Whether servers are registered by an address alone, rather than by the instance or the ENI that has it."""
    return options["server-group-type"] == "Ip"


def affinity(seconds: int) -> Mapping[str, str]:
    """Returns the annotations by which a client is kept at one server: a hash of its address, which knows no time."""
    return {"scheduler": "sch"}


def has_affinity(protocol: str, options: BalancerOptions) -> bool:
    """Whether a listener keeps a client, by its address, at one server."""
    return options["scheduler"] == "sch"


def must_replace(present: Listener, listener: Listener) -> bool:
    """Whether the API cannot change a listener into another of the same protocol: when it has a range of ports."""
    return present.settings.get("EndPort", "") != listener.settings.get("EndPort", "")


def faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields what must be corrected in a Service before its network balancer can be made."""
    yield from common_faults(service, options)
    yield from _zone_faults(options)
    yield from _address_faults(options, configuration)
    if not options["id"] and not configuration.vpc:
        yield "the VPC of the cluster is not known: set cloud.loadBalancers.vpcID in the chart's values, or in conf.yml"
    yield from _range_faults(service, options, configuration)
    if options.on("cacert") and not options["cacert-id"]:
        yield f"annotation {options.annotation('cacert-id')} is missing: cacert is on"
    if options["preserve-client-ip"] == "on" and "tcpssl" in protocols(options).values():
        yield f"annotation {options.annotation('preserve-client-ip')} cannot be on with TCPSSL"


def _range_faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields which port ranges there cannot be."""
    key = f"annotation {options.annotation('listener-port-range')}"
    ranges, of_pods = port_ranges(options), ports_of_pods(service, options, configuration)
    if ranges.keys() & {port.port for port in service.spec.ports or () if port not in of_pods}:
        choice = options.kind.annotations.backend_type
        yield f"{key} needs pods as servers: set annotation {choice.name}: {choice.pods}"
    taken: dict[tuple[int, str], int] = {}
    for port in service.spec.ports or ():
        ports = ranges.get(port.port, range(port.port, port.port + 1))
        if not (1 <= ports.start < ports.stop <= MAX_PORT + 1) or (port.port in ranges and len(ports) == 1):
            yield f"{key}: {ports.start}-{ports.stop - 1} is no range of ports"
            continue
        if port.port in ranges and not isinstance(port.targetPort or port.port, int):
            yield f"{key}: port {port.port} needs a targetPort that is a number, where its servers are checked"
        if others := {taken[place] for each in ports if (place := (each, port.protocol)) in taken}:
            yield f"{key}: ports {port.port} and {', '.join(map(str, sorted(others)))} would listen on the same ports"
        taken |= {(each, port.protocol): port.port for each in ports}


def _address_faults(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields what does not fit the balancer's addresses."""
    if options["id"]:
        return
    if options["bandwidth-package-id"] and options["address-type"] != "internet":
        key, needed = options.annotation("bandwidth-package-id"), options.annotation("address-type")
        yield f"annotation {key} is for public balancers: set {needed}: internet, or the package to an empty text"
    if "ipv6-address-type" in options.given and options["ip-version"] != "DualStack":
        key, needed = options.annotation("ipv6-address-type"), options.annotation("ip-version")
        yield f"annotation {key} needs {needed}: dualstack"
    if options["ipv6-address-type"] == "internet" and not configuration.public_allowed:
        key = options.annotation("ipv6-address-type")
        yield f"public load balancers are switched off: set annotation {key}: intranet"


def remarks(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which annotations have no effect beside the others."""
    yield from common_remarks(options)
    for suffix in (each for each in PROXY_V2 if options.on(each) and not options.on("proxy-protocol")):
        yield f"annotation {options.annotation(suffix)} has no effect without proxy-protocol: on"
    others = [port.port for port in service.spec.ports or () if protocol_of(port, options) != "udp"]
    if options["health-check-type"] == "UDP" and others:
        key, which = options.annotation("health-check-type"), ", ".join(map(str, others))
        yield f"annotation {key} UDP has no effect on port {which}, which is not UDP: the check is TCP there"


def check_type(protocol: str, options: BalancerOptions) -> str:
    """Returns the type of the health check behind a listener of a protocol: of UDP another one only of nodes."""
    if protocol == "udp":
        return options.defaults.get("health-check-type", "UDP")
    kind = options["health-check-type"]
    return {"UDP": "TCP"}.get(kind, kind)


def creation_faults(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields what a new network balancer needs beside that, and neither the Service nor the settings say."""
    if not options["id"] and not requested_zones(options, configuration):
        key = f"annotation {options.annotation('zone-maps')}"
        default = "an administrator may set cloud.loadBalancers.zoneMaps for all"
        yield f"{key} is missing: a network load balancer needs zone:vswitch,zone:vswitch, or {default}"


def _zone_faults(options: BalancerOptions) -> Iterator[str]:
    key = f"annotation {options.annotation('zone-maps')}"
    named = Counter(zone[0] for zone in zones(options["zone-maps"]))  # a tenant's: any number
    if twice := sorted(zone for zone, times in named.items() if times > 1):
        yield f"{key} names {', '.join(twice)} twice: a network load balancer has one vSwitch in a zone"
    elif named and len(named) < MIN_ZONES:
        yield f"{key} names one zone: a network load balancer needs at least two"


def _health(protocol: str, options: BalancerOptions) -> dict[str, str]:
    kind = check_type(protocol, options)
    found = {
        "HealthCheckType": kind,
        "HealthCheckConnectPort": options["health-check-connect-port"],
        "HealthyThreshold": options["healthy-threshold"],
        "UnhealthyThreshold": options["unhealthy-threshold"],
        "HealthCheckInterval": options["health-check-interval"],
        "HealthCheckConnectTimeout": options["health-check-connect-timeout"],
    }
    if kind == "HTTP":
        found |= {
            "HealthCheckUrl": options["health-check-uri"],
            "HealthCheckDomain": options["health-check-domain"],
            "HttpCheckMethod": options["health-check-method"],
            "HealthCheckHttpCode": options["health-check-httpcode"],
        }
    return found


def _preserve(protocol: str, options: BalancerOptions) -> str:
    """Whether servers see the client's address: not behind TLS or by address, where the cloud refuses it."""
    if protocol == "tcpssl" or options["server-group-type"] == "Ip":
        return "false"
    return "false" if options["preserve-client-ip"] == "off" else "true"


def _variant_suffix(options: BalancerOptions) -> str:
    by_address = "-ip" if servers_by_address(options) else ""
    return f"{by_address}{'' if options['backend-ip-version'] == 'ipv4' else '-dualstack'}"


def _once(values: Iterable[str]) -> str:
    """Returns values as text with commas, each once."""
    return ",".join(dict.fromkeys(values))


def _flag(options: BalancerOptions, suffix: str) -> str:
    return "true" if options.on(suffix) else "false"
