"""A pod's networks in one call: which networks, which addresses, which interfaces; and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import assert_never

import msgspec

from spiderpool.agent import interfaces
from spiderpool.agent.addresses import Addresses, Want
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import refresh
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.network_status import NetworkStatusPublisher
from spiderpool.api.cni import (
    CNICall,
    IPAMConfig,
    PodArgs,
    Result,
    ResultInterface,
    ResultIP,
    parse_args,
    read_result,
    with_default_routes,
)
from spiderpool.api.core_v1 import Pod
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.network.chains import Chain, Delegated, Invocation, read_network
from spiderpool.core.network.coordinator import coordination, wished_default_route
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.core.network.plumbing.values import Attachment, everything
from spiderpool.core.network.pod_networks import (
    RequestedNetwork,
    check_isolation,
    check_own,
    default_route_of,
    gateways_of,
    networks_of,
)
from spiderpool.core.network.status import AttachedNetwork
from spiderpool.errors import AddressInUse, SpiderpoolError


@dataclass(frozen=True, slots=True)
class Planned:
    """A network of a pod, with all that is known of it before anything is made."""

    request: RequestedNetwork
    chain: Chain | Delegated
    default_route: RequestedNetwork | None
    """The network that the pod chose for its default route, where it chose one."""

    @property
    def interface(self) -> str:
        """Name of the interface in the pod."""
        return self.request.interface


class Attacher:
    """ADD, DEL and CHECK for pods of this node, whole or addresses only."""

    def __init__(
        self,
        cluster: ClusterCache,
        addresses: Addresses,
        sandboxes: AttachmentStore,
        delegates: DelegateExecutor,
        statuses: NetworkStatusPublisher,
        detection: Detection,
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._sandboxes = sandboxes
        self._delegates = delegates
        self._statuses = statuses
        self._detection = detection
        self._containers = KeyedLock()

    async def add(self, call: CNICall) -> Result:
        """Give the pod all its interfaces or none; the first one's result. Asked again, repeats what was begun."""
        pod = await self._pod(call)
        wanted = self._wanted(pod, call.ifname)
        async with self._containers.held(call.container_id):
            self._sandboxes.save(_sandbox(call, wanted))
            granted = await self._addresses.give(pod, *_wants(wanted))
            results = await self._make_all(call, pod, wanted, granted)
        attached = (
            AttachedNetwork(each.request.network, each.interface, result, each.request.gateways or ())
            for each, result in zip(wanted, results, strict=True)
        )
        self._statuses.publish(pod, tuple(attached))
        return results[0]

    async def delete(self, call: CNICall) -> None:
        """Take all interfaces away, and their addresses unless the pod lives on and will be attached again."""
        async with self._containers.held(call.container_id):
            sandbox = self._sandboxes.load(call.container_id) or _unknown(call)
            args = _pod_args(call.environment.get("CNI_ARGS") or sandbox.cni_args)
            await self._take_away(sandbox, call.netns, args)

    async def collect(self, valid: Collection[str]) -> list[SpiderpoolError]:
        """Take away the sandboxes of containers other than ``valid``; what failed. Those at work now are left alone."""
        failures: list[SpiderpoolError] = []
        for sandbox in list(self._sandboxes.all()):
            container = sandbox.container_id
            if container in valid or self._containers.is_held(container):
                continue
            try:
                async with self._containers.held(container):
                    await self._take_away(sandbox, sandbox.netns, _pod_args(sandbox.cni_args))
            except SpiderpoolError as error:
                failures.append(error)
        return failures

    def sandboxes(self) -> Iterator[SandboxRecord]:
        """All that a file tells of."""
        return self._sandboxes.all()

    async def _take_away(self, sandbox: SandboxRecord, netns: str, args: PodArgs | None) -> None:
        """All interfaces, the last one first; then the file. Raises the first failure, after all were tried."""
        failures: list[SpiderpoolError] = []
        releases = args is not None and not self._is_attached_anew(sandbox, args)
        for each in reversed(sandbox.interfaces):
            try:
                await self._unmake(sandbox, netns, each)
                if args is not None and releases:
                    await self._addresses.release(args, each.name)
            except SpiderpoolError as error:  # an address is kept as long as its interface may be there
                failures.append(error)
        if failures:
            raise failures[0]
        self._sandboxes.forget(sandbox.container_id)

    async def check(self, call: CNICall) -> None:
        """Raises Drift when record, interface, address or route is not as ADD left it."""
        pod = await self._pod(call)
        sandbox = self._sandboxes.load(call.container_id) or _unknown(call)
        results = {each.name: each.result.encode() for each in sandbox.interfaces}
        for each in self._wanted(pod, call.ifname):
            match each.chain:
                case Chain():
                    ipam = each.chain.ipam
                    granted = self._addresses.check(pod, each.interface, ipam) if ipam else ()
                    await interfaces.check(self._attachment(call, pod, each, each.chain, granted))
                case Delegated():
                    previous = results.get(each.interface, b"")
                    await self._delegates.check(each.chain, _invocation(call, each.request), previous)
                case _:
                    assert_never(each.chain)

    async def add_address(self, call: CNICall, config: IPAMConfig, ips: tuple[str, ...] = ()) -> Result:
        """The addresses alone: we are called as the ``ipam`` plugin of another interface plugin.

        ``ips`` are those that the pod asks for, if any.
        """
        granted = await self._addresses.give(await self._pod(call), Want(call.ifname, config, ips))
        each = granted[call.ifname]
        return Result(
            ips=tuple(ResultIP(one.address, one.gateway) for one in each),
            routes=tuple(route for one in each for route in one.all_routes),
        )

    async def check_address(self, call: CNICall, config: IPAMConfig) -> None:
        """Raises Drift when the pod's interface lacks an address."""
        self._addresses.check(await self._pod(call), call.ifname, config)

    async def delete_address(self, call: CNICall) -> None:
        """Give the addresses back, unless the pod lives on."""
        args = _pod_args(call.environment.get("CNI_ARGS", ""))
        if args is not None:
            await self._addresses.release(args, call.ifname)

    async def refresh(self) -> None:
        """Tell all pods of this node the addresses that their node has now; a pod where that fails is passed over."""
        await refresh(self._sandboxes.all(), self._containers)

    def _is_attached_anew(self, sandbox: SandboxRecord, args: PodArgs) -> bool:
        """Whether the pod has another sandbox, which uses the same addresses."""
        others = (each for each in self._sandboxes.all() if each.container_id != sandbox.container_id)
        return any(_pod_args(each.cni_args) == args for each in others)

    async def _pod(self, call: CNICall) -> Pod:
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        return await self._cluster.pod(args.namespace, args.name, args.uid)

    def _wanted(self, pod: Pod, first: str) -> tuple[Planned, ...]:
        """The pod's networks, the first interface's first; ``first`` is its name."""
        policy, namespace = self._addresses.policy, pod.metadata.namespace or ""
        networks = networks_of(
            pod.metadata.annotations or {}, namespace, policy.default_network, policy.namespace, first
        )
        check_isolation(namespace, networks[1:], policy.isolated, policy.shared_namespaces)
        chosen = default_route_of(networks)
        return tuple(
            Planned(each, read_network(each.network, self._cluster.networks.get(each.network)), chosen)
            for each in networks
        )

    async def _make_all(
        self, call: CNICall, pod: Pod, wanted: tuple[Planned, ...], granted: dict[str, tuple[Grant, ...]]
    ) -> list[Result]:
        results: list[Result] = []
        begun: list[Planned] = []
        try:
            for each in wanted:
                begun.append(each)
                results.append(await self._make(call, pod, each, granted.get(each.interface, ())))
        except BaseException as error:
            await _to_the_end(self._undo(_sandbox(call, begun), error))
            raise
        return results

    async def _make(self, call: CNICall, pod: Pod, each: Planned, granted: tuple[Grant, ...]) -> Result:
        match each.chain:
            case Chain():
                return await self._make_interface(call, pod, each, each.chain, granted)
            case Delegated():
                return await self._execute(call, each, each.chain)
            case _:
                assert_never(each.chain)

    async def _make_interface(
        self, call: CNICall, pod: Pod, each: Planned, chain: Chain, granted: tuple[Grant, ...]
    ) -> Result:
        attachment = self._attachment(call, pod, each, chain, granted)
        if chain.parent is not None:
            await interfaces.ensure_parent(chain.parent)
        await self._probe(call, attachment)
        attached = await interfaces.add(attachment)
        return Result(
            ips=tuple(ResultIP(one.address, one.gateway, 0) for one in granted),
            routes=_routes(attachment),
            interfaces=(ResultInterface(each.interface, attached.mac, attached.mtu, attached.sandbox),),
        )

    async def _probe(self, call: CNICall, attachment: Attachment) -> None:
        """Look for others who use the addresses, where the settings say so; such an address is not tried again soon."""
        if not (self._detection.conflicts or self._detection.gateway):
            return
        try:
            await interfaces.probe(attachment, self._detection)
        except AddressInUse:
            await self._addresses.release_conflicting(parse_args(call.environment.get("CNI_ARGS", "")))
            raise

    async def _execute(self, call: CNICall, each: Planned, network: Delegated) -> Result:
        output = await self._delegates.add(network, _invocation(call, each.request))
        output = await self._default_as_wished(call, each, output)
        sandbox = self._sandboxes.load(call.container_id) or _unknown(call)
        self._sandboxes.save(_with_result(sandbox, each.interface, output))
        return read_result(output)

    async def _default_as_wished(self, call: CNICall, each: Planned, output: bytes) -> bytes:
        """Plugins do not know which of the pod's networks is to have its default route; the result as it is then."""
        if each.default_route in (None, each.request):
            asked = each.request.gateways or ()
            gateways, if_free = tuple(map(ip_address, asked)), each.default_route is None
            left = await interfaces.place_default(call.netns, each.interface, gateways, if_free=if_free)
            return with_default_routes(output, left, asked)
        return with_default_routes(output, await interfaces.place_default(call.netns, each.interface, None), ())

    async def _undo(self, begun: SandboxRecord, cause: BaseException) -> None:
        """Take away what was made, last first, and let the failure that led here be the one that is reported."""
        known = self._sandboxes.load(begun.container_id) or begun
        for each in reversed(known.interfaces[: len(begun.interfaces)]):
            try:
                await self._unmake(known, begun.netns, each)
            except SpiderpoolError as error:
                cause.add_note(f"and {each.name} could not be removed: {error}")

    async def _unmake(self, sandbox: SandboxRecord, netns: str, each: InterfaceRecord) -> None:
        if not each.plugins:
            await interfaces.remove(sandbox.container_id, netns, each.name)
            return
        network = Delegated(each.chain, each.version, tuple(raw.encode() for raw in each.plugins))
        about = Invocation(
            sandbox.container_id,
            netns,
            each.name,
            sandbox.cni_args,
            each.request.get("capabilities", {}),
            each.request.get("arguments", {}),
        )
        await self._delegates.delete(network, about, each.result.encode())

    def _attachment(
        self, call: CNICall, pod: Pod, each: Planned, chain: Chain, granted: tuple[Grant, ...]
    ) -> Attachment:
        check_own(each.request)
        wish = (
            each.default_route.interface if each.default_route else wished_default_route(pod.metadata.annotations or {})
        )
        return Attachment(
            container_id=call.container_id,
            netns=call.netns,
            ifname=each.interface,
            kind=chain.kind,
            master=chain.master,
            mode=chain.interface.mode,
            mtu=chain.interface.mtu,
            addresses=tuple(ip_interface(one.address) for one in granted),
            gateways=tuple(ip_address(gateway) for gateway in _gateways(each, granted)),
            routes=tuple((ip_network(dst, strict=False), ip_address(gw)) for one in granted for dst, gw in one.routes),
            coordination=coordination(
                chain.coordinator if granted else None,
                self._cluster.coordinator(),
                first_nic=call.ifname,
                default_route_nic=wish,
            ),
            mac=each.request.mac or chain.interface.mac,
            vlan_id=chain.interface.vlanId,
        )


