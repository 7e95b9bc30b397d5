"""What should be: the balancer that a Service, its endpoints and the nodes ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.balancing import clb, nlb
from spiderpool.core.balancing.annotations import CLASS, PREFIX, Options
from spiderpool.core.balancing.backends import World, eligible, node_backends, pod_backends
from spiderpool.core.balancing.naming import balancer_name, group_name, own_tags, part_name
from spiderpool.core.balancing.values import Configuration, Group, Kind, Listener, Model, Owner, Settings

NLB_CLASS = "alibabacloud.com/nlb"
MOST_TAGS = 10


def kind_of(service: Service) -> Kind | None:
    """Which kind of balancer a Service asks us for; None: none at all, or one of somebody else."""
    if service.spec.type != "LoadBalancer":
        return None
    match service.spec.loadBalancerClass:
        case None | "":
            return _kind_without_class(service.metadata.annotations or {})
        case name if name == NLB_CLASS:
            return "nlb"
        case _:
            return None


def _kind_without_class(annotations: Mapping[str, str]) -> Kind | None:
    """By annotation: Kubernetes before 1.22 stores no class."""
    if annotations.get(f"{PREFIX}type", "").lower() == "nlb":
        return "nlb"
    return None if CLASS in annotations else "clb"


def owner_of(service: Service, configuration: Configuration) -> Owner:
    """Whose the parts of its balancer are."""
    metadata = service.metadata
    return Owner(metadata.namespace or "default", metadata.name, metadata.uid or "", configuration.cluster)


def faults(service: Service, options: Options, configuration: Configuration) -> tuple[str, ...]:
    """What must be corrected in the Service before its balancer can be made or changed; empty: nothing."""
    return (*options.faults, *_family(service, options, configuration), *_together(service, options, configuration))


def backends_clear(service: Service, options: Options, configuration: Configuration) -> bool:
    """Whether it is clear which servers there should be, whatever else must be corrected."""
    return options.backends_clear and not any(_family(service, options, configuration))


def wanted(service: Service, options: Options, world: World, configuration: Configuration) -> Model:
    """The balancer that a Service without faults should have."""
    owner = owner_of(service, configuration)
    reuse = options["id"]
    groups, unresolved, notes = _groups(service, options, world, configuration)
    return Model(
        kind=options.kind,
        owner=owner,
        reuse=reuse,
        name=options["name"] or balancer_name(owner),
        vpc=configuration.vpc,
        creation={} if reuse else _creation(options, configuration),
        fixed={} if reuse else _fixed(options),
        settings={} if reuse else _settings(options, options["name"] or balancer_name(owner)),
        tags={} if reuse else _tags(options, owner),
        listeners=tuple(_listeners(service, options, configuration)),
        groups=groups,
        manages_listeners=not reuse or options.on("force-override-listeners"),
        keeps_weights=options.on("ignore-weight-update"),
        hostname=options["hostname"] if options.kind == "clb" else "",
        unresolved=unresolved,
        notes=notes,
    )


def protocols(options: Options) -> Mapping[int, str]:
    """The protocol of each port that the annotation names."""
    pairs = (part.partition(":") for part in options.list("protocol-port"))
    return {int(port): protocol.lower() for protocol, _, port in pairs}


def redirects(options: Options) -> Mapping[int, int]:
    """Which http port is redirected to which https port."""
    pairs = (part.partition(":") for part in options.list("forward-port")) if options.kind == "clb" else ()
    return {int(port): int(target) for port, _, target in pairs}


def protocol_of(port: ServicePort, options: Options) -> str:
    """The protocol of a port's listener: as annotated, otherwise the Service's own."""
    return protocols(options).get(port.port, port.protocol.lower()) if port.protocol == "TCP" else "udp"


def uses_pods(options: Options, configuration: Configuration) -> bool:
    """Whether pods, not nodes, are the backends."""
    return configuration.pod_backends if options.pods is None else options.pods


def group_of(service: Service, port: ServicePort, options: Options, configuration: Configuration) -> str:
    """Name of the server group that a port is forwarded to."""
    if not uses_pods(options, configuration):
        number: int | str = port.nodePort or 0
    elif service.spec.selector:
        number = port.targetPort or port.port
    else:  # slices that somebody wrote by hand may lead two ports of one targetPort to different places
        number = port.port
    return group_name(options.kind, number, _variant(port, options), owner_of(service, configuration))


def _variant(port: ServicePort, options: Options) -> str:
    """Protocol in the name of a network balancer's group, and what else cannot be changed in one."""
    protocol = protocol_of(port, options)
    if options.kind == "clb":
        return protocol
    kind = "-ip" if options["server-group-type"] == "Ip" else ""
    return f"{protocol}{kind}{'-dualstack' if options['backend-ip-version'] == 'ipv6' else ''}"


