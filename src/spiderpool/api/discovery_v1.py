"""EndpointSlice (discovery.k8s.io/v1, and v1beta1 for API servers before 1.21): the endpoints of a Service."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.meta import Kind, Object, Scope

SERVICE_LABEL = "kubernetes.io/service-name"
"""Label of an EndpointSlice with the name of its Service."""

HOST_TOPOLOGY = "kubernetes.io/hostname"
"""Key of the v1beta1 field ``topology`` with the node of an endpoint that has no ``nodeName``."""


class EndpointConditions(msgspec.Struct, omit_defaults=True):
    """discovery.k8s.io/v1 EndpointConditions, in part."""

    ready: bool | None = None


class Endpoint(msgspec.Struct, omit_defaults=True):
    """discovery.k8s.io/v1 Endpoint, in part."""

    addresses: list[str]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    nodeName: str | None = None
    targetRef: ObjectReference | None = None
    topology: dict[str, str] | None = None

    @property
    def ready(self) -> bool:
        """Whether the endpoint may get traffic. Absent counts as true, as the API specifies."""
        return self.conditions.ready is not False

    @property
    def node(self) -> str | None:
        """Name of the Node of the endpoint; None if unknown."""
        return self.nodeName or (self.topology or {}).get(HOST_TOPOLOGY)


class EndpointPort(msgspec.Struct, omit_defaults=True):
    """discovery.k8s.io/v1 EndpointPort, in part."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(Object, kw_only=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    KIND: ClassVar[Kind] = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", Scope.NAMESPACED)

    addressType: str
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class EndpointSliceV1Beta1(EndpointSlice, kw_only=True):
    """discovery.k8s.io/v1beta1 EndpointSlice. The fields that we read are those of v1, plus ``topology``."""

    KIND: ClassVar[Kind] = Kind("discovery.k8s.io", "v1beta1", "EndpointSlice", "endpointslices", Scope.NAMESPACED)
