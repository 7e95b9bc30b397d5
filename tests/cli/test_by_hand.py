"""What administrators do by hand, against a real API server that lets nobody else delete SpiderIPs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from click.testing import CliRunner

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import RELEASE_ANNOTATION, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeSandbox, SpiderNode
from spiderpool.cli.main import cli
from spiderpool.core.addresses import object_name
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, Forbidden
from spiderpool_lab import chart
from spiderpool_lab.control_plane import ControlPlane
from tests.support.answering_agent import AnsweringAgent, answering, sandbox
from tests.support.eventually import eventually, wait_until
from tests.support.local_agent import agent_kubeconfig

pytestmark = pytest.mark.control_plane

POLICY = chart.template("release-policy.yaml")
NODE, BOOT = "by-hand", "7d3c"
IN_USE = "a pod may still use"
PROBE = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: 10.99.0.99}
spec: {address: 10.99.0.99/16, pool: any, node: none, namespace: default, pod: none, podUID: u, interface: eth0}
"""


def is_enforced(plane: ControlPlane) -> bool:
    """Whether the API server knows the policy by now; it takes a second."""
    try:
        plane.kubectl("delete", "spiderip", "10.99.0.99", "--dry-run=server")
    except SpiderpoolError as error:
        return IN_USE in error.message
    return False


