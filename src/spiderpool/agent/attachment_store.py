"""Records of the pod sandboxes on this node: one JSON file per sandbox, written before the first interface is made.

DEL, GC and a restarted agent learn from them what to remove or refresh; the pod object may be gone by then. The files
are in memory (``/run``), since sandboxes do not outlive a node's restart either. A DEL that met
no agent may never be repeated: what it left is known by the sandbox's network namespace, which is gone.

There are two stores: one for sandboxes that the agent attaches, one for sandboxes for which it only runs the plugin
``coordinator``. An ADD of the agent may execute that plugin, so a sandbox may have a record in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, assert_never

import msgspec

from spiderpool.agent.json_files import JSONFiles, digest
from spiderpool.api.cni import CNICall, PodArgs, parse_args
from spiderpool.api.nad import NetworkStatusEntry
from spiderpool.core.network.attachment import InterfacePlan
from spiderpool.core.network.chains import Chain, DelegatedNetwork, Invocation
from spiderpool.core.network.coordinator import OwnCIDRs
from spiderpool.core.network.plumbing.values import Address, Loan
from spiderpool.kernel import namespaces
from spiderpool.kernel.namespaces import identity

LONGEST_NAME = 128
"""Characters of a container ID that becomes a file name; longer ones are replaced by their digest."""


class InterfaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interface of a sandbox."""

    name: str
    network: str
    """``namespace/name``."""
    coordinated: bool = False
    """Whether the pod has a veth pair to its node."""
    host_rule_table: int = 0
    """The node's table with the routes to its addresses; 0: not known, so the SpiderCoordinator's."""
    cidrs: OwnCIDRs = OwnCIDRs()
    """The cluster's CIDRs, as far as its network names them; older agents have not kept them."""
    addresses: tuple[str, ...] = ()
    """Its addresses, as they were given to it; what the pod has made of them does not count."""
    ending: bool = False
    """Whether its removal has begun, where it may reach the metadata service: its addresses may be another pod's."""
    first_nic: str = ""
    """Name of the pod's first interface, where another plugin made it; else empty."""
    chain: str = ""
    """Name of the network's configuration, where the agent did not make the interface itself."""
    version: str = ""
    """cniVersion of that configuration."""
    plugins: tuple[str, ...] = ()
    """JSON of the plugins that were executed; empty where the agent made the interface itself."""
    request: dict[str, Any] = {}
    """Capabilities and arguments with which these plugins were executed."""
    result: str = ""
    """Standard output of the last of these plugins."""

    @property
    def given(self) -> frozenset[Address]:
        """The addresses as values."""
        return frozenset(ip_interface(address).ip for address in self.addresses)

    @property
    def network_executed(self) -> DelegatedNetwork | None:
        """The network whose plugins were executed; None where the agent made the interface itself."""
        if not self.plugins:
            return None
        return DelegatedNetwork(self.chain, self.version, tuple(plugin.encode() for plugin in self.plugins))


class SandboxRecord(msgspec.Struct, frozen=True):
    """A pod's sandbox and its interfaces, the first one first."""

    container_id: str
    netns: str
    cni_args: str
    """CNI_ARGS of the ADD; empty when unknown."""
    interfaces: tuple[InterfaceRecord, ...]
    network: str = ""
    """Name of the network list by which the runtime attached it; empty where that is not known."""
    pod_uid: str = ""
    """UID by which the pod holds addresses; empty where no ADD has told it."""
    netns_id: str = ""
    """Which network namespace it was (`namespaces.identity`); empty where that is not known."""
    attached_at: float = 0.0
    """When its last ADD first wrote this file, in seconds since the node's start; 0 where that is not known."""
    loans: dict[str, Loan] = {}
    """Devices of the node that its interfaces borrow, by interface."""
    status: tuple[NetworkStatusEntry, ...] = ()
    """What its last ADD has made, as the pod's annotation shows it; empty until then."""

    def may_be(self, netns_id: str) -> bool:
        """Whether this may be the sandbox's namespace; false where it is known to be another one."""
        return not (netns_id and self.netns_id) or netns_id == self.netns_id

    @property
    def pod(self) -> PodArgs | None:
        """The pod of the sandbox; None when it is not known."""
        return parse_args(self.cni_args) if self.cni_args else None

    def invocation(self, interface: InterfaceRecord, netns: str) -> Invocation:
        """How the plugins of an interface are executed again."""
        request = interface.request
        capabilities, arguments = request.get("capabilities", {}), request.get("arguments", {})
        return Invocation(self.container_id, netns, interface.name, self.cni_args, capabilities, arguments)

    def with_result(self, interface: str, output: bytes) -> SandboxRecord:
        """The record with the standard output of an interface's last plugin added."""
        interfaces = (
            msgspec.structs.replace(one, result=output.decode()) if one.name == interface else one
            for one in self.interfaces
        )
        return msgspec.structs.replace(self, interfaces=tuple(interfaces))

    def with_addresses(self, addresses: Mapping[str, Iterable[str]]) -> SandboxRecord:
        """The record with the addresses of its interfaces."""
        interfaces = (
            msgspec.structs.replace(one, addresses=tuple(addresses[one.name])) if one.name in addresses else one
            for one in self.interfaces
        )
        return msgspec.structs.replace(self, interfaces=tuple(interfaces))

    def with_end(self, interface: str = "") -> SandboxRecord:
        """The record of a sandbox that is about to lose an interface, or all."""
        interfaces = (
            msgspec.structs.replace(one, ending=True) if interface in ("", one.name) else one for one in self.interfaces
        )
        return msgspec.structs.replace(self, interfaces=tuple(interfaces))

    def with_loan(self, interface: str, loan: Loan) -> SandboxRecord:
        """The record with the loan of a device."""
        return msgspec.structs.replace(self, loans={**self.loans, interface: loan})


