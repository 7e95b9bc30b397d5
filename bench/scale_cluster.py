"""The objects of a large cluster in which nothing is left to do: nodes, ENIs, their pools, pods and their records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from spiderpool.api.address_resources import (
    AddressResourceRequirements,
    RequestingContainer,
    RequestingPod,
    RequestingPodSpec,
)
from spiderpool.api.core_v1 import (
    Node,
    NodeAddress,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Pod,
    PodIP,
    PodStatus,
    Secret,
)
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cloud.provider import RegisteredENI
from spiderpool.controller.certificates import STORE
from spiderpool.controller.pools import status_of
from spiderpool.controller.registration import NAME, REGISTRATIONS
from spiderpool.core.addresses import from_int
from spiderpool.core.cloud.eni_pools import ENIClaim, new_network, new_pool
from spiderpool.core.cloud.nodes import labels_of
from spiderpool.core.ipam.allocation import new_record
from spiderpool.core.ipam.endpoints import endpoint
from spiderpool.core.ipam.selection import AllocationRequest

NAMESPACE, DEVICE, BLOCK, REGION = "kube-system", "eth1", "10.0.0.0/8", "cn-hangzhou"
SPARE = 10
"""Free addresses of each ENI, within what the cloud daemon keeps."""
STRIDE = 256
"""Addresses from one ENI's first to the next one's."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many nodes, and addresses in use on all of them together."""

    nodes: int
    addresses: int
    requested: str = ""
    """The resource of which each pod requests one; empty: none."""

    @property
    def pods(self) -> int:
        """Pods of each node."""
        return self.addresses // self.nodes


def node_name(number: int) -> str:
    """The name of a node by its number."""
    return f"node-{number:05d}"


def cluster(size: Size) -> Iterator[Object]:
    """All objects of the cluster, in no order."""
    yield new_network(DEVICE, NAMESPACE, node_name(1))
    yield Secret(metadata=ObjectMeta(name=STORE, namespace=NAMESPACE))
    yield from (kind(metadata=ObjectMeta(name=NAME)) for _, kind in REGISTRATIONS)
    for number in range(size.nodes):
        yield from _node_and_pods(number, size)


def eni_of(number: int, size: Size) -> RegisteredENI:
    """A node's ENI as the cloud describes it."""
    eni = _instance(number, size).enis[1]
    return RegisteredENI(
        eni.identity, f"i-{number}", eni.vswitch, "InUse", eni.primary_address, frozenset(eni.addresses), frozenset()
    )


def node(number: int, size: Size, *, ready: bool = True) -> Node:
    """A Node; the last heartbeat is not part of what we decode."""
    instance = _instance(number, size)
    return Node(
        metadata=ObjectMeta(
            name=node_name(number),
            uid=f"n-{number}",
            labels=labels_of(instance),
        ),
        spec=NodeSpec(providerID=instance.provider_id),
        status=NodeStatus(
            [NodeCondition("Ready", "True" if ready else "False")],
            [NodeAddress("InternalIP", instance.enis[0].primary_address)],
        ),
    )


def pool_in_use(addresses: int) -> tuple[SpiderIPPool, list[SpiderIP]]:
    """A shared pool, and the records of so many of its addresses."""
    spec = IPPoolSpec("10.0.0.0/16", ips=["10.0.0.1-10.0.255.254"])
    pool = SpiderIPPool(metadata=ObjectMeta(name="shared", uid="shared", generation=1), spec=spec)
    size = Size(1, addresses)
    return pool, [_record(_pod(0, index, size), pool, 0, index) for index in range(addresses)]


def _node_and_pods(number: int, size: Size) -> Iterator[Object]:
    made, instance = node(number, size), _instance(number, size)
    yield made
    yield SpiderServer.of(made, instance)
    claim = ENIClaim(node_name(number), instance, instance.enis[1], ready=True)
    pool = new_pool(f"{node_name(number)}-{DEVICE}-v4", claim, 4, (), NAMESPACE)
    assert pool is not None
    pool.metadata.uid, pool.metadata.generation = f"pool-{number}", 1
    pods = [_pod(number, index, size) for index in range(size.pods)]
    records = [_record(pod, pool, number, index) for index, pod in enumerate(pods)]
    pool.status = status_of(pool, records, datetime.now(UTC))
    yield pool
    for pod, record in zip(pods, records, strict=True):
        view = endpoint(pod, [record], {pool.name: pool}, None)
        assert view is not None
        yield from (pod, record, view)


def _pod(number: int, index: int, size: Size) -> Pod:
    resources = AddressResourceRequirements({size.requested: "1"} if size.requested else None)
    return RequestingPod(
        metadata=ObjectMeta(
            name=f"app-{number:05d}-{index:03d}", namespace="default", uid=f"p-{number}-{index}", labels={"app": "app"}
        ),
        spec=RequestingPodSpec(nodeName=node_name(number), containers=[RequestingContainer(resources)]),
        status=PodStatus("Running", [PodIP(_instance(number, size).enis[1].addresses[index])]),
    )


def _record(pod: Pod, pool: SpiderIPPool, number: int, index: int) -> SpiderIP:
    request = AllocationRequest(
        "default", pod.name, pod.metadata.uid or "", "eth0", node_name(number), f"{NAMESPACE}/ipvlan-{DEVICE}"
    )
    record = new_record(request, pool, _first(number) + index)
    record.metadata.uid = f"r-{number}-{index}"
    return record


def _first(number: int) -> int:
    return (10 << 24) + STRIDE * (number + 1) + 2


def _instance(number: int, size: Size) -> Instance:
    first = _first(number)
    addresses = tuple(from_int(first + index, 4) for index in range(size.pods + SPARE))
    return Instance(
        "alibaba",
        REGION,
        f"{REGION}-a",
        f"i-{number}",
        "ecs.g7.4xlarge",
        (_eni(number, 0, from_int(first - 2, 4), ()), _eni(number, 1, from_int(first - 1, 4), addresses)),
    )


def _eni(number: int, index: int, primary: str, addresses: tuple[str, ...]) -> ENI:
    return ENI(
        f"eni-{number}-{index}",
        f"00:16:{index:02x}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        index == 0,
        primary,
        addresses,
        (),
        "vsw-1",
        BLOCK,
        None,
        None,
        None,
        f"eth{index}",
    )
