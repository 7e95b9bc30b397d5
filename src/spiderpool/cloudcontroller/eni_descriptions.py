"""The ENIs of the cluster's servers as the cloud described them last, with the changes that it confirmed since then.

It decides nothing and writes nothing to the cluster; `addresses` plans by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from spiderpool.cloud.provider import (
    CloudError,
    CloudProvider,
    CloudUnavailable,
    Quota,
    RegisteredENI,
    Throttled,
)
from spiderpool.core.cloud.preallocation import RecentChanges
from spiderpool.errors import raise_all

CONFIRMATION_LAG = 120.0
"""Seconds for which the cloud's descriptions may not show a change that it has confirmed."""


class ENIDescriptions:
    """Descriptions of ENIs, limits of instance types, and free addresses of vSwitches."""

    def __init__(self, cloud: CloudProvider, clock: Callable[[], float]) -> None:
        self._cloud = cloud
        self._clock = clock
        self._enis: dict[str, RegisteredENI] = {}  # ENI → its latest description
        self._asked_at: dict[str, float] = {}  # ENI → time at which that was requested
        self._quotas: dict[tuple[str, str], Quota] = {}  # (region, instance type) → limits, which do not change
        self._free: dict[str, int] = {}  # vSwitch → free addresses
        self._recent: dict[tuple[str, int], RecentChanges] = defaultdict(RecentChanges)
        """(ENI, address family) → confirmed changes that its description may not show yet."""

    async def read(self, region: str, enis: Collection[str], instance_types: Iterable[str]) -> None:
        """Reads ENIs of a region, their vSwitches, and limits that are not known yet.

        Raises CloudError; what was read is kept. An instance type or vSwitch that is refused keeps no other from it.
        """
        asked_at = self._clock()
        described = await self._cloud.enis(region, enis)
        self._enis |= described
        self._asked_at |= dict.fromkeys(described, asked_at)
        now = self._clock()
        for identity, version in list(self._recent):
            if (eni := described.get(identity)) is not None:
                recent = self._recent[identity, version]
                self._recent[identity, version] = recent.pending(_secondary(eni, version), now)
        refusals: list[CloudError] = []
        for instance_type in sorted(instance_types):
            if (region, instance_type) not in self._quotas:
                with _noted(refusals):
                    self._quotas[region, instance_type] = await self._cloud.quota(region, instance_type)
        for vswitch in sorted({eni.vswitch for eni in described.values()}):
            with _noted(refusals):
                self._free[vswitch] = await self._cloud.free_addresses(region, vswitch)
        raise_all(refusals)

    def forget_all_but(self, enis: Collection[str]) -> None:
        """Forgets what is known of other ENIs, which are gone."""
        self._enis = {identity: eni for identity, eni in self._enis.items() if identity in enis}
        self._asked_at = {identity: at for identity, at in self._asked_at.items() if identity in enis}
        recent = {key: changes for key, changes in self._recent.items() if key[0] in enis}
        self._recent = defaultdict(RecentChanges, recent)

    def eni(self, identity: str) -> RegisteredENI | None:
        """Returns the latest description of an ENI; None until there is one."""
        return self._enis.get(identity)

    def shows(self, identity: str, at: float) -> bool:
        """Whether the description of an ENI is from so long after a time that it shows what was requested then."""
        return self._asked_at.get(identity, at) >= at + CONFIRMATION_LAG

    def quota(self, region: str, instance_type: str) -> Quota | None:
        """Returns the limits of the ENIs of an instance type; None until they are known."""
        return self._quotas.get((region, instance_type))

    def free_by_vswitch(self) -> dict[tuple[str, ...], float]:
        """Returns the number of free IPv4 addresses of each vSwitch that is known."""
        return {(vswitch,): float(free) for vswitch, free in self._free.items()}

    def free_addresses(self, vswitch: str) -> int | None:
        """Returns the number of free IPv4 addresses of a vSwitch; None until it is known."""
        return self._free.get(vswitch)

    def registered(self, eni: RegisteredENI, version: int) -> frozenset[str]:
        """Returns the secondary addresses of a family on an ENI: as described, with confirmed changes."""
        return self._recent[eni.identity, version].applied(_secondary(eni, version)) - {eni.primary_address}

    def recently_assigned(self, eni: str, version: int) -> Collection[str]:
        """Returns the addresses whose assignment the description of the ENI may not show yet."""
        return self._recent[eni, version].added.keys()

    def note_assigned(self, eni: RegisteredENI, version: int, addresses: Collection[str]) -> None:
        """Notes that the cloud has registered addresses on an ENI."""
        key = eni.identity, version
        self._recent[key] = self._recent[key].with_added(addresses, self._clock() + CONFIRMATION_LAG)
        if version == 4 and eni.vswitch in self._free:
            self._free[eni.vswitch] -= len(addresses)

    def note_unassigned(self, eni: str, version: int, addresses: Iterable[str]) -> None:
        """Notes that the cloud has removed addresses from an ENI."""
        self._recent[eni, version] = self._recent[eni, version].with_removed(
            addresses, self._clock() + CONFIRMATION_LAG
        )


@contextmanager
def _noted(refusals: list[CloudError]) -> Iterator[None]:
    """Notes that a call was refused. Raises where the next one could not be answered either."""
    try:
        yield
    except (Throttled, CloudUnavailable):
        raise
    except CloudError as error:
        refusals.append(error)


def _secondary(eni: RegisteredENI, version: int) -> frozenset[str]:
    return eni.ipv6_addresses if version == 6 else eni.addresses
