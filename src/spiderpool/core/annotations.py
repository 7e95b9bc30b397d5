"""What the annotations of pods and Namespaces ask for: read, checked, and refused with the remedy.

Keys of JSON objects may be written in any case, and keys that nobody knows are passed over, as manifests
written for Spiderpool expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

import msgspec

from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, RECLAIM, SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.errors import BadConfig

POOL = "ipam.spidernet.io/ippool"
POOLS = "ipam.spidernet.io/ippools"
ROUTES = "ipam.spidernet.io/routes"
NAMESPACE_POOLS = {4: "ipam.spidernet.io/default-ipv4-ippool", 6: "ipam.spidernet.io/default-ipv6-ippool"}
DEFAULT_ROUTE_NIC = "ipam.spidernet.io/default-route-nic"

FIRST_INTERFACE = "eth0"

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

Annotations = Mapping[str, str]
Names = Mapping[int, tuple[str, ...]]
"""Names of pools or subnets by address family; a family that is asked for nothing is absent."""

Route = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InterfacePools:
    """Pools or subnets that an annotation names for one interface; an empty interface is the next one attached."""

    interface: str
    names: Names
    clean_gateway: bool = False


@dataclass(frozen=True, slots=True)
class IPNumber:
    """How many addresses an application's pool shall hold: a fixed number, or so many more than pods."""

    count: int
    flexible: bool


class _Names(msgspec.Struct):
    ipv4: list[str] | None = None
    ipv6: list[str] | None = None
    interface: str | None = None
    cleangateway: bool | None = None


class _Route(msgspec.Struct):
    dst: str
    gw: str


def pool_wish(annotations: Annotations, interface: str) -> InterfacePools | None:
    """``ipam.spidernet.io/ippool``: pools of the interface that is being attached. Raises BadConfig."""
    item = _read(annotations, POOL, _Names, '{"ipv4": ["pool"], "ipv6": ["pool"]}')
    return InterfacePools(interface, _named(POOL, item)) if item else None


def pool_wishes(annotations: Annotations) -> tuple[InterfacePools, ...] | None:
    """``ipam.spidernet.io/ippools``: pools of several interfaces, all of them named or none. Raises BadConfig."""
    items = _read(annotations, POOLS, list[_Names], '[{"interface": "eth0", "ipv4": ["pool"]}]')
    if items is None:
        return None
    if not items:
        raise _wrong(POOLS, "lists no interface; add one, or remove the annotation")
    wishes = tuple(InterfacePools(each.interface or "", _named(POOLS, each), bool(each.cleangateway)) for each in items)
    _check_interfaces(POOLS, [wish.interface for wish in wishes])
    return wishes


def subnet_wishes(annotations: Annotations) -> tuple[InterfacePools, ...] | None:
    """``subnets``, else ``subnet``: SpiderSubnets from which the application gets pools. Raises BadConfig."""
    items = _read(annotations, SUBNETS_ANNOTATION, list[_Names], '[{"interface": "eth0", "ipv4": ["subnet"]}]')
    key = SUBNETS_ANNOTATION
    if items is None:
        key = SUBNET_ANNOTATION
        item = _read(annotations, key, _Names, '{"interface": "eth0", "ipv4": ["subnet"]}')
        if item is None:
            return None
        items = [item]
    if not items:
        raise _wrong(key, "lists no interface; add one, or remove the annotation")
    wishes = tuple(_subnet_wish(key, item) for item in items)
    _check_subnets(key, wishes)
    return wishes


def custom_routes(annotations: Annotations) -> tuple[Route, ...]:
    """``ipam.spidernet.io/routes``: further routes as (destination, gateway). Raises BadConfig."""
    items = _read(annotations, ROUTES, list[_Route], '[{"dst": "10.0.0.0/8", "gw": "192.168.0.1"}]')
    return tuple(_route(item) for item in items or ())


def namespace_names(annotations: Annotations) -> Names:
    """Default pools of a Namespace by family; empty where it has none. Raises BadConfig."""
    lists = {
        version: _read(annotations, key, list[str], '["pool"]', "Namespace") for version, key in NAMESPACE_POOLS.items()
    }
    return {version: _checked(NAMESPACE_POOLS[version], names) for version, names in lists.items() if names}


