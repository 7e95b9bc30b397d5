"""Where the reconciler of Services reads, and how long it waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers


@dataclass(frozen=True, slots=True)
class ServiceTimings:
    """Durations in seconds, and the clock that measures them."""

    period: float = 300.0
    """Time in which every balancer is compared with its Service once, even if nothing changed."""
    gather: float = 1.0
    """Delay after a change of endpoints or nodes, so that further changes join it."""
    first_pause: float = 5.0
    """Pause before a Service that failed is reconciled again; doubled for each further failure."""
    last_pause: float = 300.0
    """The longest such pause."""
    confirm: float = 10.0
    """Time between the two answers that must both lack a balancer before it counts as deleted."""
    in_use: float = 600.0
    """Time after which what outlives a balancer, and others have begun to use, is left to them."""
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class ServiceListers:
    """Informers to read from; their owner runs them."""

    services: Informer[Service]
    slices: Informer[Any]
    nodes: Informer[Node]
    servers: NodeServers
    grants: Informer[SpiderLoadBalancerGrant]
