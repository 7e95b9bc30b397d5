"""SpiderEndpoints as people and tools see them, against a real API server and under our own roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spiderpool.api.applications import Deployment
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.controller.endpoints import EndpointListers, EndpointReconciler, RateLimiter
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION, STATIC_POD_ANNOTATION
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

PATIENCE = 15.0
KINDS = (SpiderEndpoint, SpiderIP, Pod, SpiderIPPool)

live = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]


@pytest.fixture
async def pool(client: Client) -> AsyncIterator[SpiderIPPool]:
    spec = IPPoolSpec("10.60.0.0/16", ips=["10.60.0.1-10.60.0.200"], gateway="10.60.255.254")
    yield await client.create(SpiderIPPool(metadata=ObjectMeta(name="p60"), spec=spec))
    for ip in await client.list(SpiderIP):
        await client.delete(SpiderIP, ip.name)
    await client.delete(SpiderIPPool, "p60")

    async def gone() -> bool:
        return "p60" not in {pool.name for pool in await client.list(SpiderIPPool)}

    await eventually(gone, timeout=PATIENCE)


async def make_pod(client: Client, name: str) -> Pod:
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]},
    }
    return await client.apply(Pod, body, name, "default")


def record(pod: Pod, address: str, pool: str = "p60", interface: str = "eth0") -> SpiderIP:
    labels = {IP_POOL_LABEL: pool, IP_NODE_LABEL: "n1"}
    spec = IPSpec(f"{address}/16", pool, "n1", "default", pod.name, pod.metadata.uid or "", interface)
    return SpiderIP(metadata=ObjectMeta(name=object_name(address), labels=labels), spec=spec)


async def find(client: Client, name: str) -> SpiderEndpoint | None:
    try:
        return await client.get(SpiderEndpoint, name, "default")
    except NotFound:
        return None


async def shows(client: Client, name: str, *addresses: str) -> None:
    """Wait until an endpoint shows these addresses; none: until it is gone."""

    async def as_expected() -> bool:
        found = await find(client, name)
        if found is None or found.status is None:
            return not addresses
        return [detail.ipv4 for detail in found.status.current.ips] == list(addresses)

    await eventually(as_expected, timeout=PATIENCE)


@pytest.mark.usefixtures("pool")
class TestEndpoints:
    pytestmark = live

    async def test_it_follows_the_records_and_goes_with_the_last(self, client: Client) -> None:
        pod = await make_pod(client, "ep-1")
        first = await client.create(record(pod, "10.60.0.1"))
        await shows(client, "ep-1", "10.60.0.1/16")
        found = await find(client, "ep-1")
        assert found is not None
        assert found.status == EndpointStatus(
            CurrentDetail(
                pod.metadata.uid or "",
                "n1",
                [InterfaceDetail("eth0", "10.60.0.1/16", "p60", ipv4Gateway="10.60.255.254", vlan=0)],
            ),
            "Pod",
            "ep-1",
        )
        assert [owner.uid for owner in found.metadata.ownerReferences or ()] == [pod.metadata.uid]
        assert not found.metadata.finalizers
        second = await client.create(record(pod, "10.60.0.2", interface="net1"))
        await shows(client, "ep-1", "10.60.0.1/16", "10.60.0.2/16")
        for each in (first, second):
            await client.delete(SpiderIP, each.name)
        await shows(client, "ep-1")

    async def test_it_is_made_again_when_somebody_deletes_or_changes_it(self, client: Client) -> None:
        pod = await make_pod(client, "ep-2")
        await client.create(record(pod, "10.60.0.3"))
        await shows(client, "ep-2", "10.60.0.3/16")
        await client.delete(SpiderEndpoint, "ep-2", "default")
        await shows(client, "ep-2", "10.60.0.3/16")
        body = {"status": {"current": {"node": "elsewhere"}}, "metadata": {"finalizers": ["spiderpool.spidernet.io"]}}
        await client.patch(SpiderEndpoint, "ep-2", body, "default")

        async def repaired() -> bool:
            found = await find(client, "ep-2")
            return found is not None and found.status is not None and found.status.current.node == "n1"

        await eventually(repaired, timeout=PATIENCE)

    async def test_one_that_another_writer_left_behind_goes(self, client: Client) -> None:
        status = EndpointStatus(CurrentDetail("u", "n", []), "Pod", "left")
        metadata = ObjectMeta(name="left", namespace="default", finalizers=["spiderpool.spidernet.io"])
        await client.create(SpiderEndpoint(metadata=metadata, status=status))
        await shows(client, "left")

    async def test_the_top_controller_is_named(self, client: Client) -> None:
        template = {
            "metadata": {"labels": {"app": "top"}},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]},
        }
        body = {
            "metadata": {"name": "top", "namespace": "default"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "top"}}, "template": template},
        }
        await client.apply(Deployment, body, "top", "default")
        pods: list[Pod] = []

        async def started() -> bool:
            pods[:] = await client.list(Pod, "default", labels="app=top")
            return len(pods) == 1

        await eventually(started, timeout=PATIENCE)
        try:
            await client.create(record(pods[0], "10.60.0.4"))
            await shows(client, pods[0].name, "10.60.0.4/16")
            found = await find(client, pods[0].name)
            assert found is not None
            assert found.status is not None
            assert (found.status.ownerControllerType, found.status.ownerControllerName) == ("Deployment", "top")
        finally:
            await client.delete(Deployment, "top", "default")

    async def test_a_successor_of_the_name_is_another_pod(self, client: Client) -> None:
        before = await make_pod(client, "ep-3")
        await client.create(record(before, "10.60.0.5"))
        await shows(client, "ep-3", "10.60.0.5/16")
        await client.delete(Pod, "ep-3", "default", grace=0)
        after = await make_pod(client, "ep-3")
        await client.create(record(after, "10.60.0.6"))
        await shows(client, "ep-3", "10.60.0.6/16")


HASH = "0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def reconciling(*kept: Object) -> AsyncIterator[ApiServer]:
    """A reconciler against a pretend API server that keeps these objects."""
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, server.client() as client:
        server.put(*kept)
        endpoints, ips, pods, pools = (Informer[Any](client, kind) for kind in KINDS)
        reconciler = EndpointReconciler(client, EndpointListers(endpoints, ips, pods, pools), debounce=0.01)
        informing = [asyncio.create_task(each.run()) for each in (endpoints, ips, pods, pools)]
        for informer in (endpoints, ips, pods, pools):
            await informer.synced(5.0)
        work = [*informing, asyncio.create_task(reconciler.run())]
        yield server
        for task in work:
            task.cancel()
        await asyncio.wait(work)


def mirror(uid: str) -> Pod:
    """The object that a kubelet makes for a static pod, each time with another UID."""
    annotations = {STATIC_POD_ANNOTATION: HASH, MIRROR_POD_ANNOTATION: HASH}
    metadata = ObjectMeta(name="static-n1", namespace="default", uid=uid, annotations=annotations)
    return Pod(metadata=metadata, spec=PodSpec(nodeName="n1"))


@pytest.mark.unit
@pytest.mark.parametrize("collected", [True, False])
async def test_the_endpoint_of_a_static_pod_comes_back_with_its_mirror(collected: bool) -> None:
    """Its record names the hash of its manifest. Kubernetes deletes the endpoint with the mirror, early or late."""
    held = record(mirror(HASH), "10.60.0.7")
    async with reconciling(mirror("m-1"), held) as server:

        def owner() -> tuple[str, str] | None:
            found = server.stored(SpiderEndpoint).get("default/static-n1")
            if found is None or found.status is None:
                return None
            (reference,) = found.metadata.ownerReferences or []
            return reference.uid, found.status.current.uid

        first = server.stored(Pod)["default/static-n1"].metadata.uid or ""
        await eventually(lambda: owner() == (first, first))
        server.remove(server.stored(Pod)["default/static-n1"])
        if collected:
            server.remove(server.stored(SpiderEndpoint)["default/static-n1"])
            await asyncio.sleep(0.1)
            assert owner() is None, "there is no pod that could own it"
        server.put(mirror("m-2"))
        second = server.stored(Pod)["default/static-n1"].metadata.uid or ""
        assert second != first
        await eventually(lambda: owner() == (second, second))
        assert server.stored(SpiderIP)["10.60.0.7"].spec.podUID == HASH


@pytest.mark.unit
class TestRateLimiter:
    def test_slots_are_evenly_spaced_however_many_come(self) -> None:
        limiter = RateLimiter(100.0)
        assert [limiter.reserve(5.0) for _ in range(4)] == pytest.approx([0.0, 0.01, 0.02, 0.03])
        assert limiter.reserve(5.02) == pytest.approx(0.02)
        assert limiter.reserve(9.0) == 0.0, "slots that nobody used are lost"

    async def test_callers_pass_in_the_order_of_their_calls(self) -> None:
        limiter, passed = RateLimiter(20.0), list[int]()  # further apart than a busy machine delays a timer

        async def call(number: int) -> None:
            await limiter.wait()
            passed.append(number)

        await asyncio.gather(*(call(number) for number in range(5)))
        assert passed == [0, 1, 2, 3, 4]
