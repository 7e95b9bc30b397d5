"""What of a Service's annotations costs money or reaches what is not the Service's own, for both kinds of balancers.

Only what has an effect counts: a certificate without a listener that shows it is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spiderpool.core.cloud.alibaba.clb import DOMAINS, domains
from spiderpool.core.cloud.alibaba.nlb import ADDITIONAL_CERTIFICATES, ELASTIC_IP, zones
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import lent_groups, protocols
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    GrantField,
    GrantNeed,
    Listener,
    ObservedLoadBalancer,
    Settings,
    parameter_of,
)

VSWITCH = 1
"""Place in a part of ``zone-maps``."""
AT_CREATION: frozenset[GrantField] = frozenset({"vSwitches", "resourceGroups"})
"""What is decided when a classic balancer is made, and never changes."""


def clb_needs(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[GrantNeed]:
    """Yields what a Service with a classic balancer needs."""
    yield from _balancer(options, configuration)
    if not options["id"]:
        if options["address-type"] == "intranet":
            yield from _named(options, "vswitch-id", "vSwitches", {options["vswitch-id"]} - {configuration.vswitch})
        yield from _paid(options)
    if _manages_listeners(options):
        if "https" in protocols(options).values():
            yield from _named(options, "cert-id", "certificates", [options["cert-id"]])
            yield from _named(
                options, "domain-extensions", "certificates", domains(options["domain-extensions"]).values()
            )
        if options.on("acl-status") and not options.sources:
            yield from _named(options, "acl-id", "accessLists", options.list("acl-id"))


def nlb_needs(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[GrantNeed]:
    """Yields what a Service with a network balancer needs."""
    yield from _balancer(options, configuration)
    if not options["id"]:
        parts = zones(options["zone-maps"])
        free = {configuration.vswitch, *(part[VSWITCH] for part in zones(configuration.zones))}
        switches = {part[VSWITCH]: None for part in parts if part[VSWITCH] not in free}
        yield from _named(options, "zone-maps", "vSwitches", switches)
        if options["address-type"] == "internet":
            addresses = [part[ELASTIC_IP] for part in parts if len(part) > ELASTIC_IP]
            yield from _named(options, "zone-maps", "elasticIPs", addresses)
        if not options.sources:  # by which the Service has a group of its own
            yield from _named(options, "security-group-ids", "securityGroups", options.list("security-group-ids"))
        yield from _named(options, "bandwidth-package-id", "bandwidthPackages", [options["bandwidth-package-id"]])
    if _manages_listeners(options) and "tcpssl" in protocols(options).values():
        for suffix in ("cert-id", "additional-cert-ids"):
            yield from _named(options, suffix, "certificates", options.list(suffix))
        if options.on("cacert"):
            yield from _named(options, "cacert-id", "certificates", options.list("cacert-id"))


def clb_has(need: GrantNeed, observed: ObservedLoadBalancer, listeners: Iterable[Listener]) -> bool:
    """Whether a classic balancer, or one of its listeners, has what is needed already."""
    settings = observed.settings
    match need.field:
        case "certificates":
            served = [*listeners]
            further = (domains(each.settings.get(DOMAINS, "")).values() for each in served)
            return _is_listed(need, served, "ServerCertificateId") or any(need.value in each for each in further)
        case "accessLists":
            return _is_listed(need, listeners, "AclId")
        case "serverGroups":
            return _has_servers(need, observed)
        case "specs":
            return settings.get("InstanceChargeType") == "PayBySpec" and settings.get("LoadBalancerSpec") == need.value
        case "maxBandwidth":
            return settings.get("InternetChargeType") == "paybybandwidth" and _bandwidth(settings) >= int(need.value)
        case field:
            return field in AT_CREATION


def nlb_has(need: GrantNeed, observed: ObservedLoadBalancer, listeners: Iterable[Listener]) -> bool:
    """Whether a network balancer, or one of its listeners, has what is needed already."""
    match need.field:
        case "certificates":
            return _is_listed(need, listeners, "CertificateIds", "CaCertificateIds", ADDITIONAL_CERTIFICATES)
        case "serverGroups":
            return _has_servers(need, observed)
        case "securityGroups":
            return need.value in observed.settings.get("SecurityGroupIds", "").split(",")
        case "bandwidthPackages":
            return need.value == observed.settings.get("BandwidthPackageId", "")
        case "vSwitches":
            return need.value in {part[VSWITCH] for part in zones(observed.settings.get("ZoneMappings", ""))}
        case "elasticIPs":
            of_zones = {key: value for key, value in observed.settings.items() if parameter_of(key) == "AllocationId"}
            return need.value in of_zones.values()
        case field:
            return field == "resourceGroups"


def _balancer(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[GrantNeed]:
    """Yields what both kinds can need of the balancer itself."""
    identity = options["id"]
    if identity:
        yield from _named(options, "id", "loadBalancers", [identity])
        if options.on("force-override-listeners"):
            yield from _named(options, "force-override-listeners", "overrideListeners", [identity])
        yield from _named(options, "vgroup-port", "serverGroups", dict.fromkeys(lent_groups(options).values()))
        return
    group = {options["resource-group-id"]} - {configuration.resource_group}
    yield from _named(options, "resource-group-id", "resourceGroups", group)
    if options.on("preserve-lb-on-delete"):
        yield from _named(options, "preserve-lb-on-delete", "preserve", ["true"])


def _paid(options: BalancerOptions) -> Iterator[GrantNeed]:
    """Yields what is paid for whether it is used or not."""
    if options["instance-charge-type"] == "PayBySpec":
        yield from _named(options, "instance-charge-type", "specs", [options["spec"]])
    if options["address-type"] == "internet" and options["charge-type"] == "paybybandwidth":
        yield from _named(options, "charge-type", "maxBandwidth", [options["bandwidth"]])


def _manages_listeners(options: BalancerOptions) -> bool:
    return not options["id"] or options.on("force-override-listeners")


def _named(options: BalancerOptions, suffix: str, field: GrantField, values: Iterable[str]) -> Iterator[GrantNeed]:
    """Yields a need for each value that is not empty, once."""
    yield from (GrantNeed(options.annotation(suffix), field, value) for value in dict.fromkeys(values) if value)


def _has_servers(need: GrantNeed, observed: ObservedLoadBalancer) -> bool:
    """Whether a server group of the user's has servers of the Service."""
    group = observed.group(need.value)
    return group is not None and group.is_lent and bool(group.servers)


def _is_listed(need: GrantNeed, listeners: Iterable[Listener], *parameters: str) -> bool:
    listed = (listener.settings.get(name, "").split(",") for listener in listeners for name in parameters)
    return any(need.value in values for values in listed)


def _bandwidth(settings: Settings) -> int:
    text = settings.get("Bandwidth", "")
    return int(text) if text.isdigit() else 0
