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


async def until(condition: Callable[[], bool], timeout: float) -> float:
    """Seconds until a condition held."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)
    return loop.time() - begin


@pytest.mark.control_plane
class TestElection:
    async def test_one_leads_and_gives_way_in_order(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "in-order", running) as join:
            first = await join("first")
            await until(lambda: running == ["first"], 3)
            second = await join("second")
            await until(lambda: second.election.leader == "first", 3)
            assert (first.election.leading, second.election.leading) == (True, False)
            await first.stop()
            assert await until(lambda: running == ["second"], 3) < QUICK.retry + 0.6
            stored = await second.client.get(Lease, "in-order", NAMESPACE)
            assert stored.spec.holderIdentity == "second"
            assert stored.spec.leaseTransitions == 1

    async def test_of_many_at_once_one_wins(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "many", running) as join:
            candidates = [await join(f"c{number}") for number in range(8)]
            await until(lambda: len({each.election.leader for each in candidates} - {None}) == 1 and bool(running), 5)
            assert len(running) == 1
            assert sum(each.election.leading for each in candidates) == 1

    async def test_a_holder_that_is_gone_is_replaced_whatever_time_it_wrote(self, control_plane: ControlPlane) -> None:
        running: list[str] = []
        async with arena(control_plane, "gone", running) as join, Client.load(control_plane.admin_kubeconfig) as admin:
            spec = LeaseSpec("ghost", 3, None, "2999-01-01T00:00:00.000000Z", 7)
            await admin.create(Lease(metadata=ObjectMeta(name="gone", namespace=NAMESPACE), spec=spec))
            await join("heir")
            assert 2.5 < await until(lambda: running == ["heir"], 6) < 4.5

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
            await until(lambda: running == ["loser"], 3)
            stored = await admin.get(Lease, "lost", NAMESPACE)
            await admin.replace(replace(stored, spec=replace(stored.spec, holderIdentity="usurper")))
            await until(lambda: running == [], 2)
            assert not loser.election.leading
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
                await until(lambda: running == ["first"], 3)
                second = await join("second")
                await until(lambda: second.election.leader == "first", 3)
                line.backends.clear()
                line.cut()
                assert await until(lambda: running == [], 3) <= QUICK.renew + 0.3
                assert not first.election.leading
                await until(lambda: running == ["second"], QUICK.duration + 1)

    async def test_what_the_work_raises_is_told_and_the_lease_given_back(self, control_plane: ControlPlane) -> None:
        async def fail() -> None:
            raise SpiderpoolError("broken")

        async with Client.load(control_plane.admin_kubeconfig) as client:
            with pytest.raises(SpiderpoolError, match="broken"):
                await Election(client, LeaseLock("failing", NAMESPACE, "one"), QUICK).run(fail)
            assert (await client.get(Lease, "failing", NAMESPACE)).spec.holderIdentity is None
