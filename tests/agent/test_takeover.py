"""The next pod of an owner gets its address when the former one's sandbox does not use it any more, not before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from spiderpool.agent import takeover
from spiderpool.api.applications import StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import Event, Node, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Pod, Taint
from spiderpool.api.ip import RENEWED_ANNOTATION, FormerPod, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.core.ipam.takeover import is_given_up
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import Refused
from tests.agent.addressing_node import NODE, AddressingNode, addressing_node, owned_by, pool
from tests.support.answering_agent import answering
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ONE = pool("p", "10.0.0.1-10.0.0.9")
ADDRESS = "10.0.0.5"
BOOT = "7d3c"
FORMER = NodeSandbox("former", "default", "web-0", "c0", [SandboxInterface("eth0", None, [ADDRESS])])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PATIENCE", 0.6)
    monkeypatch.setattr(takeover, "POLL", 0.1)


async def web(node: AddressingNode, former_node: str) -> Pod:
    """The pod web-0 of this node, whose former pod had its address on another one, or on this one."""
    node.server.put(StatefulSet(metadata=ObjectMeta(name="web", namespace="default"), spec=WorkloadSpec(replicas=1)))
    pod = await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
    await node.add("web-0", "before")
    (record,) = node.server.stored(SpiderIP).values()
    node.server.remove(record)
    spec = changed(record.spec, address=f"{ADDRESS}/16", node=former_node, podUID="former")
    labels = {**(record.metadata.labels or {}), "ipam.spidernet.io/node": former_node}
    node.server.put(SpiderIP(metadata=ObjectMeta(name=ADDRESS, labels=labels), spec=spec))
    await eventually(lambda: not node.cluster.records.of_pod(node.uids["web-0"]))
    return pod


def account(node: AddressingNode, *sandboxes: NodeSandbox, newest: bool = True) -> None:
    """The agent of n2 publishes what it has."""
    version = node.server.stored(SpiderIP)[ADDRESS].metadata.resourceVersion if newest else "1"
    status = NodeAccount(recordVersion=version, sandboxes=list(sandboxes))
    node.server.put(SpiderNode(metadata=ObjectMeta(name="n2"), status=status))


def machine(node: AddressingNode, ready: bool, *taints: str) -> None:
    """The Node n2."""
    spec, conditions = NodeSpec(taints=[Taint(key) for key in taints]), [NodeCondition("Ready", str(ready))]
    node.server.put(
        Node(metadata=ObjectMeta(name="n2"), spec=spec, status=NodeStatus(conditions, nodeInfo=NodeSystemInfo(BOOT)))
    )


def holder(node: AddressingNode) -> tuple[str, str]:
    spec = node.server.stored(SpiderIP)[ADDRESS].spec
    return spec.podUID, spec.node


async def test_a_node_that_does_not_name_the_address_gives_it_up(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=False)
        account(node)
        before = node.server.requests["get"]
        assert await node.add("web-0", "c") == ADDRESS
        assert holder(node) == (node.uids["web-0"], NODE)
        assert node.server.requests["get"] - before <= 2, "the owner's top controller, and the account"


async def test_a_sandbox_that_runs_on_a_lost_node_keeps_its_address(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=False)
        account(node, FORMER)
        reporting = asyncio.create_task(node.recorder.run())
        with pytest.raises(Refused) as caught:
            await node.add("web-0", "c")
        for words in (ADDRESS, "sandbox c0 of pod default/web-0 on node n2", "out-of-service", "node fence n2"):
            assert words in caught.value.message
        assert (holder(node), caught.value.retriable) == (("former", "n2"), True)
        events = [each.message for each in node.server.stored(Event).values()]
        await eventually(lambda: [each.message for each in node.server.stored(Event).values()] != events)
        reporting.cancel()
        machine(node, False, "node.kubernetes.io/out-of-service")
        with pytest.raises(Refused, match="does not answer"):
            await node.add("web-0", "c")
        await asyncio.sleep(0.3)
        assert await node.add("web-0", "c") == ADDRESS, "its agent was asked, and does not answer"


@pytest.mark.parametrize("statement", ["taint", "fence"])
async def test_a_statement_is_not_believed_while_the_agent_answers(tmp_path: Path, statement: str) -> None:
    """The kubelet hangs, the agent runs, somebody fences the node without a look, and the pod is deleted by force."""
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, False, *(["node.kubernetes.io/out-of-service"] if statement == "taint" else []))
        async with answering(node.client, node.server.stored(Node)["n2"]) as agent:
            agent.sandboxes = [FORMER]
            if statement == "fence":
                await node.client.patch(SpiderNode, "n2", {"spec": {"fencedBootID": BOOT}})
            for _ in range(3):
                with pytest.raises(Refused, match="sandbox c0 of pod default/web-0 on node n2"):
                    await node.add("web-0", "c")
            assert holder(node) == ("former", "n2")
            agent.silent = True
            record = node.server.stored(SpiderIP)[ADDRESS]
            take_overs = takeover.TakeOvers(node.client, NODE, node.sandboxes, answer_time=0.3)
            assert await take_overs.why_not(record)
            await asyncio.sleep(0.4)
            assert await take_overs.why_not(record) is None, "it answers no more"


async def test_a_statement_without_an_account_is_believed(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, False, "node.kubernetes.io/out-of-service")
        assert await node.add("web-0", "c") == ADDRESS


async def test_an_account_from_before_the_record_proves_nothing(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=True)
        account(node, newest=False)
        with pytest.raises(Refused, match="has not said"):
            await node.add("web-0", "c")


async def test_an_account_from_between_two_sandboxes_of_a_pod_proves_nothing(tmp_path: Path) -> None:
    """The pod was read before it was deleted by force, and the second sandbox is not published yet."""
    async with addressing_node(tmp_path, ONE) as node:
        node.server.put(
            StatefulSet(metadata=ObjectMeta(name="web", namespace="default"), spec=WorkloadSpec(replicas=1))
        )
        await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
        address = await node.add("web-0", "c0")
        (made,) = node.server.stored(SpiderIP).values()
        await node.delete("web-0", "c0")
        between = NodeAccount(recordVersion=made.metadata.resourceVersion, sandboxes=[])
        assert is_given_up(node.server.stored(SpiderIP)[made.name], between), "nothing there has it"
        assert await node.add("web-0", "c1") == address
        assert not is_given_up(node.server.stored(SpiderIP)[made.name], between)


async def test_a_first_sandbox_costs_no_second_write(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=True)
        account(node)
        assert await node.add("web-0", "c") == ADDRESS
        assert RENEWED_ANNOTATION not in (node.server.stored(SpiderIP)[ADDRESS].metadata.annotations or {})


async def test_a_del_that_is_published_late_is_waited_for(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=True)
        account(node, FORMER)
        before = node.server.requests["get"]
        adding = asyncio.create_task(node.add("web-0", "c"))
        await eventually(lambda: node.server.requests["get"] - before > 3, "a second look at the account")
        account(node)
        assert await adding == ADDRESS


async def test_a_node_without_an_account(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=False)
        with pytest.raises(Refused):
            await node.add("web-0", "c")
        machine(node, ready=True)
        assert await node.add("web-0", "c") == ADDRESS


async def test_time_is_enough_where_the_setting_says_so(tmp_path: Path) -> None:
    """Not at once: the node is asked first. Not against a sandbox that a node names when it answers."""
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=False)
        account(node, FORMER)
        take_overs = takeover.TakeOvers(node.client, NODE, node.sandboxes, answer_time=0.3, by_time=True)
        record = node.server.stored(SpiderIP)[ADDRESS]
        assert await take_overs.why_not(record)
        asked = node.server.stored(SpiderNode)["n2"]
        assert asked.spec.accountRequest == 1
        status = changed(asked.status, observedGeneration=asked.metadata.generation)  # type: ignore[type-var]
        node.server.put(changed(asked, status=status))
        await asyncio.sleep(0.4)
        assert await take_overs.why_not(record), "it answers"
        assert node.server.stored(SpiderNode)["n2"].spec.accountRequest == 2, "and is asked again"
        assert await take_overs.why_not(record)
        await asyncio.sleep(0.4)
        assert await take_overs.why_not(record) is None, "it answers no more"


async def test_time_is_enough_for_a_node_without_an_account_where_the_setting_says_so(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        machine(node, ready=False)
        record = node.server.stored(SpiderIP)[ADDRESS]
        for by_time in (False, True):
            take_overs = takeover.TakeOvers(node.client, NODE, node.sandboxes, by_time=by_time)
            assert (await take_overs.why_not(record) is None) is by_time


async def test_a_node_that_does_not_exist(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, "n2")
        assert await node.add("web-0", "c") == ADDRESS


async def test_the_former_sandbox_on_the_same_node(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await web(node, NODE)
        netns = "/run/netns/c0"
        former = node.args("web-0")
        node.containers.note(replace(former, uid="former"), "eth0", SandboxTarget("c0", netns))
        node.kernel[netns] = [SandboxInterface("eth0", None, [ADDRESS])]
        with pytest.raises(Refused, match="on this node still has"):
            await node.add("web-0", "c")
        del node.kernel[netns]
        await node.add("web-0", "c")
        assert holder(node) == (node.uids["web-0"], NODE)


async def test_an_address_that_no_longer_suits_stays_in_use_until_its_node_says_otherwise(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE, pool("q", "10.0.0.20-10.0.0.29")) as node:
        pod = await web(node, "n2")
        machine(node, ready=False)
        account(node, FORMER)
        releasing = asyncio.create_task(node.allocator.run())
        annotations = {"ipam.spidernet.io/ippool": '{"ipv4": ["q"]}'}
        await node.seen(changed(pod, metadata=changed(pod.metadata, annotations=annotations)))
        assert (await node.add("web-0", "c")).startswith("10.0.0.2")
        await eventually(lambda: node.server.stored(SpiderIP)[ADDRESS].spec.owner is None)
        assert holder(node) == ("former", "n2"), "now the collection of the cluster judges it as that of any pod"
        assert not node.cluster.records.of_pod("former"), "another node's record"
        releasing.cancel()


LAUNCHER = NodeSandbox("source", "default", "virt-launcher-a", "c1", [SandboxInterface("eth0", None, [ADDRESS])])


def moving(version: str) -> SpiderIP:
    """The record of a machine that was to move from n2 to n3, where nothing of it runs any more."""
    former = FormerPod("n2", "virt-launcher-a", "source", version)
    spec = IPSpec(f"{ADDRESS}/16", "p", "n3", "default", "virt-launcher-b", "target", "eth0", movedFrom=[former])
    return SpiderIP(metadata=ObjectMeta(name=ADDRESS, resourceVersion="900"), spec=spec)


async def test_the_node_from_which_a_machine_was_to_move_has_a_say(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        machine(node, ready=True)
        node.server.put(SpiderNode(metadata=ObjectMeta(name="n2"), status=NodeAccount(recordVersion="50")))
        take_overs = takeover.TakeOvers(node.client, NODE, node.sandboxes)
        assert await take_overs.why_not(moving("50")) is None
        assert "has not said" in (await take_overs.why_not(moving("51")) or "")
        status = NodeAccount(recordVersion="50", sandboxes=[LAUNCHER])
        node.server.put(SpiderNode(metadata=ObjectMeta(name="n2"), status=status))
        record = moving("50")
        assert "virt-launcher-a on node n2 may still use" in (await take_overs.why_not_moved(record) or "")
        assert await take_overs.still_moving(record) == tuple(record.spec.movedFrom or ())
        assert await take_overs.why_not(record, but_for="source") is None, "for that pod itself"
