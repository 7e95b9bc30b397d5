"""The informer against a pretend API server: what its cache, its indexes and its subscribers see."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import NotReady
from spiderpool.kube import informer as informer_module
from spiderpool.kube.client import Client, Forbidden
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.turns import other_task

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]


R = TypeVar("R", bound=SpiderIP)


def record(name: str, pool: str = "p", *, labels: dict[str, str] | None = None, uid: str | None = None) -> SpiderIP:
    spec = IPSpec(f"{name}/24", pool, "n1", "default", "pod", "uid", "eth0")
    return SpiderIP(metadata=ObjectMeta(name=name, labels=labels, uid=uid), spec=spec)


def versioned(obj: SpiderIP, version: int) -> SpiderIP:
    obj.metadata.resourceVersion = str(version)
    return obj


def age() -> float | None:
    return REGISTRY.get_sample_value("spiderpool_cache_age_seconds", {"kind": "spiderips"})


@asynccontextmanager
async def running(informer: Informer[R]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(SpiderIP.KIND) as server:
        yield server


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


async def equal(informer: Informer[SpiderIP], server: ApiServer) -> None:
    await eventually(lambda: {obj.key: obj for obj in informer.items()} == server.stored(SpiderIP), "cache is current")


class TestCache:
    async def test_follows_the_server(self, server: ApiServer, client: Client) -> None:
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            await equal(informer, server)
            server.put(record("10.0.0.1", "other"), record("10.0.0.2"))
            await equal(informer, server)
            server.remove(record("10.0.0.1"))
            await equal(informer, server)

    async def test_is_not_ready_before_the_first_list(self, server: ApiServer, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        with pytest.raises(NotReady, match="spiderips"):
            await informer.synced(0.01)
        assert not informer.ready

    async def test_what_we_wrote_outlives_a_list_that_is_older(self, server: ApiServer, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        written, known = versioned(record("10.0.0.1", uid="1"), 1_000_000), versioned(record("10.0.0.2", uid="2"), 1)
        informer.note(written)
        informer.note(known)
        async with running(informer):
            await informer.synced(5)
            assert informer.items() == [written]

    async def test_what_we_changed_is_not_replaced_by_a_list_that_is_older(
        self, server: ApiServer, client: Client
    ) -> None:
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP)
        changed = versioned(server.stored(SpiderIP)["10.0.0.1"], 1_000_000)
        informer.note(changed)
        async with running(informer):
            await informer.synced(5)
            assert informer.items() == [changed]

    @pytest.mark.parametrize("from_cache", [False, True])
    async def test_takes_a_restored_store_as_it_is_once_its_revisions_were_raised(
        self, server: ApiServer, client: Client, from_cache: bool
    ) -> None:
        server.put(record("10.0.0.1"), record("10.0.0.2"))
        informer = Informer(client, SpiderIP, from_cache=from_cache)
        async with running(informer):
            await informer.synced(5)
            copied = server.copied()
            server.remove(record("10.0.0.1"))
            server.put(record("10.0.0.2", "later"), record("10.0.0.3"))
            await equal(informer, server)
            server.restore(copied, bump=1_000_000)
            await equal(informer, server)
            assert {obj.key: obj.spec.pool for obj in informer.items()} == {"10.0.0.1": "p", "10.0.0.2": "p"}

    @pytest.mark.parametrize("told", ["by an event", "by a list"])
    async def test_what_we_deleted_ourselves_is_in_a_restored_store_again(
        self, server: ApiServer, client: Client, told: str
    ) -> None:
        """An answer may arrive after the event, and after a list there is no event at all."""
        server.put(record("10.0.0.1"), record("10.0.0.2"))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            copied, ours = server.copied(), server.stored(SpiderIP)["10.0.0.1"]
            if told == "by a list":
                server.hold_watches()
                informer.forget(ours)
            server.remove(ours)
            if told == "by a list":
                server.put(record("10.0.0.3"))
                server.compact()
                server.cut_watches()
                server.release_watches()
            await equal(informer, server)
            if told == "by an event":
                informer.forget(ours)
            server.restore(copied, bump=1_000_000)
            await equal(informer, server)

    def test_a_late_event_of_a_former_object_does_not_replace_its_successor(self, client: Client) -> None:
        """Somebody else deleted the former one; its last changes arrive after our own object of its name."""
        informer = Informer(client, SpiderIP)
        successor = versioned(record("10.0.0.1", uid="2"), 9)
        informer.note(successor)
        informer.note(versioned(record("10.0.0.1", uid="1"), 7))
        assert informer.items() == [successor]

    async def test_takes_the_former_object_of_a_name_from_a_restored_store(
        self, server: ApiServer, client: Client
    ) -> None:
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            copied = server.copied()
            server.remove(record("10.0.0.1"))
            server.put(record("10.0.0.1", "successor"))
            await equal(informer, server)
            server.restore(copied, bump=1_000_000)
            await equal(informer, server)

    async def test_what_we_deleted_ourselves_does_not_come_back_by_a_list_that_began_before(
        self, server: ApiServer, client: Client
    ) -> None:
        server.put(record("10.0.0.1"), record("10.0.0.2"))
        informer = Informer(client, SpiderIP)
        informer.forget(server.stored(SpiderIP)["10.0.0.1"])
        async with running(informer):
            await informer.synced(5)
            assert [obj.key for obj in informer.items()] == ["10.0.0.2"]

    def test_an_older_version_is_no_news(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        newer = versioned(record("10.0.0.1", "new", uid="1"), 8)
        informer.note(newer)
        informer.note(versioned(record("10.0.0.1", "old", uid="1"), 7))
        assert informer.items() == [newer]

    def test_the_end_of_a_former_object_is_not_that_of_its_successor(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        successor = versioned(record("10.0.0.1", uid="2"), 9)
        informer.note(successor)
        informer.forget(versioned(record("10.0.0.1", uid="1"), 8))
        assert informer.items() == [successor]

    async def test_outlives_broken_watches_lost_history_and_server_errors(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        server.inject(Fault("list", status=500), Fault("watch", status=503), Fault("list", lose_answer=True))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            server.put(record("10.0.0.1"))
            await equal(informer, server)
            server.hold_watches()
            server.put(record("10.0.0.2"))
            server.remove(record("10.0.0.1"))
            server.compact()
            server.cut_watches()
            server.release_watches()
            await equal(informer, server)

    async def test_an_object_leaves_and_enters_the_selector(self, server: ApiServer, client: Client) -> None:
        informer = Informer(client, SpiderIP, labels="node=n1")
        async with running(informer):
            await informer.synced(5)
            server.put(record("10.0.0.1", labels={"node": "n1"}), record("10.0.0.2", labels={"node": "n2"}))
            await eventually(lambda: informer.get("10.0.0.1"))
            server.put(record("10.0.0.1", labels={"node": "n2"}))
            await eventually(lambda: not informer.items())
            server.put(record("10.0.0.1", labels={"node": "n1"}))
            await eventually(lambda: informer.get("10.0.0.1"))

    async def test_own_writes_are_visible_at_once_and_late_events_change_nothing(
        self, server: ApiServer, client: Client
    ) -> None:
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            server.hold_watches()
            made = await client.create(record("10.0.0.1"))
            informer.note(made)
            assert informer.get("10.0.0.1") == made
            await client.delete(SpiderIP, "10.0.0.1")
            informer.forget(made)
            names: list[str] = []
            informer.subscribe(lambda _, new: names.append(new.name if new else ""))
            server.release_watches()
            server.put(record("10.0.0.2"))
            await equal(informer, server)
        assert names == ["10.0.0.2"]

    async def test_who_looks_at_all_objects_himself_is_told_of_changes_alone(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        informer.note(versioned(record("10.0.0.1", uid="1"), 1))
        seen: list[str] = []
        informer.subscribe(lambda _, new: seen.append(new.name if new else ""), replay=False)
        informer.note(versioned(record("10.0.0.2", uid="2"), 2))
        assert seen == ["10.0.0.2"]

    async def test_a_successor_of_the_same_name_is_another_object(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        first, second = versioned(record("10.0.0.1", uid="1"), 1), versioned(record("10.0.0.1", uid="2"), 3)
        informer.note(first)
        informer.note(second)
        informer.forget(first)
        assert informer.get("10.0.0.1") is second

    async def test_an_optional_kind_that_is_not_served_has_no_objects(self) -> None:
        async with ApiServer() as server, server.client() as client:
            informer = Informer(client, SpiderIP, optional=True)
            async with running(informer):
                await informer.synced(5)
                assert informer.items() == []

    async def test_an_optional_kind_that_is_no_longer_served_has_no_objects(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CRD was deleted while the watch was interrupted, so no watch said that its objects went."""
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(informer_module, "LAST_PAUSE", 0.05)
        monkeypatch.setattr(informer_module, "ABSENT_PAUSE", 0.1)
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP, optional=True)
        seen: list[tuple[str, str]] = []
        informer.subscribe(lambda old, new: seen.append((old.name if old else "", new.name if new else "")))
        pools = informer.index(lambda record: [record.spec.pool])
        async with running(informer):
            await equal(informer, server)
            server.inject(Fault("*", 1000, status=404))
            server.cut_watches()
            await eventually(lambda: not informer.items(), "the objects of a kind that is gone are gone")
            assert (seen, list(pools)) == ([("", "10.0.0.1"), ("10.0.0.1", "")], [])
            server.clear_faults()
            await equal(informer, server)  # the very same object, as after a false answer

    async def test_its_age_is_exported_while_it_runs(self, server: ApiServer, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        assert age() is None
        async with running(informer):
            await informer.synced(5)
            await asyncio.sleep(0.3)
            assert (age() or 0.0) >= 0.3
            server.put(record("10.0.0.1"))
            await eventually(lambda: (age() or 1.0) < 0.2, "a change makes it young again")
        assert age() is None

    async def test_what_is_not_served_has_no_age(self) -> None:
        async with ApiServer() as server, server.client() as client:
            informer = Informer(client, SpiderIP, optional=True)
            async with running(informer):
                await informer.synced(5)
                assert age() is None

    async def test_one_answer_that_an_optional_kind_is_not_served_empties_no_cache(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(informer_module, "LAST_PAUSE", 0.05)
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP, optional=True)
        lost: list[SpiderIP | None] = []
        async with running(informer):
            await equal(informer, server)
            informer.subscribe(lambda _, new: lost.append(new), replay=False)
            server.inject(Fault("watch", status=404))
            server.cut_watches()
            server.put(record("10.0.0.2"))
            await equal(informer, server)
            assert None not in lost

    async def test_a_subscriber_that_fails_misses_one_event_only(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        seen: list[str] = []

        def fail_once(_: SpiderIP | None, new: SpiderIP | None) -> None:
            seen.append(new.name if new else "")
            if len(seen) == 1:
                raise RuntimeError("a bug")

        informer = Informer(client, SpiderIP)
        informer.subscribe(fail_once)
        async with running(informer):
            server.put(record("10.0.0.1"))
            server.put(record("10.0.0.2"))
            await eventually(lambda: {"10.0.0.1", "10.0.0.2"} <= set(seen))
            await equal(informer, server)

    async def test_who_fails_keeps_nobody_else_from_an_event(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        seen: list[str] = []
        informer.index(lambda obj: [obj.spec.address[99]])
        names = informer.index(lambda obj: [obj.name])
        informer.subscribe(lambda _, new: seen.append(new.spec.address[99] if new else ""))
        informer.subscribe(lambda _, new: seen.append(new.name if new else ""))
        informer.note(versioned(record("10.0.0.1", uid="1"), 1))
        assert seen == ["10.0.0.1"]
        assert "10.0.0.1" in names


async def test_the_oldest_deletion_is_forgotten_first(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "TOMBSTONES", 2)
    informer = Informer(client, SpiderIP)
    deleted = [versioned(record(f"10.0.0.{number}", uid=f"u{number}"), number) for number in (1, 2, 3)]
    for each in deleted:
        informer.forget(each)
    assert [informer.is_deleted(each) for each in deleted] == [False, True, True]


class TestListsFromTheServersCache:
    """Cheap for the server, and never older than what this process has seen."""

    @staticmethod
    def versions(server: ApiServer) -> list[str | None]:
        return [query.get("resourceVersion") for _, query in server.list_queries]

    async def test_are_not_older_than_what_was_seen(self, server: ApiServer, client: Client) -> None:
        server.put(record("10.0.0.1"))
        informer = Informer(client, SpiderIP, from_cache=True)
        async with running(informer):
            await informer.synced(5)
            server.put(record("10.0.0.2"))
            await equal(informer, server)
            seen = server.stored(SpiderIP)["10.0.0.2"].metadata.resourceVersion
            server.put(record("10.0.0.3"))
            await equal(informer, server)
            last = server.stored(SpiderIP)["10.0.0.3"].metadata.resourceVersion
            server.hold_watches()
            server.put(record("10.0.0.4"))
            server.compact()
            server.cut_watches()
            server.release_watches()
            await equal(informer, server)
        assert self.versions(server) == ["0", last]
        assert last != seen

    async def test_are_not_older_than_the_last_list(self, server: ApiServer, client: Client) -> None:
        server.put(record("10.0.0.1"))
        server.hold_watches()
        informer = Informer(client, SpiderIP, from_cache=True)
        async with running(informer):
            await informer.synced(5)
            listed = informer.listed_version
            server.put(record("10.0.0.2"))
            server.compact()
            server.cut_watches()
            server.release_watches()
            await equal(informer, server)
        assert self.versions(server) == ["0", listed]

    async def test_come_from_etcd_after_a_failure(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        server.inject(Fault("list", status=504))
        informer = Informer(client, SpiderIP, from_cache=True)
        async with running(informer):
            await informer.synced(5)
        assert self.versions(server) == [None], "the first one was not answered"

    async def test_are_for_informers_that_allow_it(self, server: ApiServer, client: Client) -> None:
        async with running(informer := Informer(client, SpiderIP)):
            await informer.synced(5)
        assert self.versions(server) == [None]


class Defective(SpiderIP):
    """A record of which our own code makes a bug, as often as the count says."""

    bugs: ClassVar[int] = 2

    @property
    def key(self) -> str:
        if Defective.bugs:
            Defective.bugs -= 1
            raise ZeroDivisionError
        return self.name


async def test_a_bug_does_not_stop_the_informer(
    server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
    server.put(record("10.0.0.1"))
    informer = Informer(client, Defective)
    async with running(informer):
        await informer.synced(5)
        Defective.bugs = 1
        server.put(record("10.0.0.2"))
        await eventually(lambda: informer.get("10.0.0.2"))
    assert Defective.bugs == 0


class TestPauses:
    async def test_watches_that_are_refused_as_too_old_are_not_begun_anew_without_a_pause(
        self, client: Client, server: ApiServer
    ) -> None:
        server.inject(Fault("watch", times=1000, status=410))
        async with running(Informer(client, SpiderIP)):
            await asyncio.sleep(2)
        assert server.requests["list"] <= 6

    async def test_watches_that_are_closed_at_once_are_not_begun_anew_without_a_pause(
        self, server: ApiServer, client: Client
    ) -> None:
        informer = Informer(client, SpiderIP)
        async with running(informer):
            for _ in range(200):
                await asyncio.sleep(0.01)
                server.cut_watches()
        assert server.requests["watch"] <= 6
        assert server.requests["list"] <= 6

    async def test_a_watch_that_lasted_is_begun_anew_at_once(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "STEADY", 0.0)
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 30.0)
        server.inject(Fault("watch", status=410))
        async with running(Informer(client, SpiderIP)):
            await eventually(lambda: server.requests["watch"] == 2)


class TestInterruptions:
    """Whoever asks for it hears why nothing arrives, and when it does again."""

    async def test_of_lists_end_with_the_first_list(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        server.inject(Fault("list", status=403, times=2))
        heard: list[Exception | None] = []
        async with running(informer := Informer(client, SpiderIP, interrupted=heard.append)):
            await informer.synced(5)
        assert [type(each) for each in heard] == [Forbidden, Forbidden, type(None)]

    async def test_of_watches_that_are_refused_later_end_with_the_next_change(
        self, server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        heard: list[Exception | None] = []
        async with running(informer := Informer(client, SpiderIP, interrupted=heard.append)):
            await informer.synced(5)
            await eventually(lambda: server.requests["watch"] == 1)
            server.inject(Fault("watch", status=403, times=2))
            server.cut_watches()
            await eventually(lambda: [each for each in heard if isinstance(each, Forbidden)])
            server.put(record("10.0.0.1"))
            await equal(informer, server)
        assert heard[-1] is None


class TestLongLists:
    @pytest.fixture
    def many(self, server: ApiServer) -> ApiServer:
        server.most_per_page = 2
        server.put(*(record(f"10.0.0.{number}") for number in range(1, 10)))
        return server

    async def test_a_list_goes_on_behind_the_pages_that_have_arrived(
        self, many: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        none = Fault("list", delay=0.0)
        many.inject(none, none, none, Fault("list", status=500, times=3))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            await equal(informer, many)
        assert many.requests["list"] == 5 + 3

    async def test_a_list_whose_rest_is_too_old_begins_anew(
        self, many: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(informer_module, "FIRST_PAUSE", 0.01)
        many.inject(Fault("list"), Fault("list", status=410))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            await informer.synced(5)
            await equal(informer, many)
        assert many.requests["list"] == 2 + 5

    async def test_it_is_waited_for_as_long_as_pages_arrive(self, many: ApiServer, client: Client) -> None:
        many.inject(Fault("list", times=5, delay=0.3))
        informer = Informer(client, SpiderIP)
        async with running(informer):
            with pytest.raises(NotReady):
                await informer.synced(0.8)
            await informer.listed(0.8)
            assert len(informer.items()) == 9

    async def test_it_is_not_waited_for_when_no_page_arrives(self, many: ApiServer, client: Client) -> None:
        many.inject(Fault("list", times=100, status=500))
        async with running(informer := Informer(client, SpiderIP)):
            with pytest.raises(NotReady, match="spiderips"):
                await informer.listed(0.5)

    async def test_other_tasks_get_their_turns_while_it_is_taken_over(self, server: ApiServer, client: Client) -> None:
        server.put(*(record(f"10.0.{number}.1") for number in range(40)))
        seen: list[int] = []

        def slow(_: SpiderIP | None, __: SpiderIP | None) -> None:
            time.sleep(0.005)
            seen.append(turns.taken)

        informer = Informer(client, SpiderIP)
        informer.subscribe(slow)
        async with other_task() as turns, running(informer):
            await informer.synced(5)
        assert len(set(seen)) >= 10


POOLS = st.sampled_from(["p", "q", "p,q", "", "p,p"])
CHANGES = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | POOLS), max_size=30)


def pools(obj: SpiderIP) -> Iterable[str]:
    return [name for name in obj.spec.pool.split(",") if name]


def carry_out(informer: Informer[SpiderIP], changes: list[tuple[str, str | None]], first_version: int) -> None:
    """Store an object with these pools, or drop it (None), one change after the other."""
    for version, (name, pool) in enumerate(changes, first_version):
        known = informer.get(name)
        if pool is not None:
            uid = known.metadata.uid if known else f"uid-{version}"
            informer.note(versioned(record(name, pool, uid=uid), version))
        elif known is not None:
            informer.forget(known)


def recomputed(informer: Informer[SpiderIP]) -> dict[str, set[str]]:
    """Names of objects by pool."""
    found: dict[str, set[str]] = defaultdict(set)
    for obj in informer.items():
        for pool in pools(obj):
            found[pool].add(obj.name)
    return dict(found)


class TestIndex:
    @given(before=CHANGES, after=CHANGES)
    async def test_equals_a_recomputation_from_items(
        self, before: list[tuple[str, str | None]], after: list[tuple[str, str | None]]
    ) -> None:
        async with ApiServer().client() as client:  # sends nothing
            informer = Informer(client, SpiderIP)
        carry_out(informer, before, 1)
        by_pool = informer.index(pools)
        names = informer.index(pools, lambda obj: obj.name)
        carry_out(informer, after, 100)
        expected = recomputed(informer)
        assert {pool: {obj.name for obj in by_pool.get(pool)} for pool in by_pool} == expected
        assert {pool: set(names.get(pool)) for pool in names} == expected
        for pool in ("p", "q", "none"):
            assert (pool in by_pool) == (pool in expected)
            assert len(by_pool.get(pool)) == len(expected.get(pool, ()))
            assert all(obj is informer.get(obj.name) for obj in by_pool.get(pool))

    async def test_is_shared_by_those_who_group_in_the_same_way(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        index = informer.index(pools)
        assert informer.index(pools) is index
        names = informer.index(pools, lambda obj: obj.name)
        informer.note(versioned(record("10.0.0.1", uid="1"), 1))
        assert ([each.name for each in index.get("p")], names.get("p")) == (["10.0.0.1"], ["10.0.0.1"])

    async def test_is_current_when_subscribers_are_called(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)
        seen: list[int] = []
        informer.subscribe(lambda _, __: seen.append(len(by_pool.get("p"))))
        by_pool = informer.index(pools)
        made = versioned(record("10.0.0.1", uid="1"), 1)
        informer.note(made)
        informer.forget(made)
        assert seen == [1, 0]

    async def test_a_function_that_raises_leaves_the_index_consistent(self, client: Client) -> None:
        informer = Informer(client, SpiderIP)

        def address(obj: SpiderIP) -> str:
            if obj.spec.pod == "malformed":
                raise ValueError("malformed")
            return obj.spec.address

        index = informer.index(pools, address)
        informer.note(versioned(record("10.0.0.1", uid="1"), 1))
        malformed = versioned(record("10.0.0.1", "q", uid="1"), 2)
        malformed.spec.pod = "malformed"
        informer.note(malformed)
        assert (index.get("p"), index.get("q")) == (["10.0.0.1/24"], [])
        informer.note(versioned(record("10.0.0.1", "q", uid="1"), 3))
        assert (index.get("p"), index.get("q")) == ([], ["10.0.0.1/24"])
