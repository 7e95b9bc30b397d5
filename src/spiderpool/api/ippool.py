"""SpiderIPPool: the addresses that a node, ENI or tenant may use (fact: spiderpool.spidernet.io/v2beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.meta import Column, Condition, Kind, LabelSelector, Object, Scope, field_doc, spiderpool_kind

POOL_CIDR_LABEL = "ipam.spidernet.io/ippool-cidr"
POOL_NODE_LABEL = "ipam.spidernet.io/node"
"""On a pool that names exactly one node: that node, so that other nodes' agents need not watch it."""
POOL_CARD_LABEL = "cloud.spidernet.io/card"
"""On a pool that the controller keeps as the cloud registers addresses on an ENI: the identity of that ENI."""

ATOMIC = {"x-kubernetes-map-type": "atomic"}


class Route(msgspec.Struct, omit_defaults=True):
    """One route of a pod."""

    dst: Annotated[str, field_doc("Destination as a CIDR.")]
    gw: Annotated[str, field_doc("Next hop.")]


class IPPoolSpec(msgspec.Struct, omit_defaults=True):
    """What the user wants of a pool."""

    subnet: Annotated[str, field_doc("Subnet of the addresses, in canonical CIDR form. Cannot be changed.")]
    ipVersion: Annotated[
        int | None, field_doc("Address family, 4 or 6. Taken from the subnet when absent.", enum=[4, 6])
    ] = None
    ips: Annotated[
        list[str] | None, field_doc("Usable addresses: single addresses and ranges a-b, both ends included.")
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
    default: Annotated[bool | None, field_doc("A candidate for pods that name no pool.", default=False)] = None
    disable: Annotated[
        bool | None, field_doc("No new addresses from this pool; releasing still works.", default=False)
    ] = None
    cooldownSeconds: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        field_doc("Seconds that a released address waits before a stranger gets it.", default=0),
    ] = None


class IPPoolStatus(msgspec.Struct, omit_defaults=True):
    """What is so: computed from the SpiderIP objects, never incremented."""

    allocatedIPs: Annotated[str | None, field_doc("A view of the addresses in use, as JSON text.")] = None
    totalIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses in ips without excludeIPs.")] = None
    allocatedIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses in use.")] = None
    allocatedRanges: Annotated[
        list[str] | None, field_doc("The addresses in use as ranges: a hint to agents where to look for free ones.")
    ] = None
    conditions: Annotated[
        list[Condition] | None,
        field_doc(
            "What else is to be known of the pool.",
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = None


class SpiderIPPool(Object, kw_only=True):
    """The addresses that a node, ENI or tenant may use."""

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
