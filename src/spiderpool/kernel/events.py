"""Report that addresses of the node have changed, or that rules or routes were removed (rtnetlink multicast groups)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from spiderpool.errors import KernelFailure
from spiderpool.kernel.namespaces import opened, run_inside, socket_in_netns
from spiderpool.kernel.rtnetlink import DELROUTE, DELRULE, SOL_NETLINK, as_number, attributes, is_from_kernel, reading

QUIET = 0.5
"""Seconds without a further change after which a burst of changes counts as over."""

LONGEST = 5.0
"""Seconds after which a burst is reported although it goes on."""

# linux/rtnetlink.h
_IFADDR_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_ROUTING_GROUPS = (7, 8, 11, 19)  # RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE
_ADD_MEMBERSHIP = 1  # NETLINK_ADD_MEMBERSHIP: linux/netlink.h
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_SCOPE_OFFSET = 3  # of ifa_scope in struct ifaddrmsg: linux/if_addr.h
_RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h
_ROUTING = struct.Struct("=8BI")  # struct rtmsg, struct fib_rule_hdr
_TABLE_OFFSET = 4  # of rtm_table and of the rule's table
_RTA_TABLE, _RTA_OIF = 15, 4  # linux/rtnetlink.h; FRA_TABLE of linux/fib_rules.h is RTA_TABLE
_BUFFER = 1 << 16  # bytes; the kernel's datagrams have at most 32 KiB


@dataclass(frozen=True, slots=True)
class _Removed:
    """A rule or route that was removed: its table, and the link of a route (0: it was a rule)."""

    table: int
    link: int


async def address_changes(node: Path | None = None, *, at_once: bool = False) -> AsyncGenerator[None, None]:
    """Yield once after each burst of changes of global addresses, and once when the kernel has dropped events.

    The subscription begins with the first step; ``at_once`` makes that step yield without waiting for a change. An
    event says only that the addresses may differ: the caller reads them afresh.

    Raises:
        BadNamespace: ``node`` is missing or is no network namespace.
        KernelFailure: the subscription failed.
    """
    with await _subscribed(node, _IFADDR_GROUPS) as subscription:
        if at_once:
            yield
        while True:
            if is_global_change(await receive(subscription)):
                await _until_quiet(subscription, is_global_change)
                yield


async def routing_losses(is_ours: Callable[[int], bool], node: Path | None = None) -> AsyncGenerator[None, None]:
    """Yield once after each burst in which rules or routes of our tables were removed, or the kernel dropped events.

    ``is_ours`` takes the number of a table. Routes that went with their link do not count: so go those of every pod.
    Raises as `address_changes`.
    """
    removed: set[int] = set()  # links of the routes that the burst has removed, 0 for a rule

    def is_loss(event: bytes) -> bool:
        found = _removed(event)
        if event and not (found and is_ours(found.table)):
            return False
        removed.add(found.link if found else 0)
        return True

    with await _subscribed(node, _ROUTING_GROUPS) as subscription:
        while True:
            if is_loss(await receive(subscription)):
                await _until_quiet(subscription, is_loss)
                if removed & {0, *await _links(node)}:
                    yield
                removed.clear()


async def _links(node: Path | None) -> set[int]:
    """Indexes of the links that there are."""
    if node is None:
        found = await run_inside(None, socket.if_nameindex)
    else:
        with opened(node) as namespace:
            found = await run_inside(namespace, socket.if_nameindex)
    return {index for index, _ in found}


async def _subscribed(node: Path | None, groups: tuple[int, ...]) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    try:
        if node is None:
            subscription = await socket_in_netns(None, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        else:
            with opened(node) as namespace:
                subscription = await socket_in_netns(namespace, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        subscription.bind((0, 0))
        subscription.connect((0, 0))  # then Linux refuses what others send to this socket alone
        for group in groups:
            subscription.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError as error:
        raise KernelFailure(f"subscribe to changes of the node's network: {error.strerror}") from error
    return subscription


async def _until_quiet(subscription: socket.socket, is_change: Callable[[bytes], bool]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST):
            while True:
                async with asyncio.timeout(QUIET):
                    while not is_change(await receive(subscription)):
                        pass


async def receive(subscription: socket.socket) -> bytes:
    """The kernel's next datagram; empty where it had to drop some. Others that send to the group are not heard.

    Raises:
        KernelFailure: the subscription is broken.
    """
    try:
        while True:
            data, sender = await asyncio.get_running_loop().sock_recvfrom(subscription, _BUFFER)
            if is_from_kernel(sender):
                return data
            await asyncio.sleep(0)  # sock_recvfrom returns at once while there is more: let others run
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return b""
        raise KernelFailure(f"receive changes of the node's network: {error.strerror}") from error


def is_global_change(event: bytes) -> bool:
    """Whether an event may be about a global address; every new pod's veth has events about link-local ones."""
    position = _HEADER.size + _SCOPE_OFFSET
    return not event or (len(event) > position and event[position] == _RT_SCOPE_UNIVERSE)


def _removed(event: bytes) -> _Removed | None:
    """What an event says was removed; None for other events, and where the kernel had to drop some."""
    start = _HEADER.size + _ROUTING.size
    kind = _HEADER.unpack_from(event)[1] if len(event) >= start else 0
    if kind not in (DELROUTE, DELRULE):
        return None
    with reading():
        found = attributes(event, start)
        table = as_number(found[_RTA_TABLE]) if _RTA_TABLE in found else event[_HEADER.size + _TABLE_OFFSET]
        return _Removed(table, as_number(found.get(_RTA_OIF, b"")) if kind == DELROUTE else 0)
