"""What pods request is learned of them one by one, within bounds, and again when what decides about it changes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from spiderpool.api.address_resources import RequestingPod
from spiderpool.api.core_v1 import Event, Namespace, Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.controller import requested_resources
from spiderpool.controller.requested_resources import PodListers, RequestedResources
from spiderpool.core.annotations import POOL
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.address_requests import AddressRequirement, RequirementRules
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

OURS = "kube-system"
DEFAULT = AddressRequirement(f"{OURS}/a")
WHILE = 0.1
"""Seconds for what must not happen."""


def network(key: str) -> NetworkAttachmentDefinition:
    namespace, _, name = key.partition("/")
    plugin = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
    config = json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})
    return NetworkAttachmentDefinition(metadata=ObjectMeta(name=name, namespace=namespace), spec=NADSpec(config=config))


def pod(name: str, resources: Sequence[str], namespace: str = "team", **annotations: str) -> RequestingPod:
    body = {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "annotations": annotations},
        "spec": {"containers": [{"resources": {"requests": dict.fromkeys(resources, "1")}}]},
    }
    return msgspec.convert(body, RequestingPod)


def with_list(number: int, namespace: str = "team") -> RequestingPod:
    """A pod with a list of pools of its own."""
    return pod(f"p{number}", [resource(number)], namespace, **{POOL: json.dumps({"ipv4": [f"p{number}"]})})


def resource(number: int) -> str:
    return AddressRequirement(DEFAULT.network, ((4, (f"p{number}",)),)).resource


@dataclass
class Requested:
    """The resources that pods request, with a count of what is read for them."""

    client: Client
    networks: dict[str, NetworkAttachmentDefinition] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.networks[f"{OURS}/a"] = network(f"{OURS}/a")
        self.pods: Informer[Pod] = Informer(self.client, RequestingPod)
        listers = PodListers(self.pods, Informer(self.client, Namespace))
        rules = RequirementRules(AttachmentPolicy(f"{OURS}/a", OURS), AddressPolicy(families=(4,)), self._definition)
        self.recorder = Recorder(self.client, "c")
        self.resources = RequestedResources(listers, rules, lambda: None, self.recorder)
        self.pods.subscribe(self._on_pod)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        self.resources.follow(old, new)

    def _definition(self, key: str) -> NetworkAttachmentDefinition | None:
        self.reads[key] += 1
        return self.networks.get(key)

    def add(self, *pods: Pod) -> None:
        for each in pods:
            self.pods.note(each)

    def add_network(self, key: str) -> None:
        self.networks[key] = network(key)
        self.resources.on_network(key, exists=True)

    async def knows(self, *expected: str) -> None:
        """Wait until this is advertised, beside the default network."""
        wanted = {DEFAULT.resource, *expected}
        await eventually(lambda: self.resources.requirements.keys() == wanted, str(wanted))
        await asyncio.sleep(WHILE)
        assert self.resources.requirements.keys() == wanted


@asynccontextmanager
async def requested() -> AsyncIterator[Requested]:
    async with ApiServer(Pod.KIND) as server, server.client() as client:
        made = Requested(client)
        async with running(made.resources.run()):
            yield made


async def test_a_pod_with_many_invented_names_is_looked_at_once_and_only_for_what_concerns_it() -> None:
    keys = [f"team/n{number}" for number in range(20)]
    invented = [f"addresses.spidernet.io/x{number}" for number in range(20)]
    async with requested() as made:
        for key in keys:
            made.networks[key] = network(key)
        made.add(pod("a", invented, **{NETWORKS_ANNOTATION: ",".join(keys)}))
        assert not made.reads, "not in the event"
        await eventually(lambda: made.reads[keys[-1]])
        await asyncio.sleep(WHILE)
        once = Counter(made.reads)
        made.resources.on_namespace("other")
        made.resources.on_network("team/other", exists=True)
        await asyncio.sleep(WHILE)
        assert made.reads == once
        made.resources.on_namespace("team")
        made.resources.on_network(keys[3], exists=True)
        assert made.reads == once
        await eventually(lambda: made.reads[keys[-1]] == 2 * once[keys[-1]])
        await made.knows()
        assert made.reads[keys[-1]] == 2 * once[keys[-1]]


async def test_a_pod_that_came_before_its_network() -> None:
    wanted = AddressRequirement("team/b").resource
    async with requested() as made:
        made.add(pod("a", [wanted], **{NETWORKS_ANNOTATION: "b"}), pod("lie", [wanted], "other"))
        await made.knows()
        made.add_network("team/b")
        await made.knows(wanted)


async def test_a_namespace_has_room_for_so_many_and_gets_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requested_resources, "MOST_OF_NAMESPACE", 2)
    monkeypatch.setattr(requested_resources, "LINGER", 0.2)
    async with requested() as made:
        made.add(*map(with_list, range(5)), with_list(7, "other"))
        await made.knows(resource(0), resource(1), resource(7))
        assert capsys.readouterr().out.count("too many lists of pools") == 1
        made.pods.forget(with_list(1))
        await made.knows(resource(0), resource(2), resource(7))


async def test_all_together_have_room_for_so_many_and_our_networks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requested_resources, "MOST", 4)
    monkeypatch.setattr(requested_resources, "MOST_OF_OTHERS", 2)
    monkeypatch.setattr(requested_resources, "LAST_ROOM", 0)
    monkeypatch.setattr(requested_resources, "PART_OF_FREE", 1)
    ours = [AddressRequirement(f"{OURS}/n{number}").resource for number in range(3)]
    async with requested() as made:
        made.add(*(with_list(number, f"team{number}") for number in range(4)))
        await made.knows(resource(0), resource(1))
        made.add(pod("a", ours))
        for number in range(3):
            made.add_network(f"{OURS}/n{number}")
        await made.knows(resource(0), resource(1), *ours[:2])


async def test_namespaces_that_take_what_they_can_leave_room_for_another() -> None:
    """Also an Event at a pod says so, one for each Namespace."""
    async with ApiServer(Pod.KIND, Event.KIND) as server, server.client() as client:
        made = Requested(client)
        async with running(made.resources.run(), made.recorder.run()):
            for number in range(6 * 40):
                made.add(with_list(number, f"team{number % 6}"))
            await eventually(lambda: len(made.resources.requirements) > 6 * 20, "as many as there may be")
            made.add(*(with_list(1000 + number, "late") for number in range(3)))
            late = {resource(1000 + number) for number in range(3)}
            await eventually(lambda: late <= made.resources.requirements.keys(), "there is room for the last one")
            await eventually(lambda: len(server.stored(Event)) == 6, "each of the six is told")
            told = [*server.stored(Event).values()]
            assert {(each.reason, each.type) for each in told} == {("TooManyPoolLists", "Warning")}
            assert {each.involvedObject.namespace for each in told} == {f"team{number}" for number in range(6)}


async def test_the_last_room_is_for_namespaces_that_have_none() -> None:
    async with ApiServer(Pod.KIND, Event.KIND) as server, server.client() as client:
        made = Requested(client)
        async with running(made.resources.run(), made.recorder.run()):
            for number in range(20 * 26):
                made.add(with_list(number, f"team{number % 20}"))
            await eventually(lambda: len(made.resources.requirements) > 150, "as many as there may be")
            late = {resource(1000 + number) for number in range(20)}
            made.add(*(with_list(1000 + number, f"late{number}") for number in range(20)))
            await eventually(lambda: late <= made.resources.requirements.keys(), "there is room for each of them")


async def test_a_name_like_that_of_our_networks_is_none_of_them() -> None:
    invented = [AddressRequirement(f"{OURS}/x{number}").resource for number in range(40)]
    async with requested() as made:
        made.add(*(pod(f"a{number}", [name]) for number, name in enumerate(invented)))
        made.add_network(f"{OURS}/x39")
        await made.knows(invented[39])
        made.resources.on_network(f"{OURS}/x39", exists=False)
        made.add(with_list(1, "other"))
        await made.knows(invented[39], resource(1))


async def test_what_a_pod_needs_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requested_resources, "MOST_REMEMBERED", 2)
    async with requested() as made:
        needs = made.resources.of_pods
        first = with_list(0)
        assert needs.of(first) is needs.of(first)
        changed = needs.of(pod("p0", []))
        assert [each.resource for each in changed] == [DEFAULT.resource]
        assert needs.forget_network(f"{OURS}/a") == ["team/p0"]
        assert needs.forget_namespace("team") == []
        for number in range(3):
            needs.of(with_list(number))
        assert needs.forget_namespace("team") == ["team/p1", "team/p2"], "the oldest is gone"


async def test_pods_that_wait_for_a_node() -> None:
    body: dict[str, Any] = msgspec.to_builtins(pod("a", [DEFAULT.resource]))
    async with requested() as made:
        waiting = pod("a", [DEFAULT.resource])
        placed = msgspec.convert(body | {"spec": body["spec"] | {"nodeName": "n"}}, RequestingPod)
        assert made.resources.follow(None, waiting)
        assert made.resources.unplaced == [DEFAULT.resource]
        assert not made.resources.follow(None, pod("b", [DEFAULT.resource]))
        assert not made.resources.follow(waiting, placed)
        assert made.resources.follow(pod("b", [DEFAULT.resource]), None)
        assert made.resources.unplaced == []
