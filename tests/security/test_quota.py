"""A tenant who may create pods and workloads takes as many addresses as there are, unless its Namespace has a quota."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spiderpool.api.applications import WORKLOADS, Deployment, StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import Event, Namespace, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, SUBNET_ANNOTATION, SpiderSubnet, SubnetSpec
from spiderpool.controller.applications import ApplicationListers, ApplicationPoolReconciler
from spiderpool.controller.quotas import NamespaceQuotas, QuotaReconciler
from spiderpool.core.ipam.subnet_addresses import pool_addresses
from spiderpool.errors import Refused
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from tests.agent.addressing_node import AddressingNode, addressing_node, owned_by, pool
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

SHARED = pool("shared", "10.0.0.1-10.0.0.50")


def quota(addresses: int, name: str = "q", namespace: str = "default") -> SpiderIPQuota:
    return SpiderIPQuota(metadata=ObjectMeta(name=name, namespace=namespace), spec=IPQuotaSpec(addresses))


@asynccontextmanager
async def controller(client: Client, *, applications: bool = False) -> AsyncIterator[None]:
    """The leader's work on quotas, and on pools of applications."""
    quotas, ips, pools = Informer(client, SpiderIPQuota), Informer(client, SpiderIP), Informer(client, SpiderIPPool)
    namespaces, recorder = NamespaceQuotas(quotas, ips, pools), Recorder(client, "tests")
    informers: list[Informer[Any]] = [quotas, ips, pools]
    work = [QuotaReconciler(client, namespaces, recorder).run, recorder.run]
    if applications:
        subnets, reserved = Informer(client, SpiderSubnet), Informer(client, SpiderReservedIP)
        pods, workloads = Informer(client, Pod), {kind: Informer[Any](client, kind) for kind in WORKLOADS}
        listers = ApplicationListers(subnets, pools, ips, reserved, pods, workloads, namespaces)
        work.append(ApplicationPoolReconciler(client, listers, recorder, families=frozenset({4}), redundant=0).run)
        informers += [subnets, reserved, pods, *workloads.values()]
    async with running(*(informer.run() for informer in informers)):
        for informer in informers:
            await informer.synced(5)
        async with running(*(run() for run in work)):
            yield


def stored(server: ApiServer, key: str = "default/q") -> SpiderIPQuota:
    return server.stored(SpiderIPQuota)[key]


def counted(server: ApiServer, key: str) -> bool:
    """Whether the controller has counted for a quota as it is now."""
    found = stored(server, key)
    conditions = (found.status and found.status.conditions) or ()
    return any(condition.observedGeneration == found.metadata.generation for condition in conditions)


async def attach(node: AddressingNode, *names: str) -> list[str]:
    """ADD of new pods, one after the other."""
    for name in names:
        await node.pod(name)
    return [await node.add(name, f"c-{name}") for name in names]


async def marked(node: AddressingNode) -> None:
    await eventually(lambda: node.cluster.exhausted_quota("default") == "q", "the agent knows that nothing is left")


class TestSharedPools:
    async def test_a_namespace_gets_no_more_addresses_than_its_quota(self, tmp_path: Path) -> None:
        async with addressing_node(tmp_path, SHARED) as node, controller(node.client):
            await node.client.create(quota(3))
            first, *_ = await attach(node, "a", "b", "c")
            await marked(node)
            with pytest.raises(Refused, match="nothing is left of SpiderIPQuota default/q"):
                await attach(node, "d")
            assert len(node.records) == 3
            await eventually(lambda: (status := stored(node.server).status) and status.used == 3, "the status says so")
            await node.gone("a")
            await node.delete("a", "c-a")
            await eventually(lambda: node.cluster.exhausted_quota("default") is None, "there is one left again")
            assert await node.add("d", "c-d")
            assert first

    async def test_a_pod_keeps_what_it_holds_though_nothing_is_left(self, tmp_path: Path) -> None:
        async with addressing_node(tmp_path, SHARED) as node, controller(node.client):
            addresses = await attach(node, "a", "b")
            await node.client.create(quota(1))
            await marked(node)
            assert [await node.add(name, "again") for name in ("a", "b")] == addresses

    async def test_a_statefulset_gets_its_address_again_though_nothing_is_left(self, tmp_path: Path) -> None:
        async with addressing_node(tmp_path, SHARED) as node, controller(node.client):
            node.server.put(
                StatefulSet(metadata=ObjectMeta(name="web", namespace="default"), spec=WorkloadSpec(replicas=1))
            )
            await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
            address = await node.add("web-0", "c")
            await node.client.create(quota(1))
            await marked(node)
            await node.gone("web-0")
            await node.delete("web-0", "c")
            await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
            assert await node.add("web-0", "next") == address

    async def test_other_namespaces_are_not_concerned(self, tmp_path: Path) -> None:
        async with addressing_node(tmp_path, SHARED) as node, controller(node.client):
            await node.client.create(quota(0, namespace="other"))
            await eventually(lambda: stored(node.server, "other/q").exhausted)
            assert await attach(node, "a")

    async def test_what_a_pod_costs_the_api_server_stays_as_it_was(self, tmp_path: Path) -> None:
        """One write and no read: the quota is known from a watch."""
        async with addressing_node(tmp_path, SHARED) as node:
            node.server.put(Namespace(metadata=ObjectMeta(name="default")))
            await node.client.create(quota(10))
            await attach(node, "a")
            await node.pod("b")
            before = node.server.requests.copy()
            await node.add("b", "c-b")
            made = node.server.requests - before
            assert {verb: count for verb, count in made.items() if verb not in ("watch",)} == {"create": 1}


