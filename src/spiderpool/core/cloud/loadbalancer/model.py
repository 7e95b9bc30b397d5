"""The desired state: the load balancer that a Service, its endpoints and the nodes ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.loadbalancer.backends import (
    BackendSnapshot,
    PortBackends,
    eligible,
    node_backends,
    pod_backends,
    shared_out,
    virtual_pods,
)
from spiderpool.core.cloud.loadbalancer.check_times import settling_time
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, source_list_name, versions_of
from spiderpool.core.cloud.loadbalancer.node_checks import QUESTION, with_node_check
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    BalancerOwner,
    Listener,
    ServerGroup,
    Settings,
    SourceList,
    parameter_of,
)


@dataclass(frozen=True, slots=True)
class LoadBalancerModel:
    """The balancer that a Service should have."""

    kind: BalancerKind
    options: BalancerOptions
    """What the Service's annotations say, and fields that stand for some.

    On a balancer that others made, only that is changed (`adoption`).

    With what is the default for this Service (`node_checks`).
    """
    owner: BalancerOwner
    reuse: str
    """Identity of the user's balancer that the Service uses; empty: it gets one of our own."""
    name: str
    vpc: str
    creation: Settings
    """Parameters of the creation that are not compared afterwards."""
    fixed: Settings
    """Parameters of the creation that cannot be changed afterwards."""
    settings: Settings
    """Parameters that can be changed."""
    tags: Settings
    origin: Settings
    """Tags that only a new balancer gets."""
    listeners: tuple[Listener, ...]
    groups: tuple[ServerGroup, ...]
    idle_groups: tuple[ServerGroup, ...] = ()
    """Groups of ports that redirect clients: kept up to date where another controller has made them, as it does."""
    manages_listeners: bool = True
    """False: the user manages the listeners of a reused balancer."""
    keeps_weights: bool = False
    """Whether the weights of servers that are in their group already are left alone."""
    sources: SourceList | None = None
    """List of the clients that alone are admitted; None: there is none of ours."""
    hostname: str = ""
    """Published instead of the address."""
    by_elastic_ip: bool = False
    """Whether the elastic IP that is bound to the balancer is published instead of its own address."""
    unresolved: tuple[str, ...] = ()
    """Addresses of pods whose ENI is not known yet: to be looked up again."""
    virtual: tuple[str, ...] = ()
    """Addresses of pods on virtual nodes: those that are servers stay, no others are added."""
    notes: tuple[str, ...] = ()
    """Nodes that are no backends, and why."""
    health_check_port: int = 0
    """Port at which nodes say whether they have ready pods, `spec.healthCheckNodePort`; 0: there is none."""
    settling: float = 0.0
    """Seconds within which the balancer finds a new server well."""

    @property
    def initial(self) -> Settings:
        """Parameters that can be changed, as a new balancer has them: it joins a list of clients when that is made."""
        later = self.kind.source_lists.parameter if self.kind.shares_source_lists else ""
        return {key: value for key, value in self.settings.items() if key != later}

    @property
    def lent_groups(self) -> tuple[str, ...]:
        """Identities of the user's server groups that the Service uses."""
        return tuple(group.name for group in self.groups if group.is_lent)


def owner_of(service: Service, configuration: BalancerConfiguration) -> BalancerOwner:
    """Returns the owner of the Service's balancer and of its parts."""
    metadata = service.metadata
    return BalancerOwner(metadata.namespace or "default", metadata.name, metadata.uid or "", configuration.cluster)


def build_model(
    service: Service, options: BalancerOptions, snapshot: BackendSnapshot, configuration: BalancerConfiguration
) -> LoadBalancerModel:
    """Returns the balancer that a Service without faults should have."""
    port, options = node_check_port(service), checked_options(service, options, configuration)
    owner, reuse, kind = owner_of(service, configuration), options["id"], options.kind
    name = options["name"] or kind.naming.balancer_name(owner)
    groups, unresolved, notes = _groups(service, options, snapshot, configuration)
    listeners = tuple(_listeners(service, options, configuration))
    of_pods = ports_of_pods(service, options, configuration)
    of_nodes = [port for port in service.spec.ports or () if port not in of_pods]
    return LoadBalancerModel(
        kind=kind,
        options=options,
        owner=owner,
        reuse=reuse,
        name=name,
        vpc=configuration.vpc,
        creation={} if reuse else kind.creation(options, configuration),
        fixed=_said(kind.fixed(options), options) if reuse else kind.fixed(options),
        settings={} if reuse else kind.settings(options, name),
        tags=_tags(options, owner),
        origin={} if reuse else kind.naming.origin_tags(owner),
        listeners=listeners,
        groups=groups,
        idle_groups=_groups(service, options, snapshot, configuration, idle=True)[0] if redirects(options) else (),
        manages_listeners=not reuse or options.on("force-override-listeners"),
        keeps_weights=options.on("ignore-weight-update"),
        sources=source_list(options, versions_of(options), owner),
        hostname=options.get("hostname"),
        by_elastic_ip=options.get("external-ip-type") == "eip",
        unresolved=unresolved,
        virtual=_virtual(of_nodes, options, snapshot),
        notes=notes if of_nodes or not of_pods else (),
        health_check_port=port,
        settling=settling_time(options, (*listeners, *groups)),
    )


