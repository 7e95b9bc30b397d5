"""Annotations of pods and Namespaces that choose pools, subnets, routes: parsed and checked.

A wrong annotation raises BadConfig with the remedy. As manifests written for Spiderpool expect, keys of JSON objects
may be written in any case, and unknown keys are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

import msgspec

from spiderpool.api.cni import is_requestable
from spiderpool.api.decoding import decode
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, RECLAIM, SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.errors import BadConfig

POOL = "ipam.spidernet.io/ippool"
POOLS = "ipam.spidernet.io/ippools"
ROUTES = "ipam.spidernet.io/routes"
NAMESPACE_POOLS = {4: "ipam.spidernet.io/default-ipv4-ippool", 6: "ipam.spidernet.io/default-ipv6-ippool"}
"""Annotations of a Namespace, by address family."""
DEFAULT_ROUTE_NIC = "ipam.spidernet.io/default-route-nic"

FIRST_INTERFACE = "eth0"
"""Name of the interface that the container runtime asks for; other networks get net1, net2 and so on."""

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""The texts that Go's strconv.ParseBool accepts, as Spiderpool does."""

Annotations = Mapping[str, str]
Names = Mapping[int, tuple[str, ...]]
"""Names of pools or subnets by address family; families for which none is named are absent."""

Route = tuple[str, str]
"""(destination as a CIDR, gateway)."""

T = TypeVar("T")

MOST_INTERFACES = 33
"""Interfaces of a pod: the first one, and those of 32 networks."""
MOST_NAMES = 256
"""Pools or subnets that an annotation names for an interface and family. Each is looked for at every ADD of the pod."""
MOST_PATTERNS = 66
"""Names with wildcards in an annotation, two for each interface: each is compared with every pool of the node."""
MOST_ROUTES = 256
"""Further routes of a pod. The agent makes each one, and looks at them again at every CHECK."""
MOST_ADDRESSES = 5000
"""Addresses that an application requests for its pool at most, beside those of its pods for ``+N``."""
LONGEST_NAME = 253
"""Characters of the name of an object, or of a pattern for names."""
REMEMBERED = 16
"""Annotations that are kept as they were read: each interface of a pod looks at the same one."""


@dataclass(frozen=True, slots=True)
class InterfacePools:
    """Pools or subnets that an annotation names for one interface.

    An empty ``interface`` stands for the one at the same position among the pod's interfaces.
    """

    interface: str
    names: Names
    clean_gateway: bool = False
    """Whether the interface gets no default route."""


@dataclass(frozen=True, slots=True)
class IPNumber:
    """Number of addresses of an application's pool: ``count``, or if ``flexible`` the number of pods plus ``count``."""

    count: int
    flexible: bool


class _Entry(msgspec.Struct):
    """The JSON object of one interface."""

    ipv4: list[str] | None = None
    ipv6: list[str] | None = None
    interface: str | None = None
    cleangateway: bool | None = None


class _Route(msgspec.Struct):
    """The JSON object of one route."""

    dst: str
    gw: str


_SUBNETS_EXAMPLE = '[{"interface": "eth0", "ipv4": ["subnet"]}]'


def interface_pools(annotations: Annotations, interface: str) -> InterfacePools | None:
    """Pools of the interface that is being attached, from ``ippool``; None if not set. Raises BadConfig."""
    text = annotations.get(POOL)
    return None if text is None else InterfacePools(interface, _pools_of_one(text))


def all_interface_pools(annotations: Annotations) -> tuple[InterfacePools, ...] | None:
    """Pools of several interfaces, from ``ippools``; None if not set. Raises BadConfig.

    Either all entries have an interface name, or none has.
    """
    text = annotations.get(POOLS)
    return None if text is None else _pools_of_all(text)


@lru_cache(REMEMBERED)
def _pools_of_one(text: str) -> Names:
    names = _names_by_family(POOL, _value(POOL, text, _Entry, '{"ipv4": ["pool"], "ipv6": ["pool"]}'))
    check_patterns(f"annotation {POOL}", names.values())
    return names


@lru_cache(REMEMBERED)
def _pools_of_all(text: str) -> tuple[InterfacePools, ...]:
    entries = _value(POOLS, text, list[_Entry], '[{"interface": "eth0", "ipv4": ["pool"]}]')
    if not entries:
        raise _wrong(POOLS, "lists no interface; add one, or remove the annotation")
    pools = tuple(
        InterfacePools(entry.interface or "", _names_by_family(POOLS, entry), bool(entry.cleangateway))
        for entry in entries
    )
    _check_interfaces(POOLS, [each.interface for each in pools])
    check_patterns(f"annotation {POOLS}", (names for each in pools for names in each.names.values()))
    return pools


