"""Who holds the addresses that are to be empty, what can be done about each, and in which order. Values alone."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.kubevirt import GROUP as KUBEVIRT
from spiderpool.api.meta import OwnerReference
from spiderpool.cli.plan.pods import MIRROR, is_living
from spiderpool.cli.renumbering.marks import MoveKind
from spiderpool.core import annotations as pod_annotations
from spiderpool.core.addresses import AddressSet, parse_subnet
from spiderpool.core.ipam.allocation import address_of, address_text, family
from spiderpool.core.ipam.node_gc import is_holder
from spiderpool.core.ipam.owners import MACHINES, STATEFUL_SET
from spiderpool.core.ipam.selection import AllocationRequest, NamedPools, may_be_candidate, version_of
from spiderpool.errors import BadConfig, Refused


class HolderKind(enum.StrEnum):
    """What can be done about a holder."""

    MANAGED = "can be evicted: its controller makes another"
    NAMED = "its annotation names no pool that stays"
    JOB = "pod of a Job, which counts its eviction as a failure: it ends by itself, or --move-jobs"
    UNMANAGED = "nobody makes it again: delete it, or --move-unmanaged"
    STATIC = "static: change its manifest on the node"
    MACHINE = "virtual machine: stop and start it"
    KEPT = "kept for the next pod of its owner, which gets another"
    LEFT_OVER = "no pod has it: it is collected"
    ENDING = "it is ending"


@dataclass(frozen=True, slots=True)
class AddressHolder:
    """A pod, or an owner without one, with the addresses that it has to give up."""

    kind: HolderKind
    pod: str
    """``namespace/name``, also of a pod that is gone."""
    uid: str
    node: str
    controller: str | None
    """``Kind name``."""
    controller_uid: str | None
    addresses: tuple[str, ...]
    pools: tuple[str, ...]
    ready: bool = False

    @property
    def namespace(self) -> str:
        """That of the pod."""
        return self.pod.partition("/")[0]


@dataclass(frozen=True, slots=True)
class EmptiedPart:
    """Addresses of a pool that pods are to give up."""

    pool: SpiderIPPool
    addresses: AddressSet
    closes_pool: bool
    """Whether the pool gives no address at all any more."""

    def covers(self, record: SpiderIP) -> bool:
        """Whether a record holds one of them. A released one, in its cooldown, holds nothing."""
        return record.spec.releasedAt is None and self.has_address_of(record)

    def has_address_of(self, record: SpiderIP) -> bool:
        """Whether a record is of one of them, be it held or in its cooldown."""
        same = record.spec.pool == self.pool.name and family(record) == self.addresses.version
        return same and address_of(record) in self.addresses

    @property
    def move_kind(self) -> MoveKind:
        """The command by which pods move away from them."""
        return MoveKind.DRAIN if self.closes_pool else MoveKind.RESIZE

    @property
    def annotation(self) -> dict[str, str]:
        """That of the pool by which agents give the next pod of an owner another address."""
        return {POOL_MOVING_ANNOTATION: ",".join(self.addresses.ranges())}


def whole_pool(pool: SpiderIPPool) -> EmptiedPart:
    """All of a pool. Raises Refused where its subnet cannot be read."""
    try:
        return EmptiedPart(pool, AddressSet.of_network(parse_subnet(pool.spec.subnet)), closes_pool=True)
    except ValueError as error:
        raise Refused(f"spec.subnet of pool {pool.name} is wrong: {error}") from error


def held_records(parts: Collection[EmptiedPart], records: Iterable[SpiderIP]) -> list[SpiderIP]:
    """The records that hold addresses of the parts."""
    return [record for record in records if any(part.covers(record) for part in parts)]


def holders_of(
    parts: Collection[EmptiedPart],
    records: Iterable[SpiderIP],
    pods: Mapping[str, EvictablePod],
    pools: Iterable[SpiderIPPool],
    machines: Collection[str] = (),
) -> list[AddressHolder]:
    """The holders of the parts' addresses, in the order in which they are evicted.

    ``pods`` are by namespace/name, ``machines`` the UIDs of the virtual machines that there are.
    """
    grouped: dict[str, list[SpiderIP]] = defaultdict(list)
    for record in held_records(parts, records):
        grouped[record.spec.podUID].append(record)
    closed = {part.pool.name for part in parts if part.closes_pool}
    staying = [pool for pool in pools if pool.name not in closed and not (pool.terminating or pool.spec.disable)]
    found = (
        _holder(each, pods.get(f"{each[0].spec.namespace}/{each[0].spec.pod}"), staying, machines)
        for each in grouped.values()
    )
    return eviction_order(found)


def eviction_order(holders: Iterable[AddressHolder]) -> list[AddressHolder]:
    """Pods that do not serve first; then by controller, and of a StatefulSet the last ordinal first, as it updates."""
    return sorted(holders, key=_place)


def evictable(holders: Iterable[AddressHolder], *, unmanaged: bool, jobs: bool = False) -> list[AddressHolder]:
    """The holders that may be evicted: never static pods, machines, or pods that would get no other address."""
    kinds = {HolderKind.MANAGED}
    kinds |= {HolderKind.UNMANAGED} if unmanaged else set()
    kinds |= {HolderKind.JOB} if jobs else set()
    return [each for each in holders if each.kind in kinds]


def _place(holder: AddressHolder) -> tuple[object, ...]:
    prefix, _, digits = holder.pod.rpartition("-")
    is_ordinal = (holder.controller or "").startswith(f"{STATEFUL_SET} ") and digits.isdigit()
    number = -int(digits) if is_ordinal else 0
    return holder.ready, holder.namespace, holder.controller or "", number, prefix, holder.pod


def _holder(
    records: list[SpiderIP], pod: EvictablePod | None, staying: Collection[SpiderIPPool], machines: Collection[str]
) -> AddressHolder:
    spec = records[0].spec
    holding = pod if is_holder(pod, records[0]) else None
    owner = holding.controller if holding else None
    return AddressHolder(
        _kind(records[0], holding, staying, machines),
        f"{spec.namespace}/{spec.pod}",
        spec.podUID,
        spec.node,
        f"{owner.kind} {owner.name}" if owner else _owner_text(records[0]),
        owner.uid if owner else None,
        tuple(sorted(map(address_text, records))),
        tuple(sorted({each.spec.pool for each in records})),
        ready=holding.ready if holding else False,
    )


def _owner_text(record: SpiderIP) -> str | None:
    return f"{record.spec.owner.kind} {record.spec.owner.name}" if record.spec.owner else None


def claims_machine(pod: EvictablePod) -> OwnerReference | None:
    """The virtual machine that a pod says it is of."""
    owner = pod.controller
    return owner if owner and owner.kind in MACHINES and owner.apiVersion.startswith(f"{KUBEVIRT}/") else None


def is_static(pod: EvictablePod) -> bool:
    """Whether a pod is the mirror of a static one, as its kubelet makes it: owned by its Node, and annotated."""
    owner = pod.controller
    of_node = owner is not None and (owner.apiVersion, owner.kind, owner.name) == ("v1", "Node", pod.spec.nodeName)
    return of_node and MIRROR in (pod.metadata.annotations or {})


def _kind(
    record: SpiderIP, pod: EvictablePod | None, staying: Collection[SpiderIPPool], machines: Collection[str]
) -> HolderKind:
    if pod is None:
        return HolderKind.KEPT if record.spec.owner else HolderKind.LEFT_OVER
    if is_static(pod):
        return HolderKind.STATIC
    if not is_living(pod):
        return HolderKind.ENDING
    if pod.controller is None:
        return HolderKind.UNMANAGED
    if (machine := claims_machine(pod)) and machine.uid in machines:
        return HolderKind.MACHINE
    if (pod.controller.apiVersion, pod.controller.kind) == ("batch/v1", "Job"):
        return HolderKind.JOB
    return HolderKind.NAMED if names_only_closed(pod, staying) else HolderKind.MANAGED


def pool_names(pod: EvictablePod) -> list[tuple[int, tuple[str, ...]]]:
    """The lists of pools that a pod's annotations name, with their families; none where these cannot be read."""
    notes = pod.metadata.annotations or {}
    try:
        entries = pod_annotations.all_interface_pools(notes) or ()
        first = pod_annotations.interface_pools(notes, pod_annotations.FIRST_INTERFACE)
    except BadConfig:  # such a pod gets no address at all, and is told why by its agent
        return []
    return [each for entry in (*entries, *([first] if first else ())) for each in entry.names.items()]


def names_only_closed(pod: EvictablePod, staying: Iterable[SpiderIPPool]) -> bool:
    """Whether some interface of a pod may have addresses of pools alone that give none any more."""
    known = list(staying)
    return any(not _may_serve(names, version, known) for version, names in pool_names(pod))


def _may_serve(names: tuple[str, ...], version: int, pools: Iterable[SpiderIPPool]) -> bool:
    request = AllocationRequest("", "", "", "", "", None, version=version, candidates=NamedPools(names))
    return any(version_of(pool) == version and may_be_candidate(request, pool.name) for pool in pools)
