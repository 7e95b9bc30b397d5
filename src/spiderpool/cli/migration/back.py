"""Gives nodes back to Spiderpool's own release, in Go, with what our agents have granted meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL
from spiderpool.cli.migration.look import AgentDaemonSet, MigrationState, Places, read_state
from spiderpool.cli.migration.obstacles import why_not_given_back
from spiderpool.cli.migration.steps import (
    AFFINITY_BEFORE,
    CONFLICT_TRIES,
    TIMEOUT,
    change_agents,
    label,
    merge_patch,
    on_each,
)
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.ipam.gc import pod_uids
from spiderpool.core.ipam.go_records import UnreadableRecords, count, pod_name, written
from spiderpool.core.ipam.migration import held_name
from spiderpool.core.ipam.migration_groups import LABEL, Side
from spiderpool.core.ipam.migration_undo import go_endpoint, is_complete, kept_endpoint
from spiderpool.core.ipam.owners import Controller
from spiderpool.errors import Refused
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.owners import OwnerReader


async def preview(client: Client, places: Places) -> list[str]:
    """What :func:`give_back` would do; sentences. Raises errors of the API."""
    state = await read_state(client, places)
    why = why_not_given_back(state, await _our_agents(client, places))
    labelled = sum(1 for node in state.nodes if LABEL in (node.metadata.labels or {}))
    return [
        *([f"it cannot be undone now: {why}"] if why else []),
        f"--undo --apply writes {len(state.go.records)} addresses back into pools, where they are not there still, "
        f"deletes their SpiderIPs, and gives {labelled} nodes back",
    ]


async def give_back(client: Client, places: Places) -> list[str]:
    """Give all nodes back to the other release; sentences about it. Raises Refused, and errors of the API.

    Our agents must have ended. What they have granted meanwhile is written as the other release keeps it.
    """
    state = await read_state(client, places)
    why = why_not_given_back(state, await _our_agents(client, places))
    if why:
        raise Refused(why)
    for name in sorted(state.new_nodes):  # ours must not begin there again without the SpiderIPs that go now
        await label(client, name, Side.MOVING)
    state = await read_state(client, places)  # agents may have ended only since it was read
    # the other controller goes on: it frees an address of a living pod whose SpiderEndpoint does not name it
    done = [*await _write_endpoints(client, state), *await _write_records(client, state)]
    await on_each(state.go.records, lambda record: _delete(client, record))
    done.append(f"{len(state.go.records)} SpiderIPs deleted")
    for family in FAMILIES:
        with suppress(NotFound):
            await client.delete(SpiderReservedIP, held_name(family), timeout=TIMEOUT)
            done.append(f"SpiderReservedIP {held_name(family)} deleted")
    if await change_agents(client, places, _unlimit):
        done.append(f"DaemonSet {state.places.former[1]} is for the nodes that it was for before")
    for node in state.nodes:
        if LABEL in (node.metadata.labels or {}):
            await label(client, node.name, None)
    return [*done, "the label is taken from all nodes: the other release's agents begin there"]


async def _our_agents(client: Client, places: Places) -> list[str]:
    """The Namespaces with agents of ours: all but that of the other release, whatever somebody says of ours."""
    pods = await client.list(Pod, labels=f"{COMPONENT_LABEL}={AGENT}", timeout=TIMEOUT)
    return sorted({pod.metadata.namespace or "" for pod in pods} - {places.former[0]})


async def _write_records(client: Client, state: MigrationState) -> list[str]:
    """Write into pools what our agents have granted; a sentence for each pool that has changed."""
    by_pool: dict[str, list[SpiderIP]] = defaultdict(list)
    for record in state.go.records:
        by_pool[record.spec.pool].append(record)
    done = []
    for name, records in sorted(by_pool.items()):
        for _ in range(CONFLICT_TRIES):
            pool = await client.find(SpiderIPPool, name, timeout=TIMEOUT)
            with suppress(Conflict):
                if pool is not None and await _write_pool(client, pool, records):
                    done.append(f"pool {name} has the records of pods that started meanwhile")
                break
        else:
            raise Refused(f"pool {name} changes all the time; run the same command again")
    return done


async def _write_pool(client: Client, pool: SpiderIPPool, records: Iterable[SpiderIP]) -> bool:
    """Write the records of a pool; whether it had not all of them. Raises Conflict."""
    before = pool.status.allocatedIPs if pool.status else None
    try:
        after = written(before, records)
    except UnreadableRecords as error:
        raise Refused(f"pool {pool.name}: {error}; correct it, and run the same command again") from error
    if after == before:
        return False
    body = {
        "metadata": {"resourceVersion": pool.metadata.resourceVersion},
        "status": {"allocatedIPs": after, "allocatedIPCount": count(after)},
    }
    await client.patch(SpiderIPPool, pool.name, body, sub="status", timeout=TIMEOUT)
    return True


async def _write_endpoints(client: Client, state: MigrationState) -> list[str]:
    """Write SpiderEndpoints of what pods got meanwhile, as the other release's agent does; a sentence for each case."""
    writer = _EndpointWriter(client, state)
    counts = {
        "pods that started meanwhile": await writer.of_pods(),
        "fixed addresses whose pods have ended meanwhile": await writer.of_gone_pods(),
    }
    return [f"{made} SpiderEndpoints written for {whose}" for whose, made in counts.items() if made]


