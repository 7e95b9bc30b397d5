"""The rtnetlink protocol: messages, attributes, and a blocking socket (rtnetlink(7), linux/rtnetlink.h).

The kernel answers a request before send(2) returns, so a blocking socket never waits for more than the kernel's own
work. Use it only on a thread that may wait; see `netlink`. This module holds only the part of the protocol that we use.

A pod that may administer its network (NET_ADMIN) can send to a socket of ours that is in its namespace. So a socket is
connected to the kernel, which makes Linux refuse what others send to it; what has another sender all the same is
dropped; and sequence numbers cannot be guessed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Iterator

from spiderpool.errors import KernelFailure

# Message types RTM_*: linux/rtnetlink.h.
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWRULE, DELRULE, GETRULE = 32, 33, 34
GETNSID = 90

# Request flags NLM_F_*: linux/netlink.h.
CREATE, EXCLUSIVE, REPLACE, DUMP = 0x400, 0x200, 0x100, 0x300
_REQUEST, _ACK = 0x1, 0x4
# Flags of answers: NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS.
_DUMP_INTERRUPTED, _CAPPED, _HAS_ATTRIBUTES = 0x10, 0x100, 0x200

# Types of control messages: NLMSG_ERROR, NLMSG_DONE (linux/netlink.h).
_ERROR, _DONE = 2, 3
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG

# Socket options of level SOL_NETLINK: NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK (linux/netlink.h).
SOL_NETLINK, _EXT_ACK, _STRICT_CHECK = 270, 11, 12

TIMEOUT = 10.0
"""Seconds for the answer to one request, whatever arrives meanwhile."""

_DUMPS = (GETLINK, GETADDR, GETROUTE, GETNEIGH, GETRULE)
_DUMP_ATTEMPTS = 10  # times that a dump is requested while changes interrupt it
_BUFFER = 1 << 16  # bytes; the kernel's datagrams have at most 32 KiB
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF  # NLA_F_NESTED, NLA_TYPE_MASK
_LONGEST_NUMBER = 8  # bytes

_ABSENT = {
    GETLINK: (errno.ENODEV,),
    DELLINK: (errno.ENODEV,),
    DELROUTE: (errno.ESRCH, errno.ENODEV, errno.ENOENT),
    DELRULE: (errno.ENOENT,),
    DELNEIGH: (errno.ENOENT, errno.ENODEV),
    GETROUTE: (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES),
}
"""Request type → the errnos by which the kernel says that the object does not exist; every other errno is a failure.

An IPv6 route that another process deletes at the same moment is ENOENT (``fib6_del`` in net/ipv6/ip6_fib.c), any other
one ESRCH. A route lookup (GETROUTE without DUMP) fails with ENETUNREACH when no route matches; the other three are the
errors of routes of type unreachable, blackhole and prohibit (``fib_props`` in net/ipv4/fib_semantics.c). EINVAL also
means that this host does not hold the source address.
"""


class NetlinkError(Exception):
    """The kernel refused one request.

    Attributes:
        code: the errno.
        reason: the errno in words, with the kernel's own explanation if it gave one.
        is_absent: whether the errno means that the object of the request does not exist.
    """

    def __init__(self, request: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.is_absent = code in _ABSENT.get(request, ())


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that contains other attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string attribute."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int, size: int = 4) -> bytes:
    """An attribute with an unsigned number of ``size`` bytes in the machine's byte order."""
    return attribute(kind, value.to_bytes(size, sys.byteorder))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from an offset on, by type; the last one wins if a type is repeated."""
    return dict(each_attribute(data, offset))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from an offset on, in order."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not 4 <= length <= len(data) - offset:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += length + -length % 4


def as_number(value: bytes) -> int:
    """The number in an attribute. Raises ValueError for what is too long for one."""
    if len(value) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(value)} bytes")
    return int.from_bytes(value, sys.byteorder)


def as_text(value: bytes) -> str:
    """The string in an attribute."""
    return value.rstrip(b"\0").decode(errors="replace")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise KernelFailure where bytes are no message of the kind that is read: too short, or with impossible parts."""
    try:
        yield
    except (struct.error, LookupError, ValueError, OverflowError) as error:
        raise KernelFailure(f"netlink: malformed message: {error!r}") from error


