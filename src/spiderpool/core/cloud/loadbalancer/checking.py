"""Faults of a Service: what its author must correct before its balancer can be made or changed.

Found before the cloud is asked, so that the message names the annotation and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer import backends
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions, versions_of
from spiderpool.core.cloud.loadbalancer.model import (
    annotated_protocols,
    lent_groups,
    ports_of,
    ports_of_pods,
    ports_without_node_ports,
    protocol_of,
    protocols,
    redirects,
    transport_of,
)
from spiderpool.core.cloud.loadbalancer.source_ranges import admitted, source_ranges, version_of_range
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration


def faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> tuple[str, ...]:
    """Returns what must be corrected in the Service before its balancer can be made or changed."""
    has_one = (
        options.kind.naming.finalizer in (service.metadata.finalizers or ()) and service.status.loadBalancer.ingress
    )
    return (
        *options.faults,
        *_source_faults(service, options),
        *_field_faults(service, options),
        *_server_faults(service, options, configuration),
        *_port_faults(service, options),
        *_public_faults(options, configuration),
        *options.kind.faults(service, options, configuration),
        *(() if has_one else options.kind.creation_faults(options, configuration)),
    )


def remarks(service: Service, options: BalancerOptions) -> tuple[str, ...]:
    """Returns which annotations, or parts of them, have no effect, and why."""
    return (
        *options.remarks,
        *_source_remarks(service, options),
        *_port_remarks(service, options),
        *options.kind.remarks(service, options),
    )


def are_backends_valid(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> bool:
    """Whether no fault concerns the servers, so that they can be updated before the Service is corrected."""
    return options.backends_valid and not any(_server_faults(service, options, configuration))


def _server_faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields why the Service cannot have the servers that it asks for."""
    yield from _family_faults(service, options, configuration)
    yield from _node_port_faults(service, options, configuration)
    for port in service.spec.ports or ():
        if port.protocol not in ("TCP", "UDP"):
            yield f"port {port.port} is {port.protocol}, which the balancer cannot forward: remove it"


def _source_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields why the Service cannot admit the clients of its source ranges alone."""
    found, rules, versions = source_ranges(service), options.kind.source_lists, versions_of(options)
    for text in found.invalid:
        yield f"{found.key}: {text!r} is no range of addresses such as 10.0.0.0/8"
    wanted = admitted(found.ranges, versions)
    if found.ranges and not any(version_of_range(each) in versions for each in found.ranges):
        names = " or ".join(f"IPv{version}" for version in versions)
        yield f"{found.key} admits nobody, as the balancer has {names} addresses alone: add a range of these"
    if len(wanted) > rules.limit:
        yield f"{found.key} has {len(wanted)} ranges, and the balancer's {rules.noun} has room for {rules.limit}"
    if not wanted:
        return
    given = sorted(rules.suffixes & options.given.keys()) if not options.sources else []
    if given:
        named = " and ".join(f"annotation {options.annotation(suffix)}" for suffix in given)
        yield f"{found.key} and {named} both say who is admitted: remove the field or the annotation"
    if options["id"] and options.kind.shares_source_lists:
        yield (
            f"{found.key} would be for all that use balancer {options['id']}, which is yours: "
            f"remove it, and put the balancer into a {rules.noun} of yours"
        )
    elif options["id"] and not options.on("force-override-listeners"):
        needed = options.annotation("force-override-listeners")
        yield (
            f"{found.key} needs annotation {needed}: true, as the listeners of balancer {options['id']} are yours: "
            f"set it, or remove the field and give them an {rules.noun}"
        )


def _field_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which fields of Kubernetes the balancer would not follow."""
    if service.spec.loadBalancerIP:
        instead = _instead(options, {"id": ""})
        yield f"spec.loadBalancerIP is not served, the cloud chooses the address: remove it{instead}"
    if service.spec.sessionAffinity == "ClientIP":
        protocols_of = {protocol_of(port, options): None for port in service.spec.ports or ()}
        if without := [each for each in protocols_of if not options.kind.has_affinity(each, options)]:
            instead = _instead(options, *_affinity(without))
            which = ", ".join(without)
            yield f"spec.sessionAffinity ClientIP is not served by {which} listeners: set it to None{instead}"


def _affinity(protocols: list[str]) -> list[dict[str, str]]:
    """Returns the annotations that keep a client at one server, if there are some that all these listeners can have."""
    of_http = {protocol in ("http", "https") for protocol in protocols}
    return [{"sticky-session": "on"} if True in of_http else {"scheduler": "sch"}] if len(of_http) == 1 else []


def _instead(options: BalancerOptions, *choices: dict[str, str]) -> str:
    """Returns the end of a sentence: the first choice of annotations (suffix → value) that the kind of balancer has."""
    known = (choice for choice in choices if choice.keys() <= set(options.kind.annotations.known))
    words = [f"{options.annotation(suffix)}{value and ': '}{value}" for suffix, value in next(known, {}).items()]
    return f", and use annotation {' and '.join(words)} instead" if words else ""


