"""The plugin ``spiderpool``: addresses alone, for an interface plugin that calls us as its IPAM plugin."""

from __future__ import annotations

from spiderpool.agent.addresses import PodAddresses, result_routes
from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.cni import CNICall
from spiderpool.api.cni_result import Result, ResultIP
from spiderpool.core.ipam.pod_context import InterfaceRequest


class IPAMPlugin:
    """ADD, DEL and CHECK of one interface's addresses."""

    def __init__(self, cluster: ClusterCache, addresses: PodAddresses) -> None:
        self._cluster = cluster
        self._addresses = addresses

    async def add(self, call: CNICall, request: InterfaceRequest) -> Result:
        """Allocate addresses for the interface; a result without interfaces. May be repeated."""
        args = call.required_pod()
        pod = await self._cluster.living_pod(args)
        grants = (await self._addresses.allocate(pod, args.uid, [request]))[request.interface]
        return Result(
            ips=tuple(ResultIP(grant.address, grant.gateway) for grant in grants),
            routes=result_routes(grants),
        )

    async def check(self, call: CNICall, request: InterfaceRequest) -> None:
        """Raises Drift when the interface lacks an address."""
        args = call.required_pod()
        pod = await self._cluster.pod(args)
        await self._addresses.check(pod, args.uid, self._addresses.networks(pod), request)

    async def delete(self, call: CNICall) -> None:
        """Release the addresses, unless the pod lives on. Nothing to do where the call names no pod."""
        if call.pod is not None:
            await self._addresses.release(call.pod, call.ifname)
