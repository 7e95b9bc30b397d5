"""The history of addresses as leaders write it, with losses, changes of the leader, and full objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.controller import history as writing
from spiderpool.controller.history import HistoryOptions, HistoryWriter
from spiderpool.core.ipam import history
from spiderpool.core.ipam.history import Tenure
from spiderpool.kube.histories import parts
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

KINDS = (SpiderIP, Pod, SpiderIPHistory)
INTERVAL = 0.03
"""Seconds between two writes."""
PLURAL = SpiderIPHistory.KIND.plural


class Clock:
    """The time of day of a test, and how often the writer has looked at it: twice at least in each of its rounds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self.now

    async def rounds(self, count: int = 1) -> None:
        """Let the writer come round so often, from one beginning after now to the end."""
        for _ in range(count + 1):
            before = self._looks
            await eventually(lambda before=before: self._looks >= before + 2, "the writer comes round")  # type: ignore[misc]


class DatedServer(ApiServer):
    """An API server with a time of day of its own."""

    def __init__(self, *kinds: type[Object]) -> None:
        super().__init__(*(kind.KIND for kind in kinds))
        self.now = 900.0
        self._store.clock = lambda: datetime.fromtimestamp(self.now, UTC)


@pytest.fixture
async def server() -> AsyncIterator[DatedServer]:
    async with DatedServer(*KINDS) as server:
        yield server


@asynccontextmanager
async def leader(server: DatedServer, clock: Clock, objects: int = 9) -> AsyncIterator[HistoryWriter]:
    """A leader that has read the cluster."""
    async with server.client() as client:
        ips, pods = Informer(client, SpiderIP), Informer(client, Pod)
        writer = HistoryWriter(client, ips, pods, HistoryOptions(objects, INTERVAL, clock))
        tasks = [asyncio.create_task(each.run()) for each in (ips, pods)]
        await ips.synced(5.0)
        await pods.synced(5.0)
        tasks.append(asyncio.create_task(writer.run()))
        try:
            yield writer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def hold(server: DatedServer, address: str = "10.0.0.1", uid: str = "u1", *, made: int = 900) -> None:
    """An agent grants an address."""
    server.now = made
    spec = IPSpec(f"{address}/16", "p", "n1", "shop", f"web-{uid}", uid, "eth0")
    server.put(SpiderIP(metadata=ObjectMeta(name=address), spec=spec))


def release(server: DatedServer, address: str = "10.0.0.1") -> None:
    server.remove(server.stored(SpiderIP)[address])


async def stored(server: DatedServer) -> list[Tenure]:
    """What a reader finds."""
    async with server.client() as client:
        return history.read([text async for _, _, text in parts(client, timeout=5.0)])


def rows(server: DatedServer) -> int:
    return sum(part.spec.rows for part in server.stored(SpiderIPHistory).values())


async def until(server: DatedServer, *expected: tuple[str, int, int | None, int | None]) -> None:
    """Wait until a reader finds these tenures: UID of the pod, beginning, and end."""

    async def is_so() -> bool:
        found = await stored(server)
        return [(each.pod_uid, each.begun, each.ended_after, each.ended_by) for each in found] == list(expected)

    try:
        await eventually(is_so, timeout=20.0)
    except AssertionError as error:
        raise AssertionError(await stored(server)) from error


