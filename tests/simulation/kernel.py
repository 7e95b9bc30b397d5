"""The kernel of a node, below the plans of core/network/plumbing: namespaces, links and addresses of pods.

It answers what `agent.pod_kernel.PodKernel` asks for. The plans are the product's; their steps are carried out here,
one by one with time between them, so that an agent can die in the middle of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random

from spiderpool.agent.interfaces import AttachedInterface
from spiderpool.api.spidernode import SandboxInterface
from spiderpool.core.addresses import object_name
from spiderpool.core.network.plumbing.parents import ParentLink
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.core.network.plumbing.removal import LeftoverState, plan_removal
from spiderpool.core.network.plumbing.steps import AddAddress, CreateLink, DeleteLink, Step
from spiderpool.core.network.plumbing.values import (
    Address,
    Attachment,
    Link,
    Loan,
    NodeAddress,
    Observation,
    PodState,
)
from spiderpool.errors import AddressHeld, AddressInUse, BadNamespace, Drift
from spiderpool.kernel.sandboxes import Readings

NIC = Link("eth0", 2, mac="00:16:3e:00:00:01")
NICS = {"eth0": NIC, "eth1": Link("eth1", 3, mac="00:16:3e:00:00:02")}
STEP = 0.0, 0.004
"""Seconds that a step takes."""


@dataclass(eq=False)
class Namespace:
    """The network namespace of one sandbox."""

    path: str
    node: str
    container: str
    pod: str
    """``namespace/name``."""
    uid: str
    """By which the runtime calls the pod."""
    links: dict[str, Link] = field(default_factory=dict)
    addresses: dict[str, list[AddAddress]] = field(default_factory=dict)
    """By link."""
    attached: bool = False
    """Whether its ADD has succeeded."""
    ending: bool = False
    """Whether the runtime has begun to take it away: nothing in it runs any more."""
    exists: bool = True

    def state(self) -> PodState:
        """As `kernel.observing` would read it."""
        held = (each for addresses in self.addresses.values() for each in addresses)
        return PodState((Link("lo", 1), *self.links.values()), tuple(held))

    def ips(self) -> set[str]:
        """All addresses in it."""
        return {str(each.address.ip) for addresses in self.addresses.values() for each in addresses}

    def names(self) -> set[str]:
        """The names that the records of its addresses have."""
        return {object_name(ip) for ip in self.ips()}


class Ledger:
    """Who has which address up, in the whole cluster; addresses by the names of their records."""

    def __init__(self) -> None:
        self.holders: dict[str, dict[Namespace, None]] = {}
        self.on_up: Callable[[Namespace, str], None] = lambda _, __: None
        self.on_down: Callable[[Namespace, str], None] = lambda _, __: None

    def up(self, namespace: Namespace, address: str) -> None:
        """An address was added."""
        self.holders.setdefault(address, {})[namespace] = None
        self.on_up(namespace, address)

    def down(self, namespace: Namespace, address: str) -> None:
        """An address was removed."""
        holders = self.holders.get(address, {})
        if holders.pop(namespace, self) is None:
            self.on_down(namespace, address)
        if not holders:
            self.holders.pop(address, None)

    def living(self, address: str) -> list[Namespace]:
        """The sandboxes that have an address and still run."""
        return [each for each in self.holders.get(address, ()) if not each.ending]


class SimulatedKernel:
    """The namespaces of one node, and what the agent does in them."""

    def __init__(self, node: str, address: str, ledger: Ledger, random: Random) -> None:
        self.node = node
        self.namespaces: dict[str, Namespace] = {}
        self._address = ip_address(address)
        self._ledger = ledger
        self._random = random

    # --- the runtime's side

    def create(self, container: str, pod: str, uid: str) -> Namespace:
        """A new namespace for a sandbox."""
        namespace = Namespace(f"/run/netns/{self.node}/{container}", self.node, container, pod, uid)
        self.namespaces[namespace.path] = namespace
        return namespace

    def destroy(self, namespace: Namespace) -> None:
        """Remove a namespace with all that is in it."""
        namespace.exists = False
        self.namespaces.pop(namespace.path, None)
        for link in list(namespace.links):
            self.delete_link(namespace, link)

    def delete_link(self, namespace: Namespace, name: str) -> None:
        """Remove a link with its addresses."""
        namespace.links.pop(name, None)
        for held in namespace.addresses.pop(name, ()):
            self._ledger.down(namespace, object_name(str(held.address.ip)))

    def create_link(self, namespace: Namespace, name: str) -> None:
        """Create an ipvlan."""
        namespace.links[name] = Link(name, len(namespace.links) + 2, kind="ipvlan", mac=NIC.mac)
        namespace.addresses[name] = []

    def add_address(self, namespace: Namespace, added: AddAddress) -> None:
        """Add an address. Raises AddressHeld when another ipvlan of the node has it."""
        ip = object_name(str(added.address.ip))
        others = [each for each in self._ledger.holders.get(ip, ()) if each.node == self.node and each is not namespace]
        if others:
            raise AddressHeld(f"{ip} is already assigned to an ipvlan device on eth0: another sandbox still holds it")
        namespace.addresses[added.link].append(added)
        self._ledger.up(namespace, ip)

    # --- the agent's side

    def is_gone(self, path: str) -> bool:
        return path not in self.namespaces

    async def add(self, attachment: Attachment) -> AttachedInterface:
        work = asyncio.ensure_future(self._add(attachment))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.exception():
                await self.remove(attachment.container_id, attachment.netns, attachment.ifname)
            raise

    async def loan_of(self, device: str) -> Loan | None:
        return None

    async def remove(self, container_id: str, netns: str, ifname: str, loan: Loan | None = None) -> None:
        namespace = self.namespaces.get(netns)
        if namespace is not None:
            await self._apply(namespace, plan_removal(container_id, ifname, LeftoverState(namespace.state())))

    async def is_of_another(self, container_id: str, netns: str, ifname: str, others: Collection[Address]) -> bool:
        namespace = self.namespaces.get(netns)
        return namespace is not None and namespace.container != container_id

    async def has_link(self, netns: str, ifname: str) -> bool:
        namespace = self.namespaces.get(netns)
        return namespace is not None and ifname in namespace.links

    async def check(self, attachment: Attachment) -> None:
        namespace = self._namespace(attachment.netns)
        if missing := {str(each.ip) for each in attachment.addresses} - namespace.ips():
            raise Drift(f"interface {attachment.ifname}: {missing}")

    async def probe(self, attachment: Attachment, detection: Detection) -> None:
        await asyncio.sleep(self._random.uniform(0.05, 0.3))
        for address in attachment.addresses if detection.conflicts else ():
            others = self._ledger.holders.get(object_name(str(address.ip)), {})
            if any(each.path != attachment.netns and each.node != self.node for each in others):
                raise AddressInUse(f"{address.ip} is in use by another machine")

    async def ensure_parent(self, parent: ParentLink) -> str:
        return parent.name

    async def place_default(
        self, netns: str, ifname: str, gateways: tuple[Address, ...] | None, *, if_free: bool = False
    ) -> frozenset[int]:
        return frozenset()

    async def read(self, paths: Collection[str]) -> Readings:
        """As `kernel.sandboxes.read_namespaces`."""
        await asyncio.sleep(self._random.uniform(0.001, 0.05))
        found: Readings = {}
        for path in paths:
            if (namespace := self.namespaces.get(path)) is not None:
                held = {name: [str(each.address.ip) for each in namespace.addresses[name]] for name in namespace.links}
                found[path] = [SandboxInterface(name, NIC.mac, ips or None) for name, ips in held.items()]
        return found

    def _namespace(self, path: str) -> Namespace:
        namespace = self.namespaces.get(path)
        if namespace is None:
            raise BadNamespace(f"network namespace {path!r}: No such file or directory")
        return namespace

    async def _add(self, attachment: Attachment) -> AttachedInterface:
        namespace = self._namespace(attachment.netns)
        observed = Observation(
            NICS[attachment.master], addresses=(NodeAddress("eth0", self._address),), pod=namespace.state()
        )
        try:
            await self._apply(namespace, plan(attachment, observed))
        except BaseException:
            await self.remove(attachment.container_id, attachment.netns, attachment.ifname)
            raise
        return AttachedInterface(NIC.mac, NIC.mtu, attachment.netns, None)

    async def _apply(self, namespace: Namespace, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, CreateLink | AddAddress | DeleteLink) and step.side == "pod":
                await asyncio.sleep(self._random.uniform(*STEP))
                if not namespace.exists:
                    raise BadNamespace(f"network namespace {namespace.path!r} has gone")
                self._carry_out(namespace, step)

    def _carry_out(self, namespace: Namespace, step: CreateLink | AddAddress | DeleteLink) -> None:
        match step:
            case CreateLink():
                self.create_link(namespace, step.name)
            case AddAddress():
                self.add_address(namespace, step)
            case DeleteLink():
                self.delete_link(namespace, step.name)
