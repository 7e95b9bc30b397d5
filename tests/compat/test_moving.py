"""A hundred pods with two interfaces and both families; the StatefulSet among them moves to other nodes."""

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
from tests.compat.cluster import Stage, addresses, until
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

Held = dict[str, list[str]]
"""Addresses by interface, IPv4 first."""


def pools(place: int, suffix: str, **spec: Any) -> list[dict[str, Any]]:
    """A pool for each interface and family; ``place`` keeps those of several nodes apart."""
    made = []
    for eni, (_, four, six) in INTERFACES.items():
        for version, subnet, ips in (
            (4, f"{four}.0.0/16", f"{four}.{place}.1-{four}.{place}.200"),
            (6, f"{six}::/64", f"{six}::{place}:1-{six}::{place}:200"),
        ):
            fields = {"subnet": subnet, "ips": [ips], **spec}
            metadata = {"name": f"{eni}-{suffix}-v{version}"}
            kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool"}
            made.append({**kind, "metadata": metadata, "spec": fields})
    return made


def workload(kind: str, name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """A workload all of whose pods ask for two interfaces with both families."""
    template = {
        "metadata": {"labels": {"app": name, "moving": "yes"}, "annotations": ANNOTATIONS},
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0} | spec,
    }
    fields = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "StatefulSet":
        fields |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": fields}


KEEPING = {"left-1": LEFT, "left-2": LEFT, "right-1": RIGHT, "right-2": RIGHT}
FORGETTING = {"left-3": LEFT, "right-3": RIGHT}


@pytest.fixture
def keeping(control_plane: ControlPlane, tmp_path: Path) -> Iterator[dict[str, LocalAgent]]:
    """Nodes whose agents leave a StatefulSet's addresses with its ordinals."""
    with nodes(control_plane, KEEPING), agents(control_plane, tmp_path, list(KEEPING)) as started:
        yield started


@pytest.fixture
def forgetting(control_plane: ControlPlane, tmp_path: Path) -> Iterator[dict[str, LocalAgent]]:
    """Nodes whose agents do not."""
    settings = f"{BOTH}\nenableStatefulSet: false"
    with nodes(control_plane, FORGETTING), agents(control_plane, tmp_path, list(FORGETTING), settings) as started:
        yield started


@asynccontextmanager
async def stage_of(plane: ControlPlane, started: dict[str, LocalAgent]) -> AsyncIterator[Stage]:
    """What tests do with the cluster. At the end all pods go, and no address may stay in use."""
    async with Client.load(plane.admin_kubeconfig) as client:
        stage = Stage(plane, client, started)
        await stage.heartbeat()
        try:
            yield stage
        finally:
            plane.kubectl("delete", "deployments,statefulsets", "--all")
            await stage.end_pods("moving=yes", "eth0", "net1")

        async def all_released() -> bool:
            return not await client.list(SpiderIP)

        await until(all_released, "no address is in use")
        plane.kubectl("delete", "spiderippools", "--all")


async def attach(stage: Stage, pods: Iterable[Pod]) -> dict[str, Held]:
    """The addresses of all interfaces of pods, asked for at the same time."""

    async def one(pod: Pod) -> tuple[str, Held]:
        return pod.name, {name: addresses(await stage.served(pod, name)) for name, _, _ in INTERFACES.values()}

    return dict(await asyncio.gather(*map(one, pods)))


async def check_that_nobody_shares(stage: Stage, held: dict[str, Held], pods: Iterable[Pod]) -> None:
    """Every pod has four addresses, no two have the same one, and the records name the pods that live now."""
    every = [address for each in held.values() for listed in each.values() for address in listed]
    assert len(every) == len(set(every)) == 4 * len(held)
    records = {
        (each.spec.podUID, each.spec.interface, each.spec.address.partition("/")[0])
        for each in await stage.client.list(SpiderIP)
    }
    assert records == {
        (pod.metadata.uid, interface, address)
        for pod in pods
        for interface, listed in held[pod.name].items()
        for address in listed
    }


async def swap_sides(stage: Stage, sides: dict[str, dict[str, str]]) -> None:
    """The nodes of the left side become those of the right side, and the other way round."""
    await stage.heartbeat()
    for name, side in sides.items():
        other = RIGHT if side == LEFT else LEFT
        await stage.client.patch(Node, name, {"metadata": {"labels": other}})


async def replace(stage: Stage, pods: list[Pod]) -> list[Pod]:
    """End pods of a StatefulSet as kubelets do; their successors, once they are on nodes."""
    for pod in pods:
        await stage.delete_pod(pod)
    await asyncio.gather(*(stage.remove(pod, "eth0", "net1") for pod in pods))
    former = {pod.metadata.uid for pod in pods}

    async def replaced() -> bool:
        found = await stage.client.list(Pod, "default", labels="app=sticky")
        return len(found) == len(pods) and not any(pod.metadata.uid in former for pod in found)

    await until(replaced, "the StatefulSet's next pods")
    return await stage.pods(count=len(pods), labels="app=sticky")


async def test_ordinals_keep_all_their_addresses_on_other_nodes(
    control_plane: ControlPlane, keeping: dict[str, LocalAgent]
) -> None:
    async with stage_of(control_plane, keeping) as stage:
        shared, sticky = pools(0, "shared"), workload("StatefulSet", "sticky", 10, nodeSelector=LEFT)
        control_plane.apply(*map(json.dumps, [*shared, workload("Deployment", "crowd", 90), sticky]))
        pods = await stage.pods(count=100, labels="moving=yes")
        assert {pod.spec.nodeName for pod in pods} == set(KEEPING)
        before = await attach(stage, pods)
        await check_that_nobody_shares(stage, before, pods)

        old = [pod for pod in pods if pod.name.startswith("sticky-")]
        await swap_sides(stage, KEEPING)
        new = await replace(stage, old)
        assert {pod.spec.nodeName for pod in old} == {"left-1", "left-2"}
        assert {pod.spec.nodeName for pod in new} == {"right-1", "right-2"}
        after = await attach(stage, new)
        assert after == {pod.name: before[pod.name] for pod in old}
        crowd = [pod for pod in pods if pod not in old]
        await check_that_nobody_shares(stage, before, [*crowd, *new])
        endpoint = (await stage.endpoint(new[0])).status
        assert endpoint is not None
        assert [each.interface for each in endpoint.current.ips] == ["eth0", "net1"]
        assert endpoint.current.node == new[0].spec.nodeName


async def test_without_the_setting_they_get_addresses_of_the_new_nodes_pools(
    control_plane: ControlPlane, forgetting: dict[str, LocalAgent]
) -> None:
    async with stage_of(control_plane, forgetting) as stage:
        of_nodes = [pool for place, name in enumerate(FORGETTING) for pool in pools(place, name, nodeName=[name])]
        control_plane.apply(*map(json.dumps, [*of_nodes, workload("StatefulSet", "sticky", 10, nodeSelector=LEFT)]))
        old = await stage.pods(count=10, labels="app=sticky")
        before = await attach(stage, old)
        await check_that_nobody_shares(stage, before, old)

        await swap_sides(stage, FORGETTING)
        new = await replace(stage, old)
        after = await attach(stage, new)
        await check_that_nobody_shares(stage, after, new)
        assert {pod.spec.nodeName for pod in new} == {"right-3"}
        assert {each.spec.node for each in await stage.client.list(SpiderIP)} == {"right-3"}
        for held in after.values():
            four, six = held["eth0"]
            assert four.startswith("10.90.1.")
            assert six.startswith("fd00:90::1:")
            assert held["net1"][0].startswith("10.91.1.")
