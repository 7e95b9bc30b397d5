"""A filter of what leaves by a link, below netfilter: what goes to one address is dropped, except from some sources.

It reads the frame's own header, also behind the tags of VLANs, and not what the kernel takes the frame for: a packet
socket names its frames' protocol as it likes. A link without Ethernet headers passes all: none is a parent of ipvlan or
macvlan.

It is a classic BPF program, which every kernel with ``cls_bpf`` takes, on the qdisc ``clsact`` at a priority of ours.
Other programs' filters stay and see what passes ours. Constants carry the names of linux/pkt_sched.h, linux/pkt_cls.h
and linux/filter.h. Everything here acts in the namespace of the socket.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from spiderpool.errors import KernelFailure
from spiderpool.kernel import rtnetlink as rt

_NEWQDISC, _DELQDISC, _GETQDISC = 36, 37, 38  # RTM_*
_NEWTFILTER, _DELTFILTER, _GETTFILTER = 44, 45, 46
_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg: family, link, handle, parent, info
_CLSACT, _CLSACT_HANDLE, _INGRESS, _EGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2, 0xFFFFFFF3
_KIND, _OPTIONS = 1, 2  # TCA_*
_OPS_LENGTH, _OPS, _FLAGS = 4, 5, 8  # TCA_BPF_*
_DIRECT = 1  # TCA_BPF_FLAG_ACT_DIRECT: the program's result is what happens to the packet

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_SET_X, _LOAD_X, _LOAD_TYPE_X = 0x01, 0x40, 0x48  # BPF_LDX|BPF_IMM, BPF_LD|BPF_W|BPF_IND, BPF_LD|BPF_H|BPF_IND
_HARDWARE, _ETHERNET = 0xFFFFF000 + 28, 1  # SKF_AD_OFF + SKF_AD_HATYPE, ARPHRD_ETHER
_ETHERTYPE, _SOURCE, _DESTINATION = 12, 26, 30  # in a frame without tags
_IPV4, _TAGS, _TAG_LENGTH = 0x0800, (0x8100, 0x88A8, 0x9100), 4
_MOST_TAGS = 2
"""In a frame, beside one that the kernel keeps apart for the NIC; what has more is dropped unread."""
_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
_NEXT_FILTER, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT

PRIORITY = 7
"""Early, since filters of others may end the classification, but not one that others are known to use."""
_ON_THEIRS, _ON_OURS = 1, 2
"""Handles of our filter: on a qdisc that was there, and on one that we have made, which goes with the filter."""


@dataclass(frozen=True, slots=True)
class _Filter:
    handle: int
    instructions: bytes
    protocol: int = _ALL_PROTOCOLS


def drop_except(kernel: rt.Socket, link: int, destination: IPv4Address, sources: Iterable[IPv4Address]) -> None:
    """Drop what leaves by a link to an address, except from some sources; replaces an earlier filter at once.

    Raises KernelFailure: the kernel lacks the qdisc clsact or the classifier bpf, or another qdisc is in its place.
    """
    wanted = program(destination, sources)
    try:
        made = _add_qdisc(kernel, link)
        present = _present(kernel, link)
        if present is None:
            _set_first(kernel, link, wanted, made=made)
        elif present.protocol != _ALL_PROTOCOLS:  # of an earlier agent; a priority has filters of one protocol
            _remove(kernel, link, present)
            _set(kernel, link, _Filter(present.handle, wanted))
        elif present.instructions != wanted:
            _set(kernel, link, _Filter(present.handle, wanted))
    except rt.NetlinkError as error:
        raise KernelFailure(f"a filter of link {link} could not be set: {error.reason}") from error


def drop_nothing(kernel: rt.Socket, link: int) -> None:
    """Undo `drop_except`, with the qdisc if that was made for it and has no other filter; success if there is nothing.

    Raises KernelFailure.
    """
    try:
        present = _present(kernel, link)
        if present is None:
            return
        _remove(kernel, link, present)
        if present.handle == _ON_OURS and not any(_filters(kernel, link, side) for side in (_INGRESS, _EGRESS)):
            _remove_qdisc(kernel, link)
    except rt.NetlinkError as error:
        raise KernelFailure(f"a filter of link {link} could not be removed: {error.reason}") from error


def program(destination: IPv4Address, sources: Iterable[IPv4Address]) -> bytes:
    """The instructions: the next filter is asked about what goes elsewhere, and about what comes from ``sources``."""
    next_filter, drop = (_RETURN, 0, 0, _NEXT_FILTER), (_RETURN, 0, 0, _DROP)
    instructions = [(_LOAD, 0, 0, _HARDWARE), (_IF_EQUAL, 1, 0, _ETHERNET), next_filter]
    instructions += [*_skip_tags(), drop]
    instructions += [(_IF_EQUAL, 1, 0, _IPV4), next_filter]
    instructions += [(_LOAD_X, 0, 0, _DESTINATION), (_IF_EQUAL, 1, 0, int(destination)), next_filter]
    instructions.append((_LOAD_X, 0, 0, _SOURCE))
    for source in sources:
        instructions += [(_IF_EQUAL, 0, 1, int(source)), next_filter]
    return b"".join(_INSTRUCTION.pack(*one) for one in (*instructions, drop))


def _skip_tags() -> Iterator[tuple[int, int, int, int]]:
    """Load the type of what the frame carries, with X the length of its tags; then skip one instruction.

    A frame with too many tags comes to that instruction.
    """
    to_next = len(_TAGS) - 1
    for count in range(_MOST_TAGS + 1):
        yield (_SET_X, 0, 0, count * _TAG_LENGTH)
        yield (_LOAD_TYPE_X, 0, 0, _ETHERTYPE)
        to_end = (_MOST_TAGS - count) * (2 + len(_TAGS)) + 1
        for number, tag in enumerate(_TAGS):
            yield (_IF_EQUAL, to_next - number, to_end if number == to_next else 0, tag)


def _set_first(kernel: rt.Socket, link: int, instructions: bytes, *, made: bool) -> None:
    try:
        _set(kernel, link, _Filter(_ON_OURS if made else _ON_THEIRS, instructions))
    except rt.NetlinkError:
        if made:
            _remove_qdisc(kernel, link)
        raise


def _set(kernel: rt.Socket, link: int, wanted: _Filter) -> None:
    length = rt.number(_OPS_LENGTH, len(wanted.instructions) // _INSTRUCTION.size, 2)
    options = length + rt.attribute(_OPS, wanted.instructions) + rt.number(_FLAGS, _DIRECT)
    body = _head(link, wanted) + rt.text(_KIND, "bpf") + rt.nested(_OPTIONS, options)
    kernel.request(_NEWTFILTER, body, rt.CREATE)


def _remove(kernel: rt.Socket, link: int, present: _Filter) -> None:
    kernel.request(_DELTFILTER, _head(link, present) + rt.text(_KIND, "bpf"))


def _add_qdisc(kernel: rt.Socket, link: int) -> bool:
    """Returns whether it was not there."""
    try:
        kernel.request(_NEWQDISC, _qdisc(link), rt.CREATE | rt.EXCLUSIVE)
    except rt.NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        _require_clsact(kernel, link)
        return False
    return True


def _remove_qdisc(kernel: rt.Socket, link: int) -> None:
    kernel.request(_DELQDISC, _qdisc(link))


def _qdisc(link: int) -> bytes:
    return _MESSAGE.pack(0, link, _CLSACT_HANDLE, _CLSACT, 0) + rt.text(_KIND, "clsact")


def _require_clsact(kernel: rt.Socket, link: int) -> None:
    """Raises KernelFailure where the qdisc in its place is another: that would take our filter for what comes in."""
    with rt.reading():
        for body in kernel.request(_GETQDISC, _MESSAGE.pack(0, link, 0, 0, 0), rt.DUMP):
            _, index, _, parent, _ = _MESSAGE.unpack_from(body)
            kind = rt.as_text(rt.attributes(body, _MESSAGE.size).get(_KIND, b""))
            if (index, parent) == (link, _CLSACT) and kind != "clsact":
                raise KernelFailure(f"link {link} has a qdisc {kind} where clsact would have to be")


def _present(kernel: rt.Socket, link: int) -> _Filter | None:
    """Our filter, if the link has it."""
    found = _filters(kernel, link, _EGRESS)
    with rt.reading():
        return next((ours for body in found if (ours := _ours(body))), None)


def _filters(kernel: rt.Socket, link: int, side: int) -> list[bytes]:
    """The filters of what comes in or leaves by a link, which may lack the qdisc for them."""
    try:
        return kernel.request(_GETTFILTER, _MESSAGE.pack(0, link, 0, side, 0), rt.DUMP)
    except rt.NetlinkError as error:
        if error.code in (errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
            return []
        raise


def _ours(body: bytes) -> _Filter | None:
    _, _, handle, _, info = _MESSAGE.unpack_from(body)
    options = rt.attributes(rt.attributes(body, _MESSAGE.size).get(_OPTIONS, b""))
    instructions = options.get(_OPS, b"") if info >> 16 == PRIORITY else b""
    return _Filter(handle, instructions, socket.ntohs(info & 0xFFFF)) if instructions else None


def _head(link: int, wanted: _Filter) -> bytes:
    return _MESSAGE.pack(0, link, wanted.handle, _EGRESS, PRIORITY << 16 | socket.htons(wanted.protocol))
