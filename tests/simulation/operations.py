"""What happens to a simulated cluster: one operation is one event of a pod, node, pool, leader or the API server.

An operation draws its details from a seed of its own, so that a run can be repeated without some of the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from spiderpool.api.applications import StatefulSet
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION
from tests.simulation.api_server import CALM, STORM
from tests.simulation.cluster import NOT_READY_AFTER, POOLS_ANNOTATION, Cluster
from tests.simulation.node import SimulatedNode
from tests.simulation.pod_worker import PodWorker
from tests.support.api_store import Body

GRACES = (0, 2, 30, 30, 30, 600)
POOL_CHOICES = (["small", "shared"], ["overlap-a"], ["overlap-b", "overlap-a"], ["cool"], ["cool", "small"], ["shared"])


@dataclass(frozen=True, slots=True)
class Operation:
    """One event of a run."""

    kind: str
    gap: float
    """Seconds since the one before."""
    seed: int


Effect = Callable[[Cluster, Random], bool]
"""Carries an operation out; False when there was nothing to carry it out on."""

_EFFECTS: dict[str, Effect] = {}
_WEIGHTS: dict[str, float] = {}


def operation(weight: float) -> Callable[[Effect], Effect]:
    """Register an effect under its name."""

    def register(effect: Effect) -> Effect:
        name = effect.__name__
        _EFFECTS[name], _WEIGHTS[name] = effect, weight
        return effect

    return register


def draw(random: Random, count: int) -> list[Operation]:
    """So many operations."""
    kinds = random.choices([*_WEIGHTS], [*_WEIGHTS.values()], k=count)
    return [Operation(kind, random.expovariate(2.0), random.getrandbits(40)) for kind in kinds]


def carry_out(cluster: Cluster, what: Operation) -> bool:
    """Carry an operation out now."""
    return _EFFECTS[what.kind](cluster, Random(what.seed))


# --- pods


@operation(24)
def create_pod(cluster: Cluster, random: Random) -> bool:
    nodes = cluster.usable_nodes()
    if not nodes or not cluster.api.listening:
        return False
    if len(cluster.pods()) >= cluster.size.pods:
        return delete_pod(cluster, random)
    metadata: Body = {}
    if random.random() < 0.6:
        metadata["annotations"] = {POOLS_ANNOTATION: json.dumps({"ipv4": random.choice(POOL_CHOICES)})}
    if random.random() < 0.1:
        metadata["finalizers"] = ["example.com/held"]
    # Names come again: a pod of a name may be created as soon as the former one is gone.
    name = f"{random.choice(('web', 'job', 'api'))}-{random.randrange(cluster.size.pods)}"
    if cluster.body(Pod, f"default/{name}") is not None:
        name = f"{name}-{cluster.numbers()}"
    cluster.create_pod(name, random.choice(nodes), **metadata)
    return True


@operation(14)
def delete_pod(cluster: Cluster, random: Random) -> bool:
    body = _pod(cluster, random, lambda each: "deletionTimestamp" not in each["metadata"] and not _is_mirror(each))
    if body is None:
        return False
    _set_stop(cluster, body, random)
    cluster.delete_pod(body, random.choice(GRACES[1:]))
    return True


@operation(4)
def force_delete(cluster: Cluster, random: Random) -> bool:
    body = _pod(
        cluster,
        random,
        lambda each: not _is_mirror(each) and (cluster.size.open_faults or not each["metadata"].get("ownerReferences")),
    )
    if body is None:
        return False
    _set_stop(cluster, body, random)
    cluster.delete_pod(body, 0)
    return True


@operation(4)
def finish(cluster: Cluster, random: Random) -> bool:
    """The containers of a pod end by themselves, or the kubelet evicts it."""
    worker = _worker(cluster, random, lambda each: each.namespace is not None and not each.static)
    if worker is None:
        return False
    worker.finished = random.choice(("Succeeded", "Failed"))
    worker.stop_seconds = random.uniform(0.0, 5.0)
    worker.changed.set()
    return True


@operation(5)
def kill_sandbox(cluster: Cluster, random: Random) -> bool:
    worker = _worker(cluster, random, lambda each: each.namespace is not None)
    if worker is None:
        return False
    worker.crashed = True
    worker.changed.set()
    return True


@operation(1.5)
def change_statefulset(cluster: Cluster, random: Random) -> bool:
    if not cluster.api.listening:
        return False
    name = f"set{random.randrange(2)}"
    body = cluster.body(StatefulSet, f"default/{name}")
    if body is None:
        cluster.put(StatefulSet, name, "default", spec={"replicas": random.randint(1, 4)})
        cluster.statefulsets[name] = None
        return True
    replicas = random.choice((0, 1, 2, 3, 4))
    gone = random.random() < 0.15
    cluster.note(f"StatefulSet {name}: {'deleted' if gone else f'{replicas} replicas'}", f"default/{name}")
    if gone:
        cluster.remove(StatefulSet, f"default/{name}")
        cluster.statefulsets.pop(name, None)
        replicas = 0
    else:
        cluster.update(StatefulSet, body, spec={**body["spec"], "replicas": replicas})
    for pod in cluster.pods():
        stem, _, ordinal = pod["metadata"]["name"].rpartition("-")
        if stem == name and int(ordinal) >= replicas and "deletionTimestamp" not in pod["metadata"]:
            cluster.delete_pod(pod, 30)
    return True


@operation(2)
def change_machine(cluster: Cluster, random: Random) -> bool:
    """Make a virtual machine, take one away, or move one to another node."""
    nodes = cluster.usable_nodes()
    if not nodes or not cluster.api.listening:
        return False
    name = f"vm{random.randrange(3)}"
    if cluster.body(VirtualMachine, f"default/{name}") is None:
        cluster.put(VirtualMachine, name, "default")
        cluster.put(VirtualMachineInstance, name, "default")
        cluster.machines[name] = None
        return True
    pods = [pod for pod in cluster.pods() if pod["metadata"]["name"].startswith(f"virt-launcher-{name}-")]
    if random.random() < 0.2:
        cluster.machines.pop(name, None)
        cluster.remove(VirtualMachineInstance, f"default/{name}")
        cluster.remove(VirtualMachine, f"default/{name}")
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                cluster.delete_pod(pod, 30)
        return True
    others = [node for node in nodes if all(pod["spec"]["nodeName"] != node.name for pod in pods)]
    if len(pods) != 1 or not others or "deletionTimestamp" in pods[0]["metadata"]:
        return False
    target = cluster.create_machine_pod(name, random.choice(others), migration=f"move-{cluster.numbers()}")
    if target is None:
        return False
    ends = pods[0] if random.random() < 0.8 else target
    cluster.loop.call_later(random.uniform(1.0, 40.0), _end_migration, cluster, ends["metadata"]["name"])
    return True


@operation(2)
def change_static(cluster: Cluster, random: Random) -> bool:
    """Add a static pod to a node, or take one away."""
    node = random.choice(cluster.nodes)
    if not node.up:
        return False
    if node.statics and (len(node.statics) >= 3 or random.random() < 0.5):
        node.statics.pop(random.choice(sorted(node.statics)))
    else:
        number = cluster.numbers()
        node.statics[f"hash-{number}"] = f"static-{number}-{node.name}"
    if node.kubelet is not None:
        for worker in node.kubelet.workers.values():
            worker.changed.set()
    return True


@operation(2)
def delete_mirror(cluster: Cluster, random: Random) -> bool:
    """Somebody deletes the mirror of a static pod, which goes on."""
    body = _pod(cluster, random, _is_mirror)
    if body is None:
        return False
    cluster.delete_pod(body, random.choice((0, 30)))
    return True


# --- nodes and their daemons


@operation(1)
def reboot(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.up:
        return False
    cluster.note(f"node {node.name} reboots", node.name)
    node.crash()
    cluster.loop.call_later(random.uniform(5.0, 60.0), _boot, node)
    return True


@operation(0.5)
def vanish(cluster: Cluster, random: Random) -> bool:
    """The machine is gone for good; its Node object goes, and the objects of its pods. A new one takes its name."""
    node = random.choice(cluster.nodes)
    if not node.up or sum(each.up for each in cluster.nodes) < 2:
        return False
    cluster.note(f"node {node.name} vanishes", node.name)
    node.crash()
    node.gone = True
    node.disk.clear()
    node.statics.clear()
    after = random.uniform(10.0, 60.0)
    cluster.loop.call_later(after, _remove_node, cluster, node)
    cluster.loop.call_later(after + random.uniform(1.0, 200.0), _return, cluster, node)
    return True


@operation(1)
def cut_node(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.link.up:
        return False
    cluster.note(f"node {node.name} is cut off", node.name)
    node.link.cut()
    seconds = random.uniform(1.0, cluster.size.longest_absence)
    if seconds > NOT_READY_AFTER:
        cluster.loop.call_later(NOT_READY_AFTER, _set_ready, cluster, node, "Unknown")
    cluster.loop.call_later(seconds, _heal, cluster, node)
    return True


@operation(1)
def hang_kubelet(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if node.kubelet is None or not node.kubelet.process.runs:
        return False
    process = node.kubelet.process
    process.stop()
    cluster.loop.call_later(random.uniform(1.0, cluster.size.longest_absence), process.go_on, cluster.loop)
    return True


@operation(2)
def kill_agent(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.agents:
        return False
    cluster.note(f"agent of {node.name} is killed", node.name)
    node.kill_agent(random.choice(node.agents))
    cluster.loop.call_later(random.uniform(0.2, 20.0), _start_agent, node, node.kubelet)
    return True


@operation(1)
def update_agent(cluster: Cluster, random: Random) -> bool:
    """A new agent starts beside the old one, which goes on for a while."""
    node = random.choice(cluster.nodes)
    if len(node.agents) != 1:
        return False
    old = node.agents[0]
    node.start_agent()
    cluster.loop.call_later(random.uniform(0.0, 30.0), lambda: node.kill_agent(old) if old in node.agents else None)
    return True


@operation(1)
def hang_agent(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.agents:
        return False
    process = random.choice(node.agents).process
    process.stop()
    cluster.loop.call_later(random.uniform(0.5, 60.0), process.go_on, cluster.loop)
    return True


# --- leaders and the API server


@operation(1)
def kill_controller(cluster: Cluster, random: Random) -> bool:
    if not cluster.controllers:
        return False
    controller = random.choice(cluster.controllers)
    controller.kill()
    cluster.controllers.remove(controller)
    cluster.loop.call_later(random.uniform(0.5, 20.0), cluster.start_controller, controller.link)
    return True


@operation(1)
def hang_controller(cluster: Cluster, random: Random) -> bool:
    """A leader stands still, another one takes over, and the former goes on where it was."""
    if not cluster.controllers:
        return False
    process = random.choice(cluster.controllers).process
    process.stop()
    cluster.loop.call_later(random.uniform(0.5, 60.0), process.go_on, cluster.loop)
    return True


@operation(1)
def cut_controller(cluster: Cluster, random: Random) -> bool:
    link = random.choice(cluster.links[-2:])
    if not link.up:
        return False
    link.cut()
    cluster.loop.call_later(random.uniform(1.0, 90.0), link.heal)
    return True


@operation(2)
def storm(cluster: Cluster, random: Random) -> bool:
    """Requests and watches meet faults for a while."""
    cluster.api.rates = STORM.scaled(random.choice((0.3, 1.0, 1.0, 3.0)))
    cluster.loop.call_later(random.uniform(5.0, 60.0), _calm, cluster, cluster.api.rates)
    return True


@operation(1)
def compact(cluster: Cluster, random: Random) -> bool:
    store = cluster.api.store
    store.compact(max(store.version - random.choice((0, 0, 50)), store.compacted))
    for link in cluster.links if random.random() < 0.5 else ():
        link.drop()
    cluster.api.faults["compacted"] += 1
    return True


@operation(0.5)
def restart_api(cluster: Cluster, random: Random) -> bool:
    """The API server is away, for seconds or for hours, and has forgotten its history."""
    if not cluster.api.listening:
        return False
    cluster.note("the API server goes away")
    cluster.api.restart(cluster.links)
    cluster.api.faults["restarted"] += 1
    longest = 7200.0 if random.random() < 0.05 else 30.0
    cluster.loop.call_later(random.uniform(0.5, longest), _come_back, cluster, random.random() < 0.5)
    return True


# --- pools and records


@operation(2)
def resize_pool(cluster: Cluster, random: Random) -> bool:
    """Addresses are added to a pool, or such that nobody uses are taken out of it."""
    body = _pool(cluster, random)
    if body is None:
        return False
    addresses = cluster.checks.addresses(body)
    used = {key[2] for key in cluster.bodies(SpiderIP)}
    if random.random() < 0.5:
        prefix, _, last = addresses[-1].rpartition(".")
        more = [f"{prefix}.{int(last) + step}" for step in (1, 2) if int(last) + step < 80]
        ips = [*addresses, *more]
    else:
        ips = [each for each in addresses if each in used or random.random() < 0.7]
    if len(ips) < 2:
        return False
    cluster.update(SpiderIPPool, body, spec={**body["spec"], "ips": ips})
    return True


@operation(1)
def switch_pool(cluster: Cluster, random: Random) -> bool:
    """A pool is disabled, enabled, gets a cooldown or loses it."""
    body = _pool(cluster, random)
    if body is None:
        return False
    spec = dict(body["spec"])
    if random.random() < 0.6:
        spec["disable"] = not spec.get("disable")
    elif body["metadata"]["name"] != "sticky":
        spec["cooldownSeconds"] = random.choice((0, 5, 60))
    cluster.update(SpiderIPPool, body, spec=spec)
    return True


@operation(0.7)
def move_pool(cluster: Cluster, random: Random) -> bool:
    """A pool is from now on for another node, or for all."""
    body = _pool(cluster, random, lambda each: each["metadata"]["name"].startswith("own-"))
    if body is None:
        return False
    metadata, spec = dict(body["metadata"]), dict(body["spec"])
    node = random.choice([*(each.name for each in cluster.nodes), None])
    if node is None:
        spec.pop("nodeName", None)
        metadata.pop("labels", None)
    else:
        spec["nodeName"], metadata["labels"] = [node], {POOL_NODE_LABEL: node}
    cluster.update(SpiderIPPool, body, spec=spec, metadata=metadata)
    return True


@operation(0.5)
def replace_pool(cluster: Cluster, random: Random) -> bool:
    """A pool goes and comes back soon, as by ``kubectl replace --force``."""
    body = _pool(cluster, random)
    if body is None:
        return False
    name = body["metadata"]["name"]
    labels = body["metadata"].get("labels")
    cluster.remove(SpiderIPPool, name)
    metadata: Body = {"metadata": {"labels": labels}} if labels else {}
    cluster.loop.call_later(
        random.uniform(0.1, 10.0), lambda: cluster.put(SpiderIPPool, name, spec=body["spec"], **metadata)
    )
    return True


@operation(0.5)
def edit_label(cluster: Cluster, random: Random) -> bool:
    """Somebody edits the pool's label of a record."""
    records = list(cluster.bodies(SpiderIP).values())
    if not records or not cluster.api.listening:
        return False
    body = random.choice(records)
    labels = {**(body["metadata"].get("labels") or {}), IP_POOL_LABEL: random.choice(("another", "shared"))}
    cluster.update(SpiderIP, body, metadata={**body["metadata"], "labels": labels})
    return True


