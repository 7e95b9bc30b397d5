"""Pools that are cut from a subnet: which an application asks for, what they hold, how they are named.

The pools themselves are the truth about what of a subnet is given away; the subnet's status is a view of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from spiderpool.api.applications import CronJob, DaemonSet, Job, ReplicaSet, Workload
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ippool import POOL_CIDR_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import FINALIZER, LabelSelector, ObjectMeta, OwnerReference
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import (
    APP_GROUP,
    APP_KIND,
    APP_NAME,
    APP_NAMESPACE,
    APP_VERSION,
    APPLICATION_UID_LABEL,
    IP_NUMBER_ANNOTATION,
    OWNER_SUBNET_LABEL,
    RECLAIM,
    SUBNET_ANNOTATION,
    SUBNET_CIDR_LABEL,
    SUBNETS_ANNOTATION,
    SpiderSubnet,
    SubnetStatus,
)
from spiderpool.core.addresses import AddressSet, Interval, RangeError, parse_subnet
from spiderpool.core.annotations import FIRST_INTERFACE, IPNumber, all_interface_subnets, ip_number, reclaims_pool
from spiderpool.core.ipam import owners
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.ipam.owners import (
    APPLICATION_KEYS,
    Controller,
    application_affinity,
    application_labels,
    is_automatic,
)
from spiderpool.core.labels import label_value
from spiderpool.errors import BadConfig

NAME_LENGTH = 253
MAX_COUNT = 2**63 - 1

Annotations = Mapping[str, str]


# --- What an application asks for ---------------------------------------------------------------------------------


def key_of(application: Controller) -> str:
    """Who an application is, whichever object of that name it is by now."""
    return "|".join((application.api_version, application.kind, application.namespace, application.name))


@dataclass(frozen=True, slots=True)
class PoolSlot:
    """One interface wants addresses of one family from one subnet."""

    interface: str
    version: int
    subnet: str


@dataclass(frozen=True, slots=True)
class PoolClaim:
    """All that an application asks of subnets, as its pod template says."""

    application: Controller
    places: tuple[PoolSlot, ...]
    number: IPNumber
    reclaim: bool
    pods: int

    @property
    def size(self) -> int:
        """Addresses of each of its pools."""
        return self.pods + self.number.count if self.number.flexible else self.number.count


def claim(workload: Workload, redundant: int) -> PoolClaim | None:
    """What a workload asks of subnets; None when it asks for nothing. Raises BadConfig.

    ``redundant`` is how many addresses more than pods a pool gets whose number nobody says.
    """
    template = workload.pods.template
    annotations = template.metadata.annotations or {}
    places = _places(annotations)
    if not places or template.spec.hostNetwork or not is_top(workload):
        return None
    number = ip_number(annotations) or IPNumber(redundant, flexible=True)
    return PoolClaim(application(workload), places, number, reclaims_pool(annotations), pod_count(workload))


def foreign_claim(pod: Pod) -> PoolClaim | None:
    """What a pod asks in the name of a third party's controller, whose number of pods nobody tells.

    Raises BadConfig; the number is mandatory, and ``+N`` counts as ``N``.
    """
    of, annotations = foreign_application(pod), pod.metadata.annotations or {}
    places = _places(annotations)
    if of is None or not places:
        return None
    number = ip_number(annotations)
    if number is None:
        raise BadConfig(f"pods of {of} need annotation {IP_NUMBER_ANNOTATION}: how many there will be is not known")
    return PoolClaim(of, places, IPNumber(number.count, flexible=False), reclaims_pool(annotations), 0)


def _places(annotations: Annotations) -> tuple[PoolSlot, ...]:
    return tuple(
        PoolSlot(wish.interface or FIRST_INTERFACE, version, names[0])
        for wish in all_interface_subnets(annotations) or ()
        for version, names in sorted(wish.names.items())
    )


def is_asking(annotations: Annotations | None) -> bool:
    """Whether a pod or template has one of the annotations at all, right or wrong."""
    return annotations is not None and (SUBNET_ANNOTATION in annotations or SUBNETS_ANNOTATION in annotations)


def is_top(workload: Workload) -> bool:
    """Whether a workload is the top controller of its pods: not a Deployment's ReplicaSet or a CronJob's Job."""
    match workload, workload.controller:
        case ReplicaSet(), OwnerReference(apiVersion="apps/v1", kind="Deployment"):
            return False
        case Job(), OwnerReference(apiVersion="batch/v1", kind="CronJob"):
            return False
        case _:
            return True


def application(workload: Workload) -> Controller:
    """A workload as the top controller of its pods."""
    kind, metadata = workload.KIND, workload.metadata
    return Controller(kind.api_version, kind.name, metadata.namespace or "", metadata.name, metadata.uid or "")


def foreign_application(pod: Pod) -> Controller | None:
    """The third party's controller that a pod belongs to; None when it has none, or one that we watch."""
    owner = owners.controller_of(pod)
    return None if owner is None or owner.built_in else owner


