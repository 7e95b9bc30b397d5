"""spiderpool-cloud as a process of its own, under its own service account."""

from __future__ import annotations

import asyncio

import pytest

from tests.cloudcontroller.conftest import CloudCluster, Start
from tests.support.eventually import eventually


@pytest.mark.control_plane
async def test_one_of_two_replicas_works_and_the_other_takes_over(cloud_cluster: CloudCluster, start: Start) -> None:
    cloud_cluster.add_server("master")
    await cloud_cluster.add_node("master")
    one = start(cloud_cluster)
    await eventually(one.is_leading, timeout=30)
    two = start(cloud_cluster)
    await eventually(two.is_ready, timeout=30)
    assert not await two.is_leading()

    async def served(name: str) -> bool:
        node = await cloud_cluster.node(name)
        return node.spec.providerID == f"cn-hangzhou.i-{name}" and len(cloud_cluster.registered(f"eni-{name}-0")) == 3

    await eventually(lambda: served("master"), timeout=30)
    metrics = await one.get("/metrics")
    assert 'spiderpool_cloud_calls_total{action="AssignPrivateIpAddresses",outcome="OK"} 1.0' in metrics
    assert 'spiderpool_cloud_call_budget{action="AssignPrivateIpAddresses"} 400.0' in metrics
    one.process.kill()
    cloud_cluster.add_server("worker")
    await cloud_cluster.add_node("worker")
    await eventually(lambda: served("worker"), timeout=30)
    two.process.terminate()
    assert await asyncio.to_thread(two.process.wait, 5) == 0, two.log.read_text()
    secret = (cloud_cluster.simulated.secret / "accessKeySecret").read_text()
    assert secret not in one.log.read_text() + two.log.read_text()
    assert "Traceback" not in one.log.read_text() + two.log.read_text()
