"""SpiderReservedIP (spiderpool.spidernet.io/v2beta1): addresses that no pod gets, in whichever pool they are."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.meta import Column, Conditions, Kind, Object, Scope, field_doc, immutable, spiderpool_kind


class ReservedIPSpec(msgspec.Struct, omit_defaults=True):
    """The reserved addresses."""

    ipVersion: Annotated[
        int | None,
        field_doc(
            "Address family, 4 or 6. Taken from the first address when absent. Cannot be changed.",
            enum=[4, 6],
            **immutable("create another SpiderReservedIP"),
        ),
    ] = None
    ips: Annotated[list[str] | None, field_doc("Addresses and ranges a-b that no pod gets.")] = None


class ReservedIPStatus(msgspec.Struct, omit_defaults=True):
    """Whether the addresses are reserved."""

    conditions: Conditions = None


class SpiderReservedIP(Object, kw_only=True):
    """Addresses that no pod gets, in whichever pool they are."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderReservedIP", Scope.CLUSTER, "sr", (Column("VERSION", "string", ".spec.ipVersion"),), status=True
    )

    spec: ReservedIPSpec = msgspec.field(default_factory=ReservedIPSpec)
    status: ReservedIPStatus | None = None
