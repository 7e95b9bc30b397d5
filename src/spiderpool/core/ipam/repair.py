"""Decides which SpiderIPs have to be made again: those of addresses that sandboxes of a node use without a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeSandbox
from spiderpool.core.addresses import canonical, object_name, to_int
from spiderpool.core.ipam.allocation import Slot, is_exclusive, new_record, slot_of, usable
from spiderpool.core.ipam.owners import MACHINE_INSTANCE
from spiderpool.core.ipam.selection import AllocationRequest


@dataclass(frozen=True, slots=True)
class UnrecordedAddress:
    """An address in a sandbox, on an interface for which the pod holds none of this family."""

    sandbox: NodeSandbox
    interface: str
    address: str
    """As canonical text."""

    @property
    def name(self) -> str:
        """The name of its SpiderIP."""
        return object_name(self.address)

    @property
    def slot(self) -> Slot:
        """What the pod needs the record for."""
        return self.sandbox.podUID, self.interface, self.version

    @property
    def version(self) -> int:
        """The address family, 4 or 6."""
        return 6 if ":" in self.address else 4


def unrecorded(sandboxes: Iterable[NodeSandbox], records: Iterable[SpiderIP]) -> Iterator[UnrecordedAddress]:
    """Addresses of each family and interface for which a sandbox's pod holds no record; ``records`` are the node's.

    At most one of a family and interface can be ours, and a pool decides whether it is (`record_of`): programs in the
    pod, and other plugins, add addresses of their own.
    """
    held = {slot_of(each) for each in records if not each.spec.releasedAt}
    for sandbox in sandboxes:
        for interface in sandbox.interfaces or () if sandbox.podUID else ():
            for text in interface.addresses or ():
                found = UnrecordedAddress(sandbox, interface.name, canonical(text))
                if found.slot not in held:
                    yield found


def record_of(
    found: UnrecordedAddress, node: str, pools: Iterable[SpiderIPPool], owner: IPOwner | None
) -> SpiderIP | None:
    """The record of an address by the pool that gives it to pods of the node; None when no pool does.

    Of several pools the node's own one, then the first by name. ``owner`` is the pod's sticky owner.
    """
    address = to_int(found.address, found.version)
    for pool in sorted(pools, key=lambda each: (not is_exclusive(each, node), each.name)):
        if _gives(pool, address, found.version):
            sandbox = found.sandbox
            names = sandbox.namespace, sandbox.pod, sandbox.podUID, found.interface, node, None
            return new_record(AllocationRequest(*names, version=found.version, owner=owner), pool, address)
    return None


def made_again(lost: SpiderIP) -> SpiderIP:
    """The record that was deleted, as it has to be created."""
    return SpiderIP(metadata=ObjectMeta(name=lost.name, labels=lost.metadata.labels), spec=lost.spec)


def is_shared(record: SpiderIP, other: SpiderIP) -> bool:
    """Whether two records name pods of one virtual machine, which both have its address while it moves."""
    owner = record.spec.owner
    return owner is not None and owner.kind == MACHINE_INSTANCE and owner == other.spec.owner


def _gives(pool: SpiderIPPool, address: int, version: int) -> bool:
    try:
        addresses = usable(pool)
    except ValueError:  # written past the webhook
        return False
    return addresses.version == version and address in addresses
