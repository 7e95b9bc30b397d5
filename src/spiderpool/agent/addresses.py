"""A pod's addresses: who names its pools, what its interface gets, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from spiderpool.agent.cluster import ClusterCache, is_meant
from spiderpool.agent.ipam import Allocation, Allocator
from spiderpool.api.cni import IPAMConfig, PodArgs
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam.allocation import Grant, family, grant, refusal
from spiderpool.core.ipam.candidates import (
    Circumstances,
    Demands,
    asks_of,
    demands,
    wants_application_pool,
    with_requested,
)
from spiderpool.core.ipam.gc import is_alive
from spiderpool.core.ipam.owners import Controller, sticky_owner
from spiderpool.core.ipam.selection import AllocationRequest, concerns_application
from spiderpool.core.network.pod_networks import Interfaces, first_network, further_networks
from spiderpool.errors import BadConfig, BadRequest, Drift, Refused
from spiderpool.kube.events import Recorder
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import logger

EVENT_REFUSED = "AddressRefused"
EVENT_COOLDOWN = "CooldownIgnored"
OWNER_TIMEOUT = 5.0
"""Seconds for the read of an owner on the way of an ADD."""
KEEP_TIMEOUT = 2.0
"""Seconds for the read of an owner on the way of a DEL; then the release is put off."""

log = logger("addresses")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say of pods' addresses."""

    default_network: str | None
    namespace: str
    families: tuple[int, ...] = (4,)
    statefulsets: bool = True
    machines: bool = True
    subnets: bool = True
    automatic: bool = True
    auto_pool_wait: float = 50.0
    release_conflicts: bool = True
    isolated: bool = False
    """Whether a pod may only use networks of its own Namespace and of the shared ones."""
    shared_namespaces: tuple[str, ...] = ("default",)

    @classmethod
    def of(cls, settings: AgentSettings) -> Policy:
        """From the agent's settings."""
        common = settings.common
        return cls(
            default_network=settings.default_network,
            namespace=common.namespace,
            families=tuple(sorted(common.families)),
            statefulsets=common.enable_statefulset,
            machines=common.enable_kubevirt_static_ip,
            subnets=common.enable_spider_subnet,
            automatic=common.enable_auto_pools,
            auto_pool_wait=settings.auto_pool_wait,
            release_conflicts=settings.release_conflicts,
            isolated=settings.namespace_isolation,
            shared_namespaces=settings.global_namespaces,
        )


@dataclass(frozen=True, slots=True)
class Want:
    """An interface that is to get addresses: by which configuration, and which ones if it says so."""

    interface: str
    config: IPAMConfig
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """A want with all that decides about it but the pools."""

    want: Want
    ask: AllocationRequest
    about: Circumstances


