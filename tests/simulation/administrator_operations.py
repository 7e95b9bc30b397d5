"""What administrators do, carefully or not."""

from __future__ import annotations

from functools import partial
from random import Random

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.cli import addresses, nodes
from spiderpool.core.ipam.evidence import OUT_OF_SERVICE
from tests.simulation.administrator import is_out_of_service, is_ready
from tests.simulation.cluster import Cluster
from tests.simulation.effects import operation
from tests.simulation.node import SimulatedNode

CARELESS = 0.4
"""How often a statement is made without a look at the machine."""


@operation(2)
def release_address(cluster: Cluster, random: Random) -> bool:
    """``spiderpoolctl ip release`` of any address that has a record."""
    record = cluster.any_record(random)
    if record is None:
        return False
    address = record["spec"]["address"].partition("/")[0]
    cluster.administrator.command(f"ip release {address}", lambda client: addresses.release(client, address))
    return True


@operation(2)
def fence_node(cluster: Cluster, random: Random) -> bool:
    """``spiderpoolctl node fence`` of a node that is silent; it is refused where that reports again by then."""
    node = _silent_node(cluster, random)
    if node is None:
        return False
    cluster.administrator.command(f"node fence {node.name}", lambda client: nodes.fence(client, node.name))
    return True


@operation(1.4)
def unfence_node(cluster: Cluster, random: Random) -> bool:
    """``spiderpoolctl node unfence``."""
    if not cluster.api.listening:
        return False
    name = random.choice(cluster.nodes).name
    cluster.administrator.command(f"node unfence {name}", lambda client: nodes.unfence(client, name))
    return True


@operation(2.2)
def put_out_of_service(cluster: Cluster, random: Random) -> bool:
    """``kubectl taint``; Kubernetes then deletes the pods of the node by force."""
    node = _silent_node(cluster, random)
    body = cluster.body(Node, node.name) if node else None
    if node is None or body is None or is_out_of_service(body):
        return False
    cluster.note(f"administrator: {node.name} is out of service", node.name)
    taints = [*(body["spec"].get("taints") or ()), {"key": OUT_OF_SERVICE, "effect": "NoExecute"}]
    cluster.update(Node, body, spec={**body["spec"], "taints": taints})
    cluster.loop.call_later(random.uniform(1.0, 20.0), partial(_delete_pods, cluster, node))
    return True


@operation(3.5)
def put_into_service(cluster: Cluster, random: Random) -> bool:
    """The taint is taken away, be the machine back or not."""
    bodies = [body for body in cluster.bodies(Node).values() if is_out_of_service(body)]
    if not bodies or not cluster.api.listening:
        return False
    body = random.choice(bodies)
    cluster.note(f"administrator: {body['metadata']['name']} is in service again", body["metadata"]["name"])
    taints = [taint for taint in body["spec"]["taints"] if taint["key"] != OUT_OF_SERVICE]
    cluster.update(Node, body, spec={**body["spec"], "taints": taints})
    return True


def _silent_node(cluster: Cluster, random: Random) -> SimulatedNode | None:
    """A node whose kubelet does not report; a careful administrator sees to it that the machine is off."""
    careless = random.random() < CARELESS
    found = [
        node
        for node in cluster.nodes
        if (body := cluster.body(Node, node.name)) and not is_ready(body) and (careless or not node.up)
    ]
    return random.choice(found) if found and cluster.api.listening else None


def _delete_pods(cluster: Cluster, node: SimulatedNode) -> None:
    body = cluster.body(Node, node.name)
    if body is None or is_ready(body) or not is_out_of_service(body):
        return
    for pod in list(cluster.pods_of(node.name).values()):
        metadata = pod["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        cluster.note(f"pod {key} goes since its node is out of service", key, metadata["uid"])
        cluster.remove(Pod, key)
