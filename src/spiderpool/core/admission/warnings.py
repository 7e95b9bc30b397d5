"""Warnings about objects that are accepted although a part of them has no effect: kubectl prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.addresses import AddressSet, Network
from spiderpool.core.admission.faults import shown
from spiderpool.core.admission.ranges import subnet_or_none


def ippool_warnings(pool: SpiderIPPool) -> Iterator[str]:
    """What of a valid pool has no effect."""
    if subnet := subnet_or_none(pool.spec.subnet):
        yield from _unassignable_warnings(pool.spec.ips, pool.spec.excludeIPs, subnet)


def subnet_warnings(subnet: SpiderSubnet) -> Iterator[str]:
    """What of a valid subnet has no effect."""
    if network := subnet_or_none(subnet.spec.subnet):
        yield from _unassignable_warnings(subnet.spec.ips, subnet.spec.excludeIPs, network)


def _unassignable_warnings(ips: Iterable[str] | None, exclude: Iterable[str] | None, subnet: Network) -> Iterator[str]:
    listed = AddressSet.parse(ips or (), subnet.version) - AddressSet.parse(exclude or (), subnet.version)
    if left_out := (listed & AddressSet.unassignable(subnet)).ranges():
        yield f"spec.ips: no pod gets {shown(left_out)}, as network or broadcast address of {subnet}"