async def test_who_holds_an_address_is_written_and_stays_when_the_pod_is_gone(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
        clock.now = 1010.5
        release(server)
        await until(server, ("u1", 900, 1010, 1010))
        hold(server, uid="u2", made=1011)
        await until(server, ("u1", 900, 1010, 1010), ("u2", 1011, None, None))
        assert rows(server) == 3


async def test_nothing_is_written_while_nothing_happens_but_the_pulse(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
        before = server.requests["replace"]
        await clock.rounds(3)
        assert server.requests["replace"] == before
        clock.now += writing.PULSE + writing.LATENESS

        def has_pulse() -> bool:
            (part,) = server.stored(SpiderIPHistory).values()
            return part.spec.covered == history.moment(clock.now - writing.LATENESS)

        await eventually(has_pulse)
        await clock.rounds(3)
        assert server.requests["replace"] == before + 1


async def test_an_address_that_cools_down_or_gets_another_holder(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
        record, clock.now = server.stored(SpiderIP)["10.0.0.1"], 1020.0
        server.put(replace(record, spec=replace(record.spec, releasedAt=history.moment(1015))))
        await until(server, ("u1", 900, 1015, 1015))
        clock.now = 1030.0
        server.put(replace(record, spec=replace(record.spec, podUID="u2", pod="web-u2")))
        await until(server, ("u1", 900, 1015, 1015), ("u2", 1030, None, None))
        clock.now = 1040.0
        server.put(replace(record, spec=replace(record.spec, podUID="u3", pod="web-u3")))
        await until(server, ("u1", 900, 1015, 1015), ("u2", 1030, 1040, 1040), ("u3", 1040, None, None))


async def test_a_later_leader_goes_on_and_knows_what_it_did_not_see(server: DatedServer) -> None:
    clock = Clock()
    for number in (1, 2, 3):
        hold(server, f"10.0.0.{number}", f"u{number}")
    async with leader(server, clock):
        await until(server, *((f"u{number}", 900, None, None) for number in (1, 2, 3)))
        before = rows(server)
    clock.now = 2000.0  # nobody leads
    release(server, "10.0.0.1")
    release(server, "10.0.0.2")
    hold(server, "10.0.0.2", "u4", made=1500)
    hold(server, "10.0.0.5", "u5", made=1600)
    vouched = 1000 - writing.LATENESS
    ended = ("u1", 900, vouched, 2000), ("u2", 900, vouched, 2000)
    for _ in range(2):
        async with leader(server, clock):
            await until(server, *ended, ("u3", 900, None, None), ("u4", 1500, None, None), ("u5", 1600, None, None))
            await clock.rounds(2)
        assert rows(server) == before + 4, "what is stored is not stored again"


async def test_a_leader_whose_clock_was_ahead_spoils_nothing_of_the_next_one(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
    (part,) = server.stored(SpiderIPHistory).values()
    ahead = IPHistorySpec(history.moment(1010), 0, history.pack(""), history.moment(90_000))
    server.put(SpiderIPHistory.numbered((part.number or 0) + 1, None, ahead))
    clock.now = 2000.0
    release(server)
    hold(server, "10.0.0.2", "u2", made=1500)
    async with leader(server, clock):
        await until(server, ("u1", 900, 1000 - writing.LATENESS, 2000), ("u2", 1500, None, None))
        await eventually(lambda: newest_covered(server) == history.moment(2000 - writing.LATENESS))


async def test_a_leader_whose_clock_is_set_back_goes_on_to_write(server: DatedServer) -> None:
    clock = Clock()
    clock.now = 90_000.0
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
        clock.now = 2000.0
        await clock.rounds(2)
        clock.now += writing.PULSE
        await eventually(lambda: newest_covered(server) == history.moment(clock.now - writing.LATENESS))


def newest_covered(server: DatedServer) -> str | None:
    return max(server.stored(SpiderIPHistory).items())[1].spec.covered


async def test_a_successor_of_the_time_without_a_leader_begins_with_its_pod(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
    clock.now = 2000.0
    record = server.stored(SpiderIP)["10.0.0.1"]
    server.now = 1700.0
    server.put(Pod(metadata=ObjectMeta(name="web-0", namespace="shop")))
    uid = server.stored(Pod)["shop/web-0"].metadata.uid or ""
    server.put(replace(record, spec=replace(record.spec, podUID=uid, pod="web-0")))
    async with leader(server, clock):
        await until(server, ("u1", 900, 998, 2000), (uid, 1700, None, None))


@pytest.mark.parametrize("verb", ["create", "replace"])
@pytest.mark.parametrize("fault", ["answer", "request", "status"])
async def test_a_write_whose_outcome_is_unknown_is_neither_lost_nor_doubled(
    server: DatedServer, verb: str, fault: str
) -> None:
    clock = Clock()
    hold(server)
    lost = Fault(verb, 1, PLURAL, lose_answer=fault == "answer", lose_request=fault == "request")
    server.inject(replace_status(lost) if fault == "status" else lost)
    async with leader(server, clock):
        await until(server, ("u1", 900, None, None))
        release(server)
        await until(server, ("u1", 900, 1000, 1000))
        await clock.rounds(2)
    assert rows(server) == 2


def replace_status(fault: Fault) -> Fault:
    return Fault(fault.verb, fault.times, fault.plural, status=503)


async def test_what_happens_while_the_stored_rows_are_read_again_is_not_lost(server: DatedServer) -> None:
    clock = Clock()
    hold(server)
    async with leader(server, clock) as writer:
        await until(server, ("u1", 900, None, None))
        (part,) = server.stored(SpiderIPHistory).values()
        seen = asyncio.Event()
        server.inject(Fault("list", 1, PLURAL, until=seen))
        lists = server.requests["list"]
        server.put(replace(part, spec=replace(part.spec, since=history.moment(1))))  # somebody else has written it
        hold(server, "10.0.0.2", "u2", made=1000)
        await eventually(lambda: server.requests["list"] > lists, "it is read again")
        clock.now = 1500.0
        release(server)
        hold(server, "10.0.0.3", "u3", made=1500)
        release(server, "10.0.0.3")
        await eventually(lambda: "+10.0.0.3" in " ".join(writer._waiting), "it has seen them")
        await eventually(lambda: "-10.0.0.3" in " ".join(writer._waiting), "and their ends")
        clock.now = 2000.0
        seen.set()
        await until(server, ("u1", 900, 1500, 1500), ("u2", 1000, None, None), ("u3", 1500, 1500, 1500))


async def test_of_two_leaders_none_overwrites_what_the_other_has_written(server: DatedServer) -> None:
    clock = Clock()
    async with leader(server, clock), leader(server, clock):
        for number in range(1, 9):
            hold(server, f"10.0.0.{number}", f"u{number}", made=1000)
            await asyncio.sleep(INTERVAL / 2)
        await until(server, *((f"u{number}", 1000, None, None) for number in range(1, 9)))
        for number in range(1, 9):
            release(server, f"10.0.0.{number}")
            await asyncio.sleep(INTERVAL / 2)
        await until(server, *((f"u{number}", 1000, 1000, 1000) for number in range(1, 9)))


async def test_the_oldest_objects_go_but_what_lasts_stays(server: DatedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_TEXT", 600)  # some ten rows
    clock = Clock()
    hold(server, "10.0.9.9", "old", made=10)
    async with leader(server, clock, objects=3):
        await until(server, ("old", 10, None, None))
        for number in range(60):
            clock.now += 1
            hold(server, "10.0.0.1", f"u{number}", made=int(clock.now))
            await asyncio.sleep(INTERVAL / 3)
            release(server)
            await asyncio.sleep(INTERVAL / 3)

        async def is_bounded() -> bool:
            found = await stored(server)
            return len(server.stored(SpiderIPHistory)) <= 3 and found[-1].pod_uid == "u59" and not found[-1].lasts

        await eventually(is_bounded)
    found = await stored(server)
    assert (found[0].pod_uid, found[0].begun, found[0].lasts) == ("old", 10, True)
    assert found[1].pod_uid > "u1", "the first ones are gone"
    assert min(server.stored(SpiderIPHistory)) > "history-000000000005"
    assert all(len(history.unpack(part.spec.data)) <= 600 for part in server.stored(SpiderIPHistory).values())


async def test_where_what_lasts_would_fill_all_objects_the_oldest_go_all_the_same(
    server: DatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_TEXT", 600)
    clock = Clock()
    for number in range(100):
        hold(server, f"10.0.1.{number}", f"u{number}")
    async with leader(server, clock, objects=2):
        await eventually(lambda: len(server.stored(SpiderIPHistory)) == 2 and "history-000000000005" in highest(server))
        clock.now = 1100.0
        release(server, "10.0.1.0")

        async def has_ended() -> bool:
            return ("u0", 900, 1100) in {(each.pod_uid, each.begun, each.ended_by) for each in await stored(server)}

        await eventually(has_ended, "an end says all of it, though the beginning is gone")


def highest(server: DatedServer) -> str:
    return "history-000000000005" if max(server.stored(SpiderIPHistory), default="") >= "history-000000000005" else ""


async def test_a_large_cluster_is_taken_up_in_batches(server: DatedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_TEXT", 600)
    monkeypatch.setattr(writing, "MOST_AHEAD", 20)
    monkeypatch.setattr(writing, "MOST_OBJECTS", 2)
    clock = Clock()
    for number in range(200):
        hold(server, f"10.0.1.{number}", f"u{number}")
    async with leader(server, clock, objects=99):
        await eventually(lambda: rows(server) >= 40)
        parts_so_far = server.stored(SpiderIPHistory).values()
        assert all(part.spec.covered is None for part in parts_so_far), "not all of it is there yet"
        release(server, "10.0.1.199")  # before its turn
        await eventually(lambda: any(part.spec.covered for part in server.stored(SpiderIPHistory).values()))
        found = await stored(server)
    assert len(found) == 200
    assert [each.pod_uid for each in found if not each.lasts] == ["u199"]


async def test_what_found_no_room_is_found_by_a_comparison(
    server: DatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with leader(server, clock) as writer:
        await eventually(lambda: server.stored(SpiderIPHistory))
        monkeypatch.setattr(writing, "MOST_WAITING", 3)
        server.inject(Fault("replace", 999, PLURAL, status=503))
        for number in range(9):
            hold(server, f"10.0.0.{number}", f"u{number}", made=999)
        await eventually(lambda: len(writer._waiting) == 3)
        await clock.rounds()
        server.clear_faults()
        await until(server, *((f"u{number}", 999, None, None) for number in range(9)))


async def test_rows_that_nobody_can_read_are_left_alone(server: DatedServer) -> None:
    spec = IPHistorySpec(history.moment(1), 7, "rubbish")
    server.put(SpiderIPHistory.numbered(4, None, spec))
    server.put(SpiderIPHistory(metadata=ObjectMeta(name="mine"), spec=spec))
    hold(server)
    async with leader(server, Clock()):
        await until(server, ("u1", 900, None, None))
    assert set(server.stored(SpiderIPHistory)) == {"mine", "history-000000000004", "history-000000000005"}


async def test_one_row_that_nobody_can_read_does_not_stop_the_history(server: DatedServer) -> None:
    text = "\n".join(("+no address\tp\tn1\tshop\tweb\tu\teth0\t1", "+10.0.0.9\tp\tn1\tshop\tweb\tu\teth0\tnever"))
    spec = IPHistorySpec(history.moment(1), history.count_rows(text), history.pack(text))
    server.put(SpiderIPHistory.numbered(1, None, spec))
    hold(server)
    async with leader(server, Clock()):
        await until(server, ("u1", 900, None, None))


async def test_without_the_custom_resource_the_writer_waits_for_it() -> None:
    async with DatedServer(SpiderIP, Pod) as server:
        hold(server)
        async with leader(server, Clock()) as writer:
            await eventually(lambda: writer._complaint)
