"""Decides which SpiderIPs stand for the records of Spiderpool's own agent, in Go, so that pods keep their addresses.

A record is taken over where all that is known of it agrees: one pool names the address, for a pod that exists, and the
SpiderEndpoint of that very pod names it once, with the same pool, an interface, and the pod's node. A virtual machine
that moves live has it in two pods, and the record names the one that it moves to. An address whose pod is gone is
free, unless its StatefulSet or virtual machine keeps it. Everything else is held back: nobody is given the address
until a person has looked, since whoever has it now would share it.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from spiderpool.api.applications import StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import FormerPod, IPOwner, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.core.addresses import FAMILIES, AddressSet, object_name, version_of_text
from spiderpool.core.ipam.allocation import new_record, usable
from spiderpool.core.ipam.gc import (
    MIRROR_POD_ANNOTATION,
    STATIC_POD_ANNOTATION,
    is_finished,
    pod_key,
    pod_uids,
    reported_addresses,
)
from spiderpool.core.ipam.go_records import (
    EndpointAddress,
    Entry,
    UnreadableRecords,
    endpoint_addresses,
    entries,
    number,
)
from spiderpool.core.ipam.owners import (
    MACHINE_INSTANCE,
    STATEFUL_SET,
    is_migration_target,
    sticky_owner,
    sticky_owner_is_valid,
)
from spiderpool.core.ipam.selection import AllocationRequest


class Fate(enum.StrEnum):
    """What becomes of an address."""

    TAKEN = "taken over"
    HELD = "held back"
    """Nobody is given it: a SpiderReservedIP has it."""
    FREE = "free"


@dataclass(frozen=True, slots=True)
class AddressFate:
    """Something that a person should know of an address, or of a whole pool."""

    subject: str
    fate: Fate
    reason: str
    pools: frozenset[str] = frozenset()
    """Names of the pools that it concerns; none: no pool."""
    addresses: AddressSet | None = None
    """What it is about, where that may be in use."""


@dataclass(frozen=True, slots=True)
class GoState:
    """What was read of a cluster of the agent in Go: the pools with their records first, then pods."""

    pools: tuple[SpiderIPPool, ...]
    endpoints: tuple[SpiderEndpoint, ...]
    pods: tuple[Pod, ...]
    statefulsets: Mapping[str, StatefulSet] = field(default_factory=dict)
    """By ``namespace/name``, as the next two; of virtual machines those whose pod is gone."""
    instances: Mapping[str, VirtualMachineInstance] = field(default_factory=dict)
    machines: Mapping[str, VirtualMachine] = field(default_factory=dict)
    records: tuple[SpiderIP, ...] = ()
    """The SpiderIPs that exist already."""
    keeps_statefulsets: bool = True
    """Whether the pods of StatefulSets have fixed addresses (``enableStatefulSet``)."""
    keeps_machines: bool = True
    """The same for virtual machines (``enableKubevirtStaticIP``)."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be made, and what a person should know."""

    records: tuple[SpiderIP, ...]
    """All that pods hold; some may exist already."""
    findings: tuple[AddressFate, ...]

    @property
    def held(self) -> dict[int, AddressSet]:
        """Addresses that nobody may be given, by family."""
        found = {family: AddressSet(family) for family in FAMILIES}
        for each in self.findings:
            if each.fate is Fate.HELD and each.addresses is not None:
                found[each.addresses.version] |= each.addresses
        return found

    def of(self, pools: Collection[str]) -> Conversion:
        """What concerns some pools."""
        records = tuple(record for record in self.records if record.spec.pool in pools)
        return Conversion(records, tuple(each for each in self.findings if not each.pools.isdisjoint(pools)))


@dataclass(frozen=True, slots=True)
class _Judgement:
    fate: Fate
    reason: str = ""
    record: SpiderIP | None = None


def convert(state: GoState) -> Conversion:
    """Judge every address that a record, a SpiderEndpoint or a pod names."""
    return _Converter(state).result()


