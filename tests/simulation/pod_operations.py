"""Events of pods and of those who control them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from spiderpool.api.applications import ReplicaSet, StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION
from tests.simulation.cluster import CARD, SECOND, Cluster, reference
from tests.simulation.effects import operation
from tests.simulation.pod_worker import PodWorker
from tests.support.api_store import Body

NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
GRACES = (0, 2, 30, 30, 30, 600)
POOL_CHOICES = (["small", "shared"], ["overlap-a"], ["overlap-b", "overlap-a"], ["cool"], ["cool", "small"], ["shared"])


@operation(24)
def create_pod(cluster: Cluster, random: Random) -> bool:
    nodes = cluster.usable_nodes()
    if not nodes or not cluster.api.listening:
        return False
    if len(cluster.pods()) >= cluster.size.pods:
        return delete_pod(cluster, random)
    metadata: Body = {}
    if annotations := _annotations(cluster, random):
        metadata["annotations"] = annotations
    if random.random() < 0.1:
        metadata["finalizers"] = ["example.com/held"]
    # Names come again: a pod of a name may be created as soon as the former one is gone.
    name = f"{random.choice(('web', 'job', 'api'))}-{random.randrange(cluster.size.pods)}"
    replicas = cluster.body(ReplicaSet, "default/web")
    if replicas is not None and name.startswith("web"):
        metadata["ownerReferences"] = [reference("apps/v1", "ReplicaSet", "web", replicas["metadata"]["uid"])]
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
    body = _pod(cluster, random, lambda each: not _is_mirror(each))
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


@operation(2.6)
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
    if random.random() < 0.2:  # also on its way to another node
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


@operation(2.4)
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


@operation(3.5)
def delete_mirror(cluster: Cluster, random: Random) -> bool:
    """Somebody deletes the mirror of a static pod, which goes on."""
    body = _pod(cluster, random, _is_mirror)
    if body is None:
        return False
    cluster.delete_pod(body, random.choice((0, 30)))
    return True


def _annotations(cluster: Cluster, random: Random) -> dict[str, str]:
    """The annotations by which a pod names networks and pools."""
    if not cluster.ipam_only and random.random() < cluster.card_share:
        return {DEFAULT_NETWORK_ANNOTATION: CARD}
    pools = cluster.pool_annotation(random.choice(POOL_CHOICES)) if random.random() < 0.6 else {}
    second = {NETWORKS_ANNOTATION: SECOND} if not cluster.ipam_only and random.random() < 0.15 else {}
    return pools | second


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
