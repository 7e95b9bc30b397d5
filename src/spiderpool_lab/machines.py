"""The nodes of a lab: booted on a fabric, reached through its management network, stopped without a trace."""

from __future__ import annotations

import compileall
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import msgspec

import spiderpool
from spiderpool.errors import BadConfig, IOFailure, NotReady
from spiderpool_lab import binaries, uml
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import MANAGEMENT, Fabric
from spiderpool_lab.node import ClusterServices, NodeConfig
from spiderpool_lab.node_client import NodeClient
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import LabNode

_POLL = 0.05
_LOG_TAIL = 3000
_NOT_FIRST = ("sh", "-c", '"$@"; exit', "sh")
"""Runs a command as its child: a process 1 that aborts, as a kernel in panic does, is not ended by that."""


class Machines:
    """The nodes of one fabric. ``directory`` gets a folder per node with its logs.

    ``services`` says, per node name, how the node takes part in a cluster; without, nodes boot with their
    endpoint only. Call :meth:`start` from a thread that lasts: nodes end with the thread that started them,
    unless ``processes`` is detached.
    """

    def __init__(
        self,
        fabric: Fabric,
        processes: Processes,
        directory: Path,
        *,
        services: Mapping[str, ClusterServices] | None = None,
        memory: str = "1G",
    ) -> None:
        self.fabric = fabric
        self.processes = processes
        self.directory = directory.resolve()
        self.services = services or {}
        self.memory = memory

    def start(self, *, timeout: float = 60.0) -> None:
        """Boot every node and wait until all answer, ``timeout`` seconds for each; stops them again on failure."""
        compileall.compile_dir(Path(spiderpool.__file__).parent, quiet=2)  # nodes could not keep what they compile
        try:
            for node in self.fabric.topology.nodes:
                self.boot(node)
            for node in self.fabric.topology.nodes:
                self.wait(node, timeout=timeout)
        except BaseException:
            self.stop()
            raise

    def boot(self, node: LabNode) -> None:
        """Boot one node, without waiting."""
        share = self.share(node)
        share.mkdir(parents=True, exist_ok=True)
        config = self._config(node, share)
        file = share / "config.json"
        file.write_bytes(msgspec.json.encode(config))
        match self.fabric.backend:
            case NodeBackend.UML:
                command, netns = self._uml_command(node, file), self.fabric.vpc
            case NodeBackend.NATIVE:
                command, netns = ["--mount-proc", *_first_program(file)], self.fabric.node_namespace(node)
            case other:
                assert_never(other)
        # A process namespace dies with its first process: whatever ends that leaves nothing behind.
        isolation = ["taskset", "-c", str(self._cpu(node)), "unshare", "--pid", "--fork", "--kill-child"]
        self.processes.start(_process(node), [*isolation, *command], netns=netns)

    def stop(self) -> None:
        """End every node; nothing happens if none runs."""
        for node in self.fabric.topology.nodes:
            self.cut_power(node)

    def cut_power(self, node: LabNode) -> None:
        """End one node without warning; :meth:`boot` starts it again, with nothing remembered."""
        self.processes.kill(_process(node), signal.SIGKILL)
        self.processes.stop(_process(node))

    def client(self, name: str) -> NodeClient:
        """How to reach a node."""
        return NodeClient(self.fabric.management, self.fabric.topology.node(name).management)

    def share(self, node: LabNode) -> Path:
        """The folder that a node may write: ``agent.log``, ``kubelet.log``, ``kube-proxy.log``."""
        return self.directory / node.name

    def _cpu(self, node: LabNode) -> int:
        """One CPU for each node in turn: a kernel of User Mode Linux uses one, and is slower when it moves."""
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

    def _uml_command(self, node: LabNode, file: Path) -> list[str]:
        """The kernel with the host's file tree as its read-only root. Unknown words become init's environment."""
        init, *arguments = _without_spaces(_first_program(file))
        console = ["con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=3"]
        root = ["root=/dev/root", "rootfstype=hostfs", "ro", f"mem={self.memory}"]
        identity = [f"umid={node.name}", f"uml_dir={file.parent}/uml"]
        kernel = [*_NOT_FIRST, *uml.kernel_command()]
        command = [*kernel, *root, *console, *identity, *self._uml_enis(node)]
        return [*command, f"init={init}", "--", *arguments]

    def _uml_enis(self, node: LabNode) -> list[str]:
        """With gro a guest has room for what hosts send in one piece, to be cut by an ENI; without, it loses that."""
        ports = [f"ifname={node.port(eni.name)},mac={eni.mac}" for eni in node.enis]
        ports.append(f"ifname={node.port(MANAGEMENT)},mac={node.management_mac}")
        return [f"vec{index}:transport=tap,depth=64,gro=1,{port}" for index, port in enumerate(ports)]

    def wait(self, node: LabNode, *, timeout: float = 60.0) -> None:
        """Wait until a node answers. Raises IOFailure if it died, NotReady after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self._is_ready(node):
            if time.monotonic() > deadline:
                raise NotReady(f"node {node.name} did not answer within {timeout} s; see {self._log(node)}")
            time.sleep(_POLL)

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
    """A kernel command line is split at spaces, whoever wrote them."""
    for word in command:
        if " " in word:
            raise BadConfig(f"{word!r} has a space, which a kernel command line cannot carry; use a path without")
    return command
