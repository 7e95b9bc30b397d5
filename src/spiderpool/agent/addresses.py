"""Addresses of the pods of this node: which requests a pod makes, what it is granted, and when it is released."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from itertools import chain, islice

from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.allocator import Allocation, Allocator
from spiderpool.agent.cluster import ClusterCache, has_runtime_uid
from spiderpool.agent.record_store import Holder
from spiderpool.api import event_reasons
from spiderpool.api.cni import PodArgs
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam import allocation, candidates, unused_annotations
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.candidates import AllocationPlan, RequestKey
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION, is_finished, pod_uids
from spiderpool.core.ipam.owners import is_migration_target
from spiderpool.core.ipam.pod_context import (
    AddressPolicy,
    InterfaceNetworks,
    InterfaceRequest,
    PodContext,
    PodSurroundings,
    pod_context,
)
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.core.network.plumbing.values import Address
from spiderpool.core.network.pod_networks import interface_networks
from spiderpool.errors import BadConfig, BadRequest, Drift, NotReady, Refused
from spiderpool.kube.events import Recorder
from spiderpool.policies import address_policy, attachment_policy
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import logger

OWNER_TIMEOUT = 5.0
"""Seconds for reading a pod's top controller on the ADD path."""
STICKY_OWNER_TIMEOUT = 2.0
"""Seconds for reading a sticky owner on the DEL path; then the release is deferred."""

Grants = Mapping[str, tuple[Grant, ...]]
"""Interface → what it holds, IPv4 first; at most one grant per family."""

log = logger("addresses")


@dataclass(frozen=True, slots=True)
class PodPolicy:
    """The agent's settings about pods' networks and addresses."""

    networks: AttachmentPolicy
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    auto_pool_wait: float = 50.0
    """Seconds that an ADD waits for the controller to make an application's pool."""
    release_conflicts: bool = True
    """Whether executables may release addresses that something outside the cluster uses."""
    detection: Detection = field(default_factory=Detection)
    """Which conflicts are looked for before an interface is created."""

    @classmethod
    def of(cls, settings: AgentSettings) -> PodPolicy:
        """From the agent's settings."""
        return cls(
            attachment_policy(settings),
            address_policy(settings),
            auto_pool_wait=settings.auto_pool_wait,
            release_conflicts=settings.release_conflicts,
            detection=Detection(settings.detect_conflicts, settings.detect_gateway),
        )


