"""NetworkPolicies that select pods with addresses of ours: one Event for each version, and a metric."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from spiderpool.api.core_v1 import Event, Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import LabelSelector, ObjectMeta, SelectorRequirement
from spiderpool.api.networking_v1 import NetworkPolicy, NetworkPolicySpec
from spiderpool.controller import network_policies
from spiderpool.controller.network_policies import UnenforcedPolicyReporter
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import UNENFORCED_POLICIES
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

NAMESPACE = "shop"
SETTLED = 0.3
"""Seconds after which what was going to be written has been."""


def pod(name: str, **labels: str) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace=NAMESPACE, uid=f"uid-{name}", labels=labels))


def address(name: str, number: int) -> SpiderIP:
    text = f"10.6.0.{number}"
    spec = IPSpec(f"{text}/24", "pool", "node", NAMESPACE, name, f"uid-{name}", "eth0")
    return SpiderIP(metadata=ObjectMeta(name=text), spec=spec)


def policy(name: str, selector: LabelSelector | None = None, namespace: str = NAMESPACE) -> NetworkPolicy:
    metadata = ObjectMeta(name=name, namespace=namespace)
    return NetworkPolicy(metadata=metadata, spec=NetworkPolicySpec(selector or LabelSelector()))


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(network_policies, "DEBOUNCE", 0.02)
    async with ApiServer(Event.KIND, Pod.KIND, SpiderIP.KIND, NetworkPolicy.KIND) as server:
        yield server


@asynccontextmanager
async def leader(server: ApiServer) -> AsyncIterator[None]:
    """A leader that reports, until the context ends."""
    async with server.client() as client:
        pods, ips, recorder = Informer(client, Pod), Informer(client, SpiderIP), Recorder(client, "tests")
        reporter = UnenforcedPolicyReporter(client, ips, pods, recorder)
        async with running(pods.run(), ips.run(), recorder.run(), reporter.run()):
            yield


def reported(server: ApiServer) -> list[str]:
    events = server.stored(Event).values()
    return sorted(event.involvedObject.name or "" for event in events if event.reason == "NotEnforced")


async def create(server: ApiServer, *objects: Pod | SpiderIP | NetworkPolicy) -> None:
    async with server.client() as client:
        for each in objects:
            await client.create(each)


def counted() -> float | None:
    """What the metric says; None: nothing."""
    samples = [each.value for metric in UNENFORCED_POLICIES.collect() for each in metric.samples]
    return samples[0] if samples else None


async def test_only_those_that_select_a_pod_of_ours_are_reported(server: ApiServer) -> None:
    await create(server, pod("ours", app="web"), address("ours", 1), pod("host", app="host"))
    await create(server, policy("all"), policy("web", LabelSelector({"app": "web"})))
    await create(server, policy("host", LabelSelector({"app": "host"})), policy("elsewhere", namespace="other"))
    async with leader(server):
        await eventually(lambda: reported(server) == ["all", "web"], "two are reported")
        await asyncio.sleep(SETTLED)
        assert counted() == 2
    assert reported(server) == ["all", "web"]
    assert counted() is None, "only the leader knows it"


async def test_it_is_reported_once_its_first_pod_comes(server: ApiServer) -> None:
    await create(server, policy("web", LabelSelector({"app": "web"})))
    async with leader(server):
        await asyncio.sleep(SETTLED)
        assert reported(server) == []
        await create(server, pod("ours", app="web"), address("ours", 1))
        await eventually(lambda: reported(server) == ["web"], "it is reported")


async def test_the_next_leader_reports_none_again(server: ApiServer) -> None:
    await create(server, pod("ours"), address("ours", 1), policy("all"))
    for _ in range(2):
        async with leader(server):
            await eventually(lambda: counted() == 1, "it is known")
            await asyncio.sleep(SETTLED)
            assert reported(server) == ["all"]


async def test_the_metric_forgets_one_that_is_deleted(server: ApiServer) -> None:
    await create(server, pod("ours"), address("ours", 1), policy("all"))
    async with leader(server), server.client() as client:
        await eventually(lambda: counted() == 1, "it is known")
        await client.delete(NetworkPolicy, "all", NAMESPACE)
        await eventually(lambda: counted() == 0, "it is forgotten")


async def test_a_selector_without_end_costs_no_comparison(server: ApiServer) -> None:
    long = LabelSelector(matchExpressions=[SelectorRequirement("app", "In", [str(number) for number in range(50_000)])])
    await create(server, pod("ours"), address("ours", 1), policy("long", long))
    async with leader(server):
        await eventually(lambda: reported(server) == ["long"], "it is reported")
