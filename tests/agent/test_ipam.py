"""Calls for addresses alone: which DEL is about the container that has them, and when they are released."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace as changed

from spiderpool.agent.api import AgentAPI
from spiderpool.api.applications import StatefulSet, WorkloadSpec
from spiderpool.api.cni import IPAMConfig, PodArgs
from spiderpool.api.core_v1 import Namespace, Pod, PodSpec
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.annotations import DEFAULT_ROUTE_NIC
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION, STATIC_POD_ANNOTATION
from spiderpool.core.ipam.pod_context import InterfaceRequest
from spiderpool.core.ipam.unused_annotations import MOST
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.errors import ApiUnavailable, NotReady
from spiderpool.kube.events import Recorder
from tests.agent.addressing_node import NODE, AddressingNode, addressing_node, owned_by, pool
from tests.support.api_server import Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ONE = pool("one", "10.0.0.1-10.0.0.9", nodeName=["n1"])


async def test_a_late_del_of_a_former_sandbox_releases_nothing_while_the_pod_runs_or_terminates(
    tmp_path: Path,
) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "before-the-reboot")
        assert await node.add("p", "after-the-reboot") == first
        await node.delete("p", "before-the-reboot")
        await node.terminating("p")
        await node.delete("p", "before-the-reboot")
        await node.settled()
        assert node.records == {first: "p"}, "it may run for ten minutes more"
        await node.pod("other")
        assert await node.add("other", "c") != first
        await node.delete("p", "after-the-reboot")
        assert list(node.records.values()) == ["other"]


async def test_a_late_del_of_a_former_sandbox_releases_nothing_though_the_pod_is_gone(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "former")
        await node.add("p", "present")
        await node.gone("p")
        await node.delete("p", "former")
        await node.settled()
        assert node.records == {first: "p"}, "the kubelet has not ended it yet"
        await node.delete("p", "present")
        assert node.records == {}


async def test_a_del_before_the_pods_are_known_releases_nothing(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "c")
        restarted = AddressingNode(node.server, node.client, tmp_path)
        restarted.uids = node.uids
        listing = asyncio.create_task(restarted.cluster.records.informer.run())
        await restarted.cluster.records.informer.synced(5.0)
        await restarted.delete("p", "c")
        await node.settled()
        assert node.records == {first: "p"}
        listing.cancel()
        await asyncio.wait([listing])


async def test_a_del_of_an_unknown_sandbox_waits_until_the_pod_has_ended(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        for name in ("p", "q"):
            await node.pod(name)
            await node.add(name, "c")
            node.containers.forget(node.uids[name], "eth0", "c")
            await node.delete(name, "unknown")
            await node.terminating(name)
            await node.delete(name, "unknown")
        await node.settled()
        assert sorted(node.records.values()) == ["p", "q"]
        await node.gone("p")
        await eventually(lambda: list(node.records.values()) == ["q"])
        await node.pod("q", phase="Failed")
        await eventually(lambda: node.records == {})


async def test_a_pod_that_is_attached_again_is_no_longer_detached(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "old")
        await node.delete("p", "old")
        assert await node.add("p", "new") == first
        await node.gone("p")
        await node.settled()
        assert node.records == {first: "p"}, "its container may run on"
        await node.delete("p", "new")
        assert node.records == {}


async def test_the_del_of_one_interface_says_nothing_about_the_other(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "c")
        await node.add("p", "c", "net1")
        await node.delete("p", "c", "net1")
        await node.gone("p")
        await eventually(lambda: node.records == {first: "p"})
        await node.settled()
        assert node.records == {first: "p"}


async def test_a_former_container_reports_no_conflict(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        first = await node.add("p", "old")
        await node.add("p", "new")
        await node.ipam.release_conflicting(node.args("p"), "old")
        assert node.records == {first: "p"}
        await node.ipam.release_conflicting(node.args("p"), "new")
        assert node.records == {}


async def test_a_pod_that_is_not_cached_yet_has_its_container_under_its_own_uid(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        pod = Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=PodSpec(nodeName="not seen here"))
        node.server.put(pod)
        args, request = PodArgs("default", "p", ""), InterfaceRequest("eth0", IPAMConfig("spiderpool"))
        await node.ipam.allocate(await node.cluster.living_pod(args), args, SandboxTarget("c", ""), request)
        uid = node.server.stored(Pod)["default/p"].metadata.uid or ""
        assert [node.containers.of(each, "eth0") for each in (uid, "")] == ["c", None]


async def test_a_sandbox_that_the_account_could_not_name_gets_no_address(tmp_path: Path) -> None:
    """The cluster would free its address as soon as the pod's object is gone, though the sandbox may run."""
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        application = web.Application()
        AgentAPI(node.cluster, node.addresses, node.ipam, add_timeout=10.0).register(application.router)
        call = {"podName": "p", "podNamespace": "default", "podUID": node.uids["p"], "ifName": "eth0"}
        call |= {"containerID": "", "netNamespace": ""}
        async with TestClient(TestServer(application)) as client:
            answer = await client.post("/v1/ipam/ip", json=call)
            assert answer.status == 500
            assert "give containerID or netNamespace" in await answer.json()
            assert (node.records, node.sandboxes.on_file()) == ({}, {})
            call["netNamespace"] = "/run/netns/c"
            assert (await client.post("/v1/ipam/ip", json=call)).status == 200
            assert [each.pod.uid for each in node.sandboxes.on_file().values()] == [node.uids["p"]]
            await node.terminating("p")
            assert (await client.delete("/v1/ipam/ip", json=call)).status == 200
            assert (node.records, node.sandboxes.on_file()) == ({}, {}), "the DEL is about this sandbox"


