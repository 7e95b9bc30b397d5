"""SpiderIPQuota (spiderpool.spidernet.io/v2beta1): how many addresses the pods of a Namespace may hold."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, spiderpool_kind

EXHAUSTED_LABEL = "ipam.spidernet.io/exhausted"
"""On a quota of which nothing is left, with the value ``true``. Agents watch those alone."""


class IPQuotaSpec(msgspec.Struct, omit_defaults=True):
    """The limit."""

    addresses: Annotated[
        Annotated[int, Meta(ge=0)],
        field_doc("Addresses of both families that the Namespace may hold, those of its applications' pools included."),
    ]


class IPQuotaStatus(msgspec.Struct, omit_defaults=True):
    """The use of the quota, counted some seconds ago."""

    used: Annotated[Annotated[int, Meta(ge=0)] | None, field_doc("Addresses that the Namespace holds.")] = None
    conditions: Conditions = None


class SpiderIPQuota(Object, kw_only=True):
    """How many addresses the pods of a Namespace may hold; of several the smallest counts."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderIPQuota",
        Scope.NAMESPACED,
        "siq",
        (Column("USED", "integer", ".status.used"), Column("LIMIT", "integer", ".spec.addresses")),
        status=True,
    )

    spec: IPQuotaSpec
    status: IPQuotaStatus | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the controller has found nothing left of it."""
        return (self.metadata.labels or {}).get(EXHAUSTED_LABEL) == "true"
