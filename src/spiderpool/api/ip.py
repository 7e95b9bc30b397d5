"""SpiderIP (spiderpool.spidernet.io/v2beta1): an address is in use if and only if its SpiderIP exists."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.meta import Column, Kind, Object, Scope, field_doc, immutable, spiderpool_kind

IP_NODE_LABEL = "ipam.spidernet.io/node"
IP_POOL_LABEL = "ipam.spidernet.io/ippool"
IP_OWNER_LABEL = "ipam.spidernet.io/owner"
"""Label with the digest of the sticky owner and the name that it holds the address by: any node finds the record."""

RELEASE_ANNOTATION = "ipam.spidernet.io/release"
"""Annotation of a SpiderIP with its own UID: somebody means to delete this very object, whatever uses the address."""


class IPOwner(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """The StatefulSet or virtual machine that keeps the address when its pod is replaced."""

    kind: Annotated[str, field_doc("StatefulSet or VirtualMachineInstance.")]
    namespace: Annotated[str, field_doc("Namespace of the owner.")]
    name: Annotated[str, field_doc("Name of the owner.")]


class FormerPod(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """A pod of the virtual machine that had the address before the machine was to move to another one."""

    node: Annotated[str, field_doc("Node of the pod.")]
    pod: Annotated[str, field_doc("Name of the pod.")]
    podUID: Annotated[str, field_doc("UID of the pod.")]
    recordVersion: Annotated[str, field_doc("resourceVersion of the record when the pod had it last.")]


class IPSpec(msgspec.Struct, omit_defaults=True, gc=False):
    """The holder of the address. To release it, delete the object, or set releasedAt where the pool has a cooldown."""

    address: Annotated[
        str,
        field_doc(
            "The address with the prefix length of its subnet. Cannot be changed.",
            pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f:.]*:[0-9a-f:.]*)/[0-9]{1,3}$",
            **immutable("an address in use has an object of its own"),
        ),
    ]
    pool: Annotated[str, field_doc("Pool that the address was taken from.")]
    node: Annotated[str, field_doc("Node of the pod.")]
    namespace: Annotated[str, field_doc("Namespace of the pod.")]
    pod: Annotated[str, field_doc("Name of the pod.")]
    podUID: Annotated[str, field_doc("UID of the pod: with the interface, the identity of the holder.")]
    interface: Annotated[str, field_doc("Interface in the pod.")]
    owner: Annotated[IPOwner | None, field_doc("This owner keeps the address when the pod is replaced.")] = None
    releasedAt: Annotated[
        str | None,
        field_doc("When the address was released (RFC 3339): no pod gets it before the cooldown of its pool ends."),
    ] = None
    movedFrom: Annotated[
        list[FormerPod] | None,
        field_doc("Pods from which the virtual machine was to move, and which may still have the address."),
    ] = None


class SpiderIP(Object, kw_only=True):
    """One address in use, named after the address (IPv6 exploded, with dashes)."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderIP",
        Scope.CLUSTER,
        "sip",
        (
            Column("ADDRESS", "string", ".spec.address"),
            Column("POOL", "string", ".spec.pool"),
            Column("NODE", "string", ".spec.node"),
            Column("NAMESPACE", "string", ".spec.namespace"),
            Column("POD", "string", ".spec.pod"),
            Column("INTERFACE", "string", ".spec.interface"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: IPSpec