def all_interface_subnets(annotations: Annotations) -> tuple[InterfacePools, ...] | None:
    """SpiderSubnets from which the application gets pools, per interface; None if not set. Raises BadConfig.

    From ``subnets``, else from ``subnet``, whose only entry is for eth0 unless it names another interface.
    """
    key = SUBNETS_ANNOTATION if SUBNETS_ANNOTATION in annotations else SUBNET_ANNOTATION
    text = annotations.get(key)
    return None if text is None else _subnets_of_all(key, text)


@lru_cache(REMEMBERED)
def _subnets_of_all(key: str, text: str) -> tuple[InterfacePools, ...]:
    if key == SUBNETS_ANNOTATION:
        entries = _value(key, text, list[_Entry], _SUBNETS_EXAMPLE)
    else:
        entries = [_value(key, text, _Entry, '{"interface": "eth0", "ipv4": ["subnet"]}')]
    if not entries:
        raise _wrong(key, "lists no interface; add one, or remove the annotation")
    subnets = tuple(_interface_subnets(key, entry) for entry in entries)
    _check_subnets(key, subnets)
    return subnets


def custom_routes(annotations: Annotations) -> tuple[Route, ...]:
    """Further routes of the pod, from ``routes``; empty if not set. Raises BadConfig."""
    routes = _read(annotations, ROUTES, list[_Route], '[{"dst": "10.0.0.0/8", "gw": "192.168.0.1"}]', most=MOST_ROUTES)
    return tuple(_route(route) for route in routes or ())


def namespace_pools(annotations: Annotations) -> Names:
    """Default pools of a Namespace by family; empty if it names none. Raises BadConfig."""
    lists = {
        version: _read(annotations, key, list[str], '["pool"]', most=MOST_NAMES)
        for version, key in NAMESPACE_POOLS.items()
    }
    found = {version: _stripped(NAMESPACE_POOLS[version], names) for version, names in lists.items() if names}
    check_patterns("annotations of the Namespace", found.values())
    return found


def ip_number(annotations: Annotations) -> IPNumber | None:
    """Size of an application's pool, from ``ippool-ip-number``: ``N`` or ``+N``; None if not set. Raises BadConfig."""
    text = annotations.get(IP_NUMBER_ANNOTATION)
    if text is None:
        return None
    digits = text.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        raise _wrong(IP_NUMBER_ANNOTATION, f"is {text!r}; write a number such as 5, or +2 for two more than pods")
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(MOST_ADDRESSES)) or int(digits) > MOST_ADDRESSES:
        shown = digits if len(digits) < 20 else f"a number of {len(digits)} digits"
        raise _wrong(IP_NUMBER_ANNOTATION, f"requests {shown} addresses; at most {MOST_ADDRESSES} are possible")
    return IPNumber(int(digits), text.startswith("+"))


def reclaims_pool(annotations: Annotations) -> bool:
    """Whether the application's pool is deleted with it, from ``ippool-reclaim``; default true. Raises BadConfig."""
    text = annotations.get(RECLAIM, "true")
    if text not in TRUE | FALSE:
        raise _wrong(RECLAIM, f"is {text!r}; write true or false")
    return text in TRUE


def is_pattern(name: str) -> bool:
    """Whether a pool name is a shell-style pattern for all pools that match it."""
    return "*" in name or "?" in name or ("[" in name and "]" in name)


def check_patterns(holder: str, lists: Iterable[Iterable[str]]) -> None:
    """Raises BadConfig when lists of pools hold more patterns than may be compared with all pools."""
    number = sum(is_pattern(name) for names in lists for name in names)
    if number > MOST_PATTERNS:
        raise BadConfig(f"{holder} holds {number} patterns for names of pools; at most {MOST_PATTERNS} are possible")


def entry_for(entries: Iterable[InterfacePools], key: str, interface: str, position: int) -> InterfacePools:
    """The entry of one interface: by name, or by the interface's position in the pod where entries have no names.

    Raises BadConfig when annotation ``key`` has no entry for it.
    """
    listed = tuple(entries)
    if not listed[0].interface:
        if position < len(listed):
            return listed[position]
        raise _wrong(key, f"names pools for {len(listed)} interfaces; {interface} is one more: add an entry for it")
    found = next((entry for entry in listed if entry.interface == interface), None)
    if found is None:
        names = ", ".join(entry.interface for entry in listed)
        raise _wrong(key, f"names pools for {names}, not for {interface}; add an entry for it")
    return found