def _node_port_faults(
    service: Service, options: BalancerOptions, configuration: BalancerConfiguration
) -> Iterator[str]:
    """Yields that the balancer would serve nothing: nodes are its servers, and have no port for the Service."""
    of_pods = ports_of_pods(service, options, configuration)
    without = [str(port.port) for port in ports_without_node_ports(service) if port not in of_pods]
    if without:
        choice = options.kind.annotations.backend_type
        yield (
            f"spec.allocateLoadBalancerNodePorts is false, so nodes cannot serve port {', '.join(without)}: "
            f"set it to true, or make pods the servers with annotation {choice.name}: {choice.pods}"
        )


def _family_faults(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    """Yields why the Service's address families do not fit: the cloud takes IPv6 servers only under conditions."""
    families = service.spec.ipFamilies or ["IPv4"]
    version, required = options["backend-ip-version"], options.kind.ipv6_servers
    wanted = backends.families(options)
    absent = [name for name in ("IPv4", "IPv6") if name.lower() in wanted and name not in families]
    key, balancer = options.annotation("backend-ip-version"), required.ip_version
    value = "ipv6" if version == "ipv4" else version
    hint = f"set {key}: {value} and {options.annotation('ip-version')}: {balancer.lower()}"
    refused = f"the load balancer's server groups do not take IPv6 servers (the cloud: {required.error_code})"
    if version == "ipv4" and absent:
        gate = "" if configuration.ipv6_backends else "have IPv6 backends enabled for this cluster, and "
        yield f"{refused}, and this Service has ipFamilies {families}: add IPv4 to them, or {gate}{hint}"
    elif version != "ipv4" and not configuration.ipv6_backends:
        yield f"{refused} unless IPv6 backends are enabled for this cluster: drop {key}"
    elif version != "ipv4" and options["ip-version"] != balancer:
        yield f"{refused} of a balancer that is not {balancer}: {hint}"
    elif absent:
        yield f"{key} is {version}, and this Service has ipFamilies {families}: add {', '.join(absent)} to them"


def _port_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields why protocols and redirects do not fit the Service's ports."""
    yield from _protocol_faults(options)
    ports = ports_of(service)
    served = {key: protocol for key, protocol in protocols(options).items() if key in ports}
    secure = options.kind.secure_protocols & set(served.values())
    for number in lent_groups(options).keys() - {port.port for port in service.spec.ports or ()}:
        yield f"annotation {options.annotation('vgroup-port')} names port {number}, which the Service does not have"
    if secure and not options["cert-id"]:
        key = options.annotation("cert-id")
        yield f"annotation {key} is missing: {', '.join(sorted(secure))} listeners need a certificate"
    for port, target in redirects(options).items():
        ends = [served.get((each, "TCP")) for each in (port, target)]
        if {(port, "TCP"), (target, "TCP")} <= ports.keys() and ends != ["http", "https"]:
            key = options.annotation("forward-port")
            yield f"annotation {key} {port}:{target} needs protocol-port http:{port},https:{target}"


def _protocol_faults(options: BalancerOptions) -> Iterator[str]:
    """Yields which ports have two protocols. TCP and UDP on one port number are two ports."""
    seen: set[tuple[int, str]] = set()
    for number, protocol in annotated_protocols(options):
        key = (number, transport_of(protocol))
        if key in seen:
            name = options.annotation("protocol-port")
            yield f"annotation {name} names {key[1]} port {number} twice; keep one protocol of it"
        seen.add(key)


def _source_remarks(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which ranges keep nobody out, and which listeners admit everybody."""
    found, versions = source_ranges(service), versions_of(options)
    is_known = not options["id"] or "ip-version" in options.given  # of a user's balancer only by what it says itself
    for text in sorted(each for each in found.ranges if is_known and version_of_range(each) not in versions):
        version = version_of_range(text)
        yield f"{found.key}: {text} has no effect: the balancer has no IPv{version} address"
    if options.sources and options.kind.redirect is not None:
        ports, served = ports_of(service), protocols(options)
        for port in redirects(options):
            if (port, "TCP") in ports and served.get((port, "TCP")) == "http":
                yield f"{found.key} has no effect on port {port}, which does nothing but redirect clients"


def _port_remarks(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which parts of annotations are about ports that the Service does not have."""
    ports = ports_of(service)
    for number, protocol in annotated_protocols(options):
        transport = transport_of(protocol)
        if (number, transport) not in ports:
            key = options.annotation("protocol-port")
            yield f"annotation {key}: {protocol}:{number} has no effect: the Service has no {transport} port {number}"
    for port, target in redirects(options).items():
        if absent := [str(each) for each in (port, target) if (each, "TCP") not in ports]:
            key, which = options.annotation("forward-port"), " and ".join(absent)
            yield f"annotation {key}: {port}:{target} has no effect: the Service has no TCP port {which}"


def _public_faults(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[str]:
    if options["address-type"] == "internet" and not options["id"] and not configuration.public_allowed:
        private, reuse = options.annotation("address-type"), options.annotation("id")
        yield f"public load balancers are switched off: set annotation {private}: intranet, or {reuse}"
