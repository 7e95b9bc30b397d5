"""The time line, from the rows of the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.cli.connection import Cluster
from spiderpool.cli.history import NO_HISTORY, UNREADABLE
from spiderpool.cli.ui.recent_changes import BUCKETS, MOST_SHOWN, TimeLine, last_time, read_time_line, time_line
from spiderpool.core.ipam.history import BEGUN, ENDED, LATEST, Tenure, count_rows, moment, pack
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
NOON = int(NOW.timestamp())


def held(number: int, begun: int) -> Tenure:
    return Tenure(f"10.0.0.{number}", "blue", "n1", "shop", f"web-{number}", f"u{number}", "eth0", begun)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster that may have a history."""
    async with ApiServer(SpiderIPHistory.KIND) as server:
        yield server


def write(server: ApiServer, number: int, *rows: str) -> None:
    text = "\n".join(rows)
    spec = IPHistorySpec(moment(NOON - 99_999), count_rows(text), pack(text), moment(NOON))
    server.put(SpiderIPHistory.numbered(number, None, spec))


async def line(server: ApiServer, hours: int = 1) -> TimeLine:
    async with server.client() as client:
        return await read_time_line(Cluster(client, 5.0), hours, NOW)


async def test_what_was_taken_and_given_back_is_told_and_counted(server: ApiServer) -> None:
    old, gone, new = held(1, NOON - 9_000), held(2, NOON - 3_000), held(3, NOON - 60)
    write(server, 1, BEGUN + old.body)
    write(server, 2, BEGUN + gone.body, f"{ENDED}{gone.body}\t{NOON - 600}\t{NOON - 600}", BEGUN + new.body)
    found = await line(server)
    assert [(each.address, each.taken, each.at) for each in found.changes] == [
        ("10.0.0.3", True, moment(NOON - 60)),
        ("10.0.0.2", False, moment(NOON - 600)),
        ("10.0.0.2", True, moment(NOON - 3_000)),
    ]
    assert found.problems == ()
    assert (len(found.buckets), found.buckets[-1][1:], found.buckets[40][1:]) == (BUCKETS, (1, 0), (0, 1))
    longer = await line(server, 3)
    assert sum(each[1] for each in longer.buckets) == 3


async def test_without_a_history_it_says_so(server: ApiServer) -> None:
    assert (await line(server)).problems == (NO_HISTORY,)
    server.inject(Fault("list", status=403))
    assert (await line(server)).problems == (UNREADABLE,)


def test_of_many_changes_the_last_are_listed_and_all_are_counted() -> None:
    tenures = [held(each % 250, NOON - 3_599 + each) for each in range(MOST_SHOWN + 50)]
    found = time_line(tenures, NOON - 3_600, 1)
    assert len(found.changes) == MOST_SHOWN
    assert sum(each[1] for each in found.buckets) == MOST_SHOWN + 50
    assert found.changes[0].at == moment(NOON - 3_599 + MOST_SHOWN + 49)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", LATEST), ("x", LATEST), (BEGUN + held(1, 7).body, 7), (f"{ENDED}{held(1, 7).body}\t8\t9", 9)],
)
def test_the_last_time_of_a_part(text: str, expected: int) -> None:
    assert last_time(text) == expected