class PodAddresses:
    """Allocates, finds and releases the addresses of pods of this node."""

    def __init__(
        self,
        cluster: ClusterCache,
        allocator: Allocator,
        recorder: Recorder,
        policy: PodPolicy,
        account: AccountPublisher,
    ) -> None:
        self._cluster = cluster
        self._allocator = allocator
        self._recorder = recorder
        self.policy = policy
        self._account = account
        # UID of a living pod's object → its holders that had a DEL: released once the pod has finished or is gone
        self._detached: dict[str, set[Holder]] = {}
        cluster.pods.subscribe(self._pod_changed)

    async def allocate(
        self, pod: Pod, uid: str, requests: Sequence[InterfaceRequest], networks: InterfaceNetworks | None = None
    ) -> Grants:
        """Grant addresses to interfaces of a pod: what they hold already, and all that is missing, or nothing.

        ``uid`` is what the container runtime calls the pod, empty if it does not say. ``networks`` are those of the
        pod's interfaces; None: as its annotations and the settings name them. The pod's sandbox must be on file.
        Raises Refused, BadConfig, NotReady or ApiUnavailable; a refusal is also an Event on the pod.
        """
        self._detached.pop(pod.metadata.uid or "", None)
        if not requests:
            return {}
        await self._confirm(pod, uid)
        try:
            context = await self._context(pod, uid, networks or self.networks(pod))
            grants = await self._allocate(pod, context, requests)
        except (Refused, BadRequest) as error:
            self._recorder.event(pod, event_reasons.ADDRESS_REFUSED, error.message)
            raise
        self._report_unused(pod, context, whole=networks is not None)
        return grants

    async def _confirm(self, pod: Pod, uid: str) -> None:
        """Raises NotReady when a pod that holds addresses is gone, where these may be judged by that it had no sandbox.

        So it gets back nothing that somebody is about to give away, though the cache still has the pod.
        """
        holder = _holder_uid(pod, uid)
        if any(self._account.must_confirm(record) for record in self._cluster.records.of_pod(holder)):
            await self._cluster.confirm_living(pod)
            self._account.confirmed(holder)

    async def check(
        self, pod: Pod, uid: str, networks: InterfaceNetworks, request: InterfaceRequest
    ) -> tuple[Grant, ...]:
        """What an interface of a pod holds. Raises Drift when an address is missing."""
        context = await self._context(pod, uid, networks)
        plan = candidates.check_plan(context, request, self.policy.addresses, self._cluster.pools())
        interface, held = request.interface, self._allocator.held(context.uid)
        for version in plan.families(interface):
            if (interface, version) not in held:
                raise Drift(
                    f"{interface} of pod {pod.key} holds no IPv{version} address: its SpiderIP is gone; delete the pod"
                )
        grants = plan.grants(interface, held, await self._pools_of(held, {interface}))
        if not grants:
            raise Drift(f"{interface} of pod {pod.key} holds no address: its SpiderIP is gone; delete the pod")
        return grants

    def networks(self, pod: Pod) -> InterfaceNetworks:
        """The network of each interface that the pod's annotations and the settings name. Raises BadConfig."""
        policy = self.policy.networks
        annotations, namespace = pod.metadata.annotations or {}, pod.metadata.namespace or ""
        return interface_networks(annotations, namespace, policy.default_network, policy.namespace)

    async def release(self, args: PodArgs, interface: str, *, ended: bool) -> None:
        """Release what an interface holds. A pod that lives on keeps it, since its next sandbox needs it again.

        ``ended`` says that the sandbox which had the address is known and gone: then a terminating pod, which gets no
        other one, needs it no more. Otherwise this may be a late call about a former sandbox, so only a pod that has
        finished or is gone gives its address back. Until the caches are filled nobody knows whether the pod lives on:
        then garbage collection ends what it holds.
        """
        if not self._cluster.ready:
            log.warning("left to garbage collection", pod=f"{args.namespace}/{args.name}", interface=interface)
            return
        pod = self._cluster.pods.get(f"{args.namespace}/{args.name}")
        uid = self.holder_uid(args)
        if pod and has_runtime_uid(pod, args.uid) and not (is_finished(pod) or (ended and pod.terminating)):
            self._detached.setdefault(pod.metadata.uid or "", set()).add((uid, interface))
            return
        await self._allocator.release(uid, interface)

    def holder_uid(self, args: PodArgs, pod: Pod | None = None) -> str:
        """The UID by which a pod holds addresses; empty when neither the runtime nor a pod tells it.

        Then there is nothing to go by, and garbage collection releases what the pod held. ``pod`` is the pod where it
        has been read; None: the cached one.
        """
        pod = pod or self._cluster.pods.get(f"{args.namespace}/{args.name}")
        return _holder_uid(pod, args.uid) if pod and has_runtime_uid(pod, args.uid) else args.uid

    async def release_orphan(self, record: SpiderIP) -> None:
        """Release what the interface of a record holds, whose pod is gone."""
        await self._allocator.release(record.spec.podUID, record.spec.interface)

    async def release_conflicting(self, args: PodArgs) -> None:
        """Release all addresses of a living pod, because somebody else uses one of them; not those of sticky owners."""
        await self._allocator.release_conflicting(self.holder_uid(args))

    def detection(self, pod: Pod) -> Detection:
        """What is looked for before a pod's address is used.

        The address of a machine that is to move to the pod is in use: the machine has it in its present pod.
        """
        detection = self.policy.detection
        return replace(detection, conflicts=detection.conflicts and not is_migration_target(pod))

    def records_of(self, namespace: str, name: str) -> list[SpiderIP]:
        """The records of a pod of this node, by the pod's name."""
        pod = self._cluster.pods.get(f"{namespace}/{name}")
        uids = sorted(uid for uid in pod_uids(pod) if uid) if pod else []
        return [record for uid in uids for record in self._cluster.records.of_pod(uid)]

    def of_others(self, args: PodArgs | None) -> frozenset[Address]:
        """Addresses of this node's other pods; none where it is not known which pod this is."""
        uid = self.holder_uid(args) if args else ""
        records = self._cluster.records.informer.items() if uid else ()
        others = (record.spec for record in records if record.spec.podUID != uid and not record.spec.releasedAt)
        return frozenset(ip_interface(each.address).ip for each in others)

    async def grant(self, record: SpiderIP) -> Grant:
        """What a record and its pool grant. Raises NotReady or ApiUnavailable."""
        return allocation.grant(record, await self._pool_of(record))

    def is_sticky(self, pod: Pod) -> bool:
        """Whether the pod's addresses stay with its owner."""
        return self.policy.addresses.sticky_owner(pod) is not None

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Release the addresses of a pod whose DEL came before it had ended, once it has finished or is gone.

        Not as soon as it terminates: its grace period may be long, and the DEL may have been about a former sandbox.
        """
        replaced = bool(old and new and old.metadata.uid != new.metadata.uid)
        if old and (new is None or replaced or is_finished(new)):
            for uid, interface in self._detached.pop(old.metadata.uid or "", ()):
                self._allocator.release_soon(uid, interface)

    async def _allocate(self, pod: Pod, context: PodContext, requests: Sequence[InterfaceRequest]) -> Grants:
        """Plan and allocate; again whenever pools change, while the controller may still be making the pod's pool."""
        if any(request.config.match_master_subnet for request in requests):
            raise BadConfig("match_master_subnet is for SR-IOV NICs, which this agent does not attach; remove it")
        deadline = asyncio.get_running_loop().time() + self.policy.auto_pool_wait
        while True:
            change = self._cluster.pool_change()  # before the plan, so that no change is missed
            plan = candidates.allocation_plan(context, requests, self.policy.addresses, self._cluster.pools())
            try:
                allocated = await self._allocate_plan(pod, plan)
            except Refused:
                if not plan.awaits_pool or not await _set_before(change, deadline):
                    raise
                continue
            if self._is_gone(pod):  # its owner may have another pod by now, with an address
                self._allocator.give_back(allocated)
                raise NotReady(f"pod {pod.key} was deleted while an address was taken for it")
            self._report(pod, plan, allocated)
            # A pod keeps what it held before, also of families that its sources no longer name.
            held = {**self._allocator.held(context.uid), **allocated.granted}
            interfaces = {each.interface for each in requests}
            written = {each.name for each in allocated.created} | allocated.inherited
            # A static pod comes back with the same UID. Its mirror may have been gone long enough for its addresses to
            # be collected, and a deletion may be carried out long after it was sent. A sticky owner's next pod may be
            # made on another node meanwhile, which goes by an account of this one that is no older than the record.
            is_static = _is_static(pod)
            for record in (each for (interface, _), each in held.items() if interface in interfaces):
                may_be_behind = is_static or record.spec.owner is not None
                await self._allocator.retain(record, anew=may_be_behind and record.name not in written)
            pools = await self._pools_of(held, interfaces)
            return {each.interface: plan.grants(each.interface, held, pools) for each in requests}

    def _is_gone(self, pod: Pod) -> bool:
        """Whether a pod has been deleted; a static one runs on while its mirror is made anew."""
        return not _is_static(pod) and self._cluster.pods.is_deleted(pod)

    async def _pools_of(
        self, records: Mapping[RequestKey, SpiderIP], interfaces: Collection[str]
    ) -> dict[str, SpiderIPPool]:
        """The pools of some interfaces' records, by name. Raises NotReady or ApiUnavailable."""
        mine = [record for (interface, _), record in records.items() if interface in interfaces]
        return {record.spec.pool: await self._pool_of(record) for record in mine}

    async def _pool_of(self, record: SpiderIP) -> SpiderIPPool:
        """The pool of a record, which may by now be that of another node: without it there is no gateway, no route.

        Raises NotReady when it does not exist, or ApiUnavailable.
        """
        spec = record.spec
        pool = self._cluster.pool(spec.pool) or await self._cluster.read_pool(spec.pool)
        if pool is None:
            raise NotReady(
                f"pool {spec.pool}, from which {spec.interface} of pod {spec.namespace}/{spec.pod} has {spec.address}, "
                "does not exist; create it again, or delete the pod"
            )
        return pool

    async def _allocate_plan(self, pod: Pod, plan: AllocationPlan) -> Allocation:
        """Allocate what a plan requests; read the pod's top controller first where a candidate belongs to one."""
        if plan.needs_controller:
            plan = candidates.with_controller(plan, await self._cluster.owners.top(pod, timeout=OWNER_TIMEOUT))
        if plan.unserved is not None:
            raise plan.unserved
        return (
            await self._allocator.allocate(plan.requests) if plan.requests else Allocation({}, (), frozenset(), (), ())
        )

    async def _context(self, pod: Pod, uid: str, networks: InterfaceNetworks) -> PodContext:
        """What is known of a pod; its top controller is read from the API server only if the pod needs it.

        Its Namespace is read for a pod that holds nothing yet, since it may choose the pool.
        """
        cluster, uid, namespace = self._cluster, _holder_uid(pod, uid), pod.metadata.namespace or ""
        held = self._allocator.held(uid)
        node = cluster.nodes.get(cluster.node_name)
        server = cluster.server()
        around = PodSurroundings(
            cluster.node_name,
            node,
            cluster.namespaces.get(namespace) if held else await cluster.namespace(namespace),
            self._allocator.interfaces(uid),
            uid,
            frozenset(eni.identity for eni in server.enis) if server else frozenset(),
        )
        context = pod_context(pod, networks, around, self.policy.addresses)
        if context.needs_controller:
            context = replace(context, controller=await cluster.owners.top(pod, timeout=OWNER_TIMEOUT))
        return context

    def _report(self, pod: Pod, plan: AllocationPlan, allocated: Allocation) -> None:
        """Log what was allocated and why; an Event for each address that was given before its cooldown was over."""
        for record in allocated.early:
            spec = record.spec
            self._recorder.event(
                pod,
                event_reasons.COOLDOWN_IGNORED,
                f"{spec.address} of pool {spec.pool} was given before its cooldown was over: nothing else was free; "
                f"it was released by pod {spec.namespace}/{spec.pod} at {spec.releasedAt}",
            )
        if allocated.created:
            log.info(
                "given",
                pod=pod.key,
                address=[record.spec.address for record in allocated.created],
                considered=[str(verdict) for verdict in (*plan.trace, *allocated.trace)],
            )

    def _report_unused(self, pod: Pod, context: PodContext, *, whole: bool) -> None:
        """An Event for each annotation without effect.

        Whether a route is one is known once the pod has all its addresses: after one call for the ``whole`` pod, else
        when all its interfaces have been served.
        """
        interfaces = [name for name, _ in context.networks.names]
        held = self._allocator.held(context.uid)
        complete = whole or {name for name, _ in held} >= {*interfaces}
        addresses = (record.spec.address for record in held.values())
        unused = chain(
            unused_annotations.unused_keys(context.annotations, context.namespace_annotations),
            unused_annotations.unused_subnets(context.annotations, enabled=self.policy.addresses.subnets),
            unused_annotations.unused_interfaces(context.annotations, interfaces),
            unused_annotations.unused_routes(context.annotations, addresses) if complete else (),
        )
        for message in islice(unused, unused_annotations.MOST):
            self._recorder.event(pod, event_reasons.ANNOTATION_IGNORED, message)


def _is_static(pod: Pod) -> bool:
    """Whether a pod is the mirror of one that its kubelet runs by a manifest of its own."""
    return STATIC_POD_ANNOTATION in (pod.metadata.annotations or {})


def _holder_uid(pod: Pod, runtime_uid: str) -> str:
    """The UID by which a pod holds addresses: the runtime's, since that of a static pod outlives its mirrors.

    Not that of the pod's annotation, which any user could write.
    """
    return runtime_uid or pod.metadata.uid or ""


def result_routes(grants: Iterable[Grant]) -> tuple[tuple[str, str], ...]:
    """All routes of some grants, as (destination, gateway)."""
    return tuple(route for grant in grants for route in grant.all_routes)


async def _set_before(event: asyncio.Event, deadline: float) -> bool:
    """Whether an event is set before a time of the loop's clock."""
    try:
        async with asyncio.timeout_at(deadline):
            return await event.wait()
    except TimeoutError:
        return False
