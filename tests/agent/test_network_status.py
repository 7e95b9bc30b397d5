"""From the ADD to the pod's annotation: the agent notes and publishes what it made, and the controller writes it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from spiderpool.agent.attachment_store import AttachmentStore, SandboxRecord
from spiderpool.agent.containers import Containers
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import STATUS_ANNOTATION, NetworkDNS, NetworkStatusEntry
from spiderpool.api.spidernode import SandboxInterface, SpiderNode
from spiderpool.controller.network_status import NetworkStatusReconciler
from spiderpool.kube.informer import Informer
from tests.agent.sandbox_node import SandboxNode, sandbox_node
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit


@asynccontextmanager
async def with_controller(folder: Path) -> AsyncIterator[SandboxNode]:
    """A node with the pod ``p``, its agent's account, and the controller."""
    async with sandbox_node(folder) as one:
        client = one.node.client
        accounts, pods = Informer(client, SpiderNode), Informer(client, Pod)
        reconciler = NetworkStatusReconciler(client, accounts, pods)
        async with running(*(each.run() for each in (accounts, pods, reconciler, one.node.account))):
            yield one


async def attach(one: SandboxNode, container: str) -> None:
    one.node.kernel[f"/run/netns/n1/{container}"] = [SandboxInterface("eth0", None, ["10.0.0.1"])]
    await one.attach(container)


def annotation(one: SandboxNode) -> str | None:
    return (one.node.server.stored(Pod)["default/p"].metadata.annotations or {}).get(STATUS_ANNOTATION)


async def test_the_annotation_follows_the_add_by_the_account_of_the_node(tmp_path: Path) -> None:
    async with with_controller(tmp_path) as one:
        await attach(one, "c")
        assert annotation(one) is None, "no pod waits for it"
        await eventually(lambda: annotation(one), timeout=10)
        (entry,) = json.loads(annotation(one) or "")
        assert (entry["name"], entry["interface"], entry["default"]) == ("kube-system/default", "eth0", True)
        assert entry["ips"] == [*one.node.records]


def test_of_two_sandboxes_of_a_pod_the_later_one_is_told(tmp_path: Path) -> None:
    attached, chained = AttachmentStore(tmp_path / "attached"), AttachmentStore(tmp_path / "chained")
    entry = NetworkStatusEntry("ns/a", "eth0", NetworkDNS())
    for container, uid, attached_at in (("z-former", "u", 1.0), ("present", "u", 2.0), ("other", "v", 0.0)):
        made = SandboxRecord(container, f"/run/netns/{container}", "", (), pod_uid=uid, attached_at=attached_at)
        attached.save(replace(made, status=(entry,)))
    sandboxes = NodeSandboxes(attached, chained, Containers(tmp_path / "addressed"))
    told = {name: each.seen(None).networks for name, each in sandboxes.on_file().items()}
    assert told == {"z-former": None, "present": [entry], "other": [entry]}
