"""From what servers say of their ENIs to pools that pods get addresses from, under our own roles and webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.agent.discovery import ENIDiscovery, HostLinks, InstanceCache, OwnServer
from spiderpool.api.core_v1 import Event, Node, Pod
from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cloud.alibaba.metadata import MetadataClient
from spiderpool.core.cloud.eni_pools import DEVICE_LABEL, RELEASING_ANNOTATION, UNREGISTERED_ANNOTATION, new_network
from spiderpool.core.network.plumbing.values import Link
from spiderpool.kube.client import Client, Invalid, NotFound
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.cloud.alibaba.far_end import ENIS, MAC0, MAC1, FarEnd
from tests.conftest import own_control_plane
from tests.controller.conftest import Running, start_controller, wait
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, agent_kubeconfig
from tests.support.servers import describe

pytestmark = pytest.mark.control_plane

PATIENCE = 10.0


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: one controller leads a cluster, and this one discovers."""
    with own_control_plane(tmp_path_factory.mktemp("discovery")) as plane:
        yield plane


@pytest.fixture(scope="module")
def discovering(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start_controller(plane, tmp_path_factory.mktemp("controller"), CLOUD_PROVIDER="alibaba")
    try:
        wait(running, lambda: running.is_ready, "not ready")
        yield running
        running.stop()
    finally:
        running.kill()


@pytest.fixture
async def admin(plane: ControlPlane, discovering: Running) -> AsyncIterator[Client]:
    """An administrator's client; what a test made is gone afterwards."""
    async with Client.load(plane.admin_kubeconfig) as client:
        try:
            yield client
        finally:
            await clear(client)


async def clear(client: Client) -> None:
    for pod in await client.list(Pod, "default"):
        await gone(client, Pod, pod.name, "default", grace=0)
    for kind in (Node, SpiderIP):
        for each in await client.list(kind):
            await gone(client, kind, each.name)
    for network in await client.list(SpiderMultusConfig):
        await gone(client, SpiderMultusConfig, network.name, network.metadata.namespace)

    async def no_pools() -> bool:
        """Those of ENIs are made again until the controller knows that the Nodes are gone."""
        pools = await client.list(SpiderIPPool)
        for pool in pools:
            await gone(client, SpiderIPPool, pool.name)
        return not pools

    await eventually(no_pools, timeout=PATIENCE)


async def gone(client: Client, kind: Any, *name: Any, **options: Any) -> None:
    try:
        await client.delete(kind, *name, **options)
    except NotFound:
        return


# --- servers, each with addresses of its own


def server(node: str, number: int, *, second: tuple[str, ...] = ()) -> Instance:
    """A server with two ENIs; ``number`` keeps it apart from others, ``second`` are secondaries of its second ENI."""
    first = ENI(
        f"eni-{node}-0",
        f"00:16:3e:00:{number:02x}:01",
        True,
        f"172.31.{number}.1",
        (f"172.31.{number}.10",),
        (),
        "vsw-a",
        "172.31.0.0/16",
        None,
        "172.31.255.253",
        None,
        "eth0",
    )
    other = ENI(
        f"eni-{node}-1",
        f"00:16:3e:00:{number:02x}:02",
        False,
        f"192.168.{number}.1",
        second,
        (),
        "vsw-b",
        "192.168.0.0/16",
        None,
        None,
        None,
        "eth1",
    )
    return Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", f"i-{node}", "ecs.g7.large", (first, other))


async def says(client: Client, node: str, told: Instance | None) -> None:
    """Make a Node, or let it say something else."""
    if await client.find(Node, node) is None:
        await client.create(Node(metadata=ObjectMeta(name=node)))
    await describe(client, node, told)


async def pool(client: Client, name: str) -> SpiderIPPool | None:
    try:
        return await client.get(SpiderIPPool, name)
    except NotFound:
        return None


async def until(client: Client, name: str, condition: Callable[[SpiderIPPool], bool]) -> SpiderIPPool:
    """The pool, when a condition holds of it."""
    found: list[SpiderIPPool] = []

    async def holds() -> bool:
        seen = await pool(client, name)
        if seen is not None and condition(seen):
            found.append(seen)
        return bool(found)

    await eventually(holds, timeout=PATIENCE)
    return found[0]


def has(*ips: str, exclude: tuple[str, ...] = ()) -> Callable[[SpiderIPPool], bool]:
    return lambda seen: (tuple(seen.spec.ips or ()), tuple(seen.spec.excludeIPs or ())) == (ips, exclude)


def unregistered(seen: SpiderIPPool) -> str | None:
    return (seen.metadata.annotations or {}).get(UNREGISTERED_ANNOTATION)


async def hold(client: Client, address: str, owner: SpiderIPPool, node: str) -> SpiderIP:
    labels = {IP_POOL_LABEL: owner.name, IP_NODE_LABEL: node}
    made = await make_pod(client, f"pod-{address.replace('.', '-')}", node)
    spec = IPSpec(f"{address}/16", owner.name, node, "default", made.name, made.metadata.uid or "", "eth0")
    return await client.create(SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=spec))


