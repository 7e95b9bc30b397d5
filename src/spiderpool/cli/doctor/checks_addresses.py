"""Records against pods, against what the nodes say of their sandboxes, and against the ENIs of their servers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spidernode import NodeSandbox, SpiderNode
from spiderpool.cli.attention import present_accounts
from spiderpool.cli.doctor.look import ClusterSnapshot
from spiderpool.cli.finding import Finding
from spiderpool.cli.printing import object_reference
from spiderpool.core.addresses import FAMILIES, AddressSet, Interval, canonical, object_name, to_int, version_of_text
from spiderpool.core.ipam.allocation import address_text, usable
from spiderpool.core.ipam.evidence import sandbox_using
from spiderpool.core.ipam.gc import pod_uids, reported_addresses
from spiderpool.core.ipam.node_gc import is_holder
from spiderpool.core.ipam.selection import version_of

SHOWN = 5
"""Objects of one kind that a sentence names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class AddressUser:
    """A pod that has an address, and who says so."""

    pod: str
    pod_uids: frozenset[str | None]
    """More than one for a static pod and its mirror."""
    node: str
    source: str

    @property
    def text(self) -> str:
        """In words."""
        return f"pod {self.pod} on node {self.node} has it, by {self.source}"


def address_findings(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """All of the checks of this file; those that need what may not be read are left out."""
    if snapshot.records is None:
        return
    pools = snapshot.installation.pools or ()
    users = users_by_address(snapshot)
    yield from _twice(snapshot, users)
    yield from _unrecorded(snapshot, users)
    yield from _unregistered(snapshot)
    yield from _wrong_records(snapshot.records)
    if snapshot.installation.pools is not None:
        yield from _without_pool(snapshot.records, pools)
    yield from _leaked(snapshot)


def suspects(snapshot: ClusterSnapshot) -> Iterator[str]:
    """Names of records that may be wrong, or may be missing: to be read again."""
    yield from (each.name for each in left_over(snapshot))
    known = {each.name for each in snapshot.records or ()}
    for address, users in users_by_address(snapshot).items():
        if object_name(address) not in known and _concerns(snapshot, users):
            yield object_name(address)


# --- who has an address


def users_by_address(snapshot: ClusterSnapshot) -> dict[str, list[AddressUser]]:
    """The pods that have each address, by the word of nodes and by their own status; addresses of pools alone."""
    accounts = snapshot.installation.accounts or ()
    found: dict[str, list[AddressUser]] = {}
    by_accounts = _by_accounts(present_accounts(accounts, snapshot.installation.nodes or ()))
    for address, user in (*by_accounts, *_by_pods(snapshot.pods or (), {each.name for each in accounts})):
        others = found.setdefault(address, [])
        if all(user.pod_uids.isdisjoint(each.pod_uids) for each in others):
            others.append(user)
    given = _given(snapshot.installation.pools or ())
    recorded = {address_text(each) for each in snapshot.records or () if not each.defect()}
    return {address: users for address, users in found.items() if address in recorded or _is_in(address, given)}


def _by_accounts(accounts: Iterable[SpiderNode]) -> Iterator[tuple[str, AddressUser]]:
    for account in accounts:
        for sandbox in account.sandboxes:
            source = f"the agent's account of sandbox {sandbox.containerID[:13]}"
            pod = f"{sandbox.namespace}/{sandbox.pod}"
            for address in _addresses(sandbox):
                yield address, AddressUser(pod, frozenset({sandbox.podUID}), account.name, source)


def _by_pods(pods: Iterable[Pod], nodes: Collection[str]) -> Iterator[tuple[str, AddressUser]]:
    """By the status of pods on nodes that have an agent of ours: others may be in other networks."""
    for pod in pods:
        if pod.spec.hostNetwork or pod.spec.nodeName not in nodes or not pod.status.is_running:
            continue
        user = AddressUser(pod.key, pod_uids(pod), pod.spec.nodeName or "", "its status")
        yield from ((address, user) for address in sorted(reported_addresses(pod)))


def _addresses(sandbox: NodeSandbox) -> Iterator[str]:
    return filter(None, map(_canonical, sandbox.addresses))


def _canonical(text: str) -> str | None:
    try:
        return canonical(text)
    except ValueError:
        return None


def _given(pools: Iterable[SpiderIPPool]) -> dict[int, AddressSet]:
    """By family, the addresses that pools give to pods; those of a pool that cannot be read are left out."""
    intervals: dict[int, list[Interval]] = {version: [] for version in FAMILIES}
    for pool in pools:
        with suppress(ValueError):  # written past the webhook; its condition Ready says so
            intervals[version_of(pool)] += usable(pool).intervals
    return {version: AddressSet.of(version, found) for version, found in intervals.items()}


def _is_in(address: str, given: Mapping[int, AddressSet]) -> bool:
    version = version_of_text(address)
    return to_int(address, version) in given[version]


# --- the checks


def _twice(snapshot: ClusterSnapshot, users: Mapping[str, list[AddressUser]]) -> Iterator[Finding]:
    """Addresses of two pods, unless a virtual machine moves from one to the other."""
    records = {address_text(each): each for each in snapshot.records or () if not each.defect()}
    for address, found in users.items():
        record = records.get(address)
        moving = {each.podUID for each in (record.spec.movedFrom or ())} if record else set()
        rivals = [each for each in found if each.pod_uids.isdisjoint(moving)]
        if record and rivals and (holder := _holder(record)) and _is_another(holder, rivals):
            rivals.append(holder)
        if len(rivals) > 1 and _concerns(snapshot, rivals):
            yield _conflict(address, rivals, record)


def _holder(record: SpiderIP) -> AddressUser | None:
    """The pod that has an address by its record; None where an owner's next pod may be about to get it."""
    spec = record.spec
    if spec.owner or spec.releasedAt:
        return None
    return AddressUser(f"{spec.namespace}/{spec.pod}", frozenset({spec.podUID}), spec.node, f"SpiderIP {record.name}")


def _is_another(holder: AddressUser, users: Iterable[AddressUser]) -> bool:
    return all(holder.pod_uids.isdisjoint(each.pod_uids) for each in users)


def _conflict(address: str, users: Sequence[AddressUser], record: SpiderIP | None) -> Finding:
    holder = record.spec.podUID if record else None
    extra = next((each for each in users if holder not in each.pod_uids), users[-1])
    owner = f"its SpiderIP is of pod {record.spec.namespace}/{record.spec.pod}" if record else "it has no SpiderIP"
    return Finding(
        "address-twice",
        object_reference(SpiderIP, object_name(address)),
        f"{address} is in use twice: {' and '.join(f'pod {each.pod} on node {each.node}' for each in users)}",
        conflict_remedy(extra.pod, extra.node, (each.pod for each in users if each is not extra)),
        (*(each.text for each in users), owner),
    )


def conflict_remedy(pod: str, node: str, rivals: Iterable[str]) -> str:
    """What to do about a pod that has the address of others; deletion by name would end another pod of that name."""
    if pod in rivals:
        return (
            f"delete no pod: both are called {pod}, and the name stands for the one that runs; the kubelet of node "
            f"{node} has to end the sandbox of the other one: see whether it runs, or if the node is lost: "
            f"spiderpoolctl node fence {node}"
        )
    return f"delete pod {pod}, so that it gets another address"


def _concerns(snapshot: ClusterSnapshot, users: Iterable[AddressUser]) -> bool:
    return snapshot.node is None or any(each.node == snapshot.node for each in users)


def _unrecorded(snapshot: ClusterSnapshot, users: Mapping[str, list[AddressUser]]) -> Iterator[Finding]:
    """Addresses that a pod has, and that any node takes for free."""
    known = {each.name for each in snapshot.records or ()}
    for address, found in users.items():
        name = object_name(address)
        first = found[0]
        if name not in known and _concerns(snapshot, found):
            yield Finding(
                "address-unrecorded",
                object_reference(SpiderIP, name),
                f"pod {first.pod} on node {first.node} uses {address} without a record",
                evidence=(*(each.text for each in found), f"there is no SpiderIP {name}"),
                node=first.node,
            )


def _unregistered(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Addresses of pods that the ENI of their pool does not have any more, by the report of the node."""
    nodes = {each.name: each for each in snapshot.installation.nodes or ()}
    servers = {each.name: each for each in snapshot.servers if each.name in nodes and each.is_of(nodes[each.name])}
    held = _held(snapshot.records or ())
    for pool in snapshot.installation.pools or ():
        for node in (pool.spec.nodeName or ()) if pool.eni else ():
            eni = servers[node].spec.eni(pool.eni or "") if node in servers else None
            registered = {canonical(each) for each in eni.addresses_of(version_of(pool))} if eni else set()
            lost = [each for each in held.get((pool.name, node), ()) if address_text(each) not in registered]
            if lost and node in servers:
                yield _lost(pool, node, lost, is_there=eni is not None)


def _held(records: Iterable[SpiderIP]) -> dict[tuple[str, str], list[SpiderIP]]:
    """By pool and node, the records that a pod or an owner holds."""
    found: dict[tuple[str, str], list[SpiderIP]] = {}
    for each in records:
        if not each.spec.releasedAt and not each.defect():
            found.setdefault((each.spec.pool, each.spec.node), []).append(each)
    return found


def _lost(pool: SpiderIPPool, node: str, lost: list[SpiderIP], *, is_there: bool) -> Finding:
    held = [f"{address_text(each)} of pod {each.spec.namespace}/{each.spec.pod}" for each in lost]
    place = f"ENI {pool.eni} of node {node}"
    what = f"{place} does not have {_some(held)}" if is_there else f"{place} is gone, and pods have {_some(held)}"
    evidence = f"SpiderServer {node}, which its agent has read from the server's metadata, does not list them"
    return Finding(
        "address-unregistered", object_reference(SpiderIPPool, pool.name), what, evidence=(evidence,), node=node
    )


def _wrong_records(records: Iterable[SpiderIP]) -> Iterator[Finding]:
    for each in records:
        if defect := each.defect():
            reference = object_reference(SpiderIP, each.name)
            what = f"SpiderIP {each.name} is wrong: {defect}"
            yield Finding("record-wrong", reference, what, _removal(each), node=each.spec.node)


def _removal(record: SpiderIP) -> str:
    """How to remove a record without taking its address from a pod: the API server refuses to delete it just so."""
    pod = f"delete pod {record.spec.namespace}/{record.spec.pod} if it is there"
    if _is_named_by_address(record.name):
        return f"{pod}, then: spiderpoolctl ip release {record.name}"
    mark = f"kubectl annotate spiderip {record.name} {RELEASE_ANNOTATION}={record.metadata.uid}"
    return f"{pod}, then: {mark}, and delete the SpiderIP"


def _is_named_by_address(name: str) -> bool:
    address = _canonical(name.replace("-", ":"))
    return address is not None and object_name(address) == name


def _without_pool(records: Iterable[SpiderIP], pools: Iterable[SpiderIPPool]) -> Iterator[Finding]:
    names = {each.name for each in pools}
    users: dict[str, list[str]] = {}
    for each in records:
        if each.spec.pool not in names and not each.spec.releasedAt:
            users.setdefault(each.spec.pool, []).append(f"{each.name} of pod {each.spec.namespace}/{each.spec.pod}")
    for pool, held in users.items():
        what = f"pool {pool} does not exist, and pods have addresses of it: {_some(held)}"
        yield Finding("pool-missing", object_reference(SpiderIPPool, pool), what)


def _leaked(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    accounts = {each.name: each for each in snapshot.installation.accounts or ()}
    for each in left_over(snapshot):
        account = accounts.get(each.spec.node)
        sandbox = sandbox_using(account.status, each) if account and account.status else None
        if sandbox is not None:
            continue  # its kubelet has yet to end it, and its agent releases it then
        address, pod = address_text(each), f"{each.spec.namespace}/{each.spec.pod}"
        word = "says that no sandbox has it" if account and account.status else "has said nothing"
        yield Finding(
            "record-leaked",
            object_reference(SpiderIP, each.name),
            f"{address} is kept for pod {pod}, which does not hold it any more",
            f"it is released once the agent of node {each.spec.node} says that no sandbox has it; by hand:"
            f" spiderpoolctl ip release {address}",
            (f"the pod is gone, has ended, or is another one (UID {each.spec.podUID} had it)", f"its node {word}"),
            node=each.spec.node,
            release=address,
            release_uid=each.metadata.uid,
        )


def left_over(snapshot: ClusterSnapshot) -> Iterator[SpiderIP]:
    """Records that their pod does not hold any more, and that nobody keeps; those of the node that was asked about."""
    pods = {each.key: each for each in snapshot.pods or ()}
    for each in (snapshot.records or ()) if snapshot.pods is not None else ():
        concerns = snapshot.node in (None, each.spec.node)
        if concerns and is_left_over(each, pods.get(f"{each.spec.namespace}/{each.spec.pod}")):
            yield each


def is_left_over(record: SpiderIP, pod: Pod | None) -> bool:
    """Whether a record is that of a pod that does not hold it any more, and no owner or cooldown keeps it."""
    spec = record.spec
    is_kept = spec.releasedAt is not None or spec.owner is not None
    return not is_kept and not record.defect() and not is_holder(pod, record)


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return f"{', '.join(texts[:SHOWN])}{more}"
