"""Results and errors of the Container Network Interface (CNI specification 1.1.0, section 5), in all its versions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

import msgspec

from spiderpool.api.cni import DEFAULT_VERSION, VERSIONS, decode
from spiderpool.errors import BadConfig, SpiderpoolError

DEFAULT_DESTINATIONS = {4: "0.0.0.0/0", 6: "::/0"}
"""Destinations of default routes by address family."""


@dataclass(frozen=True, slots=True)
class ResultIP:
    """An address of a result: a CIDR, and its gateway if it has one (section 5)."""

    address: str
    gateway: str | None
    interface: int | None = None
    """Index into the interfaces of the result; None in the result of an IPAM plugin."""


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """An interface of a result; without a ``sandbox`` it is on the node (section 5)."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an ADD in a form for all versions (section 5). Results of IPAM plugins have no interfaces."""

    ips: tuple[ResultIP, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    """(destination, gateway); an empty gateway means that the destination is on the link."""
    interfaces: tuple[ResultInterface, ...] = ()
    dns: dict[str, Any] = field(default_factory=dict)


def all_addresses(result: Result) -> tuple[str, ...]:
    """Every address that a result gives to an interface of the pod, with its prefix length."""
    return tuple(
        ip.address
        for ip in result.ips
        if ip.interface is None or not result.interfaces or result.interfaces[ip.interface].sandbox
    )


def pod_addresses(result: Result) -> tuple[str, ...]:
    """The first address of each family that a result gives to an interface of the pod, without prefix length."""
    found: dict[int, str] = {}
    for address in (each.partition("/")[0] for each in all_addresses(result)):
        found.setdefault(_family(address), address)
    return tuple(found.values())


def result_document(result: Result, version: str) -> dict[str, Any]:
    """A result as JSON in a version of the specification (section 5)."""
    document: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        document["interfaces"] = [_interface(each, version) for each in result.interfaces]
    document["ips"] = [_ip(ip, version) for ip in result.ips]
    if result.routes:
        document["routes"] = [{"dst": dst} | ({"gw": gw} if gw else {}) for dst, gw in result.routes]
    document["dns"] = result.dns
    return document


def read_result(document: bytes) -> Result:
    """A result that a plugin printed in any of our versions. Raises Undecodable or BadConfig."""
    read = decode(document, _Document)
    _check(read)
    return Result(
        ips=tuple(ResultIP(ip.address, ip.gateway, ip.interface) for ip in read.ips or ()),
        routes=tuple((route.dst, route.gw or "") for route in read.routes or ()),
        interfaces=tuple(
            ResultInterface(each.name, each.mac, each.mtu, each.sandbox) for each in read.interfaces or ()
        ),
        dns=read.dns or {},
    )


def with_default_routes(document: bytes, families: Collection[int], gateways: Collection[str]) -> bytes:
    """A plugin's result with default routes of ``families`` only, by ``gateways`` in the families that these are of.

    Raises Undecodable or BadConfig.
    """
    decode(document, _DocumentRoutes)
    result = decode(document, dict[str, Any])  # with all that its routes hold
    replaced = {_family(gateway) for gateway in gateways}
    removed = {
        destination
        for version, destination in DEFAULT_DESTINATIONS.items()
        if version not in families or version in replaced
    }
    routes = [route for route in result.get("routes") or () if route["dst"] not in removed]
    routes += [{"dst": DEFAULT_DESTINATIONS[_family(gateway)], "gw": gateway} for gateway in gateways]
    if not routes and "routes" not in result:
        return document
    return msgspec.json.encode(result | {"routes": routes})


def convert_result(document: dict[str, Any], version: str) -> dict[str, Any]:
    """A result in another version of the specification. In its own version it stays as it is. Raises BadConfig."""
    if document.get("cniVersion", version) == version:
        return document | {"cniVersion": version}
    return result_document(read_result(msgspec.json.encode(document)), version)


def error_document(error: SpiderpoolError, version: str = DEFAULT_VERSION) -> dict[str, Any]:
    """An error as JSON for standard output (section 5, "Error")."""
    document = {"cniVersion": version, "code": error.code, "msg": error.message}
    return document | ({"details": error.details} if error.details else {})


def version_document(version: str) -> dict[str, Any]:
    """The result of VERSION as JSON, in the version of the request (section 5)."""
    return {"cniVersion": version, "supportedVersions": list(VERSIONS)}


def _check(read: _Document) -> None:
    """Raises BadConfig for what would fail later, each time that the agent looks at the pod."""
    for ip in read.ips or ():
        try:
            ip_interface(ip.address)
        except ValueError as error:
            raise BadConfig(f"a plugin's result has an address that is none: {error}") from error
        if read.interfaces and ip.interface is not None and not 0 <= ip.interface < len(read.interfaces):
            raise BadConfig(
                f"a plugin's result gives {ip.address} to interface {ip.interface} of {len(read.interfaces)}, counted "
                "from 0"
            )


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _interface(interface: ResultInterface, version: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": interface.name, "mac": interface.mac}
    if interface.sandbox:
        document["sandbox"] = interface.sandbox
    return document | ({"mtu": interface.mtu} if version == "1.1.0" and interface.mtu else {})


def _ip(ip: ResultIP, version: str) -> dict[str, Any]:
    document: dict[str, Any] = {"address": ip.address}
    if version.startswith("0."):
        document = {"version": str(_family(ip.address)), **document}
    if ip.gateway:
        document["gateway"] = ip.gateway
    return document | ({"interface": ip.interface} if ip.interface is not None else {})


class _DocumentIP(msgspec.Struct):
    address: str
    gateway: str | None = None
    interface: int | None = None


class _DocumentRoute(msgspec.Struct):
    dst: str
    gw: str | None = None


class _DocumentInterface(msgspec.Struct):
    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


class _DocumentRoutes(msgspec.Struct):
    """The part of a plugin's result that is changed for the pod's default route."""

    routes: list[_DocumentRoute] | None = None


class _Document(msgspec.Struct):
    """The parts of a plugin's result that we keep."""

    ips: list[_DocumentIP] | None = None
    routes: list[_DocumentRoute] | None = None
    interfaces: list[_DocumentInterface] | None = None
    dns: dict[str, Any] | None = None