def sticky_owner_of(endpoint: SpiderEndpoint) -> IPOwner | None:
    """The StatefulSet or virtual machine that keeps the addresses of a SpiderEndpoint, by what it says itself."""
    status = endpoint.status
    if status is None or status.ownerControllerType not in (STATEFUL_SET, MACHINE_INSTANCE):
        return None
    return IPOwner(status.ownerControllerType, endpoint.metadata.namespace or "", status.ownerControllerName)


class _Converter:
    """The records of one state, by address."""

    def __init__(self, state: GoState) -> None:
        self._state = state
        self._findings: list[AddressFate] = []
        self._given = list(_given(state.pools))
        self._pods = {uid: pod for pod in state.pods for uid in pod_uids(pod) if uid}
        self._pods |= {pod.metadata.uid or "": pod for pod in state.pods}  # who claims another's is not believed
        self._of_machines: dict[IPOwner, list[Pod]] = defaultdict(list)
        self._existing = {record.name: record for record in state.records}
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        self._named: dict[str, list[EndpointAddress]] = defaultdict(list)
        self._reporters: dict[str, list[Pod]] = defaultdict(list)
        self._read_pools()
        self._read_endpoints()
        self._read_pods()

    def result(self) -> Conversion:
        """Judge all addresses, in their order."""
        records = []
        for address in sorted({*self._entries, *self._named, *self._reporters}, key=_order):
            judgement = self._judge(address)
            if judgement.record is not None:
                records.append(judgement.record)
            if judgement.reason:
                alone = AddressSet.of_addresses((number(address),), version_of_text(address))
                pools = frozenset(self._pools_of(address))
                self._findings.append(AddressFate(address, judgement.fate, judgement.reason, pools, alone))
        return Conversion(tuple(records), tuple(self._findings))

    def _read_pools(self) -> None:
        for pool in self._state.pools:
            try:
                found, faults = entries(pool)
            except UnreadableRecords as error:
                self._hold_pool(pool, str(error))
                continue
            for entry in found:
                self._entries[entry.address].append(entry)
            for fault in faults:
                self._hold_pool(pool, f"record {fault}")

    def _hold_pool(self, pool: SpiderIPPool, reason: str) -> None:
        """Give nobody an address of a pool of which it is not known which ones are in use."""
        addresses = next((given for each, given in self._given if each is pool), None)
        reason += "" if addresses else "; no agent can read its spec.ips"
        self._findings.append(
            AddressFate(f"SpiderIPPool {pool.name}", Fate.HELD, reason, frozenset((pool.name,)), addresses)
        )

    def _read_endpoints(self) -> None:
        """Of all pools: a SpiderEndpoint may name an address of these with the name of another."""
        found, faults = endpoint_addresses(self._state.endpoints)
        for each in found:
            if self._pools_of(each.address):
                self._named[each.address].append(each)
        self._findings += (AddressFate(fault.partition(" names ")[0], Fate.FREE, fault) for fault in faults)

    def _read_pods(self) -> None:
        for pod in self._state.pods:
            if owner := sticky_owner(pod, statefulsets=False, machines=True):
                self._of_machines[owner].append(pod)
            for address in () if pod.spec.hostNetwork else reported_addresses(pod):
                if self._pools_of(address):
                    self._reporters[address].append(pod)

    def _pools_of(self, address: str) -> set[str]:
        """Names of the pools that give an address, or have a record of it."""
        version, value = version_of_text(address), number(address)
        giving = {pool.name for pool, given in self._given if given.version == version and value in given}
        return giving | {entry.pool.name for entry in self._entries.get(address, ())}

    def _judge(self, address: str) -> _Judgement:
        found = self._entries.get(address, [])
        if len(found) > 1:
            return _Judgement(Fate.HELD, f"two records name it: {' and '.join(map(str, found))}")
        pod = self._pods.get(found[0].uid) if found else None
        if pod is None and self._is_given(address):
            return _Judgement(Fate.TAKEN)
        if not found:
            return self._unrecorded(address)
        entry = found[0]
        wanted = self._without_pod(entry) if pod is None else self._with_pod(entry, pod)
        return wanted if wanted.record is None else self._beside_existing(wanted, wanted.record)

    def _is_given(self, address: str) -> bool:
        """Whether our agents have given an address to an existing pod, and no other pod is known to have it."""
        existing = self._existing.get(object_name(address))
        uid = existing.spec.podUID if existing and existing.spec.releasedAt is None else None
        return (
            uid in self._pods
            and not self._living(address, uid)
            and all(uid in pod_uids(each) for each in self._reporters.get(address, ()))
        )

    def _unrecorded(self, address: str) -> _Judgement:
        if living := self._living(address):
            return _Judgement(Fate.HELD, f"{living[0]} names it, and no pool has a record of it")
        if reporters := self._reporters.get(address):
            return _Judgement(Fate.HELD, f"pod {reporters[0].key} reports it, and no pool has a record of it")
        return _Judgement(Fate.FREE, f"{self._named[address][0]} names it, whose pod is gone, and no pool")

    def _living(self, address: str, but_for: str | None = None) -> list[EndpointAddress]:
        """SpiderEndpoints of existing pods that name an address."""
        return [each for each in self._named.get(address, ()) if each.uid in self._pods and each.uid != but_for]

    def _with_pod(self, entry: Entry, pod: Pod) -> _Judgement:
        own = [each for each in self._named.get(entry.address, ()) if each.uid == entry.uid]
        owner = sticky_owner(pod, statefulsets=self._state.keeps_statefulsets, machines=self._state.keeps_machines)
        sources = self._sources(pod, owner)
        faults = (*self._contradictions(entry, pod, owner, sources), *_disagreements(entry, pod, own))
        if faults:
            return _Judgement(Fate.HELD, f"{entry}: {'; '.join(faults)}")
        record = _record(entry, own[0], pod.name, _uid(pod), owner)
        record.spec.movedFrom = [_source(each) for each in sources] or None
        finished = "its pod has finished: garbage collection releases it" if is_finished(pod) else ""
        return _Judgement(Fate.TAKEN, finished, record)

    def _sources(self, pod: Pod, owner: IPOwner | None) -> list[Pod]:
        """The pods that run a virtual machine which moves to this pod; none where it does not move."""
        if owner is None or not is_migration_target(pod):
            return []
        return [each for each in self._of_machines[owner] if each is not pod and reported_addresses(each)]

    def _contradictions(self, entry: Entry, pod: Pod, owner: IPOwner | None, sources: Collection[Pod]) -> Iterator[str]:
        """What others say against a record of an existing pod, to which its machine moves from pods (``sources``)."""
        names = {pod.key, *([f"{owner.namespace}/{owner.name}"] if owner and owner.kind == MACHINE_INSTANCE else [])}
        if entry.pod not in names:
            yield f"the pod with the UID {entry.uid} is {pod.key}"
        for other in self._living(entry.address, entry.uid):
            yield f"{other} names it for another pod"
        for reporter in self._reporters.get(entry.address, ()):
            if entry.uid not in pod_uids(reporter) and reporter not in sources:
                yield f"pod {reporter.key} reports it as well"

    def _without_pod(self, entry: Entry) -> _Judgement:
        """A record whose pod is gone: its owner may keep it, or somebody else have it."""
        for other in (*map(str, self._living(entry.address)), *self._reporting(entry.address)):
            return _Judgement(Fate.HELD, f"{entry}: that pod is gone, and {other} has it")
        for own in self._named.get(entry.address, ()):
            owner = sticky_owner_of(own.endpoint)
            if own.uid == entry.uid and owner is not None and self._keeps(owner):
                return self._kept(entry, own, owner)
        return _Judgement(Fate.FREE, f"{entry}: that pod is gone")

    def _reporting(self, address: str) -> list[str]:
        return [f"pod {each.key}" for each in self._reporters.get(address, ())]

    def _keeps(self, owner: IPOwner) -> bool:
        return self._state.keeps_machines if owner.kind == MACHINE_INSTANCE else self._state.keeps_statefulsets

    def _kept(self, entry: Entry, own: EndpointAddress, owner: IPOwner) -> _Judgement:
        """A record that waits for the next pod of its owner, if that still needs it."""
        key = f"{owner.namespace}/{owner.name}"
        if faults := [*_disagreements(entry, None, [own])]:
            return _Judgement(Fate.HELD, f"{entry}: {'; '.join(faults)}")
        record = _record(entry, own, entry.pod.partition("/")[2], entry.uid, owner)
        is_kept = sticky_owner_is_valid(
            record,
            statefulset=self._state.statefulsets.get(key),
            instance=self._state.instances.get(key),
            machine=self._state.machines.get(key),
        )
        if not is_kept:
            return _Judgement(Fate.FREE, f"{entry}: that pod is gone, and {owner.kind} {key} needs it no more")
        return _Judgement(Fate.TAKEN, f"its pod is gone: {owner.kind} {key} keeps it", record)

    def _beside_existing(self, wanted: _Judgement, record: SpiderIP) -> _Judgement:
        """The judgement, unless the address has a SpiderIP of somebody else already."""
        existing = self._existing.get(record.name)
        if existing is None or (existing.spec.podUID, existing.spec.interface) == (
            record.spec.podUID,
            record.spec.interface,
        ):
            return wanted
        return _Judgement(Fate.HELD, f"its SpiderIP exists already, for pod {pod_key(existing)}")


