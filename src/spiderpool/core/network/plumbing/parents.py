"""Parent links of pods' interfaces that we create on the node: a VLAN of a NIC, a bond of NICs, a VLAN of a bond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spiderpool.core.network.plumbing.steps import CreateBond, CreateLink, Enslave, SetLink, Step
from spiderpool.core.network.plumbing.values import Link, NodeAddress
from spiderpool.errors import BadConfig, KernelFailure

BOND_NAME = "sp_bond0"
BOND_OPTIONS = (
    *("active_slave", "ad_actor_sys_prio", "ad_actor_system", "ad_select", "ad_user_port_key", "all_slaves_active"),
    *("arp_all_targets", "arp_interval", "arp_ip_target", "arp_validate", "downdelay", "fail_over_mac", "lacp_rate"),
    *("lp_interval", "miimon", "min_links", "num_peer_notif", "packets_per_slave", "peer_notif_delay", "primary"),
    *("primary_reselect", "resend_igmp", "tlb_dynamic_lb", "updelay", "use_carrier", "xmit_hash_policy"),
)
_ALIASES = {"up_delay": "updelay", "down_delay": "downdelay"}


@dataclass(frozen=True, slots=True)
class ParentLink:
    """The requested parent: one NIC, or a bond of several, and on it a VLAN unless ``vlan_id`` is 0."""

    nics: tuple[str, ...]
    vlan_id: int = 0
    bond_name: str = BOND_NAME
    bond_mode: int = 0
    bond_options: tuple[tuple[str, str], ...] = ()

    @property
    def base(self) -> str:
        """The NIC or the bond."""
        return self.nics[0] if len(self.nics) == 1 else self.bond_name

    @property
    def name(self) -> str:
        """The link on which pods' interfaces are created."""
        return f"{self.base}.{self.vlan_id}" if self.vlan_id else self.base


def bond_options(text: str) -> tuple[tuple[str, str], ...]:
    """Parse options such as ``miimon=100;xmit_hash_policy=1``.

    Raises:
        BadConfig: names the entry that is not ``key=value`` or not an option of a bond.
    """
    options = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        key, separator, value = entry.partition("=")
        key = _ALIASES.get(key.strip(), key.strip())
        if not separator or key not in BOND_OPTIONS:
            raise BadConfig(f"bond options hold {entry!r}; write key=value with one of {', '.join(BOND_OPTIONS)}")
        options.append((key, value.strip()))
    return tuple(options)


def plan_parent(
    parent: ParentLink, links: tuple[Link, ...], addresses: tuple[NodeAddress, ...] = ()
) -> tuple[Step, ...]:
    """The steps that create what the node lacks of the parent; empty if it is complete.

    Raises:
        BadConfig: the request is wrong, or would take an address from the node.
        KernelFailure: a NIC is missing, or a name is taken by something else.
    """
    if not parent.nics:
        raise BadConfig("an interface plugin ifacer names no interfaces; name one NIC, or two for a bond")
    if not 0 <= parent.vlan_id <= 4094:
        raise BadConfig(f"vlanID {parent.vlan_id} is not between 0 (no VLAN) and 4094")
    by_name = {link.name: link for link in links}
    for nic in parent.nics:
        if nic not in by_name:
            raise KernelFailure(f"NIC {nic} does not exist on this node; correct the network's master")
    bond = _bond(parent, by_name, addresses) if len(parent.nics) > 1 else ()
    return (*bond, *(_vlan(parent, by_name) if parent.vlan_id else ()))


def _bond(parent: ParentLink, by_name: dict[str, Link], addresses: tuple[NodeAddress, ...]) -> Iterator[Step]:
    if not 0 <= parent.bond_mode <= 6:
        raise BadConfig(f"bond mode {parent.bond_mode} is not between 0 and 6")
    existing = by_name.get(parent.bond_name)
    if existing is not None and existing.kind != "bond":
        raise KernelFailure(
            f"{parent.bond_name} exists and is a {existing.kind or 'device'}; give the bond another name"
        )
    if existing is None:
        yield CreateBond("node", parent.bond_name, parent.bond_mode, parent.bond_options)
    for nic in parent.nics:
        yield from _add_to_bond(by_name[nic], parent.bond_name, existing, addresses)
    yield SetLink("node", parent.bond_name)


def _add_to_bond(nic: Link, name: str, bond: Link | None, addresses: tuple[NodeAddress, ...]) -> Iterator[Step]:
    if nic.master:
        if bond is None or nic.master != bond.index:
            raise KernelFailure(f"{nic.name} belongs to another bond or bridge; take it out before it joins {name}")
        return
    for held in addresses:
        if held.link == nic.name:
            raise BadConfig(
                f"{nic.name} carries {held.address} of this node, which would lose it if the NIC joined {name}:"
                f" remove the address, or make the bond by hand"
            )
    yield Enslave("node", nic.name, name)


def _vlan(parent: ParentLink, by_name: dict[str, Link]) -> Iterator[Step]:
    base, existing = by_name.get(parent.base), by_name.get(parent.name)
    yield SetLink("node", parent.base)
    if existing is not None:
        if existing.kind != "vlan" or existing.vlan_id != parent.vlan_id or (base and existing.parent != base.index):
            raise KernelFailure(f"{parent.name} exists and is not VLAN {parent.vlan_id} of {parent.base}: remove it")
    else:
        _refuse_duplicate_vlan(parent, base, by_name)
        mtu = base.mtu if base else min(by_name[nic].mtu for nic in parent.nics)
        yield CreateLink("node", parent.name, "vlan", "", parent.base, mtu, vlan_id=parent.vlan_id)
    yield SetLink("node", parent.name)


def _refuse_duplicate_vlan(parent: ParentLink, base: Link | None, by_name: dict[str, Link]) -> None:
    for link in by_name.values():
        if base and (link.kind, link.parent, link.vlan_id) == ("vlan", base.index, parent.vlan_id):
            raise KernelFailure(
                f"VLAN {parent.vlan_id} of {parent.base} exists under the name {link.name}: use that as master"
            )