def _wants(wanted: Iterable[Planned]) -> Iterable[Want]:
    for each in wanted:
        if isinstance(each.chain, Chain) and each.chain.ipam is not None:
            yield Want(each.interface, each.chain.ipam, each.request.ips)


def _gateways(each: Planned, granted: Iterable[Grant]) -> tuple[str, ...]:
    given = tuple(one.gateway for one in granted if one.gateway)
    return gateways_of(each.request, each.default_route, given)


def _routes(attachment: Attachment) -> tuple[tuple[str, str], ...]:
    defaults = ((everything(gateway.version), gateway) for gateway in attachment.gateways)
    return tuple((str(dst), str(gw)) for dst, gw in (*defaults, *attachment.routes))


def _sandbox(call: CNICall, wanted: Iterable[Planned]) -> SandboxRecord:
    cni_args = call.environment.get("CNI_ARGS", "")
    return SandboxRecord(call.container_id, call.netns, cni_args, tuple(map(_interface, wanted)))


def _interface(each: Planned) -> InterfaceRecord:
    match each.chain:
        case Chain():
            return InterfaceRecord(each.interface, each.request.network, coordinated=each.chain.coordinator is not None)
        case Delegated(name, version, plugins, _):
            return InterfaceRecord(
                each.interface,
                each.request.network,
                chain=name,
                version=version,
                coordinated=each.chain.coordinated,
                plugins=tuple(raw.decode() for raw in plugins),
                request={"capabilities": each.request.asked(), "arguments": dict(each.request.cni_args)},
            )
        case _:
            assert_never(each.chain)


def _unknown(call: CNICall) -> SandboxRecord:
    """A sandbox of which no file tells: one interface that the agent made."""
    return SandboxRecord(
        call.container_id, call.netns, call.environment.get("CNI_ARGS", ""), (InterfaceRecord(call.ifname, ""),)
    )


def _pod_args(text: str) -> PodArgs | None:
    """Of which pod a call speaks; None where it says nothing, as a DEL may."""
    return parse_args(text) if text else None


def _with_result(sandbox: SandboxRecord, interface: str, output: bytes) -> SandboxRecord:
    told = (
        msgspec.structs.replace(each, result=output.decode()) if each.name == interface else each
        for each in sandbox.interfaces
    )
    return msgspec.structs.replace(sandbox, interfaces=tuple(told))


def _invocation(call: CNICall, request: RequestedNetwork) -> Invocation:
    cni_args = call.environment.get("CNI_ARGS", "")
    arguments = dict(request.cni_args)
    return Invocation(call.container_id, call.netns, request.interface, cni_args, request.asked(), arguments)


async def _to_the_end(work: Awaitable[None]) -> None:
    """Finish work though the caller is being cancelled, perhaps a second time."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
