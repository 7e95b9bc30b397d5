"""Connections that the kernel tracks for address translation (ctnetlink): delete those of UDP, find one of TCP.

Constants carry the names of linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h. All acts in the network namespace of
the calling thread.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address

from spiderpool.core.network.hostports import Connection
from spiderpool.errors import KernelFailure
from spiderpool.kernel import rtnetlink as rt

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2  # IPCTNL_MSG_CT_*
_HEADER = struct.Struct("!BBH")  # struct nfgenmsg
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_TUPLE_ORIG, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25  # CTA_*
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES, _DESTINATIONS = {4: 1, 6: 3}, {4: 2, 6: 4}  # CTA_IP_V4_SRC …
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS = 1
_FILTER_NUM, _FILTER_DST_PORT = 1 << 3, 1 << 5  # CTA_FILTER_F_CTA_PROTO_*


def forget_udp(version: int, ports: Collection[int], is_stale: Callable[[Connection], bool]) -> int:
    """Delete the UDP connections to these ports for which ``is_stale`` is true; their number.

    Raises KernelFailure: the kernel cannot list or delete them.
    """
    try:
        with contextlib.closing(_Conntrack(rt.open_socket(_NETLINK_NETFILTER))) as kernel:
            stale = [entry for entry, connection in kernel.udp_to(version, ports) if is_stale(connection)]
            for entry in stale:
                kernel.delete(version, entry)
    except (OSError, rt.NetlinkError) as error:
        raise KernelFailure(f"connections to UDP ports {sorted(ports)[:5]} cannot be deleted: {error}") from error
    return len(stale)


def answering(source: tuple[str, int], destination: tuple[str, int]) -> tuple[str, int] | None:
    """The address and port that answer a TCP connection; None where the kernel does not track it, or does not tell."""
    try:
        with contextlib.closing(_Conntrack(rt.open_socket(_NETLINK_NETFILTER))) as kernel:
            found = kernel.tcp(source, destination)
    except (OSError, rt.NetlinkError):
        return None
    return found.answer_source, found.answer_port


class _Conntrack(rt.Socket):
    def tcp(self, source: tuple[str, int], destination: tuple[str, int]) -> Connection:
        """The connection between two addresses and ports, as its client sees them."""
        version = ip_address(source[0]).version
        kinds = (_SOURCES[version], _DESTINATIONS[version])
        addresses = (ip_address(each[0]).packed for each in (source, destination))
        ends = b"".join(map(rt.attribute, kinds, addresses))
        protocol = rt.attribute(_PROTO_NUM, bytes([socket.IPPROTO_TCP]))
        protocol += rt.attribute(_PROTO_SRC_PORT, source[1].to_bytes(2))
        protocol += rt.attribute(_PROTO_DST_PORT, destination[1].to_bytes(2))
        wanted = rt.nested(_TUPLE_IP, ends) + rt.nested(_TUPLE_PROTO, protocol)
        body = _HEADER.pack(_FAMILIES[version], 0, 0) + rt.nested(_TUPLE_ORIG, wanted)
        with rt.reading():
            return read(version, self.request(_GET, body)[0])[1]

    def udp_to(self, version: int, ports: Collection[int]) -> Iterator[tuple[bytes, Connection]]:
        """The entries of UDP connections to ports, by one list: the kernel filters by one port, or lists all of UDP.

        Kernels older than 5.8 list all, hence the comparison.
        """
        wanted, flags = rt.attribute(_PROTO_NUM, bytes([socket.IPPROTO_UDP])), _FILTER_NUM
        if len(ports) == 1:
            (port,) = ports
            wanted, flags = wanted + rt.attribute(_PROTO_DST_PORT, port.to_bytes(2)), flags | _FILTER_DST_PORT
        body = _HEADER.pack(_FAMILIES[version], 0, 0) + rt.nested(_TUPLE_ORIG, rt.nested(_TUPLE_PROTO, wanted))
        body += rt.nested(_FILTER, rt.number(_FILTER_ORIG_FLAGS, flags))
        for entry in self.request(_GET, body, rt.DUMP):
            protocol, connection = read(version, entry)
            if protocol == socket.IPPROTO_UDP and connection.port in ports:
                yield entry, connection

    def delete(self, version: int, entry: bytes) -> None:
        """Delete an entry, as `udp_to` gave it; one that has ended meanwhile is success."""
        with rt.reading():
            found = rt.attributes(entry, _HEADER.size)
            body = _HEADER.pack(_FAMILIES[version], 0, 0) + rt.nested(_TUPLE_ORIG, found[_TUPLE_ORIG])
            body += rt.attribute(_ID, found[_ID])
        try:
            self.request(_DELETE, body)
        except rt.NetlinkError as error:
            if error.code != errno.ENOENT:
                raise


def read(version: int, entry: bytes) -> tuple[int, Connection]:
    """The protocol of an entry, and its connection. Raises KernelFailure for bytes that are none."""
    with rt.reading():
        found = rt.attributes(entry, _HEADER.size)
        first, answer = (rt.attributes(found[kind]) for kind in (_TUPLE_ORIG, _TUPLE_REPLY))
        protocol, answered = (rt.attributes(each[_TUPLE_PROTO]) for each in (first, answer))
        source, destination = _addresses(version, first)
        answer_source, answer_destination = _addresses(version, answer)
        connection = Connection(
            source,
            destination,
            int.from_bytes(protocol.get(_PROTO_DST_PORT, b"")),
            answer_source,
            answer_destination,
            int.from_bytes(answered.get(_PROTO_SRC_PORT, b"")),
        )
        return protocol[_PROTO_NUM][0], connection


def _addresses(version: int, direction: dict[int, bytes]) -> tuple[str, str]:
    """Source and destination of a direction."""
    found = rt.attributes(direction[_TUPLE_IP])
    return str(ip_address(found[_SOURCES[version]])), str(ip_address(found[_DESTINATIONS[version]]))
