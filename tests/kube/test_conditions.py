"""Conditions by the API conventions: since when, about which generation, and written only when they change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.meta import Condition, ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, ReservedIPStatus, SpiderReservedIP
from spiderpool.kube.conditions import TERMINATING, dated, not_ready, ready, terminating, waiting, write
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

THEN, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
BEGUN, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def reserved(**metadata: Any) -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="r", **metadata), spec=ReservedIPSpec(ips=["10.0.0.1"]))


def test_a_condition_has_been_so_since_its_status_changed() -> None:
    obj = reserved(generation=1)
    first = dated([not_ready("A", "a"), ready("x")], obj, None, THEN)
    assert first == [
        Condition("Ready", "False", "A", "a", BEGUN, 1),
        Condition("Ready", "True", "InForce", "x", BEGUN, 1),
    ]
    (second,) = dated([not_ready("B", "b")], reserved(generation=2), first[:1], NOW)
    assert second == Condition("Ready", "False", "B", "b", BEGUN, 2)
    (third,) = dated([ready("x")], reserved(generation=2), [second], NOW)
    assert third == Condition("Ready", "True", "InForce", "x", NEW, 2)


def test_an_object_that_is_deleted_in_use_says_by_whom() -> None:
    conditions = terminating("in use by web")
    assert [(each.type, each.status) for each in conditions] == [("Ready", "False"), (TERMINATING, "True")]
    assert waiting(conditions) == conditions[1]
    assert waiting([ready("x")]) is None
    assert waiting(None) is None


async def test_they_are_written_once_and_not_for_what_is_gone() -> None:
    async with ApiServer(SpiderReservedIP.KIND) as server, server.client() as client:
        cache = Informer(client, SpiderReservedIP)
        stored = await client.create(reserved())
        await write(client, cache, stored, None, ready("x"))
        (condition,) = (server.stored(SpiderReservedIP)["r"].status or ReservedIPStatus()).conditions or []
        assert (condition.type, condition.status) == ("Ready", "True")
        before = server.requests["patch"]
        await write(client, cache, stored, [condition], condition)
        assert server.requests["patch"] == before
        gone = replace(stored, metadata=replace(stored.metadata, name="gone"))
        await write(client, cache, gone, None, condition)
        assert server.requests["patch"] == before + 1
