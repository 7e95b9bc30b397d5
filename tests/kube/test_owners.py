"""Owners of pods and of addresses, read from a pretend API server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spiderpool.api.applications import CronJob, Deployment, Job, ReplicaSet, StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Object, ObjectMeta, OwnerReference
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube import owners
from spiderpool.kube.owners import OwnerReader
from tests.support.api_server import ApiServer, Fault

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

KINDS = (CronJob, Deployment, Job, ReplicaSet, StatefulSet, VirtualMachine, VirtualMachineInstance)
TIMEOUT = 5.0


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server:
        yield server


@pytest.fixture
async def reader(server: ApiServer) -> AsyncIterator[OwnerReader]:
    async with server.client() as client:
        yield OwnerReader(client)


def owned_by(owner: Object | None, name: str) -> ObjectMeta:
    references = None
    if owner is not None:
        kind, uid = owner.KIND, owner.metadata.uid or f"uid-{owner.name}"
        references = [OwnerReference(kind.api_version, kind.name, owner.name, uid, controller=True)]
    return ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", ownerReferences=references)


def pod_of(owner: Object | None) -> Pod:
    return Pod(metadata=owned_by(owner, "web-1"))


def put(server: ApiServer, *owners: ReplicaSet | Job) -> None:
    """Store them; they have the UIDs of the server from then on."""
    server.put(*owners)
    for owner in owners:
        owner.metadata.uid = server.stored(type(owner))[owner.key].metadata.uid


async def top_of(reader: OwnerReader, owner: Object | None) -> tuple[str, str] | None:
    found = await reader.top(pod_of(owner), timeout=TIMEOUT)
    return (found.kind, found.name) if found else None


class TestTop:
    async def test_a_replica_set_and_a_job_may_have_a_controller(self, server: ApiServer, reader: OwnerReader) -> None:
        deployment, cron = Deployment(metadata=ObjectMeta(name="web")), CronJob(metadata=ObjectMeta(name="nightly"))
        replicas, job = ReplicaSet(metadata=owned_by(deployment, "web-a")), Job(metadata=owned_by(cron, "nightly-1"))
        bare = ReplicaSet(metadata=owned_by(None, "bare"))
        put(server, replicas, job, bare)
        assert await top_of(reader, replicas) == ("Deployment", "web")
        assert await top_of(reader, job) == ("CronJob", "nightly")
        assert await top_of(reader, bare) == ("ReplicaSet", "bare")

    async def test_others_cost_no_read(self, server: ApiServer, reader: OwnerReader) -> None:
        assert await top_of(reader, None) is None
        assert await top_of(reader, StatefulSet(metadata=ObjectMeta(name="db"))) == ("StatefulSet", "db")
        assert server.requests.total() == 0

    async def test_one_controller_is_read_once(
        self, server: ApiServer, reader: OwnerReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = (ReplicaSet(metadata=owned_by(None, name)) for name in ("first", "second"))
        put(server, first, second)
        for _ in range(3):
            await top_of(reader, first)
        assert server.requests["get"] == 1
        monkeypatch.setattr(owners, "REMEMBERED", 1)
        await top_of(reader, second)
        await top_of(reader, first)
        assert server.requests["get"] == 3

    async def test_a_missing_controller_and_an_error_are_told_apart(
        self, server: ApiServer, reader: OwnerReader
    ) -> None:
        missing = ReplicaSet(metadata=owned_by(None, "missing"))
        with pytest.raises(Refused, match=r"ReplicaSet.*missing.*does not exist"):
            await top_of(reader, missing)
        server.inject(Fault("get", status=503))
        with pytest.raises(ApiUnavailable):
            await top_of(reader, missing)


def record(pod: str, owner: IPOwner | None) -> SpiderIP:
    spec = IPSpec("10.0.0.1/24", "p", "n1", "ns", pod, "uid", "eth0", owner=owner)
    return SpiderIP(metadata=ObjectMeta(name="10.0.0.1"), spec=spec)


class TestNeed:
    async def test_an_ordinary_address_needs_no_read(self, server: ApiServer, reader: OwnerReader) -> None:
        assert not await reader.is_needed(record("web-1", None), timeout=TIMEOUT)
        assert server.requests.total() == 0

    async def test_a_stateful_set_needs_the_addresses_of_its_ordinals(
        self, server: ApiServer, reader: OwnerReader
    ) -> None:
        owner = IPOwner("StatefulSet", "ns", "db")
        assert not await reader.is_needed(record("db-1", owner), timeout=TIMEOUT)
        server.put(StatefulSet(metadata=ObjectMeta(name="db", namespace="ns"), spec=WorkloadSpec(replicas=2)))
        assert await reader.is_needed(record("db-1", owner), timeout=TIMEOUT)
        assert not await reader.is_needed(record("db-2", owner), timeout=TIMEOUT)

    async def test_a_machine_needs_its_address_while_it_or_its_instance_exists(
        self, server: ApiServer, reader: OwnerReader
    ) -> None:
        held = record("virt-launcher-vm-abcde", IPOwner("VirtualMachineInstance", "ns", "vm"))
        machine = VirtualMachine(metadata=ObjectMeta(name="vm", namespace="ns"))
        instance = VirtualMachineInstance(metadata=ObjectMeta(name="vm", namespace="ns"))
        assert not await reader.is_needed(held, timeout=TIMEOUT)
        server.put(instance)
        assert await reader.is_needed(held, timeout=TIMEOUT)
        server.remove(instance)
        server.put(machine)
        assert await reader.is_needed(held, timeout=TIMEOUT)

    async def test_an_error_is_no_answer(self, server: ApiServer, reader: OwnerReader) -> None:
        server.inject(Fault("get", status=500))
        with pytest.raises(ApiUnavailable):
            await reader.is_needed(record("db-1", IPOwner("StatefulSet", "ns", "db")), timeout=TIMEOUT)