async def make_pod(client: Client, name: str, node: str) -> Pod:
    spec = {
        "nodeName": node,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "i"}],
    }
    return await client.apply(Pod, {"metadata": {"name": name, "namespace": "default"}, "spec": spec}, name, "default")


async def events(client: Client, kind: str, name: str) -> set[str]:
    listed = await client.list(Event, "default", fields=f"involvedObject.kind={kind},involvedObject.name={name}")
    return {event.reason for event in listed}


def recorded(client: Client, kind: str, name: str, reason: str) -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        return reason in await events(client, kind, name)

    return seen


# --- tests


async def test_enis_become_pools_and_networks(admin: Client) -> None:
    await says(admin, "m1", server("m1", 1, second=("192.168.1.11", "192.168.1.12", "192.168.1.20")))
    first, second = await until(admin, "m1-eth0-v4", bool), await until(admin, "m1-eth1-v4", bool)
    assert first.metadata.labels is not None
    assert (first.metadata.labels[POOL_ENI_LABEL], first.metadata.ownerReferences) == ("eni-m1-0", None)
    assert (first.spec.ips, first.spec.subnet, first.spec.gateway) == (
        ["172.31.1.10"],
        "172.31.0.0/16",
        "172.31.255.253",
    )
    assert (second.spec.ips, second.spec.gateway) == (["192.168.1.11-192.168.1.12", "192.168.1.20"], "192.168.255.253")
    assert (second.spec.nodeName, second.spec.multusName) == (["m1"], ["kube-system/ipvlan-eth1"])

    async def attachments() -> bool:
        made = {each.name for each in await admin.list(NetworkAttachmentDefinition, "kube-system")}
        return {"ipvlan-eth0", "ipvlan-eth1"} <= made

    await eventually(attachments, timeout=PATIENCE)
    network = await admin.get(SpiderMultusConfig, "ipvlan-eth1", "kube-system")
    assert (network.metadata.labels or {})[DEVICE_LABEL] == "eth1"


async def test_what_others_wrote_is_left_alone(admin: Client) -> None:
    spec = IPPoolSpec(subnet="172.31.0.0/16", ips=["172.31.2.200"])
    by_hand = await admin.create(SpiderIPPool(metadata=ObjectMeta(name="m2-eth0-v4"), spec=spec))
    network = new_network("eth1", "kube-system", "m2")
    network.metadata.labels = {"by": "hand"}
    await admin.create(network)
    await says(admin, "m2", server("m2", 2, second=("192.168.2.11",)))
    await until(admin, "m2-eth1-v4", has("192.168.2.11"))
    await eventually(recorded(admin, "Node", "m2", "NoPoolForCard"), timeout=PATIENCE)
    assert await admin.get(SpiderIPPool, "m2-eth0-v4") == await admin.get(SpiderIPPool, by_hand.name)
    assert (await admin.get(SpiderIPPool, "m2-eth0-v4")).spec == by_hand.spec
    assert (await admin.get(SpiderMultusConfig, "ipvlan-eth1", "kube-system")).metadata.labels == {"by": "hand"}


async def test_a_hand_written_pool_keeps_its_addresses_and_the_eni_gives_the_others(admin: Client) -> None:
    spec = IPPoolSpec(subnet="192.168.0.0/16", ips=["192.168.3.11"])
    await admin.create(SpiderIPPool(metadata=ObjectMeta(name="by-hand"), spec=spec))
    await says(admin, "m3", server("m3", 3, second=("192.168.3.11", "192.168.3.12")))
    await until(admin, "m3-eth1-v4", has("192.168.3.12"))


