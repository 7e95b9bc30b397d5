"""What must be corrected in a Service before its balancer can be made: said before the cloud is asked."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.alibaba import nlb
from spiderpool.core.cloud.loadbalancer.annotations import PREFIX, Options
from spiderpool.core.cloud.loadbalancer.model import protocol_of, protocols, redirects
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration

MOST_TAGS = 10


def faults(service: Service, options: Options, configuration: BalancerConfiguration) -> tuple[str, ...]:
    """What must be corrected in the Service before its balancer can be made or changed; empty: nothing."""
    return (*options.faults, *_family(service, options, configuration), *_together(service, options, configuration))


def backends_clear(service: Service, options: Options, configuration: BalancerConfiguration) -> bool:
    """Whether it is clear which servers there should be, whatever else must be corrected."""
    return options.backends_clear and not any(_family(service, options, configuration))


def _family(service: Service, options: Options, configuration: BalancerConfiguration) -> Iterator[str]:
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


def _together(service: Service, options: Options, configuration: BalancerConfiguration) -> Iterator[str]:
    """Values that are right each by itself, and cannot be right together."""
    yield from _ports(service, options)
    yield from _scheduler(service, options)
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
    every = {port.port for port in service.spec.ports or ()}
    tcp = {port.port for port in service.spec.ports or () if port.protocol == "TCP"}
    for number, protocol in protocols(options).items():
        key = f"annotation {PREFIX}protocol-port"
        if number not in every:
            yield f"{key} names port {number}, which the Service does not have"
        elif (number in tcp) == (protocol == "udp"):
            yield f"{key}: port {number} is {'TCP' if number in tcp else 'UDP'} in the Service and cannot be {protocol}"
    secure = {"https", "tcpssl"} & set(protocols(options).values())
    if secure and not options["cert-id"]:
        yield f"annotation {PREFIX}cert-id is missing: {secure.pop()} listeners need a certificate"
    for port, target in redirects(options).items():
        if (protocols(options).get(port), protocols(options).get(target)) != ("http", "https"):
            yield f"annotation {PREFIX}forward-port {port}:{target} needs protocol-port http:{port},https:{target}"


def _scheduler(service: Service, options: Options) -> Iterator[str]:
    """Hashes that the cloud does not have for a listener's protocol."""
    scheduler, key = options["scheduler"], f"annotation {PREFIX}scheduler"
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        if scheduler == "qch" and protocol != "udp":
            yield f"{key}: qch is for UDP alone, and the listener of port {port.port} is {protocol}"
        elif scheduler in ("sch", "tch") and protocol in ("http", "https"):
            yield f"{key}: {scheduler} is not for {protocol}, which the listener of port {port.port} is"


def _classic(options: Options, configuration: BalancerConfiguration) -> Iterator[str]:
    if options.on("acl-status") and not options["acl-id"]:
        yield f"annotation {PREFIX}acl-id is missing: acl-status is on"
    if options.on("sticky-session") and options["sticky-session-type"] == "server" and not options["cookie"]:
        yield f"annotation {PREFIX}cookie is missing: sticky-session-type is server"
    private = options["address-type"] == "intranet" and not options["id"]
    if private and not (options["vswitch-id"] or configuration.vswitch):
        yield f"annotation {PREFIX}vswitch-id is missing: a private balancer needs one"


def _network(options: Options, configuration: BalancerConfiguration) -> Iterator[str]:
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
