"""The far end of route sockets: a pretend kernel that gives every request the same answer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Kernel, Netns

SEQUENCE = b"SEQ."
"""Stands in an answer for the sequence number of the request."""
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_SEQUENCE = slice(8, 12)


class PretendKernel:
    """In place of a socket. After its answer nothing more comes."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._datagrams: list[bytes] = []

    def send(self, request: bytes) -> None:
        """Take a request."""
        self._datagrams = [self._answer(request).replace(SEQUENCE, request[_SEQUENCE])]

    def settimeout(self, seconds: float) -> None:
        """Nobody waits here."""

    def recvmsg(self, size: int) -> tuple[bytes, list[Any], int, tuple[int, int]]:
        """The answer, once. Raises TimeoutError."""
        if not self._datagrams:
            raise TimeoutError
        return self._datagrams.pop(), [], 0, (0, 0)

    def close(self) -> None:
        """Nothing is open."""

    def socket(self) -> socket.socket:
        """Itself, as the code under test takes it."""
        return cast(socket.socket, self)

    def kernel(self) -> Kernel:
        """The namespaces of a node and of a pod, of which this is the kernel."""
        node, pod = (Netns(side, rt.Socket(self.socket()), 7) for side in ("node", "pod"))
        return Kernel(node, pod, ExitStack())


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A message of an answer."""
    padding = bytes(-len(body) % 4)
    head = struct.pack("=IHH4sI", _HEADER.size + len(body), kind, flags, SEQUENCE, 0)
    return head + body + padding


def acknowledged(*messages: bytes) -> bytes:
    """An answer that ends well."""
    return b"".join((*messages, message(2, bytes(20))))