def with_options(model: LoadBalancerModel, options: BalancerOptions) -> LoadBalancerModel:
    """Returns the model as other options have it; what its settings have beside those of its own options stays.

    So does its settling time.
    """
    kind, former = model.kind, model.options
    protocols = {listener.group: listener.protocol for listener in model.listeners}

    def changed(settings: Settings, of: Callable[[str, BalancerOptions], Settings], protocol: str) -> Settings:
        return substituted(settings, of(protocol, former), of(protocol, options))

    own = (kind.settings(each, model.name) for each in (former, options))
    return replace(
        model,
        options=options,
        settings=substituted(model.settings, *own) if model.settings else {},
        listeners=tuple(
            replace(each, settings=changed(each.settings, kind.listener, each.protocol)) if each.group else each
            for each in model.listeners
        ),
        groups=tuple(
            each
            if each.is_lent or each.name not in protocols
            else replace(each, settings=changed(each.settings, kind.group, protocols[each.name]))
            for each in model.groups
        ),
    )


def substituted(settings: Settings, former: Settings, wanted: Settings) -> dict[str, str]:
    """Returns settings with what differs from the former ones as wanted; what they have beside these stays."""
    beside = {key: value for key, value in settings.items() if former.get(key) != value}
    remaining = {key: value for key, value in settings.items() if key in wanted}
    return {**remaining, **{key: value for key, value in wanted.items() if former.get(key) != value}, **beside}


def source_list(options: BalancerOptions, versions: Collection[int], owner: BalancerOwner) -> SourceList | None:
    """Returns the list by which a balancer with addresses of some IP versions admits the clients of a Service."""
    if not options.sources:
        return None
    entries = options.kind.source_lists.entries(options.sources, versions)
    return SourceList(source_list_name(options.kind, owner), entries)


def checked_options(
    service: Service, options: BalancerOptions, configuration: BalancerConfiguration
) -> BalancerOptions:
    """Returns the options, with the health check that asks nodes where the Service has one."""
    port = node_check_port(service)
    return with_node_check(options, port) if port and has_node_check(service, options, configuration) else options


def node_check_port(service: Service) -> int:
    """Returns the port at which nodes say whether they have ready pods of a Service; 0: there is none."""
    is_local = service.spec.externalTrafficPolicy == "Local"
    return (service.spec.healthCheckNodePort or 0) if is_local else 0


