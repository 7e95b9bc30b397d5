"""`spiderpoolctl history` and `who --at`, by the rows of the controller and the records of now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.ip import IP_NODE_LABEL, IPSpec, SpiderIP
from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.history import HistorySubject, MomentAnswer, SubjectHistory, answer_at, history_table, look_back
from spiderpool.cli.main import cli
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.history import BEGUN, ENDED, Tenure, count_rows, moment, pack, seconds
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON = int(NOW.timestamp())
ADDRESS = "10.0.0.5"
FIRST = Tenure(ADDRESS, "blue", "n1", "shop", "web-1", "u1", "eth0", NOON - 7200, NOON - 3600, NOON - 3600)
SECOND = Tenure(ADDRESS, "blue", "n2", "shop", "web-2", "u2", "eth0", NOON - 3000, NOON - 1800, NOON - 1200)
THIRD = Tenure(ADDRESS, "blue", "n2", "shop", "web-3", "u3", "eth0", NOON - 1500)
OTHER = Tenure("10.0.0.6", "blue", "n2", "blog", "web-1", "u4", "eth0", NOON - 5000)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(SpiderIPHistory.KIND, SpiderIP.KIND, Pod.KIND) as server:
        yield server


def row(tenure: Tenure) -> str:
    return BEGUN + tenure.body if tenure.lasts else f"{ENDED}{tenure.body}\t{tenure.ended_after}\t{tenure.ended_by}"


def write(server: ApiServer, *tenures: Tenure, number: int = 1, since: int = NOON - 6000, covered: int = NOON) -> None:
    text = "\n".join(map(row, tenures))
    spec = IPHistorySpec(moment(since), count_rows(text), pack(text), moment(covered))
    server.put(SpiderIPHistory.numbered(number, None, spec))


def put(server: ApiServer, tenure: Tenure) -> None:
    """The record of a tenure that lasts."""
    each = tenure
    spec = IPSpec(f"{each.address}/24", each.pool, each.node, each.namespace, each.pod, each.pod_uid, each.interface)
    server.put(SpiderIP(metadata=ObjectMeta(name=each.address, labels={IP_NODE_LABEL: each.node}), spec=spec))


async def look(server: ApiServer, subject: HistorySubject, now: datetime = NOW) -> SubjectHistory:
    async with server.client() as client:
        return await look_back(Cluster(client, 5.0), subject, now)


async def at(server: ApiServer, seconds_ago: int) -> MomentAnswer:
    found = await look(server, HistorySubject.address(ADDRESS))
    return answer_at(found, datetime.fromtimestamp(NOON - seconds_ago, UTC), NOW)


def told(answer: MomentAnswer) -> tuple[str, list[str]]:
    return answer.state, [each.pod for each in answer.holders]


async def test_who_had_an_address_at_a_time(server: ApiServer) -> None:
    write(server, FIRST, SECOND, OTHER)
    write(server, THIRD, number=2)
    put(server, THIRD)
    assert told(await at(server, 4000)) == ("held", ["shop/web-1"])
    assert told(await at(server, 7000)) == ("held", ["shop/web-1"]), "it is known, though the history begins later"
    assert told(await at(server, 2000)) == ("held", ["shop/web-2"])
    assert told(await at(server, 1600)) == ("may have been held", ["shop/web-2"])
    assert told(await at(server, 1300)) == ("held", ["shop/web-2", "shop/web-3"])
    assert told(await at(server, 0)) == ("held", ["shop/web-3"])
    nobody = await at(server, 3300)
    assert told(nobody) == ("held by nobody", [])
    assert (nobody.before and nobody.before.pod, nobody.after and nobody.after.pod) == ("shop/web-1", "shop/web-2")
    early = await at(server, 7500)
    assert (early.state, early.before) == ("not known", None)
    assert early.problems == ("the history begins at 2026-01-01T10:20:00Z, later than that",)


async def test_nothing_is_known_of_what_is_to_come(server: ApiServer) -> None:
    write(server, covered=NOON + 90_000)
    write(server, THIRD, number=2, covered=NOON + 90_000)
    found = await look(server, HistorySubject.node("n2"))
    assert found.covered == NOON
    assert found.tenures == (replace(THIRD, ended_after=NOON, ended_by=NOON),)
    write(server, number=3, covered=NOON - 1000)
    found = await look(server, HistorySubject.node("n2"))
    assert found.covered == NOON - 1000, "the next leader's clock is right"
    assert list(found.problems(NOW)) != []


async def test_the_answer_in_words(server: ApiServer) -> None:
    write(server, FIRST, SECOND, THIRD)
    put(server, THIRD)
    view = View(width=80)
    assert printed(await at(server, 4000), "table", view).splitlines() == [
        "Address:    10.0.0.5",
        "At:         2026-01-01T10:53:20Z (66m ago)",
        "State:      held",
        "Pod:        shop/web-1",
        "Node:       n1",
        "Interface:  eth0",
        "Pool:       blue",
        "From:       2026-01-01T10:00:00Z",
        "Until:      2026-01-01T11:00:00Z",
    ]
    nobody = printed(await at(server, 3300), "table", view)
    assert "Before:   shop/web-1 on n1, until 2026-01-01T11:00:00Z" in nobody
    assert "After:    shop/web-2 on n2, from 2026-01-01T11:10:00Z" in nobody
    several = printed(await at(server, 1300), "table", view)
    assert "POD         NODE  INTERFACE  FROM                  UNTIL" in several
    assert "between 2026-01-01T11:30:00Z" in several
    assert printed(await at(server, 1300), "name", view) == "pod/shop/web-2\npod/shop/web-3"
    assert '"ended_after": "2026-01-01T11:30:00Z"' in printed(await at(server, 1300), "json", view)
    assert "\n! the history begins" in printed(await at(server, 7500), "table", view)


async def test_rows_are_late_and_records_are_not(server: ApiServer) -> None:
    write(server, THIRD, covered=NOON - 20)
    gone = await look(server, HistorySubject.address(ADDRESS))
    assert [(each.ended_after, each.ended_by) for each in gone.tenures] == [(NOON - 20, NOON)]
    put(server, replace(THIRD, pod="web-9", pod_uid="u9"))
    now = datetime.now(UTC)
    (former, present) = (await look(server, HistorySubject.address(ADDRESS), now)).tenures
    assert (former.pod, former.lasts, present.pod, present.lasts) == ("web-3", False, "web-9", True)
    made = server.stored(SpiderIP)[ADDRESS].metadata.creationTimestamp
    assert present.begun == max(seconds(made) or 0, NOON - 20)


async def test_the_history_of_a_pod_and_of_a_node(server: ApiServer) -> None:
    again = replace(FIRST, pod_uid="u8", address="10.0.0.8", begun=NOON - 100, ended_after=None, ended_by=None)
    write(server, FIRST, SECOND, THIRD, OTHER, again)
    put(server, THIRD)
    put(server, again)
    pod = await look(server, HistorySubject.pod("shop", "web-1"))
    assert [(each.address, each.lasts) for each in pod.tenures] == [(ADDRESS, False), ("10.0.0.8", True)]
    node = await look(server, HistorySubject.node("n2"))
    assert [(each.pod, each.lasts) for each in node.tenures] == [("web-1", False), ("web-2", False), ("web-3", True)]
    assert [each.ended_by for each in node.tenures if each.pod_uid == "u4"] == [NOON], "its record is gone"


async def test_the_addresses_that_a_pod_has_just_got(server: ApiServer) -> None:
    write(server, since=NOON - 60)
    new = replace(THIRD, pod="new", address="10.0.0.9")
    put(server, new)
    server.put(Pod(metadata=ObjectMeta(name="new", namespace="shop"), spec=PodSpec(nodeName="n2")))
    (found,) = (await look(server, HistorySubject.pod("shop", "new"))).tenures
    assert (found.address, found.lasts) == ("10.0.0.9", True)


async def test_the_table(server: ApiServer) -> None:
    write(server, FIRST, THIRD)
    put(server, THIRD)
    found = await look(server, HistorySubject.address(ADDRESS))
    assert list(history_table(found, None, NOW).lines(View())) == [
        "POD         NODE  INTERFACE  FROM                  UNTIL",
        "shop/web-1  n1    eth0       2026-01-01T10:00:00Z  2026-01-01T11:00:00Z",
        "shop/web-3  n2    eth0       2026-01-01T11:35:00Z  now",
        "",
        "the history begins at 2026-01-01T10:20:00Z",
    ]
    late = history_table(found, datetime.fromtimestamp(NOON - 3000, UTC), NOW)
    assert [each.pod for each in late.items] == ["shop/web-3"]
    assert list(late.names()) == ["spiderip.spiderpool.spidernet.io/10.0.0.5"]
    assert late.document()["items"][0]["begun"] == "2026-01-01T11:35:00Z"
    (titles, *_) = history_table(await look(server, HistorySubject.node("n2")), None, NOW).lines(View(wide=True))
    assert titles.split() == ["ADDRESS", "POD", "INTERFACE", "POOL", "POD", "UID", "FROM", "UNTIL"]
    (titles, *_) = history_table(await look(server, HistorySubject.pod("shop", "web-1")), None, NOW).lines(View())
    assert titles.split() == ["ADDRESS", "NODE", "INTERFACE", "FROM", "UNTIL"]
    nothing = history_table(await look(server, HistorySubject.node("n9")), None, NOW)
    assert list(nothing.lines(View())) == ["nothing is known of it; the history begins at 2026-01-01T10:20:00Z"]


async def test_what_may_be_missing_is_said(server: ApiServer) -> None:
    (none,) = history_table(await look(server, HistorySubject.node("n1")), None, NOW).problems
    assert none.startswith("there is no history: ")
    write(server, FIRST, covered=NOON - 3600)
    (silent,) = history_table(await look(server, HistorySubject.node("n1")), None, NOW).problems
    assert silent.startswith("nothing has been written since 2026-01-01T11:00:00Z")
    server.inject(Fault("list", 1, SpiderIPHistory.KIND.plural, status=403))
    unseen = history_table(await look(server, HistorySubject.node("n1")), None, NOW)
    assert unseen.items == ()
    assert unseen.problems[0].startswith("the history may not be read"), "so the exit status is 1"
    write(server, THIRD)
    server.inject(Fault("get", 1, SpiderIP.KIND.plural, status=403))
    assert (await look(server, HistorySubject.address(ADDRESS))).tenures == (THIRD,), (
        "nothing follows from what is not seen"
    )


async def test_the_commands(server: ApiServer, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["who", "x", "--at", "-2h"], ["who", ADDRESS, "--at", "2h"], ["history", "node"]):
        assert CliRunner().invoke(cli, words).exit_code == 2
    for words in (["history"], ["history", "pod"], ["history", "address"], ["history", "node"]):
        assert "Examples:" in CliRunner().invoke(cli, [*words, "--help"]).output or words == ["history"]
