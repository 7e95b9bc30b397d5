"""Addresses of ENIs in advance: looks at the ENIs, asks ``core.preallocation`` what to do, and does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_CARD_LABEL, SpiderIPPool
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudProvider,
    CloudUnavailable,
    NotPermitted,
    Quota,
    QuotaExceeded,
    RegisteredENI,
    Rejected,
    Throttled,
    VSwitchFull,
)
from spiderpool.core.addresses import object_name
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION, version_of
from spiderpool.core.cloud.instances import ENI, Instance
from spiderpool.core.cloud.nodes import contradiction, instance_of, readiness
from spiderpool.core.cloud.preallocation import (
    ASSIGNED_ANNOTATION,
    Assign,
    ENIState,
    Fence,
    PreallocationPolicy,
    RecentChanges,
    Step,
    Unassign,
    Unfence,
    gives,
    own_of,
    plan,
    releasing_of,
    releasing_text,
    since,
)
from spiderpool.errors import SpiderpoolError
from spiderpool.kube import client as kube
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import CLOUD_ADDRESSES, CLOUD_SWITCH_FREE, logger

LAG = 120.0
"""Seconds for which the cloud may not yet show what it has confirmed."""
SWITCH_PAUSE = 300.0
"""Seconds for which a full vSwitch is not asked again."""
PERMISSION_PAUSE = 300.0
"""The same for an action that we may not call."""
PAUSE = 15.0
"""The same after any other failure."""
DEBOUNCE = 0.5
"""Seconds that changes wait for more changes."""
TICK = 5.0
"""Seconds until the next look at what only time changes."""
AT_ONCE = 8
"""Nodes that are worked on at a time."""

log = logger("addresses")


@dataclass(frozen=True, slots=True)
class AddressListers:
    """The local copies that are read."""

    nodes: Informer[Node]
    pools: Informer[SpiderIPPool]
    ips: Informer[SpiderIP]


@dataclass(frozen=True, slots=True)
class ENIFamily:
    """One family of one ENI of one node."""

    node: Node
    instance: Instance
    eni: ENI
    version: int

    @property
    def key(self) -> tuple[str, int]:
        """What its memory is kept under."""
        return self.eni.identity, self.version


@dataclass(slots=True)
class ENIFamilyState:
    """What is remembered of a place. Times are seconds of our clock."""

    recent: RecentChanges = field(default_factory=RecentChanges)
    idle: dict[str, float] = field(default_factory=dict)
    fenced: dict[str, float] = field(default_factory=dict)
    not_before: float = 0.0


class AddressReconciler:
    """Keeps free addresses on every ENI."""

    def __init__(
        self,
        client: kube.Client,
        cloud: CloudProvider,
        sight: AddressListers,
        recorder: Recorder,
        policy: PreallocationPolicy,
        period: float,
        *,
        families: Collection[int] = (4,),
        primary_eni: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cloud = cloud
        self._sight = sight
        self._recorder = recorder
        self._policy = policy
        self._period = period
        self._families = sorted(families)
        self._primary_eni = primary_eni
        self._clock = clock
        self._ips_by_address = sight.ips.index(lambda record: [record.spec.address.partition("/")[0]])
        self._enis: dict[str, RegisteredENI] = {}
        self._asked: set[str] = set()
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._switches: dict[str, int] = {}
        self._full: dict[str, float] = {}
        self._memory: dict[tuple[str, int], ENIFamilyState] = {}
        self._look_at = 0.0
        self._changed = asyncio.Event()
        sight.ips.subscribe(self._on_ip)
        sight.nodes.subscribe(self._on_change)
        sight.pools.subscribe(self._on_change)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            try:
                await self.step()
            except SpiderpoolError as error:
                log.warning("addresses will be looked at again", error=str(error))
            except Exception:  # a bug here must not end what else we do for the cluster
                log.exception("addresses will be looked at again")
            await self._wait()

    async def step(self) -> bool:
        """Look if it is time, and do what is to be done now; whether anything was."""
        places = list(self._places())
        if self._clock() >= self._look_at or any(place.eni.identity not in self._asked for place in places):
            await self._look(places)
        by_node: dict[str, list[ENIFamily]] = {}
        for place in places:
            by_node.setdefault(place.node.name, []).append(place)
        gate = asyncio.Semaphore(AT_ONCE)
        done = await asyncio.gather(*(self._work(found, gate) for found in by_node.values()))
        return any(done)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(min(TICK, self._period, max(self._policy.fence, 0.1))):
                await self._changed.wait()
                await asyncio.sleep(DEBOUNCE)
        except TimeoutError:
            pass
        self._changed.clear()

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is None or new is None:
            self._changed.set()

    def _on_change(self, *_: object) -> None:
        self._changed.set()

    def _places(self) -> Iterator[ENIFamily]:
        """The ENIs of all nodes that are alive and say of themselves what their Node says, by family."""
        seen: set[str] = set()
        for node in sorted(self._sight.nodes.items(), key=lambda each: (readiness(each) != "True", each.name)):
            instance = instance_of(node)
            if instance is None or readiness(node) == "Unknown" or contradiction(node, instance):
                continue
            for eni in instance.enis:
                if eni.identity in seen or (eni.primary and not self._primary_eni):
                    continue
                seen.add(eni.identity)
                for version in self._families:
                    if eni.subnet_of(version):
                        yield ENIFamily(node, instance, eni, version)

    # Looking

    async def _look(self, places: Collection[ENIFamily]) -> None:
        """Have the cloud describe the ENIs. What fails leaves what was known."""
        self._look_at = self._clock() + self._period
        self._asked = {place.eni.identity for place in places}
        for region in sorted({place.instance.region for place in places}):
            here = [place for place in places if place.instance.region == region]
            try:
                await self._look_at_region(region, here)
            except CloudError as error:
                wait = error.retry_after if isinstance(error, Throttled) else PAUSE
                self._look_at = min(self._look_at, self._clock() + wait)
                self._report_permission(here[0], error)
                log.warning("cards not described", region=region, error=error.message)

    async def _look_at_region(self, region: str, places: Collection[ENIFamily]) -> None:
        described = await self._cloud.enis(region, {place.eni.identity for place in places})
        now = self._clock()
        for place in places:
            if (eni := described.get(place.eni.identity)) is not None:
                self._enis[eni.identity] = eni
                memory = self._remembered(place)
                memory.recent = memory.recent.seen(_addresses(eni, place.version), now)
        for kind in sorted({place.instance.instance_type for place in places}):
            if (region, kind) not in self._quotas:
                self._quotas[region, kind] = await self._cloud.quota(region, kind)
        for switch in sorted({eni.switch for eni in described.values()}):
            self._switches[switch] = await self._cloud.free_addresses(region, switch)
            CLOUD_SWITCH_FREE.labels(switch).set(self._switches[switch])

    def _remembered(self, place: ENIFamily) -> ENIFamilyState:
        return self._memory.setdefault(place.key, ENIFamilyState())

    def _view(self, place: ENIFamily) -> ENIState | None:
        """What is known of a place; None as long as that is not enough, or the ENI is not where the node says."""
        eni = self._enis.get(place.eni.identity)
        quota = self._quotas.get((place.instance.region, place.instance.instance_type))
        if eni is None or quota is None or eni.instance != place.instance.identity or eni.status != "InUse":
            return None
        memory, now = self._remembered(place), self._clock()
        registered = memory.recent.applied(_addresses(eni, place.version)) - {eni.primary_address}
        pools = list(self._eni_pools(place))
        releasing = frozenset(each for pool in pools for each in releasing_of(pool))
        held = frozenset(each for each in registered if each in self._ips_by_address)
        memory.idle = since(memory.idle, registered - held, now)
        memory.fenced = since(memory.fenced, [each for each in releasing if not self._is_given(each)], now)
        ours = frozenset(_ledger(place.node).get(eni.identity, ())) & registered
        reported = frozenset(place.eni.addresses_of(place.version))
        view = ENIState(
            eni.identity,
            place.version,
            registered,
            quota.of(place.version),
            held=held,
            ours=ours,
            reported=reported,
            own=own_of(place.version, registered, reported | ours | memory.recent.added.keys()),
            releasing=releasing,
            fenced_since=memory.fenced,
            idle_since=memory.idle,
            switch_free=self._free_in(eni.switch, place.version, now),
        )
        surplus = view.free & ours if len(view.free) > self._policy.high else frozenset()
        return replace(view, fenceable=frozenset(each for each in surplus if self._is_fenceable(each, pools)))

    def _free_in(self, switch: str, version: int, now: float) -> int | None:
        """Free addresses of a vSwitch; a block of IPv6 addresses does not run out."""
        if self._full.get(switch, 0.0) > now:
            return 0
        return self._switches.get(switch) if version == 4 else None

    def _eni_pools(self, place: ENIFamily) -> Iterator[SpiderIPPool]:
        for pool in self._sight.pools.items():
            of_eni = (pool.metadata.labels or {}).get(POOL_CARD_LABEL) == place.eni.identity
            if of_eni and version_of(pool) == place.version:
                yield pool

    def _is_given(self, address: str) -> bool:
        return any(gives(pool, address) for pool in self._sight.pools.items())

    def _is_fenceable(self, address: str, pools: Collection[SpiderIPPool]) -> bool:
        givers = {pool.name for pool in self._sight.pools.items() if gives(pool, address)}
        return bool(givers) and givers <= {pool.name for pool in pools}

    # Doing

    async def _work(self, places: Iterable[ENIFamily], gate: asyncio.Semaphore) -> bool:
        """Do what is to be done for one node, one step after the other: they write to the same objects."""
        done = False
        async with gate:
            for place in places:
                if self._remembered(place).not_before > self._clock() or (view := self._view(place)) is None:
                    continue
                for step in plan(view, self._policy, self._clock()):
                    done = await self._try(place, view, step) or done
        return done

    async def _try(self, place: ENIFamily, view: ENIState, step: Step) -> bool:
        """Do one step; whether it was done. What the cloud refuses makes the place pause."""
        try:
            await self._do(place, view, step)
        except CloudError as error:
            self._refused(place, error)
            return False
        except (kube.Conflict, kube.NotFound):
            return False  # somebody else was faster: the next look tells
        return True

    async def _do(self, place: ENIFamily, view: ENIState, step: Step) -> None:
        match step:
            case Assign(count):
                await self._assign(place, view, count)
            case Fence(addresses):
                await self._tell_pools(place, add=addresses)
            case Unfence(addresses):
                await self._tell_pools(place, remove=addresses)
            case Unassign(addresses):
                await self._unassign(place, addresses)
            case _:
                assert_never(step)

    async def _assign(self, place: ENIFamily, view: ENIState, count: int) -> None:
        eni = self._enis[view.eni]
        given = await self._cloud.assign(place.instance.region, eni.identity, place.version, count)
        memory = self._remembered(place)
        memory.recent = memory.recent.with_added(given, self._clock() + LAG)
        if place.version == 4 and eni.switch in self._switches:
            self._switches[eni.switch] -= len(given)
        CLOUD_ADDRESSES.labels("assigned").inc(len(given))
        log.info("addresses registered", card=eni.identity, node=place.node.name, addresses=list(given))
        await self._write_ledger(place, add=given)
        if again := view.releasing.intersection(given):
            await self._tell_pools(place, remove=again)

    async def _unassign(self, place: ENIFamily, addresses: Iterable[str]) -> None:
        """Take those from the ENI that, as the API server says now, no pool gives and nobody holds."""
        pools = await self._client.list(SpiderIPPool)
        primary = self._enis[place.eni.identity].primary_address
        quiet = [each for each in addresses if each != primary and not any(gives(pool, each) for pool in pools)]
        unused = [each for each in quiet if not await self._is_held(each)]
        if not unused:
            return
        await self._cloud.unassign(place.instance.region, place.eni.identity, place.version, unused)
        memory = self._remembered(place)
        memory.recent = memory.recent.with_removed(unused, self._clock() + LAG)
        CLOUD_ADDRESSES.labels("unassigned").inc(len(unused))
        log.info("addresses given back", card=place.eni.identity, node=place.node.name, addresses=unused)
        await self._write_ledger(place, remove=unused)

    async def _is_held(self, address: str) -> bool:
        try:
            await self._client.get(SpiderIP, object_name(address))
        except kube.NotFound:
            return False
        return True

    async def _tell_pools(self, place: ENIFamily, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Change what the pools of an ENI leave out."""
        for pool in list(self._eni_pools(place)):
            told = releasing_of(pool)
            wanted = (told | frozenset(each for each in add if gives(pool, each))) - frozenset(remove)
            if wanted == told:
                continue
            metadata = {
                "resourceVersion": pool.metadata.resourceVersion,
                "annotations": {RELEASING_ANNOTATION: releasing_text(wanted)},
            }
            self._sight.pools.note(await self._client.patch(SpiderIPPool, pool.name, {"metadata": metadata}))

    async def _write_ledger(self, place: ENIFamily, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Write on the Node which addresses of the ENI are ours."""
        node = self._sight.nodes.get(place.node.name) or place.node
        ledger, eni = _ledger(node), place.eni.identity
        kept = (set(ledger.get(eni, ())) | set(add)) - set(remove)
        ledger = {**ledger, eni: sorted(kept)}
        text = msgspec.json.encode({key: ledger[key] for key in sorted(ledger) if ledger[key]}).decode()
        body = {"metadata": {"annotations": {ASSIGNED_ANNOTATION: text}}}
        self._sight.nodes.note(await self._client.patch(Node, node.name, body))

    # What the cloud refuses

    def _refused(self, place: ENIFamily, error: CloudError) -> None:
        """Wait before the next try, as long as the reason lasts, and tell who can do something about it."""
        now, memory = self._clock(), self._remembered(place)
        memory.not_before = now + _pause(error)
        log.warning("cloud refused", card=place.eni.identity, node=place.node.name, error=error.message)
        match error:
            case VSwitchFull():
                switch = self._enis[place.eni.identity].switch
                self._full[switch] = now + SWITCH_PAUSE
                text = f"vSwitch {switch} of ENI {place.eni.identity} has no free address; not asked again for "
                self._recorder.event(place.node, "Warning", "VSwitchFull", f"{text}{SWITCH_PAUSE / 60:.0f} minutes")
            case QuotaExceeded() | CloudNotFound() | CloudConflict():
                self._look_at = now
            case NotPermitted():
                self._report_permission(place, error)
            case Rejected():
                self._recorder.event(place.node, "Warning", "AddressesNotRegistered", error.message)
            case _:
                pass

    def _report_permission(self, place: ENIFamily, error: CloudError) -> None:
        if isinstance(error, NotPermitted):
            self._recorder.event(place.node, "Warning", "CloudPermissionMissing", error.message)


def _pause(error: CloudError) -> float:
    match error:
        case Throttled():
            return error.retry_after
        case NotPermitted():
            return PERMISSION_PAUSE
        case CloudUnavailable() | CloudConflict() | QuotaExceeded() | CloudNotFound():
            return PAUSE
        case _:
            return SWITCH_PAUSE


def _addresses(eni: RegisteredENI, version: int) -> frozenset[str]:
    return eni.ipv6_addresses if version == 6 else eni.addresses


def _ledger(node: Node) -> dict[str, list[str]]:
    """The addresses that we registered, by ENI; nothing where the annotation cannot be read: then none goes back."""
    text = (node.metadata.annotations or {}).get(ASSIGNED_ANNOTATION, "{}")
    try:
        return msgspec.json.decode(text, type=dict[str, list[str]])
    except msgspec.DecodeError:
        return {}
