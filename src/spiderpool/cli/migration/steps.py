"""Takes nodes over from Spiderpool's own release, in Go, and gives them back: the steps that change a cluster.

Each step can be repeated: what is done already is left as it is. The order of each is what keeps an address from being
given twice, see docs/decisions/0023-a-cluster-changes-hands-group-by-group.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from spiderpool.api.applications import DaemonSet
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.cli.migration.look import AgentDaemonSet, MigrationState, Places, read_state
from spiderpool.cli.migration.obstacles import chosen, obstacles, unready
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.migration import Conversion, convert, held_name
from spiderpool.core.ipam.migration_groups import LABEL, Group, Side
from spiderpool.errors import NotReady, Refused
from spiderpool.kube.client import AlreadyExists, Client, Conflict

AFFINITY_BEFORE = "spiderpool.spidernet.io/affinity-before-migration"
"""Annotation of the other release's DaemonSet: the affinity that it had, as JSON."""
TIMEOUT = 10.0
"""Seconds for each request."""
POLL = 1.0
"""Seconds between two looks whether agents have ended."""
LOOKS = 3
"""Looks in a row that must find none: one may fall between the end of an agent and the begin of its successor."""
CONFLICT_TRIES = 10
"""Tries to write what somebody else changes as well."""
OF_OLD_NODES = {"key": LABEL, "operator": "In", "values": [str(Side.OLD)]}
"""What a node affinity wants of a node that has not moved."""
AT_ONCE = 8
"""SpiderIPs that are written at a time."""


async def take_over(client: Client, places: Places, nodes: Collection[str], patience: float) -> list[str]:
    """Move the groups of some nodes, or of all; sentences about it. Raises Refused, NotReady, and errors of the API."""
    done: list[str] = []
    state = await read_state(client, places)
    nodes = nodes or [node.name for node in state.nodes]
    if why := [*obstacles(state), *unready(state, nodes)]:
        raise Refused("; ".join(why))
    await _keep_apart(client, state)
    state = await read_state(client, places)
    for group in chosen(state, nodes):
        if state.side(group) != Side.NEW:
            done.append(await _move(client, places, group, patience))
    return done


async def _keep_apart(client: Client, state: MigrationState) -> None:
    """Limit the other release's agents to nodes with the label; before, give it to all nodes that have them now.

    Where no node has ours, these are all without the label: who began may have been interrupted.
    """
    if state.old is None or is_limited(state.old.affinity):
        return
    for node in state.nodes:
        if not state.new_nodes and LABEL not in state.labels[node.name]:
            await label(client, node.name, Side.OLD)
    await change_agents(client, state.places, _limit)


def _limit(agents: AgentDaemonSet) -> dict[str, Any] | None:
    """The patch that limits agents; None where they are."""
    before = agents.affinity
    if is_limited(before):
        return None
    return {
        "metadata": {"annotations": {AFFINITY_BEFORE: msgspec.json.encode(before).decode()}},
        "spec": {"template": {"spec": {"affinity": merge_patch(before, limited(before))}}},
    }


async def change_agents(
    client: Client, places: Places, change: Callable[[AgentDaemonSet], dict[str, Any] | None]
) -> bool:
    """Patch the other release's DaemonSet as it is now; whether there was something to change.

    Its status changes often meanwhile. Raises Refused when it does all the time.
    """
    namespace, name = places.former
    for _ in range(CONFLICT_TRIES):
        found = await client.find(AgentDaemonSet, name, namespace, timeout=TIMEOUT)
        body = change(found) if found is not None else None
        if found is None or body is None:
            return False
        body["metadata"]["resourceVersion"] = found.metadata.resourceVersion
        with suppress(Conflict):
            await client.patch(AgentDaemonSet, name, body, namespace, timeout=TIMEOUT)
            return True
    raise Refused(f"DaemonSet {name} changes all the time; run the same command again")


def limited(affinity: Mapping[str, Any] | None) -> dict[str, Any]:
    """An affinity that also wants the label of nodes that have not moved."""
    of_nodes = dict((affinity or {}).get("nodeAffinity") or {})
    required = of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {"nodeSelectorTerms": [{}]}
    terms = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), OF_OLD_NODES]}
        for term in required["nodeSelectorTerms"]
    ]
    of_nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**(affinity or {}), "nodeAffinity": of_nodes}


