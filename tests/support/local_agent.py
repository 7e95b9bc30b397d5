"""Starts a real agent process on this host and calls its CNI socket, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spiderpool.api.cni import CNICall, frame_call
from spiderpool.errors import NotReady
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes

CONFIG = b'{"cniVersion":"1.0.0","name":"bench","type":"ipvlan","ipam":{"type":"spiderpool"}}'


@dataclass(frozen=True)
class AgentOptions:
    """Options of an agent process.

    ``settings`` are further lines of its conf.yml, ``environment`` is added to its environment. With ``netns``, the
    process is in this network namespace, from which the API server's loopback address must lead to the API server.
    ``server`` is the URL of what stands before the API server.
    """

    settings: str = "enableIPv4: true"
    environment: Mapping[str, str] = field(default_factory=dict)
    netns: Path | None = None
    server: str | None = None
    prefix: Sequence[str] = ()
    """A program with arguments that executes the agent."""


class LocalAgent:
    """A real agent process of a node; its files are in ``directory``. ``access`` is its cluster, or a kubeconfig.

    In a cluster it has a token of its node, which ends when there has been no Node of that name for 40 s.
    """

    def __init__(
        self,
        access: ControlPlane | Path,
        processes: Processes,
        directory: Path,
        node: str,
        options: AgentOptions | None = None,
    ) -> None:
        options = options or AgentOptions()
        self.node = node
        self.socket = directory / node / "agent.sock"  # beside it are files of the node's sandboxes, and of no other's
        self.socket.parent.mkdir(exist_ok=True)
        self._name = f"agent-{node}"
        self._processes = processes
        kubeconfig = access if isinstance(access, Path) else agent_kubeconfig(access, node, options.server)
        self._environment = _environment(kubeconfig, directory, node, self.socket, options)
        self._prefix = [*(["nsenter", f"--net={options.netns}", "--"] if options.netns else []), *options.prefix]

    def start(self, timeout: float = 60.0) -> None:
        """Start the agent and wait until it is healthy. Raises NotReady, with the end of its log, if it is not."""
        self.launch()
        deadline = time.monotonic() + timeout
        while not asyncio.run(self._healthy()):
            if self._processes.pid(self._name) is None or time.monotonic() > deadline:
                log = self._processes.log(self._name).read_text()[-2000:]
                raise NotReady(f"agent of {self.node} does not serve {self.socket}: {log}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start the agent."""
        command = [*self._prefix, sys.executable, "-m", "spiderpool.agent.main"]
        self._processes.start(self._name, command, env=self._environment)

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self._processes.log(self._name)

    @property
    def pid(self) -> int | None:
        """Its process ID, or None if it does not run."""
        return self._processes.pid(self._name)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would."""
        self._processes.kill(self._name, signal.SIGKILL)
        self._processes.stop(self._name)

    def stop(self) -> None:
        """Stop it with SIGTERM."""
        self._processes.stop(self._name)

    async def address(
        self, command: str, namespace: str, pod: str, uid: str, interface: str = "eth0"
    ) -> dict[str, Any]:
        """Call the IPAM plugin for a pod. Returns the decoded answer: empty for DEL, with a ``code`` for an error."""
        return await self.call(ipam_call(command, namespace, pod, uid, interface))

    def address_now(self, command: str, namespace: str, pod: str, uid: str) -> dict[str, Any]:
        """As :meth:`address`, but blocking."""
        body = frame_call(ipam_call(command, namespace, pod, uid))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.socket))
            sock.sendall(_request("POST", "/v1/cni", body))
            reply = bytearray()
            while chunk := sock.recv(65536):
                reply += chunk
        document: dict[str, Any] = json.loads(_parse_reply(bytes(reply))[1] or b"{}")
        return document

    async def call(self, call: CNICall) -> dict[str, Any]:
        """Send a CNI call and return the decoded answer."""
        _, answer = await exchange(self.socket, frame_call(call))
        document: dict[str, Any] = json.loads(answer) if answer.strip() else {}
        return document

    async def _healthy(self) -> bool:
        try:
            status, _ = await exchange(self.socket, b"", "GET", "/v1/runtime/readiness")
        except OSError:
            return False
        return status == 200


def agent_kubeconfig(plane: ControlPlane, node: str, server: str | None = None) -> Path:
    """A kubeconfig with the rights of a node's agent."""
    return plane.service_account_kubeconfig("kube-system", "spiderpool-agent", server, node=node)


@contextmanager
def node_objects(plane: ControlPlane, *names: str) -> Iterator[None]:
    """Nodes that exist while the context lasts."""
    plane.apply(*(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}) for name in names))
    try:
        yield
    finally:
        plane.kubectl("delete", "nodes", *names, "--ignore-not-found")


def ipam_call(command: str, namespace: str, pod: str, uid: str, interface: str = "eth0") -> CNICall:
    """The CNI call that an interface plugin makes to its IPAM plugin for a pod.

    Its network namespace is gone: nothing is at the path, in a folder that holds others.
    """
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};K8S_POD_UID={uid}"
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"sandbox-{uid}",
        "CNI_NETNS": f"/proc/self/ns/{uid}",
        "CNI_IFNAME": interface,
        "CNI_ARGS": arguments,
        "CNI_PATH": "/opt/cni/bin",
    }
    return CNICall("spiderpool", environment, CONFIG)


async def exchange(path: Path, body: bytes, method: str = "POST", target: str = "/v1/cni") -> tuple[int, bytes]:
    """Send an HTTP/1.0 request to a Unix socket. Returns status and body. Raises OSError without an answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        await loop.sock_connect(sock, str(path))
        await loop.sock_sendall(sock, _request(method, target, body))
        reply = bytearray()
        while chunk := await loop.sock_recv(sock, 65536):
            reply += chunk
    return _parse_reply(bytes(reply))


def _request(method: str, target: str, body: bytes) -> bytes:
    return f"{method} {target} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _parse_reply(reply: bytes) -> tuple[int, bytes]:
    head, _, answer = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        raise ConnectionResetError("the agent went away without an answer")
    return int(head.split(b" ", 2)[1]), answer.strip()


def _environment(kubeconfig: Path, directory: Path, node: str, socket: Path, options: AgentOptions) -> dict[str, str]:
    config = directory / f"{node}.yml"
    config.write_text(f"ipamUnixSocketPath: {socket}\n{options.settings}\n")
    return {
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_NODE_NAME": node,
        "SPIDERPOOL_POD_NAMESPACE": "kube-system",
        "SPIDERPOOL_CONFIG": str(config),
        "SPIDERPOOL_INSTALL_CNI": "false",
        "MULTUS_CLUSTER_NETWORK": "kube-system/ipvlan-eth0",
        "SPIDERPOOL_LOG_LEVEL": "warn",
        **options.environment,
    }
