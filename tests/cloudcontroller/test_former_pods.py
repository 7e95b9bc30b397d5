"""Whether pods that a Service no longer chooses still answer, by a pretend API server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.cloudcontroller import former_pods
from spiderpool.cloudcontroller.former_pods import FormerPods
from spiderpool.cloudcontroller.pod_reader import PodReader
from tests.core.pretend_balancers import HTTP, service
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

WEB = service(HTTP)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """An API server with pods."""
    async with ApiServer(GatedPod.KIND, SpiderIP.KIND) as found:
        yield found


def put(server: ApiServer, name: str, *true: str, **metadata: str) -> None:
    """A pod with conditions that are True."""
    status = {"conditions": [{"type": each, "status": "True"} for each in true]}
    body = {"metadata": {"name": name, "namespace": "default", **metadata}, "status": status}
    server.put(msgspec.convert(body, GatedPod))


def slices(server: ApiServer, *names: str, namespace: str | None = "default") -> list[EndpointSlice]:
    """The endpoints of the Service: pods with addresses ``10.0.0.<name>``."""
    pods = {pod.name: pod.metadata.uid for pod in server.stored(GatedPod).values()}
    listed = [
        Endpoint([f"10.0.0.{name}"], targetRef=ObjectReference(kind="Pod", name=name, namespace=namespace, uid=uid))
        for name, uid in pods.items()
        if name in names
    ]
    return [EndpointSlice(metadata=ObjectMeta(name="web-1"), addressType="IPv4", endpoints=listed)]


async def ready(former: FormerPods, *names: str) -> str:
    """Those of the pods that answer, by the last part of their addresses."""
    found = await former.ready(WEB, [f"10.0.0.{name}" for name in names])
    return " ".join(sorted(address.rpartition(".")[2] for address in found))


async def test_pods_that_are_there_and_ready_answer(server: ApiServer) -> None:
    async with server.client() as client:
        for name in ("1", "2", "3", "5"):
            put(server, name, "Ready")
        put(server, "4")
        put(server, "6", "Ready", deletionTimestamp="2026-01-01T00:00:00Z")
        former = FormerPods(PodReader(client))
        former.note(WEB, slices(server, "1", "2", "3", "4", "6"))
        former.note(WEB, slices(server, "5", namespace="another"))
        for gone in ("2", "3"):
            server.remove(server.stored(GatedPod)[f"default/{gone}"])
        put(server, "3", "Ready")  # another with its name
        assert await ready(former, "1", "2", "3", "4", "5", "6", "7") == "1"
        former.note(WEB, slices(server, "4"))
        former.forget_former(WEB.key)
        assert await ready(former, "1") == "", "nobody asks for it any more"


async def test_pods_that_were_the_last_ones_to_be_servers_are_known_until_others_are(server: ApiServer) -> None:
    async with server.client() as client:
        put(server, "1", "Ready")
        former = FormerPods(PodReader(client))
        former.note(WEB, slices(server, "1"))
        former.forget_former(WEB.key)  # the balancer has it
        former.note(WEB, slices(server))
        assert await ready(former, "1") == "1"
        former.forget_former(WEB.key)  # the balancer has none of it
        assert await ready(former, "1") == ""


async def test_the_last_former_pods_are_known(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_pods, "MOST_FORMER", 1)
    async with server.client() as client:
        former = FormerPods(PodReader(client))
        for name in ("1", "2", "3"):
            put(server, name, "Ready")
            former.note(WEB, slices(server, name))
        assert await ready(former, "1", "2", "3") == "2 3"


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, "1"),
        ({"namespace": "another"}, ""),
        ({"podUID": "of-a-former-pod"}, ""),
        ({"releasedAt": "2026-01-01T00:00:00Z"}, ""),
    ],
)
async def test_pods_that_were_endpoints_before_we_began_are_known_by_their_records(
    server: ApiServer, changes: dict[str, str], answers: str
) -> None:
    async with server.client() as client:
        put(server, "1", "Ready")
        spec = IPSpec(
            address="10.0.0.1/24",
            pool="p",
            node="n",
            namespace="default",
            pod="1",
            podUID=server.stored(GatedPod)["default/1"].metadata.uid or "",
            interface="eth0",
        )
        server.put(SpiderIP(metadata=ObjectMeta(name="10.0.0.1"), spec=replace(spec, **changes)))
        assert await ready(FormerPods(PodReader(client)), "1", "2") == answers


async def test_a_refusal_says_nothing_and_trouble_is_told(server: ApiServer) -> None:
    async with server.client() as client:
        put(server, "1", "Ready")
        former = FormerPods(PodReader(client))
        former.note(WEB, slices(server, "1"))
        server.inject(Fault("get", status=403))
        assert await ready(former, "1") == ""
        assert await ready(former, "1") == "1"
        former.forget(WEB.key)
        assert await ready(former, "1") == ""
