"""Report that addresses of the node were added or removed (rtnetlink multicast groups)."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

from spiderpool.errors import KernelFailure
from spiderpool.kernel.namespaces import opened, socket_in_netns
from spiderpool.kernel.rtnetlink import SOL_NETLINK

QUIET = 0.5
"""Seconds without a further change after which a burst of changes counts as over."""

_IFADDR_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR: linux/rtnetlink.h
_ADD_MEMBERSHIP = 1  # NETLINK_ADD_MEMBERSHIP: linux/netlink.h
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_SCOPE_OFFSET = 3  # of ifa_scope in struct ifaddrmsg: linux/if_addr.h
_RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h
_BUFFER = 1 << 16  # bytes; the kernel's datagrams have at most 32 KiB


async def address_changes(node: Path | None = None, *, at_once: bool = False) -> AsyncGenerator[None, None]:
    """Yield once after each burst of changes of global addresses, and once when the kernel has dropped events.

    The subscription begins with the first step; ``at_once`` makes that step yield without waiting for a change. An
    event says only that the addresses may differ: the caller reads them afresh.

    Raises:
        BadNamespace: ``node`` is missing or is no network namespace.
        KernelFailure: the subscription failed.
    """
    with await _subscribed(node) as subscription:
        if at_once:
            yield
        while True:
            if await is_change(subscription):
                await _until_quiet(subscription)
                yield


async def _subscribed(node: Path | None) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    try:
        if node is None:
            subscription = await socket_in_netns(None, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        else:
            with opened(node) as namespace:
                subscription = await socket_in_netns(namespace, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        subscription.bind((0, 0))
        for group in _IFADDR_GROUPS:
            subscription.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError as error:
        raise KernelFailure(f"subscribe to changes of addresses: {error.strerror}") from error
    return subscription


async def _until_quiet(subscription: socket.socket) -> None:
    while True:
        try:
            async with asyncio.timeout(QUIET):
                while not await is_change(subscription):
                    pass
        except TimeoutError:
            return


async def is_change(subscription: socket.socket) -> bool:
    """Whether the next datagram is about a global address; every new pod's veth has events about link-local ones.

    Raises:
        KernelFailure: the subscription is broken.
    """
    try:
        data = await asyncio.get_running_loop().sock_recv(subscription, _BUFFER)
    except OSError as error:
        if error.errno == errno.ENOBUFS:  # the kernel had to drop events
            return True
        raise KernelFailure(f"receive changes of addresses: {error.strerror}") from error
    position = _HEADER.size + _SCOPE_OFFSET
    return len(data) > position and data[position] == _RT_SCOPE_UNIVERSE
