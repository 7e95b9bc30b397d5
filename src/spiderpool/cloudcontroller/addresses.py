"""Reconciles the addresses of ENIs: reads the ENIs, has `core.cloud.preallocation` plan, and carries out the plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import assert_never

import msgspec

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudProvider,
    CloudUnavailable,
    NotPermitted,
    QuotaExceeded,
    RegisteredENI,
    Rejected,
    Throttled,
    VSwitchFull,
)
from spiderpool.cloudcontroller.agent_delays import AgentDelays
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.eni_descriptions import ENIDescriptions
from spiderpool.cloudcontroller.eni_families import ENIFamily, ENIFamilyState, eni_families
from spiderpool.cloudcontroller.eni_pools import ENIPools
from spiderpool.core.addresses import object_name
from spiderpool.core.cloud import preallocation
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION, is_known_to_agent, not_observed_text
from spiderpool.core.cloud.preallocation import (
    ASSIGNED_ANNOTATION,
    Assign,
    ENIState,
    Fence,
    PreallocationPolicy,
    Step,
    Unassign,
    Unfence,
    assigned_of,
    gives,
    releasing_of,
    releasing_text,
)
from spiderpool.core.ipam.allocation import address_text
from spiderpool.errors import is_bug
from spiderpool.kube import client as kube
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.turns import in_turns
from spiderpool.telemetry import CLOUD_ADDRESSES, CLOUD_VSWITCH_FREE, logger

VSWITCH_PAUSE = 300.0
"""Seconds until addresses are requested again from a full vSwitch."""
PERMISSION_PAUSE = 300.0
"""Seconds until an action that we may not call is tried again."""
FAILURE_PAUSE = 15.0
"""Seconds until a call is tried again after any other failure that may pass."""
DEBOUNCE = 0.5
"""Seconds that a change waits for further changes."""
TICK = 5.0
"""Seconds until the next reconciliation when nothing changes: addresses become idle or releasable by time alone."""
NEW_ENI_PAUSE = 5.0
"""Seconds between two descriptions of ENIs that are new: agents may report others at each look."""
CONCURRENCY = 8
"""Nodes that are worked on at a time."""

log = logger("addresses")


@dataclass(frozen=True, slots=True)
class AddressListers:
    """Informers to read from; their owner runs them."""

    nodes: Informer[Node]
    servers: NodeServers
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]


@dataclass(frozen=True, slots=True)
class AddressRules:
    """How many addresses there should be, and on which ENIs."""

    policy: PreallocationPolicy
    period: float
    """Seconds between two descriptions of all ENIs by the cloud."""
    families: Collection[int] = (4,)
    primary_eni: bool = True
    """Whether pods may use the ENI with which a server was made."""


class AddressReconciler:
    """Keeps free addresses on every ENI."""

    def __init__(
        self,
        cluster: Cluster,
        cloud: CloudProvider,
        listers: AddressListers,
        rules: AddressRules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = cluster.client
        self._recorder = cluster.recorder
        self._cloud = cloud
        self._listers = listers
        self._rules = rules
        self._policy = rules.policy
        self._clock = clock
        self._pools = ENIPools(listers.pools)
        self._ips_by_address = listers.ips.index(lambda record: (address_text(record),))
        self._descriptions = ENIDescriptions(cloud, clock)
        self._delays = AgentDelays(cluster.recorder, clock)
        self._requested: set[str] = set()  # ENIs whose descriptions were requested
        self._full_until: dict[str, float] = {}  # vSwitch → time before which no address is requested from it
        self._states: dict[tuple[str, int], ENIFamilyState] = {}  # key of an ENIFamily → state
        self._describe_at = 0.0  # time of the next descriptions of all ENIs
        self._describe_new_at = 0.0  # time before which new ENIs are not described
        self._changed = asyncio.Event()  # set when a Node, a pool or the set of SpiderIPs changed: plan again
        listers.ips.subscribe(self._on_ip)
        listers.nodes.subscribe(self._on_node)
        listers.servers.subscribe(lambda _: self._changed.set())
        listers.pools.subscribe(self._on_pool)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        with CLOUD_VSWITCH_FREE.computed_by(self._descriptions.free_by_vswitch):
            while True:
                try:
                    await self.step()
                except Exception as error:
                    log.warning("addresses will be looked at again", error=str(error), exc_info=is_bug(error))
                await self._wait()

    async def step(self) -> bool:
        """Reads the ENIs from the cloud if that is due, and carries out all plans. Returns whether one succeeded."""
        listers, parse, rules = self._listers, self._cloud.parse_provider_id, self._rules
        found = eni_families(listers.nodes, listers.servers, parse, rules.families, rules.primary_eni)
        families = [each async for each in found]
        await self._describe_due(families)
        by_node: dict[str, list[ENIFamily]] = {}
        for family in families:
            by_node.setdefault(family.node.name, []).append(family)
        self._forget_all_but(families)
        limit = asyncio.Semaphore(CONCURRENCY)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._reconcile_node(found, limit))
                async for found in in_turns(by_node.values())
                if any(self._has_work(family) for family in found)
            ]
        return any(task.result() for task in tasks)

    def _forget_all_but(self, families: Iterable[ENIFamily]) -> None:
        """Forget the state of ENIs that are gone, and of vSwitches that may have addresses again."""
        present, now = {family.key for family in families}, self._clock()
        self._states = {key: state for key, state in self._states.items() if key in present}
        self._delays.retain(present)
        self._full_until = {vswitch: until for vswitch, until in self._full_until.items() if until > now}

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(min(TICK, self._rules.period, max(self._policy.fence, 0.1))):
                await self._changed.wait()
                await asyncio.sleep(DEBOUNCE)
        except TimeoutError:  # no change, but time has passed
            pass
        self._changed.clear()

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is None or new is None:
            self._changed.set()

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or _part_of_node(old) != _part_of_node(new):  # most events are heartbeats
            self._changed.set()

    def _on_pool(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if old is None or new is None or _part_of_pool(old) != _part_of_pool(new):  # most events are about the status
            self._changed.set()

    # --- read

    async def _describe_due(self, families: Collection[ENIFamily]) -> None:
        """Reads all ENIs from the cloud when it is time, before that those that are new."""
        present, now = {family.eni.identity for family in families}, self._clock()
        self._requested &= present
        self._descriptions.forget_all_but(present)
        new = [family for family in families if family.eni.identity not in self._requested]
        if now >= self._describe_at:
            self._describe_at = now + self._rules.period
            await self._describe(families)
        elif new and now >= self._describe_new_at:
            await self._describe(new)

    async def _describe(self, families: Collection[ENIFamily]) -> None:
        """Reads ENIs from the cloud. After an error the former descriptions stay."""
        self._describe_new_at = self._clock() + NEW_ENI_PAUSE
        self._requested |= {family.eni.identity for family in families}
        for region in sorted({family.instance.region for family in families}):
            in_region = [family for family in families if family.instance.region == region]
            enis = {family.eni.identity for family in in_region}
            instance_types = {family.instance.instance_type for family in in_region}
            try:
                await self._descriptions.read(region, enis, instance_types)
            except Exception as error:  # the other regions go on
                wait = error.retry_after if isinstance(error, Throttled) else FAILURE_PAUSE
                self._describe_at = min(self._describe_at, self._clock() + wait)
                self._describe_new_at = max(self._describe_new_at, self._clock() + wait)
                self._report_permission(in_region[0], error)
                log.warning("ENIs not described", region=region, error=str(error), exc_info=is_bug(error))

    def _described(self, family: ENIFamily) -> RegisteredENI:
        """Returns the description of an ENI for which a step was planned, so there is one."""
        eni = self._descriptions.eni(family.eni.identity)
        assert eni is not None
        return eni

    def _state(self, family: ENIFamily) -> ENIFamilyState:
        return self._states.setdefault(family.key, ENIFamilyState())

    def _eni_state(self, family: ENIFamily) -> ENIState | None:
        """Returns the input of the plan; None until the cloud has described the ENI as one of this server."""
        eni = self._descriptions.eni(family.eni.identity)
        quota = self._descriptions.quota(family.instance.region, family.instance.instance_type)
        if eni is None or quota is None or eni.instance != family.instance.identity or eni.status != "InUse":
            return None
        version, remembered = family.version, self._state(family)
        registered = self._descriptions.registered(eni, version)
        pools = self._pools.of(family)
        releasing = frozenset(each for pool in pools for each in releasing_of(pool))
        held = frozenset(address for address in registered if address in self._ips_by_address)
        self._note_times(remembered, registered - held, releasing)
        self._note_returns(remembered, registered)
        if not releasing:
            self._delays.end(family.key)
        assigned = frozenset(assigned_of(family.node).get(eni.identity, ())) & registered
        reported = frozenset(family.eni.addresses_of(version))
        recently_assigned = self._descriptions.recently_assigned(eni.identity, version)
        state = ENIState(
            eni.identity,
            version,
            registered,
            quota.of(version),
            held=held,
            assigned=assigned,
            reported=reported,
            own=preallocation.own_of(version, registered, reported | assigned | {*recently_assigned}),
            releasing=releasing,
            leaving=self._leaving(eni.identity, remembered),
            listed=frozenset(each for each in releasing if any(preallocation.lists(pool, each) for pool in pools)),
            returned=frozenset(
                each for each, at in remembered.back_since.items() if self._descriptions.shows(eni.identity, at)
            ),
            fenced_since=remembered.fenced_since,
            idle_since=remembered.idle_since,
            vswitch_free=self._free_in(eni.vswitch, version),
        )
        remembered.gone_since = preallocation.since(remembered.gone_since, state.gone, self._clock())
        state = replace(state, gone_since=remembered.gone_since)
        is_surplus = len(state.free) > self._policy.high
        return replace(state, fenceable=self._pools.fenceable(state, pools) if is_surplus else frozenset())

    def _note_times(self, state: ENIFamilyState, idle: Collection[str], releasing: frozenset[str]) -> None:
        """Notes since when addresses are idle or excluded by every pool, and which are leaving."""
        now = self._clock()
        if state.inherited is None:
            state.inherited, state.began = releasing, now
        state.inherited &= releasing
        state.requested = {address: at for address, at in state.requested.items() if address in releasing}
        state.idle_since = preallocation.since(state.idle_since, idle, now)
        fenced = [address for address in releasing if not any(self._pools.that_give(address))]
        state.fenced_since = preallocation.since(state.fenced_since, fenced, now)

    def _note_returns(self, state: ENIFamilyState, registered: frozenset[str]) -> None:
        """Notes which addresses we have removed, and which of these are on the ENI again, since when.

        A description may be late and show what is gone, so one alone says nothing.
        """
        ours = state.requested.keys()
        back = ((state.back_since.keys() | state.absent) & registered) & ours
        state.back_since = preallocation.since(state.back_since, back, self._clock())
        state.absent = frozenset(ours - registered)

    def _leaving(self, eni: str, state: ENIFamilyState) -> frozenset[str]:
        """Returns the addresses whose removal may be done although the ENI's description still has them.

        An error says little: an earlier try may have been carried out, or a part of the addresses removed.
        """
        by_former_leader = dict.fromkeys(state.inherited or (), state.began)
        requested = by_former_leader | state.requested
        return frozenset(address for address, at in requested.items() if not self._descriptions.shows(eni, at))

    def _free_in(self, vswitch: str, version: int) -> int | None:
        """Returns the free addresses of a vSwitch; None for IPv6, whose blocks do not run out."""
        if self._full_until.get(vswitch, 0.0) > self._clock():
            return 0
        return self._descriptions.free_addresses(vswitch) if version == 4 else None

    def _plan(self, family: ENIFamily) -> list[tuple[ENIState, Step]]:
        """Returns what is to be done for a family now, and the state from which that follows."""
        if self._state(family).not_before > self._clock() or (state := self._eni_state(family)) is None:
            return []
        return [(state, step) for step in preallocation.plan(state, self._policy, self._clock())]

    def _has_work(self, family: ENIFamily) -> bool:
        """Whether there is something to be done for a family, also where that cannot be told."""
        try:
            return bool(self._plan(family))
        except Exception:  # `_reconcile_node` meets it again, and tells it
            return True

    # --- write

    async def _reconcile_node(self, families: Iterable[ENIFamily], limit: asyncio.Semaphore) -> bool:
        """Carries out the plans of one node, one step after the other, since the steps write to the same objects."""
        done = False
        async with limit:
            for family in families:
                try:
                    for state, step in self._plan(family):
                        done = await self._try(family, state, step) or done
                except Exception as error:  # the other ENIs go on
                    facts = {"eni": family.eni.identity, "error": str(error)}
                    log.warning("addresses will be looked at again", **facts, exc_info=is_bug(error))
        return done

    async def _try(self, family: ENIFamily, state: ENIState, step: Step) -> bool:
        """Carries out one step; returns whether it succeeded. After a refusal of the cloud the family pauses."""
        try:
            await self._do(family, state, step)
        except CloudError as error:
            self._on_refusal(family, error)
            return False
        except (kube.Conflict, kube.NotFound):
            return False  # another writer was faster: the next plan starts from what it wrote
        return True

    async def _do(self, family: ENIFamily, state: ENIState, step: Step) -> None:
        match step:
            case Assign(count):
                await self._assign(family, state, count)
            case Fence(addresses):
                await self._change_releasing(family, add=addresses)
            case Unfence(addresses):
                await self._change_releasing(family, remove=addresses)
            case Unassign(addresses):
                await self._unassign(family, addresses)
            case _:
                assert_never(step)

    async def _assign(self, family: ENIFamily, state: ENIState, count: int) -> None:
        eni = self._described(family)
        given = await self._cloud.assign(family.instance.region, eni.identity, family.version, count)
        self._descriptions.note_assigned(eni, family.version, given)
        CLOUD_ADDRESSES.labels("assigned").inc(len(given))
        log.info("addresses registered", eni=eni.identity, node=family.node.name, addresses=list(given))
        await self._change_assigned(family, add=given)
        if still_fenced := state.releasing.intersection(given):
            await self._change_releasing(family, remove=still_fenced)

    async def _unassign(self, family: ENIFamily, addresses: Iterable[str]) -> None:
        """Removes those addresses from the ENI that no pool gives and no pod has, by a fresh read of the API server.

        And only once the node's agent says that it knows: one that hung, or was cut off, serves pods from its old copy
        of the pool as soon as it runs again, however long that was.
        """
        if self._state(family).unassign_not_before > self._clock():
            return
        account = await self._client.find(SpiderNode, family.node.name)
        pools = await self._client.list(SpiderIPPool)
        if not is_known_to_agent(family.eni.identity, pools, account):
            self._state(family).unassign_not_before = self._clock() + FAILURE_PAUSE
            log.info("addresses are kept until the node's agent knows that they go", eni=family.eni.identity)
            self._delays.begin(family, not_observed_text(family.eni.identity, pools, account))
            return
        self._delays.end(family.key)
        primary = self._described(family).primary_address
        fenced = [each for each in addresses if each != primary and not any(gives(pool, each) for pool in pools)]
        unused = [each for each in fenced if not await self._is_held(each)]
        if not unused:
            return
        self._state(family).requested |= dict.fromkeys(unused, self._clock())
        try:
            await self._cloud.unassign(family.instance.region, family.eni.identity, family.version, unused)
        finally:  # it may have taken long, and be carried out at its end
            self._state(family).requested.update(dict.fromkeys(unused, self._clock()))
        self._descriptions.note_unassigned(family.eni.identity, family.version, unused)
        CLOUD_ADDRESSES.labels("unassigned").inc(len(unused))
        log.info("addresses given back", eni=family.eni.identity, node=family.node.name, addresses=unused)
        await self._change_assigned(family, remove=unused)

    async def _is_held(self, address: str) -> bool:
        return await self._client.find(SpiderIP, object_name(address)) is not None

    async def _change_releasing(
        self, family: ENIFamily, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> None:
        """Changes the addresses that the ENI's pools must not give, in their annotation."""
        for pool in self._pools.of(family):
            present = releasing_of(pool)
            desired = (present | frozenset(each for each in add if gives(pool, each))) - frozenset(remove)
            if desired == present:
                continue
            metadata = {
                "resourceVersion": pool.metadata.resourceVersion,
                "annotations": {RELEASING_ANNOTATION: releasing_text(desired)},
            }
            self._listers.pools.note(await self._client.patch(SpiderIPPool, pool.name, {"metadata": metadata}))

    async def _change_assigned(self, family: ENIFamily, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Changes the Node's annotation of the addresses that we registered on the ENI."""
        node = self._listers.nodes.get(family.node.name) or family.node
        by_eni, eni = assigned_of(node), family.eni.identity
        addresses = (set(by_eni.get(eni, ())) | set(add)) - set(remove)
        by_eni = {**by_eni, eni: sorted(addresses)}
        text = msgspec.json.encode({key: by_eni[key] for key in sorted(by_eni) if by_eni[key]}).decode()
        body = {"metadata": {"annotations": {ASSIGNED_ANNOTATION: text}}}
        self._listers.nodes.note(await self._client.patch(Node, node.name, body))

    # --- refusals of the cloud

    def _on_refusal(self, family: ENIFamily, error: CloudError) -> None:
        """Pauses for as long as the reason probably lasts, and records an Event where the administrator must act."""
        now, state = self._clock(), self._state(family)
        state.not_before = now + _pause(error)
        log.warning("cloud refused", eni=family.eni.identity, node=family.node.name, error=error.message)
        match error:
            case VSwitchFull():
                vswitch = self._described(family).vswitch
                self._full_until[vswitch] = now + VSWITCH_PAUSE
                text = f"vSwitch {vswitch} of ENI {family.eni.identity} has no free address; not asked again for "
                self._recorder.event(family.node, event_reasons.VSWITCH_FULL, f"{text}{VSWITCH_PAUSE / 60:.0f} minutes")
            case QuotaExceeded() | CloudNotFound() | CloudConflict():
                self._describe_at = now
            case NotPermitted():
                self._report_permission(family, error)
            case Rejected():
                self._recorder.event(family.node, event_reasons.ADDRESSES_NOT_REGISTERED, error.message)
            case _:
                pass

    def _report_permission(self, family: ENIFamily, error: Exception) -> None:
        if isinstance(error, NotPermitted):
            self._recorder.event(family.node, event_reasons.CLOUD_PERMISSION_MISSING, error.message)


def _pause(error: CloudError) -> float:
    """Returns the seconds until a family tries again after an error."""
    match error:
        case Throttled():
            return error.retry_after
        case NotPermitted():
            return PERMISSION_PAUSE
        case CloudUnavailable() | CloudConflict() | QuotaExceeded() | CloudNotFound():
            return FAILURE_PAUSE
        case _:
            return VSWITCH_PAUSE


def _part_of_node(node: Node) -> tuple[object, ...]:
    """Returns the parts of a Node that decide about its addresses."""
    assigned = (node.metadata.annotations or {}).get(ASSIGNED_ANNOTATION)
    return assigned, node.spec.providerID, node.ready_status


def _part_of_pool(pool: SpiderIPPool) -> tuple[object, ...]:
    """Returns the parts of a pool that decide about its addresses."""
    return pool.spec, pool.metadata.labels, pool.metadata.annotations
