"""The account of a node: when it is published, what it says, and what follows from what it does not say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent import account
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, ObservedPool, SandboxInterface, SpiderNode
from spiderpool.cli.addresses import release
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import ApiUnavailable, BadConfig, NotReady, Refused
from tests.agent.addressing_node import NODE, AddressingNode, addressing_node, owned_by, pool
from tests.support.api_server import Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ONE = pool("p", "10.0.0.1-10.0.0.9")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("DEBOUNCE", 0.1), ("SPACING", 0.1), ("LONGEST_PAUSE", 0.2)):
        monkeypatch.setattr(account, name, seconds)


@asynccontextmanager
async def publishing(node: AddressingNode) -> AsyncIterator[None]:
    task = asyncio.create_task(node.account.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def published(node: AddressingNode) -> NodeAccount:
    found = node.server.stored(SpiderNode).get(NODE)
    return (found.status if found else None) or NodeAccount()


def told(node: AddressingNode) -> dict[str, list[str] | None]:
    """Addresses that are published, by container."""
    return {
        each.containerID: None
        if each.interfaces is None
        else [address for interface in each.interfaces for address in interface.addresses or ()]
        for each in published(node).sandboxes or ()
    }


async def attach(node: AddressingNode, name: str, container: str) -> str:
    """Give a pod's sandbox an address, and the sandbox an interface that has it."""
    netns = f"/run/netns/{container}"
    (grant,) = await node.allocate(name, SandboxTarget(container, netns))
    address = grant.address.partition("/")[0]
    node.kernel[netns] = [SandboxInterface("eth0", "02:00:00:00:00:01", [address])]
    return address


async def ask(node: AddressingNode) -> int:
    """Ask for an account as the controller does; the generation that answers it."""
    stored = node.server.stored(SpiderNode)[NODE]
    request = (stored.spec.accountRequest or 0) + 1
    patched = await node.client.patch(SpiderNode, NODE, {"spec": {"accountRequest": request}})
    assert patched.metadata.generation
    return patched.metadata.generation


