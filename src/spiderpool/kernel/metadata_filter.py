"""Packet filter rules that keep pods from the cloud's metadata service, which gives the keys of the server's role.

On three ways: what the node forwards (from a pod's path to it, also after the translation of a Service); what IPVS has
translated for a pod, which leaves as the node's own packets do, but was sent to another address, as connection tracking
tells; and what leaves by the node's NICs past its netfilter, as that of ipvlan and macvlan pods does, from any address
but the node's own.
On all of them the addresses of pods pass that the administrator allows.
Nothing is in the pods' namespaces, where NET_ADMIN would undo it. Everything here acts in the network namespace of the
calling thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial
from ipaddress import IPv4Address

from spiderpool.core.network.plumbing.naming import is_nic
from spiderpool.errors import KernelFailure, SpiderpoolError, raise_all
from spiderpool.kernel import observing, traffic_control
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.netlink import Netns, all_links
from spiderpool.kernel.rules import RuleSet

TABLE = "spiderpool_metadata"
"""Our nftables table; the comment of our rules in iptables."""
CHAIN = "SPIDERPOOL-METADATA"
"""Our chain in tables of iptables."""
MOST_ALLOWED = 1000
"""Addresses of pods that may be allowed: a filter of a NIC has at most 4,096 instructions, two for each address."""

_CHAINS = """\
  chain forward {{
    type filter hook forward priority -150;
    ip daddr {address} {forwarded}drop
  }}
  chain output {{
    type filter hook output priority 0;
    ct direction original ct original ip daddr != {address} ip daddr {address} {translated}drop
  }}
"""

_PARENTS = ("", "bond", "team", "vlan")  # kinds of links by which a node reaches the network; hardware has none


def through_node(address: IPv4Address, allowed: Collection[IPv4Address] = ()) -> RuleSet:
    """The rules for what takes the way through the node."""
    others = f"ip saddr != {{ {', '.join(map(str, allowed))} }} " if allowed else ""
    chains = _CHAINS.format(address=address, forwarded=others, translated=f"ct original {others}" if others else "")
    comment = f"-m comment --comment {TABLE} -j {CHAIN}"
    return RuleSet(
        TABLE,
        lambda _: chains,
        {
            "mangle": f"FORWARD -d {address}/32 {comment}",
            "filter": f"OUTPUT -d {address}/32 -m conntrack ! --ctorigdst {address} --ctdir ORIGINAL {comment}",
        },
        "packets of pods to the metadata service could not be dropped",
        (4,),
        CHAIN,
        {
            "mangle": (*(f"-s {each}/32 -j RETURN" for each in allowed), "-j DROP"),
            "filter": (*(f"-m conntrack --ctorigsrc {each} -j RETURN" for each in allowed), "-j DROP"),
        },
    )


def load(address: IPv4Address, allowed: Collection[IPv4Address] = ()) -> None:
    """Keep pods from the service, but for ``allowed`` addresses of pods, at most `MOST_ALLOWED`.

    Raises KernelFailure where one of the ways stays open, or closed to them; the others are as they should be then.
    """
    failures: list[SpiderpoolError] = []
    for close in (through_node(address, allowed).load, partial(_filter_nics, address, allowed)):
        try:
            close()
        except KernelFailure as error:
            failures.append(error)
    raise_all(failures)


def unload(address: IPv4Address) -> None:
    """Undo `load`. Raises KernelFailure."""
    through_node(address).unload()
    with contextlib.closing(rt.Socket()) as kernel:
        for link in all_links(Netns("node", kernel, -1)):
            if is_nic(link.name):
                traffic_control.drop_nothing(kernel, link.index)


def _filter_nics(address: IPv4Address, allowed: Collection[IPv4Address]) -> None:
    with contextlib.closing(rt.Socket()) as kernel:
        node = Netns("node", kernel, -1)
        held = observing.node_addresses(node)
        holders = {each.link for each in held}
        sources = {each.address for each in held if isinstance(each.address, IPv4Address)} | {*allowed}
        failures: list[SpiderpoolError] = []
        for link in all_links(node):
            if not is_nic(link.name) or not (link.kind in _PARENTS or link.name in holders):
                continue
            try:
                traffic_control.drop_except(kernel, link.index, address, sorted(sources))
            except KernelFailure as error:
                failures.append(KernelFailure(f"pods reach the metadata service by {link.name}: {error.message}"))
        raise_all(failures)
