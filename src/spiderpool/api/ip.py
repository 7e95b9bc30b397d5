"""SpiderIP (spiderpool.spidernet.io/v2beta1): an address is in use if and only if its SpiderIP exists."""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import Annotated, ClassVar

import msgspec
from msgspec.structs import replace

from spiderpool.api.meta import Column, Kind, Object, Rule, Scope, field_doc, immutable, spiderpool_kind

IP_NODE_LABEL = "ipam.spidernet.io/node"
IP_POOL_LABEL = "ipam.spidernet.io/ippool"
IP_OWNER_LABEL = "ipam.spidernet.io/owner"
"""Label with the digest of the sticky owner and the name that it holds the address by: any node finds the record."""

RENEWED_ANNOTATION = "ipam.spidernet.io/renewed"
"""The version of a record that its pod was granted again, and which the present one has replaced."""
RELEASE_ANNOTATION = "ipam.spidernet.io/release"
"""Annotation of a SpiderIP with its own UID: somebody means to delete this very object, whatever uses the address."""


_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(\.{_OCTET}){{3}}/(3[0-2]|[12]?[0-9])"
_GROUPS = "[0-9a-f]{1,4}(:[0-9a-f]{1,4})"
_IPV6 = rf"({_GROUPS}{{7}}|({_GROUPS}{{0,6}})?::({_GROUPS}{{0,6}})?)/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"
_IPV4_ADDRESS = re.compile(_IPV4)

# CEL of Kubernetes 1.30 has no addresses, and its budget does not pay for filling up the groups of an IPv6 one. So of
# that the digits are compared but zeros; `SpiderIP.defect` compares all.
_NAMED_AFTER_ITS_ADDRESS = (
    Rule(
        "self.spec.address.contains(':') || self.spec.address.startsWith(self.metadata.name + '/')",
        "metadata.name must be the address without its prefix length",
    ),
    Rule(
        "!self.spec.address.contains(':') || (self.metadata.name.matches('^[0-9a-f]{4}(-[0-9a-f]{4}){7}$') &&"
        " self.metadata.name.replace('-', '').replace('0', '') =="
        " self.spec.address.substring(0, self.spec.address.indexOf('/')).replace(':', '').replace('0', ''))",
        "metadata.name must be the IPv6 address with all its digits, and dashes instead of colons",
    ),
)


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
            pattern=f"^({_IPV4}|{_IPV6})$",
            maxLength=43,
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
        field_doc(
            "When the address was released (RFC 3339): no pod gets it before the cooldown of its pool ends.",
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$",
        ),
    ] = None
    movedFrom: Annotated[
        list[FormerPod] | None,
        field_doc("Pods from which the virtual machine was to move, and which may still have the address."),
    ] = None


class SpiderIP(Object, kw_only=True):
    """One address in use, named after the address (IPv6 exploded, with dashes)."""

    KIND: ClassVar[Kind] = replace(
        spiderpool_kind(
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
        ),
        rules=_NAMED_AFTER_ITS_ADDRESS,
        selectable=tuple(f".spec.{name}" for name in ("namespace", "pod", "podUID", "node", "pool", "interface")),
    )

    spec: IPSpec

    @property
    def marked(self) -> bool:
        """Whether somebody is about to delete this very object, by its annotation."""
        uid = self.metadata.uid
        return uid is not None and (self.metadata.annotations or {}).get(RELEASE_ANNOTATION) == uid

    def defect(self) -> str | None:
        """A sentence where the address is none, or not that of the name: such a record says nothing of any address."""
        text = self.spec.address
        if _IPV4_ADDRESS.fullmatch(text):
            named = text.partition("/")[0]
        else:
            try:
                named = ip_interface(text).ip.exploded.replace(":", "-")
                if "/" not in text:
                    raise ValueError("without prefix length")
            except ValueError:
                return f"spec.address {text[:60]!r} is not an address"
        return None if self.name == named else f"spec.address {text} belongs to a record of name {named}"
