"""Boots the nodes of a lab on its fabric, waits until they answer, and stops them."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import msgspec

import spiderpool
from spiderpool.errors import BadConfig, IOFailure, NotReady
from spiderpool_lab import binaries, node_disk, uml
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import MANAGEMENT, Fabric
from spiderpool_lab.node import DISK, ClusterServices, NodeConfig
from spiderpool_lab.node_client import NodeClient
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import LabNode

_POLL_INTERVAL = 0.05
"""Seconds between two requests to a node that boots."""
_LOG_TAIL = 3000
"""Characters of a node's log that an error quotes."""
_SOURCES = Path(spiderpool.__file__).parents[1]
"""The folder of the code that runs here: where several checkouts share a venv, it may have another's."""
_NOT_FIRST = ("sh", "-c", '"$@"; exit', "sh")
"""Runs a command as a child of process 1: abort(3), by which a panicking kernel ends, does not end process 1 itself."""


class NodeHardware(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a node, as the kernel's ``mem=``, and whether a real node keeps its disk over a reboot.

    On the disk are the states of kubelet, containerd and CNI.
    """

    memory: str = "1G"
    keep_disk: bool = False


DEFAULT_HARDWARE = NodeHardware()


class Machines:
    """The nodes of one fabric. ``directory`` gets a folder with logs for each node.

    ``services`` are the cluster's daemons by node name; a node without runs its endpoint only. Call :meth:`start` from
    the main thread: unless ``processes`` is detached, the kernel ends nodes with the thread that started them.
    """

    def __init__(
        self,
        fabric: Fabric,
        processes: Processes,
        directory: Path,
        *,
        services: Mapping[str, ClusterServices] | None = None,
        hardware: NodeHardware = DEFAULT_HARDWARE,
    ) -> None:
        self.fabric = fabric
        self.processes = processes
        self.directory = directory.resolve()
        self.services = services or {}
        self.hardware = hardware

    def start(self, *, timeout: float = 60.0) -> None:
        """Boot all nodes and wait until each answers, for at most ``timeout`` seconds; stop them again on failure."""
        compileall.compile_dir(
            Path(spiderpool.__file__).parent, quiet=2
        )  # nodes have a read-only root and could not cache bytecode
        try:
            for node in self.fabric.topology.nodes:
                self.boot(node)
            for node in self.fabric.topology.nodes:
                self.wait(node, timeout=timeout)
        except BaseException:
            self.stop()
            raise

    def boot(self, node: LabNode, *, keep_disk: bool | None = None) -> None:
        """Boot one node, without waiting, with the disk that it had or a new one; its hardware decides by default."""
        share, keep = self.share(node), self.hardware.keep_disk if keep_disk is None else keep_disk
        if not keep:
            shutil.rmtree(share / DISK.name, ignore_errors=True)
        (share / DISK.name).mkdir(parents=True, exist_ok=True)
        config = self._config(node, share)
        file = share / "config.json"
        file.write_bytes(msgspec.json.encode(config))
        self._make_disk(node, config, keep=keep)
        match self.fabric.backend:
            case NodeBackend.UML:
                command, netns = self._uml_command(node, file), self.fabric.vpc
            case NodeBackend.NATIVE:
                command, netns = ["--mount-proc", *_first_program(file)], self.fabric.node_namespace(node)
            case other:
                assert_never(other)
        # The kernel ends all processes of a PID namespace with its first one, however that ends.
        isolation = ["taskset", "-c", str(self._cpu(node)), "unshare", "--pid", "--fork", "--kill-child"]
        self.processes.start(_process(node), [*isolation, *command], netns=netns)

    def stop(self) -> None:
        """End every node that runs."""
        for node in self.fabric.topology.nodes:
            self.cut_power(node)

    def cut_power(self, node: LabNode) -> None:
        """Kill one node; :meth:`boot` starts it again, with an empty file system unless it keeps its disk."""
        self.processes.kill(_process(node), signal.SIGKILL)
        self.processes.stop(_process(node))

    def client(self, name: str) -> NodeClient:
        """A client of the node's endpoint. Raises KeyError if there is no such node."""
        return NodeClient(self.fabric.management, self.fabric.topology.node(name).management)

    def share(self, node: LabNode) -> Path:
        """The node's folder on this machine, with ``agent.log``, ``kubelet.log`` and ``kube-proxy.log``."""
        return self.directory / node.name

    def _cpu(self, node: LabNode) -> int:
        """The CPU of a node, each in turn: User Mode Linux uses only one, and is slower when it is moved to another."""
        cpus = sorted(os.sched_getaffinity(0))
        return cpus[self.fabric.topology.nodes.index(node) % len(cpus)]

    def _config(self, node: LabNode, share: Path) -> NodeConfig:
        modules = str(binaries.uml_modules()) if self.fabric.backend is NodeBackend.UML else None
        return NodeConfig(
            topology=self.fabric.topology,
            name=node.name,
            share=str(share),
            modules=modules,
            services=self.services.get(node.name),
        )

    def _disk(self, node: LabNode) -> Path:
        return self.share(node) / "disk.ext4"

    def _make_disk(self, node: LabNode, config: NodeConfig, *, keep: bool) -> None:
        """Give a real node a new disk, unless it has one that it keeps."""
        if config.real and not (keep and self._disk(node).exists()):
            node_disk.copy(Path(config.real.disk), self._disk(node))

    def _uml_command(self, node: LabNode, file: Path) -> list[str]:
        """The kernel, with the host's file tree as its read-only root. Its umid is unique in the lab's own folder."""
        init, *arguments = _without_spaces(_first_program(file))
        console = ["con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=3"]
        root = ["root=/dev/root", "rootfstype=hostfs", "ro", f"mem={self.hardware.memory}"]
        identity = [f"umid={node.name}", f"uml_dir={file.parent}/uml"]
        kernel = [*_NOT_FIRST, *uml.kernel_command()]
        disk = [f"ubd0={self._disk(node)}"] if self._disk(node).exists() else []
        environment = _without_spaces([f"PYTHONPATH={_SOURCES}"])  # a kernel hands to init what it does not know itself
        command = [*kernel, *root, *console, *identity, *disk, *self._uml_enis(node), *environment]
        return [*command, f"init={init}", "--", *arguments]

    def _uml_enis(self, node: LabNode) -> list[str]:
        """Taps as NICs, with gro: without it a guest loses large segments, which the host leaves to a NIC to split.

        The guest cannot raise the MTU of such a NIC above 1500 later.
        """
        ports = [f"ifname={node.port(eni.name)},mac={eni.mac},mtu={eni.mtu}" for eni in node.enis]
        ports.append(f"ifname={node.port(MANAGEMENT)},mac={node.management_mac}")
        return [f"vec{index}:transport=tap,depth=64,gro=1,{port}" for index, port in enumerate(ports)]

    def wait(self, node: LabNode, *, timeout: float = 60.0) -> None:
        """Wait until a node answers. Raises IOFailure if it died, NotReady after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self._is_ready(node):
            if time.monotonic() > deadline:
                raise NotReady(f"node {node.name} did not answer within {timeout} s; see {self._log(node)}")
            time.sleep(_POLL_INTERVAL)

    def _is_ready(self, node: LabNode) -> bool:
        if self.processes.pid(_process(node)) is None:
            log = self._log(node)
            tail = log.read_text(errors="replace")[-_LOG_TAIL:]
            raise IOFailure(f"node {node.name} died while it booted; its last words are in {log}", details=tail)
        try:
            self.client(node.name).state(timeout=2.0)
        except IOFailure:
            return False
        return True

    def _log(self, node: LabNode) -> Path:
        return self.processes.log(_process(node))


def _process(node: LabNode) -> str:
    return f"node-{node.name}"


def _first_program(file: Path) -> list[str]:
    return [sys.executable, "-m", "spiderpool_lab.node", str(file)]


def _without_spaces(command: list[str]) -> list[str]:
    """The command unchanged. Raises BadConfig if a word has a space, at which a kernel command line is split."""
    for word in command:
        if " " in word:
            raise BadConfig(f"{word!r} has a space, which a kernel command line cannot carry; use a path without")
    return command
