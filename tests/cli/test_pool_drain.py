"""`spiderpoolctl pool drain`: who is moved, in which order, what stops it, and that it can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachineInstance
from spiderpool.api.meta import Object, ObjectMeta, OwnerReference
from spiderpool.api.subnet import APPLICATION_KIND_LABEL, APPLICATION_NAME_LABEL, APPLICATION_NAMESPACE_LABEL
from spiderpool.cli.connection import REQUEST_TIMEOUT, Cluster
from spiderpool.cli.main import cli
from spiderpool.cli.plan.pods import MIRROR
from spiderpool.cli.printing import View, printed
from spiderpool.cli.renumbering import moving, runs, writes
from spiderpool.cli.renumbering.drain import PoolDrain
from spiderpool.cli.renumbering.holders import (
    AddressHolder,
    HolderKind,
    evictable,
    eviction_order,
    holders_of,
    whole_pool,
)
from spiderpool.cli.renumbering.marks import DISABLED_BEFORE, MOVING_RUN, RUN_LASTS, run_mark, run_of
from spiderpool.cli.renumbering.moving import MoveStage, move_state, why_incomplete
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.report import MovePlan
from spiderpool.cli.renumbering.survey import survey
from spiderpool.errors import NotReady, Refused
from tests.cli.test_connection import kubeconfig
from tests.cli.test_plan import pool, record
from tests.support.api_server import Fault
from tests.support.played_cluster import DB, MOVE, OLD, VM, PlayedCluster, held, played_cluster, pod
from tests.support.successors import with_node_label

pytestmark = pytest.mark.unit

KEPT = IPOwner("StatefulSet", "default", "db")
JOB = OwnerReference("batch/v1", "Job", "j", "uid-of-j", controller=True)


class TestDecisions:
    """Values in, values out."""

    def kinds(self, *pods: EvictablePod, pools: Iterable[SpiderIPPool] = (OLD,)) -> dict[str, HolderKind]:
        records = [held(f"10.0.0.{number}", each.name) for number, each in enumerate(pods, 1)]
        records += [held("10.0.0.8", "db-5", owner=KEPT), held("10.0.0.9", "gone")]
        records += [held("10.0.0.10", "cooling", releasedAt="2026-01-01T00:00:00Z"), held("10.0.0.11", "x", pool="two")]
        found = holders_of([whole_pool(OLD)], records, {each.key: each for each in pods}, pools, {"uid-of-vm"})
        return {each.pod.partition("/")[2]: each.kind for each in found}

    def test_what_can_be_done_about_each(self) -> None:
        ending = pod("ending", deletionTimestamp="2026-01-01T00:00:00Z")
        static = pod("static", OwnerReference("v1", "Node", "n1", "u", controller=True), annotations={MIRROR: "x"})
        found = self.kinds(pod("web-a"), pod("bare", None), static, pod("virt", VM), ending)
        assert found == {
            "web-a": HolderKind.MANAGED,
            "bare": HolderKind.UNMANAGED,
            "static": HolderKind.STATIC,
            "virt": HolderKind.MACHINE,
            "ending": HolderKind.ENDING,
            "db-5": HolderKind.KEPT,
            "gone": HolderKind.LEFT_OVER,
        }

    def test_a_pod_does_not_exempt_itself_by_what_it_says_of_its_owner(self) -> None:
        unknown = OwnerReference("kubevirt.io/v1", "VirtualMachineInstance", "none", "nope", controller=True)
        foreign = OwnerReference("x/v1", "VirtualMachineInstance", "vm", "uid-of-vm", controller=True)
        pods = (pod("a", unknown), pod("b", foreign), pod("c", annotations={MIRROR: "x"}))
        assert set(self.kinds(*pods).values()) == {HolderKind.MANAGED, HolderKind.KEPT, HolderKind.LEFT_OVER}

    def test_pods_of_jobs_are_evicted_only_when_asked_for(self) -> None:
        assert self.kinds(pod("j-1", JOB))["j-1"] is HolderKind.JOB
        holder = AddressHolder(HolderKind.JOB, "a/b", "u", "n", None, None, (), ())
        assert (evictable([holder], unmanaged=True), evictable([holder], unmanaged=False, jobs=True)) == ([], [holder])

    def test_a_controller_that_lacks_a_pod_loses_no_other(self) -> None:
        one = pod("web-a")
        holder = AddressHolder(
            HolderKind.MANAGED, "default/web-a", "u", "n1", "CustomSet web", "uid-of-web", (), (), ready=True
        )
        ending = pod("web-b", deletionTimestamp="2026-01-01T00:00:00Z")
        starting = changed(pod("web-c"), status=changed(one.status, conditions=None))
        assert why_incomplete(holder, [one, pod("db-0", DB)], None) is None
        assert why_incomplete(holder, [one, ending], None) == "pod default/web-b has not ended yet"
        assert why_incomplete(holder, [one, starting], None) == "1 of 2 pods of CustomSet web serve"
        assert why_incomplete(holder, [one], 3) == "1 of 3 pods of CustomSet web serve"
        assert why_incomplete(replace(holder, ready=False), [one, starting], None) is None, "nobody misses it"

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ('{"ipv4": ["one"]}', HolderKind.NAMED),
            ('{"ipv4": ["one", "two"]}', HolderKind.MANAGED),
            ('{"ipv4": ["o*"]}', HolderKind.NAMED),
            ('{"ipv4": ["*"]}', HolderKind.MANAGED),
            ("unreadable", HolderKind.MANAGED),
        ],
    )
    def test_a_pod_that_names_no_pool_that_stays_is_not_moved(self, text: str, kind: HolderKind) -> None:
        named = pod("web-a", annotations={"ipam.spidernet.io/ippool": text})
        assert self.kinds(named, pools=(OLD, pool("two", "10.0.0.20")))["web-a"] is kind

    def test_pods_that_do_not_serve_go_first_and_of_a_stateful_set_the_last(self) -> None:
        one = AddressHolder(HolderKind.MANAGED, "shop/web-a", "u", "n1", "ReplicaSet web", "r", (), (), ready=True)
        db = replace(one, controller="StatefulSet db")
        given_ = [
            one,
            *(replace(db, pod=f"shop/db-{number}") for number in (2, 10, 9)),
            replace(one, ready=False, pod="z/z"),
        ]
        assert [each.pod for each in eviction_order(given_)] == [
            "z/z",
            "shop/web-a",
            "shop/db-10",
            "shop/db-9",
            "shop/db-2",
        ]

    @given(st.lists(st.sampled_from(HolderKind), max_size=9), st.booleans())
    def test_nobody_else_is_ever_evicted(self, kinds: list[HolderKind], unmanaged: bool) -> None:
        holders = [AddressHolder(kind, "a/b", "u", "n", None, None, (), ()) for kind in kinds]
        allowed = {HolderKind.MANAGED} | ({HolderKind.UNMANAGED} if unmanaged else set())
        assert {each.kind for each in evictable(holders, unmanaged=unmanaged)} <= allowed

    def test_how_far_a_move_is(self) -> None:
        holder = AddressHolder(
            HolderKind.MANAGED,
            "default/web-a",
            "uid-of-web-a",
            "n1",
            "CustomSet web",
            "uid-of-web",
            ("10.0.0.1",),
            ("one",),
        )
        known, old, new, other = {"uid-of-web-a"}, pod("web-a"), pod("web-b"), pod("db-0", DB)
        starting = changed(new, status=changed(new.status, conditions=None))
        record_of = held("10.0.0.1", "web-a")

        def stage(*pods: EvictablePod, records: tuple[SpiderIP, ...] = ()) -> MoveStage:
            return move_state(holder, known, pods, records).stage

        assert stage(old, new) is MoveStage.ENDING
        assert stage(other) is MoveStage.MISSING
        assert stage(starting) is MoveStage.NOT_READY
        assert stage(new, records=(record_of,)) is MoveStage.HELD
        assert stage(new, records=(held("10.0.0.1", "web-b"),)) is MoveStage.RETURNED
        assert stage(new) is MoveStage.MOVED
        assert move_state(replace(holder, controller_uid=None), known, (), ()).stage is MoveStage.MOVED


@pytest.mark.parametrize(
    "words",
    [
        ("pool", "drain", "one", "--undo", "--dry-run"),
        ("pool", "drain"),
        ("pool", "resize", "one"),
        ("pool", "resize", "one", "--ips", "10.0.0.1", "--add", "10.0.0.2"),
        ("subnet", "renumber", "one"),
    ],
)
def test_a_wrong_command_line_asks_no_cluster(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 2


@pytest.fixture
async def played(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PlayedCluster]:
    """Two pods with addresses of a pool; another pool has room."""
    async with played_cluster(monkeypatch) as found:
        yield found


async def plan(played: PlayedCluster, options: MoveOptions = MOVE) -> MovePlan:
    return await PoolDrain("one", options).plan(played.cluster)


async def run(played: PlayedCluster, options: MoveOptions = MOVE) -> bool:
    return await PoolDrain("one", options).carry_out(played.cluster, played.said.append)


async def undo(played: PlayedCluster) -> bool:
    return await PoolDrain("one", MOVE).undo(played.cluster, played.said.append)


async def test_a_pool_is_emptied_pod_by_pod(played: PlayedCluster) -> None:
    found = await plan(played)
    assert (found.refusals, found.room) == (
        (),
        "The pools that stay have room for the 2 pods that come in the place of those that are evicted",
    )
    shown = printed(found, "table", View())
    assert "one   10.0.0.1-10.0.0.6  gives no new address any more: spec.disable" in shown
    assert not played.pool("one").spec.disable, "a plan changes nothing"
    assert await run(played)
    assert played.pool("one").spec.disable
    assert played.holding == {"10.0.0.11": "web-a-next", "10.0.0.12": "web-b-next"}
    assert played.far.evicted == ["web-a", "web-b"]
    assert "pod default/web-a-next serves in its place, with 10.0.0.11" in played.said
    assert await run(played), "again: nothing is left to do"


async def test_without_move_nobody_is_evicted(played: PlayedCluster) -> None:
    assert not await run(played, replace(MOVE, move=False))
    assert played.pool("one").spec.disable
    assert played.far.evicted == []
    assert played.said[-1] == "still held: 10.0.0.2 of pod default/web-b: can be evicted: its controller makes another"


async def test_a_stateful_set_gets_another_address(played: PlayedCluster) -> None:
    played.put(pod("db-0", DB), "10.0.0.3", KEPT)
    assert await run(played)
    assert "10.0.0.3" not in played.holding
    notes = played.pool("one").metadata.annotations or {}
    assert notes[POOL_MOVING_ANNOTATION] == "10.0.0.0-10.0.0.255", "by which agents know that it is not to return"


async def test_it_is_not_begun_without_room(played: PlayedCluster) -> None:
    played.server.put(pool("two", "10.0.0.11"))
    (why,) = (await plan(played)).refusals
    assert why.startswith("the pools that stay have no room for 1 of 2 pods: no IPv4 address for eth0")
    assert why.endswith("--even-if-full begins all the same")
    assert (await plan(played, replace(MOVE, even_if_full=True))).refusals == ()


async def test_a_budget_is_waited_for_and_named(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    task = asyncio.create_task(run(played))
    await played.told("waits")
    assert "disruption budget web-budget" in played.said[-1]
    assert played.far.evicted == []
    played.server.forbid_evictions("")
    assert await task


async def test_a_budget_that_never_allows_it_ends_the_command(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    assert not await run(played, replace(MOVE, timeout=0.2))
    assert any(each.startswith("stopped: pod default/web-a was not evicted within 0.2 s") for each in played.said)
    assert played.far.evicted == []
    assert set(played.holding) == {"10.0.0.1", "10.0.0.2"}


async def test_it_stops_where_nobody_makes_another_pod(played: PlayedCluster) -> None:
    played.far.makes_pods = False
    assert not await run(played, replace(MOVE, timeout=0.5))
    assert any("after 0.5 s nobody has made another pod in its place" in each for each in played.said)
    assert played.far.evicted == ["web-a"], "the second one is left alone"
    played.far.makes_pods = True
    assert await run(played), "run again, it goes on"


async def test_an_agent_that_gives_the_old_address_again_ends_the_command(played: PlayedCluster) -> None:
    async def give(each: EvictablePod) -> None:
        await played.client.create(with_node_label(record("10.0.0.5", pod=each.name, podUID=each.metadata.uid)))

    played.far.give = give
    assert not await run(played)
    assert any("its agent is of an older version" in each for each in played.said)
    assert len(played.far.evicted) == 1


async def test_bare_pods_are_evicted_only_when_asked_for(played: PlayedCluster) -> None:
    played.put(pod("bare", None), "10.0.0.4")
    assert not await run(played)
    assert "still held: 10.0.0.4 of pod default/bare: nobody makes it again" in played.said[-1]
    assert await run(played, replace(MOVE, move_unmanaged=True))
    assert played.far.evicted == ["web-a", "web-b", "bare"]


async def test_an_interruption_leaves_the_pool_closed_and_it_goes_on(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    task = asyncio.create_task(run(played))
    await played.told("waits")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert played.pool("one").spec.disable
    assert "--undo" in PoolDrain("one", MOVE).ways
    played.server.forbid_evictions("")
    assert await run(played)


@pytest.mark.parametrize("disabled", [False, True])
async def test_it_is_taken_back(played: PlayedCluster, disabled: bool) -> None:
    played.server.put(changed(OLD, spec=changed(OLD.spec, disable=disabled)))
    before = played.pool("one")
    await run(played, replace(MOVE, move=False))
    await run(played, replace(MOVE, move=False))
    assert played.pool("one").spec.disable
    await undo(played)
    assert (bool(played.pool("one").spec.disable), played.pool("one").metadata.annotations or {}) == (disabled, {})
    assert played.pool("one").spec.ips == before.spec.ips
    await undo(played)
    assert played.said[-1] == "pool one is not being drained"


async def test_a_change_of_somebody_else_is_told(played: PlayedCluster) -> None:
    stale = played.pool("one")
    played.server.put(changed(OLD, spec=changed(OLD.spec, ips=["10.0.0.1-10.0.0.9"])))
    with pytest.raises(Refused, match="somebody else has changed pool one meanwhile"):
        await writes.close_pool(played.cluster, whole_pool(stale))
    played.server.inject(Fault("patch", status=409))
    assert (await writes.close_pool(played.cluster, whole_pool(played.pool("one")))).spec.disable, (
        "a status is written all the time"
    )


async def test_pools_of_others_are_refused(played: PlayedCluster) -> None:
    labels = {APPLICATION_KIND_LABEL: "Deployment", APPLICATION_NAMESPACE_LABEL: "shop", APPLICATION_NAME_LABEL: "web"}
    played.server.put(changed(OLD, metadata=ObjectMeta(name="one", labels=labels)))
    with pytest.raises(Refused, match=r"was made of SpiderSubnet .* for Deployment shop/web, which it follows"):
        await plan(played)
    with pytest.raises(Refused, match="SpiderIPPool nobody does not exist"):
        await PoolDrain("nobody", MOVE).plan(played.cluster)


def ready(played: PlayedCluster) -> int:
    return sum(each.ready and not each.terminating for each in played.server.stored(EvictablePod).values())


async def test_run_again_it_evicts_no_second_pod_while_the_first_is_missing(played: PlayedCluster) -> None:
    async def never(each: EvictablePod) -> None:
        raise NotReady("no address")

    played.far.give = never
    for _ in range(2):
        assert not await run(played, replace(MOVE, timeout=0.5))
    assert (played.far.evicted, ready(played)) == (["web-a"], 1)
    assert "pod default/web-b waits: 1 of 2 pods of CustomSet web serve" in played.said


async def test_no_answer_for_a_moment_ends_no_move(played: PlayedCluster) -> None:
    task = asyncio.create_task(run(played))
    await played.told("is evicted")
    played.server.inject(Fault("list", status=500, plural="pods", times=2))
    assert await task
    assert played.far.evicted == ["web-a", "web-b"]


async def test_two_runs_at_once_exclude_each_other(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    first = asyncio.create_task(run(played))
    await played.told("waits")
    with pytest.raises(Refused, match="another command moves pods of pool one now"):
        await run(played)
    played.server.forbid_evictions("")
    assert await first
    assert MOVING_RUN not in (played.pool("one").metadata.annotations or {}), "others may go on"


async def test_a_run_that_was_killed_keeps_others_away_for_a_while_only(played: PlayedCluster) -> None:
    now = datetime.now(UTC)
    killed = changed(OLD, metadata=ObjectMeta(name="one", annotations=run_mark(OLD, "a/1/x", now)))
    with pytest.raises(Refused, match="if it was killed, go on after"):
        run_mark(killed, "b/2/y", now + RUN_LASTS / 2)
    assert run_mark(killed, "b/2/y", now + RUN_LASTS)[MOVING_RUN].startswith("b/2/y ")
    broken = changed(OLD, metadata=ObjectMeta(name="one", annotations={MOVING_RUN: "x"}))
    assert run_mark(broken, "b/2/y", now), "what is edited by hand keeps nobody away"


async def test_a_run_keeps_others_away_for_as_long_as_it_lasts(played: PlayedCluster) -> None:
    closing = runs.PoolRun(played.cluster, whole_pool(OLD))
    part = replace(closing.part, pool=await writes.close_pool(played.cluster, closing.part, closing.mark()))
    mine = replace(closing, part=part)
    soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
    await played.client.patch(SpiderIPPool, "one", {"metadata": {"annotations": {MOVING_RUN: f"{mine.name} {soon}"}}})
    assert run_of(await mine.check())[1] > datetime.now(UTC) + RUN_LASTS / 2
    with pytest.raises(runs.MoveEnded, match="another command moves pods"):
        await replace(mine, name="b/2/y").check()


async def test_it_stops_when_it_is_taken_back(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    task = asyncio.create_task(run(played))
    await played.told("waits")
    await undo(played)
    assert not await task
    assert "stopped: the move from pool one was taken back meanwhile" in played.said
    assert played.far.evicted == []
    assert not played.pool("one").spec.disable


async def test_it_is_taken_back_though_the_pool_was_enabled_by_hand(played: PlayedCluster) -> None:
    await run(played, replace(MOVE, move=False))
    await played.client.patch(SpiderIPPool, "one", {"spec": {"disable": False}})
    await undo(played)
    assert (played.pool("one").spec.disable, played.pool("one").metadata.annotations or {}) == (False, {})


async def test_what_was_before_is_not_guessed(played: PlayedCluster) -> None:
    await run(played, replace(MOVE, move=False))
    await played.client.patch(SpiderIPPool, "one", {"metadata": {"annotations": {DISABLED_BEFORE: None}}})
    await undo(played)
    assert played.pool("one").spec.disable
    assert played.said[-1].startswith("pool one stays disabled")


async def test_an_annotation_that_no_command_has_written_is_left(played: PlayedCluster) -> None:
    theirs = {POOL_MOVING_ANNOTATION: "10.0.0.1"}
    played.server.put(changed(OLD, metadata=ObjectMeta(name="one", annotations=theirs)))
    (why,) = (await plan(played)).refusals
    assert "which no command has written" in why
    with pytest.raises(Refused, match="which no command has written"):
        await run(played)
    assert played.pool("one").metadata.annotations == theirs


async def test_a_conflict_about_an_eviction_is_not_told_as_its_end(played: PlayedCluster) -> None:
    played.server.inject(Fault("create", status=409, plural="pods"))
    assert await run(played)
    assert not any("gone already" in each for each in played.said)
    assert sorted(played.far.evicted) == ["web-a", "web-b"]


async def test_a_pod_whose_budget_forbids_it_keeps_its_siblings_from_nothing(played: PlayedCluster) -> None:
    played.server.inject(Fault("create", status=429, plural="pods"))
    assert await run(played)
    assert played.far.evicted == ["web-b", "web-a"]


async def test_one_pod_that_may_not_be_evicted_keeps_others_from_nothing(played: PlayedCluster) -> None:
    """Its finalizer holds it; it is of another controller, and comes first since it does not serve."""
    other = OwnerReference("apps/v1", "CustomSet", "evil", "uid-of-evil", controller=True)
    evil = pod("evil", other, finalizers=["x/y"], deletionTimestamp="2026-01-01T00:00:00Z")
    played.put(evil, "10.0.0.3")
    played.far.keeps.add("evil")
    assert not await run(played, replace(MOVE, timeout=0.5))
    assert played.far.evicted == ["web-a", "web-b"]
    assert "pod default/evil has not ended within 0.5 s" in played.said


async def test_a_pool_that_agents_learn_late_of_is_looked_at_again(
    played: PlayedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LEARNING", 0.3)
    task = asyncio.create_task(run(played))
    await played.told("gives no new address")
    played.put(pod("late"), "10.0.0.6")
    assert await task
    assert "late" in played.far.evicted


async def test_pods_of_jobs_are_given_time_to_end(played: PlayedCluster) -> None:
    played.put(pod("j-1", JOB), "10.0.0.3")
    task = asyncio.create_task(run(played))
    await played.told("web-b-next serves in its place")
    played.server.remove(played.server.stored(SpiderIP)["10.0.0.3"])
    assert await task
    assert played.far.evicted == ["web-a", "web-b"]


async def test_a_pod_of_a_job_that_does_not_end_is_told(played: PlayedCluster) -> None:
    played.put(pod("j-1", JOB), "10.0.0.3")
    assert not await run(played, replace(MOVE, timeout=0.5))
    assert "pod default/j-1 has not ended within 0.5 s" in played.said


async def test_a_pod_counts_as_that_of_a_machine_while_machines_may_not_be_read(played: PlayedCluster) -> None:
    played.put(pod("virt", VM), "10.0.0.3")

    async def kind() -> HolderKind:
        holders = (await survey(played.cluster, [whole_pool(OLD)])).holders
        return next(each.kind for each in holders if each.pod == "default/virt")

    assert await kind() is HolderKind.MANAGED, "there is no such machine"
    played.server.inject(Fault("list", status=403, plural=VirtualMachineInstance.KIND.plural))
    assert await kind() is HolderKind.MACHINE


async def test_a_write_waits_no_longer_than_the_option_says(played: PlayedCluster, tmp_path: Path) -> None:
    await run(played, replace(MOVE, move=False))
    played.server.inject(Fault("patch", plural=SpiderIPPool.KIND.plural, until=asyncio.Event()))
    words = ["pool", "drain", "one", "--undo", "--kubeconfig", str(kubeconfig(tmp_path, played.server.url))]
    async with asyncio.timeout(REQUEST_TIMEOUT - 1.0):
        result = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--request-timeout", "0.3"])
    assert "no answer from the API server to PATCH" in result.stderr


@pytest.mark.parametrize(("verb", "kind"), [("get", SpiderIPPool), ("create", EvictablePod)])
async def test_checks_and_moves_wait_no_longer_either(played: PlayedCluster, verb: str, kind: type[Object]) -> None:
    impatient = Cluster(played.client, 0.3)
    mine = runs.PoolRun(impatient, whole_pool(OLD))
    mine = replace(mine, part=replace(mine.part, pool=await writes.close_pool(impatient, mine.part, mine.mark())))
    (first, _) = (await survey(impatient, [mine.part])).holders
    played.server.inject(Fault(verb, plural=kind.KIND.plural, until=asyncio.Event()))
    mover = moving.Mover(impatient, [mine.part], 5.0, [mine], played.said.append)
    async with asyncio.timeout(REQUEST_TIMEOUT - 1.0):
        assert await mover.move_all([first])
    assert played.server.has_no_faults


async def test_room_is_asked_for_without_move_too(played: PlayedCluster) -> None:
    played.server.put(pool("two", "10.0.0.11"))
    found = await plan(played, replace(MOVE, move=False))
    assert found.refusals == ()
    assert any("no room for 1 of 2 pods" in each for each in found.notes)


@pytest.mark.parametrize("text", ["nan", "inf", "0"])
def test_no_endless_time(text: str) -> None:
    assert CliRunner().invoke(cli, ["pool", "drain", "one", "--timeout", text]).exit_code == 2
