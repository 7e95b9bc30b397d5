"""A pod's network in one call: which network, which addresses, which interface; and the way back."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.agent import interfaces
from spiderpool.agent.addresses import Addresses
from spiderpool.agent.cluster import Cluster
from spiderpool.agent.locks import KeyedLock
from spiderpool.api.cni import Call, IPAMConfig, Result, ResultIP, parse_args
from spiderpool.api.core_v1 import Pod
from spiderpool.core.allocation import Grant
from spiderpool.core.networks import Chain, coordination, default_network, read_network
from spiderpool.core.plumbing import Attachment


class Attacher:
    """ADD, DEL and CHECK for pods of this node, whole or addresses only."""

    def __init__(self, cluster: Cluster, addresses: Addresses) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._containers = KeyedLock()

    async def add(self, call: Call) -> Result:
        """Give the pod its interface. Asked again, finishes or repeats what was begun."""
        pod = await self._pod(call)
        chain = self._chain(pod)
        async with self._containers.held(call.container_id):
            granted = await self._addresses.give(pod, call.ifname, chain.ipam)
            attached = await interfaces.add(self._attachment(call, chain, granted))
        return Result(
            ips=_ips(granted),
            routes=_routes(granted),
            interface=call.ifname,
            mac=attached.mac,
            mtu=attached.mtu,
            sandbox=attached.sandbox,
        )

    async def delete(self, call: Call) -> None:
        """Take the interface away, and its addresses unless the pod lives on and will be attached again."""
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        async with self._containers.held(call.container_id):
            await interfaces.remove(call.container_id, call.netns, call.ifname)
            await self._addresses.release(args, call.ifname)

    async def check(self, call: Call) -> None:
        """Raises Drift when record, interface, address or route is not as ADD left it."""
        pod = await self._pod(call)
        chain = self._chain(pod)
        granted = self._addresses.check(pod, call.ifname, chain.ipam)
        await interfaces.check(self._attachment(call, chain, granted))

    async def add_address(self, call: Call, config: IPAMConfig) -> Result:
        """The addresses alone: we are called as the ``ipam`` plugin of another interface plugin."""
        granted = await self._addresses.give(await self._pod(call), call.ifname, config)
        return Result(ips=_ips(granted), routes=_routes(granted))

    async def check_address(self, call: Call, config: IPAMConfig) -> None:
        """Raises Drift when the pod's interface lacks an address."""
        self._addresses.check(await self._pod(call), call.ifname, config)

    async def delete_address(self, call: Call) -> None:
        """Give the addresses back, unless the pod lives on."""
        await self._addresses.release(parse_args(call.environment.get("CNI_ARGS", "")), call.ifname)

    async def _pod(self, call: Call) -> Pod:
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        return await self._cluster.pod(args.namespace, args.name, args.uid)

    def _chain(self, pod: Pod) -> Chain:
        policy = self._addresses.policy
        network = default_network(pod.metadata.annotations or {}, policy.default_network, policy.namespace)
        return read_network(network, self._cluster.networks.get(network))

    def _attachment(self, call: Call, chain: Chain, granted: tuple[Grant, ...]) -> Attachment:
        return Attachment(
            container_id=call.container_id,
            netns=call.netns,
            ifname=call.ifname,
            kind=chain.interface_type,
            master=chain.interface.master,
            mode=chain.interface.mode,
            mtu=chain.interface.mtu,
            addresses=tuple(ip_interface(one.address) for one in granted),
            gateways=tuple(ip_address(one.gateway) for one in granted if one.gateway),
            routes=tuple((ip_network(dst, strict=False), ip_address(gw)) for one in granted for dst, gw in one.routes),
            coordination=coordination(chain.coordinator, self._cluster.coordinator()),
        )


def _ips(granted: tuple[Grant, ...]) -> tuple[ResultIP, ...]:
    return tuple(ResultIP(one.address, one.gateway) for one in granted)


def _routes(granted: tuple[Grant, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(route for one in granted for route in one.all_routes)
