"""SpiderCoordinator (spiderpool.spidernet.io/v2beta1): how pods reach Services, their own node and the right NIC."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.ippool import Route
from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, spiderpool_kind

SYNCED = "Synced"
NOT_READY = "NotReady"
"""Values of ``status.phase``."""

LOAD_BALANCER, EXTERNAL_IP = "LoadBalancer", "ExternalIP"
"""Values of ``spec.serviceAddresses``."""


class CoordinatorSpec(msgspec.Struct, omit_defaults=True):
    """Settings for all networks; the ``coordinator`` block of a network overrides them."""

    mode: Annotated[
        str | None,
        field_doc(
            "auto, underlay, overlay or disabled.", enum=["auto", "underlay", "overlay", "disabled"], default="auto"
        ),
    ] = None
    podCIDRType: Annotated[
        str | None,
        field_doc("Where the pod CIDR comes from.", enum=["auto", "cluster", "calico", "cilium", "none"]),
    ] = None
    hijackCIDR: Annotated[list[str] | None, field_doc("Destinations that go through the node.")] = None
    ipamCIDR: Annotated[
        list[str] | None, field_doc("Subnets in which other IPAM plugins than Spiderpool's may give addresses to pods.")
    ] = None
    policyRoutes: Annotated[list[Route] | None, field_doc("Routes in the table of the interface.")] = None
    podMACPrefix: Annotated[str | None, field_doc("Two bytes xx:xx that begin the MAC of pods; not for ipvlan.")] = None
    tunePodRoutes: Annotated[bool | None, field_doc("Sort routes of pods with several interfaces.", default=True)] = (
        None
    )
    podDefaultRouteNIC: Annotated[str | None, field_doc("Interface of the default route.")] = None
    hostRuleTable: Annotated[int | None, field_doc("Routing table on the node for routes to pods.", default=500)] = None
    podRPFilter: Annotated[int | None, field_doc("rp_filter in the pod; negative: unchanged.", default=0)] = None
    txQueueLen: Annotated[int | None, field_doc("Transmit queue length; 0: unchanged.", default=0)] = None
    vethLinkAddress: Annotated[str | None, field_doc("IPv4 address of veth0 in the pod.")] = None
    vethMTU: Annotated[Annotated[int, Meta(ge=1)] | None, field_doc("MTU of the veth pair.")] = None


class ClusterCoordinatorSpec(CoordinatorSpec, omit_defaults=True):
    """`CoordinatorSpec`, and what a network cannot override."""

    serviceAddresses: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"enum": [LOAD_BALANCER, EXTERNAL_IP]})]] | None,
        field_doc("Which addresses of Services, beside ClusterIPs, pods reach through the node; unset: all of these."),
    ] = None


class CoordinatorStatus(msgspec.Struct, omit_defaults=True):
    """The cluster's networks, as the controller found them."""

    phase: Annotated[str, field_doc("Synced or NotReady.")]
    reason: Annotated[str | None, field_doc("Why it is not ready.")] = None
    overlayPodCIDR: Annotated[list[str] | None, field_doc("Pod CIDRs of the overlay network.")] = None
    serviceCIDR: Annotated[list[str] | None, field_doc("CIDRs of ClusterIPs.")] = None
    serviceAddresses: Annotated[
        list[str] | None, field_doc("Addresses of Services that pods reach through the node, beside serviceCIDR.")
    ] = None
    conditions: Conditions = None


class SpiderCoordinator(Object, kw_only=True):
    """Settings of the coordinator for the whole cluster."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderCoordinator",
        Scope.CLUSTER,
        "scc",
        (
            Column("MODE", "string", ".spec.mode"),
            Column("PHASE", "string", ".status.phase"),
            Column("POD-CIDR-TYPE", "string", ".spec.podCIDRType", 10),
            Column("TUNE-POD-ROUTES", "boolean", ".spec.tunePodRoutes", 10),
            Column("REASON", "string", ".status.reason", 10),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
        status=True,
    )

    spec: ClusterCoordinatorSpec | None = None
    status: CoordinatorStatus | None = None
