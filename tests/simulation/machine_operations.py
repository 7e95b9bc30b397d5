"""Events of nodes, of their daemons, of leaders and of the API server."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from spiderpool.api.core_v1 import Node, Pod
from tests.simulation.api_server import CALM, STORM
from tests.simulation.cluster import NOT_READY_AFTER, Cluster
from tests.simulation.daemons import Daemon
from tests.simulation.effects import operation
from tests.simulation.loop import Process
from tests.simulation.network import Link
from tests.simulation.node import SimulatedNode

Replica = TypeVar("Replica", bound=Daemon)


@operation(2.2)
def reboot(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.up:
        return False
    cluster.note(f"node {node.name} reboots", node.name)
    node.crash()
    set_unknown_later(cluster, node)
    cluster.loop.call_later(random.uniform(5.0, 60.0), boot, node)
    return True


@operation(2.8)
def vanish(cluster: Cluster, random: Random) -> bool:
    """The machine is gone for good; a new one takes its name.

    Its Node object goes, by somebody's hand or by spiderpool-cloud, and the objects of its pods after it.
    """
    node = random.choice(cluster.nodes)
    if not node.up or sum(each.up for each in cluster.nodes) < 2:
        return False
    cluster.note(f"node {node.name} vanishes", node.name)
    node.crash()
    node.gone = True
    node.disk.clear()
    node.statics.clear()
    cluster.cloud.remove_server(node.name)
    set_unknown_later(cluster, node)
    after = random.choice((random.uniform(10.0, 60.0), random.uniform(100.0, 200.0)))
    cluster.loop.call_later(after, _remove_node, cluster, node)
    cluster.loop.call_later(after + random.uniform(1.0, 200.0), _return, cluster, node)
    return True


@operation(1.8)
def cut_node(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if not node.link.up:
        return False
    cluster.note(f"node {node.name} is cut off", node.name)
    node.link.cut()
    seconds = _absence(cluster, random)
    if seconds > NOT_READY_AFTER:
        set_unknown_later(cluster, node)
    cluster.loop.call_later(seconds, _heal, cluster, node)
    return True


@operation(2.4)
def hang_kubelet(cluster: Cluster, random: Random) -> bool:
    node = random.choice(cluster.nodes)
    if node.kubelet is None or not node.kubelet.process.runs:
        return False
    process = node.kubelet.process
    process.stop()
    set_unknown_later(cluster, node)
    cluster.loop.call_later(_absence(cluster, random), _go_on, cluster, node, process)
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


@operation(2.4)
def update_agent(cluster: Cluster, random: Random) -> bool:
    """A new agent takes the place of the old one, or starts before that has ended, and longer before than it waits."""
    node = random.choice(cluster.nodes)
    if len(node.agents) != 1:
        return False
    old = node.agents[0]
    node.start_agent()
    after = random.choice((0.0, random.uniform(0.0, 30.0), random.uniform(60.0, 90.0)))
    cluster.loop.call_later(after, _end_agent, node, old)
    return True


@operation(1.9)
def hang_agent(cluster: Cluster, random: Random) -> bool:
    return hang_replica(cluster, random, random.choice(cluster.nodes).agents)


@operation(1.2)
def kill_controller(cluster: Cluster, random: Random) -> bool:
    return kill_replica(cluster, random, cluster.controllers, cluster.start_controller)


@operation(1.2)
def hang_controller(cluster: Cluster, random: Random) -> bool:
    """A leader stands still, another one takes over, and the former goes on where it was."""
    return hang_replica(cluster, random, cluster.controllers)


def kill_replica(cluster: Cluster, random: Random, replicas: list[Replica], start: Callable[[Link], None]) -> bool:
    """Kill a replica of a daemon; another one starts on its machine some time later."""
    if not replicas:
        return False
    replica = random.choice(replicas)
    replica.kill()
    replicas.remove(replica)
    cluster.loop.call_later(random.uniform(0.5, 20.0), start, replica.link)
    return True


def hang_replica(cluster: Cluster, random: Random, replicas: list[Replica]) -> bool:
    """Stop a replica of a daemon, or an agent, for up to a minute."""
    if not replicas:
        return False
    stand_still(cluster, random, random.choice(replicas).process)
    return True


def _go_on(cluster: Cluster, node: SimulatedNode, process: Process) -> None:
    process.go_on(cluster.loop)
    _set_ready(cluster, node, "True")


def stand_still(cluster: Cluster, random: Random, process: Process) -> None:
    """Stop a process for up to a minute, as SIGSTOP does."""
    process.stop()
    cluster.loop.call_later(random.uniform(0.5, 60.0), process.go_on, cluster.loop)


@operation(1.8)
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


@operation(1.2)
def compact(cluster: Cluster, random: Random) -> bool:
    store = cluster.api.store
    store.compact(max(store.version - random.choice((0, 0, 50)), store.compacted))
    for link in cluster.links if random.random() < 0.5 else ():
        link.drop()
    cluster.api.faults["compacted"] += 1
    return True


@operation(1.1)
def restart_api(cluster: Cluster, random: Random) -> bool:
    """The API server is away, for seconds or for hours, and has forgotten its history."""
    if not cluster.api.listening:
        return False
    cluster.note("the API server goes away")
    cluster.api.restart(cluster.links)
    cluster.api.faults["restarted"] += 1
    seconds = random.uniform(0.5, 30.0)
    if random.random() < 0.006:  # seldom: all that such hours cost is spent on connections that are refused
        seconds = random.uniform(600.0, 7_200.0)
        cluster.resume_at = cluster.loop.time() + seconds  # most operations would find nothing to be carried out on
        cluster.api.faults["hours"] += 1
    cluster.loop.call_later(seconds, _come_back, cluster, random.random() < 0.5)
    return True


def boot(node: SimulatedNode) -> None:
    """Start a machine that has been switched off; its kubelet reports."""
    if not node.up and not node.gone:
        node.cluster.note(f"node {node.name} boots", node.name)
        node.boot()
        if node.link.up:
            node.cluster.put_node(node)


def _remove_node(cluster: Cluster, node: SimulatedNode) -> None:
    """The cloud says that the machine is gone: its Node is deleted, and its pods after it."""
    cluster.remove(Node, node.name)
    for uid, body in list(cluster.pods_of(node.name).items()):
        cluster.note(f"pod {body['metadata']['name']} goes with its node", uid)
        cluster.remove(Pod, f"{body['metadata']['namespace']}/{body['metadata']['name']}")


def _return(cluster: Cluster, node: SimulatedNode) -> None:
    node.gone = False
    if not node.up:
        cluster.cloud.add_server(node.name)
        boot(node)


def _heal(cluster: Cluster, node: SimulatedNode) -> None:
    cluster.note(f"node {node.name} is back", node.name)
    node.link.heal()
    cluster.reached_at = cluster.loop.time()
    _set_ready(cluster, node, "True")


def _set_ready(cluster: Cluster, node: SimulatedNode, ready: str) -> None:
    registered = cluster.body(Node, node.name) is not None or ready == "True"
    if registered and (ready == "True") == node.reports:
        cluster.put_node(node, ready)


def _end_agent(node: SimulatedNode, agent: Any) -> None:
    if agent in node.agents:
        node.kill_agent(agent)
        _start_agent(node, node.kubelet)  # where the new one has been killed meanwhile


def _absence(cluster: Cluster, random: Random) -> float:
    """Seconds, as often below half a minute as above: a cluster whose nodes are all away has nothing to do."""
    return float(cluster.size.longest_absence ** random.random())


def set_unknown_later(cluster: Cluster, node: SimulatedNode) -> None:
    """Kubernetes finds that nothing is heard of a node any more, unless something is by then."""
    cluster.loop.call_later(NOT_READY_AFTER, _set_ready, cluster, node, "Unknown")


def _start_agent(node: SimulatedNode, kubelet: Any) -> None:
    if node.up and node.kubelet is kubelet and not node.agents:
        node.start_agent()


def _calm(cluster: Cluster, rates: Any) -> None:
    if cluster.api.rates is rates:
        cluster.api.rates = CALM


def _come_back(cluster: Cluster, compacted: bool) -> None:
    cluster.note("the API server comes back")
    cluster.reached_at = cluster.loop.time()
    cluster.api.listening = True
    if compacted:
        cluster.api.store.compact()
