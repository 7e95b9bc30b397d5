"""Keeps the paths between running pods and their node up to date.

The pods' routes follow the node's own addresses and those of Services. The node's rules and routes to pods are made
again where another program has removed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spiderpool.agent import interfaces
from spiderpool.agent.address_holders import AddressHolders, HeldAddresses
from spiderpool.agent.attachment_store import SandboxRecord
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.locks import KeyedLock
from spiderpool.core.network.coordinator import cluster_ranges, rule_table
from spiderpool.core.network.plumbing.foreign import owner_of
from spiderpool.core.network.plumbing.refresh import PathSettings
from spiderpool.core.network.plumbing.steps import SetSysctl
from spiderpool.core.network.plumbing.values import Address, Attachment
from spiderpool.errors import BadNamespace, is_bug
from spiderpool.telemetry import logger

log = logger("pod-routes")


class PodRoutes:
    """The routes of the pods of one store. ``containers`` are the locks of its sandboxes, by container ID."""

    def __init__(self, cluster: ClusterCache, containers: KeyedLock, holders: AddressHolders) -> None:
        self._cluster = cluster
        self._containers = containers
        self._holders = holders
        self._applied: frozenset[Address] = frozenset()  # addresses of Services that all pods have a route to

    async def refresh(self, sandboxes: Iterator[SandboxRecord]) -> int:
        """Update the paths of these pods, which are all; a pod where that fails is logged and skipped.

        A pod that is attached meanwhile has the addresses of that moment, which are no older. Returns how many rules
        and routes of the node had to be made again.
        """
        services, held = self._cluster.service_addresses(), self._holders.snapshot()
        made_again = 0
        for sandbox in sandboxes:
            if any(each.coordinated for each in sandbox.interfaces):
                made_again += await self._refresh(sandbox, services, held)
        self._applied = frozenset(services or ())
        return made_again

    def settled(self, attachment: Attachment) -> Attachment:
        """The attachment without addresses of Services that pods may not have a route to yet: for CHECK."""
        settings = attachment.coordination
        if settings is None:
            return attachment
        known = tuple(address for address in settings.service_addresses if address in self._applied)
        return replace(attachment, coordination=replace(settings, service_addresses=known))

    def _settings(
        self, sandbox: SandboxRecord, services: tuple[Address, ...] | None, held: HeldAddresses
    ) -> PathSettings:
        coordinator = self._cluster.coordinator()
        default = rule_table(coordinator)
        coordinated = [each for each in sandbox.interfaces if each.coordinated]
        tables = {each.name: each.host_rule_table or default for each in coordinated}
        first = sandbox.interfaces[0].first_nic or sandbox.interfaces[0].name
        addresses, foreign = self._addresses(sandbox, first, held)
        ranges = [cluster_ranges(each.cidrs, coordinator, of_cluster=True) for each in coordinated]
        cidrs = tuple(dict.fromkeys(cidr for each in ranges for cidr in each.service_cidrs))
        return PathSettings(first, services, cidrs, tables, addresses, foreign)

    async def _refresh(self, sandbox: SandboxRecord, services: tuple[Address, ...] | None, held: HeldAddresses) -> int:
        try:
            settings = self._settings(sandbox, services, held)
            async with self._containers.held(sandbox.container_id):
                steps = await interfaces.refresh(sandbox.container_id, sandbox.netns, settings)
        except BadNamespace:
            return 0  # the pod is gone, its DEL is to come
        except Exception as error:  # the other pods go on
            facts = {"netns": sandbox.netns, "error": str(error)}
            log.warning("routes of a pod not updated", **facts, exc_info=is_bug(error))
            return 0
        if steps:
            log.info("routes of a pod updated", netns=sandbox.netns, steps=len(steps))
        return sum(step.side == "node" and not isinstance(step, SetSysctl) for step in steps)

    def _addresses(
        self, sandbox: SandboxRecord, first: str, held: HeldAddresses
    ) -> tuple[dict[str, frozenset[Address]], frozenset[Address]]:
        """The addresses that each interface may have routes to, and those of another IPAM plugin among them.

        ADD has accepted these, but by now they may be a Service's or another pod's. The file of an older agent lacks
        addresses: SpiderIPs have them.
        """
        uid = sandbox.pod_uid or (sandbox.pod.uid if sandbox.pod else "")
        found: dict[str, frozenset[Address]] = {}
        foreign: set[Address] = set()
        for each in sandbox.interfaces:
            granted = self._holders.granted(uid, each.name)
            given = each.given or granted
            others = given - granted if each.chain else frozenset()
            if others:
                cluster = cluster_ranges(each.cidrs, self._cluster.coordinator(), of_cluster=each.name == first)
                taken = held.taken(others, uid, sandbox)
                withheld = frozenset(one for one in others if one in taken or owner_of(one, cluster))
                given, others = given - withheld, others - withheld
            found[each.name] = given
            foreign |= others
        return found, frozenset(foreign)
