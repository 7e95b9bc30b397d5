"""Events of the cloud, and of spiderpool-cloud."""

from __future__ import annotations

from random import Random

from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from tests.simulation.cloud import CALM as CLOUD_CALM
from tests.simulation.cloud import STORM, CloudRates, Server
from tests.simulation.cluster import CARD, Cluster
from tests.simulation.effects import operation
from tests.simulation.machine_operations import boot, hang_replica, kill_replica, set_unknown_later

ON_CARD = {DEFAULT_NETWORK_ANNOTATION: CARD}


@operation(2)
def cloud_storm(cluster: Cluster, random: Random) -> bool:
    """Calls to the cloud, and readings of metadata, meet faults for a while."""
    cloud = cluster.cloud
    rates = cloud.rates = STORM.scaled(random.choice((0.3, 1.0, 2.0)))
    cluster.loop.call_later(random.uniform(10.0, 90.0), _calm, cluster, rates)
    return True


@operation(1.8)
def hide_server(cluster: Cluster, random: Random) -> bool:
    """The cloud describes a server as missing for a moment, while its node may be cut off."""
    server, now = _server(cluster, random), cluster.loop.time()
    if server is None or (server.hidden_until and now < server.hidden_until + 300.0):
        return False
    server.hidden_until = now + random.uniform(5.0, 40.0)
    cluster.api.faults["cloud hidden"] += 1
    return True


@operation(1.3)
def freeze_metadata(cluster: Cluster, random: Random) -> bool:
    """The metadata of a server stays as it is for a while."""
    server = _server(cluster, random)
    if server is None or server.frozen_since is not None:
        return False
    server.frozen_since = cluster.loop.time()
    cluster.loop.call_later(random.uniform(20.0, 200.0), _thaw, server)
    cluster.api.faults["cloud frozen"] += 1
    return True


@operation(3.2)
def stop_server(cluster: Cluster, random: Random) -> bool:
    """Somebody switches a server off, and on again later."""
    node = random.choice(cluster.nodes)
    if not node.up or sum(each.up for each in cluster.nodes) < 2:
        return False
    cluster.note(f"server of {node.name} is stopped", node.name)
    node.crash()
    server = cluster.cloud.server_of(node.name)
    server.stopped = True
    set_unknown_later(cluster, node)

    def start() -> None:
        server.stopped = False
        boot(node)

    cluster.loop.call_later(random.uniform(20.0, 300.0), start)
    return True


@operation(2)
def change_demand(cluster: Cluster, random: Random) -> bool:
    """From now on more, or fewer, of the new pods take addresses of ENIs; some come, or go, at once."""
    cluster.card_share = random.choice((0.0, 0.2, 0.5, 0.8))
    nodes = cluster.usable_nodes()
    if not cluster.api.listening or cluster.ipam_only or not nodes:
        return True
    if not cluster.card_share:
        for body in cluster.pods():
            if (body["metadata"].get("annotations") or {}) == ON_CARD and "deletionTimestamp" not in body["metadata"]:
                cluster.delete_pod(body, 2)
    for _ in range(random.randint(0, 6) if cluster.card_share >= 0.5 else 0):
        cluster.create_pod(f"burst-{cluster.numbers()}", random.choice(nodes), annotations=ON_CARD)
    return True


@operation(1.2)
def kill_cloud_controller(cluster: Cluster, random: Random) -> bool:
    return kill_replica(cluster, random, cluster.cloud_controllers, cluster.start_cloud_controller)


@operation(1.2)
def hang_cloud_controller(cluster: Cluster, random: Random) -> bool:
    return hang_replica(cluster, random, cluster.cloud_controllers)


def _server(cluster: Cluster, random: Random) -> Server | None:
    servers = [*cluster.cloud.servers.values()]
    return random.choice(servers) if servers else None


def _calm(cluster: Cluster, rates: CloudRates) -> None:
    if cluster.cloud.rates is rates:
        cluster.cloud.rates = CLOUD_CALM


def _thaw(server: Server) -> None:
    server.frozen_since = None