def pod_count(workload: Workload) -> int:
    """How many pods a workload is to have."""
    match workload:
        case DaemonSet():
            return workload.status.desiredNumberScheduled or 0
        case Job() | CronJob():
            return workload.pods.completions or workload.pods.parallelism or 1
        case _:
            return workload.spec.replicas or 0


# --- The pool of one place ----------------------------------------------------------------------------------------


def application_of(pool: SpiderIPPool) -> Controller | None:
    """The application that an automatic pool was made for; its podAffinity tells it, since labels may be too short."""
    selector = pool.spec.podAffinity
    match = (selector.matchLabels if selector else None) or {}
    if not is_automatic(pool) or not match.keys() >= APPLICATION_KEYS:
        return None
    api_version = "/".join(part for part in (match[APP_GROUP], match[APP_VERSION]) if part)
    uid = (pool.metadata.labels or {}).get(APPLICATION_UID_LABEL, "")
    return Controller(api_version, match[APP_KIND], match[APP_NAMESPACE], match[APP_NAME], uid)


def is_reclaimed(pool: SpiderIPPool) -> bool:
    """Whether an automatic pool ends with its application."""
    return (pool.metadata.labels or {}).get(RECLAIM) == "true"


def place_labels(of: Controller, place: PoolSlot) -> dict[str, str]:
    """Labels by which the pool of a place is found, whichever object of that name the application is by now."""
    labels = application_labels(of, place.subnet, place.interface, place.version)
    return {key: value for key, value in labels.items() if key != APPLICATION_UID_LABEL}


def find_pool(pools: Iterable[SpiderIPPool], of: Controller, place: PoolSlot) -> SpiderIPPool | None:
    """The pool of a place: this application's, or one that an earlier application of that name left for reuse."""
    wanted = place_labels(of, place).items()
    found = [pool for pool in pools if wanted <= (pool.metadata.labels or {}).items() and _is_open_to(pool, of)]
    return min(found, key=lambda pool: (not _is_own(pool, of), pool.name), default=None)


def _is_own(pool: SpiderIPPool, of: Controller) -> bool:
    return (pool.metadata.labels or {}).get(APPLICATION_UID_LABEL) == of.uid


def _is_open_to(pool: SpiderIPPool, of: Controller) -> bool:
    return not pool.terminating and (_is_own(pool, of) or not is_reclaimed(pool))


def pool_names(of: Controller, place: PoolSlot) -> tuple[str, str]:
    """The name of the pool of a place, and another one for when the first is taken.

    ``auto4-<application>-<interface>-<five characters of the UID>``; the other is told apart by a digest
    of what the first leaves out. What a name cannot hold is cut off or replaced.
    """
    suffix = _fit(of.uid.rpartition("-")[2][:5])
    digest = hashlib.sha256("|".join((key_of(of), of.uid, place.subnet)).encode()).hexdigest()[:5]
    return _pool_name(of, place, suffix), _pool_name(of, place, f"{suffix}-{digest}")


def _pool_name(of: Controller, place: PoolSlot, suffix: str) -> str:
    head = f"auto{place.version}-"
    tail = "-".join(("", *(part for part in (_fit(place.interface), suffix) if part)))
    return head + _fit(of.name[: NAME_LENGTH - len(head) - len(tail)]) + tail


def _fit(text: str) -> str:
    """What a part of an object's name may hold: lower case, an alphanumeric at both ends."""
    return re.sub(r"[^a-z0-9.-]", "-", text.lower()).strip("-.")


