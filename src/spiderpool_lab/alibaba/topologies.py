"""A lab's topology as an account: its vSwitches, its nodes as instances, their cards with the same MACs and addresses.

And back: what the cloud registers and takes off at run time is told to the fabric, which drops frames by it.
"""

from __future__ import annotations

from collections.abc import Callable

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.resources import EIP, NetworkInterface
from spiderpool_lab.alibaba.tables import TableChange
from spiderpool_lab.topology import ENI, LabNode, Topology

INSTANCE_TYPE = "ecs.g7.xlarge"
"""Takes more addresses on a card than a lab begins with."""
Registration = Callable[[ENI, str], None]
"""``Fabric.register`` or ``Fabric.unregister``: an address of a card may, or may no longer, send."""


def populate(account: Account, topology: Topology, *, role: str | None = None) -> dict[str, str]:
    """Put a topology into an account and return the instance of each node by its name.

    Every card becomes a network interface ``eni-<node>-<card>``, every vSwitch keeps its name as identity.
    """
    for vswitch in topology.vswitches:
        account.add_vswitch(vswitch.subnet, identity=vswitch.name, ipv6_block=vswitch.subnet6)
    instances = {}
    for node in topology.nodes:
        instance = account.add_instance(node.name, kind=INSTANCE_TYPE, identity=f"i-{node.name}", role=role)
        instances[node.name] = instance.identity
        for card in node.cards:
            account.add_card(
                card.vswitch.name,
                instance=instance.identity,
                mac=card.mac,
                address=card.address,
                secondaries=card.secondaries,
                ipv6_addresses=[*([card.address6] if card.address6 else []), *card.secondaries6],
                identity=_identity(node, card),
            )
        _bind_elastic_addresses(account, node, instance.identity)
    return instances


def _bind_elastic_addresses(account: Account, node: LabNode, instance: str) -> None:
    """The public address of the first card is the instance's, that of another one the card's."""
    for card in node.cards:
        if card.elastic:
            owner = (instance, "EcsInstance") if card == node.cards[0] else (_identity(node, card), "NetworkInterface")
            account.world.eips.put(EIP(f"eip-{node.name}-{card.name}", card.elastic, *owner, card.address))


def _identity(node: LabNode, card: ENI) -> str:
    return f"eni-{node.name}-{card.name}"


def follow(
    account: Account, topology: Topology, register: Registration, unregister: Registration
) -> Callable[[], None]:
    """Tell the fabric which addresses cards win and lose; the answer ends that. Cards made later are not in it."""
    cards = {card.mac: card for node in topology.nodes for card in node.cards}

    def notice(change: TableChange) -> None:
        if change.table != "cards":
            return
        before, after = _addresses(change.before), _addresses(change.after)
        card = cards.get((change.after or change.before).mac)
        if card is None:
            return
        for address in sorted(after - before):
            register(card, address)
        for address in sorted(before - after):
            unregister(card, address)

    return account.subscribe(notice)


def _addresses(card: NetworkInterface | None) -> set[str]:
    return {*card.addresses, *card.ipv6_addresses} if card else set()
