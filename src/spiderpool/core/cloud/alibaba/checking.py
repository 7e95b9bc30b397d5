"""Rules of Alibaba Cloud that both kinds of load balancers have: schedulers of listeners, and the number of tags."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import protocol_of

MAX_ADDITIONAL_TAGS = 8
"""As with Alibaba Cloud's own controller; beside ours the cloud would take more."""


def common_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields what must be corrected in a Service for either kind of balancer."""
    yield from _scheduler_faults(service, options)
    if options["tunnel-type"]:
        key = options.annotation("tunnel-type")
        yield f"annotation {key} says that other software serves this Service: remove it to have a balancer from us"
    if len(options.list("additional-resource-tags")) > MAX_ADDITIONAL_TAGS:
        key = options.annotation("additional-resource-tags")
        yield f"annotation {key}: a balancer has at most {MAX_ADDITIONAL_TAGS} beside ours"


def common_remarks(options: BalancerOptions) -> Iterator[str]:
    """Yields what has no effect with either kind of balancer."""
    if not options.on("graceful-shutdown"):
        key = options.annotation("graceful-shutdown")
        yield f"annotation {key} {options['graceful-shutdown']} has no effect: servers whose pods end keep connections"


def _scheduler_faults(service: Service, options: BalancerOptions) -> Iterator[str]:
    """Yields which listeners cannot have the scheduler, a hash that the cloud lacks for their protocol."""
    scheduler, key = options["scheduler"], f"annotation {options.annotation('scheduler')}"
    for port in service.spec.ports or ():
        protocol = protocol_of(port, options)
        if scheduler == "qch" and protocol != "udp":
            yield f"{key}: qch is for UDP alone, and the listener of port {port.port} is {protocol}"
        elif scheduler in ("sch", "tch") and protocol in ("http", "https"):
            yield f"{key}: {scheduler} is not for {protocol}, which the listener of port {port.port} is"
