"""One operation on the kernel: route sockets in the node's and the pod's network namespace, used by one thread.

The thread may block: the kernel handles these requests one at a time anyway, and the event loop goes on meanwhile.
`observing` reads with these sockets, `applying` writes.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spiderpool.core.network.plumbing.steps import Side
from spiderpool.core.network.plumbing.values import Address, Link
from spiderpool.errors import KernelFailure
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import enter, opened, own


@dataclass(slots=True)
class Netns:
    """An open network namespace: of the node or of the pod."""

    side: Side
    socket: rt.Socket
    descriptor: int
    links: dict[str, Link] = field(default_factory=dict)  # name → link: a cache for this one operation

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All objects of a type (``rtnetlink.GET…``) that match the request.

        Empty if the request selects those of a link that is gone. Raises KernelFailure on any other refusal.
        """
        try:
            return self.socket.request(kind, body, rt.DUMP)
        except rt.NetlinkError as error:
            if error.code == errno.ENODEV:
                return []
            raise KernelFailure(f"{self.side}: netlink dump {kind}: {error.reason}") from error

    def get(self, kind: int, body: bytes, what: str) -> bytes | None:
        """One object; None if it does not exist. Raises KernelFailure, which names ``what``, on any other refusal."""
        try:
            with rt.reading():
                return self.socket.request(kind, body)[0]
        except rt.NetlinkError as error:
            if error.is_absent:
                return None
            raise KernelFailure(f"{self.side}: look up {what}: {error.reason}") from error


class Kernel:
    """The namespaces of the node and, unless it is gone, of one pod. Used only by the thread that opened it."""

    def __init__(self, node: Netns, pod: Netns | None, finish: contextlib.ExitStack) -> None:
        self.node = node
        self.pod = pod
        self.finish = finish  # work that may be done after the caller has its result
        self._entered: Netns | None = None  # the namespace in which the thread is; None: not known yet

    def netns(self, side: Side) -> Netns:
        """The namespace in which a step acts. Raises KernelFailure when the pod's is gone."""
        netns = self.node if side == "node" else self.pod
        if netns is None:
            raise KernelFailure("the pod's network namespace is gone")
        return netns

    def enter(self, side: Side) -> None:
        """Bring this thread into a namespace, for what has no descriptor of its own: /proc/sys and programs."""
        netns = self.netns(side)
        if self._entered is not netns:
            enter(netns.descriptor)
            self._entered = netns


@contextlib.contextmanager
def opened_kernel(netns: str | None, node: Path | None, finish: contextlib.ExitStack) -> Iterator[Kernel]:
    """Open the pod's namespace (None: the pod is gone) and the node's (None: our own).

    Leaves the calling thread in either namespace, so the thread must end with this operation.

    Raises:
        BadNamespace: a path is missing or is no network namespace.
        KernelFailure: a namespace or a socket could not be opened.
    """
    with contextlib.ExitStack() as stack:
        node_netns = _open(stack, "node", stack.enter_context(own() if node is None else opened(node)))
        pod_netns = _open(stack, "pod", stack.enter_context(opened(netns))) if netns is not None else None
        yield Kernel(node_netns, pod_netns, finish)


def _open(stack: contextlib.ExitStack, side: Side, descriptor: int) -> Netns:
    enter(descriptor)
    return Netns(side, stack.enter_context(contextlib.closing(rt.Socket())), descriptor)


def find_link(netns: Netns, name: str) -> Link | None:
    """A link by name, from the cache if it is there; None if there is none. Raises KernelFailure on other answers."""
    if not name:
        return None
    if name not in netns.links:
        body = netns.get(rt.GETLINK, messages.link_by_name(name), name)
        if body is None:
            return None
        netns.links[name] = messages.read_link(body)
    return netns.links[name]


def all_links(netns: Netns) -> tuple[Link, ...]:
    """Every link of a namespace."""
    links = tuple(map(messages.read_link, netns.dump(rt.GETLINK, messages.link_header())))
    netns.links.update({link.name: link for link in links})
    return links


def link_at(netns: Netns, index: int) -> Link | None:
    """A link by index; None if there is none. Raises KernelFailure on other answers."""
    if index > messages.LAST_LINK_INDEX:
        raise KernelFailure(f"an answer of the kernel names link {index}, and no link has such an index")
    body = netns.get(rt.GETLINK, messages.link_header(index), f"link {index}")
    return None if body is None else messages.read_link(body)


def namespace_number(netns: Netns, other: Netns) -> int | None:
    """The number by which links of a namespace name another one; None while it has none. Raises KernelFailure."""
    body = netns.get(rt.GETNSID, messages.namespace_number(other.descriptor), f"the number of the {other.side}'s netns")
    return None if body is None else messages.read_namespace_number(body)


def lookup_route(
    netns: Netns, destination: Address, source: Address | None = None, mark: int = 0
) -> messages.RouteLookup | None:
    """The route that a packet would take; None when there is none. Raises KernelFailure on other answers."""
    request = messages.route_lookup(destination, source, mark)
    body = netns.get(rt.GETROUTE, request, f"the route to {destination}")
    return None if body is None else messages.read_route_lookup(body)


def index_of(netns: Netns, name: str) -> int:
    """The index of a link that must exist. Raises KernelFailure when it does not."""
    link = find_link(netns, name)
    if link is None:
        raise KernelFailure(f"{netns.side}: {name} has disappeared while it was set up")
    return link.index
