"""Connections to the metadata service that leave by a NIC, and reach the machine that is asked.

A route to a pod, an address of a Service on the node, or kube-proxy's translation of one would lead them to somebody
else. Everything here acts in the network namespace of the calling thread, and reads of the kernel only what takes no
time.
"""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address
from typing import Any

from spiderpool.core.network.plumbing.naming import is_nic
from spiderpool.errors import KernelFailure
from spiderpool.kernel import conntrack
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Netns, link_at, lookup_route

Endpoint = tuple[str, int]
"""Address and port."""


class NICPath:
    """The path by which a program's connections leave its network namespace."""

    def open(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for an address as ``getaddrinfo`` gives it, bound to its NIC where the kernel lets us.

        Raises KernelFailure when the kernel would send elsewhere. Kernels before 5.7 bind only for NET_RAW.
        """
        family, kind, protocol, _, remote = address
        nic = nic_towards(remote[0])
        opened = socket.socket(family, kind, protocol)
        with contextlib.suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, nic.encode() + b"\0")
        return opened

    def confirm(self, source: Endpoint, destination: Endpoint) -> None:
        """Look at a connection before something is sent on it. Raises KernelFailure when somebody else has it.

        Only programs with NET_ADMIN are told of translations.
        """
        nic_towards(destination[0])
        answering = conntrack.answering(source, destination)
        if answering not in (None, destination):
            raise KernelFailure(f"{destination[0]} is translated to {answering[0]}: remove the Service that has it")


def nic_towards(address: str) -> str:
    """The NIC by which the kernel sends to an address. Raises KernelFailure where it is none."""
    with contextlib.closing(rt.Socket()) as opened:
        netns = Netns("node", opened, -1)
        route = lookup_route(netns, ip_address(address))
        link = link_at(netns, route.index) if route else None
    if link is None or not is_nic(link.name):
        raise KernelFailure(f"{address} is reached by {link.name if link else 'no link'}, and by no NIC")
    return link.name
