"""Quotas and unenforced policies against a real API server, under the controller's own role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.core_v1 import Event
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.ipquota import IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.controller.subnet_objects import PATIENCE, hold
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

POOL = SpiderIPPool(metadata=ObjectMeta(name="quota"), spec=IPPoolSpec("10.88.0.0/16", ips=["10.88.0.1-10.88.0.9"]))
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "nothing-in"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


async def test_a_quota_is_counted_and_marked_while_nothing_is_left(client: Client, namespace: str) -> None:
    pool = await client.create(POOL)
    await client.create(SpiderIPQuota(metadata=ObjectMeta(name="q", namespace=namespace), spec=IPQuotaSpec(2)))

    async def is_so(used: int, *, exhausted: bool) -> bool:
        quota = await client.get(SpiderIPQuota, "q", namespace)
        return quota.status is not None and (quota.status.used, quota.exhausted) == (used, exhausted)

    await eventually(lambda: is_so(0, exhausted=False), timeout=PATIENCE)
    for number in (1, 2):
        await hold(client, pool, f"10.88.0.{number}", namespace)
    await eventually(lambda: is_so(2, exhausted=True), timeout=PATIENCE)
    await client.delete(SpiderIP, "10.88.0.1")
    await eventually(lambda: is_so(1, exhausted=False), timeout=PATIENCE)


@asynccontextmanager
async def agent_cache(control_plane: ControlPlane) -> AsyncIterator[ClusterCache]:
    """What an agent knows of the cluster, under its own role."""
    account = control_plane.service_account_kubeconfig("kube-system", "spiderpool-agent")
    async with Client.load(account) as client:
        cache = ClusterCache(client, "n1")
        running = asyncio.create_task(cache.run())
        try:
            await cache.synced(PATIENCE)
            yield cache
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_agent_knows_a_quota_while_nothing_is_left_of_it(
    client: Client, control_plane: ControlPlane, namespace: str
) -> None:
    """The controller writes the label by which agents watch: to them a quota that loses it is deleted."""
    pool = await client.create(POOL)
    await client.create(SpiderIPQuota(metadata=ObjectMeta(name="q", namespace=namespace), spec=IPQuotaSpec(1)))
    async with agent_cache(control_plane) as cache:
        for _ in range(2):
            assert cache.exhausted_quota(namespace) is None
            await hold(client, pool, "10.88.0.1", namespace)
            await eventually(lambda: cache.exhausted_quota(namespace) == "q", "it knows it", timeout=PATIENCE)
            await client.delete(SpiderIP, "10.88.0.1")
            await eventually(lambda: cache.exhausted_quota(namespace) is None, "there is one left", timeout=PATIENCE)
        await client.patch(SpiderIPQuota, "q", {"spec": {"addresses": 0}}, namespace)
        await eventually(lambda: cache.exhausted_quota(namespace) == "q", "it knows it", timeout=PATIENCE)
    async with agent_cache(control_plane) as later:
        await eventually(lambda: later.exhausted_quota(namespace) == "q", "one that starts now lists it")
        await client.delete(SpiderIPQuota, "q", namespace)
        await eventually(lambda: later.exhausted_quota(namespace) is None, "there is one left", timeout=PATIENCE)


async def test_a_limit_below_zero_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPQuota", "metadata": {"name": "q"}}
    for spec in ({"addresses": -1}, {}):
        with pytest.raises(SpiderpoolError, match="addresses"):
            control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps({**kind, "spec": spec}))


async def test_whoever_writes_a_policy_for_our_pods_is_told_once(
    client: Client, control_plane: ControlPlane, namespace: str
) -> None:
    pool = await client.create(POOL)
    await hold(client, pool, "10.88.0.3", namespace)
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(POLICY))

    async def reported() -> int:
        events = await client.list(Event, namespace=namespace)
        return len([event for event in events if event.reason == "NotEnforced"])

    await eventually(reported, timeout=PATIENCE)
    changed = {**POLICY, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(changed))

    async def twice() -> bool:
        return await reported() == 2

    await eventually(twice, timeout=PATIENCE)