def wanted_pool(
    claimed: PoolClaim, place: PoolSlot, subnet: SpiderSubnet, pool: SpiderIPPool | str, addresses: AddressSet
) -> SpiderIPPool:
    """The pool of a place as it shall be, given the one that there is or the name of a new one."""
    of = claimed.application
    stored = _blank(pool, place, subnet) if isinstance(pool, str) else pool
    changing = {APPLICATION_UID_LABEL: of.uid, RECLAIM: "true" if claimed.reclaim else "false"}
    metadata = replace(
        stored.metadata,
        labels=(stored.metadata.labels or {}) | place_labels(of, place) | changing,
        annotations=(stored.metadata.annotations or {}) | {IP_NUMBER_ANNOTATION: number_text(claimed.number)},
    )
    spec = replace(stored.spec, podAffinity=LabelSelector(matchLabels=application_affinity(of)))
    if pool_addresses(stored, addresses.version) != addresses or not spec.ips:
        spec = replace(spec, ips=addresses.ranges(), excludeIPs=None)
    return replace(stored, metadata=metadata, spec=spec)


def number_text(number: IPNumber) -> str:
    """As in the annotation: ``N`` or ``+N``."""
    return f"+{number.count}" if number.flexible else str(number.count)


def _blank(name: str, place: PoolSlot, subnet: SpiderSubnet) -> SpiderIPPool:
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
            ipVersion=place.version,
            gateway=subnet.spec.gateway,
            routes=subnet.spec.routes,
        ),
    )


def owner_reference(subnet: SpiderSubnet) -> OwnerReference:
    """The subnet as the controller of a pool."""
    kind = subnet.KIND
    uid = subnet.metadata.uid or ""
    return OwnerReference(kind.api_version, kind.name, subnet.name, uid, controller=True, blockOwnerDeletion=True)


# --- Which addresses ----------------------------------------------------------------------------------------------


def subnet_addresses(subnet: SpiderSubnet) -> AddressSet:
    """The addresses of a subnet: ``ips`` without ``excludeIPs``. Raises ValueError."""
    version = parse_subnet(subnet.spec.subnet).version
    return AddressSet.parse(subnet.spec.ips or (), version) - AddressSet.parse(subnet.spec.excludeIPs or (), version)


def stored_addresses(subnet: SpiderSubnet, version: int) -> AddressSet:
    """The addresses of a stored subnet; none when they cannot be read."""
    try:
        return _of_family(subnet_addresses(subnet), version)
    except ValueError:
        return AddressSet(version)


def pool_addresses(pool: SpiderIPPool, version: int) -> AddressSet:
    """The addresses of a stored pool; none when they cannot be read, as no agent takes any of them either."""
    try:
        return _of_family(usable(pool), version)
    except ValueError:
        return AddressSet(version)


def _of_family(addresses: AddressSet, version: int) -> AddressSet:
    return addresses if addresses.version == version else AddressSet(version)


def reserved_addresses(reserved: Iterable[SpiderReservedIP], version: int) -> AddressSet:
    """The addresses of a family that nobody may have. Entries that cannot be read reserve nothing."""
    ranges = (text for each in reserved if not each.terminating for text in each.spec.ips or ())
    return union((_readable(text, version) for text in ranges), version)


def _readable(text: str, version: int) -> AddressSet:
    try:
        return AddressSet.parse((text,), version)
    except RangeError:
        return AddressSet(version)


def why_unusable(subnet: SpiderSubnet, place: PoolSlot) -> str | None:
    """Why a subnet cannot give a place its addresses, as the end of a sentence about it."""
    if subnet.terminating:
        return "is being deleted"
    try:
        version = subnet_addresses(subnet).version
    except ValueError as error:
        return f"cannot be read: {error}"
    return None if version == place.version else f"is IPv{version}, the annotation wants IPv{place.version}"


def offered(subnet: AddressSet, others: Iterable[AddressSet], reserved: AddressSet) -> AddressSet:
    """What of a subnet a pool may hold: what no other pool has and nobody has reserved."""
    return subnet - union(others, subnet.version) - reserved


