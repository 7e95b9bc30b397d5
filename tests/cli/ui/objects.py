"""Objects of a small cluster, made by the writers of the product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus, NodeSystemInfo
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from spiderpool.cli.address_state import AddressState, ListedAddresses
from spiderpool.cli.ui.pool_map import (
    HolderIndex,
    MapInput,
    MapPiece,
    PoolMap,
    sandboxed_by,
)
from spiderpool.core.addresses import from_int, to_int
from spiderpool.core.ipam.allocation import new_record, released
from spiderpool.core.ipam.selection import AllocationRequest

NOW = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""
BASE = to_int("10.0.0.0", 4)
BOOT = "boot-1"


def pool(name: str = "blue", **spec: object) -> SpiderIPPool:
    fields: dict[str, object] = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.20"], "cooldownSeconds": 60}
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**{**fields, **spec}))  # type: ignore[arg-type]


def record(
    address: int, pool: SpiderIPPool, *, node: str = "n1", uid: str = "", released_before: float | None = None
) -> SpiderIP:
    """The record that the allocator makes for a pod, and marks as released."""
    version = 6 if ":" in pool.spec.subnet else 4
    name = f"web-{address & 0xFFFFFF}"
    request = AllocationRequest(
        namespace="shop",
        pod=name,
        pod_uid=uid or f"uid-{name}",
        interface="eth0",
        node=node,
        network=None,
        version=version,
    )
    made = new_record(request, pool, address)
    return made if released_before is None else released(made, NOW - released_before)


def reserved(*ranges: str) -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="gateways"), spec=ReservedIPSpec(None, list(ranges)))


def node(name: str = "n1", *, ready: bool = True) -> Node:
    status = NodeStatus([NodeCondition("Ready", str(ready))], None, NodeSystemInfo(BOOT))
    return Node(metadata=ObjectMeta(name=name), status=status)


def account(
    holders: Sequence[tuple[int, str]] = (), name: str = "n1", *, fenced: bool = False, version: int = 4
) -> SpiderNode:
    """A node's account: addresses, and the pods whose sandboxes have them, by UID; a name may follow it after a `/`."""
    sandboxes = [
        NodeSandbox(uid.partition("/")[0], "shop", _name(uid), f"c{number}", [_interface(address, version)])
        for number, (address, uid) in enumerate(holders)
    ]
    spec = SpiderNodeSpec(None, BOOT if fenced else None)
    return SpiderNode(
        metadata=ObjectMeta(name=name), spec=spec, status=NodeAccount(1, "2026-01-01T11:59:00Z", BOOT, "7", sandboxes)
    )


def _name(uid: str) -> str:
    return uid.partition("/")[2] or uid.removeprefix("uid-")


def _interface(address: int, version: int) -> SandboxInterface:
    mac = f"02:00:00:00:{address >> 8 & 255:02x}:{address & 255:02x}"
    return SandboxInterface("eth0", mac, [from_int(address, version)])


def objects(
    pools: Sequence[SpiderIPPool] = (),
    records: Sequence[SpiderIP] = (),
    reserved: Sequence[SpiderReservedIP] = (),
    accounts: Sequence[SpiderNode] = (),
    nodes: Sequence[Node] = (),
) -> MapInput:
    """Of what maps are made."""
    index = HolderIndex()
    for each in records:
        index.note(None, each)
    return MapInput(pools, index.copy(), reserved, accounts, nodes, sandboxed_by, ListedAddresses.of)


def records_of(found: MapInput) -> list[SpiderIP]:
    return [each for records in found.holders.values() for each in records.values()]


def states_of(pieces: Iterable[MapPiece]) -> dict[int, AddressState]:
    """The state of each address; for maps of few addresses."""
    return {address: each.state for each in pieces for address in range(each.first, each.last + 1)}


def state_of(found: PoolMap, address: int) -> AddressState | None:
    """The state of an address; None where the pool does not have it."""
    return next((each.state for each in found.pieces if each.first <= address <= each.last), None)
