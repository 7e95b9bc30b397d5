"""`who`: who has an address, by its record, by the accounts of the nodes, and by the pools that may give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import click

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.address_state import AddressState, ListedAddresses, is_in_conflict, record_state
from spiderpool.cli.attention import why_past
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.checks_addresses import conflict_remedy, is_left_over
from spiderpool.cli.printing import View, age, alerts, facts, object_reference, plain, sentence, table
from spiderpool.core.addresses import AddressSet, canonical, object_name, to_int, version_of_text
from spiderpool.core.ipam.allocation import cooldown_end, usable
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.core.ipam.node_gc import is_holder
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import reserved_addresses

IPV6_DASHES = 7
"""Dashes in the name of the SpiderIP of an IPv6 address."""


class AddressParameter(click.ParamType[str]):
    """An IP address in any spelling, with or without prefix length, or the name of its SpiderIP."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address as canonical text."""
        text = str(value).partition("/")[0]
        try:
            return canonical(text.replace("-", ":") if text.count("-") == IPV6_DASHES else text)
        except ValueError:
            self.fail(f"{value!r} is no IP address; write it as 172.31.199.187 or fd00::7", param, ctx)


@dataclass(frozen=True, slots=True)
class AddressObjects:
    """The objects that say something of one address; None stands for what does not exist."""

    address: str
    record: SpiderIP | None
    pod: Pod | None
    """That of the record."""
    node: Node | None
    """That of the record."""
    pools: tuple[SpiderIPPool, ...]
    reserved: tuple[SpiderReservedIP, ...]
    accounts: tuple[SpiderNode, ...]
    nodes: tuple[Node, ...] = ()
    """Those of accounts with a sandbox that has the address."""
    unseen: frozenset[type[Object]] = frozenset()
    """Kinds of which something may not be read: nothing follows from what is missing there."""