async def test_a_node_without_sandboxes_says_so(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        made = node.server.stored(SpiderNode)[NODE]
        (owner,) = made.metadata.ownerReferences or []
        assert (owner.kind, owner.uid) == ("Node", node.server.stored(Node)[NODE].metadata.uid)
        assert (published(node).bootID, made.answered) == ("boot", True)


async def test_a_list_proves_that_no_earlier_record_was_missed(tmp_path: Path) -> None:
    """Also none that is another node's by now, as that of a virtual machine that has moved."""
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        assert int(published(node).recordVersion or 0) >= int(node.cluster.pools()[0].metadata.resourceVersion or 0) > 0


async def test_what_calls_change_is_published(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        await eventually(lambda: told(node) == {"c": [address]})
        (sandbox,) = published(node).sandboxes or []
        assert (sandbox.podUID, sandbox.namespace, sandbox.pod) == (node.uids["a"], "default", "a")
        record = node.server.stored(SpiderIP)[address]
        assert int(published(node).recordVersion or 0) >= int(record.metadata.resourceVersion or 0)
        await node.gone("a")
        await node.delete("a", "c")
        await eventually(lambda: told(node) == {})


async def test_pools_of_its_enis_are_told_in_the_generation_from_which_pods_are_served(tmp_path: Path) -> None:
    eni = changed(ONE, metadata=changed(ONE.metadata, labels={POOL_ENI_LABEL: "eni-1"}))
    eni = changed(eni, spec=changed(eni.spec, nodeName=[NODE]))
    other = changed(eni, metadata=changed(eni.metadata, name="q"), spec=changed(eni.spec, nodeName=["elsewhere"]))
    async with addressing_node(tmp_path, eni, other) as node, publishing(node):
        await eventually(lambda: published(node).pools == [ObservedPool("p", 1)])
        node.server.put(changed(eni, spec=changed(eni.spec, excludeIPs=["10.0.0.9"])))
        await eventually(lambda: published(node).pools == [ObservedPool("p", 2)])
        assert node.cluster.pool("p") == node.server.stored(SpiderIPPool)["p"]
        node.server.remove(eni)
        await eventually(lambda: published(node).pools == [])


async def test_changes_that_come_together_are_one_write_and_none_is_no_write(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        await node.settled()
        before = node.server.requests["patch"]
        for number in range(5):
            await node.pod(f"p{number}")
            await attach(node, f"p{number}", f"c{number}")
        await eventually(lambda: len(told(node)) == 5)
        node.account.change("c1")
        await asyncio.sleep(0.5)
        assert node.server.requests["patch"] - before <= 2


async def test_a_request_is_answered_by_a_fresh_reading_of_everything(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        await eventually(lambda: told(node) == {"c": [address]})
        node.kernel["/run/netns/c"] = [SandboxInterface("eth0", None, ["10.0.0.77"])]
        await node.settled()
        assert told(node) == {"c": [address]}, "nobody has told the agent of this change"
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)
        assert told(node) == {"c": ["10.0.0.77"]}
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)


async def test_it_answers_spiderpoolctl(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        await eventually(lambda: told(node) == {"c": [address]})
        await node.gone("a")
        with pytest.raises(Refused, match=f"{address}/16 is not released: sandbox c of pod default/a on node {NODE}"):
            await release(node.client, address)
        del node.kernel["/run/netns/c"]
        assert f"no sandbox of node {NODE} has it" in await release(node.client, address)
        assert node.records == {}


async def test_a_pod_that_begins_after_the_answer_keeps_its_address(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        writes = node.server.requests["replace"]
        assert await attach(node, "a", "c") == address
        assert node.server.requests["replace"] == writes, "without a mark there is nothing to write"
        del node.kernel["/run/netns/c"]
        node.server.inject(Fault("delete", delay=0.6))
        releasing = asyncio.create_task(release(node.client, address))
        await eventually(lambda: node.server.requests["delete"] > 0, "the agent has said that no sandbox has it")
        assert await attach(node, "a", "c2") == address
        with pytest.raises(Refused, match=f"{address}/16 is not released: a pod has got it meanwhile"):
            await releasing
        assert node.records == {address: "a"}
        assert not node.server.stored(SpiderIP)[address].marked


async def test_what_cannot_be_read_is_listed_as_such_and_what_is_gone_is_not(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        for name in ("a", "b", "c"):
            await node.pod(name)
            await attach(node, name, name)
        node.kernel["/run/netns/a"] = None
        del node.kernel["/run/netns/b"]
        await node.add("c", "of another runtime")  # which tells no namespace
        await eventually(lambda: published(node).sandboxes != [])
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)
        assert told(node) == {"a": None, "of another runtime": None}


async def test_a_file_that_cannot_be_parsed_answers_nothing(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        (tmp_path / "sandboxes").mkdir()
        file = tmp_path / "sandboxes" / "c.json"
        file.write_text("{")
        generation = await ask(node)
        await node.settled()
        assert (published(node).observedGeneration or 0) < generation
        file.unlink()
        await eventually(lambda: published(node).observedGeneration == generation)


async def test_an_add_that_begins_while_the_account_is_taken_is_in_it(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        for name in ("a", "b"):
            await node.pod(name)
        await attach(node, "a", "a")
        await eventually(lambda: "a" in told(node))
        reading, read = asyncio.Event(), node.sandboxes.read

        async def slowly(chosen: object) -> object:
            found = await read(chosen)  # type: ignore[arg-type]
            reading.set()
            await asyncio.sleep(0.1)
            return found

        node.sandboxes.read = slowly  # type: ignore[method-assign, assignment]
        generation = await ask(node)
        await reading.wait()
        node.server.inject(Fault("create", delay=0.5))
        adding = asyncio.create_task(attach(node, "b", "b"))
        await eventually(lambda: published(node).observedGeneration == generation)
        assert told(node)["b"] is None
        await adding


async def test_what_somebody_else_writes_is_corrected(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        await eventually(lambda: told(node) == {"c": [address]})
        await node.settled()
        edits: list[dict[str, Any]] = [{"sandboxes": []}, {"sandboxes": [], "observedGeneration": 999}]
        for edited in edits:
            before = node.server.requests["patch"]
            await node.client.patch(SpiderNode, NODE, {"status": edited}, sub="status")
            await eventually(lambda: told(node) == {"c": [address]})
            assert node.server.stored(SpiderNode)[NODE].answered
            await asyncio.sleep(0.5)
            assert node.server.requests["patch"] - before == 2, "the edit and its correction"


async def test_the_object_is_made_again(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        node.server.remove(node.server.stored(SpiderNode)[NODE])
        await eventually(lambda: published(node).sandboxes == [])


async def test_another_object_of_the_name_gets_no_account_before_it_is_known(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await node.pod("a")
        address = await attach(node, "a", "c")
        await eventually(lambda: told(node) == {"c": [address]})
        node.server.hold_watches()
        node.server.remove(node.server.stored(SpiderNode)[NODE])
        node.server.put(SpiderNode(metadata=ObjectMeta(name=NODE)))
        node.kernel["/run/netns/c"] = []
        node.account.change("c")
        await asyncio.sleep(0.5)
        assert node.server.stored(SpiderNode)[NODE].status is None
        node.server.release_watches()
        await eventually(lambda: told(node) == {"c": []})


async def test_an_api_server_that_fails_is_tried_again(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        node.server.inject(Fault("create", 1, status=500), Fault("patch", 2, lose_request=True))
        async with publishing(node):
            await eventually(lambda: published(node).sandboxes == [])


# --- what an account does not name


async def restarted(node: AddressingNode, pod: Pod) -> str:
    """A pod whose first sandbox has ended, which an account says; its address."""
    node.server.put(pod)
    await eventually(lambda: node.cluster.pods.get(pod.key) == node.server.stored(Pod)[pod.key])
    address = await attach(node, pod.name, "first")
    await eventually(lambda: told(node) == {"first": [address]})
    del node.kernel["/run/netns/first"]
    await node.delete(pod.name, "first")
    await eventually(lambda: told(node) == {})
    return address


async def test_a_pod_that_an_answer_did_not_name_gets_its_address_again_only_if_it_exists(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        address = await restarted(node, await node.pod("a"))
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)
        node.server.hold_watches()
        node.server.remove(node.server.stored(Pod)["default/a"])
        with pytest.raises(NotReady, match="deleted meanwhile"):
            await attach(node, "a", "late")
        assert node.cluster.pods.get("default/a"), "the cache still has it"
        node.server.release_watches()
        assert address in node.records


async def test_a_pod_is_seen_alive_as_long_as_nobody_knows_what_was_published(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("a")
        await attach(node, "a", "first")
        node.server.hold_watches()
        node.server.remove(node.server.stored(Pod)["default/a"])
        with pytest.raises(NotReady, match="deleted meanwhile"):
            await attach(node, "a", "late")


async def test_what_is_published_after_an_answer_is_one_too(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        pod = await node.pod("a")
        address = await attach(node, "a", "first")
        await eventually(lambda: told(node) == {"first": [address]})
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)
        await restarted(node, pod)
        assert published(node).observedGeneration == generation
        node.server.hold_watches()
        node.server.remove(node.server.stored(Pod)["default/a"])
        with pytest.raises(NotReady, match="deleted meanwhile"):
            await attach(node, "a", "late")
        node.server.release_watches()


async def test_an_api_server_that_does_not_keep_the_number_is_a_failure(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        patch = node.client.patch

        async def without_number(kind: Any, name: str, body: Any, **options: Any) -> Any:
            body["status"].pop("observedGeneration")
            return await patch(kind, name, body, **options)

        node.client.patch = without_number  # type: ignore[method-assign, assignment]
        watching = asyncio.create_task(node.account._own.run())
        with pytest.raises(BadConfig, match="apply the CRDs"):  # so the pause before the next try grows
            await node.account._publish()
        watching.cancel()


async def test_while_an_account_is_written_the_former_one_counts_too(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        await eventually(lambda: published(node).sandboxes == [])
        await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
        node.server.inject(Fault("patch", delay=1.0))
        address = await attach(node, "web-0", "c")
        record = node.server.stored(SpiderIP)[address]
        await eventually(lambda: node.account._is_writing)
        assert node.account.must_confirm(record)
        await eventually(lambda: not node.account.must_confirm(record))
        assert told(node) == {"c": [address]}


async def test_a_pod_that_lives_on_is_read_once(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        address = await restarted(node, await node.pod("a"))
        generation = await ask(node)
        await eventually(lambda: published(node).observedGeneration == generation)
        before = node.server.requests["get"]
        assert await attach(node, "a", "next") == address
        assert await attach(node, "a", "next") == address
        assert node.server.requests["get"] == before + 1


async def test_without_a_request_nothing_is_read_for_an_ordinary_pod(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        address = await restarted(node, await node.pod("a"))
        before = node.server.requests["get"]
        assert await attach(node, "a", "next") == address
        assert node.server.requests["get"] == before


async def test_an_address_that_other_nodes_take_over_is_given_again_only_to_a_pod_that_exists(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node, publishing(node):
        pod = owned_by(await node.pod("web-0"), "StatefulSet", "web")
        await restarted(node, changed(pod))
        node.server.inject(Fault("get", status=500))
        with pytest.raises(ApiUnavailable):
            await attach(node, "web-0", "next")
