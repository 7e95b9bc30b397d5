"""What a pod's annotation k8s.v1.cni.cncf.io/network-status tells of its interfaces.

Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.cni import Result, ResultInterface


@dataclass(frozen=True, slots=True)
class AttachedNetwork:
    """A network of a pod and what the ADD for it gave; ``gateways`` are those of a default route it asked for."""

    network: str
    interface: str
    result: Result
    gateways: tuple[str, ...] = ()


def network_status(attached: Iterable[AttachedNetwork]) -> str:
    """The annotation's text: a JSON list, the pod's default interface first."""
    entries = [entry for index, each in enumerate(attached) for entry in _entries(each, is_default=index == 0)]
    return msgspec.json.format(msgspec.json.encode(entries), indent=4).decode()


def _entries(each: AttachedNetwork, *, is_default: bool) -> Iterator[dict[str, Any]]:
    """One entry for every interface in the pod; the default is the one with a gateway, otherwise the first."""
    inside = [(index, one) for index, one in enumerate(each.result.interfaces) if one.sandbox]
    if not inside:
        yield _entry(each, ResultInterface(each.interface), None, is_default=is_default)
        return
    chosen = next((ip.interface for ip in each.result.ips if ip.gateway), inside[0][0])
    for index, one in inside:
        yield _entry(each, one, index, is_default=is_default and index == chosen)


def _entry(each: AttachedNetwork, one: ResultInterface, index: int | None, *, is_default: bool) -> dict[str, Any]:
    ips = [ip.address.partition("/")[0] for ip in each.result.ips if index is None or ip.interface == index]
    entry: dict[str, Any] = {"name": each.network, "interface": one.name}
    if ips:
        entry["ips"] = ips
    if one.mac:
        entry["mac"] = one.mac
    if one.mtu:
        entry["mtu"] = one.mtu
    if is_default:
        entry["default"] = True
    entry["dns"] = each.result.dns
    if each.gateways:
        entry["gateway"] = list(each.gateways)
    return entry