async def look_for(cluster: Cluster, address: str) -> AddressObjects:
    """Read what there is about an address. Raises ApiUnavailable."""
    record = await cluster.find(SpiderIP, object_name(address))
    spec = record.spec if record else None
    accounts = tuple(await cluster.list(SpiderNode) or ())
    seen_on = dict.fromkeys(each.node for account in accounts for each in _sandboxes(account, address))
    nodes = [await cluster.find(Node, name) for name in seen_on]
    return AddressObjects(
        address,
        record,
        await cluster.find(Pod, spec.pod, spec.namespace) if spec else None,
        await cluster.find(Node, spec.node) if spec and spec.node else None,
        tuple(await cluster.list(SpiderIPPool) or ()),
        tuple(await cluster.list(SpiderReservedIP) or ()),
        accounts,
        tuple(each for each in nodes if each),
        frozenset(cluster.unseen),
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A sandbox that has the address, as its node's account says."""

    node: str
    pod: str
    pod_uid: str
    interface: str
    mac: str | None
    sandbox: str
    observed: str | None


@dataclass(frozen=True, slots=True)
class PoolView:
    """What one pool says of the address."""

    pool: str
    gives: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """Who has an address, or would give it; None stands for what does not apply."""

    address: str
    state: str
    pod: str | None
    pod_uid: str | None
    phase: str | None
    node: str | None
    interface: str | None
    pool: str | None
    since: str | None
    age: str | None
    owner: str | None
    released: str | None
    cooldown_until: str | None
    reserved_by: tuple[str, ...]
    seen: tuple[Sighting, ...]
    pools: tuple[PoolView, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """Facts, then sandboxes, pools, notes, and what needs attention."""
        since = f"{self.since} ({self.age} ago)" if self.since and self.age else self.since
        phase = f" ({self.phase})" if self.phase else ""
        yield from facts(
            {
                "Address": self.address,
                "State": self.state,
                "Pod": f"{self.pod}{phase}" if self.pod else None,
                "Pod UID": self.pod_uid if view.wide else None,
                "Node": self.node,
                "Interface": self.interface,
                "Pool": self.pool,
                "Since": since,
                "Owner": self.owner,
                "Released": self.released,
                "Cooldown": f"until {self.cooldown_until}" if self.cooldown_until else None,
                "Reserved": f"by {', '.join(self.reserved_by)}" if self.reserved_by else None,
            },
            view,
        )
        if self.seen:
            yield ""
            yield from self._sightings(view)
        if self.pools:
            yield ""
            rows = ((each.pool, "yes" if each.gives else "no", each.reason) for each in self.pools)
            yield from table(("POOL", "GIVES IT", "BECAUSE"), rows, view)
        if self.notes or self.problems:
            yield ""
        for note in self.notes:
            yield from sentence(note, view)
        yield from alerts(self.problems, view)

    def _sightings(self, view: View) -> Iterator[str]:
        if view.wide:
            titles: tuple[str, ...] = ("SANDBOX", "NODE", "INTERFACE", "MAC", "OBSERVED", "POD UID", "POD")
            yield from table(
                titles,
                [(e.sandbox, e.node, e.interface, e.mac, e.observed, e.pod_uid, e.pod) for e in self.seen],
                view,
            )
            return
        rows = ((each.sandbox[:13], each.node, each.interface, each.pod) for each in self.seen)
        yield from table(("SANDBOX", "NODE", "INTERFACE", "POD"), rows, view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The record; without one the pools that would give the address."""
        if self.pod or self.released:
            return [object_reference(SpiderIP, object_name(self.address))]
        return [object_reference(SpiderIPPool, each.pool) for each in self.pools if each.gives]


def answer(found: AddressObjects, now: datetime) -> AddressAnswer:
    """Who has an address at ``now``."""
    record, spec = found.record, found.record.spec if found.record else None
    pool = next((each for each in found.pools if spec and each.name == spec.pool), None)
    reserved = tuple(each.name for each in found.reserved if _reserves(each, found.address))
    seen = tuple(_sightings(found))
    pools = tuple(_pool_views(found))
    state = (
        record_state(record, pool, now.timestamp(), is_stopped=_why_stopped(found) is not None)
        if record
        else _unrecorded_state(found, seen, pools, reserved)
    )
    since = _since(found)
    return AddressAnswer(
        address=found.address,
        state=state.words,
        pod=f"{spec.namespace}/{spec.pod}" if spec else None,
        pod_uid=spec.podUID if spec else None,
        phase=found.pod.status.phase if found.pod and record and is_holder(found.pod, record) else None,
        node=spec.node if spec else None,
        interface=spec.interface if spec else None,
        pool=spec.pool if spec else None,
        since=since,
        age=age(since, now),
        owner=f"{spec.owner.kind} {spec.owner.namespace}/{spec.owner.name} keeps it" if spec and spec.owner else None,
        released=spec.releasedAt if spec else None,
        cooldown_until=_cooldown_until(record, pool) if record and state is AddressState.COOLING else None,
        reserved_by=reserved,
        seen=seen,
        pools=() if record else pools,
        notes=tuple(_notes(found)),
        problems=tuple(_problems(found, pool, seen)),
    )


def _unrecorded_state(
    found: AddressObjects, seen: Sequence[Sighting], pools: Sequence[PoolView], reserved: Sequence[str]
) -> AddressState:
    """What an address is whose record does not exist, or may not be read."""
    if SpiderIP in found.unseen:
        return AddressState.UNKNOWN
    if seen:
        return AddressState.CONFLICTING
    if any(each.gives for each in pools):
        return AddressState.FREE
    if reserved:
        return AddressState.RESERVED
    return AddressState.EXCLUDED if pools else AddressState.IN_NO_POOL


def _since(found: AddressObjects) -> str | None:
    """Since when the pod has the address, at the earliest: a record of an owner is older than its present pod."""
    if found.record is None:
        return None
    made = found.record.metadata.creationTimestamp
    born = found.pod.metadata.creationTimestamp if found.pod and is_holder(found.pod, found.record) else None
    return max(filter(None, (made, born)), default=None)


def _cooldown_until(record: SpiderIP, pool: SpiderIPPool | None) -> str | None:
    end = cooldown_end(record, pool)
    return None if end is None else datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reserves(reserved: SpiderReservedIP, address: str) -> bool:
    version = ip_address(address).version
    return to_int(address, version) in reserved_addresses([reserved], version)


def _sightings(found: AddressObjects) -> Iterator[Sighting]:
    """The sandboxes with the address that may run."""
    for account in found.accounts:
        if _why_past(found, account) is None:
            yield from _sandboxes(account, found.address)


def _why_past(found: AddressObjects, account: SpiderNode) -> str | None:
    nodes = (*found.nodes, *([found.node] if found.node else []))
    return why_past(next((each for each in nodes if each.name == account.name), None), account)


def _sandboxes(account: SpiderNode, address: str) -> Iterator[Sighting]:
    """The sandboxes with an address, as an account says."""
    for sandbox in account.sandboxes:
        for interface in sandbox.interfaces or ():
            if any(_is_same(text, address) for text in interface.addresses or ()):
                yield Sighting(
                    account.name,
                    f"{sandbox.namespace}/{sandbox.pod}",
                    sandbox.podUID,
                    interface.name,
                    interface.mac,
                    sandbox.containerID,
                    account.status.observedAt if account.status else None,
                )


def _is_same(text: str, address: str) -> bool:
    try:
        return canonical(text) == address
    except ValueError:
        return False


def _pool_views(found: AddressObjects) -> Iterator[PoolView]:
    """What each pool says that lists the address, or in whose subnet it lies."""
    version = version_of_text(found.address)
    reserved = reserved_addresses(found.reserved, version)
    for pool in sorted(found.pools, key=lambda each: each.name):
        if version_of(pool) == version and (view := _pool_view(pool, found.address, reserved)):
            yield view


def _pool_view(pool: SpiderIPPool, address: str, reserved: AddressSet) -> PoolView | None:
    number = to_int(address, reserved.version)
    try:
        if ip_address(address) not in ip_network(pool.spec.subnet):
            return None
        listed = AddressSet.parse(pool.spec.ips or (), reserved.version)
        if number not in listed:
            return PoolView(pool.name, False, "its subnet has the address, spec.ips has it not")
        states = ListedAddresses(listed, usable(pool)).by_state(reserved)
        why_not = _why_not(pool, number, next(state for state, part in states.items() if number in part))
    except ValueError as error:
        return PoolView(pool.name, False, f"its addresses cannot be read: {error}")
    return PoolView(pool.name, why_not is None, why_not or restrictions(pool))


def _why_not(pool: SpiderIPPool, number: int, state: AddressState) -> str | None:
    """Why a pool does not give an address that it lists; None when it does. Raises RangeError."""
    if state is AddressState.EXCLUDED:
        is_named = number in AddressSet.parse(pool.spec.excludeIPs or (), version_of(pool))
        return "spec.excludeIPs has it" if is_named else "no machine may have this address of the subnet"
    reasons = {"it is reserved": state is AddressState.RESERVED, "the pool is being deleted": pool.terminating}
    reasons |= {"the pool is disabled": bool(pool.spec.disable)}
    return next((reason for reason, holds in reasons.items() if holds), None)


def restrictions(pool: SpiderIPPool) -> str:
    """Which pods a pool is for, in words."""
    spec = pool.spec
    listed = {"node": spec.nodeName, "Namespace": spec.namespaceName, "network": spec.multusName}
    selected = {
        "nodes": None if spec.nodeName else spec.nodeAffinity,
        "Namespaces": None if spec.namespaceName else spec.namespaceAffinity,
        "pods": spec.podAffinity,
    }
    parts = [f"{noun} {', '.join(names)}" for noun, names in listed.items() if names]
    parts += [f"{noun} with certain labels" for noun, selector in selected.items() if selector]
    return f"for {'; '.join(parts)}" if parts else "for any pod"


def _notes(found: AddressObjects) -> Iterator[str]:
    yield from _past_notes(found)
    record = found.record
    if record is None:
        return
    if reason := _why_stopped(found):
        yield f"{reason}: what its last boot used is free once no pod holds it"
    if record.marked:
        yield "somebody is releasing it by hand"
    for former in record.spec.movedFrom or ():
        yield f"its virtual machine moves from pod {former.pod} on node {former.node}, which may still have it"


def _why_stopped(found: AddressObjects) -> str | None:
    """Why nothing runs any more on the node of the record; None when nobody says so."""
    if found.node is None:
        return None
    return why_stopped(found.node, next((each for each in found.accounts if each.name == found.node.name), None))


def _past_notes(found: AddressObjects) -> Iterator[str]:
    for account in found.accounts:
        if reason := _why_past(found, account):
            for each in _sandboxes(account, found.address):
                yield f"{reason}: the sandbox of pod {each.pod} that had the address then does not count"


def _problems(found: AddressObjects, pool: SpiderIPPool | None, seen: Sequence[Sighting]) -> Iterator[str]:
    record = found.record
    if record is None:
        yield from _problems_without_record(found, seen)
        return
    if record.defect():
        yield f"its record is wrong: {record.defect()}"
    spec = record.spec
    for each in seen:
        if is_in_conflict(each.pod_uid, record):
            remedy = conflict_remedy(each.pod, each.node, [f"{spec.namespace}/{spec.pod}"])
            yield f"pod {each.pod} on node {each.node} uses it too: {remedy}"
    if pool is None and SpiderIPPool not in found.unseen:
        yield f"pool {spec.pool} does not exist: without it a pod has no gateway; create it again"
    if Pod not in found.unseen and is_left_over(record, found.pod):
        yield (
            f"pod {spec.namespace}/{spec.pod} does not hold it any more: it is released once the agent of node "
            f"{spec.node} says that no sandbox has it; by hand: spiderpoolctl ip release {found.address}"
        )


def _problems_without_record(found: AddressObjects, seen: Iterable[Sighting]) -> Iterator[str]:
    if SpiderIP in found.unseen:
        yield "its SpiderIP may not be read: nobody can say here whether a pod has it"
        return
    for each in seen:
        remedy = "its agent makes the record again if a pool has the address"
        yield f"pod {each.pod} on node {each.node} uses it without a record; {remedy}"
