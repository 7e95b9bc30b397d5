"""Steps and values of core.network.plumbing as bodies of rtnetlink messages, and back.

Encodes and decodes only: `netlink` sends the bodies, `rtnetlink` adds headers and flags. What decodes raises
KernelFailure for bytes that are no such body, and nothing else.
Constants carry the names of the kernel's headers (linux/rtnetlink.h and those named beside them).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

from spiderpool.core.network.plumbing.steps import (
    WHOLE_MARK,
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateBond,
    CreateLink,
    CreateVeth,
    Side,
)
from spiderpool.core.network.plumbing.values import MODES, Address, Link, Network
from spiderpool.errors import BadConfig
from spiderpool.kernel.rtnetlink import as_number, as_text, attribute, attributes, nested, number, reading, text

UNSPEC = socket.AF_UNSPEC
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
VERSIONS = {family: version for version, family in FAMILIES.items()}

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_RULE = struct.Struct("=8BI")  # struct fib_rule_hdr
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop

# linux/if_link.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_LINK_NETNSID, _IFLA_PERM_ADDRESS = 13, 18, 28, 37, 54
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_IPVLAN_MODE, _IFLA_MACVLAN_MODE, _IFLA_VLAN_ID = 1, 1, 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # enum macvlan_mode
_IFLA_BOND_MODE, _IFLA_BOND_ARP_IP_TARGET, _IFLA_BOND_AD_ACTOR_SYSTEM = 1, 8, 26
# Option → its attribute IFLA_BOND_* and the size of its value in bytes (bond_policy in drivers/net/bonding).
_BOND_OPTIONS = {
    **{"active_slave": (2, 4), "miimon": (3, 4), "updelay": (4, 4), "downdelay": (5, 4), "use_carrier": (6, 1)},
    **{"arp_interval": (7, 4), "arp_validate": (9, 4), "arp_all_targets": (10, 4), "primary": (11, 4)},
    **{"primary_reselect": (12, 1), "fail_over_mac": (13, 1), "xmit_hash_policy": (14, 1), "resend_igmp": (15, 4)},
    **{"num_peer_notif": (16, 1), "all_slaves_active": (17, 1), "min_links": (18, 4), "lp_interval": (19, 4)},
    **{"packets_per_slave": (20, 4), "lacp_rate": (21, 1), "ad_select": (22, 1), "ad_actor_sys_prio": (24, 2)},
    **{"ad_user_port_key": (25, 2), "tlb_dynamic_lb": (27, 1), "peer_notif_delay": (28, 4)},
}
_VETH_INFO_PEER = 1  # linux/veth.h
_IFF_UP = 0x1  # linux/if.h

# linux/if_addr.h
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x40

LAST_LINK_INDEX = 2**31 - 1
"""Struct ifinfomsg has a signed number; the others, and attributes, have unsigned ones."""

# linux/rtnetlink.h
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 2, 4, 5, 7
_RTA_MULTIPATH, _RTA_TABLE, _RTA_MARK = 9, 15, 16
_RTPROT_UNSPEC, _RTPROT_STATIC = 0, 4
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255  # NOWHERE in a deletion matches every scope
_RTN_UNICAST = 1
_RT_TABLE_UNSPEC = 0
_FIRST_LARGE_TABLE = 256  # the header's field has one byte; RTA_TABLE and FRA_TABLE hold any number

# linux/net_namespace.h; struct rtgenmsg, aligned
_NETNSA_NSID, _NETNSA_FD, _NETNSA_NSID_NOT_ASSIGNED = 1, 3, -1
_NAMESPACE_HEADER_SIZE = 4
_NUMBER = struct.Struct("=i")

# linux/neighbour.h
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8
_NUD_PERMANENT = 0x80

# linux/fib_rules.h
_FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK = 2, 6, 10, 15, 16
_FR_ACT_TO_TBL = 1


def link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """The body of a request about a link, by index, or about every link if 0."""
    return _LINK.pack(UNSPEC, 0, index, flags, change)


def link_by_name(name: str) -> bytes:
    """The body of a request about a link, by name."""
    return link_header() + text(_IFLA_IFNAME, name)


def link_up(index: int, *, queue: int = 0, mtu: int = 0, mac: str = "") -> bytes:
    """Bring a link up; set the queue length, MTU and MAC that are not 0 or empty."""
    body = link_header(index, _IFF_UP, _IFF_UP)
    body += number(_IFLA_TXQLEN, queue) if queue else b""
    body += number(_IFLA_MTU, mtu) if mtu else b""
    return body + (_mac(mac) if mac else b"")


def link_down(index: int) -> bytes:
    """Take a link down."""
    return link_header(index, 0, _IFF_UP)


def rename_link(index: int, name: str) -> bytes:
    """Rename a link."""
    return link_header(index) + text(_IFLA_IFNAME, name)


def add_to_bond(index: int, bond: int) -> bytes:
    """Add a link to a bond, given by its index."""
    return link_header(index) + number(_IFLA_MASTER, bond)


def move_link(index: int, name: str, namespace: int) -> bytes:
    """Move a link into the namespace of a descriptor and rename it."""
    return link_header(index) + number(_IFLA_NET_NS_FD, namespace) + text(_IFLA_IFNAME, name)


def create_child(step: CreateLink, name: str, master: int, namespace: int | None) -> bytes:
    """Create an ipvlan, macvlan or VLAN on a link, in the namespace of a descriptor unless None."""
    body = link_header() + text(_IFLA_IFNAME, name) + number(_IFLA_LINK, master) + number(_IFLA_MTU, step.mtu)
    body += number(_IFLA_NET_NS_FD, namespace) if namespace is not None else b""
    body += _mac(step.mac) if step.mac else b""
    return body + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, step.kind), nested(_IFLA_INFO_DATA, _kind_data(step)))


def create_bare(kind: str) -> bytes:
    """Create a link of a kind, named after it, on link 1 (``lo`` of a new namespace): to see if the kind exists."""
    return (
        link_header()
        + text(_IFLA_IFNAME, kind)
        + number(_IFLA_LINK, 1)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind))
    )


def _kind_data(step: CreateLink) -> bytes:
    match step.kind:
        case "ipvlan":
            return number(_IFLA_IPVLAN_MODE, MODES["ipvlan"].index(step.mode), 2)
        case "macvlan":
            return number(_IFLA_MACVLAN_MODE, _MACVLAN_MODES[step.mode])
        case _:
            return number(_IFLA_VLAN_ID, step.vlan_id, 2)


def create_veth(step: CreateVeth, namespace: int) -> bytes:
    """Create a veth pair with the peer in the namespace of a descriptor."""
    peer = link_header() + text(_IFLA_IFNAME, step.peer) + _mac(step.peer_mac) + number(_IFLA_MTU, step.mtu)
    peer += number(_IFLA_NET_NS_FD, namespace)
    data = nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, peer))
    body = link_header() + text(_IFLA_IFNAME, step.name) + _mac(step.mac) + number(_IFLA_MTU, step.mtu)
    return body + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "veth"), data)


def create_bond(step: CreateBond, indexes: Mapping[str, int]) -> bytes:
    """Create a bond. ``indexes`` (name → index) is for options that name a link. Raises BadConfig for a bad value."""
    try:
        options = [_bond_option(key, value, indexes) for key, value in step.options]
    except (ValueError, OverflowError) as error:
        raise BadConfig(f"options of bond {step.name}: {error}") from error
    data = nested(_IFLA_INFO_DATA, number(_IFLA_BOND_MODE, step.mode, 1), *options)
    return link_header() + text(_IFLA_IFNAME, step.name) + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bond"), data)


def _bond_option(key: str, value: str, indexes: Mapping[str, int]) -> bytes:
    if key == "arp_ip_target":
        targets = value.strip("[]").replace('"', "").split(",")
        return nested(
            _IFLA_BOND_ARP_IP_TARGET, *(attribute(i, ip_address(one.strip()).packed) for i, one in enumerate(targets))
        )
    if key == "ad_actor_system":
        return attribute(_IFLA_BOND_AD_ACTOR_SYSTEM, bytes.fromhex(value.replace(":", "")))
    kind, size = _BOND_OPTIONS[key]
    return number(kind, indexes[value] if key in ("active_slave", "primary") and value in indexes else int(value), size)


def address(step: AddAddress, index: int) -> bytes:
    """Add an address."""
    packed = step.address.ip.packed
    body = _ADDRESS.pack(FAMILIES[step.address.version], step.address.network.prefixlen, 0, 0, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return body + (number(_IFA_FLAGS, _IFA_F_NODAD) if step.address.version == 6 else b"")


def route(step: AddRoute, index: int) -> bytes:
    """Add or replace a route."""
    scope = _RT_SCOPE_LINK if step.destination.version == 4 and step.gateway is None else _RT_SCOPE_UNIVERSE
    return _route(step, index, _RTPROT_STATIC, scope)


def delete_route(step: AddRoute, index: int) -> bytes:
    """Delete a route of any protocol and scope."""
    return _route(step, index, _RTPROT_UNSPEC, _RT_SCOPE_NOWHERE)


def _route(step: AddRoute, index: int, protocol: int, scope: int) -> bytes:
    destination, table = step.destination, _small_table(step.table)
    family = FAMILIES[destination.version]
    body = _ROUTE.pack(family, destination.prefixlen, 0, 0, table, protocol, scope, _RTN_UNICAST, 0)
    if destination.prefixlen:
        body += attribute(_RTA_DST, destination.network_address.packed)
    body += number(_RTA_OIF, index) + number(_RTA_TABLE, step.table)
    body += attribute(_RTA_GATEWAY, step.gateway.packed) if step.gateway else b""
    return body + (attribute(_RTA_PREFSRC, step.source.packed) if step.source else b"")


def _small_table(table: int) -> int:
    """The table's number for a header of one byte; the attribute overrides it."""
    return table if table < _FIRST_LARGE_TABLE else _RT_TABLE_UNSPEC