# --- parts


def _pod(cluster: Cluster, random: Random, suits: Callable[[Body], bool]) -> Body | None:
    """A pod that is no mirror's unless it is asked for."""
    found = [body for body in cluster.pods() if suits(body)] if cluster.api.listening else []
    return random.choice(found) if found else None


def _is_mirror(body: Body) -> bool:
    return MIRROR_POD_ANNOTATION in (body["metadata"].get("annotations") or {})


def _worker(cluster: Cluster, random: Random, suits: Callable[[PodWorker], bool]) -> PodWorker | None:
    kubelets = [node.kubelet for node in cluster.nodes if node.kubelet]
    found = [worker for kubelet in kubelets for worker in kubelet.workers.values() if suits(worker)]
    return random.choice(found) if found else None


def _pool(cluster: Cluster, random: Random, suits: Callable[[Body], bool] = lambda _: True) -> Body | None:
    found = [body for body in cluster.bodies(SpiderIPPool).values() if suits(body)] if cluster.api.listening else []
    return random.choice(found) if found else None


def _set_stop(cluster: Cluster, body: Body, random: Random) -> None:
    """How long the containers of a pod take to stop."""
    longest = cluster.longest_stop if random.random() < 0.3 else 3.0
    node = next((each for each in cluster.nodes if each.name == body["spec"].get("nodeName")), None)
    worker = node.kubelet.workers.get(body["metadata"]["uid"]) if node and node.kubelet else None
    if worker is not None:
        worker.stop_seconds = random.uniform(0.0, longest)