def _disagreements(entry: Entry, pod: Pod | None, own: list[EndpointAddress]) -> Iterator[str]:
    """What the SpiderEndpoint of a record's pod says otherwise; ``pod`` is None where it is gone."""
    if not own:
        yield "no SpiderEndpoint of that pod names it"
        return
    if len(own) > 1:
        yield f"{own[0]} names it for {len(own)} interfaces"
    first = own[0]
    yield from _outside(entry, first)
    if first.pool != entry.pool.name:
        yield f"{first} names pool {first.pool}"
    if not first.interface:
        yield f"{first} names no interface for it"
    node = pod.spec.nodeName if pod else first.node
    if not first.node or node != first.node:
        yield f"{first} names node {first.node or 'none'}, and the pod is on {node or 'none'}"


def _outside(entry: Entry, own: EndpointAddress) -> Iterator[str]:
    """What an address, or its prefix length, has against the subnet of its pool."""
    try:
        network = ip_network(entry.pool.spec.subnet, strict=False)
    except ValueError:
        yield f"its subnet cannot be read: {entry.pool.spec.subnet}"
        return
    if network.version != version_of_text(entry.address) or number(entry.address) not in AddressSet.of_network(network):
        yield f"it is outside the subnet {network}"
    elif own.cidr.partition("/")[2] != str(network.prefixlen):
        yield f"{own} names it as {own.cidr}, in the subnet {network}"