def rule(step: AddRule) -> bytes:
    """Add or delete a rule."""
    table = _small_table(step.table)
    length = step.source.prefixlen if step.source else 0
    body = _RULE.pack(FAMILIES[step.version], 0, length, 0, table, 0, 0, _FR_ACT_TO_TBL, 0)
    body += number(_FRA_PRIORITY, step.priority) + number(_FRA_TABLE, step.table)
    body += attribute(_FRA_SRC, step.source.network_address.packed) if step.source else b""
    if step.mark is not None:
        body += number(_FRA_FWMARK, step.mark) + number(_FRA_FWMASK, step.mask)
    return body


def neighbour(step: AddNeighbour, index: int) -> bytes:
    """Add, replace or delete a permanent neighbour."""
    body = _NEIGHBOUR.pack(FAMILIES[step.address.version], index, _NUD_PERMANENT, 0, 0)
    return body + attribute(_NDA_DST, step.address.packed) + attribute(_NDA_LLADDR, _packed_mac(step.mac))


def namespace_number(descriptor: int) -> bytes:
    """Request the number that the namespace of the socket has for another one, given by its descriptor."""
    return bytes(_NAMESPACE_HEADER_SIZE) + number(_NETNSA_FD, descriptor)


def address_dump() -> bytes:
    """Dump addresses of both families."""
    return _ADDRESS.pack(UNSPEC, 0, 0, 0, 0)


