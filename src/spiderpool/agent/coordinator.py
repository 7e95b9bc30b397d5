"""The plugin ``coordinator`` alone, at the end of a chain of plugins that the runtime, Multus or the agent executes.

The interface exists and has its addresses. Only the veth pair to the node and the pod's routes and rules are made.
Sandboxes have files and a lock of their own here: when the agent executes a chain itself, this plugin is called while
the agent still holds the container's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from ipaddress import ip_interface

import msgspec

from spiderpool.agent import interfaces
from spiderpool.agent.address_holders import AddressHolders
from spiderpool.agent.attachment_store import (
    AttachmentStore,
    InterfaceRecord,
    SandboxRecord,
    own_netns,
    with_namespace,
)
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.failures import noted
from spiderpool.agent.locks import KeyedLock
from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.agent.pod_routes import PodRoutes
from spiderpool.api.cni import CNICall, CoordinatorConfig
from spiderpool.api.cni_result import all_addresses, read_result
from spiderpool.api.core_v1 import Pod
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.network.coordinator import (
    OwnCIDRs,
    cluster_ranges,
    coordination,
    requested_default_route,
    rule_table,
)
from spiderpool.core.network.plumbing.values import EXISTING, Attachment, Ownership
from spiderpool.core.network.pod_networks import default_route_of, further_networks
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.telemetry import KERNEL_SECONDS, logger

log = logger("coordinator")


class CoordinatorPlugin:
    """ADD, DEL, CHECK and GC of the plugin. ``attached`` are the sandboxes that the agent attaches itself."""

    def __init__(
        self,
        cluster: ClusterCache,
        chained: AttachmentStore,
        attached: AttachmentStore,
        metadata: MetadataAccess | None = None,
    ) -> None:
        self._cluster = cluster
        self._metadata = metadata or MetadataAccess()
        self._chained = chained
        self._attached = attached
        self._containers = KeyedLock()  # by container ID: one call at a time works on a sandbox and its file
        self._holders = AddressHolders(cluster, (chained, attached))
        self._routes = PodRoutes(cluster, self._containers, self._holders)

    async def add(self, call: CNICall, config: CoordinatorConfig) -> None:
        """Make veth pair, routes and rules for the pod's interface, or nothing after a failure. May be repeated."""
        async with self._containers.held(call.container_id):
            reported = _reported(config)
            pod = await self._cluster.pod(call.required_pod())
            # No other call runs from here until the file is saved: of two pods with one address, the later one by
            # the files finds the earlier one's. And whatever changes from then on is seen by a refresh.
            sandbox = self._record(call, config, _uid(call, pod), reported)
            attachment = self._attachment(call, config, pod, sandbox, reported)
            if attachment is None:
                return
            self._chained.save(sandbox)
            with KERNEL_SECONDS.time():
                attached = await interfaces.add(attachment)
                await self._metadata.admit(sandbox)
        log.info("coordinated", interface=call.ifname, host_interface=attached.host_interface)

    async def delete(self, call: CNICall) -> None:
        """Remove the interface's routes and rules, with the last interface the veth pair too; needs no pod object."""
        async with self._containers.held(call.container_id):
            await self._delete(call.container_id, call.netns, call.ifname)

    async def check(self, call: CNICall, config: CoordinatorConfig) -> None:
        """Raises Drift when veth pair, rule, route or neighbour is not as ADD left it."""
        reported = _reported(config)
        pod = await self._cluster.pod(call.required_pod())
        sandbox = self._chained.load(call.container_id) or self._record(call, config, _uid(call, pod), reported)
        attachment = self._attachment(call, config, pod, sandbox, reported)
        if attachment is not None:
            await interfaces.check(self._routes.settled(attachment))

    async def refresh(self) -> int:
        """As `Attacher.refresh`, for all pods but those that the agent itself attaches."""
        attached = {sandbox.container_id for sandbox in self._attached.all()}
        chained = (sandbox for sandbox in self._chained.all() if sandbox.container_id not in attached)
        return await self._routes.refresh(chained)

    async def collect(self, network: str, valid: Collection[tuple[str, str]]) -> list[SpiderpoolError]:
        """Remove veth pairs and routes of a network's interfaces; returns the failures.

        Attachments in ``valid``, as (container ID, interface), stay.
        """
        return await self._collect(
            lambda sandbox, each: each.chain == network and (sandbox.container_id, each.name) not in valid
        )

    async def collect_gone(self) -> list[SpiderpoolError]:
        """Remove what is left of sandboxes whose network namespace is gone, or another's by now; the failures."""
        failures: list[SpiderpoolError] = []
        with noted(failures):
            self._chained.remove_drafts()
        known = list(self._chained.all())
        return failures + await self._collect(lambda sandbox, _: self._chained.is_left(sandbox, known))

    async def _collect(self, is_garbage: Callable[[SandboxRecord, InterfaceRecord], bool]) -> list[SpiderpoolError]:
        failures: list[SpiderpoolError] = []
        found = [(sandbox, each) for sandbox in self._chained.all() for each in sandbox.interfaces]
        for sandbox, each in found:
            with noted(failures):
                if is_garbage(sandbox, each) and not self._containers.is_held(sandbox.container_id):
                    async with self._containers.held(sandbox.container_id):
                        await self._delete(sandbox.container_id, sandbox.netns, each.name)
        return failures

    def containers(self) -> Iterator[str]:
        """Containers that have a veth pair of ours and a network namespace."""
        return (each.container_id for each in self._chained.all() if not self._chained.is_gone(each))

    async def _delete(self, container_id: str, netns: str, ifname: str) -> None:
        """Remove the routes and rules of an interface, then its entry in the sandbox's file."""
        await self._metadata.withdraw(self._chained, container_id, ifname)
        known = self._chained.load(container_id)
        present = (one for store in (self._chained, self._attached) for one in store.all())
        others = (one for one in present if one.container_id != container_id)
        path = own_netns(known or SandboxRecord(container_id, netns, "", ()), netns, others)
        await interfaces.remove_path(container_id, path, ifname)
        left = tuple(each for each in known.interfaces if each.name != ifname) if known else ()
        if known and left:
            self._chained.save(msgspec.structs.replace(known, interfaces=left))
        else:
            self._chained.forget(container_id)

    def _attachment(
        self, call: CNICall, config: CoordinatorConfig, pod: Pod, sandbox: SandboxRecord, reported: tuple[str, ...]
    ) -> Attachment | None:
        """The kernel's input for the interface of a call; None where the coordinator is disabled."""
        annotations = pod.metadata.annotations or {}
        chosen = default_route_of(further_networks(annotations, pod.metadata.namespace or ""))
        settings = coordination(
            config,
            self._cluster.coordinator(),
            default_route_nic=chosen.interface if chosen else requested_default_route(annotations),
        )
        if settings is None:
            return None
        uid = _uid(call, pod)
        theirs = frozenset(ip_interface(each).ip for each in reported)
        ownership = Ownership(self._holders.granted(uid, call.ifname), theirs)
        taken = self._holders.snapshot().taken(ownership.foreign, uid, sandbox)
        of_cluster = call.ifname == settings.first_nic
        cluster = cluster_ranges(OwnCIDRs.of(config), self._cluster.coordinator(), of_cluster=of_cluster)
        ownership = replace(ownership, taken=taken, cluster=cluster)
        return Attachment(
            call.container_id, call.netns, call.ifname, EXISTING, "", coordination=settings, ownership=ownership
        )

    def _record(self, call: CNICall, config: CoordinatorConfig, uid: str, reported: tuple[str, ...]) -> SandboxRecord:
        """The record of the sandbox with the interface of this call beside those that earlier calls coordinated."""
        known = self._chained.load(call.container_id)
        others = tuple(each for each in known.interfaces if each.name != call.ifname) if known else ()
        first = config.podDefaultCniNic or FIRST_INTERFACE
        table = config.hostRuleTable or rule_table(self._cluster.coordinator())
        one = InterfaceRecord(
            call.ifname,
            "",
            coordinated=True,
            first_nic=first,
            chain=config.name,
            host_rule_table=table,
            cidrs=OwnCIDRs.of(config),
            addresses=reported,
        )
        sandbox = SandboxRecord(call.container_id, call.netns, call.cni_args, (*others, one), pod_uid=uid)
        return with_namespace(sandbox)


def _uid(call: CNICall, pod: Pod) -> str:
    """The UID by which the pod holds addresses: not every runtime tells it."""
    return call.required_pod().uid or pod.metadata.uid or ""


def _reported(config: CoordinatorConfig) -> tuple[str, ...]:
    """The addresses that the previous plugin says the pod has. Raises BadConfig, or Undecodable."""
    return all_addresses(read_result(msgspec.json.encode(previous_result(config))))


def previous_result(config: CoordinatorConfig) -> dict[str, object]:
    """The result of the previous plugin. Raises BadConfig where there is none."""
    if config.prevResult is None:
        raise BadConfig("coordinator needs a prevResult: put it behind the plugin that makes the interface")
    return config.prevResult
