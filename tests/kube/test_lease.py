"""Leader election against a real API server: one at a time, whatever the clocks say, and soon another."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.kube.config import load_access
from spiderpool.kube.lease import Election, LeaseLock, LeaseTimings, ObservedLease
from spiderpool_lab.control_plane import ControlPlane
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.relay import Relay

NAMESPACE = "default"
USUAL = LeaseTimings(duration=15, renew=10, retry=2)
QUICK = LeaseTimings(duration=3, renew=2, retry=0.4)


class TestTerms:
    pytestmark = pytest.mark.unit

    @pytest.mark.parametrize("numbers", [(15, 15, 2), (15, 10, 10), (15, 10, 0), (10, 15, 2)])
    def test_a_leader_must_stop_before_another_may_start(self, numbers: tuple[float, float, float]) -> None:
        with pytest.raises(BadConfig, match="SPIDERPOOL_LEADER_"):
            LeaseTimings(*numbers)

    @pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", None])
    def test_only_what_is_seen_to_change_is_a_sign_of_life(self, renewed: str | None) -> None:
        def lease(version: str, holder: str | None = "other") -> Lease:
            return Lease(metadata=ObjectMeta(resourceVersion=version), spec=LeaseSpec(holder, 15, None, renewed))

        seen = ObservedLease(lease("1"), 100.0)
        assert seen.free_at(USUAL) == 115.0
        assert seen.updated(lease("1"), 110.0).free_at(USUAL) == 115.0
        assert seen.updated(lease("2"), 110.0).free_at(USUAL) == 125.0
        assert seen.updated(lease("3", None), 110.0).free_at(USUAL) == 110.0


@dataclass
class Candidate:
    """One candidate, and when it led."""

    election: Election
    client: Client
    running: list[str]
    name: str
    task: asyncio.Task[None] = field(init=False)

    def start(self) -> None:
        self.task = asyncio.create_task(self.election.run(self.lead))

    async def lead(self) -> None:
        assert self.running == []
        self.running.append(self.name)
        try:
            await asyncio.sleep(3600)
        finally:
            self.running.remove(self.name)

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


Join = Callable[..., Awaitable[Candidate]]


@asynccontextmanager
async def arena(plane: ControlPlane, lease: str, running: list[str]) -> AsyncIterator[Join]:
    """Candidates of one Lease; all end with the context."""
    candidates: list[Candidate] = []

    async def join(name: str, client: Client | None = None) -> Candidate:
        client = client or Client.load(plane.admin_kubeconfig)
        candidate = Candidate(Election(client, LeaseLock(lease, NAMESPACE, name), QUICK), client, running, name)
        candidates.append(candidate)
        candidate.start()
        return candidate

    try:
        yield join
    finally:
        for candidate in candidates:
            await candidate.stop()
            await candidate.client.close()


class Clock:
    """Time as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestTiming:
    """By a clock that the test moves; the pauses between tries are real, and short."""

    pytestmark = pytest.mark.unit
    TIMINGS = LeaseTimings(duration=15, renew=10, retry=0.01)
    LOCK = LeaseLock("timed", NAMESPACE, "me")

    @asynccontextmanager
    async def candidate(self, server: ApiServer, clock: Clock) -> AsyncIterator[Candidate]:
        async with server.client() as client:
            election = Election(client, self.LOCK, self.TIMINGS, clock=clock)
            candidate = Candidate(election, client, [], "me")
            candidate.start()
            try:
                yield candidate
            finally:
                await candidate.stop()

    @staticmethod
    def held_by(holder: str, renewed: str = "1970-01-01T00:00:00.000000Z") -> Lease:
        spec = LeaseSpec(holder, 15, None, renewed, 7)
        return Lease(metadata=ObjectMeta(name="timed", namespace=NAMESPACE), spec=spec)

    @staticmethod
    async def tries(server: ApiServer, count: int = 3) -> None:
        """Wait until the candidate has looked some more times."""
        before = server.requests["get"]
        await eventually(lambda: server.requests["get"] >= before + count)

    async def test_a_lease_is_taken_when_it_has_not_changed_for_its_duration_and_not_before(self) -> None:
        clock = Clock()
        async with ApiServer(Lease.KIND) as server:
            server.put(self.held_by("ghost", "2999-01-01T00:00:00.000000Z"))
            async with self.candidate(server, clock) as candidate:
                await self.tries(server)
                clock.now += 14.9
                await self.tries(server)
                assert candidate.running == []
                assert candidate.election.leader == "ghost"
                server.put(self.held_by("ghost", "1970-01-01T00:00:01.000000Z"))  # a sign of life
                await self.tries(server)
                clock.now += 14.9
                await self.tries(server)
                assert candidate.running == []
                clock.now += 0.2
                await eventually(lambda: candidate.running == ["me"])
            stored = server.stored(Lease)[f"{NAMESPACE}/timed"]
            assert (stored.spec.holderIdentity, stored.spec.leaseTransitions) == (None, 8)

    async def test_a_leader_that_cannot_renew_stops_after_the_deadline_and_not_before(self) -> None:
        clock = Clock()
        async with ApiServer(Lease.KIND) as server, self.candidate(server, clock) as candidate:
            await eventually(lambda: candidate.running == ["me"])
            server.inject(Fault("*", times=1_000_000, status=503))
            clock.now += 9.0
            await self.tries(server)
            assert candidate.running == ["me"]
            clock.now += 1.1
            await eventually(lambda: candidate.running == [])
            assert not candidate.election.leading
            server.clear_faults()
            await eventually(lambda: candidate.running == ["me"])

    async def test_the_right_to_lead_counts_from_the_request_and_not_from_its_answer(self) -> None:
        clock = Clock()
        async with ApiServer(Lease.KIND) as server, server.client() as client:
            server.inject(Fault("create", delay=0.2))
            election = Election(client, self.LOCK, LeaseTimings(duration=15, renew=10, retry=1), clock=clock)
            candidate = Candidate(election, client, [], "me")
            candidate.start()
            await eventually(lambda: server.requests["create"])
            clock.now += 9.0
            await eventually(lambda: candidate.running == ["me"])
            assert election.leading
            clock.now += 1.1
            assert not election.leading
            await candidate.stop()

    async def test_the_lease_is_given_back_though_the_answer_to_the_last_renewal_was_lost(self) -> None:
        async with ApiServer(Lease.KIND) as server:
            async with self.candidate(server, Clock()) as candidate:
                await eventually(lambda: candidate.running == ["me"])
                stored = server.stored(Lease)[f"{NAMESPACE}/timed"]
                renewed = replace(stored.spec, renewTime="2999-01-01T00:00:00.000000Z")
                server.inject(Fault("get", times=1_000, delay=0.3))  # no further renewal before the end
                await self.tries(server, 1)
                server.put(replace(stored, spec=renewed))
                server.clear_faults()
            assert server.stored(Lease)[f"{NAMESPACE}/timed"].spec.holderIdentity is None

    async def test_a_lease_that_another_candidate_has_taken_is_not_given_back(self) -> None:
        async with ApiServer(Lease.KIND) as server:
            async with self.candidate(server, Clock()) as candidate:
                await eventually(lambda: candidate.running == ["me"])
                server.inject(Fault("get", times=1_000, delay=0.3))
                await self.tries(server, 1)
                server.put(self.held_by("usurper"))
                server.clear_faults()
            assert server.stored(Lease)[f"{NAMESPACE}/timed"].spec.holderIdentity == "usurper"

    async def test_a_renewal_whose_answer_was_lost_is_repeated(self) -> None:
        clock = Clock()
        async with ApiServer(Lease.KIND) as server, self.candidate(server, clock) as candidate:
            await eventually(lambda: candidate.running == ["me"])
            server.inject(Fault("replace", times=3, lose_answer=True))
            clock.now += 5.0
            renewed = clock.now + self.TIMINGS.renew
            await eventually(lambda: candidate.election._valid_until == renewed, "a later renewal is answered")
            clock.now += 9.0
            await self.tries(server)
            assert candidate.running == ["me"]


