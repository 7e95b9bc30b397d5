"""Packet filter rules that keep pods from the cloud's metadata service, which gives the keys of the server's role.

On two ways: what the node forwards (from a pod's path to it, also after the translation of a Service), and what leaves
by the node's NICs past its netfilter, as that of ipvlan and macvlan pods does, from any address but the node's own.
Nothing is in the pods' namespaces, where NET_ADMIN would undo it. Everything here acts in the network namespace of the
calling thread.
"""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address

from spiderpool.core.network.plumbing.naming import is_nic
from spiderpool.errors import KernelFailure, SpiderpoolError, raise_all
from spiderpool.kernel import observing, traffic_control
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Netns, all_links
from spiderpool.kernel.rules import RuleSet

ADDRESS = IPv4Address("100.100.100.200")
TABLE = "spiderpool_metadata"
"""Our nftables table; the comment of our rule in iptables."""

_PARENTS = ("", "bond", "team", "vlan")  # kinds of links by which a node reaches the network; hardware has none

FORWARDED = RuleSet(
    TABLE,
    lambda _: f"  chain forward {{\n    type filter hook forward priority -150;\n    ip daddr {ADDRESS} drop\n  }}\n",
    {"mangle": f"FORWARD -d {ADDRESS}/32 -m comment --comment {TABLE} -j DROP"},
    "packets of pods to the metadata service could not be dropped",
    (4,),
)


def load() -> None:
    """Keep pods from the service. Raises KernelFailure where one of the ways stays open; the other is closed then."""
    failures: list[SpiderpoolError] = []
    for close in (FORWARDED.load, _filter_nics):
        try:
            close()
        except KernelFailure as error:
            failures.append(error)
    raise_all(failures)


def unload() -> None:
    """Undo `load`. Raises KernelFailure."""
    FORWARDED.unload()
    with contextlib.closing(rt.Socket()) as kernel:
        for link in all_links(Netns("node", kernel, -1)):
            if is_nic(link.name):
                traffic_control.drop_nothing(kernel, link.index)


def _filter_nics() -> None:
    with contextlib.closing(rt.Socket()) as kernel:
        node = Netns("node", kernel, -1)
        held = observing.node_addresses(node)
        holders = {each.link for each in held}
        own = sorted({each.address for each in held if isinstance(each.address, IPv4Address)})
        failures: list[SpiderpoolError] = []
        for link in all_links(node):
            if not is_nic(link.name) or not (link.kind in _PARENTS or link.name in holders):
                continue
            try:
                traffic_control.drop_except(kernel, link.index, ADDRESS, own)
            except KernelFailure as error:
                failures.append(KernelFailure(f"pods reach the metadata service by {link.name}: {error.message}"))
        raise_all(failures)
