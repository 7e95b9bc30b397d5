"""A lab's topology as an account: its vSwitches, its nodes as instances, their ENIs with the same MACs and addresses.

And back: what the cloud registers and takes off at run time is told to the fabric, which drops frames by it.
"""

from __future__ import annotations

from collections.abc import Callable

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.resources import EIP, NetworkInterface
from spiderpool_lab.alibaba.tables import TableChange
from spiderpool_lab.topology import ENI, LabNode, Topology

INSTANCE_TYPE = "ecs.g7.xlarge"
"""Takes more addresses on an ENI than a lab begins with."""
Registration = Callable[[ENI, str], None]
"""``Fabric.register`` or ``Fabric.unregister``: an address of an ENI may, or may no longer, send."""


def populate(account: Account, topology: Topology, *, role: str | None = None) -> dict[str, str]:
    """Put a topology into an account and return the instance of each node by its name.

    Every ENI becomes a network interface ``eni-<node>-<ENI>``, every vSwitch keeps its name as identity.
    """
    for vswitch in topology.vswitches:
        account.add_vswitch(vswitch.subnet, identity=vswitch.name, ipv6_block=vswitch.subnet6)
    instances = {}
    for node in topology.nodes:
        instance = account.add_instance(node.name, kind=INSTANCE_TYPE, identity=f"i-{node.name}", role=role)
        instances[node.name] = instance.identity
        for eni in node.enis:
            account.add_eni(
                eni.vswitch.name,
                instance=instance.identity,
                mac=eni.mac,
                address=eni.address,
                secondaries=eni.secondaries,
                ipv6_addresses=[*([eni.address6] if eni.address6 else []), *eni.secondaries6],
                identity=_identity(node, eni),
            )
        _bind_elastic_addresses(account, node, instance.identity)
    return instances


def _bind_elastic_addresses(account: Account, node: LabNode, instance: str) -> None:
    """The public address of the first ENI is the instance's, that of another one the ENI's."""
    for eni in node.enis:
        if eni.elastic:
            owner = (instance, "EcsInstance") if eni == node.enis[0] else (_identity(node, eni), "NetworkInterface")
            account.world.eips.put(EIP(f"eip-{node.name}-{eni.name}", eni.elastic, *owner, eni.address))


def _identity(node: LabNode, eni: ENI) -> str:
    return f"eni-{node.name}-{eni.name}"


def follow(
    account: Account, topology: Topology, register: Registration, unregister: Registration
) -> Callable[[], None]:
    """Tell the fabric which addresses ENIs win and lose; the answer ends that. ENIs made later are not in it."""
    enis = {eni.mac: eni for node in topology.nodes for eni in node.enis}

    def notice(change: TableChange) -> None:
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

    return account.subscribe(notice)


def _addresses(eni: NetworkInterface | None) -> set[str]:
    return {*eni.addresses, *eni.ipv6_addresses} if eni else set()
