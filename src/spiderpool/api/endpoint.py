"""SpiderEndpoint (spiderpool.spidernet.io/v2beta1): all addresses of one pod, a view for users and tools."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.ippool import Route
from spiderpool.api.meta import Column, Kind, Object, Scope, field_doc, spiderpool_kind


class InterfaceDetail(msgspec.Struct, omit_defaults=True, gc=False):
    """One interface of the pod."""

    interface: Annotated[str, field_doc("Interface in the pod.")]
    ipv4: Annotated[str | None, field_doc("IPv4 address with prefix length.")] = None
    ipv4Pool: Annotated[str | None, field_doc("Pool of the IPv4 address.")] = None
    ipv6: Annotated[str | None, field_doc("IPv6 address with prefix length.")] = None
    ipv6Pool: Annotated[str | None, field_doc("Pool of the IPv6 address.")] = None
    vlan: Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, field_doc("VLAN of the interface.", default=0)] = None
    ipv4Gateway: Annotated[str | None, field_doc("IPv4 gateway.")] = None
    ipv6Gateway: Annotated[str | None, field_doc("IPv6 gateway.")] = None
    cleanGateway: Annotated[bool | None, field_doc("Whether the interface has no default route.")] = None
    routes: Annotated[list[Route] | None, field_doc("Routes beside the default route.")] = None
    mac: Annotated[str | None, field_doc("MAC address.")] = None


class CurrentDetail(msgspec.Struct, omit_defaults=True, gc=False):
    """The pod that holds the addresses now."""

    uid: Annotated[str, field_doc("UID of the pod.")]
    node: Annotated[str, field_doc("Node of the pod.")]
    ips: Annotated[list[InterfaceDetail], field_doc("One entry for each interface.")]


class EndpointStatus(msgspec.Struct, omit_defaults=True, gc=False):
    """The addresses of the pod, and the controller that created it."""

    current: Annotated[CurrentDetail, field_doc("The pod that holds the addresses now.")]
    ownerControllerType: Annotated[str, field_doc("Kind of the top controller.")]
    ownerControllerName: Annotated[str, field_doc("Name of the top controller.")]


class SpiderEndpoint(Object, kw_only=True):
    """All interfaces and addresses of one pod."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderEndpoint",
        Scope.NAMESPACED,
        "se",
        (
            Column("INTERFACE", "string", ".status.current.ips[0].interface"),
            Column("IPV4POOL", "string", ".status.current.ips[0].ipv4Pool"),
            Column("IPV4", "string", ".status.current.ips[0].ipv4"),
            Column("IPV6POOL", "string", ".status.current.ips[0].ipv6Pool"),
            Column("IPV6", "string", ".status.current.ips[0].ipv6"),
            Column("NODE", "string", ".status.current.node"),
        ),
    )

    status: EndpointStatus | None = None
