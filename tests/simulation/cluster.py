"""The cluster of a simulation: API server, nodes, controllers, pods, and who controls the pods."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from spiderpool.agent.addresses import PodPolicy
from spiderpool.api.applications import Job, ReplicaSet, StatefulSet
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Event, Namespace, Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.kubevirt import MIGRATION_ANNOTATION, VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Kind
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION, STATIC_POD_ANNOTATION
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.core.network.plumbing.probing import Detection
from tests.simulation.administrator import Administrator
from tests.simulation.api_server import CALM, SimulatedApiServer
from tests.simulation.checks import Checks
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.cloud_daemon import CloudProcess
from tests.simulation.daemons import Clock, ControllerProcess, skewed
from tests.simulation.kernel import Ledger
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Link
from tests.simulation.node import FINAL, SimulatedNode
from tests.support.api_store import Body, Change, Key, Store

KINDS: tuple[Kind, ...] = tuple(
    each.KIND
    for each in (
        *(Pod, Node, Namespace, Event, Lease, StatefulSet, ReplicaSet, Job, VirtualMachine, VirtualMachineInstance),
        *(SpiderIP, SpiderIPPool, SpiderReservedIP, SpiderEndpoint, SpiderSubnet, SpiderCoordinator),
        *(SpiderNode, SpiderServer, SpiderMultusConfig, NetworkAttachmentDefinition),
    )
)
EPOCH = 1_800_000_000.0
"""Seconds since 1970 at loop time 0."""
NETWORK = "kube-system/underlay"
IPVLAN: Body = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
NAD = json.dumps({"cniVersion": "1.0.0", "name": "underlay", "plugins": [IPVLAN]})
SECOND = "kube-system/second"
SECOND_NAD = json.dumps(
    {
        "cniVersion": "1.0.0",
        "name": "second",
        "plugins": [IPVLAN | {"ipam": {"type": "spiderpool", "default_ipv4_ippool": ["second"]}}],
    }
)
CARD = "kube-system/ipvlan-eth1"
"""The network of the pools that are made from ENIs."""
CARD_NAD = json.dumps(
    {"cniVersion": "1.0.0", "name": "ipvlan-eth1", "plugins": [IPVLAN | {"master": "eth1"}]},
)
POOLS_ANNOTATION = "ipam.spidernet.io/ippool"
NOT_READY_AFTER = 40.0
"""Seconds of silence after which a Node counts as not ready."""


@dataclass(frozen=True)
class Size:
    """How large a cluster is, and what may happen in it."""

    nodes: int = 3
    pods: int = 50
    longest_absence: float = 900.0
    """Seconds for which a kubelet may be cut off, hung or slow at most."""


@dataclass(frozen=True)
class Note:
    """A line of the history."""

    time: float
    text: str
    subjects: tuple[str, ...]


class Cluster:
    """Everything that is simulated in one run."""

    def __init__(self, loop: SimulatedLoop, random: Random, directory: Path, size: Size) -> None:
        self.loop = loop
        self.random = random
        self.size = size
        self.notes: list[Note] = []
        self.longest_stop = min(size.longest_absence / 2, 120.0)
        self.ledger = Ledger()
        self.numbers: Any = itertools.count(1).__next__
        self.ipam_only = random.random() < 0.3
        """Whether another plugin makes the interfaces and asks the agent for addresses alone."""
        self.api = SimulatedApiServer(KINDS, random, Store(self._now, self._uid))
        self.policy = self._policy()
        self.cloud = SimulatedCloud(loop, self.policy.addresses.families, random, self.api.faults)
        self.card_share = 0.4
        """The part of new pods that take addresses of ENIs."""
        self.administrator = Administrator(self)
        self.checks = Checks(self)
        self.reached_at = 0.0
        """When a node, or all of them, last reached the API server again."""
        self.resume_at = 0.0
        """Time before which no operation comes."""
        self.statefulsets: dict[str, None] = {}
        self.machines: dict[str, None] = {}
        self._pods: dict[str, dict[str, Body]] = {}
        self.api.store.listeners.append(self._changed)
        self.nodes = [
            SimulatedNode(self, f"n{number}", f"10.9.0.{number}", directory / f"n{number}")
            for number in range(1, size.nodes + 1)
        ]
        self.links = [*(node.link for node in self.nodes), Link("c1"), Link("c2")]
        self.controllers: list[ControllerProcess] = []
        self.cloud_controllers: list[CloudProcess] = []

    def start(self) -> None:
        """Fill the API server and start all machines."""
        self._put(NetworkAttachmentDefinition, "underlay", "kube-system", spec={"config": NAD})
        self._put(NetworkAttachmentDefinition, "second", "kube-system", spec={"config": SECOND_NAD})
        self._put(NetworkAttachmentDefinition, "ipvlan-eth1", "kube-system", spec={"config": CARD_NAD})
        self._put(Namespace, "default")
        self._put(ReplicaSet, "web", "default")
        for pool in self._pools():
            self._put(SpiderIPPool, pool.pop("name"), **pool)
        for node in self.nodes:
            self.cloud.add_server(node.name)
            node.boot()
            self.put_node(node)
        for link in self.links[-2:]:
            self.start_controller(link)
            self.start_cloud_controller(link)
        self._loops = [asyncio.ensure_future(work) for work in (self._control(), self.administrator.watch())]

    def heal(self) -> None:
        """End all faults: everything runs and is reached again."""
        self.api.listening = True
        self.api.rates = CALM
        self.cloud.heal()
        for link in self.links:
            if not link.up:
                link.heal()
        for node in self.nodes:
            if not node.gone:
                node.heal()
                self.put_node(node)
        for controller in (*self.controllers, *self.cloud_controllers):
            controller.process.go_on(self.loop)
        for body in list(self.bodies(SpiderIPPool).values()):
            self.update(SpiderIPPool, body, spec={**body["spec"], "disable": False})

    # --- clocks, names, history

    def wall_clock(self, skew: float = 0.0) -> Clock:
        """A clock in seconds since 1970 that is wrong by up to ``skew`` seconds."""
        return skewed(lambda: EPOCH + self.loop.time(), self.random, skew)

    def note(self, text: str, *subjects: str) -> None:
        """Remember what has happened to some subjects: pods by key and UID, addresses."""
        self.notes.append(Note(self.loop.time(), text, subjects))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(EPOCH + self.loop.time(), UTC)

    def _uid(self) -> str:
        return f"uid-{self.numbers():06d}"

    # --- objects

    def bodies(self, kind: Any) -> dict[Key, Body]:
        """The stored objects of a kind."""
        return self.api.store.objects.get(kind.KIND.plural, {})

    def body(self, kind: Any, key: str) -> Body | None:
        """One of them by ``namespace/name`` or name."""
        namespace, _, name = key.rpartition("/")
        return self.api.store.get((kind.KIND.plural, namespace, name))

    def any_record(self, random: Random) -> Body | None:
        """A SpiderIP, whoever has it; None while the API server is away."""
        records = list(self.bodies(SpiderIP).values())
        return random.choice(records) if records and self.api.listening else None

    def update(self, kind: Any, body: Body, **changes: Any) -> Body:
        """Write an object with other top-level fields."""
        metadata = body["metadata"]
        key = (kind.KIND.plural, metadata.get("namespace") or "", metadata["name"])
        return self.api.store.write(key, {**body, **changes})

    def remove(self, kind: Any, key: str) -> None:
        """Remove an object at once."""
        namespace, _, name = key.rpartition("/")
        if self.body(kind, key) is not None:
            self.api.store.write((kind.KIND.plural, namespace, name), None)

    def _put(self, kind: Any, name: str, namespace: str | None = None, **fields: Any) -> Body:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
        return self.api.store.put(kind.KIND, {"metadata": metadata, **fields})

    put = _put

    def put_node(self, node: SimulatedNode, ready: str = "True") -> None:
        """The kubelet of a machine reports, or Kubernetes says that it does not."""
        known = self.body(Node, node.name)
        info = (known or {}).get("status", {}).get("nodeInfo") if ready != "True" else {"bootID": node.boot_id}
        status = {"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": info or {}}
        if known is None:
            self._put(Node, node.name, spec={}, status=status)
        else:
            self.update(Node, known, status=status)

    def _pools(self) -> Iterator[Body]:
        """Pools that meet in every way: shared, of one node, small, overlapping, with a cooldown."""
        draw = self.random.randint

        def pool(name: str, subnet: int, first: int, size: int, **spec: Any) -> Body:
            ips = [f"10.0.{subnet}.{first}-10.0.{subnet}.{first + size - 1}"]
            nodes = spec.get("nodeName")
            labels = {"metadata": {"labels": {POOL_NODE_LABEL: nodes[0]}}} if nodes else {}
            fields = {"subnet": f"10.0.{subnet}.0/24", "ipVersion": 4, "ips": ips, "gateway": f"10.0.{subnet}.254"}
            return {"name": name, "spec": fields | spec, **labels}

        yield pool("shared", 0, 10, draw(12, 30), default=True)
        for number, node in enumerate(self.nodes, 1):
            yield pool(f"own-{node.name}", 10 + number, 10, draw(4, 14), default=True, nodeName=[node.name])
        yield pool("small", 2, 10, draw(4, 10))
        yield pool("overlap-a", 3, 10, draw(6, 12))
        yield pool("overlap-b", 3, 14, draw(6, 16))
        yield pool("cool", 4, 10, draw(8, 16), cooldownSeconds=draw(5, 60))
        yield pool("sticky", 5, 10, draw(12, 20))
        yield pool("second", 6, 10, draw(12, 30))
        if 6 in self.policy.addresses.families:
            spec = {"subnet": "fd00:9::/64", "ipVersion": 6, "ips": ["fd00:9::10-fd00:9::60"], "gateway": "fd00:9::1"}
            yield {"name": "six", "spec": spec | {"default": True}}

    def _policy(self) -> PodPolicy:
        """The agents' settings, drawn."""
        families = (4, 6) if self.random.random() < 0.25 else (4,)
        detection = Detection(conflicts=self.random.random() < 0.3, gateway=False)
        return PodPolicy(
            AttachmentPolicy(NETWORK, "kube-system"), AddressPolicy(families, automatic=False), detection=detection
        )

    # --- pods

    def pods_of(self, node: str) -> dict[str, Body]:
        """The pods of a node by UID."""
        return self._pods.setdefault(node, {})

    def pods(self) -> list[Body]:
        """All pods, in a fixed order."""
        return list(self.bodies(Pod).values())

    def create_pod(self, name: str, node: SimulatedNode, **metadata: Any) -> Body:
        """A pod that is bound to a node."""
        spec = {"nodeName": node.name, "terminationGracePeriodSeconds": 30}
        made = self._put(Pod, name, "default", metadata=metadata, spec=spec, status={"phase": "Pending"})
        uid = made["metadata"]["uid"]
        self.note(f"pod default/{name} {uid} is created for {node.name}", f"default/{name}", uid)
        return made

    def pool_annotation(self, pools: list[str]) -> dict[str, str]:
        """The annotation by which a pod names its pools of IPv4."""
        six = {"ipv6": ["six"]} if 6 in self.policy.addresses.families else {}
        return {POOLS_ANNOTATION: json.dumps({"ipv4": pools, **six})}

    def delete_pod(self, body: Body, grace: int) -> None:
        """Somebody deletes a pod; with no grace its object goes at once."""
        metadata = body["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        self.note(f"pod {key} is deleted with grace {grace}", key, metadata["uid"])
        if grace == 0 and not metadata.get("finalizers"):
            self.remove(Pod, key)
            return
        marks = {"deletionTimestamp": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"), "deletionGracePeriodSeconds": grace}
        self.update(Pod, body, metadata={**marks, **metadata})

    def finish_deletion(self, key: str, uid: str) -> None:
        """The kubelet says that a deleted pod has ended: its object goes, with finalizers some time later."""
        body = self.body(Pod, key)
        if body is None or body["metadata"]["uid"] != uid or "deletionTimestamp" not in body["metadata"]:
            return
        if body["metadata"].get("finalizers"):
            self.report(key, uid, {"phase": "Succeeded", "containerStatuses": [{"state": {}}]})
            self.loop.call_later(self.random.uniform(1.0, 100.0), self._finalize, key, uid)
        else:
            self.note(f"pod {key} {uid} is gone", key, uid)
            self.remove(Pod, key)

    def _finalize(self, key: str, uid: str) -> None:
        body = self.body(Pod, key)
        if body is not None and body["metadata"]["uid"] == uid:
            self.note(f"pod {key} {uid} is gone", key, uid)
            self.remove(Pod, key)

    def report(self, key: str, uid: str, status: Body) -> None:
        """The kubelet writes the status of a pod, if it still exists."""
        body = self.body(Pod, key)
        if body is not None and uid in (
            body["metadata"]["uid"],
            (body["metadata"].get("annotations") or {}).get(STATIC_POD_ANNOTATION),
        ):
            self.update(Pod, body, status={**(body.get("status") or {}), **status})

    def mirror(self, node: str, uid: str, name: str) -> None:
        """The kubelet makes the mirror of a static pod if it lacks one."""
        known = self.body(Pod, f"default/{name}")
        if known is not None and "deletionTimestamp" in known["metadata"]:
            self.remove(Pod, f"default/{name}")
        elif known is None:
            annotations = {STATIC_POD_ANNOTATION: uid, MIRROR_POD_ANNOTATION: uid}
            machine = next(each for each in self.nodes if each.name == node)
            made = self.create_pod(name, machine, annotations=annotations)
            worker = machine.kubelet.workers.get(uid) if machine.kubelet else None
            if worker is not None and worker.namespace is not None:
                ips = [{"ip": ip} for ip in sorted(worker.namespace.ips())]
                running = {"phase": "Running", "podIPs": ips, "containerStatuses": [{"state": {"running": {}}}]}
                self.update(Pod, made, status=running)

    def unmirror(self, key: str, uid: str) -> None:
        """The kubelet removes the mirror of a static pod that has ended."""
        body = self.body(Pod, key)
        if body is not None and (body["metadata"].get("annotations") or {}).get(STATIC_POD_ANNOTATION) == uid:
            self.remove(Pod, key)

    def _changed(self, change: Change) -> None:
        if change.key[0] != "pods":
            return
        for body in (change.old, change.new):
            if body is not None:
                node, uid = body["spec"].get("nodeName", ""), body["metadata"]["uid"]
                pods = self.pods_of(node)
                if change.new is None or change.new["metadata"]["uid"] != uid:
                    pods.pop(uid, None)
                else:
                    pods[uid] = change.new
                machine = next((each for each in self.nodes if each.name == node), None)
                if machine is not None and machine.kubelet is not None:
                    machine.kubelet.wake()

    # --- controllers

    def start_controller(self, link: Link, skew: float = 7200.0) -> None:
        """Start a replica of our controller on a machine, whose clock is wrong."""
        name = f"controller-{link.name}-{self.numbers()}"
        clock = self.wall_clock(skew if self.size else 0.0)
        controller = ControllerProcess(name, link, self.api, clock, self.cloud.families)
        controller.start()
        self.controllers.append(controller)

    def start_cloud_controller(self, link: Link) -> None:
        """Start a replica of spiderpool-cloud on a machine."""
        process = CloudProcess(f"cloud-{link.name}-{self.numbers()}", link, self.api, self.cloud)
        process.start()
        self.cloud_controllers.append(process)

    def usable_nodes(self) -> list[SimulatedNode]:
        """Nodes that take new pods."""
        return [node for node in self.nodes if node.up and node.link.up and self.body(Node, node.name) is not None]

    async def _control(self) -> None:
        """Kubernetes' own controllers: pods of StatefulSets and machines that are missing are made again."""
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 3.0))
            self._collect_dependents()
            nodes = self.usable_nodes()
            if not nodes or not self.api.listening:
                continue
            for name in self.statefulsets:
                self._complete(name, nodes)
            for name in self.machines:
                pods = [body for body in self.pods() if _owner(body) == name]
                for body in pods:
                    if (body.get("status") or {}).get("phase") in FINAL:
                        self.delete_pod(body, 0)
                if not pods:
                    self.create_machine_pod(name, self.random.choice(nodes))

    def _collect_dependents(self) -> None:
        """Kubernetes' garbage collection: what belongs to a pod or a Node goes with it."""
        uids = {body["metadata"]["uid"] for body in (*self.pods(), *self.bodies(Node).values())}
        for kind, owner_kind in ((SpiderEndpoint, "Pod"), (SpiderNode, "Node"), (SpiderServer, "Node")):
            for (_, namespace, name), body in list(self.bodies(kind).items()):
                owners = body["metadata"].get("ownerReferences") or ()
                if any(owner["kind"] == owner_kind and owner["uid"] not in uids for owner in owners):
                    self.remove(kind, f"{namespace}/{name}" if namespace else name)

    def _complete(self, name: str, nodes: list[SimulatedNode]) -> None:
        body = self.body(StatefulSet, f"default/{name}")
        if body is None:
            return
        owner = reference("apps/v1", "StatefulSet", name, body["metadata"]["uid"])
        for ordinal in range(body["spec"]["replicas"]):
            known = self.body(Pod, f"default/{name}-{ordinal}")
            if known is not None and (known.get("status") or {}).get("phase") in FINAL:
                self.delete_pod(known, 0)
            if known is None:
                annotations = self.pool_annotation(["sticky"])
                self.create_pod(
                    f"{name}-{ordinal}", self.random.choice(nodes), ownerReferences=[owner], annotations=annotations
                )

    def create_machine_pod(self, name: str, node: SimulatedNode, migration: str = "") -> Body | None:
        """A pod for a virtual machine."""
        instance = self.body(VirtualMachineInstance, f"default/{name}")
        if instance is None:
            return None
        owner = reference("kubevirt.io/v1", "VirtualMachineInstance", name, instance["metadata"]["uid"])
        annotations = self.pool_annotation(["sticky"])
        if migration:
            annotations[MIGRATION_ANNOTATION] = migration
        launcher = f"virt-launcher-{name}-{self.numbers()}"
        return self.create_pod(launcher, node, ownerReferences=[owner], annotations=annotations)


def reference(api_version: str, kind: str, name: str, uid: str) -> Body:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _owner(body: Body) -> str:
    references = body["metadata"].get("ownerReferences") or [{}]
    return str(references[0].get("name", ""))
