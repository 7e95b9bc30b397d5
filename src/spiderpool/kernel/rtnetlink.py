"""The rtnetlink protocol: messages, attributes, and a blocking socket (rtnetlink(7), linux/rtnetlink.h).

The kernel answers a request before send(2) returns, so a blocking socket never waits for more than the kernel's own
work. It is used on a thread that may wait; see `netlink`. Only what we send and read is here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

from spiderpool.errors import KernelFailure

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWRULE, DELRULE, GETRULE = 32, 33, 34

CREATE, EXCLUSIVE, REPLACE, DUMP = 0x400, 0x200, 0x100, 0x300

TIMEOUT = 10.0
"""Seconds for the answer to one request."""

_DUMPS = (GETLINK, GETADDR, GETROUTE, GETNEIGH, GETRULE)
_REQUEST, _ACK = 0x1, 0x4
_ERROR, _DONE = 2, 3
_INTERRUPTED = 0x10
_DUMP_ATTEMPTS = 4
_CAPPED, _HAS_TEXT = 0x100, 0x200
_TEXT = 1
_SOL_NETLINK, _EXT_ACK, _STRICT = 270, 11, 12
_BUFFER = 1 << 16
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_KIND = 0x3FFF


class NetlinkError(Exception):
    """The kernel's answer to one request is an error: ``code`` is the errno, ``reason`` what it says of it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string attribute."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int, size: int = 4) -> bytes:
    """An unsigned number of ``size`` bytes in the machine's order."""
    return attribute(kind, value.to_bytes(size, sys.byteorder))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from an offset on; of a repeated one the last."""
    return dict(each_attribute(data, offset))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from an offset on, in order."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _KIND, data[offset + 4 : offset + length]
        offset += length + -length % 4


def as_number(value: bytes) -> int:
    """The number in an attribute."""
    return int.from_bytes(value, sys.byteorder)


def as_text(value: bytes) -> str:
    """The string in an attribute."""
    return value.rstrip(b"\0").decode(errors="replace")


class Socket:
    """A route socket of the network namespace in which the calling thread is; it stays there."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        for option in (_EXT_ACK, _STRICT):
            with contextlib.suppress(OSError):  # a kernel before 4.20 says less and dumps more
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(TIMEOUT), 0))

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send one request; returns the bodies of the messages that answer it.

        A dump that others' changes interrupted is asked for again, a few times.

        Raises:
            Refusal: the kernel says no.
            KernelFailure: no answer in time.
        """
        flags |= _REQUEST | (0 if flags & DUMP == DUMP and kind in _DUMPS else _ACK)
        try:
            for _ in range(_DUMP_ATTEMPTS):
                self._sequence += 1
                header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
                self._socket.send(header + body)
                bodies, whole = self._answer()
                if whole:
                    break
        except BlockingIOError as error:
            raise KernelFailure(f"no answer from netlink within {TIMEOUT:g} seconds") from error
        except OSError as error:
            raise KernelFailure(f"netlink: {error.strerror}") from error
        return bodies

    def _answer(self) -> tuple[list[bytes], bool]:
        """The messages of an answer, and whether they are of one moment."""
        bodies: list[bytes] = []
        whole = True
        while True:
            for kind, flags, body in self._messages():
                whole = whole and not flags & _INTERRUPTED
                if kind == _ERROR:
                    _raise_unless_zero(flags, body)
                    return bodies, whole
                if kind == _DONE:
                    return bodies, whole
                bodies.append(body)

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """One datagram's messages. Answers to a request that was given up bear its number and are passed over."""
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence == self._sequence:
                yield kind, flags, data[offset + _HEADER.size : offset + length]
            offset += length + -length % 4


def _raise_unless_zero(flags: int, body: bytes) -> None:
    code = -struct.unpack_from("=i", body)[0]
    if code == 0:
        return
    reason = f"{os.strerror(code)} (errno {code})"
    if flags & _HAS_TEXT:
        original = _HEADER.size if flags & _CAPPED else struct.unpack_from("=I", body, 4)[0]
        said = attributes(body, 4 + original + -original % 4).get(_TEXT)
        reason = f"{as_text(said)}: {reason}" if said else reason
    raise NetlinkError(code, reason)


def is_absent(refusal: NetlinkError) -> bool:
    """Whether the kernel says that the thing is not there."""
    return refusal.code in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)
