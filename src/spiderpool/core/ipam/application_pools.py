"""The automatic pools of an application, one for each of its slots: finds, names and describes them.

A description is a pool as it shall be; creating and changing it is the controller's task.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.ippool import POOL_CIDR_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import FINALIZER, LabelSelector, ObjectMeta
from spiderpool.api.subnet import (
    APPLICATION_UID_LABEL,
    IP_NUMBER_ANNOTATION,
    RECLAIM,
    SUBNET_CIDR_LABEL,
    SpiderSubnet,
)
from spiderpool.core.addresses import AddressSet
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.applications import PoolClaim, PoolSlot, application_key
from spiderpool.core.ipam.owners import Controller, application_affinity, application_labels
from spiderpool.core.ipam.subnet_addresses import (
    available_addresses,
    parse_subnet_addresses,
    pool_addresses,
    resize,
)
from spiderpool.core.ipam.subnets import owner_reference
from spiderpool.core.labels import NAME_LENGTH

UID_DIGITS = 5
"""Characters of the application's UID in the name of a pool."""


@dataclass(frozen=True, slots=True)
class SubnetUse:
    """Who has addresses of a subnet."""

    subnet: SpiderSubnet
    pools: tuple[SpiderIPPool, ...]
    """All pools of its CIDR."""
    reserved: AddressSet
    in_use: AddressSet
    """Addresses that pods have from these pools, or from pools that were deleted."""

    def addresses(self, stored: SpiderIPPool | None, size: int) -> AddressSet:
        """What a pool is to hold that shall have ``size`` addresses, as far as there are any. Raises ValueError."""
        whole = parse_subnet_addresses(self.subnet)
        version = whole.version
        others = (pool_addresses(pool, version) for pool in self.pools if stored is None or pool.name != stored.name)
        offer = available_addresses(whole, others, self.reserved)
        current = pool_addresses(stored, version) if stored else AddressSet(version)
        return resize(current, size, offer, self.in_use)


def is_reclaimed(pool: SpiderIPPool) -> bool:
    """Whether an automatic pool is deleted when its application no longer claims it."""
    return (pool.metadata.labels or {}).get(RECLAIM) == "true"


def slot_labels(application: Controller, slot: PoolSlot) -> dict[str, str]:
    """Labels by which the pool of a slot is found, also when the application's object was created again."""
    labels = application_labels(application, slot.subnet, slot.interface, slot.version)
    return {key: value for key, value in labels.items() if key != APPLICATION_UID_LABEL}


def find_pool(pools: Iterable[SpiderIPPool], application: Controller, slot: PoolSlot) -> SpiderIPPool | None:
    """The pool of a slot: this application's, otherwise one that an earlier object of that name left for reuse."""
    selector = slot_labels(application, slot).items()
    found = [
        pool for pool in pools if selector <= (pool.metadata.labels or {}).items() and _is_open_to(pool, application)
    ]
    return min(found, key=lambda pool: (not _is_own(pool, application), pool.name), default=None)


def _is_own(pool: SpiderIPPool, application: Controller) -> bool:
    return (pool.metadata.labels or {}).get(APPLICATION_UID_LABEL) == application.uid


def _is_open_to(pool: SpiderIPPool, application: Controller) -> bool:
    return not pool.terminating and (_is_own(pool, application) or not is_reclaimed(pool))


def pool_names(application: Controller, slot: PoolSlot) -> tuple[str, str]:
    """The name of the pool of a slot, and another name for when the first is taken.

    ``auto4-<application>-<interface>-<last characters of the UID>``; the second name adds a digest of what the first
    leaves out. Characters that a name cannot hold are replaced, and what is too long is cut off.
    """
    suffix = _name_part(application.uid.rpartition("-")[2][:UID_DIGITS])
    identity = "|".join((application_key(application), application.uid, slot.subnet))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:5]
    return _pool_name(application, slot, suffix), _pool_name(application, slot, f"{suffix}-{digest}")


def _pool_name(application: Controller, slot: PoolSlot, suffix: str) -> str:
    head = f"auto{slot.version}-"
    tail = "-".join(("", *(part for part in (_name_part(slot.interface), suffix) if part)))
    return head + _name_part(application.name[: NAME_LENGTH - len(head) - len(tail)]) + tail


def _name_part(text: str) -> str:
    """A text as part of an object's name: in lower case, with an alphanumeric at both ends."""
    return re.sub(r"[^a-z0-9.-]", "-", text.lower()).strip("-.")


def desired_pool(
    claim: PoolClaim, slot: PoolSlot, subnet: SpiderSubnet, pool: SpiderIPPool | str, addresses: AddressSet
) -> SpiderIPPool:
    """The pool of a slot as it shall be, given the stored one or the name of a new one."""
    application = claim.application
    stored = _new_pool(pool, slot, subnet) if isinstance(pool, str) else pool
    changing = {APPLICATION_UID_LABEL: application.uid, RECLAIM: "true" if claim.reclaim else "false"}
    metadata = replace(
        stored.metadata,
        labels=(stored.metadata.labels or {}) | slot_labels(application, slot) | changing,
        annotations=(stored.metadata.annotations or {}) | {IP_NUMBER_ANNOTATION: _number_text(claim.number)},
    )
    spec = replace(stored.spec, podAffinity=LabelSelector(matchLabels=application_affinity(application)))
    if pool_addresses(stored, addresses.version) != addresses or not spec.ips:
        spec = replace(spec, ips=addresses.ranges(), excludeIPs=None)
    return replace(stored, metadata=metadata, spec=spec)


def _number_text(number: IPNumber) -> str:
    """As in the annotation: ``N`` or ``+N``."""
    return f"+{number.count}" if number.flexible else str(number.count)


def _new_pool(name: str, slot: PoolSlot, subnet: SpiderSubnet) -> SpiderIPPool:
    cidr = (subnet.metadata.labels or {}).get(SUBNET_CIDR_LABEL)
    return SpiderIPPool(
        metadata=ObjectMeta(
            name=name,
            labels={POOL_CIDR_LABEL: cidr} if cidr else None,
            finalizers=[FINALIZER],
            ownerReferences=[owner_reference(subnet)],
        ),
        spec=IPPoolSpec(
            subnet=subnet.spec.subnet,
            ipVersion=slot.version,
            gateway=subnet.spec.gateway,
            routes=subnet.spec.routes,
        ),
    )