class _EndpointWriter:
    """Writes the SpiderEndpoints that the other release lacks."""

    def __init__(self, client: Client, state: MigrationState) -> None:
        self._client = client
        self._pods = state.go.pods
        self._pools = {pool.name: pool for pool in state.go.pools}
        self._stored = {each.key: each for each in state.go.endpoints}
        self._owners = OwnerReader(client)
        self._records: dict[str, list[SpiderIP]] = defaultdict(list)  # by the UID of their pod
        for record in state.go.records:
            self._records[record.spec.podUID].append(record)

    async def of_pods(self) -> int:
        """Those of existing pods; how many."""
        made = 0
        for pod in self._pods:
            records = self._records_of(pod)
            if records and not self._has(records):
                wanted = go_endpoint(pod, records, self._pools, await self._top(pod))
                made += await self._put(records, wanted)
        return made

    async def of_gone_pods(self) -> int:
        """Those of fixed addresses whose pod is gone and whose owner still needs them; how many.

        Without them the other release gives the addresses away.
        """
        existing = {uid for pod in self._pods for uid in pod_uids(pod)}
        taken = {pod_name(each) for pod in self._pods for each in self._records_of(pod)}
        made = 0
        for uid, records in self._records.items():
            kept = [each for each in records if each.spec.owner and each.spec.releasedAt is None]
            if uid in existing or not kept or pod_name(kept[0]) in taken or self._has(kept):
                continue
            if await self._owners.is_needed(kept[0], timeout=TIMEOUT):
                made += await self._put(kept, kept_endpoint(kept, self._pools))
        return made

    def _records_of(self, pod: Pod) -> list[SpiderIP]:
        return [each for uid in pod_uids(pod) if uid for each in self._records.get(uid, ())]

    def _has(self, records: Sequence[SpiderIP]) -> bool:
        return is_complete(self._stored.get(pod_name(records[0])), records)

    async def _top(self, pod: Pod) -> Controller | None:
        try:
            return await self._owners.top(pod, timeout=TIMEOUT)
        except Refused:  # it is being deleted, and so is the pod
            return None

    async def _put(self, records: Sequence[SpiderIP], wanted: SpiderEndpoint | None) -> int:
        existing = self._stored.get(pod_name(records[0]))
        if wanted is None:
            return 0
        if existing is None:
            await self._client.create(wanted, timeout=TIMEOUT)
        else:
            wanted.metadata.resourceVersion = existing.metadata.resourceVersion
            await self._client.replace(wanted, timeout=TIMEOUT)
        return 1


async def _delete(client: Client, record: SpiderIP) -> None:
    """Delete exactly this SpiderIP, and say so first: the API server may ask for that."""
    with suppress(NotFound):
        mark = {"metadata": {"uid": record.metadata.uid, "annotations": {RELEASE_ANNOTATION: record.metadata.uid}}}
        await client.patch(SpiderIP, record.name, mark, timeout=TIMEOUT)
        await client.delete(SpiderIP, record.name, uid=record.metadata.uid, timeout=TIMEOUT)


def _unlimit(agents: AgentDaemonSet) -> dict[str, Any] | None:
    """The patch that gives agents the affinity that they had; None where they have it."""
    text = (agents.metadata.annotations or {}).get(AFFINITY_BEFORE)
    if text is None:
        return None
    return {
        "metadata": {"annotations": {AFFINITY_BEFORE: None}},
        "spec": {"template": {"spec": {"affinity": merge_patch(agents.affinity, msgspec.json.decode(text))}}},
    }