@pytest.fixture(scope="module", autouse=True)
def policy(control_plane: ControlPlane) -> Iterator[None]:
    """The policy of the chart, as long as these tests run."""
    control_plane.apply(PROBE, POLICY)
    try:
        wait_until(lambda: is_enforced(control_plane), "the policy is enforced", timeout=30.0)
        yield
    finally:
        control_plane.kubectl("delete", "-f", "-", input=POLICY)
        wait_until(lambda: not is_enforced(control_plane), "the policy is gone", timeout=30.0)
        control_plane.kubectl("delete", "spiderips", "--all")


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """An administrator's client."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client


@pytest.fixture
async def agent(control_plane: ControlPlane, client: Client) -> AsyncIterator[AnsweringAgent]:
    """The agent of a Node that is not ready."""
    await client.create(Node(metadata=ObjectMeta(name=NODE)))
    node = await client.patch(Node, NODE, {"status": {"nodeInfo": system_info(BOOT)}}, sub="status")
    async with answering(client, node) as agent:
        yield agent
    await client.delete(SpiderNode, NODE)
    await client.delete(Node, NODE)
    async with Client.load(agent_kubeconfig(control_plane, NODE)) as ours:
        for left in await client.list(SpiderIP):
            if left.spec.node == NODE:
                await ours.delete(SpiderIP, left.name)


def system_info(boot: str) -> dict[str, str]:
    """A NodeSystemInfo, whose fields are all required."""
    names = "architecture containerRuntimeVersion kernelVersion kubeProxyVersion kubeletVersion machineID"
    others = "operatingSystem osImage systemUUID"
    return dict.fromkeys(f"{names} {others}".split(), "") | {"bootID": boot}


async def hold(client: Client, address: str = "10.99.0.1", prefix: int = 16, node: str = NODE) -> SpiderIP:
    spec = IPSpec(f"{address}/{prefix}", "any", node, "default", "web", "u-1", "eth0")
    return await client.create(SpiderIP(metadata=ObjectMeta(name=object_name(address)), spec=spec))


async def run(plane: ControlPlane, *words: str) -> str:
    """What spiderpoolctl prints when it succeeds."""
    status, output = await invoke(plane, *words)
    assert status == 0, output
    return output


async def refused(plane: ControlPlane, *words: str) -> str:
    status, output = await invoke(plane, *words)
    assert status == 1, output
    return output


async def invoke(plane: ControlPlane, *words: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--kubeconfig", str(plane.admin_kubeconfig)])
    return result.exit_code, result.output


class TestPolicy:
    async def test_nobody_deletes_a_record_by_mistake(self, control_plane: ControlPlane, client: Client) -> None:
        held = await hold(client)
        with pytest.raises(Forbidden, match=f"{IN_USE} 10.99.0.1/16: run spiderpoolctl ip release 10.99.0.1"):
            await client.delete(SpiderIP, held.name)
        with pytest.raises(SpiderpoolError, match=IN_USE):
            control_plane.kubectl("delete", "--raw", f"/{SpiderIP.KIND.path()}")
        assert (await client.get(SpiderIP, held.name)).metadata.uid == held.metadata.uid
        for value in ("", "of-another", held.metadata.uid):
            await client.patch(SpiderIP, held.name, {"metadata": {"annotations": {RELEASE_ANNOTATION: value}}})
            if value != held.metadata.uid:
                with pytest.raises(Forbidden):
                    await client.delete(SpiderIP, held.name)
        await client.delete(SpiderIP, held.name)

    @pytest.mark.parametrize("account", ["spiderpool-agent", "spiderpool-controller"])
    async def test_our_own_accounts_release(self, control_plane: ControlPlane, client: Client, account: str) -> None:
        held = await hold(client)
        async with Client.load(control_plane.service_account_kubeconfig("kube-system", account, node=NODE)) as ours:
            await ours.delete(SpiderIP, held.name)

    async def test_all_else_of_a_record_may_be_changed(self, client: Client) -> None:
        held = await hold(client)
        await client.patch(SpiderIP, held.name, {"metadata": {"labels": {"a": "b"}}})
        await client.patch(SpiderIP, held.name, {"metadata": {"annotations": {RELEASE_ANNOTATION: held.metadata.uid}}})
        await client.delete(SpiderIP, held.name)


class TestRelease:
    @pytest.mark.parametrize(("address", "prefix"), [("10.99.0.2", 16), ("fd99::2", 64)])
    async def test_an_address_that_no_sandbox_has(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent, address: str, prefix: int
    ) -> None:
        await hold(client, address, prefix)
        agent.sandboxes = [sandbox("u-2", "other", "10.99.0.9")]
        said = await run(control_plane, "ip", "release", address)
        assert said == f"{address}/{prefix} of pod default/web is released: no sandbox of node {NODE} has it\n"
        assert await client.find(SpiderIP, object_name(address)) is None
        assert "has no SpiderIP" in await refused(control_plane, "ip", "release", object_name(address))

    @pytest.mark.parametrize(
        "using",
        [sandbox("u-1", "web"), sandbox("u-9", "other", "10.99.0.1"), NodeSandbox("u-0", "default", "web", "c" * 64)],
    )
    async def test_a_sandbox_that_may_have_it_is_named(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent, using: NodeSandbox
    ) -> None:
        held = await hold(client)
        agent.sandboxes = [using]
        said = await refused(control_plane, "ip", "release", "10.99.0.1")
        running = f"sandbox {'c' * 13} of pod default/{using.pod} on node {NODE} still runs"
        assert f"10.99.0.1/16 is not released: {running}" in said
        assert not (await client.get(SpiderIP, held.name)).marked, "nobody may delete it now"
        agent.sandboxes = []
        await run(control_plane, "ip", "release", "10.99.0.1")

    async def test_a_record_without_a_node_is_left_to_whoever_knows(
        self, control_plane: ControlPlane, client: Client
    ) -> None:
        held = await hold(client, node="")
        said = await refused(control_plane, "ip", "release", "10.99.0.1")
        assert (
            f"names no node that could say whether a sandbox has it; if none: kubectl annotate spiderip {held.name}"
            in said
        )
        assert await client.find(SpiderIP, held.name) is not None
        await client.patch(SpiderIP, held.name, {"metadata": {"annotations": {RELEASE_ANNOTATION: held.metadata.uid}}})
        await client.delete(SpiderIP, held.name)

    async def test_a_silent_node_keeps_it_until_it_is_fenced(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spiderpool.cli.addresses.TIMEOUT", 1.0)
        agent.silent = True
        await hold(client)
        said = await refused(control_plane, "ip", "release", "10.99.0.1")
        assert said.rstrip().endswith(f"if the node is lost: spiderpoolctl node fence {NODE}")
        assert f"boot {BOOT} are free" in await run(control_plane, "node", "fence", NODE)
        assert "was fenced" in await run(control_plane, "ip", "release", "10.99.0.1")

    async def test_the_node_of_the_pod_is_asked_too(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent
    ) -> None:
        body = {
            "metadata": {"name": "moved", "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]},
        }
        pod = await client.apply(Pod, body, "moved", "default")
        uid = pod.metadata.uid or ""
        spec = IPSpec("10.99.0.3/16", "any", "gone", "default", "moved", uid, "eth0")
        await client.create(SpiderIP(metadata=ObjectMeta(name="10.99.0.3"), spec=spec))
        agent.sandboxes = [sandbox(uid, "moved")]
        try:
            assert "still runs" in await refused(control_plane, "ip", "release", "10.99.0.3")
        finally:
            await client.delete(Pod, "moved", "default", grace=0)
        agent.sandboxes = []
        assert "node gone does not exist" in await run(control_plane, "ip", "release", "10.99.0.3")

    async def test_what_is_no_address_is_refused(self, control_plane: ControlPlane) -> None:
        assert "'10.99.0.1/16' is no IP address; write it" in await refused(
            control_plane, "ip", "release", "10.99.0.1/16"
        )


class TestFence:
    async def test_it_holds_for_a_boot_and_is_taken_back(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent
    ) -> None:
        await run(control_plane, "node", "fence", NODE)
        assert (await client.get(SpiderNode, NODE)).spec.fencedBootID == BOOT
        assert "is not fenced" in await run(control_plane, "node", "unfence", NODE)
        assert (await client.get(SpiderNode, NODE)).spec.fencedBootID is None

    async def test_a_node_that_is_ready_or_unknown_is_refused(
        self, control_plane: ControlPlane, client: Client, agent: AnsweringAgent
    ) -> None:
        ready = [{"type": "Ready", "status": "True"}]
        await client.patch(Node, NODE, {"status": {"conditions": ready}}, sub="status", strategic=True)
        assert f"node {NODE} is ready" in await refused(control_plane, "node", "fence", NODE)
        assert "not found" in await refused(control_plane, "node", "fence", "nobody")
        assert "was not fenced" in await run(control_plane, "node", "unfence", "nobody")

    async def test_a_node_without_agent_or_boot(self, control_plane: ControlPlane, client: Client) -> None:
        await client.create(Node(metadata=ObjectMeta(name="bare")))
        try:
            assert "never told its boot ID" in await refused(control_plane, "node", "fence", "bare")
            await client.patch(Node, "bare", {"status": {"nodeInfo": system_info("b")}}, sub="status")
            await run(control_plane, "node", "fence", "bare")
            made = await client.get(SpiderNode, "bare")
            assert made.spec.fencedBootID == "b"
            assert [(each.kind, each.name) for each in made.metadata.ownerReferences or ()] == [("Node", "bare")]
        finally:
            await client.delete(Node, "bare")

        async def gone() -> bool:
            return await client.find(SpiderNode, "bare") is None

        await eventually(gone, "the SpiderNode goes with its Node", timeout=30.0)