def ip_number(annotations: Annotations) -> IPNumber | None:
    """``ipam.spidernet.io/ippool-ip-number``: ``N``, or ``+N`` beyond the number of pods. Raises BadConfig."""
    text = annotations.get(IP_NUMBER_ANNOTATION)
    if text is None:
        return None
    digits = text.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        raise _wrong(IP_NUMBER_ANNOTATION, f"is {text!r}; write a number such as 5, or +2 for two more than pods")
    return IPNumber(int(digits), text.startswith("+"))


def reclaims(annotations: Annotations) -> bool:
    """``ipam.spidernet.io/ippool-reclaim``: whether the application's pool goes with it. Raises BadConfig."""
    text = annotations.get(RECLAIM, "true")
    if text not in TRUE | FALSE:
        raise _wrong(RECLAIM, f"is {text!r}; write true or false")
    return text in TRUE


def is_pattern(name: str) -> bool:
    """Whether a name of a pool stands for all that match it, shell style."""
    return "*" in name or "?" in name or ("[" in name and "]" in name)


def wish_of(wishes: Iterable[InterfacePools], key: str, interface: str, position: int) -> InterfacePools:
    """The wish for one interface: by its name, or by its position among the pod's where none is named."""
    listed = tuple(wishes)
    if not listed[0].interface:
        if position < len(listed):
            return listed[position]
        raise _wrong(key, f"names pools for {len(listed)} interfaces; {interface} is one more: add an entry for it")
    found = next((wish for wish in listed if wish.interface == interface), None)
    if found is None:
        names = ", ".join(wish.interface for wish in listed)
        raise _wrong(key, f"names pools for {names}, not for {interface}; add an entry for it")
    return found


def _subnet_wish(key: str, item: _Names) -> InterfacePools:
    """Only the first name of each list counts."""
    names = {version: each[:1] for version, each in _named(key, item).items()}
    return InterfacePools(item.interface or (FIRST_INTERFACE if key == SUBNET_ANNOTATION else ""), names)


def _check_subnets(key: str, wishes: tuple[InterfacePools, ...]) -> None:
    _check_interfaces(key, [wish.interface for wish in wishes])
    if len(wishes) > 1 and not wishes[0].interface:
        raise _wrong(key, "lists several interfaces without names; name each")
    for version in (4, 6):
        names = [name for wish in wishes for name in wish.names.get(version, ())]
        if twice := _twice(names):
            raise _wrong(key, f"uses subnet {twice} for two interfaces; give each interface a subnet of its own")


def _check_interfaces(key: str, interfaces: list[str]) -> None:
    named = [interface for interface in interfaces if interface]
    if named and len(named) < len(interfaces):
        raise _wrong(key, f"names {', '.join(named)} but leaves another entry unnamed; name all interfaces or none")
    if twice := _twice(named):
        raise _wrong(key, f"lists interface {twice} twice; write its pools in one entry")


def _twice(names: list[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _named(key: str, item: _Names) -> Names:
    names = {version: _checked(key, each) for version, each in ((4, item.ipv4), (6, item.ipv6)) if each}
    if not names:
        whose = f" for {item.interface}" if item.interface else ""
        raise _wrong(key, f"names nothing{whose} under ipv4 or ipv6; add names, or remove the annotation")
    return names


def _checked(key: str, names: list[str]) -> tuple[str, ...]:
    if any(not name.strip() for name in names):
        raise _wrong(key, "holds an empty name; remove it")
    return tuple(name.strip() for name in names)


def _route(item: _Route) -> Route:
    try:
        destination, gateway = ip_network(item.dst, strict=False), ip_address(item.gw)
    except ValueError as error:
        raise _wrong(ROUTES, f"holds {error}; write dst as a CIDR and gw as an address") from error
    if destination.version != gateway.version:
        raise _wrong(ROUTES, f"sends {item.dst} to {item.gw}, an address of the other family; correct gw")
    return str(destination), str(gateway)


def _read(annotations: Annotations, key: str, shape: type[T], example: str, whose: str = "pod") -> T | None:
    text = annotations.get(key)
    if text is None:
        return None
    try:
        return msgspec.convert(_lower(msgspec.json.decode(text)), shape)
    except msgspec.DecodeError as error:
        raise BadConfig(f"annotation {key} of the {whose} is wrong: {error}; write {example}") from error


def _lower(value: Any) -> Any:
    """Keys in lower case, at every depth."""
    match value:
        case dict():
            return {key.lower(): _lower(each) for key, each in value.items()}
        case list():
            return [_lower(each) for each in value]
        case _:
            return value


def _wrong(key: str, what: str) -> BadConfig:
    return BadConfig(f"annotation {key} {what}")
