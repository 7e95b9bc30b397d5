"""The plugin ``spiderpool-attach``: all networks of a pod in one call, and their removal.

ADD, step by step, each passing one value to the next:

    CNICall ──plan_pod──▶ PodAttachment ──PodAddresses.allocate──▶ Grants ──kernel_attachment──▶ Attachment
            ──interfaces.add──▶ CNI result ──host_ports──▶ HostPorts.add
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import assert_never

import msgspec

from spiderpool.agent import interfaces
from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.address_holders import AddressHolders
from spiderpool.agent.addresses import Grants, PodAddresses
from spiderpool.agent.attachment_store import (
    AttachmentStore,
    InterfaceRecord,
    SandboxRecord,
    assumed_record,
    own_netns,
    sandbox_record,
)
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.failures import noted
from spiderpool.agent.hostports import HostPorts
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.agent.pod_kernel import PodKernel
from spiderpool.agent.pod_routes import PodRoutes
from spiderpool.agent.sandboxes import on_file
from spiderpool.api import event_reasons
from spiderpool.api.cni import CNICall, PluginConfig, PodArgs, PortMapping, requested_ports
from spiderpool.api.cni_result import (
    Result,
    ResultInterface,
    all_addresses,
    pod_addresses,
    read_result,
    with_default_routes,
)
from spiderpool.api.core_v1 import Pod
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.network.attachment import (
    InterfacePlan,
    PodAttachment,
    SandboxTarget,
    cni_result,
    kernel_attachment,
    plan_pod,
    with_ports,
)
from spiderpool.core.network.chains import Chain, DelegatedNetwork, Invocation
from spiderpool.core.network.coordinator import rule_table
from spiderpool.core.network.hostports import host_ports, unserved
from spiderpool.core.network.plumbing.values import Attachment, Loan
from spiderpool.core.network.status import AttachedNetwork, network_status
from spiderpool.errors import AddressInUse, KernelFailure, SpiderpoolError, raise_all
from spiderpool.kube.events import Recorder
from spiderpool.telemetry import ADDRESS_CONFLICTS, CLAIM_SECONDS, DECIDE_SECONDS, KERNEL_SECONDS, WAIT_SECONDS, logger

log = logger("attach")


@dataclass(frozen=True, slots=True)
class AttachmentEffects:
    """What attaching a pod does beside its addresses and the interfaces that the agent makes itself."""

    delegates: DelegateExecutor
    host_ports: HostPorts
    account: AccountPublisher
    recorder: Recorder
    kernel: PodKernel = interfaces
    metadata: MetadataAccess = field(default_factory=MetadataAccess)


class Attacher:
    """ADD, DEL and CHECK for the pods of this node."""

    def __init__(
        self, cluster: ClusterCache, addresses: PodAddresses, store: AttachmentStore, effects: AttachmentEffects
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._store = store
        self._delegates = effects.delegates
        self._host_ports = effects.host_ports
        self._account = effects.account
        self._recorder = effects.recorder
        self._kernel = effects.kernel
        self._metadata = effects.metadata
        self._containers = KeyedLock()  # by container ID: one call at a time works on a sandbox and its file
        self._routes = PodRoutes(cluster, self._containers, AddressHolders(cluster, (store,)))

    async def add(self, call: CNICall, config: PluginConfig) -> Result:
        """Attach the pod to all its networks, or to none; the result of the first interface. May be repeated.

        ``config`` is the runtime's: the name of its list, and the ports of the node that are to lead to the pod.
        """
        began = time.perf_counter()
        pod = await self._cluster.living_pod(call.required_pod())
        async with self._containers.held(call.container_id):
            WAIT_SECONDS.observe(time.perf_counter() - began)
            with DECIDE_SECONDS.time():
                attachment = self._plan(call, pod, requested_ports(config))
            uid = call.required_pod().uid
            holder = self._addresses.holder_uid(call.required_pod(), pod)
            # First, so that DEL finds it after a crash, and the node's account lists it before it has an address.
            table = rule_table(self._cluster.coordinator())
            known = self._store.load(call.container_id)
            sandbox = sandbox_record(call, attachment.interfaces, config.name, holder, table)
            sandbox = msgspec.structs.replace(sandbox, loans=known.loans if known else {})
            self._store.save(sandbox)
            self._account.begin(on_file(sandbox))
            try:
                with CLAIM_SECONDS.time():
                    grants = await self._addresses.allocate(pod, uid, attachment.address_requests, attachment.networks)
                given = {name: [grant.address for grant in granted] for name, granted in grants.items()}
                self._store.save(sandbox.with_addresses(given))
                with KERNEL_SECONDS.time():
                    results = await self._create_all(call, attachment, grants)
                self._keep_status(call, attachment, results)
            finally:
                self._account.change(call.container_id)
        return results[0]

    async def delete(self, call: CNICall) -> None:
        """Remove all interfaces, and release their addresses unless the pod lives on and will be attached again."""
        async with self._containers.held(call.container_id):
            known = self._store.load(call.container_id)
            sandbox = known or assumed_record(call)
            await self._remove(sandbox, call.netns, call.pod or sandbox.pod, ended=known is not None)

    async def check(self, call: CNICall, config: PluginConfig) -> None:
        """Raises Drift when record, interface, address, route or host port is not as ADD left it."""
        pod = await self._cluster.pod(call.required_pod())
        attachment = self._plan(call, pod, requested_ports(config))
        sandbox = self._store.load(call.container_id) or assumed_record(call)
        results = {interface.name: interface.result.encode() for interface in sandbox.interfaces}
        for plan in attachment.interfaces:
            match plan.chain:
                case Chain():
                    granted = await self._check_addresses(call, attachment, plan)
                    desired = self._kernel_attachment(call, attachment, plan, granted)
                    desired = replace(desired, loan=sandbox.loans.get(plan.interface))
                    await self._kernel.check(self._routes.settled(desired))
                case DelegatedNetwork():
                    previous = results.get(plan.interface, b"")
                    await self._delegates.check(plan.chain, _invocation(call, plan), previous)
                case _:
                    assert_never(plan.chain)
        if config.prevResult is not None:
            addresses = pod_addresses(read_result(msgspec.json.encode(config.prevResult)))
            await self._host_ports.check(call.container_id, host_ports(attachment.ports, addresses))

    async def _check_addresses(
        self, call: CNICall, attachment: PodAttachment, plan: InterfacePlan
    ) -> tuple[Grant, ...]:
        """What an interface holds, none if it requests none. Raises Drift."""
        if plan.address_request is None:
            return ()
        uid = call.required_pod().uid
        return await self._addresses.check(attachment.pod, uid, attachment.networks, plan.address_request)

    async def collect(self, network: str, valid: Collection[str]) -> list[SpiderpoolError]:
        """Remove the sandboxes of a runtime's network whose containers are not ``valid``; the failures.

        Those whose calls are under way, and those that come meanwhile, stay.
        """
        return await self._collect(lambda each: each.network == network and each.container_id not in valid)

    async def collect_gone(self) -> list[SpiderpoolError]:
        """Remove what is left of sandboxes whose network namespace is gone, or another's by now; the failures."""
        failures: list[SpiderpoolError] = []
        with noted(failures):
            self._store.remove_drafts()
        known = list(self._store.all())
        return failures + await self._collect(lambda each: self._store.is_left(each, known))

    async def _collect(self, is_garbage: Callable[[SandboxRecord], bool]) -> list[SpiderpoolError]:
        failures: list[SpiderpoolError] = []
        for known in list(self._store.all()):
            with noted(failures):
                if is_garbage(known) and not self._containers.is_held(known.container_id):
                    await self._collect_one(known.container_id, is_garbage)
        return failures

    async def _collect_one(self, container: str, is_garbage: Callable[[SandboxRecord], bool]) -> None:
        async with self._containers.held(container):
            sandbox = self._store.load(container)  # as it is now: earlier removals may have taken long
            if sandbox is not None and is_garbage(sandbox):
                await self._remove(sandbox, sandbox.netns, sandbox.pod, ended=True)
                log.info("collected", container=container, pod=sandbox.cni_args)

    def sandboxes(self) -> Iterator[SandboxRecord]:
        """All sandboxes that have a file."""
        return self._store.all()

    def living(self) -> Iterator[SandboxRecord]:
        """All sandboxes that have a file and a network namespace."""
        return (each for each in self._store.all() if not self._store.is_gone(each))

    async def refresh(self) -> int:
        """Update the paths between all pods and their node; a pod where that fails is logged and skipped.

        Returns how many rules and routes of the node had to be made again.
        """
        return await self._routes.refresh(self._store.all())

    def _plan(self, call: CNICall, pod: Pod, ports: tuple[PortMapping, ...]) -> PodAttachment:
        """The plan of a pod's interfaces. Raises NotReady, or as `plan_pod`."""
        attachment = plan_pod(pod, call.ifname, self._addresses.policy.networks, self._cluster.networks.get)
        return with_ports(attachment, ports, self._cluster.coordinator())

    # --- ADD

    async def _create_all(self, call: CNICall, attachment: PodAttachment, grants: Grants) -> list[Result]:
        """Create the interfaces in order. After a failure those that were begun are removed again.

        Addresses that somebody else uses are released then, and tried last from now on. A sticky owner waits for its
        own: for the sandbox of its former pod to go, or for the other machine.
        """
        results: list[Result] = []
        begun: list[InterfacePlan] = []
        try:
            for plan in attachment.interfaces:
                begun.append(plan)
                results.append(await self._create(call, attachment, plan, grants.get(plan.interface, ())))
            await self._open_ports(call, attachment, results[0])
            if self._metadata.admits(call.pod):
                await self._metadata.admit(self._store.load(call.container_id))
        except BaseException as error:
            await _finish(self._undo(sandbox_record(call, begun), error))
            if isinstance(error, AddressInUse) and not self._metadata.is_leaving(call.container_id):
                await self._give_back(call, attachment.pod, error)
            raise
        return results

    async def _give_back(self, call: CNICall, pod: Pod, conflict: AddressInUse) -> None:
        """Release addresses of which somebody else uses one, unless they stay with the pod's owner; say so."""
        ADDRESS_CONFLICTS.inc()
        await self._addresses.release_conflicting(call.required_pod())
        outcome = "the pod's addresses are given back, and its next attempt gets others if there are any"
        if self._addresses.is_sticky(pod):
            outcome = "the pod's addresses stay with its owner, so it waits until this one is free"
        self._recorder.event(pod, event_reasons.ADDRESS_IN_CONFLICT, f"{conflict.message}; {outcome}")

    async def _create(
        self, call: CNICall, attachment: PodAttachment, plan: InterfacePlan, grants: tuple[Grant, ...]
    ) -> Result:
        match plan.chain:
            case Chain():
                return await self._create_interface(call, attachment, plan, grants, plan.chain)
            case DelegatedNetwork():
                return await self._execute(call, plan, plan.chain)
            case _:
                assert_never(plan.chain)

    async def _create_interface(
        self,
        call: CNICall,
        attachment: PodAttachment,
        plan: InterfacePlan,
        grants: tuple[Grant, ...],
        chain: Chain,
    ) -> Result:
        """Create an interface of a network that the agent attaches itself, and before it the bond or VLAN below it."""
        desired = self._kernel_attachment(call, attachment, plan, grants)
        if chain.parent is not None:
            await self._kernel.ensure_parent(chain.parent)
        if desired.kind == "host-device":
            desired = replace(desired, loan=await self._loan(call, desired))
        await self._probe(attachment.pod, desired)
        created = await self._kernel.add(desired)
        interface = ResultInterface(plan.interface, created.mac, created.mtu, created.sandbox)
        return cni_result(desired, grants, interface, chain)

    async def _loan(self, call: CNICall, desired: Attachment) -> Loan | None:
        """The loan of an interface's device, on file before the device leaves the node; one of another goes back."""
        sandbox = self._store.load(call.container_id) or assumed_record(call)
        known = sandbox.loans.get(desired.ifname)
        loan = await self._kernel.loan_of(desired.master)
        if known is not None and known.device != desired.master:
            await self._kernel.remove(call.container_id, call.netns, desired.ifname, known)
        elif loan is None:  # an earlier ADD has lent it
            return known
        if loan is not None:
            self._store.save(sandbox.with_loan(desired.ifname, loan))
        return loan

    def _kernel_attachment(
        self, call: CNICall, attachment: PodAttachment, plan: InterfacePlan, grants: tuple[Grant, ...]
    ) -> Attachment:
        target = SandboxTarget(call.container_id, call.netns)
        return kernel_attachment(target, attachment, plan, grants, self._cluster.coordinator())

    async def _probe(self, pod: Pod, desired: Attachment) -> None:
        """Detect others that use the addresses, and silent gateways, where the settings say so."""
        detection = self._addresses.detection(pod)
        if detection.conflicts or detection.gateway:
            await self._kernel.probe(desired, detection)

    async def _execute(self, call: CNICall, plan: InterfacePlan, network: DelegatedNetwork) -> Result:
        """Execute the plugins of a network and keep their result, which DEL and CHECK need."""
        output = await self._delegates.add(network, _invocation(call, plan))
        output = await self._with_default_route(call, plan, output)
        sandbox = self._store.load(call.container_id) or assumed_record(call)
        result = read_result(output)
        addresses = {plan.interface: all_addresses(result)}
        self._store.save(sandbox.with_result(plan.interface, output).with_addresses(addresses))
        return result

    async def _with_default_route(self, call: CNICall, plan: InterfacePlan, output: bytes) -> bytes:
        """Set the default route as the pod requests it, since executed plugins do not know its other networks.

        Returns the plugins' result with the default routes that the interface has then.
        """
        chosen, gateways = plan.default_route_network, plan.request.gateways or ()
        if chosen is not None and chosen != plan.request:  # it belongs to another network of the pod
            families = await self._kernel.place_default(call.netns, plan.interface, None)
            return with_default_routes(output, families, ())
        addresses, if_free = tuple(map(ip_address, gateways)), chosen is None
        families = await self._kernel.place_default(call.netns, plan.interface, addresses, if_free=if_free)
        return with_default_routes(output, families, gateways)

    async def _open_ports(self, call: CNICall, attachment: PodAttachment, first: Result) -> None:
        """Let the requested ports of the node lead to the pod; an Event of it names those that cannot."""
        if not attachment.ports and not attachment.port_faults:
            return await self._host_ports.add(call.container_id, ())
        addresses = pod_addresses(first)
        faults = (*attachment.port_faults, *unserved(attachment.ports, addresses))
        if faults:
            self._recorder.event(attachment.pod, event_reasons.HOST_PORT_UNAVAILABLE, "; ".join(faults))
        return await self._host_ports.add(call.container_id, host_ports(attachment.ports, addresses))

    def _keep_status(self, call: CNICall, attachment: PodAttachment, results: list[Result]) -> None:
        """Note what the pod is told of its networks: the account has it, and the controller writes it to the pod."""
        attached = (
            AttachedNetwork(plan.request.network, plan.interface, result, plan.request.gateways or ())
            for plan, result in zip(attachment.interfaces, results, strict=True)
        )
        sandbox = self._store.load(call.container_id) or assumed_record(call)
        self._store.save(msgspec.structs.replace(sandbox, status=network_status(attached)))

    async def _undo(self, begun: SandboxRecord, cause: BaseException) -> None:
        """Remove the interfaces that were begun, the last one first; failures become notes of ``cause``."""
        try:
            await self._metadata.withdraw(self._store, begun.container_id)
        except KernelFailure as error:
            cause.add_note(f"and its interfaces stay until DEL: {error}")
            return
        await self._host_ports.remove(begun.container_id)
        sandbox = self._store.load(begun.container_id) or begun  # the file also has the results of executed plugins
        for interface in reversed(sandbox.interfaces[: len(begun.interfaces)]):
            try:
                await self._remove_interface(sandbox, begun.netns, interface)
            except Exception as error:  # the others are removed all the same
                cause.add_note(f"and {interface.name} could not be removed: {error}")

    # --- DEL

    async def _remove(self, sandbox: SandboxRecord, netns: str, pod: PodArgs | None, *, ended: bool) -> None:
        """Remove what leads to the pod, all interfaces, the last one first, then the file. Raises after all were tried.

        ``ended`` says that it is a sandbox which this agent has attached, see `PodAddresses.release`.
        """
        self._account.change(sandbox.container_id)
        try:
            await self._remove_all(sandbox, netns, pod, ended=ended)
            self._store.forget(sandbox.container_id)
        finally:
            self._account.change(sandbox.container_id)

    async def _remove_all(self, sandbox: SandboxRecord, netns: str, pod: PodArgs | None, *, ended: bool) -> None:
        await self._metadata.withdraw(self._store, sandbox.container_id)
        await self._host_ports.remove(sandbox.container_id)
        netns = await self._own_netns(sandbox, netns, pod, known=ended)
        failures: list[SpiderpoolError] = []
        for interface in reversed(sandbox.interfaces):
            with noted(failures):  # an address is kept as long as its interface may exist
                await self._remove_interface(sandbox, netns, interface)
                # Looked at each time: the ADD of the pod's next sandbox may have come meanwhile.
                if pod is not None and not await self._is_used_by_another(sandbox, interface, pod):
                    await self._addresses.release(pod, interface.name, ended=ended)
        raise_all(failures)

    async def _own_netns(self, sandbox: SandboxRecord, netns: str, pod: PodArgs | None, *, known: bool) -> str:
        """The path of the sandbox's namespace; empty where another sandbox's is there by now, or none.

        Of a sandbox that is not ``known``, as it has no file, its interface's addresses tell whether it is another's.
        """
        path = own_netns(sandbox, netns, self._store.all())
        if path and not known:
            others = self._addresses.of_others(pod)
            if await self._kernel.is_of_another(sandbox.container_id, path, sandbox.interfaces[0].name, others):
                path = ""
        if path != netns:
            log.warning("the namespace is another sandbox's by now", container=sandbox.container_id, netns=netns)
        return path

    async def _is_used_by_another(self, sandbox: SandboxRecord, interface: InterfaceRecord, pod: PodArgs) -> bool:
        """Whether another sandbox of the pod uses an interface's address.

        A later one does: the runtime has restarted the pod. A former one does only as long as it has the interface.
        """
        for other in self._store.all():
            if other.container_id == sandbox.container_id or other.pod != pod or self._store.is_gone(other):
                continue
            later = other.attached_at >= sandbox.attached_at
            if later or await self._kernel.has_link(other.netns, interface.name):
                return True
        return False

    async def _remove_interface(self, sandbox: SandboxRecord, netns: str, interface: InterfaceRecord) -> None:
        network = interface.network_executed
        if network is None:
            await self._kernel.remove(sandbox.container_id, netns, interface.name, sandbox.loans.get(interface.name))
        else:
            invocation = sandbox.invocation(interface, netns)
            await self._delegates.delete(network, invocation, interface.result.encode())


def _invocation(call: CNICall, plan: InterfacePlan) -> Invocation:
    request = plan.request
    capabilities, arguments = request.runtime_config(), dict(request.cni_args)
    return Invocation(call.container_id, call.netns, plan.interface, call.cni_args, capabilities, arguments)


async def _finish(work: Awaitable[None]) -> None:
    """Complete work although the caller is being cancelled, perhaps a second time."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
