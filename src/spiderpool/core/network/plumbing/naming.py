"""Names, table numbers, priorities, marks and MACs: constants, or derived from a container and an interface alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from spiderpool.errors import BadConfig

VETH = "veth0"
"""The name of the pod's end of the veth pair."""

MARK = 0x1
"""Mark of packets and connections that came in through veth0; the answers leave through it."""

MASQUERADE_MARK = 0x100
"""Mark, on the node, of a pod's packets that must get the node's address as source."""

MAIN_TABLE = 254
"""The kernel's table ``main`` (RT_TABLE_MAIN: linux/rtnetlink.h)."""
FIRST_TABLE = 99
"""Table of a pod's first interface, once the pod has another."""
MARK_TABLE = 100
"""Table of marked packets. In a pod whose eth0 another CNI plugin made there are no marks: there it is eth0's table."""
SERVICE_TABLE = 98
"""Table of a pod's routes to addresses of Services outside the Service CIDRs."""
INTERFACE_TABLES = range(101, 200)
"""Tables of further interfaces: each gets the lowest free number and keeps it."""

RULE_PRIORITY = 1000
"""Priority of our rules on both sides, except source rules.

On the node it must precede the rules that choose a NIC by source address (``from <NIC's address>``): an answer to a pod
has such a source address and would leave through the NIC. It must follow the rule of table ``local`` (0).
"""

SERVICE_PRIORITY = 999
"""Priority of the rule of `SERVICE_TABLE`: before source rules, as it serves packets of all interfaces."""

SOURCE_PRIORITY = 1001
"""Priority of a pod's source rules. They follow the mark rule, since an answer to marked traffic goes by its mark."""

_NOT_NICS = re.compile(
    r"docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|flannel|kube-ipvs|cni|vx-submariner|cilium",
)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAC_PREFIX = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}")


def is_nic(link: str) -> bool:
    """Whether a link of the node, by its name, leads to the network outside the node and not to pods."""
    return not _NOT_NICS.match(link)


def host_interface(container_id: str) -> str:
    """The name of the node's end of a pod's veth pair: 15 characters, the kernel's limit."""
    return f"veth{container_id[:11]}"


def temporary_name(container_id: str, ifname: str) -> str:
    """A unique name for a link that is being created."""
    return f"sp{_digest(container_id, ifname).hex()[:12]}"


def veth_mac(container_id: str, end: str) -> str:
    """A locally administered unicast MAC, derived from the container and the end of the veth pair."""
    octets = bytearray(_digest(container_id, end)[:6])
    octets[0] = octets[0] & 0xFC | 0x02  # clear the multicast bit, set the locally administered bit
    return octets.hex(":")


def pod_mac(prefix: str, addresses: Iterable[IPv4Address | IPv6Address]) -> str:
    """``prefix`` (two bytes) and the first IPv4 address, or the last four bytes of the first IPv6 address.

    Raises:
        BadConfig: the prefix is malformed or multicast.
    """
    prefix = prefix.lower().replace("-", ":")
    if not _MAC_PREFIX.fullmatch(prefix) or int(prefix[:2], 16) & 1:
        raise BadConfig(f"podMACPrefix {prefix!r} is not two bytes of a unicast MAC, as in 0a:1b")
    chosen = sorted(addresses, key=lambda address: address.version)
    if not chosen:
        raise BadConfig("podMACPrefix needs an address of the interface, which has none")
    return f"{prefix}:{chosen[0].packed[-4:].hex(':')}"


def unicast_mac(text: str) -> str:
    """A MAC in the kernel's spelling. Raises BadConfig when it is malformed or multicast."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise BadConfig(f"MAC {text!r} is not a unicast MAC, as in 0a:1b:2c:3d:4e:5f")
    return mac


def _digest(*words: str) -> bytes:
    return hashlib.sha256("/".join(words).encode()).digest()
