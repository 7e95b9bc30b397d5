"""The annotation k8s.v1.cni.cncf.io/network-status of a pod, which shows its interfaces.

Source: Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.cni_result import Result, ResultInterface
from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import NetworkDNS, NetworkStatusEntry
from spiderpool.api.spidernode import NodeSandbox, SpiderNode
from spiderpool.core.ipam.gc import pod_uids

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


def network_status(attached: Iterable[AttachedNetwork]) -> tuple[NetworkStatusEntry, ...]:
    """The interfaces of a pod. ``attached`` begins with the network of the pod's default interface."""
    return tuple(entry for index, network in enumerate(attached) for entry in _entries(network, is_default=index == 0))


def status_text(entries: Iterable[NetworkStatusEntry]) -> str:
    """The annotation's value, a JSON list."""
    return msgspec.json.format(msgspec.json.encode([*entries]), indent=JSON_INDENT).decode()


def status_of(pod: Pod, account: SpiderNode) -> str | None:
    """The annotation that a pod gets by the account of a node; None where that says nothing of this very pod.

    Only the pod's own node may: an agent can say anything of its sandboxes, but no agent speaks for another node.
    """
    if pod.spec.nodeName != account.name or account.status is None:
        return None
    uids = pod_uids(pod)
    reported = (each.networks for each in account.status.sandboxes or () if each.podUID in uids and is_of(each, pod))
    entries = next((networks for networks in reported if networks), None)
    return status_text(entries) if entries else None


def is_of(sandbox: NodeSandbox, pod: Pod) -> bool:
    """Whether a sandbox names a pod of this name."""
    return (sandbox.namespace, sandbox.pod) == (pod.metadata.namespace, pod.name)


def _entries(attached: AttachedNetwork, *, is_default: bool) -> Iterator[NetworkStatusEntry]:
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
) -> NetworkStatusEntry:
    """The entry of an interface; ``index`` is its place in the result, None when the result lists no interface."""
    ips = [ip.address.partition("/")[0] for ip in attached.result.ips if index is None or ip.interface == index]
    return NetworkStatusEntry(
        attached.network,
        interface.name,
        _dns(attached.result.dns),
        ips or None,
        interface.mac or None,
        interface.mtu or None,
        is_default or None,
        list(attached.gateways) or None,
    )


def _dns(reported: dict[str, Any]) -> NetworkDNS:
    """The DNS of a result; that of a plugin that writes something else is left out."""
    try:
        return msgspec.convert(reported, NetworkDNS)
    except msgspec.ValidationError:
        return NetworkDNS()
