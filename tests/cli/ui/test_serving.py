"""The page of a cluster: what it shows, what it sends by itself, and what it leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from spiderpool.api.core_v1 import Event, ObjectReference, Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.ui.streaming import MOST_BROWSERS, MOST_WAITING, RELOAD, BrowserFeed, EventStreams
from spiderpool.errors import BadConfig
from tests.cli.ui.objects import BASE, account, node, pool, record, reserved
from tests.cli.ui.visiting import KINDS, Visitor, settled, visiting
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

HELD = 1
"""Number of the state."""


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with one pool, of which a pod has an address."""
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server:
        blue = pool(ips=["10.0.0.1-10.0.0.9"])
        server.put(blue, node(), reserved("10.0.0.9"), record(BASE + 3, blue, uid="a"), account([(BASE + 3, "a")]))
        server.put(Pod(metadata=ObjectMeta(name=f"web-{(BASE + 3) & 0xFFFFFF}", namespace="shop")))
        yield server


@pytest.fixture
async def visitor(server: ApiServer) -> AsyncIterator[Visitor]:
    """A visitor who has entered, once all lists have arrived."""
    async with server.client() as client, visiting(client) as found:
        await found.enter()
        await settled(found)
        yield found


def states(document: dict[str, Any]) -> list[tuple[int, int, int]]:
    flat = document["pieces"]
    return [(flat[each] - BASE, flat[each + 1] - BASE, flat[each + 2]) for each in range(0, len(flat), 3)]


async def test_a_pool_is_a_map_of_its_addresses(visitor: Visitor) -> None:
    found = await visitor.read("/api/pools/blue")
    assert states(found) == [(1, 2, 0), (3, 3, HELD), (4, 8, 0), (9, 9, 2)]
    assert found["counts"] == [7, 1, 1, 0, 0, 0, 0]
    (listed,) = (await visitor.read("/api/pools"))["pools"]
    assert (listed["name"], listed["counts"], listed["total"]) == ("blue", found["counts"], 9)
    assert (await visitor.send("/api/pools/none")).status == 404


async def test_an_address_has_what_who_says_of_it(visitor: Visitor) -> None:
    held = (await visitor.read("/api/addresses/10.0.0.3"))["answer"]
    assert (held["state"], held["pool"], held["node"]) == ("held", "blue", "n1")
    assert held["seen"][0]["mac"] == "02:00:00:00:00:03"
    free = (await visitor.read("/api/addresses/10.0.0.4"))["answer"]
    assert (free["state"], free["pools"][0]["gives"]) == ("free", True)
    assert (await visitor.send("/api/addresses/none")).status == 404
    past = (await visitor.read("/api/history/10.0.0.3"))["answer"]
    assert past["items"][0]["pod"].startswith("shop/web-")


async def test_changes_are_sent_as_they_happen(server: ApiServer, visitor: Visitor) -> None:
    async with visitor.following() as events, asyncio.timeout(20):
        name, value = await anext(events)
        assert (name, value["leftOut"], value["trouble"]) == ("hello", [], None)
        server.put(record(BASE + 5, pool(), uid="b"))
        while name != "maps":
            name, value = await anext(events)
    assert value["revision"] == (await visitor.read("/api/pools/blue"))["revision"]
    assert states(value["changed"]["blue"]) == [(5, 5, HELD)]
    assert value["changed"]["blue"]["counts"][:2] == [6, 2]


async def test_a_pool_that_is_gone_is_told(server: ApiServer, visitor: Visitor) -> None:
    async with visitor.following() as events, asyncio.timeout(20):
        name, value = await anext(events)
        server.remove(pool())
        while name != "maps":
            name, value = await anext(events)
    assert value["gone"] == ["blue"]


async def test_what_may_not_be_listed_is_left_out_with_the_right_that_is_missing(server: ApiServer) -> None:
    server.inject(Fault("list", plural="spidernodes", status=403, times=99))
    async with server.client() as client, visiting(client) as found:
        await found.enter()
        await settled(found)
        async with found.following() as events:
            _, value = await anext(events)
        assert [each[:81] for each in value["leftOut"]] == [
            "SpiderNode objects are left out: you lack the right to list spidernodes.spiderpoo"
        ]
        assert states(await found.read("/api/pools/blue"))[1] == (3, 3, HELD)
        (shown,) = (await found.read("/api/nodes"))["nodes"]
        assert (shown["name"], shown["sandboxes"]) == ("n1", None)


async def test_credentials_that_end_are_told(server: ApiServer, visitor: Visitor, monkeypatch: Any) -> None:
    assert visitor.server.watched.trouble is None
    await server.stop()
    trouble = await visitor.server.watched._trouble()
    assert trouble is not None
    assert trouble.endswith("what is shown may be old")


async def test_nodes_are_counted_as_top_does(visitor: Visitor) -> None:
    (found,) = (await visitor.read("/api/nodes"))["nodes"]
    assert (found["name"], found["shared"], found["sandboxes"], found["ready"]) == ("n1", 1, 1, True)


async def test_refusals_of_the_last_hour_are_shown(server: ApiServer, visitor: Visitor) -> None:
    now = datetime.now(UTC)
    for name, hour in (("new", now), ("old", now.replace(year=now.year - 1))):
        about = ObjectReference("v1", "Pod", "web", "shop")
        event = Event(
            metadata=ObjectMeta(name=name, namespace="shop"),
            involvedObject=about,
            reason="AddressRefused",
            message=f"{name}: 9 of 9 addresses in use",
            type="Warning",
            lastTimestamp=hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        visitor.server.watched.informer(Event).note(event)
    (found,) = (await visitor.read("/api/refusals"))["refusals"]
    assert (found["object"], found["message"]) == ("Pod shop/web", "new: 9 of 9 addresses in use")


@pytest.mark.parametrize("path", ["/api/subnets", "/api/search?q=web", "/api/changes?hours=999999", "/api/growth"])
async def test_every_question_has_an_answer(visitor: Visitor, path: str) -> None:
    assert await visitor.read(path)


async def test_a_port_that_is_taken_is_named(server: ApiServer, visitor: Visitor) -> None:
    with pytest.raises(BadConfig, match=f"port {visitor.server.access.port} of 127.0.0.1 cannot be used"):
        async with visitor.server.listening(visitor.server.access.port):
            pass


async def test_only_so_many_pages_follow(visitor: Visitor) -> None:
    for _ in range(MOST_BROWSERS):
        visitor.server.streams._feeds.add(BrowserFeed())
    assert (await visitor.send("/api/stream")).status == 503


async def test_a_browser_that_is_behind_is_told_to_load_again() -> None:
    streams = EventStreams()
    with streams.listening() as slow, streams.listening() as quick:
        for number in range(MOST_WAITING + 5):
            streams.publish("maps", number)
            assert b"maps" in await anext(quick.events())
        assert [each async for each in slow.events()] == [RELOAD]
        assert not quick.is_behind
    assert len(streams) == 0