def route_dump(version: int, index: int = 0, table: int = 0) -> bytes:
    """Dump routes of a family; of one link or table if not 0."""
    body = _ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, _RTN_UNICAST, 0)
    body += number(_RTA_OIF, index) if index else b""
    return body + (number(_RTA_TABLE, table) if table else b"")


def rule_dump() -> bytes:
    """Dump rules of both families."""
    return _RULE.pack(UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)


def neighbour_dump(index: int = 0) -> bytes:
    """Dump neighbours of both families; of one link if not 0."""
    return _NEIGHBOUR.pack(UNSPEC, 0, 0, 0, 0) + (number(_NDA_IFINDEX, index) if index else b"")


def route_lookup(destination: Address, source: Address | None = None, mark: int = 0) -> bytes:
    """Request the route that a packet would take."""
    bits = destination.max_prefixlen
    body = _ROUTE.pack(FAMILIES[destination.version], bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    body += attribute(_RTA_DST, destination.packed)
    body += attribute(_RTA_SRC, source.packed) if source else b""
    return body + (number(_RTA_MARK, mark) if mark else b"")


def read_link(body: bytes) -> Link:
    """Decode a link."""
    with reading():
        _, _, index, flags, _ = _LINK.unpack_from(body)
        found = attributes(body, _LINK.size)
        info = attributes(found.get(_IFLA_LINKINFO, b""))
        kind, data = as_text(info.get(_IFLA_INFO_KIND, b"")), attributes(info.get(_IFLA_INFO_DATA, b""))
        return Link(
            name=as_text(found[_IFLA_IFNAME]),
            index=index,
            kind=kind,
            mode=_mode(kind, data),
            mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
            mtu=as_number(found[_IFLA_MTU]),
            up=bool(flags & _IFF_UP),
            tx_queue_len=as_number(found.get(_IFLA_TXQLEN, b"")),
            parent=as_number(found.get(_IFLA_LINK, b"")),
            master=as_number(found.get(_IFLA_MASTER, b"")),
            vlan_id=as_number(data.get(_IFLA_VLAN_ID, b"")) if kind == "vlan" else 0,
            parent_netns=_namespace_number(found.get(_IFLA_LINK_NETNSID)),
            permanent_mac=found.get(_IFLA_PERM_ADDRESS, b"").hex(":"),
        )


def _namespace_number(value: bytes | None) -> int | None:
    """A namespace's number, which the kernel gives to those of peers; None where it has none."""
    number = None if value is None else int(_NUMBER.unpack(value)[0])
    return None if number == _NETNSA_NSID_NOT_ASSIGNED else number


def read_namespace_number(body: bytes) -> int | None:
    """Decode the answer to `namespace_number`."""
    with reading():
        return _namespace_number(attributes(body, _NAMESPACE_HEADER_SIZE).get(_NETNSA_NSID))


def _mode(kind: str, data: dict[int, bytes]) -> str:
    if kind == "ipvlan":
        return MODES["ipvlan"][as_number(data[_IFLA_IPVLAN_MODE])]
    if kind == "macvlan":
        return next(
            (mode for mode, value in _MACVLAN_MODES.items() if value == as_number(data[_IFLA_MACVLAN_MODE])), ""
        )
    return ""


def read_addresses(side: Side, bodies: Iterable[bytes], names: Mapping[int, str]) -> Iterator[AddAddress]:
    """The addresses, without link-local ones, of the links in ``names`` (index → name)."""
    with reading():
        for index, packed, length in raw_addresses(bodies):
            if index in names and not packed.is_link_local:
                yield AddAddress(side, names[index], ip_interface(f"{packed}/{length}"))


def raw_addresses(bodies: Iterable[bytes]) -> Iterator[tuple[int, Address, int]]:
    """Link index, address and prefix length."""
    with reading():
        for body in bodies:
            family, length, _, _, index = _ADDRESS.unpack_from(body)
            found = attributes(body, _ADDRESS.size)
            packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
            if family in VERSIONS and packed:
                yield index, _unpacked(packed), length


def addresses_in_dad(bodies: Iterable[bytes], index: int) -> Iterator[tuple[Address, bool]]:
    """IPv6 addresses of a link whose duplicate address detection is running, or (True) has found a duplicate."""
    with reading():
        for body in bodies:
            family, _, flags, _, link = _ADDRESS.unpack_from(body)
            packed = attributes(body, _ADDRESS.size).get(_IFA_ADDRESS)
            if (family, link) == (FAMILIES[6], index) and packed and flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
                yield _unpacked(packed), bool(flags & _IFA_F_DADFAILED)


def read_routes(side: Side, bodies: Iterable[bytes], names: Mapping[int, str]) -> Iterator[AddRoute]:
    """Unicast routes through the links in ``names`` (index → name), one for each next hop.

    Leaves out IPv6 routes to link-local and multicast destinations, which the kernel makes itself.
    """
    with reading():
        for body in bodies:
            family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            found = attributes(body, _ROUTE.size)
            destination = _network(family, found.get(_RTA_DST), length)
            is_own = family == FAMILIES[6] and (destination.is_link_local or destination.is_multicast)
            if kind != _RTN_UNICAST or is_own:
                continue
            table = as_number(found[_RTA_TABLE]) if _RTA_TABLE in found else table
            source = _unpacked(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None
            for index, gateway in _hops(found):
                if index in names:
                    yield AddRoute(side, destination, names[index], gateway, source, table)


def _hops(found: dict[int, bytes]) -> Iterator[tuple[int, Address | None]]:
    if _RTA_MULTIPATH not in found:
        gateway = found.get(_RTA_GATEWAY)
        yield as_number(found.get(_RTA_OIF, b"")), _unpacked(gateway) if gateway else None
        return
    data, offset = found[_RTA_MULTIPATH], 0
    while offset + _NEXT_HOP.size <= len(data):
        length, _, _, index = _NEXT_HOP.unpack_from(data, offset)
        if not _NEXT_HOP.size <= length <= len(data) - offset:
            raise ValueError(f"a next hop of {length} of {len(data) - offset} bytes")
        inner = attributes(data[offset : offset + length], _NEXT_HOP.size)
        yield index, _unpacked(inner[_RTA_GATEWAY]) if _RTA_GATEWAY in inner else None
        offset += length + -length % 4


def read_rules(side: Side, bodies: Iterable[bytes]) -> Iterator[AddRule]:
    """Rules with the action "look up a table"."""
    with reading():
        for body in bodies:
            family, _, length, _, table, _, _, action, _ = _RULE.unpack_from(body)
            if family not in VERSIONS or action != _FR_ACT_TO_TBL:
                continue
            found = attributes(body, _RULE.size)
            table = as_number(found[_FRA_TABLE]) if _FRA_TABLE in found else table
            mark = as_number(found[_FRA_FWMARK]) if _FRA_FWMARK in found else None
            yield AddRule(
                side,
                VERSIONS[family],
                as_number(found.get(_FRA_PRIORITY, b"")),
                table,
                mark,
                _network(family, found[_FRA_SRC], length) if _FRA_SRC in found else None,
                as_number(found[_FRA_FWMASK]) if mark is not None and _FRA_FWMASK in found else WHOLE_MARK,
            )


def read_neighbours(side: Side, bodies: Iterable[bytes], names: Mapping[int, str]) -> Iterator[AddNeighbour]:
    """The permanent neighbours on the links in ``names`` (index → name)."""
    with reading():
        for body in bodies:
            family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
            found = attributes(body, _NEIGHBOUR.size)
            if family in VERSIONS and state & _NUD_PERMANENT and index in names and _NDA_LLADDR in found:
                yield AddNeighbour(side, names[index], _unpacked(found[_NDA_DST]), found[_NDA_LLADDR].hex(":"))


@dataclass(frozen=True, slots=True)
class RouteLookup:
    """The route that a packet would take: index of its link, gateway (None: on the link), preferred source address."""

    index: int
    gateway: Address | None
    source: Address | None


def read_route_lookup(body: bytes) -> RouteLookup:
    """Decode the answer to `route_lookup`."""
    with reading():
        found = attributes(body, _ROUTE.size)
        gateway, source = found.get(_RTA_GATEWAY), found.get(_RTA_PREFSRC)
        index = as_number(found.get(_RTA_OIF, b""))
        return RouteLookup(index, _unpacked(gateway) if gateway else None, _unpacked(source) if source else None)


def _network(family: int, packed: bytes | None, length: int) -> Network:
    if packed is None:
        return ip_network("0.0.0.0/0" if family == FAMILIES[4] else "::/0")
    return ip_network((packed, length), strict=False)  # a rule may have host bits


def _unpacked(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _mac(mac: str) -> bytes:
    return attribute(_IFLA_ADDRESS, _packed_mac(mac))


def _packed_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