class TestPoolsOfApplications:
    KINDS = (
        *(SpiderIPQuota.KIND, SpiderIP.KIND, SpiderIPPool.KIND, SpiderSubnet.KIND, SpiderReservedIP.KIND),
        *(Pod.KIND, Event.KIND, *(kind.KIND for kind in WORKLOADS)),
    )

    async def test_they_are_cut_by_what_is_left(self) -> None:
        async with ApiServer(*self.KINDS) as server, server.client() as client:
            server.put(_subnet("10.6.1.1-10.6.3.9"))
            await client.create(quota(10, namespace="shop"))
            async with controller(client, applications=True):
                for name in ("web", "api", "job"):
                    server.put(_workload(name, 6))
                await eventually(lambda: _sizes(server) == [0, 4, 6], "ten addresses in all")
                await eventually(lambda: _told(server)["QuotaExhausted"], "the user is told")
                await eventually(lambda: stored(server, "shop/q").exhausted)
                await client.patch(SpiderIPQuota, "q", {"spec": {"addresses": 17}}, "shop")
                await eventually(lambda: _sizes(server) == [5, 6, 6], "they grow by themselves")
                await client.patch(SpiderIPQuota, "q", {"spec": {"addresses": 1}}, "shop")
                await eventually(lambda: counted(server, "shop/q"), "the controller has seen the lower limit")
                assert (stored(server, "shop/q").exhausted, _sizes(server)) == (True, [5, 6, 6])

    @pytest.mark.parametrize("limit", [15, 11])
    async def test_a_subnet_that_has_no_more_is_named_also_once_there_is_a_pool(self, limit: int) -> None:
        """Also where the quota would be the next to leave no more."""
        async with ApiServer(*self.KINDS) as server, server.client() as client:
            server.put(_subnet("10.6.1.1-10.6.1.10"))
            await client.create(quota(limit, namespace="shop"))
            async with controller(client, applications=True):
                server.put(_workload("web", 12))
                await eventually(lambda: _told(server)["SubnetExhausted"] > 1, "it is looked at again")
                assert _sizes(server) == [10]
                assert set(_told(server)) == {"SubnetExhausted"}
                await client.patch(SpiderIPQuota, "q", {"spec": {"addresses": 10}}, "shop")
                await eventually(lambda: _told(server)["QuotaExhausted"], "the quota leaves no more either")

    async def test_an_owner_of_any_name_has_a_pool(self) -> None:
        async with ApiServer(*self.KINDS) as server, server.client() as client:
            server.put(_subnet("10.6.1.1-10.6.1.10"))
            async with controller(client, applications=True):
                pod = Pod(metadata=ObjectMeta(name="a-0", namespace="shop", annotations=_annotations(3)))
                pod.metadata.ownerReferences = [OwnerReference("example.org/v1", "Base", "a|b", "u", controller=True)]
                server.put(pod)
                await eventually(lambda: _sizes(server) == [3], "it has its pool")


def _subnet(ips: str) -> SpiderSubnet:
    return SpiderSubnet(metadata=ObjectMeta(name="blue"), spec=SubnetSpec("10.6.0.0/16", ips=[ips]))


def _annotations(number: int) -> dict[str, str]:
    return {SUBNET_ANNOTATION: json.dumps({"ipv4": ["blue"]}), IP_NUMBER_ANNOTATION: str(number)}


def _workload(name: str, number: int) -> Deployment:
    spec = WorkloadSpec(replicas=1)
    spec.template.metadata.annotations = _annotations(number)
    return Deployment(metadata=ObjectMeta(name=name, namespace="shop"), spec=spec)


def _sizes(server: ApiServer) -> list[int]:
    return sorted(pool_addresses(each, 4).size for each in server.stored(SpiderIPPool).values())


def _told(server: ApiServer) -> Counter[str]:
    """How often the user was told of what is wrong with a workload, by reason."""
    told: Counter[str] = Counter()
    for event in server.stored(Event).values():
        if event.involvedObject.kind == "Deployment":
            told[event.reason] += event.count or 1
    return told
