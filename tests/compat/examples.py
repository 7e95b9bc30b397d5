"""The examples in a cluster: applied with what they need, and gone without a trace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.compat.cluster import until
from tests.compat.conftest import agents, nodes
from tests.support.local_agent import LocalAgent

EXAMPLES = Path(__file__).parents[2] / "examples"
NODES = {"master": {"topology.kubernetes.io/zone": "zone-a"}, "worker": {"topology.kubernetes.io/zone": "zone-b"}}

THIRD_PARTY_KINDS = (
    ("apps.kruise.io", "v1alpha1", "CloneSet", "clonesets"),
    ("kubevirt.io", "v1", "VirtualMachine", "virtualmachines"),
    ("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances"),
)
"""Kinds of other projects that examples use; the test defines them by minimal CRDs."""


@contextmanager
def applied(control_plane: ControlPlane, folder: Path) -> Iterator[dict[str, LocalAgent]]:
    """All examples in the cluster, with agents of two nodes. At the end everything is deleted; nothing may be left."""
    crds = [_crd(*kind) for kind in THIRD_PARTY_KINDS]
    control_plane.apply(*(json.dumps(crd) for crd in crds))
    names = [crd["metadata"]["name"] for crd in crds]
    before = asyncio.run(_existing_objects(control_plane))
    try:
        control_plane.kubectl("wait", "--for=condition=Established", "crd", *names, "--timeout=30s")
        with nodes(control_plane, NODES), agents(control_plane, folder, list(NODES)) as started:
            control_plane.kubectl("apply", "--recursive", "--filename", EXAMPLES, timeout=60)
            yield started
            control_plane.kubectl("delete", "--recursive", "--filename", EXAMPLES, "--ignore-not-found", "--wait=false")
            asyncio.run(_check_nothing_is_left(control_plane, before))
    finally:
        control_plane.kubectl("delete", "crd", *names)


def _crd(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


KINDS: tuple[type[Object], ...] = (
    Pod,
    SpiderIP,
    SpiderIPPool,
    SpiderSubnet,
    SpiderReservedIP,
    SpiderEndpoint,
    SpiderMultusConfig,
    SpiderLoadBalancerGrant,
    NetworkAttachmentDefinition,
)


async def _object_keys(client: Client) -> set[str]:
    keys = {f"{kind.__name__} {item.key}" for kind in KINDS if kind is not Pod for item in await client.list(kind)}
    return keys | {f"Pod {pod.key}" for pod in await _pods(client)}


async def _pods(client: Client) -> list[Pod]:
    """All pods but those to which the tokens of agents are bound: without them agents release nothing."""
    return [pod for pod in await client.list(Pod) if pod.metadata.namespace != "kube-system"]


async def _existing_objects(control_plane: ControlPlane) -> set[str]:
    """Kinds and names of the objects that other tests have left in the cluster."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        return await _object_keys(client)


async def _check_nothing_is_left(control_plane: ControlPlane, before: set[str]) -> None:
    """Delete the pods as kubelets do, and wait until all objects are gone that were not there ``before``."""
    left: set[str] = set()
    async with Client.load(control_plane.admin_kubeconfig) as client:

        async def nothing_is_left() -> bool:
            for pod in await _pods(client):
                await client.delete(Pod, pod.name, pod.metadata.namespace, grace=0)
            left.clear()
            left.update(await _object_keys(client) - before)
            return not left

        try:
            await until(nothing_is_left, "an empty cluster", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None
