"""Records of the pod sandboxes on this node: one JSON file per sandbox, written before the first interface is made.

DEL, GC and a restarted agent learn from them what to remove or refresh; the pod object may be gone by then. The files
are in memory (``/run``), since sandboxes do not outlive a node's restart either. A DEL that met
no agent may never be repeated: what it left is known by the sandbox's network namespace, which is gone.

There are two stores: one for sandboxes that the agent attaches, one for sandboxes for which it only runs the plugin
``coordinator``. An ADD of the agent may execute that plugin, so a sandbox may have a record in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

import msgspec

from spiderpool.api.cni import CNICall, PodArgs, parse_args
from spiderpool.core.network.attachment import InterfacePlan
from spiderpool.core.network.chains import Chain, DelegatedNetwork, Invocation
from spiderpool.errors import IOFailure
from spiderpool.kernel import namespaces
from spiderpool.telemetry import logger

SUFFIX = ".json"
LONGEST_NAME = 128
"""Characters of a container ID that becomes a file name; longer ones are replaced by their digest."""

log = logger("sandboxes")


class InterfaceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interface of a sandbox."""

    name: str
    network: str
    """``namespace/name``."""
    coordinated: bool = False
    """Whether the pod has a veth pair to its node."""
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


def sandbox_record(call: CNICall, plans: Iterable[InterfacePlan], network: str) -> SandboxRecord:
    """The record of a sandbox whose interfaces are about to be made; ``network`` is the name of the runtime's list."""
    return SandboxRecord(call.container_id, call.netns, call.cni_args, tuple(map(_interface_record, plans)), network)


def assumed_record(call: CNICall) -> SandboxRecord:
    """The record of a sandbox without a file: one interface that the agent made."""
    return SandboxRecord(call.container_id, call.netns, call.cni_args, (InterfaceRecord(call.ifname, ""),))


def _interface_record(plan: InterfacePlan) -> InterfaceRecord:
    match plan.chain:
        case Chain():
            coordinated = plan.chain.coordinator is not None
            return InterfaceRecord(plan.request.interface, plan.request.network, coordinated=coordinated)
        case DelegatedNetwork():
            return InterfaceRecord(
                plan.request.interface,
                plan.request.network,
                chain=plan.chain.name,
                version=plan.chain.version,
                coordinated=plan.chain.coordinated,
                plugins=tuple(plugin.decode() for plugin in plan.chain.plugins),
                request={"capabilities": plan.request.runtime_config(), "arguments": dict(plan.request.cni_args)},
            )
        case _:
            assert_never(plan.chain)


class AttachmentStore:
    """The files of all sandboxes of this node."""

    def __init__(self, directory: Path, is_gone: Callable[[str], bool] = namespaces.is_gone) -> None:
        """``is_gone`` says whether a network namespace, by its path, has been removed."""
        self._directory = directory
        self._is_gone = is_gone

    def save(self, sandbox: SandboxRecord) -> None:
        """Write or replace a sandbox's file, atomically. Raises IOFailure."""
        path = self._path(sandbox.container_id)
        draft = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(sandbox))
            draft.replace(path)
        except OSError as error:
            raise IOFailure(f"{path} cannot be written: {error}; make room, or make its folder writable") from error

    def is_gone(self, sandbox: SandboxRecord) -> bool:
        """Whether a sandbox's network namespace has been removed, and all interfaces in it."""
        return self._is_gone(sandbox.netns)

    def load(self, container_id: str) -> SandboxRecord | None:
        """A sandbox; None when it has no file, or one that cannot be parsed. Raises IOFailure."""
        return _read(self._path(container_id))

    def forget(self, container_id: str) -> None:
        """Remove a sandbox's file; a missing one is success. Raises IOFailure."""
        path = self._path(container_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise IOFailure(f"{path} cannot be removed: {error}; make its folder writable") from error

    def all(self) -> Iterator[SandboxRecord]:
        """All sandboxes that have a file. Raises IOFailure."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            sandbox = _read(path)
            if sandbox is not None:
                yield sandbox

    def _path(self, container_id: str) -> Path:
        short = len(container_id) <= LONGEST_NAME
        name = container_id if short else hashlib.sha256(container_id.encode()).hexdigest()
        return self._directory / f"{name}{SUFFIX}"


def _read(path: Path) -> SandboxRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=SandboxRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IOFailure(f"{path} cannot be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("passed over", file=str(path), error=str(error))
        return None
