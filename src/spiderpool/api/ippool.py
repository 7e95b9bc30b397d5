"""SpiderIPPool (spiderpool.spidernet.io/v2beta1): the addresses that pods of a node, ENI or tenant may use."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.meta import (
    Column,
    Conditions,
    Kind,
    LabelSelector,
    Object,
    Scope,
    field_doc,
    immutable,
    spiderpool_kind,
)

POOL_CIDR_LABEL = "ipam.spidernet.io/ippool-cidr"
POOL_NODE_LABEL = "ipam.spidernet.io/node"
"""Label of a pool that names exactly one node, with that node: the agents of other nodes need not watch the pool."""
POOL_ENI_LABEL = "cloud.spidernet.io/card"
"""Label of a pool that the controller fills with the addresses of an ENI, with the identity of that ENI."""
POOL_MOVING_ANNOTATION = "ipam.spidernet.io/moving"
"""On a pool: addresses and ranges, separated by commas, that no pod gets which had them before, or whose owner has."""

ATOMIC = {"x-kubernetes-map-type": "atomic"}
"""Server-side apply replaces the field whole instead of merging its keys."""


class Route(msgspec.Struct, omit_defaults=True, gc=False):
    """One route of a pod."""

    dst: Annotated[str, field_doc("Destination as a CIDR.")]
    gw: Annotated[str, field_doc("Next hop.")]


class IPPoolSpec(msgspec.Struct, omit_defaults=True, gc=False):
    """The addresses of a pool, and which pods may get them."""

    subnet: Annotated[
        str,
        field_doc(
            "Subnet of the addresses, in canonical CIDR form. Cannot be changed.", **immutable("create another pool")
        ),
    ]
    ipVersion: Annotated[
        int | None, field_doc("Address family, 4 or 6. Taken from the subnet when absent.", enum=[4, 6])
    ] = None
    ips: Annotated[
        list[str] | None,
        field_doc(
            "Usable addresses: single addresses and ranges a-b, both ends included. The network and broadcast address"
            " of an IPv4 subnet are left out."
        ),
    ] = None
    excludeIPs: Annotated[list[str] | None, field_doc("Addresses and ranges taken out of ips.")] = None
    gateway: Annotated[str | None, field_doc("Next hop of the default route.")] = None
    routes: Annotated[list[Route] | None, field_doc("Further routes of the pods.")] = None
    podAffinity: Annotated[LabelSelector | None, field_doc("Only pods with these labels.", **ATOMIC)] = None
    namespaceAffinity: Annotated[
        LabelSelector | None, field_doc("Only namespaces with these labels; not used with namespaceName.", **ATOMIC)
    ] = None
    namespaceName: Annotated[list[str] | None, field_doc("Only these namespaces.")] = None
    nodeAffinity: Annotated[
        LabelSelector | None, field_doc("Only nodes with these labels; not used with nodeName.", **ATOMIC)
    ] = None
    nodeName: Annotated[list[str] | None, field_doc("Only these nodes.")] = None
    multusName: Annotated[
        list[str] | None, field_doc("Only interfaces of these networks: namespace/name, or name in our namespace.")
    ] = None
    default: Annotated[bool | None, field_doc("Whether the pool serves pods that name no pool.", default=False)] = None
    disable: Annotated[
        bool | None, field_doc("Whether new addresses are refused; releasing still works.", default=False)
    ] = None
    cooldownSeconds: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        field_doc("Seconds that a released address waits before another pod gets it.", default=0),
    ] = None


class IPPoolStatus(msgspec.Struct, omit_defaults=True, gc=False):
    """The observed use of the pool: computed from the SpiderIP objects, never incremented."""

    allocatedIPs: Annotated[str | None, field_doc("The addresses in use, as JSON text.")] = None
    totalIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses that pods may get.")] = None
    allocatedIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses in use.")] = None
    allocatedRanges: Annotated[
        list[str] | None, field_doc("The addresses in use as ranges: a hint where agents find free ones.")
    ] = None
    compressedRanges: Annotated[
        str | None,
        field_doc(
            "The addresses in use where they form too many ranges for allocatedRanges: the same hint, compressed."
        ),
    ] = None
    conditions: Conditions = None


class SpiderIPPool(Object, kw_only=True):
    """The addresses that pods of a node, ENI or tenant may use."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderIPPool",
        Scope.CLUSTER,
        "sp",
        (
            Column("VERSION", "string", ".spec.ipVersion"),
            Column("SUBNET", "string", ".spec.subnet"),
            Column("ALLOCATED-IP-COUNT", "integer", ".status.allocatedIPCount"),
            Column("TOTAL-IP-COUNT", "integer", ".status.totalIPCount"),
            Column("DEFAULT", "boolean", ".spec.default"),
            Column("DISABLE", "boolean", ".spec.disable", 10),
            Column("NODE", "string", r".metadata.labels['ipam\.spidernet\.io/node']", 10),
            Column("NodeName", "string", ".spec.nodeName", 10),
            Column("MultusName", "string", ".spec.multusName", 10),
            Column(
                "APP-NAMESPACE", "string", r".spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace']", 10
            ),
        ),
        status=True,
    )

    spec: IPPoolSpec
    status: IPPoolStatus | None = None

    @property
    def eni(self) -> str | None:
        """ID of the ENI that the pool was made for; None for other pools."""
        return (self.metadata.labels or {}).get(POOL_ENI_LABEL)
