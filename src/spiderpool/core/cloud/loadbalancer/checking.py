"""Faults of a Service: what its author must correct before its balancer can be made or changed.

Found before the cloud is asked, so that the message names the annotation and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import protocols, redirects
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration


def faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> tuple[str, ...]:
    """Returns what must be corrected in the Service before its balancer can be made or changed."""
    return (
        *options.faults,
        *_family_faults(service, options, configuration),
        *_port_faults(service, options),
        *_public_faults(options, configuration),
        *options.kind.faults(service, options, configuration),
    )


def are_backends_valid(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> bool:
    """Whether no fault concerns the servers, so that they can be updated before the Service is corrected."""
    return options.backends_valid and not any(_family_faults(service, options, configuration))


def _family_faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields why the Service's address families do not fit: the cloud takes IPv6 servers only under conditions."""
    families = service.spec.ipFamilies or ["IPv4"]
    version, required = options["backend-ip-version"], options.kind.ipv6_servers
    key, balancer = options.annotation("backend-ip-version"), required.ip_version
    hint = f"set {key}: ipv6 and {options.annotation('ip-version')}: {balancer.lower()}"
    refused = f"the load balancer's server groups do not take IPv6 servers (the cloud: {required.error_code})"
    if version == "ipv4" and "IPv4" not in families:
        gate = "" if configuration.ipv6_backends else "have IPv6 backends enabled for this cluster, and "
        yield f"{refused}, and this Service has ipFamilies {families}: add IPv4 to them, or {gate}{hint}"
    elif version == "ipv6" and not configuration.ipv6_backends:
        yield f"{refused} unless IPv6 backends are enabled for this cluster: drop {key}"
    elif version == "ipv6" and options["ip-version"] != balancer:
        yield f"{refused} of a balancer that is not {balancer}: {hint}"
    elif version == "ipv6" and "IPv6" not in families:
        yield f"{key} is ipv6, and this Service has ipFamilies {families}: add IPv6 to them"


def _port_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields why protocols and redirects do not fit the Service's ports."""
    numbers = {port.port for port in service.spec.ports or ()}
    tcp = {port.port for port in service.spec.ports or () if port.protocol == "TCP"}
    annotated = protocols(options)
    for number, protocol in annotated.items():
        key = f"annotation {options.annotation('protocol-port')}"
        if number not in numbers:
            yield f"{key} names port {number}, which the Service does not have"
        elif (number in tcp) == (protocol == "udp"):
            yield f"{key}: port {number} is {'TCP' if number in tcp else 'UDP'} in the Service and cannot be {protocol}"
    secure = options.kind.secure_protocols & set(annotated.values())
    if secure and not options["cert-id"]:
        key = options.annotation("cert-id")
        yield f"annotation {key} is missing: {', '.join(secure)} listeners need a certificate"
    for port, target in redirects(options).items():
        if (annotated.get(port), annotated.get(target)) != ("http", "https"):
            key = options.annotation("forward-port")
            yield f"annotation {key} {port}:{target} needs protocol-port http:{port},https:{target}"


def _public_faults(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    if options["address-type"] == "internet" and not options["id"] and not configuration.public_allowed:
        private, reuse = options.annotation("address-type"), options.annotation("id")
        yield f"public load balancers are switched off: set annotation {private}: intranet, or {reuse}"
