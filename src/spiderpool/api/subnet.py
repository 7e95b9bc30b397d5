"""SpiderSubnet (spiderpool.spidernet.io/v2beta1): addresses from which pools are cut, by users or for applications."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.ippool import Route
from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, immutable, spiderpool_kind

SUBNET_CIDR_LABEL = "ipam.spidernet.io/subnet-cidr"
OWNER_SUBNET_LABEL = "ipam.spidernet.io/owner-spider-subnet"

SUBNET_ANNOTATION = "ipam.spidernet.io/subnet"
SUBNETS_ANNOTATION = "ipam.spidernet.io/subnets"
IP_NUMBER_ANNOTATION = "ipam.spidernet.io/ippool-ip-number"
RECLAIM = "ipam.spidernet.io/ippool-reclaim"
"""Annotation of a pod template, and label of the automatic pool made for it: whether the pool is deleted with it."""

APPLICATION_GV_LABEL = "ipam.spidernet.io/owner-application-gv"
APPLICATION_KIND_LABEL = "ipam.spidernet.io/owner-application-kind"
APPLICATION_NAMESPACE_LABEL = "ipam.spidernet.io/owner-application-namespace"
APPLICATION_NAME_LABEL = "ipam.spidernet.io/owner-application-name"
"""A pool with this label is an automatic one: the controller made it for an application."""
APPLICATION_UID_LABEL = "ipam.spidernet.io/owner-application-uid"
INTERFACE_LABEL = "ipam.spidernet.io/interface"
IP_VERSION_LABEL = "ipam.spidernet.io/ip-version"

APP_GROUP, APP_VERSION, APP_KIND, APP_NAMESPACE, APP_NAME = (
    f"ipam.spidernet.io/app-{word}" for word in ("api-group", "api-version", "kind", "namespace", "name")
)
"""Keys of an automatic pool's podAffinity. They name the top controller of the pods and are no labels of pods."""


class SubnetSpec(msgspec.Struct, omit_defaults=True):
    """The addresses of a subnet, and what its pools inherit."""

    subnet: Annotated[
        str,
        field_doc(
            "Subnet of the addresses, in canonical CIDR form. Cannot be changed.", **immutable("create another subnet")
        ),
    ]
    ipVersion: Annotated[
        int | None, field_doc("Address family, 4 or 6. Taken from the subnet when absent.", enum=[4, 6])
    ] = None
    ips: Annotated[list[str] | None, field_doc("Addresses for pools: single addresses and ranges a-b.")] = None
    excludeIPs: Annotated[list[str] | None, field_doc("Addresses and ranges taken out of ips.")] = None
    gateway: Annotated[str | None, field_doc("Gateway of pools that name none.")] = None
    routes: Annotated[list[Route] | None, field_doc("Routes of pools that name none.")] = None


class SubnetStatus(msgspec.Struct, omit_defaults=True):
    """The observed use of the subnet, computed from its pools."""

    controlledIPPools: Annotated[str | None, field_doc("The pools cut from the subnet, as JSON text.")] = None
    totalIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses in ips without excludeIPs.")] = None
    allocatedIPCount: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses that pools hold.")] = None
    conditions: Conditions = None


class SpiderSubnet(Object, kw_only=True):
    """A range of addresses from which pools are cut."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderSubnet",
        Scope.CLUSTER,
        "ss",
        (
            Column("VERSION", "string", ".spec.ipVersion"),
            Column("SUBNET", "string", ".spec.subnet"),
            Column("ALLOCATED-IP-COUNT", "integer", ".status.allocatedIPCount"),
            Column("TOTAL-IP-COUNT", "integer", ".status.totalIPCount"),
        ),
        status=True,
    )

    spec: SubnetSpec
    status: SubnetStatus | None = None
