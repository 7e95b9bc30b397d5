"""Tell when addresses of the node come or go (rtnetlink groups RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

from spiderpool.kernel.namespaces import opened, socket_in_netns

QUIET = 0.5
"""Seconds without a further change after which a burst of changes counts as over."""

_IFADDR_GROUPS = (5, 9)
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_HEADER = struct.Struct("=IHHII")
_SCOPE = 3
_UNIVERSE = 0


async def address_changes(node: Path | None = None, *, at_once: bool = False) -> AsyncGenerator[None, None]:
    """Yield once after each burst of changes of global addresses, and once when changes may have been missed.

    Subscribed from the first step on, which with ``at_once`` does not wait for a change. The addresses themselves are
    to be read afresh: an event says only that they may differ.
    """
    with await _subscribed(node) as subscription:
        if at_once:
            yield
        while True:
            if await _is_change(subscription):
                await _until_quiet(subscription)
                yield


async def _subscribed(node: Path | None) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    if node is None:
        subscription = await socket_in_netns(None, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    else:
        with opened(node) as namespace:
            subscription = await socket_in_netns(namespace, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    subscription.bind((0, 0))
    for group in _IFADDR_GROUPS:
        subscription.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    return subscription


async def _until_quiet(subscription: socket.socket) -> None:
    while True:
        try:
            async with asyncio.timeout(QUIET):
                while not await _is_change(subscription):
                    pass
        except TimeoutError:
            return


async def _is_change(subscription: socket.socket) -> bool:
    """Whether the next datagram tells of a global address; every new pod's veth has events of link-local ones."""
    try:
        data = await asyncio.get_running_loop().sock_recv(subscription, 1 << 16)
    except OSError:  # ENOBUFS: the kernel had to drop events
        return True
    return len(data) > _HEADER.size + _SCOPE and data[_HEADER.size + _SCOPE] == _UNIVERSE