def is_limited(affinity: Mapping[str, Any] | None) -> bool:
    """Whether each way to fulfil an affinity wants that label."""
    of_nodes = (affinity or {}).get("nodeAffinity") or {}
    terms = (of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    return bool(terms) and all(OF_OLD_NODES in (term.get("matchExpressions") or ()) for term in terms)


def merge_patch(before: Any, after: Any) -> Any:
    """The merge patch (RFC 7386) that makes one value of another."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    changed = {key: merge_patch(before.get(key), value) for key, value in after.items() if before.get(key) != value}
    return changed | dict.fromkeys(before.keys() - after.keys())


async def _move(client: Client, places: Places, group: Group, patience: float) -> str:
    """Move one group: end the other agents there, take their records over, and let ours begin."""
    state = await read_state(client, places)
    nodes = [node for node in group.nodes if node not in state.new_nodes]
    for node in nodes:
        await label(client, node, Side.MOVING)
    await _until_old_agents_ended(client, places, nodes, patience)
    state = await read_state(client, places)
    now = next((each for each in state.groups if each.nodes == group.nodes), None)
    if now is None:
        raise Refused("pools or nodes have changed meanwhile, and others move together now; run the same command again")
    if why := [*obstacles(state), *unready(state, nodes)]:
        raise Refused("; ".join(why))
    found = conversion(state).of({*now.pools, *state.homeless})
    await _hold(client, found.held)
    await _create(client, found)
    if left := await _old_agents(client, places, nodes):
        raise NotReady(f"the other release has begun again meanwhile ({', '.join(left)}); run the same command again")
    for node in nodes:
        await _let_ours_begin(client, node)
    held = sum(each.size for each in found.held.values())
    return f"nodes {', '.join(nodes)} have moved: {len(found.records)} addresses taken over, {held} held back"


def conversion(state: MigrationState) -> Conversion:
    """What becomes of the records of all pools whose nodes have not moved."""
    moved = state.moved_pools
    pools = tuple(pool for pool in state.go.pools if pool.name not in moved)
    return convert(replace(state.go, pools=pools))


async def label(client: Client, node: str, side: str | None) -> None:
    """Say which agents a node has; None: it does not take part any more."""
    await client.patch(Node, node, {"metadata": {"labels": {LABEL: side}}}, timeout=TIMEOUT)


async def _let_ours_begin(client: Client, node: str) -> None:
    """Say that a node has our agent, unless somebody else has said another thing of it meanwhile. Raises Refused."""
    for _ in range(CONFLICT_TRIES):
        found = await client.get(Node, node, timeout=TIMEOUT)
        side = (found.metadata.labels or {}).get(LABEL)
        if side == Side.NEW:
            return
        if side != Side.MOVING:
            raise Refused(f"somebody else has changed the label {LABEL} of Node {node} to {side or 'none'} meanwhile")
        metadata = {"resourceVersion": found.metadata.resourceVersion, "labels": {LABEL: Side.NEW}}
        with suppress(Conflict):
            await client.patch(Node, node, {"metadata": metadata}, timeout=TIMEOUT)
            return
    raise Refused(f"Node {node} changes all the time; run the same command again")


async def _until_old_agents_ended(client: Client, places: Places, nodes: Collection[str], patience: float) -> None:
    """Wait until the other release has no agent on some nodes, and its DaemonSet is seen as it is now."""
    try:
        async with asyncio.timeout(patience):
            looks = 0
            while looks < LOOKS:
                looks = 0 if await _old_agents(client, places, nodes) else looks + 1
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise NotReady(
            f"the other release still has agents on nodes {', '.join(nodes)}, which have none of ours yet: see "
            f"why they do not end (kubectl -n {places.former[0]} get pods -o wide), and run the same command again"
        ) from None


async def _old_agents(client: Client, places: Places, nodes: Collection[str]) -> list[str]:
    """What is left of the other release's agents on some nodes, and those of which the node is not known yet.

    Agents outlive a DaemonSet that is removed: they are looked for by their owner.
    """
    namespace, name = places.former
    found = await client.find(AgentDaemonSet, name, namespace, timeout=TIMEOUT)
    if found is not None:
        is_seen = found.status.observedGeneration >= (found.metadata.generation or 0)
        if not (is_seen and is_limited(found.affinity)):
            return [f"DaemonSet {name}"]
    pods = await client.list(Pod, namespace, labels=found.pod_labels if found else None, timeout=TIMEOUT)
    agents = [pod for pod in pods if found or _is_agent(pod, name)]
    return [pod.name for pod in agents if not pod.spec.nodeName or pod.spec.nodeName in nodes]


def _is_agent(pod: Pod, name: str) -> bool:
    """Whether a DaemonSet of that name made a pod."""
    owner = pod.controller
    return owner is not None and (owner.kind, owner.name) == (DaemonSet.KIND.name, name)


async def _hold(client: Client, held: Mapping[int, AddressSet]) -> None:
    """Reserve addresses that nobody may be given, beside those that are held back already."""
    for family, addresses in held.items():
        if not addresses:
            continue
        name = held_name(family)
        existing = await client.find(SpiderReservedIP, name, timeout=TIMEOUT)
        if existing is None:
            spec = ReservedIPSpec(family, addresses.ranges())
            with suppress(AlreadyExists):
                await client.create(SpiderReservedIP(metadata=ObjectMeta(name=name), spec=spec), timeout=TIMEOUT)
                continue
            existing = await client.get(SpiderReservedIP, name, timeout=TIMEOUT)
        union = AddressSet.parse(existing.spec.ips or (), family) | addresses
        body = {
            "metadata": {"resourceVersion": existing.metadata.resourceVersion},
            "spec": {"ips": union.ranges()},
        }
        await client.patch(SpiderReservedIP, name, body, timeout=TIMEOUT)


async def _create(client: Client, found: Conversion) -> None:
    """Make the SpiderIPs that do not exist yet."""

    async def create(record: SpiderIP) -> None:
        try:
            await client.create(record, timeout=TIMEOUT)
        except AlreadyExists:
            existing = await client.get(SpiderIP, record.name, timeout=TIMEOUT)
            if existing.spec.podUID != record.spec.podUID:
                raise Refused(
                    f"SpiderIP {record.name} has been made for pod {existing.spec.namespace}/{existing.spec.pod} "
                    "meanwhile; run the same command again, and it is reported"
                ) from None

    await on_each(found.records, create)


async def on_each(records: Iterable[SpiderIP], work: Callable[[SpiderIP], Awaitable[None]]) -> None:
    """Do the same with many SpiderIPs, a few at a time. Raises the first failure, and does no more then."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(record: SpiderIP) -> None:
        async with gate:
            await work(record)

    try:
        async with asyncio.TaskGroup() as group:
            for record in records:
                group.create_task(one(record))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
