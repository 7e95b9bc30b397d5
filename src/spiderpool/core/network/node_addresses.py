"""What the addresses of a node's NICs are to pools: whose subnets they lie in, and which of them pods should have.

Software of the server may put all addresses of a NIC on the NIC. Then node and pod both answer for them. Nothing of it
is removed here: only the administrator knows whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_interface, ip_network

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spiderserver import Instance
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.network.plumbing.nics import NICAddress
from spiderpool.core.network.plumbing.values import Address, Network

_REMEDY = (
    "if it is the node's own, exclude it from the pool; otherwise let cloud-init, NetworkManager, systemd-networkd or"
    " the cloud's helper leave it alone, and remove it from the NIC"
)


def misplaced(
    held: Iterable[NICAddress],
    pools: Iterable[SpiderIPPool],
    records: Iterable[SpiderIP],
    reserved: Callable[[int], AddressSet],
) -> Mapping[Address, str]:
    """A sentence for each address of a NIC that a pod of the node has, or that a pool gives to its pods.

    ``reserved`` returns the addresses of a family that no pool gives. Malformed pools are passed over.
    """
    used = (each.spec for each in records if not each.spec.releasedAt)
    holders = {ip_interface(each.address).ip: f"{each.namespace}/{each.pod}" for each in used}
    given = [(pool.name, addresses) for pool in pools if (addresses := _given(pool, reserved))]
    found: dict[Address, str] = {}
    for each in held:
        address = each.address.ip
        pool = next((name for name, of in given if of.version == address.version and int(address) in of), None)
        use = f"of pod {holders[address]}" if address in holders else f"which pool {pool} gives to pods"
        if pool is not None or address in holders:
            found[address] = (
                f"{address}, {use}, is configured on {each.link} of the node, which answers for it: {_REMEDY}"
            )
    return found


def _given(pool: SpiderIPPool, reserved: Callable[[int], AddressSet]) -> AddressSet | None:
    try:
        addresses = usable(pool)
    except ValueError:
        return None
    return addresses - reserved(addresses.version)


def known_subnets(pools: Iterable[SpiderIPPool], server: Instance | None) -> frozenset[Network]:
    """The subnets of pools and of a server's ENIs, but for malformed ones, which were written past the webhook."""
    enis = server.enis if server else ()
    found: set[Network] = set()
    of_enis = (subnet for eni in enis for subnet in (eni.subnet, eni.subnet6) if subnet)
    for text in (*(pool.spec.subnet for pool in pools), *of_enis):
        with suppress(ValueError):
            found.add(ip_network(text, strict=False))
    return frozenset(found)