def _interface_subnets(key: str, entry: _Entry) -> InterfacePools:
    """The subnets of one entry. Only the first name of each family counts."""
    names = {version: listed[:1] for version, listed in _names_by_family(key, entry).items()}
    return InterfacePools(entry.interface or (FIRST_INTERFACE if key == SUBNET_ANNOTATION else ""), names)


def _check_subnets(key: str, subnets: tuple[InterfacePools, ...]) -> None:
    _check_interfaces(key, [each.interface for each in subnets])
    if len(subnets) > 1 and not subnets[0].interface:
        raise _wrong(key, "lists several interfaces without names; name each")
    for version in (4, 6):
        names = [name for each in subnets for name in each.names.get(version, ())]
        if duplicate := first_duplicate(names):
            raise _wrong(key, f"uses subnet {duplicate} for two interfaces; give each interface a subnet of its own")


def _check_interfaces(key: str, interfaces: list[str]) -> None:
    named = [interface for interface in interfaces if interface]
    if bad := next((interface for interface in named if not is_requestable(interface)), None):
        raise _wrong(key, f"names {bad!r}, which no interface is called; write a name such as {FIRST_INTERFACE}")
    if named and len(named) < len(interfaces):
        raise _wrong(key, f"names {', '.join(named)} but leaves another entry unnamed; name all interfaces or none")
    if duplicate := first_duplicate(named):
        raise _wrong(key, f"lists interface {duplicate} twice; write its pools in one entry")


def first_duplicate(names: Sequence[str]) -> str | None:
    """The first name that stands there more than once. Annotations may hold thousands, so each is looked at twice."""
    counts = Counter(names)
    return next((name for name in names if counts[name] > 1), None)


def _names_by_family(key: str, entry: _Entry) -> Names:
    """The names of an entry. Raises BadConfig when it has none in either family."""
    names = {version: _stripped(key, listed) for version, listed in ((4, entry.ipv4), (6, entry.ipv6)) if listed}
    if not names:
        where = f" for {entry.interface}" if entry.interface else ""
        raise _wrong(key, f"names nothing{where} under ipv4 or ipv6; add names, or remove the annotation")
    return names


def _stripped(key: str, names: list[str]) -> tuple[str, ...]:
    """The names without surrounding blanks. Raises BadConfig when one is empty."""
    if len(names) > MOST_NAMES:
        raise _wrong(key, f"holds {len(names)} names; at most {MOST_NAMES} are possible")
    if any(not name.strip() for name in names):
        raise _wrong(key, "holds an empty name; remove it")
    if long := next((name for name in names if len(name.strip()) > LONGEST_NAME), None):
        raise _wrong(key, f"holds a name of {len(long)} characters; at most {LONGEST_NAME} are possible")
    return tuple(name.strip() for name in names)


def _route(route: _Route) -> Route:
    """A route in canonical form."""
    try:
        destination, gateway = ip_network(route.dst, strict=False), ip_address(route.gw)
    except ValueError as error:
        raise _wrong(ROUTES, f"holds {error}; write dst as a CIDR and gw as an address") from error
    if destination.version != gateway.version:
        raise _wrong(ROUTES, f"sends {route.dst} to {route.gw}, an address of the other family; correct gw")
    return str(destination), str(gateway)


def _read(annotations: Annotations, key: str, shape: type[T], example: str, *, most: int) -> T | None:
    """The value of an annotation; None if not set. Raises BadConfig."""
    text = annotations.get(key)
    return None if text is None else _value(key, text, shape, example, most=most)


def _value(key: str, text: str, shape: type[T], example: str, *, most: int = MOST_INTERFACES) -> T:
    """The JSON of an annotation as a ``shape``. Raises BadConfig with an ``example`` to follow.

    ``most`` is the number of entries that a list may have: what is longer is refused before it is read any further.
    """
    holder = "Namespace" if key in NAMESPACE_POOLS.values() else "pod"
    try:
        value = decode(text)
        if isinstance(value, list | dict) and len(value) > most:
            raise _wrong(key, f"of the {holder} has {len(value)} entries; at most {most} are possible")
        return msgspec.convert(_with_lower_keys(value), shape)
    except msgspec.DecodeError as error:
        raise BadConfig(f"annotation {key} of the {holder} is wrong: {error}; write {example}") from error


def _with_lower_keys(value: Any) -> Any:
    """A JSON value with the keys of its objects in lower case, at every depth."""
    match value:
        case dict():
            return {key.lower(): _with_lower_keys(each) for key, each in value.items()}
        case list():
            return [_with_lower_keys(each) for each in value]
        case _:
            return value


def _wrong(key: str, complaint: str) -> BadConfig:
    return BadConfig(f"annotation {key} {complaint}")