def union(sets: Iterable[AddressSet], version: int) -> AddressSet:
    """All addresses of several sets of one family."""
    return AddressSet.of(version, (interval for each in sets for interval in each.intervals))


def resize(current: AddressSet, wanted: int, offer: AddressSet, in_use: AddressSet) -> AddressSet:
    """The addresses that a pool of ``current`` ones shall have, of which there are to be ``wanted``.

    Addresses in use always stay, others as long as they are offered. It grows by the lowest free ones, as far
    as there are any; it shrinks by the lowest idle ones, once there are enough of them.
    """
    kept = current & (offer | in_use)
    missing = wanted - kept.size
    if missing >= 0:
        return kept | lowest(offer - kept - in_use, missing)
    idle = kept - in_use
    return kept - lowest(idle, -missing) if idle.size >= -missing else kept


def lowest(addresses: AddressSet, count: int) -> AddressSet:
    """The lowest ``count`` addresses, or all when there are fewer."""
    taken: list[Interval] = []
    for first, last in addresses.intervals:
        if count <= 0:
            break
        taken.append((first, min(last, first + count - 1)))
        count -= last - first + 1
    return AddressSet(addresses.version, tuple(taken))


# --- The subnet's own view ----------------------------------------------------------------------------------------


class _Share(msgspec.Struct, omit_defaults=True):
    """An entry of ``status.controlledIPPools``."""

    ips: list[str]
    application: str | None = None


def is_cut_from(pool: SpiderIPPool, subnet: SpiderSubnet) -> bool:
    """Whether a pool belongs to a subnet: both have the same CIDR."""
    return pool.spec.subnet == subnet.spec.subnet


def status_of(subnet: SpiderSubnet, pools: Iterable[SpiderIPPool]) -> SubnetStatus:
    """The status that the pools of its CIDR give a subnet. A subnet that cannot be read holds no addresses."""
    whole = stored_addresses(subnet, 6 if ":" in subnet.spec.subnet else 4)
    held = {pool.name: (pool, pool_addresses(pool, whole.version) & whole) for pool in pools}
    shares = {name: _share(*held[name]) for name in sorted(held) if held[name][1] or is_automatic(held[name][0])}
    return SubnetStatus(
        controlledIPPools=msgspec.json.encode(shares).decode() if shares else None,
        totalIPCount=min(whole.size, MAX_COUNT),
        allocatedIPCount=min(sum(addresses.size for _, addresses in held.values()), MAX_COUNT),
    )


def _share(pool: SpiderIPPool, addresses: AddressSet) -> _Share:
    of = application_of(pool)
    return _Share(addresses.ranges(), _application_text(of) if of else None)


def _application_text(of: Controller) -> str:
    """``group_version_Kind_namespace_name``, without the group for the core group."""
    return "_".join(part for part in (of.group, of.version, of.kind, of.namespace, of.name) if part)


def adoption(pool: SpiderIPPool, subnet: SpiderSubnet) -> SpiderIPPool | None:
    """The pool as the subnet's own, with what it inherits; None when it is that already, or somebody else's.

    Gateway and routes are inherited when the pool gets its owner; later changes of the subnet do not reach it.
    A pool of an earlier subnet of the same name changes hands: Kubernetes would delete it for the absence of its owner.
    """
    owners_now = pool.metadata.ownerReferences or []
    ours, owner = owner_reference(subnet), pool.controller
    labels = pool.metadata.labels or {}
    label = {OWNER_SUBNET_LABEL: label_value(subnet.name)}
    if owner is not None and (owner.kind, owner.name) != (ours.kind, ours.name):
        return None
    owned = owner is not None and owner.uid == ours.uid
    if owned and label.items() <= labels.items():
        return None
    rest = [each for each in owners_now if each is not owner]
    metadata = replace(pool.metadata, labels=labels | label, ownerReferences=[*rest, ours])
    return replace(pool, metadata=metadata, spec=pool.spec if owned else _inherit(pool.spec, subnet))


def _inherit(spec: IPPoolSpec, subnet: SpiderSubnet) -> IPPoolSpec:
    return replace(
        spec,
        gateway=subnet.spec.gateway if spec.gateway is None else spec.gateway,
        routes=subnet.spec.routes if spec.routes is None else spec.routes,
    )
