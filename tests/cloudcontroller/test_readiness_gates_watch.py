"""How pods that wait for a load balancer are looked at, with a pretend API server: nothing of the cloud is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.cloudcontroller import readiness_gates
from spiderpool.cloudcontroller.pod_reader import PodReader
from spiderpool.cloudcontroller.readiness_gates import ReadinessGates
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.gates import PodNodes, places
from tests.core.pretend_balancers import model_of, options, service
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

GATE = "service.readiness.alibabacloud.com/web"
WEB = service({"port": 80}, annotations={"service.beta.kubernetes.io/backend-type": "eni"})


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """An API server with pods, which are looked at all the time."""
    monkeypatch.setattr(readiness_gates, "PAUSE", 0.01)
    async with ApiServer(GatedPod.KIND) as found:
        yield found


NO_NODES = PodNodes((), lambda _: None)


def gated(name: str, gate: str, *true: str) -> GatedPod:
    """A pod with a gate, and with conditions that are True."""
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"readinessGates": [{"conditionType": gate}]},
        "status": {"conditions": [{"type": each, "status": "True"} for each in true]},
    }
    return msgspec.convert(body, GatedPod)


def put(server: ApiServer, name: str, *true: str) -> None:
    """A pod with the gate of the Service, and with conditions that are True."""
    server.put(gated(name, GATE, *true))


def is_open(server: ApiServer, name: str) -> bool:
    """Whether the condition of a pod is True."""
    return server.stored(GatedPod)[f"default/{name}"].is_true(GATE)


def slices(server: ApiServer, *names: str) -> list[EndpointSlice]:
    """The endpoints of the Service, none of which is ready: pods with addresses 10.0.0.1, and so on."""
    pods = {pod.name: pod.metadata.uid for pod in server.stored(GatedPod).values()}
    listed = [
        Endpoint(
            [f"10.0.0.{number}"],
            EndpointConditions(ready=False),
            "a",
            ObjectReference(kind="Pod", name=name, namespace="default", uid=pods.get(name, "uid-gone")),
        )
        for number, name in enumerate(names, 1)
    ]
    metadata = ObjectMeta(name="web-1", namespace="default")
    return [EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=[EndpointPort("", 80, "TCP")])]


async def test_a_service_is_reconciled_again_only_when_containers_have_become_ready(server: ApiServer) -> None:
    put(server, "waits")
    notified: list[str] = []
    async with server.client() as client:
        gates = ReadinessGates(client, PodReader(client), notified.append)
        found = slices(server, "waits")
        assert await gates.admit(WEB, options("clb", {}), found, NO_NODES) == found
        async with running(gates.run()):
            await eventually(lambda: server.requests["get"] > 5)
            assert notified == []
            put(server, "waits", "ContainersReady")
            await eventually(lambda: notified == ["default/web"])
            looks = server.requests["get"]
            put(server, "waits")
            admitted = await gates.admit(WEB, options("clb", {}), slices(server, "waits"), NO_NODES)
            await eventually(lambda: server.requests["get"] > looks + 3)
            assert not any(each.ready for item in admitted for each in item.endpoints or ())
            assert notified == ["default/web"]


async def test_pods_are_looked_at_in_turn_and_no_more_than_some_at_a_time(server: ApiServer) -> None:
    names = [f"waits-{number}" for number in range(5)]
    for name in names:
        put(server, name)
    async with server.client() as client:
        gates = ReadinessGates(client, PodReader(client), pytest.fail)
        await gates.admit(WEB, options("clb", {}), slices(server, *names), NO_NODES)
        before = server.requests["get"]
        assert [await gates.look("default/web", 3) for _ in range(2)] == [3, 3]
        assert server.requests["get"] == before + 6
        notified: list[str] = []
        gates = ReadinessGates(client, PodReader(client), notified.append)
        await gates.admit(WEB, options("clb", {}), slices(server, *names), NO_NODES)
        put(server, "waits-4", "ContainersReady")
        await gates.look("default/web", 3)
        assert notified == []
        await gates.look("default/web", 3)
        assert notified == ["default/web"], "its turn came second"


async def test_one_service_with_many_pods_keeps_no_other_waiting(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness_gates, "MOST_READS", 2)
    names = [f"waits-{number}" for number in range(5)]
    for name in (*names, "other"):
        put(server, name)
    other = service({"port": 80})
    other.metadata.uid, other.metadata.name = "uid-other", "other"
    async with server.client() as client:
        notified: list[str] = []
        gates = ReadinessGates(client, PodReader(client), notified.append)
        await gates.admit(WEB, options("clb", {}), slices(server, *names), NO_NODES)
        server.put(gated("other", "service.readiness.alibabacloud.com/other"))
        await gates.admit(other, options("clb", {}), slices(server, "other"), NO_NODES)
        server.put(gated("other", "service.readiness.alibabacloud.com/other", "ContainersReady"))
        async with running(gates.run()):
            await eventually(lambda: notified == ["default/other"])


async def test_a_pod_that_is_gone_is_looked_at_no_more(server: ApiServer) -> None:
    put(server, "waits")
    async with server.client() as client:
        gates = ReadinessGates(client, PodReader(client), pytest.fail)
        await gates.admit(WEB, options("clb", {}), slices(server, "waits", "gone"), NO_NODES)
        server.remove(server.stored(GatedPod)["default/waits"])
        before = server.requests["get"]
        await gates.look("default/web")
        await gates.look("default/web")
        assert server.requests["get"] == before + 1


@pytest.mark.parametrize("has_server", [True, False])
async def test_a_condition_that_could_not_be_written_is_written_later(server: ApiServer, has_server: bool) -> None:
    put(server, "waits", "ContainersReady")
    async with server.client() as client:
        gates = ReadinessGates(client, PodReader(client), pytest.fail)
        admitted = await gates.admit(WEB, options("clb", {}), slices(server, "waits"), NO_NODES)
        model = model_of(WEB, BackendSnapshot((), admitted, {"10.0.0.1": "eni-1"}))
        server.inject(Fault("patch", times=20, status=503))
        await gates.open(WEB, model, places(model.groups) if has_server else ())
        assert gates.has_closed("default/web") == (not has_server)
        assert not is_open(server, "waits")
        server.clear_faults()
        await gates.look("default/web")
        assert is_open(server, "waits") == has_server


async def test_without_a_balancer_all_pods_are_let_go(server: ApiServer) -> None:
    put(server, "starting")
    put(server, "waits", "ContainersReady")
    put(server, "open", GATE)
    async with server.client() as client:
        gates = ReadinessGates(client, PodReader(client), pytest.fail)
        await gates.admit(WEB, options("clb", {}), slices(server, "starting", "waits", "open"), NO_NODES)
        await gates.release(WEB, CLB, slices(server, "starting", "waits", "open"))
        assert [is_open(server, name) for name in ("starting", "waits", "open")] == [True, True, True]
        assert server.requests["patch"] == 2
        assert not gates.has_closed("default/web")
