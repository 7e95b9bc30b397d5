"""The records of a node against a pretend API server that loses answers, delays events and has other clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

from spiderpool.api.ip import IP_NODE_LABEL, IP_OWNER_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.allocation import address_of
from spiderpool.errors import ApiUnavailable, SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Client, Conflict, NotFound
from spiderpool.kube.records import NodeRecords
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

TIMEOUT = 5.0


def record(name: str, node: str = "n1", *, pool: str = "p", pod: str = "a", released: bool = False) -> SpiderIP:
    labels = {IP_NODE_LABEL: node, IP_POOL_LABEL: pool}
    since = "2026-01-01T00:00:00Z" if released else None
    spec = IPSpec(f"{name}/24", pool, node, "default", pod, f"uid-{pod}", "eth0", releasedAt=since)
    return SpiderIP(metadata=ObjectMeta(name=name, labels=labels), spec=spec)


def of_interface(made: SpiderIP, interface: str) -> SpiderIP:
    return replace(made, spec=replace(made.spec, interface=interface))


def moved(stored: SpiderIP, *, pod: str) -> SpiderIP:
    return replace(stored, spec=replace(stored.spec, podUID=f"uid-{pod}", releasedAt=None))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(SpiderIP.KIND) as server:
        yield server


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


@pytest.fixture
async def records(client: Client) -> AsyncIterator[NodeRecords]:
    records = NodeRecords(client, "n1")
    task = asyncio.create_task(records.informer.run())
    await records.informer.synced(TIMEOUT)
    yield records
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class TestReads:
    async def test_all_lists_come_from_etcd(self, records: NodeRecords, server: ApiServer) -> None:
        """An API server's cache may lack a record, whose pod would get a second address."""
        server.hold_watches()
        server.put(record("10.0.0.1"))
        server.compact()
        server.cut_watches()
        server.release_watches()
        await eventually(lambda: len(server.list_queries) == 2)
        await records.of_owner("digest", timeout=TIMEOUT)
        await records.labelled("p", timeout=TIMEOUT)
        assert [query.get("resourceVersion") for _, query in server.list_queries] == [None] * 4

    async def test_are_grouped_by_pod_interface_pool_and_release(self, records: NodeRecords, server: ApiServer) -> None:
        server.hold_watches()
        second = await records.create(of_interface(record("10.0.0.2"), "net1"), timeout=TIMEOUT)
        first = await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        other = await records.create(record("10.0.0.3", pod="b", pool="q"), timeout=TIMEOUT)
        cooling = await records.create(record("10.0.0.4", released=True), timeout=TIMEOUT)
        assert records.of("uid-a", "eth0") == [first]
        assert records.of_pod("uid-a") == [second, first]
        assert records.of_pod("uid-b") == [other]
        assert records.released() == [cooling]
        assert records.addresses("p") == {address_of(each) for each in (first, second, cooling)}
        assert records.addresses("none") == set()

    async def test_other_nodes_records_are_read_from_the_server(self, records: NodeRecords, server: ApiServer) -> None:
        elsewhere, relabelled = record("10.0.0.1", node="n2"), record("10.0.0.2", node="n2", pool="q")
        assert elsewhere.metadata.labels is not None
        elsewhere.metadata.labels[IP_OWNER_LABEL] = "digest"
        relabelled.metadata.labels = {IP_POOL_LABEL: "p"}
        server.put(elsewhere, relabelled)
        assert [each.name for each in await records.of_owner("digest", timeout=TIMEOUT)] == ["10.0.0.1"]
        assert [each.name for each in await records.labelled("p", timeout=TIMEOUT)] == ["10.0.0.1", "10.0.0.2"]
        relabelled.metadata.labels = {}
        server.put(relabelled)
        assert [each.name for each in await records.labelled("p", timeout=TIMEOUT)] == ["10.0.0.1"]
        assert [each.name for each in await records.labelled(None, timeout=TIMEOUT)] == ["10.0.0.2"]
        assert (await records.get("10.0.0.1", timeout=TIMEOUT)) == server.stored(SpiderIP)["10.0.0.1"]
        assert await records.get("10.0.0.9", timeout=TIMEOUT) is None
        assert records.of_pod("uid-a") == []

    async def test_fresh_reads_correct_the_cache(self, records: NodeRecords, server: ApiServer) -> None:
        server.hold_watches()
        server.put(record("10.0.0.1"))
        found = await records.get("10.0.0.1", timeout=TIMEOUT)
        assert found is not None
        records.adopt(found)
        assert records.of_pod("uid-a") == [found]
        records.forget(found)
        assert records.of_pod("uid-a") == []

    async def test_another_nodes_records_do_not_stay_cached(self, records: NodeRecords, server: ApiServer) -> None:
        """As that of an owner whose pool this node ended with a cooldown, or that another node has taken over."""
        server.put(record("10.0.0.1", node="n2"))
        found = await records.get("10.0.0.1", timeout=TIMEOUT)
        assert found is not None
        since = replace(found.spec, releasedAt="2026-01-01T00:00:00Z")
        await records.replace(replace(found, spec=since), timeout=TIMEOUT)
        assert records.released() == []
        mine = await records.create(record("10.0.0.2"), timeout=TIMEOUT)
        taken = replace(
            mine, spec=replace(mine.spec, node="n2"), metadata=replace(mine.metadata, resourceVersion="999")
        )
        records.adopt(taken)
        assert records.addresses("p") == set()