def _record(entry: Entry, own: EndpointAddress, pod: str, uid: str, owner: IPOwner | None) -> SpiderIP:
    """The SpiderIP as the allocator makes it."""
    namespace = entry.pod.partition("/")[0]
    request = AllocationRequest(
        namespace, pod, uid, own.interface, own.node, None, version=version_of_text(entry.address), owner=owner
    )
    return new_record(request, entry.pool, number(entry.address))


def _source(pod: Pod) -> FormerPod:
    """The pod that a virtual machine moves from. It had no record of ours, so every account of its node counts."""
    return FormerPod(pod.spec.nodeName or "", pod.name, _uid(pod), "0")


def _uid(pod: Pod) -> str:
    """The UID by which the CNI plugin is called for a pod: that of a static pod is not that of its mirror."""
    annotations = pod.metadata.annotations or {}
    static = annotations.get(STATIC_POD_ANNOTATION) if MIRROR_POD_ANNOTATION in annotations else None
    return static or pod.metadata.uid or ""


def _given(pools: Iterable[SpiderIPPool]) -> Iterator[tuple[SpiderIPPool, AddressSet]]:
    """The addresses of each pool; pools that no agent can read are left out."""
    for pool in pools:
        try:
            yield pool, usable(pool)
        except ValueError:
            continue


def _order(address: str) -> tuple[int, int]:
    return version_of_text(address), number(address)


def held_name(version: int) -> str:
    """The name of the SpiderReservedIP with the addresses of a family that are held back."""
    return f"held-by-migration-v{version}"
