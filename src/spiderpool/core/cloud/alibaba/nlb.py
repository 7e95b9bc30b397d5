"""Settings of a network load balancer, its listeners and server groups, as its API spells them.

A dot leads into an object of the API: ``HealthCheckConfig.HealthCheckType``. Lists are texts with commas.
"""

from __future__ import annotations

from collections.abc import Mapping

from spiderpool.core.cloud.loadbalancer.annotations import Options
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Settings

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "attributes": ("LoadBalancerName", "CrossZoneEnabled"),
    "protection": ("DeletionProtectionEnabled", "ModificationProtectionStatus"),
    "security groups": ("SecurityGroupIds",),
}
"""What can be changed later, and by which parameters that are sent together."""

ANNOTATION_OF: Mapping[str, str] = {
    "AddressType": "address-type",
    "AddressIpVersion": "ip-version",
    "ZoneMappings": "zone-maps",
    "ResourceGroupId": "resource-group-id",
}
"""Which annotation gives a parameter that cannot be changed."""

ZONES_TO_MAKE = "zone-maps"
"""The annotation as it is, with the addresses that a new balancer is to have; no parameter of the API."""

FIXED_OF_GROUP = ("Protocol", "ServerGroupType", "AddressIPVersion")
"""Settings of a server group that cannot be changed; its name follows from them."""

LISTS = frozenset({"CertificateIds", "CaCertificateIds", "HealthCheckConfig.HealthCheckHttpCode"})
"""Parameters that the API takes as lists."""

_CHECK = "HealthCheckConfig."


def zones(text: str) -> tuple[tuple[str, ...], ...]:
    """Zone, vSwitch, private address and public address of each part of ``zone:vswitch[:address[:eip]]``."""
    return tuple(tuple(part.split(":")) for part in text.split(",") if part)


def zone_text(pairs: Mapping[str, str]) -> str:
    """Zones and their vSwitches, in a form that can be compared."""
    return ",".join(f"{zone}:{vswitch}" for zone, vswitch in sorted(pairs.items()))


def creation(options: Options, configuration: BalancerConfiguration) -> Settings:
    """Parameters of the creation that are not compared later."""
    found = {
        "LoadBalancerType": "network",
        "VpcId": configuration.vpc,
        "ResourceGroupId": configuration.resource_group,
        "BandwidthPackageId": options["bandwidth-package-id"],
        ZONES_TO_MAKE: options["zone-maps"],
    }
    return {key: value for key, value in found.items() if value}


def fixed(options: Options) -> Settings:
    """Parameters of the creation that cannot be changed."""
    found = {
        "AddressType": options["address-type"].capitalize(),
        "AddressIpVersion": options["ip-version"],
        "ResourceGroupId": options.given.get("resource-group-id", ""),
        "ZoneMappings": zone_text({zone[0]: zone[1] for zone in zones(options["zone-maps"])}),
    }
    return {key: value for key, value in found.items() if value}


def settings(options: Options, name: str) -> Settings:
    """Parameters of a balancer of our own that can be changed."""
    found = {
        "LoadBalancerName": name,
        "CrossZoneEnabled": options["cross-zone-enabled"],
        "DeletionProtectionEnabled": _flag(options, "delete-protection"),
        "ModificationProtectionStatus": options["modification-protection"],
    }
    if "security-group-ids" in options.given:
        found["SecurityGroupIds"] = ",".join(sorted(options.list("security-group-ids")))
    return found


def listener(protocol: str, options: Options) -> Settings:
    """Settings of a listener."""
    found = {
        "IdleTimeout": idle_timeout(protocol, options),
        "ProxyProtocolEnabled": _flag(options, "proxy-protocol"),
        "Cps": options["cps"],
    }
    if protocol == "tcpssl":
        found |= {"SecurityPolicyId": options["tls-cipher-policy"]}
        found |= {"CertificateIds": options["cert-id"]}
        found |= {"CaEnabled": _flag(options, "cacert"), "AlpnEnabled": _flag(options, "alpn")}
        found |= {"CaCertificateIds": options["cacert-id"]} if options.on("cacert") else {}
        found |= {"AlpnPolicy": options["alpn-policy"]} if options.on("alpn") else {}
    return found


def idle_timeout(protocol: str, options: Options) -> str:
    """Seconds of silence; with UDP at most 20."""
    if protocol == "udp":
        return str(min(int(options["idle-timeout"] or 20), 20))
    return options["idle-timeout"] or "900"


def group(protocol: str, options: Options) -> Settings:
    """Settings of a server group whose listener speaks ``protocol``."""
    found = {
        "Protocol": "UDP" if protocol == "udp" else "TCP",
        "ServerGroupType": options["server-group-type"],
        "AddressIPVersion": "DualStack" if options["backend-ip-version"] == "ipv6" else "ipv4",
        "Scheduler": options["scheduler"],
        "PreserveClientIpEnabled": _preserve(protocol, options),
        "ConnectionDrainEnabled": _flag(options, "connection-drain"),
        f"{_CHECK}HealthCheckEnabled": _flag(options, "health-check-flag"),
    }
    if options.on("connection-drain"):
        found["ConnectionDrainTimeout"] = options["connection-drain-timeout"]
    if options.on("health-check-flag"):
        found |= {f"{_CHECK}{key}": value for key, value in _health(protocol, options).items()}
    return found


def _health(protocol: str, options: Options) -> dict[str, str]:
    kind = "UDP" if protocol == "udp" else options["health-check-type"]
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


def _preserve(protocol: str, options: Options) -> str:
    """Servers behind TLS cannot see the client's address: the cloud refuses the pair."""
    if protocol == "tcpssl" or options["server-group-type"] == "Ip":
        return "false"
    return "false" if options["preserve-client-ip"] == "off" else "true"


def _flag(options: Options, suffix: str) -> str:
    return "true" if options.on(suffix) else "false"
