"""Derives frontends, their targets and health checks from the tables of an account. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from spiderpool_lab.alibaba.admitting import ClientRule, of_access_lists, of_security_groups
from spiderpool_lab.alibaba.balancers import CLB, NLB, BalancerBackend, CLBListener, NLBGroup, NLBListener
from spiderpool_lab.alibaba.tables import AccountTables

Transport = Literal["tcp", "udp", "http", "https"]
CheckKind = Literal["tcp", "udp", "http"]

_FORWARDING = ("Running", "Configuring", "Stopping", "Deleting")
"""Statuses in which an NLB listener forwards. It also forwards while it is being changed."""

_BACKEND_PORT = "-520"
"""The HealthCheckConnectPort of a CLB listener that means the port of the backend itself."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A health check of a backend. Times are in seconds; ``rise`` and ``fall`` are consecutive results."""

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
    """A backend with its weight. Without a check it counts as healthy."""

    address: str
    port: int
    weight: int
    check: HealthCheck | None


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address and port of a load balancer with its targets.

    ``sticky`` frontends choose the target by the client's address. ``redirect`` is the port of the HTTPS listener that
    clients are redirected to. ``cookie`` is the name of the cookie that binds a client to a target. ``admission`` says
    which clients are admitted.
    """

    address: str
    port: int
    transport: Transport
    targets: tuple[Target, ...]
    sticky: bool = False
    redirect: int | None = None
    cookie: str | None = None
    proto_header: bool = False
    admission: tuple[ClientRule, ...] = ()

    @property
    def layer_7(self) -> bool:
        """Whether HTTP requests are forwarded, rather than packets."""
        return self.transport in ("http", "https")

    @property
    def version(self) -> int:
        """IP version: 4 or 6."""
        return ip_address(self.address).version


def frontends(tables: AccountTables) -> list[Frontend]:
    """All frontends, sorted, so that equal states give equal lists."""
    found = [*_clb_frontends(tables), *_nlb_frontends(tables)]
    return sorted(found, key=lambda frontend: (frontend.address, frontend.port, frontend.transport))


def checks(found: Iterable[Frontend]) -> set[HealthCheck]:
    """The health checks of all targets of the frontends."""
    return {target.check for frontend in found for target in frontend.targets if target.check}


def changed_checks(former: Iterable[Frontend], found: Iterable[Frontend]) -> Iterator[tuple[HealthCheck, HealthCheck]]:
    """The former and the new check of each target that is checked otherwise; until that is done, its health stays."""
    before = dict(_targets(former))
    for key, check in _targets(found):
        old = before.get(key)
        if old is not None and check is not None and old != check:
            yield old, check


def _targets(found: Iterable[Frontend]) -> Iterator[tuple[tuple[str | int, ...], HealthCheck | None]]:
    """Each target of each frontend, by what identifies it, with its check."""
    for frontend in found:
        for each in frontend.targets:
            yield (frontend.address, frontend.port, frontend.transport, each.address, each.port), each.check


def _clb_frontends(tables: AccountTables) -> Iterator[Frontend]:
    for clb in tables.clbs:
        for listener in clb.listeners if clb.active else ():
            if listener.running:
                yield _clb_frontend(tables, clb, listener)


def _clb_frontend(tables: AccountTables, clb: CLB, listener: CLBListener) -> Frontend:
    settings = listener.settings
    group = tables.clb_groups.get(listener.group)
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
        of_access_lists(tables, listener),
    )


def _reachable(address: str, backends: Iterable[BalancerBackend]) -> Iterator[BalancerBackend]:
    """The backends with a weight above 0 whose address has the IP version of ``address``."""
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
    port = int(settings.get("HealthCheckConnectPort", _BACKEND_PORT))
    return HealthCheck(
        kind,
        backend.address,
        backend.port if port == int(_BACKEND_PORT) else port,
        float(settings["HealthCheckInterval"]),
        float(settings["HealthCheckTimeout" if layer_7 else "HealthCheckConnectTimeout"]),
        int(settings["HealthyThreshold"]),
        int(settings["UnhealthyThreshold"]),
        settings.get("HealthCheckMethod", "head").upper(),
        settings.get("HealthCheckURI", "/"),
        settings.get("HealthCheckDomain", ""),
        tuple(settings.get("HealthCheckHttpCode", "http_2xx").split(",")),
    )


def _nlb_frontends(tables: AccountTables) -> Iterator[Frontend]:
    for listener in tables.nlb_listeners:
        owner, group = tables.nlbs.get(listener.balancer), tables.nlb_groups.get(listener.group)
        if owner is not None and group is not None and listener.status in _FORWARDING and listener.protocol != "TCPSSL":
            for address in _addresses(owner):
                for port in listener.ports:
                    found = _nlb_frontend(address, listener, port, group)
                    yield replace(found, admission=of_security_groups(tables, owner, found.transport, port))


def _addresses(owner: NLB) -> Iterator[str]:
    for zone in owner.zones:
        yield from filter(None, (zone.public_address, zone.private_address, zone.ipv6_address))


def _nlb_frontend(address: str, listener: NLBListener, port: int, group: NLBGroup) -> Frontend:
    active = (item for item in _reachable(address, group.backends) if item.status not in ("Adding", "Removing"))
    return Frontend(
        address,
        port,
        "udp" if listener.protocol == "UDP" else "tcp",
        tuple(Target(item.address, item.port or port, item.weight, _nlb_check(group, item)) for item in active),
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