def _end_migration(cluster: Cluster, name: str) -> None:
    body = cluster.body(Pod, f"default/{name}")
    if body is not None and "deletionTimestamp" not in body["metadata"]:
        cluster.delete_pod(body, 30)


def _boot(node: SimulatedNode) -> None:
    if not node.up and not node.gone:
        node.cluster.note(f"node {node.name} boots", node.name)
        node.boot()


def _remove_node(cluster: Cluster, node: SimulatedNode) -> None:
    """The cloud says that the machine is gone: its Node is deleted, and its pods after it."""
    cluster.remove(Node, node.name)
    for uid, body in list(cluster.pods_of(node.name).items()):
        cluster.note(f"pod {body['metadata']['name']} goes with its node", uid)
        cluster.remove(Pod, f"{body['metadata']['namespace']}/{body['metadata']['name']}")


def _return(cluster: Cluster, node: SimulatedNode) -> None:
    node.gone = False
    if not node.up:
        cluster.put_node(node)
        _boot(node)


def _heal(cluster: Cluster, node: SimulatedNode) -> None:
    cluster.note(f"node {node.name} is back", node.name)
    node.link.heal()
    _set_ready(cluster, node, "True")


def _set_ready(cluster: Cluster, node: SimulatedNode, ready: str) -> None:
    if cluster.body(Node, node.name) is not None and (ready == "True") == node.link.up:
        cluster.put_node(node, ready)


def _start_agent(node: SimulatedNode, kubelet: Any) -> None:
    if node.up and node.kubelet is kubelet and not node.agents:
        node.start_agent()


def _calm(cluster: Cluster, rates: Any) -> None:
    if cluster.api.rates is rates:
        cluster.api.rates = CALM


def _come_back(cluster: Cluster, compacted: bool) -> None:
    cluster.note("the API server comes back")
    cluster.api.listening = True
    if compacted:
        cluster.api.store.compact()