@pytest.mark.parametrize("sensible", [False, None])
async def test_a_node_that_says_nothing_sensible_changes_nothing(admin: Client, sensible: bool | None) -> None:
    whole = server("m4", 4, second=("192.168.4.11",))
    await says(admin, "m4", whole)
    before = await until(admin, "m4-eth1-v4", has("192.168.4.11"))
    await says(admin, "m4", None if sensible is None else replace(whole, enis=whole.enis * 2))
    await says(admin, "m5", server("m5", 5, second=("192.168.5.11",)))
    await until(admin, "m5-eth1-v4", has("192.168.5.11"))
    after = await pool(admin, "m4-eth1-v4")
    assert after is not None
    assert after.spec == before.spec
    if sensible is False:
        await eventually(recorded(admin, "Node", "m4", "CardsNotReadable"), timeout=PATIENCE)


async def test_an_address_in_use_that_vanishes_is_fenced_told_and_comes_back(admin: Client) -> None:
    both, one = (server("m6", 6, second=second) for second in (("192.168.6.11", "192.168.6.12"), ("192.168.6.12",)))
    await says(admin, "m6", both)
    record = await hold(admin, "192.168.6.11", await until(admin, "m6-eth1-v4", bool), "m6")
    await says(admin, "m6", one)
    fenced = await until(admin, "m6-eth1-v4", has("192.168.6.11-192.168.6.12", exclude=("192.168.6.11",)))
    assert unregistered(fenced) == "192.168.6.11"
    for kind, name in (("Pod", record.spec.pod), ("SpiderIPPool", "m6-eth1-v4")):
        await eventually(recorded(admin, kind, name, "AddressNotRegistered"), timeout=PATIENCE)
    await says(admin, "m6", both)
    back = await until(admin, "m6-eth1-v4", has("192.168.6.11-192.168.6.12"))
    assert unregistered(back) is None
    await eventually(recorded(admin, "Pod", record.spec.pod, "AddressRegistered"), timeout=PATIENCE)
    assert (await admin.get(SpiderIP, record.name)).metadata.uid == record.metadata.uid


async def test_only_we_may_fence(admin: Client) -> None:
    await says(admin, "m7", server("m7", 7, second=("192.168.7.11",)))
    await hold(admin, "192.168.7.11", await until(admin, "m7-eth1-v4", bool), "m7")
    with pytest.raises(Invalid, match="takes away addresses in use"):
        await admin.patch(SpiderIPPool, "m7-eth1-v4", {"spec": {"excludeIPs": ["192.168.7.11"]}})


async def test_what_is_about_to_be_given_back_is_excluded(admin: Client) -> None:
    await says(admin, "m8", server("m8", 8, second=("192.168.8.11", "192.168.8.12")))
    await until(admin, "m8-eth1-v4", bool)
    note = {"metadata": {"annotations": {RELEASING_ANNOTATION: "192.168.8.12"}}}
    await admin.patch(SpiderIPPool, "m8-eth1-v4", note)
    await until(admin, "m8-eth1-v4", has("192.168.8.11-192.168.8.12", exclude=("192.168.8.12",)))


async def test_a_eni_that_vanishes_takes_its_pool_when_nothing_is_held(admin: Client) -> None:
    whole = server("m9", 9, second=("192.168.9.11", "192.168.9.12"))
    await says(admin, "m9", whole)
    record = await hold(admin, "192.168.9.11", await until(admin, "m9-eth1-v4", bool), "m9")
    await says(admin, "m9", replace(whole, enis=whole.enis[:1]))
    await until(admin, "m9-eth1-v4", has("192.168.9.11", exclude=("192.168.9.11",)))
    await admin.delete(SpiderIP, record.name)
    await vanished(admin, "m9-eth1-v4")
    assert await pool(admin, "m9-eth0-v4") is not None


async def vanished(client: Client, name: str) -> None:
    async def so() -> bool:
        return await pool(client, name) is None

    await eventually(so, timeout=PATIENCE)


async def test_a_node_that_is_made_again_finds_its_pools_and_one_that_stays_away_loses_them(admin: Client) -> None:
    whole = server("m10", 10, second=("192.168.10.11",))
    await says(admin, "m10", whole)
    before = await until(admin, "m10-eth1-v4", bool)
    await admin.delete(Node, "m10")
    await says(admin, "m10", None)
    await says(admin, "m10", whole)
    await until(admin, "m10-eth0-v4", bool)
    same = await pool(admin, "m10-eth1-v4")
    assert same is not None
    assert same.metadata.uid == before.metadata.uid
    await admin.delete(Node, "m10")
    for name in ("m10-eth0-v4", "m10-eth1-v4"):
        await vanished(admin, name)


