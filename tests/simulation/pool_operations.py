"""Events of pools and of records."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from spiderpool.api.ip import IP_POOL_LABEL, SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, POOL_NODE_LABEL, SpiderIPPool
from tests.simulation.cloud_checks import addresses_of
from tests.simulation.cluster import Cluster
from tests.simulation.effects import operation
from tests.support.api_store import Body


@operation(2)
def resize_pool(cluster: Cluster, random: Random) -> bool:
    """Addresses are added to a pool, or such that nobody uses are taken out of it."""
    body = _pool(cluster, random, lambda each: each["spec"]["ipVersion"] == 4)
    if body is None:
        return False
    addresses = addresses_of(body)
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


@operation(1.2)
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


@operation(1)
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


@operation(1.2)
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


@operation(1.2)
def edit_label(cluster: Cluster, random: Random) -> bool:
    """Somebody edits the pool's label of a record."""
    body = cluster.any_record(random)
    if body is None:
        return False
    labels = {**(body["metadata"].get("labels") or {}), IP_POOL_LABEL: random.choice(("another", "shared"))}
    cluster.update(SpiderIP, body, metadata={**body["metadata"], "labels": labels})
    return True


def _pool(cluster: Cluster, random: Random, suits: Callable[[Body], bool] = lambda _: True) -> Body | None:
    """A pool that was not made from an ENI, whose addresses are not for people to choose."""
    bodies = cluster.bodies(SpiderIPPool).values() if cluster.api.listening else ()
    found = [body for body in bodies if POOL_ENI_LABEL not in (body["metadata"].get("labels") or {}) and suits(body)]
    return random.choice(found) if found else None
