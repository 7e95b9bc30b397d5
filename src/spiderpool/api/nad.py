"""NetworkAttachmentDefinition (k8s.cni.cncf.io/v1), and the annotations by which pods choose networks.

Both are of the Kubernetes Network Plumbing Working Group's "Network Custom Resource Definition De-facto Standard".
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.meta import Kind, Object, Scope, field_doc

NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"
DEFAULT_NETWORK_ANNOTATION = "v1.multus-cni.io/default-network"


class NetworkDNS(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """DNS of an interface (CNI specification 1.1.0, section 5)."""

    nameservers: Annotated[list[str] | None, field_doc("Addresses of name servers.")] = None
    domain: Annotated[str | None, field_doc("The domain for names without dots.")] = None
    search: Annotated[list[str] | None, field_doc("Domains that are searched.")] = None
    options: Annotated[list[str] | None, field_doc("Options of the resolver.")] = None


class NetworkStatusEntry(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """An interface in the annotation of a pod's network status (section 5 of the standard)."""

    name: Annotated[str, field_doc("namespace/name of the network.")]
    interface: Annotated[str, field_doc("Name of the interface in the pod.")]
    dns: Annotated[NetworkDNS, field_doc("Its DNS.")]
    ips: Annotated[list[str] | None, field_doc("Its addresses, without prefix length.")] = None
    mac: Annotated[str | None, field_doc("Its MAC address.")] = None
    mtu: Annotated[int | None, field_doc("Its MTU.")] = None
    default: Annotated[bool | None, field_doc("Whether it is the pod's default interface.")] = None
    gateway: Annotated[list[str] | None, field_doc("Gateways of the default route that the pod requests of it.")] = None


class NADSpec(msgspec.Struct, omit_defaults=True):
    """The CNI configuration of the network."""

    config: Annotated[str | None, field_doc("CNI configuration or configuration list as JSON text.")] = None


class NetworkAttachmentDefinition(Object, kw_only=True):
    """A CNI configuration that pods choose by name."""

    KIND: ClassVar[Kind] = Kind(
        "k8s.cni.cncf.io",
        "v1",
        "NetworkAttachmentDefinition",
        "network-attachment-definitions",
        Scope.NAMESPACED,
        ("net-attach-def",),
    )

    spec: Annotated[NADSpec | None, field_doc("The configuration.")] = None
