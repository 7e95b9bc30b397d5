"""One operation on the kernel: route sockets on the node's side and the pod's, on one thread that may wait.

The kernel serialises these requests anyway, and the event loop goes on meanwhile. `observing` looks, `applying` acts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spiderpool.core.network.plumbing.steps import Where
from spiderpool.core.network.plumbing.values import Link
from spiderpool.errors import KernelFailure
from spiderpool.kernel import messages as say
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import enter, opened, own


@dataclass(slots=True)
class Side:
    """One namespace at work: its route socket, its descriptor, and the links met so far."""

    where: Where
    route: rt.Socket
    namespace: int
    links: dict[str, Link] = field(default_factory=dict)


class Kernel:
    """The node and, unless it is gone, one pod, for the thread that opened it."""

    def __init__(self, node: Side, pod: Side | None, finish: contextlib.ExitStack) -> None:
        self.node = node
        self.pod = pod
        self.finish = finish
        """What may be done when the caller has gone on."""
        self._at: Side | None = None

    def side(self, where: Where) -> Side:
        """The side on which a step acts."""
        side = self.node if where == "node" else self.pod
        if side is None:
            raise KernelFailure("the pod's network namespace is gone")
        return side

    def enter(self, where: Where) -> None:
        """Bring this thread into the namespace of a side."""
        side = self.side(where)
        if self._at is not side:
            enter(side.namespace)
            self._at = side


@contextlib.contextmanager
def opened_kernel(netns: str | None, node: Path | None, finish: contextlib.ExitStack) -> Iterator[Kernel]:
    """Open the pod's namespace (None: there is no pod any more) and the node's (None: our own).

    The calling thread is left in either, so it must be one that ends with this.

    Raises:
        BadNamespace: a path is missing or no network namespace.
    """
    with contextlib.ExitStack() as stack:
        node_side = _open_side(stack, "node", stack.enter_context(own() if node is None else opened(node)))
        pod_side = _open_side(stack, "pod", stack.enter_context(opened(netns))) if netns is not None else None
        yield Kernel(node_side, pod_side, finish)


def _open_side(stack: contextlib.ExitStack, where: Where, namespace: int) -> Side:
    enter(namespace)
    return Side(where, stack.enter_context(contextlib.closing(rt.Socket())), namespace)


def find_link(side: Side, name: str) -> Link | None:
    """A link by name; None if there is none. Links that were met before are remembered."""
    if not name:
        return None
    if name not in side.links:
        try:
            side.links[name] = say.read_link(side.route.request(rt.GETLINK, say.by_name(name))[0])
        except rt.NetlinkError as refusal:
            if rt.is_absent(refusal):
                return None
            raise KernelFailure(f"{side.where}: look up {name}: {refusal.reason}") from refusal
    return side.links[name]


def all_links(side: Side) -> tuple[Link, ...]:
    """Every link of a side."""
    links = tuple(map(say.read_link, side.route.request(rt.GETLINK, say.links_wanted(), rt.DUMP)))
    side.links.update({link.name: link for link in links})
    return links


def link_at(side: Side, index: int) -> Link | None:
    """A link by index; None if there is none."""
    try:
        return say.read_link(side.route.request(rt.GETLINK, say.link_header(index))[0])
    except rt.NetlinkError:
        return None


def index_of(side: Side, name: str) -> int:
    """The index of a link that must be there."""
    link = find_link(side, name)
    if link is None:
        raise KernelFailure(f"{side.where}: {name} has disappeared while it was set up")
    return link.index
