"""SpiderLoadBalancerGrant (spiderpool.spidernet.io/v2beta1): what the Services of Namespaces may name in the cloud.

Administrators write it; it is cluster-scoped, so that no right within a Namespace is enough to write one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, spiderpool_kind

EVERYTHING = "*"
"""In a list: all there are."""

Namespaces = Annotated[
    list[Annotated[str, Meta(pattern=r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$")]],
    field_doc(
        "Namespaces whose Services may name what follows; * stands for all.",
        **{
            "x-kubernetes-list-type": "set",
            "x-kubernetes-validations": [
                {"rule": "self.size() > 0", "message": "names no Namespace; * stands for all"}
            ],
        },
    ),
]
Identity = Annotated[str, Meta(pattern=r"^(\*|[A-Za-z0-9._-]{1,128})$")]
SET = {"x-kubernetes-list-type": "set"}


class LoadBalancerGrantSpec(msgspec.Struct, omit_defaults=True):
    """What is granted. In each list * stands for everything; what is absent is not granted."""

    namespaces: Namespaces
    loadBalancers: Annotated[
        list[Identity] | None, field_doc("Balancers of yours that Services may use (annotation id).", **SET)
    ] = None
    overrideListeners: Annotated[
        bool | None,
        field_doc("Services may manage the listeners of these loadBalancers (annotation force-override-listeners)."),
    ] = None
    certificates: Annotated[
        list[Identity] | None,
        field_doc("Certificates (annotations cert-id, additional-cert-ids, domain-extensions and cacert-id).", **SET),
    ] = None
    accessLists: Annotated[list[Identity] | None, field_doc("Access lists (annotation acl-id).", **SET)] = None
    serverGroups: Annotated[
        list[Identity] | None,
        field_doc("Server groups of yours that Services may use (annotation vgroup-port).", **SET),
    ] = None
    securityGroups: Annotated[
        list[Identity] | None, field_doc("Security groups (annotation security-group-ids).", **SET)
    ] = None
    vSwitches: Annotated[
        list[Identity] | None, field_doc("vSwitches (annotations vswitch-id and zone-maps).", **SET)
    ] = None
    elasticIPs: Annotated[list[Identity] | None, field_doc("Elastic IPs (annotation zone-maps).", **SET)] = None
    resourceGroups: Annotated[
        list[Identity] | None, field_doc("Resource groups (annotation resource-group-id).", **SET)
    ] = None
    bandwidthPackages: Annotated[
        list[Identity] | None, field_doc("Shared bandwidths (annotation bandwidth-package-id).", **SET)
    ] = None
    specs: Annotated[
        list[Identity] | None,
        field_doc("Sizes that are paid whether used or not (instance-charge-type PayBySpec, annotation spec).", **SET),
    ] = None
    maxBandwidth: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        field_doc("Mbit/s that are paid whether used or not (charge-type paybybandwidth), at most."),
    ] = None
    preserve: Annotated[
        bool | None, field_doc("Balancers may outlive their Services (annotation preserve-lb-on-delete).")
    ] = None
    maxLoadBalancers: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        field_doc("Balancers that are made for each of the Namespaces, at most, instead of what the settings say."),
    ] = None

    def applies_to(self, namespace: str) -> bool:
        """Whether it grants something to the Services of a Namespace."""
        return namespace in self.namespaces or EVERYTHING in self.namespaces


class LoadBalancerGrantStatus(msgspec.Struct, omit_defaults=True):
    """Whether the grant is in force."""

    conditions: Conditions = None


class SpiderLoadBalancerGrant(Object, kw_only=True):
    """What the Services of Namespaces may name in the cloud; the grants of a Namespace add up."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderLoadBalancerGrant",
        Scope.CLUSTER,
        "slbg",
        (
            Column("NAMESPACES", "string", ".spec.namespaces"),
            Column("LOADBALANCERS", "string", ".spec.loadBalancers"),
            Column("PRESERVE", "boolean", ".spec.preserve"),
        ),
        status=True,
    )

    spec: LoadBalancerGrantSpec
    status: LoadBalancerGrantStatus | None = None
