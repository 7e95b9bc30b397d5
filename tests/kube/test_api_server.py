"""The pretend API servers answer as the real one does: one list of behaviours, run against all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from random import Random

import pytest

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import AlreadyExists, Client, Conflict, Invalid, NotFound
from spiderpool_lab.control_plane import ControlPlane
from tests.simulation.api_server import SimulatedApiServer
from tests.simulation.network import Link
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.timeout(60)

NAMES = ("10.9.9.1", "10.9.9.2", "10.9.9.3")


@pytest.fixture(
    params=[
        pytest.param("pretend", marks=pytest.mark.unit),
        pytest.param("simulated", marks=pytest.mark.unit),
        pytest.param("real", marks=pytest.mark.control_plane),
    ]
)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "pretend":
        async with ApiServer(SpiderIP.KIND) as server, server.client() as client:
            yield client
        return
    if request.param == "simulated":
        async with SimulatedApiServer([SpiderIP.KIND], Random(1)).client(Link("test")) as client:
            yield client
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    async with Client.load(plane.admin_kubeconfig) as client:
        yield client
        for stored in await client.list(SpiderIP):
            await client.patch(SpiderIP, stored.name, {"metadata": {"finalizers": None}})
            await client.delete(SpiderIP, stored.name)


def record(name: str = NAMES[0], node: str = "n1") -> SpiderIP:
    spec = IPSpec(f"{name}/24", "p", node, "default", "pod", "uid", "eth0")
    return SpiderIP(metadata=ObjectMeta(name=name, labels={"node": node}), spec=spec)


async def test_create(client: Client) -> None:
    made = await client.create(record())
    assert made.metadata.uid
    assert made.metadata.creationTimestamp
    assert await client.get(SpiderIP, made.name) == made
    with pytest.raises(AlreadyExists):
        await client.create(record())
    with pytest.raises(ApiUnavailable, match="resourceVersion"):
        await client.create(made)


async def test_replace(client: Client) -> None:
    made = await client.create(record())
    changed = record(node="n2")
    with pytest.raises(Invalid, match="resourceVersion"):
        await client.replace(changed)
    changed.metadata.resourceVersion = made.metadata.resourceVersion
    stored = await client.replace(changed)
    assert stored.metadata.uid == made.metadata.uid
    assert int(stored.metadata.resourceVersion or 0) > int(made.metadata.resourceVersion or 0)
    assert await client.replace(stored) == stored, "a write that changes nothing is none"
    with pytest.raises(Conflict):
        await client.replace(changed)
    stored.metadata.uid = "another"
    with pytest.raises(Conflict):
        await client.replace(stored)
    with pytest.raises(NotFound):
        await client.replace(_versioned(record(NAMES[1])))


def _versioned(obj: SpiderIP) -> SpiderIP:
    obj.metadata.resourceVersion = "1"
    return obj


async def test_patch(client: Client) -> None:
    made = await client.create(record())
    patched = await client.patch(SpiderIP, made.name, {"metadata": {"labels": {"node": None, "a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    stale = {"metadata": {"resourceVersion": made.metadata.resourceVersion, "labels": {"a": "c"}}}
    with pytest.raises(Conflict):
        await client.patch(SpiderIP, made.name, stale)
    with pytest.raises(Invalid, match="uid"):
        await client.patch(SpiderIP, made.name, {"metadata": {"uid": "another"}, "spec": {"pod": "x"}})
    with pytest.raises(NotFound):
        await client.patch(SpiderIP, NAMES[1], {})


async def test_delete(client: Client) -> None:
    made = await client.create(record())
    with pytest.raises(Conflict):
        await client.delete(SpiderIP, made.name, uid="another")
    with pytest.raises(Conflict):
        await client.delete(SpiderIP, made.name, uid=made.metadata.uid, resourceVersion="1")
    await client.delete(SpiderIP, made.name, uid=made.metadata.uid, resourceVersion=made.metadata.resourceVersion)
    with pytest.raises(NotFound):
        await client.delete(SpiderIP, made.name)
    assert (await client.create(record())).metadata.uid != made.metadata.uid


async def test_finalizers(client: Client) -> None:
    held = record()
    held.metadata.finalizers = ["example.com/ours"]
    await client.create(held)
    await client.delete(SpiderIP, held.name)
    terminating = await client.get(SpiderIP, held.name)
    assert terminating.terminating
    again = await client.patch(SpiderIP, held.name, {"metadata": {"deletionTimestamp": None}})
    assert again.terminating
    await client.patch(SpiderIP, held.name, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await client.get(SpiderIP, held.name)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("node=n1", NAMES[:2]),
        ("node==n2", NAMES[2:]),
        ("node!=n1", NAMES[2:]),
        ("node", NAMES),
        ("!node", ()),
        ("node=n1,!other", NAMES[:2]),
        ("other!=x", NAMES),
    ],
)
async def test_selectors(client: Client, labels: str, names: tuple[str, ...]) -> None:
    for name, node in zip(NAMES, ("n1", "n1", "n2"), strict=True):
        await client.create(record(name, node))
    assert tuple(stored.name for stored in await client.list(SpiderIP, labels=labels)) == names
    found = await client.list(SpiderIP, labels=labels, fields=f"metadata.name={NAMES[0]}")
    assert tuple(stored.name for stored in found) == names[:1] if NAMES[0] in names else not found


async def test_a_watch_shows_what_enters_changes_and_leaves_the_selector(client: Client) -> None:
    version, _ = await client.list_at(SpiderIP)
    made = await client.create(record())
    await client.create(record(NAMES[1], "n2"))
    await client.patch(SpiderIP, made.name, {"spec": {"pod": "changed"}})
    await client.patch(SpiderIP, made.name, {"metadata": {"labels": {"node": "n2"}}})
    await client.patch(SpiderIP, made.name, {"metadata": {"labels": {"node": "n1"}}})
    await client.delete(SpiderIP, made.name)
    events = []
    async with aclosing(client.watch(SpiderIP, version, labels="node=n1", seconds=20)) as watch:
        async for kind, obj in watch:
            if kind != "BOOKMARK":
                events.append((kind, obj.metadata.name))
            if len(events) == 5:
                break
    assert events == [(kind, made.name) for kind in ("ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED")]
