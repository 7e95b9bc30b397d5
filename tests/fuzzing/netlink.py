"""What the kernel answers by netlink: an input is the datagram that every request gets as its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address

from spiderpool.core.network.plumbing.values import PodState
from spiderpool.errors import KernelFailure
from spiderpool.kernel import events, features, messages, netlink, observing, traffic_control
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.conntrack import _Conntrack
from spiderpool.kernel.dad import _in_dad
from tests.fuzzing.kernel import PretendKernel

EXCHANGES = (
    lambda kernel: netlink.find_link(kernel.node, "eth0"),
    lambda kernel: netlink.link_at(kernel.node, 2),
    lambda kernel: netlink.namespace_number(kernel.node, kernel.netns("pod")),
    lambda kernel: netlink.lookup_route(kernel.node, IPv4Address("10.0.0.1")),
    lambda kernel: observing.observe_pod(kernel.netns("pod")),
    lambda kernel: observing.observe_pod_paths(kernel, (500,)),
    lambda kernel: observing.observe_leftovers(kernel, "container", "eth0"),
    lambda kernel: observing.node_addresses(kernel.node),
    lambda kernel: observing.node_gateways(kernel.node),
    lambda kernel: observing.find_host_end(kernel, PodState(netlink.all_links(kernel.netns("pod"))), "container"),
    lambda kernel: _in_dad(kernel.node, "eth0"),
    lambda kernel: features._has(kernel.node.socket, "ipvlan"),
    lambda kernel: traffic_control.drop_nothing(kernel.node.socket, 2),
    lambda kernel: traffic_control.drop_except(kernel.node.socket, 2, IPv4Address("100.100.100.200"), ()),
)


def run(data: bytes) -> None:
    """Have all that reads netlink read a datagram."""
    far_end = PretendKernel(lambda _: data)
    for exchange in EXCHANGES:
        with contextlib.suppress(KernelFailure, rt.NetlinkError):
            exchange(far_end.kernel())
    _track(far_end)
    for body in _bodies(data):
        _read(body)
    events.is_global_change(data)
    with contextlib.suppress(KernelFailure):
        events._removed(data)


def _track(far_end: PretendKernel) -> None:
    conntrack = _Conntrack(far_end.socket())
    for destination in ("10.0.0.2", "fd00::2"):
        with contextlib.suppress(KernelFailure, rt.NetlinkError):
            conntrack.tcp((destination, 80), (destination, 40000))
    for version in (4, 6):
        with contextlib.suppress(KernelFailure, rt.NetlinkError):
            for entry, _ in conntrack.udp_to(version, (53,)):
                conntrack.delete(version, entry)


def _bodies(data: bytes) -> Iterator[bytes]:
    """The bodies of a datagram; the whole as one body where it is none."""
    try:
        yield from [body for *_, body in rt.messages(data)]
    except KernelFailure:
        yield data


def _read(body: bytes) -> None:
    """Read a body as one of each kind, also of a link that another message tells of."""
    names = {index: f"eth{index}" for index in range(16)}
    for reader in (
        messages.read_link,
        messages.read_namespace_number,
        messages.read_route_lookup,
        lambda one: [*messages.raw_addresses([one])],
        lambda one: [*messages.read_addresses("node", [one], names)],
        lambda one: [*messages.addresses_in_dad([one], 2)],
        lambda one: [*messages.read_routes("node", [one], names)],
        lambda one: [*messages.read_rules("node", [one])],
        lambda one: [*messages.read_neighbours("node", [one], names)],
    ):
        with contextlib.suppress(KernelFailure):
            reader(body)