class TestWrites:
    async def test_only_one_creator_gets_the_address(self, records: NodeRecords) -> None:
        await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        with pytest.raises(AlreadyExists):
            await records.create(record("10.0.0.1", pod="b"), timeout=TIMEOUT)
        assert [each.name for each in records.of_pod("uid-a")] == ["10.0.0.1"]
        assert records.of_pod("uid-b") == []

    async def test_a_changed_record_is_neither_replaced_nor_deleted(
        self, records: NodeRecords, server: ApiServer
    ) -> None:
        mine = await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        server.put(record("10.0.0.1", pod="b"))
        with pytest.raises(Conflict):
            await records.replace(moved(mine, pod="c"), timeout=TIMEOUT)
        with pytest.raises(Conflict):
            await records.delete(mine, timeout=TIMEOUT)
        assert server.stored(SpiderIP)["10.0.0.1"].spec.podUID == "uid-b"
        await eventually(lambda: records.of_pod("uid-b"))

    async def test_deleting_what_does_not_exist_is_success(self, records: NodeRecords, server: ApiServer) -> None:
        mine = await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        server.hold_watches()
        server.remove(mine)
        await records.delete(mine, timeout=TIMEOUT)
        assert records.of_pod("uid-a") == []
        with pytest.raises(NotFound):
            await records.replace(mine, timeout=TIMEOUT)

    async def test_a_claim_whose_answer_was_lost_appears_by_its_event(
        self, records: NodeRecords, server: ApiServer
    ) -> None:
        server.inject(Fault("create", lose_answer=True))
        with pytest.raises(ApiUnavailable):
            await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        await eventually(lambda: records.of_pod("uid-a"))

    async def test_only_reads_are_repeated_when_a_used_connection_breaks(
        self, records: NodeRecords, server: ApiServer
    ) -> None:
        """A repeated write would conflict with itself, and so look as if somebody else had been faster."""
        mine = await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        server.inject(
            Fault("replace", lose_answer=True), Fault("delete", lose_answer=True), Fault("get", lose_answer=True)
        )
        with pytest.raises(ApiUnavailable, match="no answer from the API server to PUT"):
            await records.replace(moved(mine, pod="b"), timeout=TIMEOUT)
        changed = await records.get("10.0.0.1", timeout=TIMEOUT)
        assert changed is not None
        assert changed.spec.podUID == "uid-b"
        with pytest.raises(ApiUnavailable, match="no answer from the API server to DELETE"):
            await records.delete(changed, timeout=TIMEOUT)
        assert [server.requests[verb] for verb in ("replace", "delete", "get")] == [1, 1, 2]
        assert server.stored(SpiderIP) == {}

    @pytest.mark.parametrize("fault", [Fault("create", lose_request=True), Fault("create", status=500)])
    async def test_a_claim_that_was_not_made_is_not_cached(
        self, records: NodeRecords, server: ApiServer, fault: Fault
    ) -> None:
        server.inject(fault)
        with pytest.raises(ApiUnavailable):
            await records.create(record("10.0.0.1"), timeout=TIMEOUT)
        assert (records.informer.items(), server.stored(SpiderIP)) == ([], {})


NAMES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
NODES = st.sampled_from(["n1", "n2"])
PODS = st.sampled_from(["a", "b"])
VERBS = st.sampled_from(["create", "replace", "delete", "list", "watch"])


