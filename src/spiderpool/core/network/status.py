"""The annotation k8s.v1.cni.cncf.io/network-status of a pod, which shows its interfaces.

Source: Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.cni_result import Result, ResultInterface

JSON_INDENT = 4
"""Spaces, as Multus writes the annotation."""


@dataclass(frozen=True, slots=True)
class AttachedNetwork:
    """A network of a pod with the result of its CNI ADD."""

    network: str
    """``namespace/name`` of the NetworkAttachmentDefinition."""
    interface: str
    result: Result
    gateways: tuple[str, ...] = ()
    """Gateways of the default route that the pod requests of this network."""


def network_status(attached: Iterable[AttachedNetwork]) -> str:
    """The annotation's value, a JSON list. ``attached`` begins with the network of the pod's default interface."""
    entries = [entry for index, network in enumerate(attached) for entry in _entries(network, is_default=index == 0)]
    return msgspec.json.format(msgspec.json.encode(entries), indent=JSON_INDENT).decode()


def _entries(attached: AttachedNetwork, *, is_default: bool) -> Iterator[dict[str, Any]]:
    """One entry for each interface in the pod; the default is the one with a gateway, otherwise the first."""
    in_pod = [(index, interface) for index, interface in enumerate(attached.result.interfaces) if interface.sandbox]
    if not in_pod:  # an ADD may return addresses alone; CNI names the interface in CNI_IFNAME
        yield _entry(attached, ResultInterface(attached.interface), None, is_default=is_default)
        return
    default_index = next((ip.interface for ip in attached.result.ips if ip.gateway), in_pod[0][0])
    for index, interface in in_pod:
        yield _entry(attached, interface, index, is_default=is_default and index == default_index)


def _entry(
    attached: AttachedNetwork, interface: ResultInterface, index: int | None, *, is_default: bool
) -> dict[str, Any]:
    """The entry of an interface; ``index`` is its place in the result, None when the result lists no interface."""
    ips = [ip.address.partition("/")[0] for ip in attached.result.ips if index is None or ip.interface == index]
    entry: dict[str, Any] = {"name": attached.network, "interface": interface.name}
    if ips:
        entry["ips"] = ips
    if interface.mac:
        entry["mac"] = interface.mac
    if interface.mtu:
        entry["mtu"] = interface.mtu
    if is_default:
        entry["default"] = True
    entry["dns"] = attached.result.dns
    if attached.gateways:
        entry["gateway"] = list(attached.gateways)
    return entry
