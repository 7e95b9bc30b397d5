"""The leading controller where the cluster lacks something."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool import daemon
from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Event, Node, Pod, Secret, Service
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.ipquota import EXHAUSTED_LABEL, IPQuotaSpec, SpiderIPQuota
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.certificates import Certificates
from spiderpool.controller.main import ControllerLeader
from spiderpool.settings import ControllerSettings
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


async def test_without_the_crd_of_the_accounts_only_the_collection_waits() -> None:
    async with ApiServer() as server, server.client() as client:
        leader = ControllerLeader(client, ControllerSettings(identity="x"), Certificates(client, "kube-system", ()))
        (accounts,) = (each for each in leader._informers() if each._kind is SpiderNode)
        task = asyncio.create_task(accounts.run())
        await accounts.synced(5.0)
        assert accounts.items() == []
        task.cancel()
        await asyncio.wait([task])


KINDS = (
    *(SpiderIPPool, SpiderIP, Pod, SpiderMultusConfig, NetworkAttachmentDefinition, SpiderCoordinator, ConfigMap, Node),
    *(SpiderNode, Service, SpiderEndpoint, SpiderSubnet, SpiderReservedIP, Event, Secret),
    *(MutatingWebhookConfiguration, ValidatingWebhookConfiguration),
)


async def test_without_the_objects_of_the_installation_the_rest_of_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemon, "SYNC_TIMEOUT", 1.0)
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server, server.client() as client:
        spec = IPPoolSpec(subnet="10.6.0.0/16", ips=["10.6.0.1-10.6.0.9"])
        server.put(SpiderIPPool(metadata=ObjectMeta(name="p"), spec=spec))
        certificates = Certificates(client, "kube-system", ())
        leader = ControllerLeader(client, ControllerSettings(identity="x"), certificates)
        task = asyncio.create_task(leader.run())

        def counted() -> bool:
            status = server.stored(SpiderIPPool)["p"].status
            return status is not None and status.totalIPCount == 9

        await eventually(counted, "the pool has its status")
        assert leader.not_ready_reason == "the webhooks are not registered: no certificate is loaded"
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_a_leader_mends_the_marks_of_quotas_that_became_wrong_while_nobody_led(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemon, "SYNC_TIMEOUT", 1.0)
    spec = IPSpec("10.6.0.1/16", "p", "n1", "shop", "web-1", "uid", "eth0")
    spent = SpiderIPQuota(metadata=ObjectMeta(name="spent", namespace="shop"), spec=IPQuotaSpec(1))
    stale = SpiderIPQuota(
        metadata=ObjectMeta(name="stale", namespace="blog", labels={EXHAUSTED_LABEL: "true"}), spec=IPQuotaSpec(1)
    )
    async with ApiServer(*(kind.KIND for kind in (*KINDS, SpiderIPQuota))) as server, server.client() as client:
        server.put(SpiderIP(metadata=ObjectMeta(name="10.6.0.1"), spec=spec), spent, stale)
        certificates = Certificates(client, "kube-system", ())
        task = asyncio.create_task(ControllerLeader(client, ControllerSettings(identity="x"), certificates).run())

        def marked() -> list[str]:
            return [key for key, quota in server.stored(SpiderIPQuota).items() if quota.exhausted]

        await eventually(lambda: marked() == ["shop/spent"], "exactly the quota of which nothing is left is marked")
        task.cancel()
        await asyncio.wait([task])