@pytest.mark.control_plane
class TestElection:
    async def test_one_leads_and_gives_way_in_order(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "in-order", running) as join:
            first = await join("first")
            await eventually(lambda: running == ["first"])
            second = await join("second")
            await eventually(lambda: second.election.leader == "first")
            assert (first.election.leading, second.election.leading) == (True, False)
            await first.stop()
            await eventually(lambda: running == ["second"])
            stored = await second.client.get(Lease, "in-order", NAMESPACE)
            assert stored.spec.holderIdentity == "second"
            assert stored.spec.leaseTransitions == 1

    async def test_of_many_at_once_one_wins(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "many", running) as join:
            candidates = [await join(f"c{number}") for number in range(8)]
            await eventually(lambda: len({each.election.leader for each in candidates} - {None}) == 1 and bool(running))
            assert len(running) == 1
            assert sum(each.election.leading for each in candidates) == 1

    async def test_a_holder_that_is_gone_is_replaced_whatever_time_it_wrote(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "gone", running) as join, Client.load(control_plane.admin_kubeconfig) as admin:
            spec = LeaseSpec("ghost", 3, None, "2999-01-01T00:00:00.000000Z", 7)
            await admin.create(Lease(metadata=ObjectMeta(name="gone", namespace=NAMESPACE), spec=spec))
            await join("heir")
            await eventually(lambda: running == ["heir"])

    async def test_a_holder_that_is_alive_stays_whatever_time_it_writes(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "alive", running) as join, Client.load(control_plane.admin_kubeconfig) as admin:
            spec = LeaseSpec("slow clock", 3, None, "1970-01-01T00:00:00.000000Z", 0)
            await admin.create(Lease(metadata=ObjectMeta(name="alive", namespace=NAMESPACE), spec=spec))
            heir = await join("heir")
            for second in range(10):
                await asyncio.sleep(0.5)
                stored = await admin.get(Lease, "alive", NAMESPACE)
                assert stored.spec.holderIdentity == "slow clock"
                renewed = replace(stored.spec, renewTime=f"1970-01-01T00:00:{second:02}.000000Z")
                await admin.replace(replace(stored, spec=renewed))
            assert running == []
            assert heir.election.leader == "slow clock"

    async def test_who_loses_the_lease_has_stopped_before_another_starts(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "lost", running) as join, Client.load(control_plane.admin_kubeconfig) as admin:
            loser = await join("loser")
            await eventually(lambda: running == ["loser"])
            stored = await admin.get(Lease, "lost", NAMESPACE)
            await admin.replace(replace(stored, spec=replace(stored.spec, holderIdentity="usurper")))
            await eventually(lambda: running == [] and not loser.election.leading)
            assert (await admin.get(Lease, "lost", NAMESPACE)).spec.holderIdentity == "usurper"

    async def test_who_cannot_renew_stops_before_the_lease_runs_out(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        access = load_access(control_plane.admin_kubeconfig)
        with Relay(int(access.server.rpartition(":")[2])) as line:
            async with (
                arena(control_plane, "cut-off", running) as join,
                Client(dataclasses.replace(access, server=f"https://127.0.0.1:{line.port}")) as far,
            ):
                first = await join("first", far)
                await eventually(lambda: running == ["first"])
                second = await join("second")
                await eventually(lambda: second.election.leader == "first")
                line.backends.clear()
                line.cut()
                await eventually(lambda: running == [] and not first.election.leading)
                await eventually(lambda: running == ["second"])

    async def test_what_the_work_raises_is_told_and_the_lease_given_back(self, control_plane: ControlPlane) -> None:
        async def fail() -> None:
            raise SpiderpoolError("broken")

        async with Client.load(control_plane.admin_kubeconfig) as client:
            with pytest.raises(SpiderpoolError, match="broken"):
                await Election(client, LeaseLock("failing", NAMESPACE, "one"), QUICK).run(fail)
            assert (await client.get(Lease, "failing", NAMESPACE)).spec.holderIdentity is None