def has_node_check(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> bool:
    """Whether the servers of a Service are nodes that serve their own pods alone, and no annotation says what to check.

    Servers of others, in a group of the user's, have no such port.
    """
    is_open = not lent_groups(options) and not QUESTION & options.given.keys()
    return bool(node_check_port(service)) and is_open and not ports_of_pods(service, options, configuration)


def annotated_protocols(options: BalancerOptions) -> Iterator[tuple[int, str]]:
    """Yields the entries of the annotation ``protocol-port``: port number and protocol."""
    for protocol, _, port in (part.partition(":") for part in options.list("protocol-port")):
        yield int(port), protocol.lower()


def protocols(options: BalancerOptions) -> Mapping[tuple[int, str], str]:
    """Returns the protocol of each port, by number and transport, that the annotation ``protocol-port`` names."""
    return {(port, transport_of(protocol)): protocol for port, protocol in annotated_protocols(options)}


def ports_of(service: Service) -> Mapping[tuple[int, str], ServicePort]:
    """Returns the ports of a Service by number and transport."""
    return {(port.port, port.protocol): port for port in service.spec.ports or ()}


def redirects(options: BalancerOptions) -> Mapping[int, int]:
    """Returns the http ports that redirect clients, each with the https port that they redirect to."""
    pairs = (part.partition(":") for part in options.list("forward-port"))
    return {int(port): int(target) for port, _, target in pairs}


def lent_groups(options: BalancerOptions) -> Mapping[int, str]:
    """Returns the ports whose servers are put into a server group of the user's, with the identity of each group."""
    pairs = (part.partition(":") for part in options.list("vgroup-port"))
    return {int(port): group for group, _, port in pairs}


def transport_of(protocol: str) -> str:
    """Returns the protocol of the Service's port for that of a listener: all but udp are over TCP."""
    return "UDP" if protocol == "udp" else "TCP"


def protocol_of(port: ServicePort, options: BalancerOptions) -> str:
    """Returns the protocol of a port's listener: as annotated, otherwise the Service's own."""
    return protocols(options).get((port.port, port.protocol), port.protocol.lower())


def ports_of_pods(
    service: Service, options: BalancerOptions, configuration: BalancerConfiguration
) -> list[ServicePort]:
    """Returns the ports whose backends are pods: also those for which nobody says so and nodes have no port."""
    if options.pods is None and not configuration.pod_backends:
        return ports_without_node_ports(service)
    return [] if options.pods is False else list(service.spec.ports or ())


def ports_without_node_ports(service: Service) -> list[ServicePort]:
    """Returns the ports for which the Service wants no NodePorts, and has none."""
    if service.spec.allocateLoadBalancerNodePorts is not False:
        return []
    return [port for port in service.spec.ports or () if not port.nodePort]


def group_of(
    service: Service, port: ServicePort, options: BalancerOptions, configuration: BalancerConfiguration
) -> str:
    """Returns the name of the server group that a port is forwarded to; of a user's group the identity."""
    if lent := lent_groups(options).get(port.port):
        return lent
    return options.kind.naming.group_name(*_group_key(service, port, options, configuration))


def _group_key(
    service: Service, port: ServicePort, options: BalancerOptions, configuration: BalancerConfiguration
) -> tuple[int | str, str, BalancerOwner]:
    """Returns what the server group of a port is named after."""
    kind, (number, *_) = options.kind, _group_numbers(service, port, options, configuration)
    variant = kind.group_variant(protocol_of(port, options), options)
    return number, variant, owner_of(service, configuration)


def _group_numbers(
    service: Service, port: ServicePort, options: BalancerOptions, configuration: BalancerConfiguration
) -> tuple[int | str, ...]:
    """Returns the port by which a group is named, and that by which others name it, where it is another one."""
    target, ports = port.targetPort or port.port, options.kind.port_range(port.port, options)
    if ports:
        return (_span(ports),)
    if port not in ports_of_pods(service, options, configuration):
        return (port.nodePort or 0,)
    numbers: tuple[int | str, ...] = (target,)
    if not service.spec.selector:
        # Hand-written EndpointSlices may send two ports with one targetPort to different pods.
        is_alone = [each.targetPort or each.port for each in service.spec.ports or ()].count(target) == 1
        numbers = (port.port, target) if is_alone else (port.port,)
    of_nodes = set() if port.nodePort else {each.nodePort for each in service.spec.ports or ()}
    return tuple(f"pods_{number}" if number in of_nodes else number for number in numbers)


def _other_group_names(
    service: Service, port: ServicePort, options: BalancerOptions, configuration: BalancerConfiguration
) -> tuple[str, ...]:
    kind, protocol, owner = options.kind, protocol_of(port, options), owner_of(service, configuration)
    variants = (kind.group_variant(protocol, options), *kind.other_variants(protocol, options))
    numbers = _group_numbers(service, port, options, configuration)
    names = [kind.naming.group_name(number, variant, owner) for number in numbers for variant in variants]
    return tuple(dict.fromkeys(names[1:]))


def _listeners(service: Service, options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[Listener]:
    owner, kind = owner_of(service, configuration), options.kind
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        ports = kind.port_range(port.port, options)
        description = kind.naming.part_name(_span(ports) if ports else port.port, protocol, owner)
        redirect = _redirect(service, port, options)
        if redirect is not None:
            yield Listener(port.port, protocol, description, "", redirect)
        else:
            group = group_of(service, port, options, configuration)
            settings = {**kind.listener(protocol, options), **_of_range(port, options)[0]}
            last = ports.stop - 1 if ports else 0
            first = ports.start if ports else port.port
            yield Listener(first, protocol, description, group, settings, last_port=last)


def _redirect(service: Service, port: ServicePort, options: BalancerOptions) -> Settings | None:
    """Returns the parameters of a listener that redirects clients; None when the port forwards to servers."""
    target, redirect = redirects(options).get(port.port), options.kind.redirect
    if redirect is None or target is None or protocol_of(port, options) != "http":
        return None
    return redirect(target) if ports_of(service).get((target, "TCP")) else None


def _groups(
    service: Service,
    options: BalancerOptions,
    snapshot: BackendSnapshot,
    configuration: BalancerConfiguration,
    *,
    idle: bool = False,
) -> tuple[tuple[ServerGroup, ...], tuple[str, ...], tuple[str, ...]]:
    """Returns the server groups, the addresses of pods without a known ENI, and notes about nodes left out.

    ``idle``: the groups of ports that redirect clients, instead of those of the others.
    """
    chosen, notes = eligible(snapshot.nodes, options)
    of_pods = ports_of_pods(service, options, configuration)
    groups: dict[str, ServerGroup] = {}
    unresolved: set[str] = set()
    for port in service.spec.ports or ():
        if (_redirect(service, port, options) is not None) != idle:
            continue
        if port in of_pods:
            backends = pod_backends(port, snapshot, options)
        else:
            backends = node_backends(service, port, snapshot, chosen, options)
        if options.kind.port_range(port.port, options):
            backends = backends.without_ports()
        if options["weight"]:
            backends = shared_out(backends, int(options["weight"]))
        group = _group(group_of(service, port, options, configuration), port, backends, options)
        if port.port in lent_groups(options):
            named = _group_key(service, port, options, configuration)
            description = options.kind.naming.server_description(*named)
            group = _lent(group, description, groups.get(group.name))
        else:
            group = replace(group, other_names=_other_group_names(service, port, options, configuration))
        groups[group.name] = group
        unresolved |= {address for address, _ in backends.unresolved}
    return tuple(groups.values()), tuple(sorted(unresolved)), notes


def _group(name: str, port: ServicePort, backends: PortBackends, options: BalancerOptions) -> ServerGroup:
    settings = {**options.kind.group(protocol_of(port, options), options), **_of_range(port, options)[1]}
    keep = backends.unresolved | backends.virtual
    return ServerGroup(name, settings, backends.servers, ending=backends.ending, keep=keep)


def _lent(group: ServerGroup, description: str, former: ServerGroup | None) -> ServerGroup:
    """Returns a port's servers as those of a user's group, whose settings stay; ``former``: of another port of it."""
    servers, ending = (
        frozenset(replace(server, description=description) for server in part) for part in (group.servers, group.ending)
    )
    found = replace(group, settings={}, servers=servers, ending=ending, identity=group.name, is_lent=True)
    if former is None:
        return found
    return replace(
        found, servers=servers | former.servers, ending=ending | former.ending, keep=group.keep | former.keep
    )


def _virtual(ports: list[ServicePort], options: BalancerOptions, snapshot: BackendSnapshot) -> tuple[str, ...]:
    """Returns the addresses of the pods on virtual nodes."""
    return tuple(sorted({address for address, _ in virtual_pods(ports, snapshot, options)}))


def _span(ports: range) -> str:
    """Returns a range of ports as names spell it."""
    return f"{ports.start}_{ports.stop - 1}"


def _of_range(port: ServicePort, options: BalancerOptions) -> tuple[Settings, Settings]:
    """Returns the settings that listener and group of a port have because they are for a range of ports."""
    ports = options.kind.port_range(port.port, options)
    return options.kind.range_settings(port, ports, options) if ports else ({}, {})


def _said(fixed: Settings, options: BalancerOptions) -> Settings:
    """Returns the parameters for which the Service has an annotation, not only a default."""
    suffixes = options.kind.annotation_of
    return {key: value for key, value in fixed.items() if suffixes[parameter_of(key)] in options.given}


def _tags(options: BalancerOptions, owner: BalancerOwner) -> Settings:
    """Returns the tags that a balancer should have; one of the user's has not ours."""
    pairs = (part.partition("=") for part in options.list("additional-resource-tags"))
    naming = options.kind.naming
    further = naming.recorded({key: value for key, _, value in pairs}, owner)
    return further if options["id"] else {**further, **naming.own_tags(owner)}
