"""A hundred pods with two interfaces and dual-stack addresses, among them a StatefulSet that moves to other nodes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.compat.cluster import Cluster, addresses, until
from tests.compat.conftest import BOTH, agents, nodes
from tests.support.local_agent import LocalAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240), pytest.mark.usefixtures("controller")]

ANNOTATIONS = {
    "k8s.v1.cni.cncf.io/networks": "kube-system/ipvlan-eth1",
    "ipam.spidernet.io/ippools": json.dumps(
        [
            {"interface": "eth0", "ipv4": ["front-*"], "ipv6": ["front-*"]},
            {"interface": "net1", "ipv4": ["back-*"], "ipv6": ["back-*"], "cleangateway": True},
        ]
    ),
}
INTERFACES = {"front": ("eth0", "10.90", "fd00:90"), "back": ("net1", "10.91", "fd00:91")}
LEFT, RIGHT = {"side": "left"}, {"side": "right"}

InterfaceAddresses = dict[str, list[str]]
"""Interface → its addresses, IPv4 first."""


def pools(number: int, suffix: str, **spec: Any) -> list[dict[str, Any]]:
    """A pool for each interface and IP family. Pools with different numbers do not overlap."""
    manifests = []
    for eni, (_, four, six) in INTERFACES.items():
        for version, subnet, ips in (
            (4, f"{four}.0.0/16", f"{four}.{number}.1-{four}.{number}.200"),
            (6, f"{six}::/64", f"{six}::{number}:1-{six}::{number}:200"),
        ):
            fields = {"subnet": subnet, "ips": [ips], **spec}
            metadata = {"name": f"{eni}-{suffix}-v{version}"}
            kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool"}
            manifests.append({**kind, "metadata": metadata, "spec": fields})
    return manifests


def workload(kind: str, name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """A workload whose pods have two interfaces with dual-stack addresses."""
    template = {
        "metadata": {"labels": {"app": name, "moving": "yes"}, "annotations": ANNOTATIONS},
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0} | spec,
    }
    fields = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "StatefulSet":
        fields |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": fields}


STICKY_NODES = {"left-1": LEFT, "left-2": LEFT, "right-1": RIGHT, "right-2": RIGHT}
PLAIN_NODES = {"left-3": LEFT, "right-3": RIGHT}


@pytest.fixture
def sticky_agents(control_plane: ControlPlane, tmp_path: Path) -> Iterator[dict[str, LocalAgent]]:
    """Agents that keep addresses of a StatefulSet's pods (enableStatefulSet, the default)."""
    with nodes(control_plane, STICKY_NODES), agents(control_plane, tmp_path, list(STICKY_NODES)) as started:
        yield started


@pytest.fixture
def plain_agents(control_plane: ControlPlane, tmp_path: Path) -> Iterator[dict[str, LocalAgent]]:
    """Agents with enableStatefulSet turned off."""
    settings = f"{BOTH}\nenableStatefulSet: false"
    with nodes(control_plane, PLAIN_NODES), agents(control_plane, tmp_path, list(PLAIN_NODES), settings) as started:
        yield started


@asynccontextmanager
async def open_cluster(plane: ControlPlane, started: dict[str, LocalAgent]) -> AsyncIterator[Cluster]:
    """A cluster with these agents. At the end all pods are deleted; no address may stay allocated."""
    async with Client.load(plane.admin_kubeconfig) as client:
        cluster = Cluster(plane, client, started)
        await cluster.heartbeat()
        try:
            yield cluster
        finally:
            plane.kubectl("delete", "deployments,statefulsets", "--all")
            await cluster.delete_pods("moving=yes", "eth0", "net1")

        async def all_released() -> bool:
            return not await client.list(SpiderIP)

        await until(all_released, "release of all addresses")
        plane.kubectl("delete", "spiderippools", "--all")


async def attach(cluster: Cluster, pods: Iterable[Pod]) -> dict[str, InterfaceAddresses]:
    """Attach all interfaces of pods concurrently. Returns name of the pod → addresses."""

    async def one(pod: Pod) -> tuple[str, InterfaceAddresses]:
        return pod.name, {name: addresses(await cluster.add(pod, name)) for name, _, _ in INTERFACES.values()}

    return dict(await asyncio.gather(*map(one, pods)))


