"""Creates the vSwitches, instances and ENIs of a lab's topology in a simulated account, with equal MACs and addresses.

In the other direction, :func:`follow` reports address changes of the account to the fabric, which filters frames by
registered addresses.
"""

from __future__ import annotations

from collections.abc import Callable

from spiderpool_lab.alibaba.account import Account, ENIAddresses
from spiderpool_lab.alibaba.resources import EIP, NetworkInterface
from spiderpool_lab.alibaba.tables import TableChange
from spiderpool_lab.topology import ENI, LabNode, Topology

INSTANCE_TYPE = "ecs.g7.xlarge"
"""The instance type of the nodes. Its quota of addresses per ENI is higher than what a lab starts with."""
Registration = Callable[[ENI, str], None]
"""``Fabric.register`` or ``Fabric.unregister``: allows or forbids frames from an address of an ENI."""


def populate(account: Account, topology: Topology, *, role: str | None = None) -> dict[str, str]:
    """Create the resources of a topology. Returns server name → instance ID.

    The ID of an ENI is ``eni-<node>-<ENI>``, and the ID of a vSwitch is its name.
    """
    for vswitch in topology.vswitches:
        account.add_vswitch(vswitch.subnet, zone=vswitch.zone, identity=vswitch.name, ipv6_block=vswitch.subnet6)
    instances = {}
    for node in topology.servers:
        instance = account.add_instance(node.name, instance_type=INSTANCE_TYPE, identity=f"i-{node.name}", role=role)
        instances[node.name] = instance.identity
        for eni in node.enis:
            account.add_eni(
                eni.vswitch.name,
                instance=instance.identity,
                mac=eni.mac,
                identity=_eni_id(node, eni),
                addresses=_eni_addresses(eni),
            )
        _bind_elastic_addresses(account, node, instance.identity)
    return instances


def _bind_elastic_addresses(account: Account, node: LabNode, instance: str) -> None:
    """Bind EIPs: that of the first ENI to the instance, that of another ENI to this ENI."""
    for eni in node.enis:
        if eni.elastic:
            owner = (instance, "EcsInstance") if eni == node.enis[0] else (_eni_id(node, eni), "NetworkInterface")
            account.tables.eips.put(EIP(f"eip-{node.name}-{eni.name}", eni.elastic, *owner, eni.address))


def _eni_addresses(eni: ENI) -> ENIAddresses:
    ipv6 = (*([eni.address6] if eni.address6 else []), *eni.secondaries6)
    return ENIAddresses(eni.address, tuple(eni.secondaries), ipv6)


def _eni_id(node: LabNode, eni: ENI) -> str:
    return f"eni-{node.name}-{eni.name}"


def follow(
    account: Account, topology: Topology, register: Registration, unregister: Registration
) -> Callable[[], None]:
    """Register and unregister addresses as the account changes. Returns a function that ends this.

    ENIs that are not in the topology, such as those created later, are ignored.
    """
    enis = {eni.mac: eni for node in topology.servers for eni in node.enis}

    def on_change(change: TableChange) -> None:
        if change.table != "enis":
            return
        before, after = _addresses(change.before), _addresses(change.after)
        eni = enis.get((change.after or change.before).mac)
        if eni is None:
            return
        for address in sorted(after - before):
            register(eni, address)
        for address in sorted(before - after):
            unregister(eni, address)

    return account.subscribe(on_change)


def _addresses(eni: NetworkInterface | None) -> set[str]:
    return {*eni.addresses, *eni.ipv6_addresses} if eni else set()