class Addresses:
    """Gives, finds and takes back the addresses of pods of this node."""

    def __init__(self, cluster: ClusterCache, allocator: Allocator, recorder: Recorder, policy: Policy) -> None:
        self._cluster = cluster
        self._allocator = allocator
        self._recorder = recorder
        self.policy = policy
        self._detached: set[str] = set()
        cluster.pods.subscribe(self._pod_changed)

    async def give(self, pod: Pod, *wants: Want) -> dict[str, tuple[Grant, ...]]:
        """The addresses of interfaces of a pod, IPv4 first: what they hold already, and all that is missing, or none.

        Raises Refused, BadConfig, NotReady or ApiUnavailable; a refusal is also an Event on the pod.
        """
        self._detached.discard(pod.metadata.uid or "")
        try:
            return await self._give(pod, wants) if wants else {}
        except (Refused, BadRequest) as error:
            self._recorder.event(pod, "Warning", EVENT_REFUSED, error.message)
            raise

    def check(self, pod: Pod, interface: str, config: IPAMConfig) -> tuple[Grant, ...]:
        """The addresses that a pod's interface holds. Raises Drift when one is missing."""
        (case,) = self._cases(pod, (Want(interface, config),))
        found = demands(case.about, self._cluster.pools())
        held = self._allocator.holds(pod.metadata.uid or "", interface)
        wanted = [version for demand in found.each if demand.interface == interface for version in demand.candidates]
        for version in wanted:
            if version not in map(family, held):
                raise Drift(
                    f"{interface} of pod {pod.key} holds no IPv{version} address: its SpiderIP is gone; delete the pod"
                )
        if not held:
            raise Drift(f"{interface} of pod {pod.key} holds no address: its SpiderIP is gone; delete the pod")
        return self._grants(held, interface, found)

    async def release(self, args: PodArgs, interface: str) -> None:
        """Give the addresses back, unless the pod lives on: its next sandbox is to find them again."""
        pod = self._cluster.pods.get(f"{args.namespace}/{args.name}")
        if pod and is_meant(pod, args.uid):
            uid = pod.metadata.uid or ""
            if is_alive(pod):
                self._detached.add(uid)
                return
        else:
            uid = args.uid
        await self._allocator.release(uid, interface)

    async def collect(self, held: SpiderIP) -> None:
        """Give back what an interface holds whose pod is gone."""
        await self._allocator.release(held.spec.podUID, held.spec.interface)

    async def release_conflicting(self, args: PodArgs) -> None:
        """Give back all that a pod holds, though it lives: somebody outside the cluster uses it."""
        pod = self._cluster.pods.get(f"{args.namespace}/{args.name}")
        known = pod.metadata.uid if pod and is_meant(pod, args.uid) else None
        await self._allocator.release_conflicting(known or args.uid)

    def held(self, namespace: str, name: str) -> list[SpiderIP]:
        """The records of a pod of this node, by name."""
        pod = self._cluster.pods.get(f"{namespace}/{name}")
        return self._cluster.records.of_pod(pod.metadata.uid or "") if pod else []

    def grant(self, held: SpiderIP) -> Grant:
        """What a record and its pool give."""
        return grant(held, self._cluster.pool(held.spec.pool))

    def is_sticky(self, pod: Pod) -> bool:
        """Whether the pod's addresses stay with its owner."""
        return sticky_owner(pod, statefulsets=self.policy.statefulsets, machines=self.policy.machines) is not None

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod whose DEL came while it still looked alive: give its addresses back once it does not."""
        if old and old.metadata.uid in self._detached and not (new and is_alive(new)):
            self._detached.discard(old.metadata.uid)
            self._allocator.release_soon(old.metadata.uid)

    async def _give(self, pod: Pod, wants: tuple[Want, ...]) -> dict[str, tuple[Grant, ...]]:
        if any(want.config.match_master_subnet for want in wants):
            raise BadConfig("match_master_subnet is for SR-IOV ENIs, which this agent does not attach; remove it")
        cases = self._cases(pod, wants)
        if any(wants_application_pool(case.about.pod, subnets=case.about.subnets) for case in cases):
            controller = await self._cluster.owners.top(pod, timeout=OWNER_TIMEOUT)
            cases = [_under(controller, case) for case in cases]
        limit = asyncio.get_running_loop().time() + self.policy.auto_pool_wait
        while True:
            change = self._cluster.pool_change()
            found = [demands(case.about, self._cluster.pools()) for case in cases]
            try:
                return await self._allocate(pod, cases, found)
            except Refused:
                if not any(each.may_be_made for each in found) or not await _set_before(change, limit):
                    raise

    async def _allocate(
        self, pod: Pod, cases: Sequence[_Case], found: Sequence[Demands]
    ) -> dict[str, tuple[Grant, ...]]:
        asks = _asks(cases, found)
        if any(one.controller is None and concerns_application(one, self._cluster.pools()) for one in asks):
            controller = await self._cluster.owners.top(pod, timeout=OWNER_TIMEOUT)
            asks = [replace(one, controller=controller) for one in asks]
        for case, each in zip(cases, found, strict=True):
            self._check_all_are_served(case.ask, each)
        if asks:
            self._report(pod, found, await self._allocator.allocate(*asks))
        return {
            case.want.interface: self._grants(
                self._allocator.holds(case.ask.pod_uid, case.want.interface), case.want.interface, each
            )
            for case, each in zip(cases, found, strict=True)
        }

    def _check_all_are_served(self, ask: AllocationRequest, found: Demands) -> None:
        """An interface for which no family is left gets nothing, so the pod gets nothing."""
        for demand in found.each:
            if not demand.candidates and not self._allocator.holds(ask.pod_uid, demand.interface):
                dropped = [verdict for verdict in found.trace if verdict.rule == "family"]
                version = 6 if self.policy.families == (6,) or (dropped and self.policy.families == (4,)) else 4
                raise refusal(replace(ask, interface=demand.interface, version=version, source=demand.source), dropped)

    def _report(self, pod: Pod, found: Iterable[Demands], done: Allocation) -> None:
        for early in done.early:
            self._recorder.event(
                pod,
                "Warning",
                EVENT_COOLDOWN,
                f"{early.spec.address} of pool {early.spec.pool} was given before its cooldown was over: nothing else "
                f"was free; it was released by pod {early.spec.namespace}/{early.spec.pod} at {early.spec.releasedAt}",
            )
        if done.made:
            log.info(
                "given",
                pod=pod.key,
                address=[one.record.spec.address for one in done.made],
                considered=[str(verdict) for verdict in (*(one for each in found for one in each.trace), *done.trace)],
            )

    def _grants(self, held: Sequence[SpiderIP], interface: str, found: Demands) -> tuple[Grant, ...]:
        clean = any(demand.clean_gateway for demand in found.each if demand.interface == interface)
        return tuple(
            grant(one, self._cluster.pool(one.spec.pool), clean_gateway=clean, routes=found.routes) for one in held
        )

    def _cases(self, pod: Pod, wants: Iterable[Want]) -> list[_Case]:
        interfaces = self._interfaces(pod)
        return [
            _Case(
                want,
                self._ask(pod, want.interface, interfaces),
                self._circumstances(pod, want.interface, want.config, interfaces),
            )
            for want in wants
        ]

    def _circumstances(self, pod: Pod, interface: str, config: IPAMConfig, interfaces: Interfaces) -> Circumstances:
        annotations = pod.metadata.annotations or {}
        namespace = self._cluster.namespaces.get(pod.metadata.namespace or "")
        configured = {4: config.default_ipv4_ippool, 6: config.default_ipv6_ippool}
        return Circumstances(
            interface=interface,
            interfaces=interfaces,
            attached=self._allocator.interfaces(pod.metadata.uid or ""),
            pod=annotations,
            namespace=(namespace.metadata.annotations if namespace else None) or {},
            configured={version: tuple(names) for version, names in configured.items() if names},
            clean_gateway=config.clean_gateway,
            families=self.policy.families,
            subnets=self.policy.subnets,
            automatic=self.policy.automatic,
        )

    def _interfaces(self, pod: Pod) -> Interfaces:
        annotations = pod.metadata.annotations or {}
        first = first_network(annotations, self.policy.default_network, self.policy.namespace)
        further = further_networks(annotations, pod.metadata.namespace or "")
        return Interfaces(first.network if first else None, further)

    def _ask(self, pod: Pod, interface: str, interfaces: Interfaces) -> AllocationRequest:
        namespace = self._cluster.namespaces.get(pod.metadata.namespace or "")
        node = self._cluster.nodes.get(self._cluster.node_name)
        return AllocationRequest(
            namespace=pod.metadata.namespace or "",
            pod=pod.name,
            pod_uid=pod.metadata.uid or "",
            interface=interface,
            node=self._cluster.node_name,
            network=interfaces.network(interface),
            our_namespace=self.policy.namespace,
            pod_labels=pod.metadata.labels or {},
            namespace_labels=(namespace.metadata.labels if namespace else None) or {},
            node_labels=(node.metadata.labels if node else None) or {},
            owner=sticky_owner(pod, statefulsets=self.policy.statefulsets, machines=self.policy.machines),
        )


def _under(controller: Controller | None, case: _Case) -> _Case:
    return replace(case, ask=replace(case.ask, controller=controller), about=replace(case.about, controller=controller))


def _asks(cases: Sequence[_Case], found: Sequence[Demands]) -> list[AllocationRequest]:
    """One for each interface and family; an annotation may name interfaces beside the one that is asked for."""
    asks: dict[tuple[str, int], AllocationRequest] = {}
    for case, each in zip(cases, found, strict=True):
        for demand in each.each:
            for one in asks_of(case.ask, demand, case.about.interfaces):
                asks.setdefault((one.interface, one.version), one)
    wanted = {case.want.interface: case.want.ips for case in cases if case.want.ips}
    return with_requested(asks.values(), wanted)


async def _set_before(event: asyncio.Event, limit: float) -> bool:
    """Whether an event is set before a time of the loop's clock."""
    try:
        async with asyncio.timeout_at(limit):
            return await event.wait()
    except TimeoutError:
        return False
