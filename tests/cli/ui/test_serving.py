"""The page of a cluster: what it shows, what it sends by itself, and what it leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spiderpool.api.core_v1 import Event, EventSource, Node, ObjectReference, Pod
from spiderpool.api.event_reasons import ADDRESS_REFUSED
from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.ipquota import IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.history import NO_HISTORY
from spiderpool.cli.installation import AGENT
from spiderpool.cli.ui import map_keeping, watching
from spiderpool.cli.ui.answers import MOST_HOURS
from spiderpool.cli.ui.pool_map import MapInput, PoolMap, pool_maps
from spiderpool.cli.ui.recent_changes import BUCKETS
from spiderpool.cli.ui.streaming import MOST_BROWSERS, MOST_WAITING, BrowserFeed, EventStreams
from spiderpool.core.ipam.history import BEGUN, Tenure, moment, pack
from spiderpool.errors import BadConfig
from tests.cli.ui.objects import BASE, account, node, pool, record, reserved
from tests.cli.ui.visiting import KINDS, Visitor, settled, visiting
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

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
    assert (found["disabled"], found["terminating"]) == (False, False)
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


async def test_a_pool_that_is_disabled_says_so(server: ApiServer, visitor: Visitor) -> None:
    async with visitor.following() as events, asyncio.timeout(20):
        name, value = await anext(events)
        server.put(pool(ips=["10.0.0.1-10.0.0.9"], disable=True))
        while name != "maps":
            name, value = await anext(events)
    changed = value["changed"]["blue"]
    assert (changed["disabled"], changed["terminating"], changed["pieces"]) == (True, False, [])


async def test_maps_are_made_when_what_they_show_has_changed(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    def count(objects: MapInput, now: float) -> dict[str, PoolMap]:
        made.append(now)
        return pool_maps(objects, now)

    monkeypatch.setattr(map_keeping, "pool_maps", count)
    watched = visitor.server.watched
    watched.informer(SpiderIPQuota).note(SpiderIPQuota(metadata=ObjectMeta(name="q"), spec=IPQuotaSpec(1)))
    await visitor.server.keeper.look()
    assert made == []
    watched.informer(Node).note(node("n9"))
    await eventually(lambda: len(made) == 1)


async def test_a_look_that_fails_is_made_up_for(
    server: ApiServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[float] = []

    def fail_once(objects: MapInput, now: float) -> dict[str, PoolMap]:
        if not failed:
            failed.append(now)
            raise ValueError("once")
        return pool_maps(objects, now)

    monkeypatch.setattr(map_keeping, "pool_maps", fail_once)
    server.put(pool(ips=["10.0.0.1-10.0.0.9"], disable=True))
    await eventually(lambda: visitor.server.keeper.maps["blue"].is_disabled)
    assert failed


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


async def test_a_right_that_ends_is_said_and_that_it_is_granted_again(server: ApiServer, visitor: Visitor) -> None:
    async with visitor.following() as events, asyncio.timeout(20):
        name, value = await anext(events)
        server.inject(Fault("watch", plural="spidernodes", status=403, times=3))
        server.cut_watches()
        while name != "state":
            name, value = await anext(events)
        assert [each[:97] for each in value["leftOut"]] == [
            "SpiderNode objects are shown as they were read last: you lack the right to watch spidernodes.spid"
        ]
        await eventually(lambda: server.has_no_faults)
        server.put(account([], "n3"))
        name = ""
        while name != "state" or value["leftOut"]:
            name, value = await anext(events)


@pytest.mark.parametrize(
    ("is_known", "said"), [(False, "does not accept your credentials"), (True, "what is shown may be old")]
)
async def test_credentials_and_servers_that_end_are_said(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, is_known: bool, said: str
) -> None:
    monkeypatch.setattr(watching, "LOOK_INTERVAL", 0.05)
    async with server.client() as client, visiting(client) as found:
        await found.enter()
        await settled(found)
        async with found.following() as events, asyncio.timeout(20):
            _, value = await anext(events)
            assert value["trouble"] is None
            if is_known:
                await server.stop()
            server.knows_nobody = not is_known
            name = ""
            while name != "state" or value["trouble"] is None:
                name, value = await anext(events)
        assert said in value["trouble"]
        assert value["leftOut"] == []


async def test_nodes_are_counted_as_top_does(visitor: Visitor) -> None:
    (found,) = (await visitor.read("/api/nodes"))["nodes"]
    assert (found["name"], found["shared"], found["sandboxes"], found["ready"]) == ("n1", 1, 1, True)


async def test_refusals_of_the_last_hour_are_shown(server: ApiServer, visitor: Visitor) -> None:
    now = datetime.now(UTC)
    refusal, last_year = ADDRESS_REFUSED.name, now - timedelta(days=365)
    for name, reason, hour in (("other", "NodeNetworkFault", now), ("new", refusal, now), ("old", refusal, last_year)):
        about = ObjectReference("v1", "Pod", "web", "shop")
        event = Event(
            metadata=ObjectMeta(name=name, namespace="shop"),
            involvedObject=about,
            reason=reason,
            message=f"{name}: 9 of 9 addresses in use",
            type="Warning",
            lastTimestamp=hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
            source=EventSource(AGENT),
        )
        server.put(event)
    await eventually(lambda: len(visitor.server.watched.items(Event)) == 3)
    (found,) = (await visitor.read("/api/refusals"))["refusals"]
    assert (found["object"], found["message"]) == ("Pod shop/web", "new: 9 of 9 addresses in use")


async def test_the_time_line_is_a_week_long_at_most(visitor: Visitor) -> None:
    for asked, hours in (("999999", MOST_HOURS), ("1", 1), ("0", 1), ("none", 6)):
        before = datetime.now(UTC)
        found = (await visitor.read(f"/api/changes?hours={asked}"))["answer"]
        begun = datetime.fromisoformat(found["buckets"][0][0])
        assert abs(before - timedelta(hours=hours) - begun) < timedelta(minutes=1), asked
        assert (len(found["buckets"]), found["changes"]) == (BUCKETS, [])
        assert found["problems"] == [NO_HISTORY]


async def test_growth_is_that_of_top_pools(server: ApiServer, visitor: Visitor) -> None:
    now = int(datetime.now(UTC).timestamp())
    rows = [
        BEGUN + Tenure(f"10.0.0.{each}", "blue", "n1", "shop", f"w-{each}", "u", "eth0", now - 90_000 * (4 - each)).body
        for each in (1, 2, 3)
    ]
    written = IPHistorySpec(moment(now - 4 * 90_000), len(rows), pack("\n".join(rows)), moment(now))
    server.put(SpiderIPHistory.numbered(1, None, written))
    blue = pool(ips=["10.0.0.1-10.0.0.9"])
    blue.status = IPPoolStatus(totalIPCount=9, allocatedIPCount=3)
    server.put(blue)
    await eventually(lambda: visitor.server.watched.items(SpiderIPPool)[0].status)
    (found,) = (await visitor.read("/api/growth"))["answer"]
    assert (found["name"], found["growth"][0], found["growth"][-2:]) == ("blue", "+", "/d")
    assert found["full"] != ""


async def test_a_search_finds_the_pod(visitor: Visitor) -> None:
    found = await visitor.read("/api/search?q=web")
    assert [(each["kind"], each["because"]) for each in found["hits"]] == [("pod", "holds 10.0.0.3")]
    assert found["more"] is False
    assert await visitor.read("/api/subnets") == {"subnets": []}


async def test_a_port_that_is_taken_is_named(server: ApiServer, visitor: Visitor) -> None:
    with pytest.raises(BadConfig, match=f"port {visitor.server.access.port} of 127.0.0.1 cannot be used"):
        async with visitor.server.listening(visitor.server.access.port):
            pass


async def test_only_so_many_pages_follow(visitor: Visitor) -> None:
    for _ in range(MOST_BROWSERS):
        visitor.server.streams._feeds.add(BrowserFeed())
    assert (await visitor.send("/api/stream")).status == 503


async def test_the_stream_of_a_browser_that_is_behind_ends() -> None:
    streams = EventStreams()
    with streams.listening() as slow, streams.listening() as quick:
        for number in range(MOST_WAITING + 5):
            streams.publish("maps", number)
            assert b"maps" in await anext(quick.events())
        assert [each async for each in slow.events()] == []
        assert not quick.is_behind


def test_browsers_that_leave_make_room_for_others() -> None:
    streams = EventStreams()
    for _ in range(MOST_BROWSERS + 1):
        with streams.listening():
            assert not streams.is_full
