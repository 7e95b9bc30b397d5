"""The growth of pools in `spiderpoolctl top pools`, from the rows of the history to the words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import View, printed
from spiderpool.cli.top import UsageTable, top_pools
from spiderpool.core.ipam.forecast import DAY
from spiderpool.core.ipam.history import BEGUN, ENDED, Tenure, count_rows, moment, pack
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
NOON = int(NOW.timestamp())
DAYS = 10
START = NOON - DAYS * DAY


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """Three pools of 200 addresses, of which one grows by twelve a day, and one is full."""
    async with ApiServer(SpiderIPHistory.KIND, SpiderIPPool.KIND, SpiderReservedIP.KIND) as server:
        for number, (name, used) in enumerate((("grows", 150), ("stays", 20), ("full", 200), ("new", 0))):
            spec = IPPoolSpec(f"10.0.{number}.0/24", ips=[f"10.0.{number}.1-10.0.{number}.200"])
            ranges = [f"10.0.{number}.1-10.0.{number}.{used}"] if used else []
            status = IPPoolStatus(allocatedIPCount=used, allocatedRanges=ranges)
            server.put(SpiderIPPool(metadata=ObjectMeta(name=name), spec=spec, status=status))
        yield server


def held(pool: str, number: int, begun: int) -> Tenure:
    return Tenure(f"{pool}-{number}", pool, "n1", "shop", f"web-{number}", f"u{number}", "eth0", begun)


def write(server: ApiServer, rows: Sequence[str], *, since: int = START, covered: int = NOON) -> None:
    text = "\n".join(rows)
    spec = IPHistorySpec(moment(since), count_rows(text), pack(text), moment(covered))
    server.put(SpiderIPHistory.numbered(1, None, spec))


def ten_days() -> list[str]:
    old = [held(pool, number, START - 99) for pool, count in (("grows", 30), ("stays", 20)) for number in range(count)]
    new = [held("grows", 100 + number, START + number * DAY // 12) for number in range(12 * DAYS)]
    full = [held("full", number, START - 99) for number in range(200)]
    gone = held("stays", 999, START + DAY)
    return [*(BEGUN + each.body for each in (*old, *new, *full)), f"{ENDED}{gone.body}\t{NOON - DAY}\t{NOON - DAY}"]


async def top(server: ApiServer, now: datetime | None = NOW) -> tuple[UsageTable, list[str]]:
    async with server.client() as client:
        cluster = Cluster(client, 5.0)
        return await top_pools(cluster, now), cluster.left_out


async def test_how_pools_grow_and_when_they_are_full(server: ApiServer) -> None:
    write(server, ten_days())
    found, left_out = await top(server)
    assert left_out == []
    assert printed(found, "table", View(width=80)).splitlines() == [
        "POOL   USED  FREE  TOTAL  USE   GROWTH  FULL IN",
        "full    200     0    200  100%  0/d     now",
        "grows   150    50    200  75%   +12/d   4d (high)",
        "stays    20   180    200  10%   0/d     -",
        "new       0   200    200  0%    -       -",
    ]
    items = {each["name"]: each for each in json.loads(printed(found, "json", View()))["items"]}
    assert items["grows"]["growth_per_day"] == 12.0
    assert items["grows"]["full_after"] == pytest.approx(50 / 12 * DAY, rel=0.05)
    assert items["grows"]["confidence"] == "high"
    assert (items["stays"]["full_after"], items["new"]["growth_per_day"]) == (None, None)


async def test_a_short_past_is_trusted_little(server: ApiServer) -> None:
    hour = [BEGUN + held("grows", number, NOON - 30 * (120 - number)).body for number in range(120)]
    write(server, hour)
    found, _ = await top(server)
    (grows,) = (each.growth for each in found.items if each.name == "grows")
    assert grows is not None
    assert grows.cells == ("0/d", "-"), "an hour in ten days"
    write(server, hour, since=NOON - 3600)
    found, _ = await top(server)
    (grows,) = (each.growth for each in found.items if each.name == "grows")
    assert grows is not None
    assert grows.cells == ("+2880/d", "25m (low)")


async def test_without_a_history_the_rest_is_shown(server: ApiServer) -> None:
    titles = "POOL   USED  FREE  TOTAL  USE"
    found, left_out = await top(server)
    assert next(iter(found.lines(View()))) == titles
    assert left_out[0].startswith("no growth is shown: there is no history")
    write(server, ten_days(), covered=NOON - 3600)
    found, left_out = await top(server)
    assert next(iter(found.lines(View()))) == titles
    assert left_out == ["no growth is shown: the history was written last at 2026-01-15T11:00:00Z"]
    server.inject(Fault("list", 1, SpiderIPHistory.KIND.plural, status=403))
    _, left_out = await top(server)
    assert left_out[0].startswith("SpiderIPHistory objects may not be read")
    assert (await top(server, None))[1] == []
