"""EndpointSlice (discovery.k8s.io/v1): the endpoints of a Service."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.meta import Kind, Object, Scope

SERVICE_LABEL = "kubernetes.io/service-name"
"""Label of an EndpointSlice with the name of its Service."""


class EndpointConditions(msgspec.Struct, omit_defaults=True):
    """discovery.k8s.io/v1 EndpointConditions, in part."""

    ready: bool | None = None
    serving: bool | None = None
    """As ready, but also of a pod that is terminating."""
    terminating: bool | None = None


class Endpoint(msgspec.Struct, omit_defaults=True):
    """discovery.k8s.io/v1 Endpoint, in part."""

    addresses: list[str]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    nodeName: str | None = None
    targetRef: ObjectReference | None = None

    @property
    def ready(self) -> bool:
        """Whether the endpoint may get traffic. Absent counts as true, as the API specifies."""
        return self.conditions.ready is not False

    @property
    def ending(self) -> bool:
        """Whether its pod is terminating and still answers: it may get traffic while no other endpoint does."""
        return not self.ready and self.conditions.terminating is True and self.conditions.serving is True


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
