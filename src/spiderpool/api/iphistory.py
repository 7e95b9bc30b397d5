"""SpiderIPHistory (spiderpool.spidernet.io/v2beta1): a part of the history of who held which address."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from spiderpool.api.meta import Column, Kind, Object, ObjectMeta, Scope, field_doc, spiderpool_kind

MAX_DATA = 524_288
"""Characters of rows in one object, compressed: a third of what etcd takes."""
_PREFIX = "history-"
_DIGITS = 12


class IPHistorySpec(msgspec.Struct, omit_defaults=True, gc=False):
    """Rows, in the order in which they were written."""

    since: Annotated[str, field_doc("When the first row was written (RFC 3339).")]
    rows: Annotated[Annotated[int, Meta(ge=0)], field_doc("Number of rows.")]
    data: Annotated[
        str,
        field_doc("The rows, one a line, compressed by zlib, as base64: spiderpoolctl reads them.", maxLength=MAX_DATA),
    ]
    covered: Annotated[
        str | None, field_doc("Until when nothing was missed (RFC 3339); absent while rows were waiting.")
    ] = None


class SpiderIPHistory(Object, kw_only=True):
    """A part of the history of who held which address, numbered by its name."""

    KIND: ClassVar[Kind] = replace(
        spiderpool_kind(
            "SpiderIPHistory",
            Scope.CLUSTER,
            "siphist",
            (
                Column("ROWS", "integer", ".spec.rows"),
                Column("SINCE", "date", ".spec.since"),
                Column("COVERED", "date", ".spec.covered"),
            ),
        ),
        plural="spideriphistories",
    )

    spec: IPHistorySpec

    @classmethod
    def numbered(cls, number: int, version: str | None, spec: IPHistorySpec) -> SpiderIPHistory:
        """The part of a number; ``version`` None: one that is new."""
        return cls(metadata=ObjectMeta(name=part_name(number), resourceVersion=version), spec=spec)

    @property
    def number(self) -> int | None:
        """Its place in the history; None where somebody else has named it."""
        digits = self.name.removeprefix(_PREFIX)
        return int(digits) if self.name.startswith(_PREFIX) and digits.isascii() and digits.isdigit() else None


def part_name(number: int) -> str:
    """The name of a part: names sort as numbers do."""
    return f"{_PREFIX}{number:0{_DIGITS}}"
