"""A cluster with two pods in a pool, whose kubelet, agent and controllers are played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from spiderpool.api.core_v1 import ConfigMap, Namespace
from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachineInstance
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.cli.connection import Cluster
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.renumbering import moving, runs
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.kube.client import Client
from tests.cli.test_explain import NAD, agents
from tests.cli.test_plan import KINDS, node, pool, record
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.successors import FarEnd, running, with_node_label

SET = OwnerReference("apps/v1", "CustomSet", "web", "uid-of-web", controller=True)
DB = OwnerReference("apps/v1", "StatefulSet", "db", "uid-of-db", controller=True)
VM = OwnerReference("kubevirt.io/v1", "VirtualMachineInstance", "vm", "uid-of-vm", controller=True)


def pod(name: str, owner: OwnerReference | None = SET, **metadata: object) -> EvictablePod:
    return running(name, "default", "n1", ownerReferences=[owner] if owner else None, **metadata)


def held(address: str, name: str, **spec: object) -> SpiderIP:
    return with_node_label(record(address, pod=name, podUID=f"uid-of-{name}", **spec))


OLD = pool("one", "10.0.0.1-10.0.0.6")
MOVE = MoveOptions(
    move=True, move_unmanaged=False, even_if_full=False, timeout=5.0, policies=PolicyOptions("kube-system")
)


@dataclass
class PlayedCluster:
    """The cluster, and what commands have told."""

    server: ApiServer
    client: Client
    far: FarEnd
    said: list[str]

    @property
    def cluster(self) -> Cluster:
        """As commands read it."""
        return Cluster(self.client, 5.0)

    async def told(self, words: str) -> None:
        """Wait until a command has told something with these words."""
        await eventually(lambda: any(words in each for each in self.said), f"a command tells: {words}")

    def pool(self, name: str) -> SpiderIPPool:
        """A pool as it is now."""
        return self.server.stored(SpiderIPPool)[name]

    def put(self, each: EvictablePod, address: str, owner: IPOwner | None = None) -> None:
        """Add a pod that serves, with an address."""
        self.server.put(each)
        uid = self.server.stored(EvictablePod)[each.key].metadata.uid
        self.server.put(with_node_label(record(address, pod=each.name, podUID=uid, owner=owner)))

    @property
    def holding(self) -> dict[str, str]:
        """The pods that hold addresses."""
        return {each.name: each.spec.pod for each in self.server.stored(SpiderIP).values()}


@asynccontextmanager
async def played_cluster(
    monkeypatch: pytest.MonkeyPatch, target: str = "two", first: str = "10.0.0.11"
) -> AsyncIterator[PlayedCluster]:
    """Pod web-a has the first address of pool one, web-b the second. It looks often, and agents learn at once.

    The agent gives new pods addresses of the ``target`` from ``first`` on.
    """
    monkeypatch.setattr(moving, "POLL", 0.02)
    monkeypatch.setattr(runs, "LEARNING", 0.0)
    kinds = {kind.KIND.plural: kind.KIND for kind in (*KINDS, SpiderMultusConfig, EvictablePod, VirtualMachineInstance)}
    async with ApiServer(*kinds.values()) as server, server.client() as client:
        metadata = ObjectMeta(name="underlay", namespace="kube-system")
        server.put(NetworkAttachmentDefinition(metadata=metadata, spec=NADSpec(config=NAD)))
        data = {"conf.yml": "enableIPv6: false", "clusterNetwork": "kube-system/underlay"}
        server.put(ConfigMap(metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data=data))
        server.put(
            agents(),
            Namespace(metadata=ObjectMeta(name="default")),
            node("n1"),
            OLD,
            pool("two", "10.0.0.11-10.0.0.14"),
        )
        network, _, number = first.rpartition(".")
        numbers = count(int(number))

        async def give(each: EvictablePod) -> None:
            spec = {"pool": target, "pod": each.name, "podUID": each.metadata.uid}
            await client.create(with_node_label(record(f"{network}.{next(numbers)}", **spec)))
            for former in server.stored(SpiderIP).values():
                if former.spec.owner and former.spec.pod == each.name and former.spec.podUID != each.metadata.uid:
                    server.remove(former)

        async def take(each: EvictablePod) -> None:
            for found in server.stored(SpiderIP).values():
                if found.spec.podUID == each.metadata.uid and not found.spec.owner:
                    server.remove(found)

        far = FarEnd(client, "default", give, take)
        found = PlayedCluster(server, client, far, [])
        found.put(pod("web-a"), "10.0.0.1")
        found.put(pod("web-b"), "10.0.0.2")
        async with far.playing():
            yield found