async def test_a_eni_that_moves_to_another_server_takes_its_pool_along(admin: Client) -> None:
    here, there = server("m11", 11, second=("192.168.11.11",)), server("m12", 12)
    await says(admin, "m11", here)
    await says(admin, "m12", there)
    before = await until(admin, "m11-eth1-v4", bool)
    await says(admin, "m11", replace(here, enis=here.enis[:1]))
    await says(admin, "m12", replace(there, enis=(there.enis[0], here.enis[1])))

    async def moved() -> bool:
        pools = await admin.list(SpiderIPPool, labels=f"{POOL_ENI_LABEL}=eni-m11-1")
        return [each.spec.nodeName for each in pools if not each.terminating] == [["m12"]]

    await eventually(moved, timeout=PATIENCE)
    assert before.spec.ips == ["192.168.11.11"]


# --- from the metadata service to the pod


LINKS = (Link("eth0", 2, mac=MAC0), Link("eth1", 3, mac=MAC1))
PRIVATE = f"{ENIS}{MAC1}/private-ipv4s"


@asynccontextmanager
async def agent_of(plane: ControlPlane, node: str, far_end: FarEnd, cache: Path) -> AsyncIterator[None]:
    """The agent's discovery of a node, reading ten times a second."""
    kubeconfig = await asyncio.to_thread(agent_kubeconfig, plane, node)

    async def look() -> HostLinks:
        return HostLinks(LINKS, ())

    async with (
        Client.load(kubeconfig) as client,
        MetadataClient(far_end.endpoint) as source,
        asyncio.TaskGroup() as group,
    ):
        nodes = Informer(client, Node, fields=f"metadata.name={node}")
        servers = Informer(client, SpiderServer, fields=f"metadata.name={node}")
        work = ENIDiscovery(OwnServer(client, nodes, servers, node), source, InstanceCache(cache), 0.1, look)
        tasks = [group.create_task(each.run()) for each in (nodes, servers, work)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def test_from_the_metadata_service_to_the_pod_and_back(
    plane: ControlPlane, admin: Client, tmp_path: Path
) -> None:
    processes = Processes(tmp_path / "processes")
    await says(admin, "m20", None)
    local = await asyncio.to_thread(LocalAgent, plane, processes, tmp_path, "m20")
    async with FarEnd().serve() as far_end, agent_of(plane, "m20", far_end, tmp_path / "instance.json"):
        try:
            await until(admin, "m20-eth0-v4", has("172.31.199.185"))
            await until(admin, "m20-eth0-v6", bool)
            await asyncio.to_thread(local.start)
            pod = await make_pod(admin, "web", "m20")
            answer = await local.address("ADD", "default", "web", pod.metadata.uid or "")
            assert [each["address"] for each in answer["ips"]] == ["172.31.199.185/20"]
            assert answer["ips"][0]["gateway"] == "172.31.207.253"

            private = f"{ENIS}{MAC0}/private-ipv4s"
            far_end.pages[private] = '["172.31.199.183", "172.31.199.190"]'
            await until(admin, "m20-eth0-v4", has("172.31.199.185", "172.31.199.190", exclude=("172.31.199.185",)))
            await eventually(recorded(admin, "Pod", "web", "AddressNotRegistered"), timeout=PATIENCE)
            other = await make_pod(admin, "other", "m20")

            async def given() -> bool:
                second = await local.address("ADD", "default", "other", other.metadata.uid or "")
                return [each["address"] for each in second.get("ips", ())] == ["172.31.199.190/20"]

            await eventually(given, timeout=PATIENCE)
            await admin.delete(Pod, "web", "default", grace=0)
            assert await local.address("DEL", "default", "web", pod.metadata.uid or "") == {}
            await until(admin, "m20-eth0-v4", has("172.31.199.190"))

            far_end.pages[private] = '["172.31.199.183", "172.31.199.185", "172.31.199.190"]'
            await until(admin, "m20-eth0-v4", has("172.31.199.185", "172.31.199.190"))
        finally:
            await asyncio.to_thread(processes.stop_all)
