"""A filter of what leaves by a link, below netfilter: what goes to one address is dropped, except from some sources.

It is a classic BPF program, which every kernel with ``cls_bpf`` takes, on the qdisc ``clsact`` at a priority of ours.
Other programs' filters stay and see what passes ours. Constants carry the names of linux/pkt_sched.h, linux/pkt_cls.h
and linux/filter.h. Everything here acts in the namespace of the socket.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from spiderpool.errors import KernelFailure
from spiderpool.kernel import rtnetlink as rt

_NEWQDISC, _GETQDISC, _NEWTFILTER, _DELTFILTER, _GETTFILTER = 36, 38, 44, 45, 46  # RTM_*
_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg: family, link, handle, parent, info
_CLSACT, _CLSACT_HANDLE, _EGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF3
_KIND, _OPTIONS = 1, 2  # TCA_*
_OPS_LENGTH, _OPS, _FLAGS = 4, 5, 8  # TCA_BPF_*
_DIRECT = 1  # TCA_BPF_FLAG_ACT_DIRECT: the program's result is what happens to the packet

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_IP_HEADER = 0xFFF00000  # SKF_NET_OFF
_SOURCE, _DESTINATION = _IP_HEADER + 12, _IP_HEADER + 16
_NEXT_FILTER, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT

PRIORITY = 7
"""Early, since filters of others may end the classification, but not one that others are known to use."""
_HANDLE = 1


def drop_except(kernel: rt.Socket, link: int, destination: IPv4Address, sources: Iterable[IPv4Address]) -> None:
    """Drop what leaves by a link to an address, except from some sources; replaces an earlier filter at once.

    Raises KernelFailure: the kernel lacks the qdisc clsact or the classifier bpf, or another qdisc is in its place.
    """
    wanted = program(destination, sources)
    try:
        _add_qdisc(kernel, link)
        if _present(kernel, link) == wanted:
            return
        length = rt.number(_OPS_LENGTH, len(wanted) // _INSTRUCTION.size, 2)
        options = length + rt.attribute(_OPS, wanted) + rt.number(_FLAGS, _DIRECT)
        body = _head(link) + rt.text(_KIND, "bpf") + rt.nested(_OPTIONS, options)
        kernel.request(_NEWTFILTER, body, rt.CREATE)
    except rt.NetlinkError as error:
        raise KernelFailure(f"a filter of link {link} could not be set: {error.reason}") from error


def drop_nothing(kernel: rt.Socket, link: int) -> None:
    """Undo `drop_except`; success if there is nothing. Raises KernelFailure."""
    try:
        if _present(kernel, link):
            kernel.request(_DELTFILTER, _head(link) + rt.text(_KIND, "bpf"))
    except rt.NetlinkError as error:
        raise KernelFailure(f"a filter of link {link} could not be removed: {error.reason}") from error


def program(destination: IPv4Address, sources: Iterable[IPv4Address]) -> bytes:
    """The instructions: the next filter is asked about what goes elsewhere, and about what comes from ``sources``."""
    next_filter = (_RETURN, 0, 0, _NEXT_FILTER)
    instructions = [(_LOAD, 0, 0, _DESTINATION), (_IF_EQUAL, 1, 0, int(destination)), next_filter]
    instructions.append((_LOAD, 0, 0, _SOURCE))
    for source in sources:
        instructions += [(_IF_EQUAL, 0, 1, int(source)), next_filter]
    return b"".join(_INSTRUCTION.pack(*one) for one in (*instructions, (_RETURN, 0, 0, _DROP)))


def _add_qdisc(kernel: rt.Socket, link: int) -> None:
    body = _MESSAGE.pack(0, link, _CLSACT_HANDLE, _CLSACT, 0) + rt.text(_KIND, "clsact")
    try:
        kernel.request(_NEWQDISC, body, rt.CREATE | rt.EXCLUSIVE)
    except rt.NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        _require_clsact(kernel, link)


def _require_clsact(kernel: rt.Socket, link: int) -> None:
    """Raises KernelFailure where the qdisc in its place is another: that would take our filter for what comes in."""
    with rt.reading():
        for body in kernel.request(_GETQDISC, _MESSAGE.pack(0, link, 0, 0, 0), rt.DUMP):
            _, index, _, parent, _ = _MESSAGE.unpack_from(body)
            kind = rt.as_text(rt.attributes(body, _MESSAGE.size).get(_KIND, b""))
            if (index, parent) == (link, _CLSACT) and kind != "clsact":
                raise KernelFailure(f"link {link} has a qdisc {kind} where clsact would have to be")


def _present(kernel: rt.Socket, link: int) -> bytes:
    """The instructions of our filter; empty where the link has none."""
    try:
        found = kernel.request(_GETTFILTER, _MESSAGE.pack(0, link, 0, _EGRESS, 0), rt.DUMP)
    except rt.NetlinkError as error:
        if error.code in (errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
            return b""
        raise
    with rt.reading():
        return next((ops for body in found if (ops := _instructions(body))), b"")


def _instructions(body: bytes) -> bytes:
    info = _MESSAGE.unpack_from(body)[-1]
    options = rt.attributes(rt.attributes(body, _MESSAGE.size).get(_OPTIONS, b""))
    return options.get(_OPS, b"") if info >> 16 == PRIORITY else b""


def _head(link: int) -> bytes:
    return _MESSAGE.pack(0, link, _HANDLE, _EGRESS, PRIORITY << 16 | socket.htons(0x0800))