def sandbox_record(
    call: CNICall, plans: Iterable[InterfacePlan], network: str = "", pod_uid: str = "", rule_table: int = 0
) -> SandboxRecord:
    """The record of a sandbox whose interfaces are about to be made; ``network`` is the name of the runtime's list.

    ``rule_table`` is the node's table with the routes to pods for networks that name none.
    """
    interfaces = tuple(_interface_record(plan, plan.chain.host_rule_table or rule_table) for plan in plans)
    return with_namespace(SandboxRecord(call.container_id, call.netns, call.cni_args, interfaces, network, pod_uid))


def with_namespace(sandbox: SandboxRecord) -> SandboxRecord:
    """The record of an ADD that writes it now, in the namespace that is at its path."""
    return msgspec.structs.replace(sandbox, netns_id=identity(sandbox.netns), attached_at=time.monotonic())


def own_netns(sandbox: SandboxRecord, netns: str, others: Iterable[SandboxRecord]) -> str:
    """``netns``, the path by which a sandbox is removed; empty where it leads to another sandbox's namespace by now.

    Runtimes use paths again, such as those of processes, and Linux uses the numbers of namespaces again. Of two
    sandboxes with the same namespace the one that was attached later has it.
    """
    present = identity(netns)
    if not present:
        return netns
    later = (one for one in others if one.attached_at > sandbox.attached_at)
    taken = any(one.may_be(present) and identity(one.netns) == present for one in later)
    return "" if taken or not sandbox.may_be(present) else netns


def assumed_record(call: CNICall) -> SandboxRecord:
    """The record of a sandbox without a file: one interface that the agent made."""
    return SandboxRecord(call.container_id, call.netns, call.cni_args, (InterfaceRecord(call.ifname, ""),))


def _interface_record(plan: InterfacePlan, table: int) -> InterfaceRecord:
    match plan.chain:
        case Chain():
            coordinated = plan.chain.coordinator is not None
            return InterfaceRecord(
                plan.request.interface,
                plan.request.network,
                coordinated=coordinated,
                host_rule_table=table,
                cidrs=plan.chain.cidrs,
            )
        case DelegatedNetwork():
            return InterfaceRecord(
                plan.request.interface,
                plan.request.network,
                chain=plan.chain.name,
                version=plan.chain.version,
                coordinated=plan.chain.coordinated,
                host_rule_table=table,
                cidrs=plan.chain.cidrs,
                plugins=tuple(plugin.decode() for plugin in plan.chain.plugins),
                request={"capabilities": plan.request.runtime_config(), "arguments": dict(plan.request.cni_args)},
            )
        case _:
            assert_never(plan.chain)


class AttachmentStore:
    """The files of all sandboxes of this node."""

    def __init__(self, directory: Path, is_gone: Callable[[str], bool] = namespaces.is_gone) -> None:
        """``is_gone`` says whether a network namespace, by its path, has been removed."""
        self._files = JSONFiles(directory, SandboxRecord)
        self._is_gone = is_gone

    def save(self, sandbox: SandboxRecord) -> None:
        """Write or replace a sandbox's file, atomically. Raises IOFailure."""
        self._files.save(_file_name(sandbox.container_id), sandbox)

    def is_gone(self, sandbox: SandboxRecord) -> bool:
        """Whether a sandbox's network namespace has been removed, and all interfaces in it."""
        return self._is_gone(sandbox.netns) or not sandbox.may_be(identity(sandbox.netns))

    def is_left(self, sandbox: SandboxRecord, others: Iterable[SandboxRecord]) -> bool:
        """Whether only the file of a sandbox is left: its namespace is gone, or another sandbox's by now."""
        return self.is_gone(sandbox) or not own_netns(sandbox, sandbox.netns, others)

    def load(self, container_id: str) -> SandboxRecord | None:
        """A sandbox; None when it has no file, or one that cannot be parsed. Raises IOFailure."""
        return self._files.load(_file_name(container_id))

    def forget(self, container_id: str) -> None:
        """Remove a sandbox's file; a missing one is success. Raises IOFailure."""
        self._files.remove(_file_name(container_id))

    def all(self, *, strict: bool = False) -> Iterator[SandboxRecord]:
        """All sandboxes that have a file. Raises IOFailure; if ``strict``, also for one that cannot be parsed."""
        return self._files.all(strict=strict)

    def remove_drafts(self) -> None:
        """Remove what is left of writes that were interrupted. Raises IOFailure."""
        self._files.remove_drafts()


def _file_name(container_id: str) -> str:
    return container_id if len(container_id) <= LONGEST_NAME else digest(container_id)
