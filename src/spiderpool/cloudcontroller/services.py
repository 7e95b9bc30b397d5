"""Services of type LoadBalancer: each gets its balancer, kept as it should be, and taken back in the end."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from spiderpool.api.core_v1 import LoadBalancerIngress, Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice, EndpointSliceV1Beta1
from spiderpool.cloud.loadbalancers import ENIFinder, LoadBalancerAPI
from spiderpool.core.cloud.alibaba.naming import FINALIZERS, IDENTITY_LABEL, LENT_TAG, is_own
from spiderpool.core.cloud.instances import INSTANCE_ANNOTATION
from spiderpool.core.cloud.loadbalancer.annotations import PREFIX, Options, read
from spiderpool.core.cloud.loadbalancer.backends import SCHEME, BackendSnapshot, pod_addresses, told_enis
from spiderpool.core.cloud.loadbalancer.checking import backends_clear, faults
from spiderpool.core.cloud.loadbalancer.model import kind_of, owner_of, uses_pods, wanted
from spiderpool.core.cloud.loadbalancer.planning import (
    immutable,
    lending_fault,
    only_backends,
    ownership_fault,
    plan,
    removal,
)
from spiderpool.core.cloud.loadbalancer.steps import Step
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    Kind,
    LoadBalancerModel,
    ObservedLoadBalancer,
)
from spiderpool.errors import BadConfig, NotReady, SpiderpoolError
from spiderpool.kube import finalizers
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.discovery import find_kind
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

WORKERS = 3
IDLE = 5.0
"""Seconds between two looks whether there is any Service to repair."""

log = logger("services")


@dataclass(frozen=True, slots=True)
class ServiceTimings:
    """Seconds."""

    period: float = 300.0
    """Between two looks at a balancer that nobody has touched."""
    gather: float = 1.0
    """For which changes of endpoints and nodes are gathered."""
    first_pause: float = 5.0
    """Before a Service that failed is tried again; then doubled."""
    last_pause: float = 300.0
    confirm: float = 10.0
    """Between the two looks that must both miss a balancer."""


@dataclass(frozen=True, slots=True)
class ServiceListers:
    """What the API server tells of: kept up to date by its owner."""

    services: Informer[Service]
    slices: Informer[Any]
    nodes: Informer[Node]


@dataclass(slots=True)
class ServiceState:
    """What is remembered of a Service between two looks."""

    done: tuple[LoadBalancerModel, list[LoadBalancerIngress]] | None = None
    """What was carried out and published last; None: look again."""
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Events of each reason that were recorded last."""
    missed_at: float | None = None
    """When its balancer was missed first."""