class Cache(RuleBasedStateMachine):
    """Whatever the node, other clients and the network do, the cache becomes what the server has."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.server = ApiServer(SpiderIP.KIND)

    @initialize()
    def begin(self) -> None:
        async def begin() -> None:
            await self.server.start()
            self.client = self.server.client()
            self.records = NodeRecords(self.client, "n1")
            self.task = asyncio.create_task(self.records.informer.run())
            await self.records.informer.synced(TIMEOUT)

        self.runner.run(begin())

    def cached(self, name: str) -> SpiderIP | None:
        return self.records.informer.get(name)

    @rule(name=NAMES, pod=PODS, released=st.booleans())
    def create(self, name: str, pod: str, released: bool) -> None:
        async def create() -> None:
            with suppress(SpiderpoolError):
                made = await self.records.create(record(name, pod=pod, released=released), timeout=TIMEOUT)
                assert self.server.stored(SpiderIP)[name] == made
                assert self.cached(name) == made

        self.runner.run(create())

    @rule(name=NAMES, pod=PODS)
    def replace(self, name: str, pod: str) -> None:
        async def change(known: SpiderIP) -> None:
            before = self.server.stored(SpiderIP).get(name)
            try:
                made = await self.records.replace(moved(known, pod=pod), timeout=TIMEOUT)
            except SpiderpoolError:
                return
            assert before == known
            assert self.server.stored(SpiderIP)[name] == self.cached(name) == made

        if (known := self.cached(name)) is not None:
            self.runner.run(change(known))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        async def release(known: SpiderIP) -> None:
            before = self.server.stored(SpiderIP).get(name)
            with suppress(SpiderpoolError):
                await self.records.delete(known, timeout=TIMEOUT)
                assert self.server.stored(SpiderIP).get(name) is None
                assert before in (None, known)
                assert self.cached(name) is None

        if (known := self.cached(name)) is not None:
            self.runner.run(release(known))

    @rule(name=NAMES, node=NODES, pod=PODS, released=st.booleans())
    def another_client_writes(self, name: str, node: str, pod: str, released: bool) -> None:
        async def write() -> None:
            self.server.put(record(name, node=node, pod=pod, released=released))

        self.runner.run(write())

    @rule(name=NAMES)
    def another_client_deletes(self, name: str) -> None:
        async def remove() -> None:
            if name in self.server.stored(SpiderIP):
                self.server.remove(record(name))

        self.runner.run(remove())

    @rule(verb=VERBS, lose_answer=st.booleans())
    def the_network_fails_once(self, verb: str, lose_answer: bool) -> None:
        self.server.inject(Fault(verb, lose_answer=True) if lose_answer else Fault(verb, status=500))

    @rule(held=st.booleans())
    def events_are_late(self, held: bool) -> None:
        if held:
            self.server.hold_watches()
        else:
            self.server.release_watches()

    @rule()
    def history_is_lost(self) -> None:
        self.server.compact()
        self.server.cut_watches()
        self.runner.run(asyncio.sleep(0))

    @rule()
    def the_cache_catches_up(self) -> None:
        self.runner.run(self.settle())

    async def settle(self) -> None:
        """Without faults, cache and server become equal, and the groups are those of the server's records."""
        self.server.clear_faults()
        self.server.release_watches()
        await eventually(self.is_current, "cache equals server")
        records = list(self.truth().values())
        for pod in ("uid-a", "uid-b"):
            held = [each for each in records if each.spec.podUID == pod and not each.spec.releasedAt]
            in_order = sorted(held, key=lambda each: int(each.metadata.resourceVersion or 0))
            assert in_order == self.records.of(pod, "eth0")
            assert {each.name for each in held} == {each.name for each in self.records.of_pod(pod)}
        assert {each.name for each in self.records.released()} == {
            each.name for each in records if each.spec.releasedAt
        }
        assert self.records.addresses("p") == {address_of(each) for each in records}

    def truth(self) -> dict[str, SpiderIP]:
        return {key: each for key, each in self.server.stored(SpiderIP).items() if each.spec.node == "n1"}

    def is_current(self) -> bool:
        return {each.key: each for each in self.records.informer.items()} == self.truth()

    def teardown(self) -> None:
        async def end() -> None:
            await self.settle()

        async def close() -> None:
            self.task.cancel()
            await asyncio.wait((self.task,))
            await self.client.close()
            await self.server.stop()

        try:
            if hasattr(self, "task"):
                self.runner.run(end())
        finally:
            if hasattr(self, "task"):
                self.runner.run(close())
            self.runner.close()


TestCache = Cache.TestCase
TestCache.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


async def test_only_held_records_that_others_delete_are_lost(records: NodeRecords, server: ApiServer) -> None:
    lost: list[str] = []
    records.on_lost(lambda each: lost.append(each.name))
    made = [await records.create(record(f"10.0.0.{number}"), timeout=TIMEOUT) for number in (1, 2)]
    server.put(record("10.0.0.3", released=True))
    await eventually(lambda: len(records.informer.items()) == 3)
    server.inject(Fault("delete", delay=0.2))
    deleting = asyncio.create_task(records.delete(made[0], timeout=TIMEOUT))
    server.remove(server.stored(SpiderIP)["10.0.0.3"])
    await deleting
    server.remove(server.stored(SpiderIP)["10.0.0.2"])
    await eventually(lambda: lost == ["10.0.0.2"])
    assert records.informer.items() == []


async def test_a_record_whose_deletion_fails_may_be_lost_later(records: NodeRecords, server: ApiServer) -> None:
    lost: list[str] = []
    records.on_lost(lambda each: lost.append(each.name))
    made = await records.create(record("10.0.0.1"), timeout=TIMEOUT)
    server.inject(Fault("delete", lose_request=True))
    with suppress(ApiUnavailable):
        await records.delete(made, timeout=TIMEOUT)
    server.remove(server.stored(SpiderIP)["10.0.0.1"])
    await eventually(lambda: lost == ["10.0.0.1"])