async def check_addresses_are_unique(
    cluster: Cluster, attached: dict[str, InterfaceAddresses], pods: Iterable[Pod]
) -> None:
    """Check that every pod has four addresses, that no address is used twice, and that SpiderIPs name these pods."""
    every = [address for interfaces in attached.values() for listed in interfaces.values() for address in listed]
    assert len(every) == len(set(every)) == 4 * len(attached)
    records = {
        (record.spec.podUID, record.spec.interface, record.spec.address.partition("/")[0])
        for record in await cluster.client.list(SpiderIP)
    }
    assert records == {
        (pod.metadata.uid, interface, address)
        for pod in pods
        for interface, listed in attached[pod.name].items()
        for address in listed
    }


async def swap_sides(cluster: Cluster, sides: dict[str, dict[str, str]]) -> None:
    """Swap the labels of the left and the right nodes."""
    await cluster.heartbeat()
    for name, side in sides.items():
        other = RIGHT if side == LEFT else LEFT
        await cluster.client.patch(Node, name, {"metadata": {"labels": other}})


async def replace_pods(cluster: Cluster, pods: list[Pod]) -> list[Pod]:
    """Delete pods of a StatefulSet as kubelets do. Returns their successors when they are scheduled."""
    for pod in pods:
        await cluster.delete_pod(pod)
    await asyncio.gather(*(cluster.release(pod, "eth0", "net1") for pod in pods))
    former = {pod.metadata.uid for pod in pods}

    async def replaced() -> bool:
        found = await cluster.client.list(Pod, "default", labels="app=sticky")
        return len(found) == len(pods) and not any(pod.metadata.uid in former for pod in found)

    await until(replaced, "the next pods of the StatefulSet")
    return await cluster.pods(count=len(pods), labels="app=sticky")


@pytest.mark.parametrize(("crowded", "ordinals"), [(4, 4), pytest.param(90, 10, marks=pytest.mark.full)])
async def test_ordinals_keep_all_their_addresses_on_other_nodes(
    control_plane: ControlPlane, sticky_agents: dict[str, LocalAgent], crowded: int, ordinals: int
) -> None:
    async with open_cluster(control_plane, sticky_agents) as cluster:
        shared, sticky = pools(0, "shared"), workload("StatefulSet", "sticky", ordinals, nodeSelector=LEFT)
        control_plane.apply(*map(json.dumps, [*shared, workload("Deployment", "crowd", crowded), sticky]))
        pods = await cluster.pods(count=crowded + ordinals, labels="moving=yes")
        assert {pod.spec.nodeName for pod in pods} == set(STICKY_NODES)
        before = await attach(cluster, pods)
        await check_addresses_are_unique(cluster, before, pods)

        old = [pod for pod in pods if pod.name.startswith("sticky-")]
        await swap_sides(cluster, STICKY_NODES)
        new = await replace_pods(cluster, old)
        assert {pod.spec.nodeName for pod in old} == {"left-1", "left-2"}
        assert {pod.spec.nodeName for pod in new} == {"right-1", "right-2"}
        after = await attach(cluster, new)
        assert after == {pod.name: before[pod.name] for pod in old}
        crowd = [pod for pod in pods if pod not in old]
        await check_addresses_are_unique(cluster, before, [*crowd, *new])
        endpoint = (await cluster.endpoint(new[0])).status
        assert endpoint is not None
        assert [detail.interface for detail in endpoint.current.ips] == ["eth0", "net1"]
        assert endpoint.current.node == new[0].spec.nodeName


async def test_without_the_setting_they_get_addresses_of_the_new_nodes_pools(
    control_plane: ControlPlane, plain_agents: dict[str, LocalAgent]
) -> None:
    async with open_cluster(control_plane, plain_agents) as cluster:
        of_nodes = [pool for number, name in enumerate(PLAIN_NODES) for pool in pools(number, name, nodeName=[name])]
        control_plane.apply(*map(json.dumps, [*of_nodes, workload("StatefulSet", "sticky", 10, nodeSelector=LEFT)]))
        old = await cluster.pods(count=10, labels="app=sticky")
        before = await attach(cluster, old)
        await check_addresses_are_unique(cluster, before, old)

        await swap_sides(cluster, PLAIN_NODES)
        new = await replace_pods(cluster, old)
        after = await attach(cluster, new)
        await check_addresses_are_unique(cluster, after, new)
        assert {pod.spec.nodeName for pod in new} == {"right-3"}
        assert {record.spec.node for record in await cluster.client.list(SpiderIP)} == {"right-3"}
        for interfaces in after.values():
            four, six = interfaces["eth0"]
            assert four.startswith("10.90.1.")
            assert six.startswith("fd00:90::1:")
            assert interfaces["net1"][0].startswith("10.91.1.")
