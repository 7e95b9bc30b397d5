"""Services change hands from the cloud's own controller to ours and back: it finds its marks as it left them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from spiderpool.api.discovery_v1 import SERVICE_LABEL, Endpoint, EndpointPort, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool_lab.admin_client import AdminClient
from spiderpool_lab.alibaba.admin import Admin
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.switching.services import SERVICES, VSWITCH, ZONE_MAPS, SwitchedService
from spiderpool_lab.switching.stage import ServicesOfPlane, SwitchStage
from tests.cloudcontroller.service_cluster import NAMESPACE, ZONES, Limits, ServiceCluster

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]

PODS = {"everywhere": (("172.31.192.10", "a"), ("172.31.192.20", "b")), "somewhere": (("172.31.192.11", "a"),)}
CHOSEN = [each for each in SERVICES if each.name in ("clb-lent", "clb-https", "clb-tuned", "nlb-pods")]
"""Some of the Services; tests/lab/test_switching.py has plans for all of them."""
NAMED = {"http": 80}
"""Name of a container's port → its number."""


async def publish(cluster: ServiceCluster, service: SwitchedService, *more: tuple[str, str]) -> None:
    """The endpoints of a Service, with further pods."""
    metadata = ObjectMeta(name=f"{service.name}-1", namespace=NAMESPACE, labels={SERVICE_LABEL: service.name})
    listed = [Endpoint([address], nodeName=node) for address, node in (*PODS[service.app], *more)]
    ports = [
        EndpointPort(each.get("name", ""), NAMED.get(each["targetPort"], each["targetPort"]), each["protocol"])
        for each in service.ports
    ]
    body = EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=ports)
    await cluster.client.apply(EndpointSlice, msgspec.to_builtins(body), metadata.name, NAMESPACE)


@pytest.fixture
async def stage(cluster: ServiceCluster, control_plane: ControlPlane) -> AsyncIterator[SwitchStage]:
    """Services that the other controller serves, and ours does not."""
    await cluster.running.aclose()
    cluster.limits = Limits(of_namespace=0, of_cluster=0)
    account = cluster.simulated.account
    async with Admin(account).serve() as endpoint:
        admin = AdminClient(int(endpoint.url.rpartition(":")[2]))
        stored, vpc = ServicesOfPlane(control_plane), account.vpc.identity
        stage = SwitchStage(stored, admin, cluster_id="c1", vpc=vpc, services=CHOSEN)
        await asyncio.to_thread(stage.create, {ZONE_MAPS: ZONES["zone-maps"], VSWITCH: "vsw-1"})
        for service in stage.services:
            await publish(cluster, service)
        assert len(await asyncio.to_thread(stage.serve_by_other)) > len(stage.services)
        await asyncio.to_thread(stage.set_at_console)
        yield stage


async def looked_at(cluster: ServiceCluster, stage: SwitchStage) -> None:
    """Wait until our reconciler has looked at each balancer, and then for as long again."""
    identities = {held.identity for held in (await asyncio.to_thread(stage.holdings)).values()}
    for _ in range(2):
        begin = len(cluster.simulated.account.calls)

        def seen(begin: int = begin) -> bool:
            calls = cluster.simulated.account.calls[begin:]
            return identities <= {text for call in calls for text in call.parameters.values()}

        await cluster.until(seen)


async def test_nothing_is_changed_there_and_back(
    cluster: ServiceCluster, control_plane: ControlPlane, stage: SwitchStage
) -> None:
    assert await asyncio.to_thread(stage.serve_by_other) == []
    before = await asyncio.to_thread(stage.holdings)
    await asyncio.to_thread(stage.new_changes)
    await cluster.start(control_plane)
    await looked_at(cluster, stage)
    await cluster.running.aclose()
    later = await asyncio.to_thread(stage.holdings)
    assert [text for name, held in before.items() for text in held.changes(later[name])] == []
    assert await asyncio.to_thread(stage.new_changes) == {}
    assert await asyncio.to_thread(stage.unmarked) == []
    await asyncio.to_thread(stage.forget_hashes)
    assert await asyncio.to_thread(stage.serve_by_other) == []
