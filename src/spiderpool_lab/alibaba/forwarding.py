"""What the balancers of an account are told to forward, as values: pure, from the account's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from spiderpool_lab.alibaba.balancers import CLB, NLB, BalancerBackend, CLBListener, NLBGroup, NLBListener
from spiderpool_lab.alibaba.tables import AccountTables

Transport = Literal["tcp", "udp", "http", "https"]
CheckKind = Literal["tcp", "udp", "http"]

_FORWARDING = ("Running", "Configuring", "Stopping", "Deleting")
"""The states in which a listener of an NLB forwards: also while it is being changed."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a backend is asked whether it is well. Times in seconds; thresholds are answers in a row."""

    kind: CheckKind
    address: str
    port: int
    interval: float
    timeout: float
    rise: int
    fall: int
    method: str = "HEAD"
    path: str = "/"
    host: str = ""
    codes: tuple[str, ...] = ("http_2xx",)


@dataclass(frozen=True, slots=True)
class Target:
    """A backend with its share of the traffic; without a check it counts as well."""

    address: str
    port: int
    weight: int
    check: HealthCheck | None


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address and port of a balancer, and where its traffic goes.

    A ``sticky`` one sends a client to the same target every time. ``redirect`` is the port of an HTTPS listener
    to which clients are sent away; ``cookie`` is the name of a cookie that ties a client to a target.
    """

    address: str
    port: int
    transport: Transport
    targets: tuple[Target, ...]
    sticky: bool = False
    redirect: int | None = None
    cookie: str | None = None
    proto_header: bool = False

    @property
    def layer_7(self) -> bool:
        """Whether requests are forwarded, rather than packets."""
        return self.transport in ("http", "https")

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.address).version


def frontends(world: AccountTables) -> list[Frontend]:
    """Everything that forwards now, in an order that changes with what it says alone."""
    found = [*_of_clbs(world), *_of_nlbs(world)]
    return sorted(found, key=lambda frontend: (frontend.address, frontend.port, frontend.transport))


def checks(found: Iterable[Frontend]) -> set[HealthCheck]:
    """The checks that the targets of some frontends need."""
    return {target.check for frontend in found for target in frontend.targets if target.check}


def _of_clbs(world: AccountTables) -> Iterator[Frontend]:
    for clb in world.clbs:
        for listener in clb.listeners if clb.active else ():
            if listener.running:
                yield _clb_frontend(world, clb, listener)


def _clb_frontend(world: AccountTables, clb: CLB, listener: CLBListener) -> Frontend:
    settings = listener.settings
    group = world.clb_groups.get(listener.group)
    backends = group.backends if group else ()
    forward = settings["ForwardPort"] if settings.get("ListenerForward") == "on" else None
    sticky = settings.get("PersistenceTimeout", "0") != "0" or settings["Scheduler"] in ("sch", "tch", "qch")
    return Frontend(
        clb.address,
        listener.port,
        listener.protocol,
        tuple(_clb_target(listener, backend) for backend in _reachable(clb.address, backends)),
        sticky,
        int(forward) if forward else None,
        settings.get("Cookie", "SERVERID") if settings.get("StickySession") == "on" else None,
        settings.get("XForwardedFor_proto") == "on",
    )


def _reachable(address: str, backends: Iterable[BalancerBackend]) -> Iterator[BalancerBackend]:
    """The backends of the family of an address that take part: those with a weight."""
    version = ip_address(address).version
    return (item for item in backends if item.weight > 0 and ip_address(item.address).version == version)


def _clb_target(listener: CLBListener, backend: BalancerBackend) -> Target:
    return Target(backend.address, backend.port, backend.weight, _clb_check(listener, backend))


def _clb_check(listener: CLBListener, backend: BalancerBackend) -> HealthCheck | None:
    settings = listener.settings
    if "off" in (settings.get("HealthCheck"), settings.get("HealthCheckSwitch")):
        return None
    layer_7 = listener.protocol in ("http", "https")
    kind: CheckKind = "udp" if listener.protocol == "udp" else "tcp"
    if layer_7 or settings.get("HealthCheckType") == "http":
        kind = "http"
    port = int(settings.get("HealthCheckConnectPort", "-520"))
    return HealthCheck(
        kind,
        backend.address,
        backend.port if port == -520 else port,
        float(settings["HealthCheckInterval"]),
        float(settings["HealthCheckTimeout" if layer_7 else "HealthCheckConnectTimeout"]),
        int(settings["HealthyThreshold"]),
        int(settings["UnhealthyThreshold"]),
        settings.get("HealthCheckMethod", "head").upper(),
        settings.get("HealthCheckURI", "/"),
        settings.get("HealthCheckDomain", ""),
        tuple(settings.get("HealthCheckHttpCode", "http_2xx").split(",")),
    )


def _of_nlbs(world: AccountTables) -> Iterator[Frontend]:
    for listener in world.nlb_listeners:
        owner, group = world.nlbs.get(listener.balancer), world.nlb_groups.get(listener.group)
        if owner is not None and group is not None and listener.status in _FORWARDING and listener.protocol != "TCPSSL":
            yield from (_nlb_frontend(address, listener, group) for address in _addresses(owner))


def _addresses(owner: NLB) -> Iterator[str]:
    for zone in owner.zones:
        yield from filter(None, (zone.public_address, zone.private_address, zone.ipv6_address))


def _nlb_frontend(address: str, listener: NLBListener, group: NLBGroup) -> Frontend:
    well = (item for item in _reachable(address, group.backends) if item.status not in ("Adding", "Removing"))
    return Frontend(
        address,
        listener.port,
        "udp" if listener.protocol == "UDP" else "tcp",
        tuple(Target(item.address, item.port, item.weight, _nlb_check(group, item)) for item in well),
        group.settings["Scheduler"] in ("sch", "tch", "qch"),
    )


def _nlb_check(group: NLBGroup, backend: BalancerBackend) -> HealthCheck | None:
    health = group.health
    if health["HealthCheckEnabled"] == "false":
        return None
    kinds: dict[str, CheckKind] = {"TCP": "tcp", "HTTP": "http", "UDP": "udp"}
    return HealthCheck(
        kinds[health["HealthCheckType"]],
        backend.address,
        int(health["HealthCheckConnectPort"]) or backend.port,
        float(health["HealthCheckInterval"]),
        float(health["HealthCheckConnectTimeout"]),
        int(health["HealthyThreshold"]),
        int(health["UnhealthyThreshold"]),
        health.get("HttpCheckMethod", "GET"),
        health.get("HealthCheckUrl", "/"),
        health.get("HealthCheckDomain", ""),
        tuple(health.get("HealthCheckHttpCode", "http_2xx").split(",")),
    )