def _listeners(service: Service, options: Options, configuration: Configuration) -> Iterator[Listener]:
    owner, targets = owner_of(service, configuration), redirects(options)
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        description = part_name(options.kind, port.port, protocol, owner)
        if protocol == "http" and port.port in targets:
            yield Listener(port.port, protocol, description, "", clb.redirect(targets[port.port]))
        else:
            group = group_of(service, port, options, configuration)
            yield Listener(port.port, protocol, description, group, _listener(protocol, options))


def _groups(
    service: Service, options: Options, world: World, configuration: Configuration
) -> tuple[tuple[Group, ...], tuple[str, ...], tuple[str, ...]]:
    """The server groups, addresses of pods without a known card, and what is to be said about nodes."""
    chosen, notes = eligible(world.nodes, options)
    pods = uses_pods(options, configuration)
    groups: dict[str, Group] = {}
    unresolved: set[str] = set()
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        if protocol == "http" and port.port in redirects(options):
            continue
        found = pod_backends(port, world, options) if pods else node_backends(service, port, world, chosen, options)
        name = group_of(service, port, options, configuration)
        groups[name] = Group(name, _group(protocol, options), found.servers, keep=found.unresolved)
        unresolved |= {address for address, _ in found.unresolved}
    return tuple(groups.values()), tuple(sorted(unresolved)), () if pods else notes


def _tags(options: Options, owner: Owner) -> Settings:
    pairs = (part.partition("=") for part in options.list("additional-resource-tags"))
    return {**{key: value for key, _, value in pairs}, **own_tags(owner)}


def _creation(options: Options, configuration: Configuration) -> Settings:
    match options.kind:
        case "clb":
            return clb.creation(options, configuration)
        case "nlb":
            return nlb.creation(options, configuration)
        case unknown:
            assert_never(unknown)


def _fixed(options: Options) -> Settings:
    match options.kind:
        case "clb":
            return clb.fixed(options)
        case "nlb":
            return nlb.fixed(options)
        case unknown:
            assert_never(unknown)


def _settings(options: Options, name: str) -> Settings:
    match options.kind:
        case "clb":
            return clb.settings(options, name)
        case "nlb":
            return nlb.settings(options, name)
        case unknown:
            assert_never(unknown)


def _listener(protocol: str, options: Options) -> Settings:
    match options.kind:
        case "clb":
            return clb.listener(protocol, options)
        case "nlb":
            return nlb.listener(protocol, options)
        case unknown:
            assert_never(unknown)


def _group(protocol: str, options: Options) -> Settings:
    return nlb.group(protocol, options) if options.kind == "nlb" else {}


