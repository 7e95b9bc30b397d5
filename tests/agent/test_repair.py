"""Records that somebody deletes while their sandboxes run come back, and no address is given to a third pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent import account, repair
from spiderpool.api.core_v1 import Event
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SandboxInterface
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import Refused
from tests.agent.addressing_node import AddressingNode, addressing_node, pool
from tests.support.api_server import Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ADDRESS = "10.0.0.1"
SMALL = pool("p", ADDRESS)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("DEBOUNCE", 0.1), ("SPACING", 0.1), ("PERIOD", 0.3)):
        monkeypatch.setattr(account, name, seconds)
    monkeypatch.setattr(repair, "CONFIRM", 0.2)


@asynccontextmanager
async def repairing(node: AddressingNode) -> AsyncIterator[None]:
    work = (node.repair.run(node.account), node.account.run(), node.recorder.run())
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def attach(node: AddressingNode, name: str) -> str:
    """Give a pod's sandbox an address, and the sandbox an interface that has it."""
    netns = f"/run/netns/{name}"
    (grant,) = await node.allocate(name, SandboxTarget(name, netns))
    address = grant.address.partition("/")[0]
    node.kernel[netns] = [SandboxInterface("eth0", None, [address])]
    return address


def lose(node: AddressingNode, address: str = ADDRESS) -> SpiderIP:
    """Somebody deletes a record; as it was."""
    record = node.server.stored(SpiderIP)[address]
    node.server.remove(record)
    return record


def given_to_another(node: AddressingNode, lost: SpiderIP, **spec: object) -> None:
    """Another node gives the address to a pod of its own."""
    fields = {"node": "n2", "pod": "other", "podUID": "uid-of-other"} | spec
    labels = {"ipam.spidernet.io/node": "n2"}
    made: IPSpec = changed(lost.spec, **fields)
    node.server.put(SpiderIP(metadata=ObjectMeta(name=lost.name, labels=labels), spec=made))


def events(node: AddressingNode, reason: str) -> list[str]:
    found = node.server.stored(Event).values()
    return sorted(f"{each.involvedObject.kind} {each.involvedObject.name}" for each in found if each.reason == reason)


async def test_what_a_pod_adds_to_interfaces_of_its_own_gets_no_record(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, pool("p", "10.0.0.1-10.0.0.9")) as node, repairing(node):
        await node.pod("a")
        address = await attach(node, "a")
        (eth0,) = node.kernel["/run/netns/a"] or []
        own = [SandboxInterface(f"own{number}", None, [f"10.0.0.{number}"]) for number in range(1, 10)]
        node.kernel["/run/netns/a"] = [eth0, *own]
        await asyncio.sleep(1.5)
        assert list(node.server.stored(SpiderIP)) == [address]


async def test_a_record_that_is_deleted_comes_back(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        for name in ("a", "b"):
            await node.pod(name)
        await attach(node, "a")
        lost = lose(node)
        await eventually(lambda: not node.cluster.records.of_pod(node.uids["a"]))
        with pytest.raises(Refused):
            await attach(node, "b")
        await eventually(lambda: node.records == {ADDRESS: "a"})
        made = node.server.stored(SpiderIP)[ADDRESS]
        assert (made.spec, made.metadata.labels) == (lost.spec, lost.metadata.labels)
        assert made.metadata.uid != lost.metadata.uid
        await eventually(lambda: events(node, "SpiderIPRestored") == ["Pod a"])
        with pytest.raises(Refused):
            await attach(node, "b")


async def test_what_was_deleted_while_no_agent_ran_comes_back(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node:
        await node.pod("a")
        await attach(node, "a")
        before = lose(node)
        await eventually(lambda: not node.cluster.records.of_pod(node.uids["a"]))
        node.repair._lost.clear()  # as an agent that has just started
        node.repair._occupied.clear()
        async with repairing(node):
            await eventually(lambda: node.records == {ADDRESS: "a"})
            made = node.server.stored(SpiderIP)[ADDRESS]
            assert (made.spec, made.metadata.labels) == (before.spec, before.metadata.labels)


async def test_an_api_server_that_fails_delays_it(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        await node.pod("a")
        await attach(node, "a")
        await eventually(lambda: node.account.sandboxes() != [])
        node.server.inject(Fault("create", 2, status=500))
        lose(node)
        await eventually(lambda: node.records == {ADDRESS: "a"})


async def test_a_pod_that_ends_gets_no_record(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        for name in ("a", "b"):
            await node.pod(name)
        await attach(node, "a")
        lose(node)
        del node.kernel["/run/netns/a"]
        await node.gone("a")
        await eventually(lambda: not node.repair.occupied(4))
        assert node.records == {}
        await attach(node, "b")


async def test_a_del_frees_the_address_at_once(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        for name in ("a", "b"):
            await node.pod(name)
        await attach(node, "a")
        await node.gone("a")
        await node.delete("a", "a")  # its interface is there until the plugin that has made it removes it
        assert await attach(node, "b") == ADDRESS
        await asyncio.sleep(0.6)
        assert node.records == {ADDRESS: "b"}
        assert events(node, "AddressInUseTwice") == []


async def test_an_address_that_another_pod_has_by_then(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        for name in ("a", "b", "other"):
            await node.pod(name)
        await attach(node, "a")
        given_to_another(node, lose(node))
        await eventually(lambda: events(node, "AddressInUseTwice") == ["Pod a", "SpiderIP 10.0.0.1"])
        given_to_another(node, node.server.stored(SpiderIP)[ADDRESS], podUID=node.uids["other"])
        await eventually(lambda: "Pod other" in events(node, "AddressInUseTwice"))
        node.server.remove(node.server.stored(SpiderIP)[ADDRESS])
        with pytest.raises(Refused):
            await attach(node, "b")
        await eventually(lambda: node.records == {ADDRESS: "a"})


async def test_an_address_that_was_released_meanwhile(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, SMALL) as node, repairing(node):
        await node.pod("a")
        await attach(node, "a")
        record = node.server.stored(SpiderIP)[ADDRESS]
        node.server.put(changed(record, spec=changed(record.spec, releasedAt="2026-01-01T00:00:00Z")))
        await eventually(lambda: node.server.stored(SpiderIP)[ADDRESS].spec.releasedAt is None)


async def test_addresses_of_no_pool_and_of_interfaces_with_a_record_are_none_of_ours(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, pool("p", "10.0.0.1-10.0.0.9")) as node, repairing(node):
        await node.pod("a")
        address = await attach(node, "a")
        further = SandboxInterface("eth1", None, ["192.0.2.1"])
        node.kernel["/run/netns/a"] = [SandboxInterface("eth0", None, [address, "10.0.0.9"]), further]
        await asyncio.sleep(0.8)
        assert list(node.records) == [address]
