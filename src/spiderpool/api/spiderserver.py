"""SpiderServer (spiderpool.spidernet.io/v2beta1): the cloud server of one Node and its ENIs, as its agent read them.

It changes with ENIs and their addresses, which is seldom: so it is no part of the SpiderNode, which changes with pods.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import Column, Kind, Object, ObjectMeta, Scope, field_doc, spiderpool_kind

GATEWAY_FROM_END = 3
"""Where metadata names no gateway: the third last address of the vSwitch's block, which the cloud reserves for it."""


class ENI(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, rename="camel"):
    """One elastic network interface (ENI) of a server, with the addresses that pods may use on it."""

    identity: Annotated[str, field_doc("ID of the ENI in the cloud.")] = msgspec.field(name="id")
    mac: Annotated[str, field_doc("MAC address.")]
    primary: Annotated[bool, field_doc("Whether the server was made with it.")]
    primary_address: Annotated[str, field_doc("The server's own IPv4 address; never a pod's.")]
    addresses: Annotated[tuple[str, ...], field_doc("Secondary IPv4 addresses.")]
    ipv6_addresses: Annotated[tuple[str, ...], field_doc("IPv6 addresses.")]
    vswitch: Annotated[str, field_doc("ID of its vSwitch.")]
    subnet: Annotated[str, field_doc("IPv4 block of the vSwitch.")]
    subnet6: Annotated[str | None, field_doc("IPv6 block of the vSwitch.")] = None
    gateway: Annotated[str | None, field_doc("IPv4 gateway, if the metadata service names it.")] = None
    gateway6: Annotated[str | None, field_doc("IPv6 gateway, if the metadata service names it.")] = None
    device: Annotated[
        str | None, field_doc("Linux name; absent while no link has its MAC address.", pattern=r"^[^/:\s]{1,15}$")
    ] = None

    @property
    def pod_addresses(self) -> tuple[str, ...]:
        """The addresses that pods may use, of both families."""
        return (*self.addresses, *self.ipv6_addresses)

    @property
    def all_addresses(self) -> tuple[str, ...]:
        """The server's own address, and those that pods may use."""
        return (self.primary_address, *self.pod_addresses)

    def addresses_of(self, version: int) -> tuple[str, ...]:
        """Returns the addresses of a family that pods may use."""
        return self.addresses if version == 4 else self.ipv6_addresses

    def subnet_of(self, version: int) -> str | None:
        """Returns the block of the vSwitch as CIDR; None when it has none of this family."""
        return self.subnet if version == 4 else self.subnet6

    def gateway_of(self, version: int) -> str | None:
        """Returns the gateway that metadata names, else the third last address of the block, if it has so many."""
        named, block = (self.gateway, self.subnet) if version == 4 else (self.gateway6, self.subnet6)
        if named or not block:
            return named or None
        network = ip_network(block)
        return str(network[-GATEWAY_FROM_END]) if network.num_addresses >= GATEWAY_FROM_END else None


class Instance(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One cloud server."""

    provider: Annotated[str, field_doc("The cloud.")]
    region: Annotated[str, field_doc("Region of the server.")]
    zone: Annotated[str, field_doc("Zone of the server.")]
    identity: Annotated[str, field_doc("ID of the server in the cloud.")] = msgspec.field(name="id")
    instance_type: Annotated[str, field_doc("Type of the server.")]
    enis: Annotated[tuple[ENI, ...], field_doc("Its ENIs, the primary one first.")]

    @property
    def provider_id(self) -> str:
        """``region.instance``, as we write it to ``spec.providerID`` of the Node."""
        return f"{self.region}.{self.identity}"

    def eni(self, identity: str) -> ENI | None:
        """Returns an ENI by its identity; None when there is none."""
        return next((eni for eni in self.enis if eni.identity == identity), None)

    @property
    def primary(self) -> ENI | None:
        """The ENI with which the server was made; None when none is marked so."""
        return next((eni for eni in self.enis if eni.primary), None)


class SpiderServer(Object, kw_only=True):
    """The cloud server of one Node, named after it and deleted with it."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderServer",
        Scope.CLUSTER,
        "sserver",
        (
            Column("ID", "string", ".spec.id"),
            Column("TYPE", "string", ".spec.instanceType"),
            Column("ZONE", "string", ".spec.zone"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: Instance

    @classmethod
    def of(cls, node: Node, instance: Instance) -> SpiderServer:
        """That of a Node."""
        return cls(metadata=ObjectMeta(name=node.name, ownerReferences=[node.as_owner()]), spec=instance)

    def is_of(self, node: Node) -> bool:
        """Whether it is about this very Node: a former one of the same name may have been another server."""
        owners = self.metadata.ownerReferences or ()
        return self.metadata.name == node.name and any(owner.uid == node.metadata.uid for owner in owners)
