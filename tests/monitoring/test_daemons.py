"""A real controller and real agents at work: what a real Prometheus reads of them, and what the panels show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripts import generate_metrics

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.ports import free_ports
from tests.agent.conftest import MakeAgent, MakePods
from tests.controller.conftest import start_controller, unregister, wait
from tests.monitoring.prometheus import Prometheus, prometheus
from tests.monitoring.rendered import queries, rules
from tests.monitoring.test_names import NAME
from tests.support.eventually import wait_until
from tests.support.local_agent import LocalAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

RARE = {
    *("spiderpool_unregistered_addresses", "spiderpool_webhook_dropped_connections_total"),
    *("spiderpool_metadata_readings_total", "spiderpool_subnet_addresses", "spiderpool_subnet_free_addresses"),
    "spiderpool_subnet_full_ippools",
    *(rule["record"] for rule in rules("record")),
}
"""What has no series here: without a cloud, subnets and callers that misbehave, and without a history of days."""
CLOUD = {name for each in generate_metrics.described() if each.daemon == "spiderpool-cloud" for name in each.series}


@contextmanager
def controller(plane: ControlPlane, folder: Path) -> Iterator[int]:
    """A controller that leads; its port of metrics."""
    running = start_controller(plane, folder)
    try:
        wait(running, lambda: running.is_ready and running.is_leading, "it leads")
        yield int(running.health.rpartition(":")[2])
        plane.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
        plane.kubectl("delete", "spiderips,spiderippools", "--all")  # while somebody takes the pools' finalizer
        running.stop()
    finally:
        running.kill()
        unregister(plane)


def shown(server: Prometheus, query: str) -> float | None:
    """The value of the only series of a query."""
    found = server.query(query)
    assert len(found) < 2, found
    return float(found[0]["value"][1]) if found else None


async def fill_pool(agent: LocalAgent, pods: dict[str, str]) -> None:
    """Attach pods one after the other; the last one finds the pool full."""
    *most, last = sorted(pods)
    for name in most:
        assert "ips" in await agent.address("ADD", "default", name, pods[name])
    refusal = await agent.address("ADD", "default", last, pods[last])
    assert "3 of 3 addresses in use" in refusal["msg"]


def test_they_show_what_happens(
    control_plane: ControlPlane,
    make_agent: MakeAgent,
    make_pods: MakePods,
    pool: Callable[..., None],
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    with controller(control_plane, tmp_path / "controller") as controllers_port:
        pool("small", "10.9.0.1-10.9.0.3")
        agent = make_agent("n1", SPIDERPOOL_ENABLED_METRIC="true", SPIDERPOOL_METRIC_HTTP_PORT=str(port))
        with prometheus(tmp_path, {"agent": port, "controller": controllers_port}) as server:
            wait_until(lambda: len(server.query("up == 1")) == 2, "both are read", timeout=30)
            asyncio.run(fill_pool(agent, make_pods(4, ["n1"])))
            full = 'spiderpool_ippool_free_addresses{pool="small"}'
            wait_until(lambda: shown(server, full) == 0.0, "the pool is full", timeout=30)
            assert shown(server, 'spiderpool_ippool_addresses{pool="small"}') == 3
            refused = 'spiderpool_ipam_refusal_counts_total{reason="exhausted"}'
            wait_until(lambda: shown(server, refused) == 1.0, "the refusal is counted", timeout=10)
            claims = 'spiderpool_add_stage_duration_seconds_count{job="agent",stage="claim"}'
            assert shown(server, claims) == 4
            expiry = shown(server, 'spiderpool_certificate_expiry_timestamp_seconds{certificate="serving"}') or 0.0
            assert 364 < (expiry - time.time()) / 86_400 <= 365
            kinds = {each["metric"]["kind"] for each in server.query("spiderpool_cache_age_seconds < 90")}
            assert {"spiderippools", "spiderips", "pods", "nodes"} <= kinds
            wait_until(lambda: panels_without_data(server) == [], "every panel shows something", timeout=10)
            assert server.failing_rules() == []
            told = {"SpiderpoolPoolFull", "SpiderpoolAllocationFails"}
            wait_until(lambda: alerts(server) == told, "both alerts, and no other", timeout=30)


def alerts(server: Prometheus) -> set[str]:
    """The names of the alerts that are pending or fire."""
    return {each["metric"]["alertname"] for each in server.query("ALERTS")}


def panels_without_data(server: Prometheus) -> list[str]:
    """Panels about agent and controller that show nothing."""
    asked = {where: query for where, query in queries().items() if not {*NAME.findall(query)} & (RARE | CLOUD)}
    assert len(asked) > 20
    return [where for where, query in asked.items() if not server.query(query)]
