"""Names, numbers and MACs that follow from a container and an interface alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from spiderpool.errors import BadConfig

VETH = "veth0"
"""The pod's end of the veth pair."""

MARK = 0x1
"""Mark of packets and connections that came in by veth0; the answers leave by it."""

MAIN_TABLE = 254
FIRST_TABLE = 99
"""Table of a pod's first interface, once the pod has another."""
MARK_TABLE = 100
"""Table of marked packets. A pod whose eth0 another CNI plugin made has no marks; there it is eth0's own table."""
INTERFACE_TABLES = range(101, 200)
"""Tables of further interfaces: each keeps the lowest number that was free when it came."""

RULE_PRIORITY = 1000
"""Priority of our rules on both sides, but for those that choose by source.

On the node it must come before the rules that choose a NIC by source address (``from <NIC's address>``), because
an answer to a pod carries such a source: then it would leave by the NIC. It must come after ``local`` (0).
"""

SOURCE_PRIORITY = 1001
"""Priority of a pod's rules that choose an interface by source: an answer to marked traffic goes by its mark first."""

_NOT_NICS = re.compile(
    r"docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|flannel|kube-ipvs|cni|vx-submariner|cilium",
)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAC_PREFIX = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}")


def is_nic(link: str) -> bool:
    """Whether a link of the node, by its name, leads to the network outside rather than to pods."""
    return not _NOT_NICS.match(link)


def host_interface(container_id: str) -> str:
    """The node's end of a pod's veth pair: at most 15 characters, the kernel's limit."""
    return f"veth{container_id[:11]}"


def temporary_name(container_id: str, ifname: str) -> str:
    """A name for a link under construction that no other link has."""
    return f"sp{_digest(container_id, ifname).hex()[:12]}"


def loan(container_id: str, ifname: str) -> str:
    """What begins the alias of a device that is lent to a pod; the device's own name follows."""
    return f"{temporary_name(container_id, ifname)} "


def veth_mac(container_id: str, end: str) -> str:
    """A locally administered unicast MAC that depends on the container and the end of the pair only."""
    octets = bytearray(_digest(container_id, end)[:6])
    octets[0] = octets[0] & 0xFC | 0x02
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
    """A MAC in the kernel's spelling. Raises BadConfig when it is none or multicast."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise BadConfig(f"MAC {text!r} is not a unicast MAC, as in 0a:1b:2c:3d:4e:5f")
    return mac


def _digest(*words: str) -> bytes:
    return hashlib.sha256("/".join(words).encode()).digest()
