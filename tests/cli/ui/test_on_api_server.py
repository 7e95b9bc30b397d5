"""The page on a real API server: its watches, its refusals, objects as our own writers make them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.addresses import to_int
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.cli.ui.objects import record
from tests.cli.ui.visiting import Visitor, settled, visiting
from tests.support.eventually import eventually

pytestmark = pytest.mark.control_plane

FIRST = to_int("10.94.0.0", 4)
POOL = SpiderIPPool(
    metadata=ObjectMeta(name="page"), spec=IPPoolSpec("10.94.0.0/24", ipVersion=4, ips=["10.94.0.1-10.94.0.9"])
)
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: page-reader}
rules:
- {apiGroups: [spiderpool.spidernet.io], resources: [spiderippools, spiderips], verbs: [get, list, watch]}
"""
LITTLE = "- {apiGroups: [spiderpool.spidernet.io], resources: [spidersubnets], verbs: [list]}"
MORE = '- {apiGroups: [""], resources: [nodes], verbs: [list, watch]}'
READER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: page-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: page-reader}
subjects: [{kind: ServiceAccount, name: page-reader, namespace: default}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: page-reader, namespace: default}
"""


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane, without what these tests have made afterwards."""
    yield control_plane
    control_plane.kubectl("delete", "spiderips,spiderippools", "--all")
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", "page-reader", "--ignore-not-found")
    control_plane.kubectl("delete", "serviceaccount", "page-reader", "-n", "default", "--ignore-not-found")


@pytest.fixture
async def admin(plane: ControlPlane) -> AsyncIterator[Client]:
    """A client that may do all, with a pool of which a pod has an address."""
    async with Client.load(plane.admin_kubeconfig) as client:
        await client.create(POOL)
        await client.create(record(FIRST + 3, POOL, uid="a"))
        yield client


def pieces(flat: list[int]) -> list[tuple[int, int, int]]:
    return [(flat[each] - FIRST, flat[each + 1] - FIRST, flat[each + 2]) for each in range(0, len(flat), 3)]


async def shown(visitor: Visitor) -> list[tuple[int, int, int]]:
    """The map of the pool, once it has the pod's address: the first lists come from caches that may lag."""

    async def has_address() -> bool:
        answer = await visitor.send("/api/pools/page")
        return answer.status == 200 and len(pieces(answer.document["pieces"])) > 1

    await eventually(has_address, timeout=20)
    return pieces((await visitor.read("/api/pools/page"))["pieces"])


async def test_a_map_follows_what_is_created_and_deleted(plane: ControlPlane, admin: Client) -> None:
    async with Client.load(plane.admin_kubeconfig) as client, visiting(client) as visitor:
        await visitor.enter()
        await settled(visitor)
        assert visitor.server.watched.left_out == []
        assert await shown(visitor) == [(1, 2, 0), (3, 3, 1), (4, 9, 0)]
        async with visitor.following() as events:
            made = await admin.create(record(FIRST + 5, POOL, uid="b"))
            assert await changed(events) == [(5, 5, 1)]
            await admin.delete(SpiderIP, made.name, uid=made.metadata.uid)
            assert await changed(events) == [(5, 5, 0)]
        status = (await visitor.read("/api/status"))["answer"]
        assert status["kubernetes"].startswith("v1.")
        assert [each["name"] for each in status["pools"]] == ["page"]


async def changed(events: AsyncIterator[tuple[str, object]]) -> list[tuple[int, int, int]]:
    """The next change of the pool."""
    async for name, value in events:
        if name == "maps" and isinstance(value, dict) and value["changed"].get("page", {}).get("pieces"):
            return pieces(value["changed"]["page"]["pieces"])
    raise AssertionError("the stream has ended")


def lacks(visitor: Visitor, right: str) -> bool:
    return any(f"you lack the right to {right}" in each for each in visitor.server.watched.left_out)


async def test_an_account_that_may_read_little_sees_that_and_which_rights_it_lacks(
    plane: ControlPlane, admin: Client
) -> None:
    plane.apply(ROLE + LITTLE, READER)
    account: Path = plane.service_account_kubeconfig("default", "page-reader")
    async with Client.load(account) as client, visiting(client) as visitor:
        await visitor.enter()
        await settled(visitor)
        assert (await shown(visitor))[1] == (3, 3, 1)
        left_out = visitor.server.watched.left_out
        rights = {each.partition("you lack the right to ")[2].partition(" (")[0] for each in left_out}
        assert {"list spidernodes.spiderpool.spidernet.io", "list nodes", "list events"} <= rights
        assert not any("spiderips." in each for each in rights)
        await eventually(lambda: lacks(visitor, "watch spidersubnets."), "it may list them, and not watch", timeout=20)
        assert SpiderNode in visitor.server.watched.unseen
        assert "Node" in (await visitor.read("/api/status"))["answer"]["unread"]
        held = await visitor.read("/api/addresses/10.94.0.3")
        assert held["answer"]["state"] == "held"
        assert any("Pod default" in each or "Pod shop" in each for each in held["leftOut"])
        plane.apply(ROLE + MORE)
        await eventually(lambda: not lacks(visitor, "list nodes"), "a right that is granted later", timeout=20)
