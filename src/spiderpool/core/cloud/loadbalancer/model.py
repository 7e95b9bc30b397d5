"""What should be: the balancer that a Service, its endpoints and the nodes ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.alibaba import clb
from spiderpool.core.cloud.alibaba.naming import balancer_name, group_name, own_tags, part_name
from spiderpool.core.cloud.loadbalancer.annotations import CLASS, PREFIX, Options
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, eligible, node_backends, pod_backends
from spiderpool.core.cloud.loadbalancer.kinds import KINDS
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    BalancerOwner,
    Kind,
    Listener,
    LoadBalancerModel,
    ServerGroup,
    Settings,
)

NLB_CLASS = "alibabacloud.com/nlb"


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


def owner_of(service: Service, configuration: BalancerConfiguration) -> BalancerOwner:
    """Whose the parts of its balancer are."""
    metadata = service.metadata
    return BalancerOwner(metadata.namespace or "default", metadata.name, metadata.uid or "", configuration.cluster)


def wanted(
    service: Service, options: Options, world: BackendSnapshot, configuration: BalancerConfiguration
) -> LoadBalancerModel:
    """The balancer that a Service without faults should have."""
    owner, reuse, dialect = owner_of(service, configuration), options["id"], KINDS[options.kind]
    name = options["name"] or balancer_name(owner)
    groups, unresolved, notes = _groups(service, options, world, configuration)
    return LoadBalancerModel(
        kind=options.kind,
        owner=owner,
        reuse=reuse,
        name=name,
        vpc=configuration.vpc,
        creation={} if reuse else dialect.creation(options, configuration),
        fixed={} if reuse else dialect.fixed(options),
        settings={} if reuse else dialect.settings(options, name),
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


def uses_pods(options: Options, configuration: BalancerConfiguration) -> bool:
    """Whether pods, not nodes, are the backends."""
    return configuration.pod_backends if options.pods is None else options.pods


def group_of(service: Service, port: ServicePort, options: Options, configuration: BalancerConfiguration) -> str:
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


def _listeners(service: Service, options: Options, configuration: BalancerConfiguration) -> Iterator[Listener]:
    owner, targets = owner_of(service, configuration), redirects(options)
    listener = KINDS[options.kind].listener
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        description = part_name(options.kind, port.port, protocol, owner)
        if protocol == "http" and port.port in targets:
            yield Listener(port.port, protocol, description, "", clb.redirect(targets[port.port]))
        else:
            group = group_of(service, port, options, configuration)
            yield Listener(port.port, protocol, description, group, listener(protocol, options))


def _groups(
    service: Service, options: Options, world: BackendSnapshot, configuration: BalancerConfiguration
) -> tuple[tuple[ServerGroup, ...], tuple[str, ...], tuple[str, ...]]:
    """The server groups, addresses of pods without a known ENI, and what is to be said about nodes."""
    chosen, notes = eligible(world.nodes, options)
    pods = uses_pods(options, configuration)
    groups: dict[str, ServerGroup] = {}
    unresolved: set[str] = set()
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        if protocol == "http" and port.port in redirects(options):
            continue
        found = pod_backends(port, world, options) if pods else node_backends(service, port, world, chosen, options)
        name = group_of(service, port, options, configuration)
        settings = KINDS[options.kind].group(protocol, options)
        groups[name] = ServerGroup(name, settings, found.servers, keep=found.unresolved)
        unresolved |= {address for address, _ in found.unresolved}
    return tuple(groups.values()), tuple(sorted(unresolved)), () if pods else notes


def _tags(options: Options, owner: BalancerOwner) -> Settings:
    pairs = (part.partition("=") for part in options.list("additional-resource-tags"))
    return {**{key: value for key, _, value in pairs}, **own_tags(owner)}