def _family(service: Service, options: Options, configuration: Configuration) -> Iterator[str]:
    """IPv6 servers are refused by the cloud unless balancer, account and Service agree; said before it is asked."""
    families = service.spec.ipFamilies or ["IPv4"]
    version = options["backend-ip-version"]
    balancer = {"clb": "ipv6", "nlb": "DualStack"}[options.kind]
    hint = f"set {PREFIX}backend-ip-version: ipv6 and {PREFIX}ip-version: {balancer.lower()}"
    refused = "the load balancer's server groups do not take IPv6 servers (the cloud: ServerGroupNotSupportIpv6)"
    if version == "ipv4" and "IPv4" not in families:
        gate = "" if configuration.ipv6_backends else "have IPv6 backends enabled for this cluster, and "
        yield f"{refused}, and this Service has ipFamilies {families}: add IPv4 to them, or {gate}{hint}"
    elif version == "ipv6" and not configuration.ipv6_backends:
        yield f"{refused} unless IPv6 backends are enabled for this cluster: drop {PREFIX}backend-ip-version"
    elif version == "ipv6" and options["ip-version"] != balancer:
        yield f"{refused} of a balancer that is not {balancer}: {hint}"
    elif version == "ipv6" and "IPv6" not in families:
        yield f"{PREFIX}backend-ip-version is ipv6, and this Service has ipFamilies {families}: add IPv6 to them"


def _together(service: Service, options: Options, configuration: Configuration) -> Iterator[str]:
    """Values that are right each by itself, and cannot be right together."""
    yield from _ports(service, options)
    tags = len(options.list("additional-resource-tags")) + 2
    if tags > MOST_TAGS:
        yield f"annotation {PREFIX}additional-resource-tags: a balancer has at most {MOST_TAGS - 2} beside ours"
    if options["address-type"] == "internet" and not options["id"] and not configuration.public_allowed:
        yield f"public load balancers are switched off: set annotation {PREFIX}address-type: intranet, or {PREFIX}id"
    if options.kind == "nlb":
        yield from _network(options, configuration)
    else:
        yield from _classic(options, configuration)


def _ports(service: Service, options: Options) -> Iterator[str]:
    ports = {port.port: port.protocol for port in service.spec.ports or () if port.protocol == "TCP"}
    every = {port.port for port in service.spec.ports or ()}
    for number, protocol in protocols(options).items():
        key = f"annotation {PREFIX}protocol-port"
        if number not in every:
            yield f"{key} names port {number}, which the Service does not have"
        elif protocol != "udp" and number not in ports:
            yield f"{key}: port {number} is UDP in the Service and cannot be {protocol}"
        elif protocol == "udp" and number in ports:
            yield f"{key}: port {number} is TCP in the Service and cannot be udp"
    secure = {"https", "tcpssl"} & set(protocols(options).values())
    if secure and not options["cert-id"]:
        yield f"annotation {PREFIX}cert-id is missing: {secure.pop()} listeners need a certificate"
    for port, target in redirects(options).items():
        if (protocols(options).get(port), protocols(options).get(target)) != ("http", "https"):
            yield f"annotation {PREFIX}forward-port {port}:{target} needs protocol-port http:{port},https:{target}"


def _classic(options: Options, configuration: Configuration) -> Iterator[str]:
    if options.on("acl-status") and not options["acl-id"]:
        yield f"annotation {PREFIX}acl-id is missing: acl-status is on"
    if options.on("sticky-session") and options["sticky-session-type"] == "server" and not options["cookie"]:
        yield f"annotation {PREFIX}cookie is missing: sticky-session-type is server"
    private = options["address-type"] == "intranet" and not options["id"]
    if private and not (options["vswitch-id"] or configuration.vswitch):
        yield f"annotation {PREFIX}vswitch-id is missing: a private balancer needs one"


def _network(options: Options, configuration: Configuration) -> Iterator[str]:
    if not options["id"] and not options["zone-maps"]:
        yield f"annotation {PREFIX}zone-maps is missing: a network load balancer needs zone:vswitch,zone:vswitch"
    elif options["zone-maps"] and len(nlb.zones(options["zone-maps"])) < 2:
        yield f"annotation {PREFIX}zone-maps names one zone: a network load balancer needs at least two"
    if not options["id"] and not configuration.vpc:
        yield "the VPC of the cluster is not known: set it in the cloud's configuration"
    if options.on("cacert") and not options["cacert-id"]:
        yield f"annotation {PREFIX}cacert-id is missing: cacert is on"
    if options["preserve-client-ip"] == "on" and "tcpssl" in protocols(options).values():
        yield f"annotation {PREFIX}preserve-client-ip cannot be on with TCPSSL"
