"""A user writes ownerReferences of its own pods: any name, any UID. They decide whose pool serves a pod."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spiderpool.api.applications import Deployment, ReplicaSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.errors import Refused
from spiderpool.kube.owners import OwnerReader
from tests.support.api_server import ApiServer

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with a ReplicaSet of the victim, and one of the same name of the attacker."""
    async with ApiServer(ReplicaSet.KIND, Deployment.KIND) as server:
        server.put(_replicas("victim"), _replicas("attacker"))
        yield server


@pytest.fixture
async def reader(server: ApiServer) -> AsyncIterator[OwnerReader]:
    async with server.client() as client:
        yield OwnerReader(client)


def _uid(server: ApiServer, namespace: str) -> str:
    return server.stored(ReplicaSet)[f"{namespace}/web"].metadata.uid or ""


def _replicas(namespace: str) -> ReplicaSet:
    owner = OwnerReference("apps/v1", "Deployment", f"app-of-{namespace}", f"uid-{namespace}", controller=True)
    return ReplicaSet(metadata=ObjectMeta(name="web", namespace=namespace, ownerReferences=[owner]))


def _pod(namespace: str, uid: str) -> Pod:
    owner = OwnerReference("apps/v1", "ReplicaSet", "web", uid, controller=True)
    return Pod(metadata=ObjectMeta(name="p", namespace=namespace, uid="u", ownerReferences=[owner]))


async def _application(reader: OwnerReader, pod: Pod) -> str:
    found = await reader.top(pod, timeout=5)
    assert found is not None
    return f"{found.namespace}/{found.name}"


async def test_a_known_uid_gives_no_place_in_anothers_application(server: ApiServer, reader: OwnerReader) -> None:
    uid = _uid(server, "victim")
    assert await _application(reader, _pod("victim", uid)) == "victim/app-of-victim"
    with pytest.raises(Refused):
        await _application(reader, _pod("attacker", uid))


async def test_nobody_takes_anothers_place_in_what_is_remembered(server: ApiServer, reader: OwnerReader) -> None:
    uid = _uid(server, "victim")
    with pytest.raises(Refused):
        await _application(reader, _pod("attacker", uid))
    assert await _application(reader, _pod("victim", uid)) == "victim/app-of-victim"
    assert await _application(reader, _pod("attacker", _uid(server, "attacker"))) == "attacker/app-of-attacker"
