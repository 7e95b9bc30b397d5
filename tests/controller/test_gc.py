"""What the collector asks and tells the API server, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.applications import StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Taint,
)
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, SandboxInterface, SpiderNodeSpec
from spiderpool.controller.gc import SHORTEST_INTERVAL, ClusterGC, GCListers, GCTimings
from spiderpool.core.ipam.evidence import OUT_OF_SERVICE
from spiderpool.core.ipam.gc import GCPolicy
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.telemetry import COLLECT_FAILURES
from tests.controller.collecting import (
    ACCOUNT,
    ACCOUNTS,
    ALIVE,
    HANG_UP,
    IPS,
    NODE,
    NODES,
    ORPHAN,
    PODS,
    STATEFUL_SETS,
    USING,
    Received,
    collect,
    failing,
    found,
    gone,
    listers_of,
    methods,
)
from tests.support.clients import client_of

pytestmark = pytest.mark.unit


def failures() -> float:
    """How often a collection has failed so far."""
    return float(COLLECT_FAILURES._value.get())


async def test_a_release_names_the_very_record_and_follows_a_fresh_read() -> None:
    requests = await collect(gone)
    assert [request.method for request in requests[:5]] == ["PATCH", "GET", "GET", "GET", "DELETE"]
    assert [request.path for request in requests[1:3]] == [f"{PODS}web", f"{NODES}n"]
    assert requests[3].path == requests[0].path
    assert requests[3].path.endswith(f"{ACCOUNTS}n")
    options = msgspec.json.decode(requests[4].body)
    assert options["preconditions"] == {"uid": "r-1", "resourceVersion": "7"}


@pytest.mark.parametrize(
    "last",
    [
        None,
        replace(ALIVE, status=PodStatus("Succeeded")),
        replace(ALIVE, metadata=replace(ALIVE.metadata, uid="u-2"), status=PodStatus("Pending")),
    ],
)
async def test_the_agent_of_a_node_that_exists_has_time_to_release_first(last: Pod | None) -> None:
    known = (NODE, last) if last else (NODE,)
    reply = found(last) if last else gone
    assert await collect(reply, known=known, agent_grace=30.0) == []
    assert "DELETE" in {request.method for request in await collect(reply, known=known)}


async def test_a_pod_that_the_copy_does_not_know_yet_keeps_its_address() -> None:
    requests = await collect(found(ALIVE))
    assert methods(requests) == {"GET", "PATCH"}


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_an_error_of_the_api_releases_nothing(status: int) -> None:
    requests = await collect(lambda: failing(status))
    assert methods(requests) == {"GET", "PATCH"}


async def test_no_answer_releases_nothing() -> None:
    requests = await collect(lambda: failing(HANG_UP))
    assert methods(requests) == {"GET", "PATCH"}


async def test_a_record_that_has_changed_since_is_left_alone() -> None:
    requests = await collect(gone, deleted=409)
    assert len(requests) > 2


async def test_one_malformed_object_keeps_no_other_address() -> None:
    bad = replace(
        ALIVE, metadata=replace(ALIVE.metadata, name="bad", uid="u-9"), status=PodStatus("Running", [PodIP("?")])
    )
    spec = replace(ORPHAN.spec, pod="bad", podUID="u-9", address="?/24")
    record = SpiderIP(metadata=ObjectMeta(name="bad", uid="r-9", resourceVersion="8"), spec=spec)
    second = replace(record, metadata=replace(record.metadata, name="bad-2", uid="r-10"))
    requests = await collect(gone, ips=(record, second, ORPHAN), known=(NODE, bad), seconds=10.0)
    assert ("DELETE", "10.6.0.1") in {(each.method, each.path.rpartition("/")[2]) for each in requests}


async def test_a_bug_does_not_stop_the_checks() -> None:
    """Of the report about nodes that do not answer, whose time is no number."""
    policy = GCPolicy(answer_time="soon")  # type: ignore[arg-type]
    before = failures()
    await collect(gone, answers=False, policy=policy, seconds=2.0)
    assert failures() > before + 1


async def test_a_live_pod_costs_no_request() -> None:
    assert await collect(gone, known=(ALIVE, NODE)) == []


def test_an_interval_of_nothing_does_not_spin() -> None:
    assert GCTimings(interval=0).pause == SHORTEST_INTERVAL
    assert GCTimings(interval=7).pause == 7


class TestNodes:
    async def test_a_pod_whose_node_object_is_gone_loses_its_address_after_a_fresh_read_of_both(self) -> None:
        requests = await collect(found(ALIVE), known=(ALIVE,), replies={NODES: gone})
        assert [(each.method, each.path) for each in requests[:2]] == [("GET", f"{PODS}web"), ("GET", f"{NODES}n")]
        assert requests[2].method == "DELETE"

    async def test_a_node_that_the_copy_does_not_know_yet_keeps_its_pods(self) -> None:
        requests = await collect(found(ALIVE), known=(ALIVE,))
        assert methods(requests) == {"GET"}

    @pytest.mark.parametrize("status", [403, 500, HANG_UP])
    async def test_an_error_about_the_node_releases_nothing(self, status: int) -> None:
        requests = await collect(found(ALIVE), known=(ALIVE,), replies={NODES: lambda: failing(status)})
        assert methods(requests) == {"GET"}

    async def test_the_wait_for_an_agent_is_not_cut_short_when_only_the_copy_lacks_the_node(self) -> None:
        requests = await collect(gone, known=(), agent_grace=30.0)
        assert methods(requests) == {"GET"}
        requests = await collect(gone, known=(), agent_grace=30.0, replies={NODES: gone})
        assert "DELETE" in methods(requests)

    async def test_a_pod_that_is_about_to_end_has_its_time_though_the_copy_lacks_it(self) -> None:
        ending = replace(ALIVE, metadata=replace(ALIVE.metadata, deletionTimestamp="2026-01-01T00:00:00Z"))
        assert methods(await collect(found(ending))) == {"GET", "PATCH"}

    async def test_a_node_of_which_only_the_fresh_read_tells_has_to_be_asked_as_well(self) -> None:
        elsewhere = replace(ALIVE, spec=PodSpec("m"), status=PodStatus("Succeeded"))
        assert methods(await collect(found(elsewhere), known=(), replies={NODES: gone})) == {"GET"}

    @pytest.mark.parametrize("on_ready_node", [True, False])
    async def test_a_pod_that_should_have_ended(self, on_ready_node: bool) -> None:
        ending = replace(ALIVE, metadata=replace(ALIVE.metadata, deletionTimestamp="2026-01-01T00:00:00Z"))
        policy = GCPolicy(on_ready_node=on_ready_node)
        requests = await collect(found(ending), known=(ending, NODE), policy=policy)
        assert ("DELETE" in methods(requests)) is on_ready_node
        undone = await collect(found(ALIVE), known=(ending, NODE), policy=policy)
        assert "DELETE" not in methods(undone)


class TestTwins:
    TWIN = replace(
        ORPHAN,
        metadata=ObjectMeta(name="10.6.0.2", uid="r-2", resourceVersion="8"),
        spec=replace(ORPHAN.spec, address="10.6.0.2/24"),
    )

    USES_FIRST = (replace(ACCOUNT, status=NodeAccount(4, sandboxes=[USING])),)

    async def collect(self, **changes: Any) -> list[Received]:
        given = {"accounts": self.USES_FIRST, "sandboxes": (USING,), "known": (ALIVE, NODE)}
        return await collect(found(ALIVE), ips=(ORPHAN, self.TWIN), **given | changes)

    async def test_the_one_that_the_sandbox_uses_stays(self) -> None:
        requests = await self.collect(replies={IPS: found(ORPHAN)})
        deleted = [request.path.rpartition("/")[2] for request in requests if request.method == "DELETE"]
        assert set(deleted) == {"10.6.0.2"}

    async def test_without_the_one_that_stays_nothing_goes(self) -> None:
        assert methods(await self.collect()) == {"GET", "PATCH"}

    async def test_what_was_said_before_is_asked_again(self) -> None:
        using_other = replace(USING, interfaces=[SandboxInterface("eth0", None, ["10.6.0.2"])])
        requests = await self.collect(replies={IPS: found(ORPHAN)}, sandboxes=(using_other,))
        deleted = [request.path.rpartition("/")[2] for request in requests if request.method == "DELETE"]
        assert "10.6.0.2" not in deleted

    async def test_a_node_that_has_not_said_which_one_is_used_is_not_even_asked(self) -> None:
        assert await self.collect(accounts=()) == []


class TestAccounts:
    """A pod whose object is gone, on a node that exists."""

    async def test_a_sandbox_that_still_runs_keeps_the_address(self) -> None:
        requests = await collect(gone, sandboxes=(USING,))
        assert [request.method for request in requests] == ["PATCH"]

    async def test_a_node_that_does_not_answer_keeps_it_and_is_asked_once(self) -> None:
        requests = await collect(gone, answers=False)
        assert [request.method for request in requests if not request.path.endswith("/events")] == ["PATCH"]

    async def test_an_owner_that_cannot_be_read_keeps_only_its_own_address(self) -> None:
        owner = IPOwner("VirtualMachineInstance", "ns", "vm")
        machine = replace(
            ORPHAN,
            metadata=replace(ORPHAN.metadata, name="10.6.0.9", uid="r-9"),
            spec=replace(ORPHAN.spec, address="10.6.0.9/24", pod="vm", podUID="u-9", owner=owner),
        )
        replies = {"/virtualmachineinstances/": lambda: failing(500)}
        requests = await collect(gone, ips=(machine, ORPHAN), replies=replies, seconds=5.0)
        assert {each.path.rpartition("/")[2] for each in requests if each.method == "DELETE"} == {"10.6.0.1"}

    @pytest.mark.parametrize(("boot", "ready", "seen"), [("b", "True", 1), ("b", "Unknown", 0), ("a", "True", 0)])
    async def test_a_fence_ends_when_its_boot_reports_again(self, boot: str, ready: str, seen: int) -> None:
        status = NodeStatus([NodeCondition("Ready", "True")], nodeInfo=NodeSystemInfo("b"))
        known, fresh = (
            replace(NODE, status=replace(status, conditions=[NodeCondition("Ready", each)])) for each in ("True", ready)
        )
        fenced = replace(ACCOUNT, spec=SpiderNodeSpec(fencedBootID=boot))
        requests = await collect(gone, ips=(), known=(known,), accounts=(fenced,), replies={NODES: found(fresh)})
        patched = [msgspec.json.decode(each.body) for each in requests if each.method == "PATCH"]
        assert patched == [{"metadata": {"resourceVersion": "10"}, "spec": {"fencedBootID": None}}] * seen

    async def test_a_node_without_an_account_is_not_asked(self) -> None:
        assert await collect(gone, accounts=()) == []

    async def test_the_answer_must_still_be_there_when_it_is_read(self) -> None:
        made_anew = replace(ACCOUNT, metadata=replace(ACCOUNT.metadata, uid="sn-2", generation=1))
        requests = await collect(gone, replies={ACCOUNTS: found(made_anew)})
        assert methods(requests) == {"PATCH", "GET"}

    async def test_a_sandbox_that_has_appeared_since_keeps_it(self) -> None:
        using = replace(
            ACCOUNT, metadata=replace(ACCOUNT.metadata, generation=9), status=NodeAccount(9, sandboxes=[USING])
        )
        assert methods(await collect(gone, replies={ACCOUNTS: found(using)})) == {"PATCH", "GET"}

    @pytest.mark.parametrize("conflicts", [1, 2])
    async def test_an_account_that_is_published_meanwhile_delays_nothing(self, conflicts: int) -> None:
        requests = await collect(gone, conflicts=conflicts)
        assert [request.method for request in requests[: 2 * conflicts]] == ["PATCH", "GET"] * conflicts
        assert "DELETE" in methods(requests)

    async def test_questions_that_conflict_end(self) -> None:
        requests = await collect(gone, conflicts=999, seconds=0.15)
        assert methods(requests) == {"PATCH", "GET"}

    @pytest.mark.parametrize("status", [403, 500, HANG_UP])
    async def test_an_error_about_the_account_releases_nothing(self, status: int) -> None:
        assert methods(await collect(gone, replies={ACCOUNTS: lambda: failing(status)})) == {"PATCH", "GET"}

    async def test_a_node_that_is_stopped_needs_no_account(self) -> None:
        stopped = replace(NODE, spec=NodeSpec(taints=[Taint(OUT_OF_SERVICE)]), status=NodeStatus())
        requests = await collect(gone, known=(stopped,), accounts=(), replies={NODES: found(stopped), ACCOUNTS: gone})
        assert methods(requests) == {"GET", "DELETE"}
        requests = await collect(gone, known=(stopped,), accounts=())
        assert methods(requests) == {"GET"}  # it is ready again

    async def test_time_is_enough_where_the_setting_says_so(self) -> None:
        policy = GCPolicy(by_time=True, answer_time=0.05)
        requests = await collect(gone, answers=False, policy=policy, seconds=2.0)
        assert [request.method for request in requests[:5]] == ["PATCH", "GET", "GET", "GET", "DELETE"]
        assert "DELETE" not in methods(await collect(gone, sandboxes=(USING,), policy=policy))


class TestOwners:
    STICKY = replace(ORPHAN, spec=replace(ORPHAN.spec, pod="db-1", owner=IPOwner("StatefulSet", "ns", "db")))

    @pytest.mark.parametrize(("replicas", "kept"), [(2, True), (1, False)])
    async def test_an_address_stays_while_its_owner_wants_it(self, replicas: int, kept: bool) -> None:
        owner = StatefulSet(metadata=ObjectMeta(name="db", namespace="ns"), spec=WorkloadSpec(replicas=replicas))
        requests = await collect(gone, ips=(self.STICKY,), replies={STATEFUL_SETS: found(owner)})
        assert ("DELETE" not in methods(requests)) is kept

    async def test_it_is_read_once_between_two_full_checks(self) -> None:
        owner = StatefulSet(metadata=ObjectMeta(name="db", namespace="ns"), spec=WorkloadSpec(replicas=2))
        requests = await collect(gone, ips=(self.STICKY,), replies={STATEFUL_SETS: found(owner)}, full_interval=3600)
        assert sum("statefulsets" in request.path for request in requests) == 1

    @pytest.mark.parametrize("status", [403, 500, HANG_UP])
    async def test_an_error_about_the_owner_releases_nothing(self, status: int) -> None:
        requests = await collect(gone, ips=(self.STICKY,), replies={STATEFUL_SETS: lambda: failing(status)})
        assert methods(requests) == {"GET"}


class TestCooldown:
    POOL = SpiderIPPool(
        metadata=ObjectMeta(name="p", resourceVersion="2"), spec=IPPoolSpec("10.6.0.0/24", cooldownSeconds=3600)
    )

    async def test_an_address_that_is_collected_cools_down_too(self) -> None:
        requests = await collect(gone, known=(NODE, self.POOL))
        written = [request for request in requests if request.method == "PUT"]
        assert written
        record = msgspec.json.decode(written[0].body, type=SpiderIP)
        assert record.spec.releasedAt
        assert (record.metadata.uid, record.metadata.resourceVersion) == ("r-1", "7")
        assert "DELETE" not in methods(requests)

    @pytest.mark.parametrize(("since", "over"), [("2026-01-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False)])
    async def test_it_goes_when_the_cooldown_is_over(self, since: str, over: bool) -> None:
        cooling = replace(ORPHAN, spec=replace(ORPHAN.spec, releasedAt=since))
        requests = await collect(gone, ips=(cooling,), known=(NODE, self.POOL), seconds=1.5)
        assert ("DELETE" in methods(requests)) is over
        assert not any(request.path.startswith(PODS) for request in requests)


class TestManyNodes:
    @staticmethod
    def listers(client: Client, nodes: int, pods: int) -> GCListers:
        """Nodes with as many living pods each."""
        listers = listers_of(client)
        for number in range(nodes):
            node = f"n{number}"
            listers.nodes.note(Node(metadata=ObjectMeta(name=node, resourceVersion="3"), status=NODE.status))
            for index in range(pods):
                name, address = f"{node}-{index}", f"10.{number // 256}.{number % 256}.{index + 1}"
                meta = ObjectMeta(name=name, namespace="ns", uid=f"u-{name}", resourceVersion="9")
                listers.pods.note(Pod(metadata=meta, spec=PodSpec(node), status=PodStatus("Running", [PodIP(address)])))
                spec = IPSpec(f"{address}/8", "p", node, "ns", name, f"u-{name}", "eth0")
                meta = ObjectMeta(name=address, uid=f"r-{name}", resourceVersion="7")
                listers.ips.note(SpiderIP(metadata=meta, spec=spec))
        return listers

    async def test_other_tasks_get_their_turns_during_a_full_check(self) -> None:
        async with client_of("http://127.0.0.1:1") as client:
            listers = self.listers(client, 400, 30)
            collector = ClusterGC(client, listers, Recorder(client, "test"), GCTimings(60.0), GCPolicy())
            task = asyncio.create_task(collector.run())
            longest, begin = 0.0, time.thread_time()
            while (now := time.thread_time()) - begin < 0.5:  # a check of 12,000 records takes most of it
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - now)
            task.cancel()
        assert longest < 0.1

    async def test_a_node_that_changes_costs_no_look_at_the_records_of_the_others(self) -> None:
        async with client_of("http://127.0.0.1:1") as client:
            few, many = (self.seconds_for_a_change(client, self.listers(client, nodes, 10)) for nodes in (10, 1000))
        assert many < 20 * few

    @staticmethod
    def seconds_for_a_change(client: Client, listers: GCListers) -> float:
        """CPU time that 200 changes of the readiness of a node take."""
        ClusterGC(client, listers, Recorder(client, "test"), GCTimings(), GCPolicy())
        begin = time.thread_time()
        for version in range(10, 210):
            meta = ObjectMeta(name="n1", resourceVersion=str(version))
            listers.nodes.note(Node(metadata=meta, status=NODE.status if version % 2 else NodeStatus()))
        return time.thread_time() - begin
