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
