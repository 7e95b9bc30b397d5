"""Who has an address: the answer of `who`, from what is watched."""

from __future__ import annotations

from datetime import datetime

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.connection import Cluster
from spiderpool.cli.ui.pool_map import sandboxed_by
from spiderpool.cli.ui.watching import WatchedCluster
from spiderpool.cli.who import AddressAnswer, AddressObjects, answer
from spiderpool.core.addresses import object_name, to_int, version_of_text


async def look_at_address(cluster: Cluster, watched: WatchedCluster, address: str, now: datetime) -> AddressAnswer:
    """Who has an address at ``now``; only its pod is read of the API server. Raises ApiUnavailable."""
    record = watched.informer(SpiderIP).get(object_name(address))
    spec = record.spec if record else None
    pod = await cluster.find(Pod, spec.pod, spec.namespace) if spec else None
    return answer(
        AddressObjects(
            address,
            record,
            pod,
            watched.informer(Node).get(spec.node) if spec else None,
            tuple(watched.items(SpiderIPPool)),
            tuple(watched.items(SpiderReservedIP)),
            tuple(_accounts(watched, address, spec.node if spec else None)),
            tuple(watched.items(Node)),
            watched.unseen | cluster.unseen,
        ),
        now,
    )


def _accounts(watched: WatchedCluster, address: str, node: str | None) -> list[SpiderNode]:
    """The account of a node, and those that have the address."""
    version = version_of_text(address)
    number = to_int(address, version)
    return [
        each
        for each in watched.items(SpiderNode)
        if each.name == node or any(one.address == number and one.version == version for one in sandboxed_by(each))
    ]
