"""What late calls and garbage collection leave alone: pods that the cache lacks, and sandboxes being attached."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest

from spiderpool.agent.address_holders import AddressHolders
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.api.core_v1 import Pod
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import SpiderpoolError
from tests.agent.sandbox_node import sandbox_node
from tests.support.api_server import Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


async def test_a_sandbox_whose_add_is_under_way_is_no_garbage(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        adding = asyncio.create_task(one.attach("c"))
        await eventually(lambda: [*one.attacher.sandboxes()])
        assert await one.attacher.collect("ours", set()) == []
        await adding
        assert [each.container_id for each in one.attacher.sandboxes()] == ["c"]
        assert list(one.node.records.values()) == ["p"]
        assert await one.attacher.collect("ours", set()) == []
        assert not [*one.attacher.sandboxes()], "the runtime says so, and nobody works on it"


async def test_a_late_del_leaves_the_address_to_a_sandbox_that_has_no_interface_yet(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        await one.attach("former")
        adding = asyncio.create_task(one.attach("present"))
        await eventually(lambda: one.given("present"), "its address, for which it looks for others that use it")
        assert not await one.kernel.has_link("/run/netns/n1/present", "eth0")
        one.node.cluster.pods.forget(one.node.server.stored(Pod)["default/p"])
        await one.detach("former")
        assert list(one.node.records.values()) == ["p"]
        await adding
        await one.detach("present")
        assert one.node.records == {}


async def test_the_address_of_a_pod_that_the_cache_does_not_show_yet_is_no_garbage(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        first = await one.node.add("p", "c")
        one.node.containers.forget(one.node.uids["p"], "eth0", "c")
        stored = one.node.server.stored(Pod)["default/p"]
        one.node.cluster.pods.forget(stored)
        await one.gc.collect_addresses()
        assert one.node.records == {first: "p"}
        one.node.server.remove(stored)
        await one.gc.collect_addresses()
        assert one.node.records == {}


def broken(container: str, *interfaces: InterfaceRecord, netns: str = "") -> SandboxRecord:
    """A sandbox whose file leads to a bug of ours, which is no error of ours."""
    return SandboxRecord(container, netns or f"\0{container}", "", interfaces, "ours")


class TestBugs:
    """What one sandbox, pod or interface makes go wrong keeps no other from its due."""

    async def test_a_sandbox_that_cannot_be_removed(self, tmp_path: Path) -> None:
        async with sandbox_node(tmp_path) as one:
            namespace = one.kernel.create("a", "default/other", "uid-of-other")
            one.kernel.create_link(namespace, "eth0")
            (tmp_path / "plugin").touch()
            executed = InterfaceRecord("net\0", "", chain="n", version="1.0.0", plugins=('{"type": "plugin"}',))
            sandbox = broken("a", InterfaceRecord("eth0", ""), executed, netns=namespace.path)
            AttachmentStore(tmp_path / "sandboxes").save(sandbox)
            await one.attach("c")
            assert [str(each) for each in await one.attacher.collect("ours", set())] == [
                "internal error of spiderpool-agent: ValueError('embedded null byte'); see its log"
            ]
            assert [each.container_id for each in one.attacher.sandboxes()] == ["a"]
            assert not namespace.links, "nor does an interface keep another one"

    async def test_a_veth_pair_that_cannot_be_removed(self, tmp_path: Path) -> None:
        async with sandbox_node(tmp_path) as one:
            for container in ("a", "b"):
                sandbox = broken(container, InterfaceRecord("eth0", "", coordinated=True, chain="ours"))
                AttachmentStore(tmp_path / "chained").save(sandbox)
            assert len(await one.coordinator.collect("ours", set())) == 2

    async def test_a_pod_whose_routes_cannot_be_updated(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with sandbox_node(tmp_path) as one:
            for container in ("a", "b"):
                sandbox = broken(container, InterfaceRecord("eth0", "", coordinated=True, addresses=("no address",)))
                AttachmentStore(tmp_path / "chained").save(sandbox)
            assert await one.coordinator.refresh() == 0
            assert capsys.readouterr().out.count("routes of a pod not updated") == 2

    async def test_a_sandbox_whose_addresses_cannot_be_understood(self, tmp_path: Path) -> None:
        async with sandbox_node(tmp_path) as one:
            store, netns = AttachmentStore(tmp_path / "chained"), str(tmp_path / "none" / "c")
            for container, address in (("a", "no address"), ("b", "10.0.0.7/16")):
                store.save(broken(container, InterfaceRecord("eth0", "", addresses=(address,)), netns=netns))
            taken = (
                AddressHolders(one.node.cluster, [store])
                .snapshot()
                .taken([ip_address("10.0.0.7")], "uid", broken("c", netns=netns))
            )
            assert [str(each) for each in taken] == ["10.0.0.7"]

    async def test_a_container_that_cannot_be_forgotten(self, tmp_path: Path) -> None:
        async with sandbox_node(tmp_path) as one:
            for name in ("p", "q"):
                await one.node.pod(name)
                await one.node.allocate(name, SandboxTarget(name, f"\0{name}"))
                await one.node.gone(name)
            assert len(one.node.ipam.forget_gone()) == 2

    async def test_a_pod_that_cannot_be_read(self, tmp_path: Path) -> None:
        async with sandbox_node(tmp_path) as one:
            for name in ("p", "q"):
                await one.node.pod(name)
                await one.node.add(name, name)
                one.node.containers.forget(one.node.uids[name], "eth0", name)
                await one.node.gone(name)
            one.node.server.inject(Fault("get", status=403))
            with pytest.raises(SpiderpoolError, match="403"):
                await one.gc.collect_addresses()
            assert len(one.node.records) == 1
