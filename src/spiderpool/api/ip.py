"""SpiderIP: an address is in use if and only if its SpiderIP exists."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.meta import Column, Kind, Object, Scope, field_doc, spiderpool_kind

IP_NODE_LABEL = "ipam.spidernet.io/node"
IP_POOL_LABEL = "ipam.spidernet.io/ippool"
IP_OWNER_LABEL = "ipam.spidernet.io/owner"
"""Digest of the sticky owner and the name under which it holds the address, to find the record from any node."""


class IPOwner(msgspec.Struct, omit_defaults=True, frozen=True):
    """What the address stays with when its pod is replaced: a StatefulSet or a virtual machine."""

    kind: Annotated[str, field_doc("StatefulSet or VirtualMachineInstance.")]
    namespace: Annotated[str, field_doc("Namespace of the owner.")]
    name: Annotated[str, field_doc("Name of the owner.")]


class IPSpec(msgspec.Struct, omit_defaults=True):
    """Who holds the address. Releasing is deleting the object, or marking it where the pool has a cooldown."""

    address: Annotated[str, field_doc("The address with the prefix length of its subnet.")]
    pool: Annotated[str, field_doc("Pool that the address was taken from.")]
    node: Annotated[str, field_doc("Node of the pod.")]
    namespace: Annotated[str, field_doc("Namespace of the pod.")]
    pod: Annotated[str, field_doc("Name of the pod.")]
    podUID: Annotated[str, field_doc("UID of the pod: with the interface, the identity of the holder.")]
    interface: Annotated[str, field_doc("Interface in the pod.")]
    owner: Annotated[IPOwner | None, field_doc("The address stays with this owner when the pod is replaced.")] = None
    releasedAt: Annotated[
        str | None,
        field_doc("Since when nobody holds the address: it waits for the end of its pool's cooldown (RFC 3339)."),
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
