"""The pools that give the addresses of ENIs, by index."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cloudcontroller.eni_families import ENIFamily
from spiderpool.core.addresses import AddressSet, to_int
from spiderpool.core.cloud.eni_pools import subnet_version
from spiderpool.core.cloud.preallocation import ENIState, gives
from spiderpool.core.ipam.pool_blocks import blocks_of, pools_near
from spiderpool.kube.informer import Informer


class ENIPools:
    """Finds pools by the ENI that they were made for, and by the addresses that they give."""

    def __init__(self, pools: Informer[SpiderIPPool]) -> None:
        self._by_eni = pools.index(lambda pool: [pool.eni])
        self._by_block = pools.index(blocks_of)

    def of(self, family: ENIFamily) -> list[SpiderIPPool]:
        """Returns the pools that were made for a family of an ENI."""
        return [pool for pool in self._by_eni.get(family.eni.identity) if subnet_version(pool) == family.version]

    def that_give(self, address: str) -> Iterator[SpiderIPPool]:
        """Yields the pools from which a pod could get an address."""
        version = 6 if ":" in address else 4
        at = AddressSet.of_addresses((to_int(address, version),), version)
        return (pool for pool in pools_near(self._by_block.get, at) if gives(pool, address))

    def fenceable(self, state: ENIState, pools: Collection[SpiderIPPool]) -> frozenset[str]:
        """Returns the free addresses registered by us that only the ENI's own ``pools`` give."""
        names = {pool.name for pool in pools}
        return frozenset(
            address
            for address in state.free & state.assigned
            if (givers := {pool.name for pool in self.that_give(address)}) and givers <= names
        )
