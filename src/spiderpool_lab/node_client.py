"""Client of a node's endpoint: runs commands, sends probes, reads the state, sends signals.

The types of requests and answers are here; the server is :mod:`spiderpool_lab.node_endpoint`.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from spiderpool.errors import IOFailure
from spiderpool_lab import namespaces
from spiderpool_lab.node import ENDPOINT_PORT
from spiderpool_lab.probes import Answer, TrafficProbe

T = TypeVar("T")


class Command(msgspec.Struct, frozen=True):
    """A command to run in a pod's network namespace (``namespace/name``), or in the node's."""

    argv: list[str]
    pod: str | None = None
    timeout: float = 10.0


class Outcome(msgspec.Struct, frozen=True):
    """The result of a command. ``rc`` is 124 if it was killed at its timeout, 127 if it does not exist."""

    rc: int
    stdout: str
    stderr: str


class NodePodState(msgspec.Struct, frozen=True):
    """A pod of the node; ``netns`` and ``container_id`` are None while it has no sandbox."""

    pod: str
    uid: str
    netns: str | None
    container_id: str | None


class NodeState(msgspec.Struct, frozen=True):
    """The pods of a node and the pids of its daemons."""

    pods: list[NodePodState]
    children: dict[str, int]


class Signal(msgspec.Struct, frozen=True):
    """A signal for a daemon of the node: ``agent``, ``kubelet`` or ``kube-proxy``."""

    child: str
    number: int = 9


class Kill(msgspec.Struct, frozen=True):
    """A pod (``namespace/name``) of the stand-in of which a container is to end, or with None the sandbox."""

    pod: str
    container: str | None = None


class NodeClient:
    """Reaches a node through a named network namespace of the host. Methods raise IOFailure if it does not answer."""

    def __init__(self, netns: str, address: str) -> None:
        self.netns = namespaces.path(netns)
        self.address = address

    def exec(self, argv: Sequence[str], *, pod: str | None = None, timeout: float = 10.0) -> Outcome:
        """Run a command in the node or in a pod of it."""
        return self._call("POST", "/exec", Command(list(argv), pod, timeout), Outcome, timeout + 5)

    def probe(self, probes: Sequence[TrafficProbe]) -> list[Answer]:
        """Send all probes, many at the same time; answers in the order of the probes."""
        longest = max((probe.count * probe.timeout for probe in probes), default=0.0)
        patience = longest + 10 + len(probes) * 0.1  # seconds; longest where no probe is answered
        return self._call("POST", "/probes", list(probes), list[Answer], patience)

    def state(self, *, timeout: float = 5.0) -> NodeState:
        """The current pods and daemons."""
        return self._call("GET", "/state", None, NodeState, timeout)

    def signal(self, child: str, number: int = 9) -> None:
        """Send a signal to a daemon of the node."""
        self._call("POST", "/signal", Signal(child, number), dict[str, int], 5.0)

    def kill(self, pod: str, container: str | None = None) -> None:
        """End a container of a pod of the stand-in as SIGKILL would, or without a name its sandbox."""
        self._call("POST", "/kill", Kill(pod, container), dict[str, str], 5.0)

    def _call(self, method: str, path: str, body: object, shape: type[T], timeout: float) -> T:
        """One request. Raises IOFailure if the node does not answer, or refuses."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            status, answer = self._exchange(method, path, data, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise IOFailure(f"node {self.address} did not answer {method} {path}: {error}") from error
        if status != 200:
            raise IOFailure(f"node {self.address} refused {method} {path}: {answer.decode()}")
        return msgspec.json.decode(answer, type=shape)

    def _exchange(self, method: str, path: str, data: bytes | None, timeout: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, ENDPOINT_PORT)
        connection.sock = connect(self.netns, self.address, ENDPOINT_PORT, timeout)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def connect(netns: Path, address: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection from inside a network namespace. Raises OSError."""
    sock = namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
