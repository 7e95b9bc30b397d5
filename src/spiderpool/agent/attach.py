"""A pod's network in one call: which network, which address, which interface; and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

from spiderpool.agent import interfaces
from spiderpool.agent.cluster import Cluster
from spiderpool.agent.ipam import Allocator
from spiderpool.agent.locks import KeyedLock
from spiderpool.api.cni import Call, IPAMConfig, PodArgs, Result, ResultIP, parse_args
from spiderpool.api.core_v1 import Pod
from spiderpool.core.allocation import Grant
from spiderpool.core.networks import Chain, coordination, default_network, read_network
from spiderpool.core.plumbing import Attachment
from spiderpool.core.reclaim import is_alive
from spiderpool.core.selection import Ask
from spiderpool.errors import Drift, Refused
from spiderpool.kube.events import Recorder

EVENT_REFUSED = "AddressRefused"
FIRST_INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the settings say of pods that ask for nothing special."""

    network: str | None
    namespace: str


class Attacher:
    """ADD, DEL and CHECK for pods of this node, whole or addresses only."""

    def __init__(self, cluster: Cluster, allocator: Allocator, recorder: Recorder, defaults: Defaults) -> None:
        self._cluster = cluster
        self._allocator = allocator
        self._recorder = recorder
        self._defaults = defaults
        self._containers = KeyedLock()
        self._detached: set[str] = set()
        cluster.pods.subscribe(self._pod_changed)

    async def add(self, call: Call) -> Result:
        """Give the pod its interface. Asked again, finishes or repeats what was begun."""
        pod = await self._pod(call)
        network, chain = self._network(pod)
        async with self._containers.held(call.container_id):
            granted = await self._address(pod, call.ifname, network, chain.ipam)
            attached = await interfaces.add(self._attachment(call, chain, granted))
        return Result(
            ips=(ResultIP(granted.address, granted.gateway),),
            routes=_routes(granted),
            interface=call.ifname,
            mac=attached.mac,
            mtu=attached.mtu,
            sandbox=attached.sandbox,
        )

    async def delete(self, call: Call) -> None:
        """Take the interface away, and the address unless the pod lives on and will be attached again."""
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        async with self._containers.held(call.container_id):
            await interfaces.remove(call.container_id, call.netns, call.ifname)
            await self.release(args, call.ifname)

    async def check(self, call: Call) -> None:
        """Raises Drift when record, interface, address or route is not as ADD left it."""
        pod = await self._pod(call)
        network, chain = self._network(pod)
        granted = await self._granted(pod, call.ifname, network, chain.ipam)
        await interfaces.check(self._attachment(call, chain, granted))

    async def add_address(self, call: Call, config: IPAMConfig) -> Result:
        """The address alone: we are called as the ``ipam`` plugin of another interface plugin."""
        pod = await self._pod(call)
        network = self._network_name(pod)
        granted = await self._address(pod, call.ifname, network, config)
        return Result(ips=(ResultIP(granted.address, granted.gateway),), routes=_routes(granted))

    async def check_address(self, call: Call, config: IPAMConfig) -> None:
        """Raises Drift when the pod's interface holds no address."""
        pod = await self._pod(call)
        await self._granted(pod, call.ifname, self._network_name(pod), config)

    async def release(self, args: PodArgs, ifname: str) -> None:
        """Give the address back, unless the pod lives on: its next sandbox is to find it again."""
        pod = self._cluster.pods.get(f"{args.namespace}/{args.name}")
        uid = args.uid or (pod.metadata.uid if pod else "") or ""
        if pod and pod.metadata.uid == uid and is_alive(pod):
            self._detached.add(uid)
        else:
            await self._allocator.release(uid, ifname)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod whose DEL came while it still looked alive: give its addresses back once it does not."""
        if old and old.metadata.uid in self._detached and not (new and is_alive(new)):
            self._detached.discard(old.metadata.uid)
            self._allocator.release_soon(old.metadata.uid)

    async def _pod(self, call: Call) -> Pod:
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        return await self._cluster.pod(args.namespace, args.name, args.uid)

    def _network_name(self, pod: Pod) -> str:
        defaults = self._defaults
        return default_network(pod.metadata.annotations or {}, defaults.network, defaults.namespace)

    def _network(self, pod: Pod) -> tuple[str, Chain]:
        network = self._network_name(pod)
        return network, read_network(network, self._cluster.networks.get(network))

    async def _address(self, pod: Pod, interface: str, network: str, config: IPAMConfig) -> Grant:
        self._detached.discard(pod.metadata.uid or "")
        try:
            return await self._allocator.allocate(
                self._ask(pod, interface, network, config), clean_gateway=config.clean_gateway
            )
        except Refused as error:
            self._recorder.event(pod, "Warning", EVENT_REFUSED, error.message)
            raise

    async def _granted(self, pod: Pod, interface: str, network: str, config: IPAMConfig) -> Grant:
        """As :meth:`_address`, but never a new address."""
        if not self._allocator.holds(pod.metadata.uid or "", interface):
            raise Drift(f"{interface} of pod {pod.key} holds no address: its SpiderIP is gone; delete the pod")
        return await self._address(pod, interface, network, config)

    def _ask(self, pod: Pod, interface: str, network: str, config: IPAMConfig) -> Ask:
        namespace = self._cluster.namespaces.get(pod.metadata.namespace or "")
        node = self._cluster.nodes.get(self._cluster.node_name)
        return Ask(
            namespace=pod.metadata.namespace or "",
            pod=pod.name,
            pod_uid=pod.metadata.uid or "",
            interface=interface,
            node=self._cluster.node_name,
            network=network,
            named_pools=tuple(config.default_ipv4_ippool) if config.default_ipv4_ippool else None,
            our_namespace=self._defaults.namespace,
            pod_labels=pod.metadata.labels or {},
            namespace_labels=(namespace.metadata.labels if namespace else None) or {},
            node_labels=(node.metadata.labels if node else None) or {},
        )

    def _attachment(self, call: Call, chain: Chain, granted: Grant) -> Attachment:
        return Attachment(
            container_id=call.container_id,
            netns=call.netns,
            ifname=call.ifname,
            kind=chain.interface_type,
            master=chain.interface.master,
            mode=chain.interface.mode,
            mtu=chain.interface.mtu,
            addresses=(ip_interface(granted.address),),
            gateway=IPv4Address(granted.gateway) if granted.gateway else None,
            routes=tuple((ip_network(dst, strict=False), ip_address(gw)) for dst, gw in granted.routes),
            coordination=coordination(chain.coordinator, self._cluster.coordinator()),
        )


def _routes(granted: Grant) -> tuple[tuple[str, str], ...]:
    default = (("0.0.0.0/0", granted.gateway),) if granted.gateway else ()
    return (*default, *granted.routes)
