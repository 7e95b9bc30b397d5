"""The plugin ``spiderpool``: addresses alone, for an interface plugin that calls us as its IPAM plugin.

The HTTP API serves the same functions to executables of Spiderpool.
"""

from __future__ import annotations

from dataclasses import replace

from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.addresses import PodAddresses, result_routes
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.containers import Containers, PodContainers
from spiderpool.agent.sandboxes import SandboxOnFile
from spiderpool.api.cni import CNICall, PodArgs
from spiderpool.api.cni_result import Result, ResultIP
from spiderpool.api.core_v1 import Pod
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.gc import pod_uids
from spiderpool.core.ipam.pod_context import InterfaceRequest
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import BadRequest, SpiderpoolError
from spiderpool.telemetry import CLAIM_SECONDS, WAIT_SECONDS, logger

log = logger("ipam")


class IPAMPlugin:
    """ADD, DEL and CHECK of one interface's addresses."""

    def __init__(
        self, cluster: ClusterCache, addresses: PodAddresses, containers: Containers, account: AccountPublisher
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._containers = containers
        self._account = account

    async def add(self, call: CNICall, request: InterfaceRequest) -> Result:
        """Allocate addresses for the interface; a result without interfaces. May be repeated."""
        args = call.required_pod()
        with WAIT_SECONDS.time():
            pod = await self._cluster.living_pod(args)
        sandbox = SandboxTarget(call.container_id, call.netns)
        grants = await self.allocate(pod, args, sandbox, request)
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
            await self.release(call.pod, call.container_id, call.ifname)

    async def allocate(
        self, pod: Pod, args: PodArgs, sandbox: SandboxTarget, request: InterfaceRequest
    ) -> tuple[Grant, ...]:
        """What an interface of a living pod's sandbox is granted; `PodAddresses.allocate` tells the errors.

        BadRequest for a sandbox without an ID: the node's account could not say whether it still has the address.
        """
        if not sandbox.container_id:
            raise BadRequest(
                f"the call for pod {pod.key} names neither its container nor its network namespace, so nobody could "
                "tell whether its sandbox still has the address; give containerID or netNamespace"
            )
        # First, so that a DEL of the former container that comes meanwhile releases nothing, and the node's account
        # lists the sandbox before it has an address.
        holder = replace(args, uid=self._addresses.holder_uid(args, pod))
        self._containers.note(holder, request.interface, sandbox)
        self._account.begin(SandboxOnFile(holder, sandbox))
        try:
            with CLAIM_SECONDS.time():
                return (await self._addresses.allocate(pod, args.uid, [request]))[request.interface]
        finally:
            self._account.change(sandbox.container_id)

    async def release(self, args: PodArgs, container: str, interface: str) -> None:
        """Release what an interface of a container holds; nothing if another container has had an ADD since."""
        uid = self._addresses.holder_uid(args)
        current = self._containers.of(uid, interface)
        if container and current not in (None, container):
            log.info("nothing released, another container has the address", interface=interface, container=current)
            return
        await self._addresses.release(args, interface, ended=bool(container) and current == container)
        self._containers.forget(uid, interface, container)
        self._account.change(container)

    async def release_conflicting(self, args: PodArgs, container: str) -> None:
        """Release all that a pod holds since somebody else uses it; nothing for a former container of the pod."""
        if not self._containers.is_former(self._addresses.holder_uid(args), container):
            await self._addresses.release_conflicting(args)

    def forget_gone(self) -> list[SpiderpoolError]:
        """Forget the containers of pods that do not exist, unless one may have addresses; the failures.

        A sandbox that is there has them, whatever the records say: that of a virtual machine may name a later pod.
        """
        living = {uid for pod in self._cluster.pods.items() for uid in pod_uids(pod)}

        def is_kept(pod: PodContainers) -> bool:
            if pod.pod_uid in living or self._containers.has_sandbox(pod):
                return True
            return bool(self._cluster.records.of_pod(pod.pod_uid)) and self._containers.may_have_sandbox(pod)

        return self._containers.keep(is_kept)

    def pods_with_sandbox(self) -> set[str]:
        """UIDs of the pods that may have a sandbox which was given addresses here. Raises IOFailure."""
        return {pod.pod_uid for pod in self._containers.all() if self._containers.may_have_sandbox(pod)}