async def test_an_add_by_the_http_api_reads_a_pod_that_is_not_cached_yet_once(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        metadata = ObjectMeta(name="p", namespace="default")
        node.server.put(Pod(metadata=metadata, spec=PodSpec(nodeName="not seen here")))
        application = web.Application()
        AgentAPI(node.cluster, node.addresses, node.ipam, add_timeout=10.0).register(application.router)
        call = {"podName": "p", "podNamespace": "default", "ifName": "eth0", "containerID": "c", "netNamespace": "/ns"}
        call["podUID"] = node.server.stored(Pod)["default/p"].metadata.uid or ""
        async with TestClient(TestServer(application)) as client:
            before = node.server.requests["get"]
            answer = await client.post("/v1/ipam/ip", json=call)
            assert (answer.status, await answer.json())[0] == 200
            assert node.server.requests["get"] - before == 2  # the pod and its Namespace


async def test_containers_of_pods_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        await node.add("p", "c")
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") == "c"
        await node.gone("p")
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") == "c", "it holds an address"
        await node.addresses.release(node.args("p"), "eth0", ended=True)
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") is None


async def test_a_late_copy_of_the_namespace_gives_its_pod_no_other_pool(tmp_path: Path) -> None:
    own = pool("own", "10.0.1.1-10.0.1.9", default=False)
    async with addressing_node(tmp_path, ONE, own) as node:
        await node.pod("p")
        node.server.hold_watches()
        chosen = {"ipam.spidernet.io/default-ipv4-ippool": '["own"]'}
        node.server.put(Namespace(metadata=ObjectMeta(name="default", annotations=chosen)))
        assert (await node.add("p", "c")).startswith("10.0.1.")


async def test_one_read_of_a_namespace_serves_its_pods_for_a_moment(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        node.server.put(Namespace(metadata=ObjectMeta(name="default")))
        for name in ("p", "q"):
            await node.pod(name)
            await node.add(name, "c")
            node.server.inject(Fault("get", times=9, status=503))
        namespace = node.server.stored(Namespace)["default"]
        node.server.remove(namespace)
        await eventually(lambda: node.cluster.namespaces.get("default") is None)
        await node.pod("r")
        with pytest.raises(ApiUnavailable):
            await node.add("r", "c")


async def test_conflicts_are_not_looked_for_where_a_machine_is_to_move_to(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        pod = owned_by(await node.pod("p"), "VirtualMachineInstance", "vm", "kubevirt.io/v1")
        assert node.addresses.detection(pod) == Detection(conflicts=True, gateway=True)
        pod.metadata.annotations = {"kubevirt.io/migrationJobName": "m"}
        assert node.addresses.detection(pod) == Detection(conflicts=False, gateway=True)


async def test_a_conflict_takes_no_address_from_a_statefulset(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        node.server.put(
            StatefulSet(metadata=ObjectMeta(name="web", namespace="default"), spec=WorkloadSpec(replicas=1))
        )
        await node.seen(owned_by(await node.pod("web-0"), "StatefulSet", "web"))
        first = await node.add("web-0", "c")
        await node.ipam.release_conflicting(node.args("web-0"), "c")
        await node.settled()
        assert node.records == {first: "web-0"}


async def test_a_pod_that_is_deleted_while_it_waits_for_an_address_leaves_none_to_its_owner(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, pool("p", "10.0.0.1-10.0.0.9")) as node:
        await node.seen(owned_by(await node.pod("set-0"), "StatefulSet", "set"))
        node.server.inject(Fault("create", delay=0.5))
        add = asyncio.create_task(node.add("set-0", "former"))
        await eventually(lambda: node.server.requests["create"] > 0)  # it knows the pod
        await node.gone("set-0")
        with pytest.raises(NotReady, match="was deleted while an address was taken"):
            await add
        await eventually(lambda: node.records == {})
        await node.seen(owned_by(await node.pod("set-0"), "StatefulSet", "set"))
        address = await node.add("set-0", "next")
        assert node.records == {address: "set-0"}


async def test_a_static_pod_gets_its_address_though_its_mirror_is_deleted_meanwhile(tmp_path: Path) -> None:
    digest = {STATIC_POD_ANNOTATION: "d", MIRROR_POD_ANNOTATION: "d"}
    async with addressing_node(tmp_path, pool("p", "10.0.0.1-10.0.0.9")) as node:
        mirror = await node.pod("static")
        await node.seen(changed(mirror, metadata=changed(mirror.metadata, annotations=digest)))
        node.uids["static"] = "d"
        node.server.inject(Fault("create", delay=0.5))
        add = asyncio.create_task(node.add("static", "c"))
        await eventually(lambda: node.server.requests["create"] > 0)
        await node.gone("static")
        address = await add
        assert node.records == {address: "static"}


async def test_a_pool_that_was_moved_to_another_node_still_gives_gateway_and_routes(tmp_path: Path) -> None:
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        before = await node.grants("p", "c")
        assert before[0].gateway == "10.0.255.254"
        await node.moved(pool("one", "10.0.0.1-10.0.0.9", nodeName=["n2"]))
        assert await node.grants("p", "next") == before
        (record,) = node.addresses.records_of("default", "p")
        assert await node.addresses.grant(record) == before[0]
        node.server.remove(node.server.stored(SpiderIPPool)["one"])
        with pytest.raises(
            NotReady, match=r"pool one, from which eth0 of pod default/p has .*, does not exist; create"
        ):
            await node.grants("p", "next")
        node.server.inject(Fault("get", status=500))
        with pytest.raises(ApiUnavailable):
            await node.grants("p", "next")


async def test_few_events_tell_of_many_annotations_without_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Recorder, "event", lambda *args: said.append(args[-1]))
    async with addressing_node(tmp_path, ONE) as node:
        pod = await node.pod("p")
        annotations = {f"ipam.spidernet.io/{number}": "" for number in range(99)} | {DEFAULT_ROUTE_NIC: "net7"}
        await node.seen(changed(pod, metadata=changed(pod.metadata, annotations=annotations)))
        await node.add("p", "c")
    assert len(said) == MOST


async def test_a_container_without_its_network_namespace_is_forgotten_when_its_pod_is_gone(tmp_path: Path) -> None:
    (tmp_path / "another").touch()
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        await node.allocate("p", SandboxTarget("c", str(tmp_path / "removed")))
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") == "c"
        await node.gone("p")
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") is None


async def test_a_container_that_is_there_is_not_forgotten_when_its_virtual_machine_has_another_pod(
    tmp_path: Path,
) -> None:
    """The record names the later pod, and nothing else says that the former one's sandbox has the address."""
    namespace = tmp_path / "namespace"
    namespace.touch()
    async with addressing_node(tmp_path, ONE) as node:
        await node.pod("p")
        await node.allocate("p", SandboxTarget("c", str(namespace)))
        await node.gone("p")
        (record,) = node.server.stored(SpiderIP).values()
        node.server.put(changed(record, spec=changed(record.spec, pod="later", podUID="later")))
        await eventually(lambda: not node.cluster.records.of_pod(node.uids["p"]))
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") == "c"
        namespace.unlink()
        node.ipam.forget_gone()
        assert node.containers.of(node.uids["p"], "eth0") is None


async def test_a_static_pod_keeps_its_address_while_its_mirror_is_made_again(tmp_path: Path) -> None:
    """The runtime names the hash of its manifest, which outlives the objects that mirror it."""
    digest = "0123456789abcdef0123456789abcdef"
    annotations = {STATIC_POD_ANNOTATION: digest, MIRROR_POD_ANNOTATION: digest}
    metadata = ObjectMeta(name="s", namespace="default", annotations=annotations)
    mirror = Pod(metadata=metadata, spec=PodSpec(nodeName=NODE))
    async with addressing_node(tmp_path, pool("p", "10.0.0.1-10.0.0.9")) as node:
        first = await node.seen(mirror)
        node.uids["s"] = digest
        address = await node.add("s", "c1")
        assert node.server.stored(SpiderIP)[address].spec.podUID == digest
        await node.gone("s")
        assert (await node.seen(mirror)).metadata.uid != first.metadata.uid
        node.uids["s"] = digest
        await node.delete("s", "c1")
        await node.pod("other")
        assert await node.add("other", "c") != address
        before = node.server.stored(SpiderIP)[address].metadata.resourceVersion
        assert await node.add("s", "c2") == address
        after = node.server.stored(SpiderIP)[address].metadata.resourceVersion
        assert after != before, "so that a deletion fails that was sent while it had no mirror"