class ServiceReconciler:
    """Keeps the balancer of every Service that asks for one of ours."""

    def __init__(
        self,
        client: Client,
        sight: ServiceListers,
        clouds: Mapping[Kind, LoadBalancerAPI],
        enis: ENIFinder,
        recorder: Recorder,
        configuration: BalancerConfiguration,
        timing: ServiceTimings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._sight = sight
        self._clouds = clouds
        self._enis = enis
        self._recorder = recorder
        self._configuration = configuration
        self._timing = timing or ServiceTimings()
        self._clock = clock
        self._memories: dict[str, ServiceState] = defaultdict(ServiceState)
        self._slices = sight.slices.index(lambda found: [key] if (key := _service_of(found)) else [])
        self._looked_up: dict[str, tuple[str, float]] = {}
        first, last = self._timing.first_pause, self._timing.last_pause
        self._queue = WorkQueue(self._reconcile, "services", first_pause=first, last_pause=last)
        sight.slices.subscribe(self._on_slice)
        sight.services.subscribe(self._on_service)
        sight.nodes.subscribe(self._on_node)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(WORKERS))
            group.create_task(self._repeat())

    async def _repeat(self) -> None:
        """Look at every balancer again, one after the other, over and over: somebody may have changed it."""
        while True:
            keys = [service.key for service in self._sight.services.items() if _concerns_us(service)]
            for key in keys:
                self._memories[key].done = None
                self._queue.add(key)
                await asyncio.sleep(self._timing.period / len(keys))
            if not keys:
                await asyncio.sleep(min(self._timing.period, IDLE))

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        if new is None:
            if old is not None:
                self._memories.pop(old.key, None)
        elif _concerns_us(new):
            self._queue.add(new.key)

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for seen in (old, new):
            if seen is not None and (key := _service_of(seen)):
                self._touch(key)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or _part(old) != _part(new):
            for service in self._sight.services.items():
                self._touch(service.key)

    def _touch(self, key: str) -> None:
        service = self._sight.services.get(key)
        if service is not None and _concerns_us(service):
            self._queue.add(key, self._timing.gather)

    async def _reconcile(self, key: str) -> None:
        service = self._sight.services.get(key)
        if service is None:
            return
        try:
            await self._settle(service)
        except SpiderpoolError as error:
            self._say(service, "Warning", "SyncLoadBalancerFailed", error.message, repeat=True)
            raise

    async def _settle(self, service: Service) -> None:
        """Take back what is no longer asked for, and give what is."""
        kind = None if service.terminating else kind_of(service)
        for former in _held_kinds(service):
            if former != kind:
                await self._release(service, former)
        current = self._sight.services.get(service.key)
        if kind is not None and current is not None and current.metadata.uid == service.metadata.uid:
            await self._ensure(current, kind)

    # Giving

    async def _ensure(self, service: Service, kind: Kind) -> None:
        options = read(service.metadata.annotations or {}, kind)
        self._say(service, "Warning", "AnnotationIgnored", *options.remarks)
        found = faults(service, options, self._configuration)
        self._say(service, "Warning", "InvalidService", *found)
        if found:
            await self._ensure_backends(service, options)
            return
        model = wanted(service, options, await self._world(service, options), self._configuration)
        if self._is_done(service, model):
            return
        service = await self._claim(service, kind)
        seen = await self._find(service, model)
        seen = await self._apply(service, model, seen)
        published = await self._publish(service, model, seen)
        self._memories[service.key].done = (model, published)
        self._report_unresolved(service, model)

    async def _ensure_backends(self, service: Service, options: Options) -> None:
        """Keep the servers right while the rest waits for a correction."""
        identity = (service.metadata.labels or {}).get(IDENTITY_LABEL)
        if not identity or not backends_clear(service, options, self._configuration):
            return
        model = wanted(service, options, await self._world(service, options), self._configuration)
        seen = await self._clouds[options.kind].find(model.owner, identity)
        if seen is not None and (is_own(seen, model.owner) or LENT_TAG in seen.tags):
            await self._carry_out(service, options.kind, only_backends(plan(model, seen)), seen)

    def _is_done(self, service: Service, model: LoadBalancerModel) -> bool:
        held = FINALIZERS[model.kind] in (service.metadata.finalizers or ())
        published = service.status.loadBalancer.ingress or []
        return held and self._memories[service.key].done == (model, published)

    async def _claim(self, service: Service, kind: Kind) -> Service:
        """Hold the Service by a finalizer, before anything is made for it."""
        made = await finalizers.add(self._client, service, FINALIZERS[kind])
        self._sight.services.note(made)
        return made

    async def _find(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer | None:
        """The balancer as it is; None: there never was one. Raises BadConfig, NotReady, CloudError."""
        recorded = (service.metadata.labels or {}).get(IDENTITY_LABEL, "")
        if model.reuse and recorded and recorded != model.reuse:
            raise BadConfig(
                f"annotation {PREFIX}id names {model.reuse}, and this Service has balancer {recorded}: "
                "delete the Service and create it again to change its balancer"
            )
        cloud = self._clouds[model.kind]
        seen = await cloud.find(model.owner, model.reuse or recorded)
        if seen is None and not model.reuse and recorded:
            seen = await cloud.find(model.owner)
        if seen is None:
            self._check_missing(service, model, recorded)
            return None
        self._memories[service.key].missed_at = None
        if fault := lending_fault(model, seen):
            raise BadConfig(fault)
        if not model.reuse and LENT_TAG in seen.tags:
            raise BadConfig(
                f"balancer {seen.identity} is lent to this Service, and annotation {PREFIX}id is gone: "
                "set it again, or delete the Service and create it anew"
            )
        if fault := ownership_fault(model, seen):
            raise BadConfig(fault)
        return seen

    def _check_missing(self, service: Service, model: LoadBalancerModel, recorded: str) -> None:
        """Raise NotReady when there should be a balancer: a lost answer must not give the Service a second one."""
        if model.reuse:
            raise NotReady(f"load balancer {model.reuse}, which annotation {PREFIX}id names, does not exist")
        if not recorded and not service.status.loadBalancer.ingress:
            return
        name = recorded or model.name
        if self._is_missing_for_good(service.key):
            text = f"load balancer {name} was deleted; delete the Service and create it anew to get another"
            self._say(service, "Warning", "LoadBalancerNotFound", text)
        raise NotReady(f"load balancer {name} cannot be found; none is made in its place")

    def _is_missing_for_good(self, key: str) -> bool:
        """Whether a balancer was missed by two looks, far enough apart."""
        memory, now = self._memories[key], self._clock()
        if memory.missed_at is None:
            memory.missed_at = now
        return now - memory.missed_at >= self._timing.confirm

    async def _apply(
        self, service: Service, model: LoadBalancerModel, seen: ObservedLoadBalancer | None
    ) -> ObservedLoadBalancer:
        if seen is None:
            seen = await self._create(service, model)
        self._say(service, "Warning", "CannotBeChanged", *immutable(model, seen))
        await self._carry_out(service, model.kind, plan(model, seen), seen)
        return seen

    async def _create(self, service: Service, model: LoadBalancerModel) -> ObservedLoadBalancer:
        """Make the balancer and note its identity at once: the rest is planned for what there is then."""
        cloud = self._clouds[model.kind]
        identity = await self._carry_out(service, model.kind, plan(model, None)[:1], None)
        await self._patch(service, {"labels": {IDENTITY_LABEL: identity}})
        seen = await cloud.find(model.owner, identity)
        if seen is None:
            raise NotReady(f"load balancer {identity} was made and cannot be seen yet")
        return seen

    async def _carry_out(
        self, service: Service, kind: Kind, steps: Sequence[Step], seen: ObservedLoadBalancer | None
    ) -> str:
        if not steps:
            return seen.identity if seen else ""
        for step in steps:
            log.info("step", service=service.key, balancer=seen.identity if seen else "", step=str(step))
        identity = await self._clouds[kind].carry_out(steps, seen)
        log.info("steps carried out", service=service.key, balancer=identity, steps=len(steps))
        return identity

    async def _publish(
        self, service: Service, model: LoadBalancerModel, seen: ObservedLoadBalancer
    ) -> list[LoadBalancerIngress]:
        """Say in the Service what its balancer is and where it is reached."""
        current = self._sight.services.get(service.key) or service
        if (current.metadata.labels or {}).get(IDENTITY_LABEL) != seen.identity:
            await self._patch(service, {"labels": {IDENTITY_LABEL: seen.identity}})
        by_name = model.kind == "nlb" or model.hostname
        name = model.hostname or seen.address
        ingress = [LoadBalancerIngress(hostname=name) if by_name else LoadBalancerIngress(ip=seen.address)]
        if service.status.loadBalancer.ingress != ingress:
            await self._publish_ingress(service, ingress)
            self._say(service, "Normal", "EnsuredLoadBalancer", f"Ensured load balancer [{seen.identity}] at {name}")
        return ingress

    async def _publish_ingress(self, service: Service, ingress: Sequence[LoadBalancerIngress]) -> None:
        texts = [
            {key: value for key, value in (("ip", each.ip), ("hostname", each.hostname)) if value} for each in ingress
        ]
        body = {"status": {"loadBalancer": {"ingress": texts or None}}}
        made = await self._client.patch(Service, service.name, body, service.metadata.namespace, sub="status")
        self._sight.services.note(made)

    def _report_unresolved(self, service: Service, model: LoadBalancerModel) -> None:
        """Ask again for ENIs that nobody knew: an address that was registered just now is found a little later."""
        if model.unresolved:
            self._memories[service.key].done = None
            raise NotReady(
                f"no ENI is known to have the pod addresses {', '.join(model.unresolved)}; "
                "the pods get no traffic from the balancer until one is"
            )

    # Servers

    async def _world(self, service: Service, options: Options) -> BackendSnapshot:
        slices = self._slices.get(service.key)
        enis: Mapping[str, str] = {}
        if uses_pods(options, self._configuration):
            enis = await self._enis_of(pod_addresses(service.spec.ports or (), slices, options))
        return BackendSnapshot(self._sight.nodes.items(), slices, enis)

    async def _enis_of(self, addresses: Collection[str]) -> Mapping[str, str]:
        """ENIs as the nodes tell them; for the rest the cloud is asked."""
        told = told_enis(self._sight.nodes.items())
        now = self._clock()
        kept = {address: eni for address, (eni, until) in self._looked_up.items() if until > now}
        unknown = [address for address in addresses if address not in told and address not in kept]
        asked = await self._enis.holders(unknown) if unknown else {}
        until = now + self._timing.period
        self._looked_up = {key: self._looked_up[key] for key in kept} | {key: (asked[key], until) for key in asked}
        return {**kept, **asked, **told}

    # Taking back

    async def _release(self, service: Service, kind: Kind) -> None:
        """Take back what a Service was given that no longer asks for it.

        It is read once more: a deletion in the cloud needs the word of the API server and of the tags.
        """
        try:
            fresh = await self._client.get(Service, service.name, service.metadata.namespace)
        except NotFound:
            return
        if fresh.metadata.uid != service.metadata.uid or (not fresh.terminating and kind_of(fresh) == kind):
            raise NotReady("the Service has changed meanwhile; it is looked at again")
        owner, identity = owner_of(fresh, self._configuration), _identity(fresh, kind)
        seen = await self._clouds[kind].find(owner, identity)
        if seen is None and identity:
            seen = await self._clouds[kind].find(owner)
        if seen is None:
            await self._confirm_missing(fresh)
        else:
            await self._take_back(fresh, kind, seen)
        await self._let_go(fresh, kind)

    async def _confirm_missing(self, service: Service) -> None:
        """Return when two looks have missed the balancer. Raises NotReady before: a lost answer must leak none."""
        if not self._is_missing_for_good(service.key):
            raise NotReady("the load balancer cannot be found; it is looked for once more before the Service goes")

    async def _take_back(self, service: Service, kind: Kind, seen: ObservedLoadBalancer) -> None:
        owner, preserve = owner_of(service, self._configuration), _preserves(service, kind)
        steps = removal(kind, owner, seen, preserve=preserve)
        await self._carry_out(service, kind, steps, seen)
        if not is_own(seen, owner):
            what, reason = "is not ours and stays", "ReturnedLoadBalancer"
        else:
            what = "was preserved" if preserve else "was deleted"
            reason = "PreservedLoadBalancer" if preserve else "DeletedLoadBalancer"
        self._say(service, "Normal", reason, f"load balancer [{seen.identity}] {what}")

    async def _let_go(self, service: Service, kind: Kind) -> None:
        """Forget the balancer and let the Service go; meanwhile somebody else may have put a finalizer on it."""
        self._memories.pop(service.key, None)
        with suppress(NotFound):
            if not service.terminating and service.status.loadBalancer.ingress:
                await self._publish_ingress(service, [])
            fresh = await self._client.get(Service, service.name, service.metadata.namespace)
            made = await finalizers.remove(self._client, fresh, FINALIZERS[kind], labels={IDENTITY_LABEL: None})
            if made is not None:
                self._sight.services.note(made)

    async def _patch(self, service: Service, metadata: Mapping[str, Any]) -> Service:
        """Change metadata."""
        made = await self._client.patch(Service, service.name, {"metadata": metadata}, service.metadata.namespace)
        self._sight.services.note(made)
        return made

    def _say(self, service: Service, type: str, reason: str, *messages: str, repeat: bool = False) -> None:
        """Record events, one for each message; the same ones again only when asked to ``repeat``."""
        memory = self._memories[service.key]
        if not repeat and memory.said.get(reason, ()) == messages:
            return
        memory.said[reason] = messages
        for message in messages:
            self._recorder.event(service, type, reason, message)


async def region_of(nodes: Informer[Node]) -> str:
    """The region of the nodes, as soon as one of them says where it is."""
    while True:
        for node in nodes.items():
            region, _, instance = (node.spec.providerID or "").removeprefix(SCHEME).partition(".")
            if region and instance:
                return region
        log.warning("no node has a provider ID yet; load balancers wait")
        await asyncio.sleep(IDLE)


async def slice_kind(client: Client) -> type[EndpointSlice]:
    """The version of EndpointSlice that the server speaks: v1, or v1beta1 before Kubernetes 1.21."""
    kind = EndpointSlice.KIND
    return EndpointSlice if await find_kind(client, kind.api_version, kind.name) else EndpointSliceV1Beta1


def _concerns_us(service: Service) -> bool:
    return bool(_held_kinds(service)) or kind_of(service) is not None


def _held_kinds(service: Service) -> list[Kind]:
    """Kinds of balancers by whose finalizers a Service is held."""
    held = service.metadata.finalizers or ()
    return [kind for kind, finalizer in FINALIZERS.items() if finalizer in held]


def _service_of(seen: EndpointSlice) -> str | None:
    name = (seen.metadata.labels or {}).get(SERVICE_LABEL)
    return f"{seen.metadata.namespace}/{name}" if name else None


def _part(node: Node) -> Iterable[object]:
    """What matters of a node: its heartbeats change it every few seconds."""
    ready = [condition.status for condition in node.status.conditions or () if condition.type == "Ready"]
    instance = (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION)
    return node.metadata.labels, node.spec, ready, instance


def _identity(service: Service, kind: Kind) -> str:
    """The balancer that a Service names, or was given."""
    recorded = (service.metadata.labels or {}).get(IDENTITY_LABEL, "")
    return recorded or read(service.metadata.annotations or {}, kind)["id"]


def _preserves(service: Service, kind: Kind) -> bool:
    """Whether the balancer outlives the Service; it does, too, when the annotation says something that is no answer."""
    options = read(service.metadata.annotations or {}, kind)
    unclear = any("preserve-lb-on-delete" in fault for fault in options.faults)
    return unclear or options.on("preserve-lb-on-delete")