def is_from_kernel(sender: tuple[int, int] | None) -> bool:
    """Whether the sender of a datagram, as recvfrom(2) gives it, is the kernel: only that has the port id 0.

    None is the sender in a pair of sockets, into which nobody else can send.
    """
    return sender is None or sender[0] == 0


class Socket:
    """A route socket. It belongs for good to the network namespace of the thread that creates it."""

    def __init__(self, connection: socket.socket | None = None) -> None:
        """Open a route socket, or use ``connection`` in its place. Raises KernelFailure when none can be opened."""
        try:
            self._socket = connection or _open_route_socket()
        except OSError as error:
            raise KernelFailure(f"open a netlink socket: {error.strerror}") from error
        self._sequence = 0  # number of the last request, by which its answers are recognised

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send one request; returns the bodies of the messages that answer it.

        A dump during which the kernel's objects changed may lack some of them, so it is repeated; reading is harmless.

        Raises:
            NetlinkError: the kernel refuses the request.
            KernelFailure: no answer in time, or no dump without interruption.
        """
        flags |= _REQUEST | (0 if flags & DUMP == DUMP and kind in _DUMPS else _ACK)
        deadline = time.monotonic() + TIMEOUT
        try:
            for _ in range(_DUMP_ATTEMPTS):
                self._sequence = secrets.randbits(32)
                header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
                self._socket.send(header + body)
                bodies, complete = self._answer(kind, deadline)
                if complete:
                    return bodies
        except TimeoutError as error:
            raise KernelFailure(f"no answer from netlink within {TIMEOUT:g} seconds") from error
        except OSError as error:
            raise KernelFailure(f"netlink: {error.strerror}") from error
        raise KernelFailure(f"netlink: {_DUMP_ATTEMPTS} dumps in a row were interrupted by changes")

    def _answer(self, request: int, deadline: float) -> tuple[list[bytes], bool]:
        """The messages of an answer, and whether they are a consistent snapshot."""
        bodies: list[bytes] = []
        complete = True
        while True:
            for kind, flags, sequence, body in messages(self._receive(deadline)):
                if sequence != self._sequence:  # a late answer to an earlier request that timed out
                    continue
                complete = complete and not flags & _DUMP_INTERRUPTED
                if kind == _ERROR:
                    _raise_unless_zero(request, flags, body)
                    return bodies, complete
                if kind == _DONE:
                    return bodies, complete
                bodies.append(body)

    def _receive(self, deadline: float) -> bytes:
        """The kernel's next datagram. Raises TimeoutError after the deadline, also while others keep sending."""
        while (remaining := deadline - time.monotonic()) > 0:
            self._socket.settimeout(remaining)
            data, _, flags, sender = self._socket.recvmsg(_BUFFER)
            if not is_from_kernel(sender):
                continue
            if flags & socket.MSG_TRUNC:
                raise KernelFailure(f"netlink: an answer is longer than {_BUFFER} bytes")
            return data
        raise TimeoutError


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and body of each message in a datagram. Raises KernelFailure for a malformed one."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if not _HEADER.size <= length <= len(data) - offset:
            raise KernelFailure(f"netlink: malformed message: its length is {length} of {len(data) - offset} bytes")
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += length + -length % 4


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket that is connected to the kernel."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    opened.connect((0, 0))
    return opened


def _open_route_socket() -> socket.socket:
    opened = open_socket(socket.NETLINK_ROUTE)
    for option in (_EXT_ACK, _STRICT_CHECK):
        enable_if_known(opened, option)
    return opened


def enable_if_known(opened: socket.socket, option: int) -> None:
    """Switch a netlink option on; a kernel older than 4.20 lacks some: it explains less and ignores dump filters."""
    try:
        opened.setsockopt(SOL_NETLINK, option, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def _raise_unless_zero(request: int, flags: int, body: bytes) -> None:
    """Raise NetlinkError for a ``struct nlmsgerr`` whose error is not 0; 0 is an acknowledgement."""
    with reading():
        code = -struct.unpack_from("=i", body)[0]
        if code == 0:
            return
        reason = f"{os.strerror(code)} (errno {code})"
        if flags & _HAS_ATTRIBUTES:
            original = _HEADER.size if flags & _CAPPED else struct.unpack_from("=I", body, 4)[0]
            explanation = attributes(body, 4 + original + -original % 4).get(_ERROR_TEXT)
            reason = f"{as_text(explanation)}: {reason}" if explanation else reason
    raise NetlinkError(request, code, reason)
