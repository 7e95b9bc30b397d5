"""Lease (coordination.k8s.io/v1), by which replicas elect a leader."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.meta import Kind, Object, Scope


class LeaseSpec(msgspec.Struct, omit_defaults=True):
    """coordination.k8s.io/v1 LeaseSpec. Times are RFC 3339 with microseconds."""

    holderIdentity: str | None = None
    leaseDurationSeconds: int | None = None
    acquireTime: str | None = None
    renewTime: str | None = None
    leaseTransitions: int | None = None


class Lease(Object, kw_only=True):
    """coordination.k8s.io/v1 Lease."""

    KIND: ClassVar[Kind] = Kind("coordination.k8s.io", "v1", "Lease", "leases", Scope.NAMESPACED)

    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
