"""What an application claims from SpiderSubnets: its addresses per interface and family, read from its pod template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spiderpool.api.applications import CronJob, DaemonSet, Job, ReplicaSet, Workload
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import OwnerReference
from spiderpool.api.subnet import (
    APP_GROUP,
    APP_KIND,
    APP_NAME,
    APP_NAMESPACE,
    APP_VERSION,
    APPLICATION_UID_LABEL,
    IP_NUMBER_ANNOTATION,
    SUBNET_ANNOTATION,
    SUBNETS_ANNOTATION,
)
from spiderpool.core import annotations as pod_annotations
from spiderpool.core.annotations import FIRST_INTERFACE, IPNumber
from spiderpool.core.ipam import owners
from spiderpool.core.ipam.owners import APPLICATION_KEYS, Controller
from spiderpool.errors import BadConfig

Annotations = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PoolSlot:
    """What an application has one pool for: an address family of an interface, served by one subnet."""

    interface: str
    version: int
    subnet: str


@dataclass(frozen=True, slots=True)
class PoolClaim:
    """All pools that an application claims, as its pod template says."""

    application: Controller
    slots: tuple[PoolSlot, ...]
    number: IPNumber
    reclaim: bool
    """Whether the pools are deleted when the application no longer claims them."""
    pods: int

    @property
    def size(self) -> int:
        """Addresses in each of the pools."""
        return self.pods + self.number.count if self.number.flexible else self.number.count


def application_key(application: Controller) -> str:
    """Identifies an application by kind and name, so that it survives when the object is created again."""
    return "|".join((application.api_version, application.kind, application.namespace, application.name))


def read_application_key(key: str) -> Controller:
    """The application that a key identifies, without its UID. The name may be any text: pods name their owners."""
    api_version, kind, namespace, name = key.split("|", 3)
    return Controller(api_version, kind, namespace, name, uid="")


def workload_claim(workload: Workload, default_spare: int) -> PoolClaim | None:
    """What a workload claims, None when it claims nothing. Raises BadConfig when an annotation is wrong.

    Without the annotation for the number, each pool has ``default_spare`` addresses more than there are pods.
    """
    template = workload.workload_spec.template
    annotations = template.metadata.annotations or {}
    slots = _slots(annotations)
    if not slots or template.spec.hostNetwork or not is_top_controller(workload):
        return None
    number = pod_annotations.ip_number(annotations) or IPNumber(default_spare, flexible=True)
    reclaim = pod_annotations.reclaims_pool(annotations)
    return PoolClaim(workload_application(workload), slots, number, reclaim, pod_count(workload))


def third_party_claim(pod: Pod) -> PoolClaim | None:
    """What a pod claims for a third party's controller, None when it claims nothing.

    How many pods such a controller will have is unknown, so the annotation for the number is mandatory and ``+N``
    counts as ``N``. Raises BadConfig when an annotation is wrong or the number is missing.
    """
    application, annotations = third_party_application(pod), pod.metadata.annotations or {}
    slots = _slots(annotations)
    if application is None or not slots:
        return None
    number = pod_annotations.ip_number(annotations)
    if number is None:
        raise BadConfig(
            f"pods of {application} need annotation {IP_NUMBER_ANNOTATION}: how many there will be is not known"
        )
    fixed = IPNumber(number.count, flexible=False)
    return PoolClaim(application, slots, fixed, pod_annotations.reclaims_pool(annotations), pods=0)


def _slots(annotations: Annotations) -> tuple[PoolSlot, ...]:
    return tuple(
        PoolSlot(item.interface or FIRST_INTERFACE, version, names[0])
        for item in pod_annotations.all_interface_subnets(annotations) or ()
        for version, names in sorted(item.names.items())
    )


def has_subnet_annotation(annotations: Annotations | None) -> bool:
    """Whether a pod or template has an annotation that names subnets, valid or not."""
    return annotations is not None and (SUBNET_ANNOTATION in annotations or SUBNETS_ANNOTATION in annotations)


def is_top_controller(workload: Workload) -> bool:
    """Whether no workload that we watch controls this one: False for a Deployment's ReplicaSet and a CronJob's Job."""
    match workload, workload.controller:
        case ReplicaSet(), OwnerReference(apiVersion="apps/v1", kind="Deployment"):
            return False
        case Job(), OwnerReference(apiVersion="batch/v1", kind="CronJob"):
            return False
        case _:
            return True


def workload_application(workload: Workload) -> Controller:
    """A workload as the top controller of its pods."""
    kind, metadata = workload.KIND, workload.metadata
    return Controller(kind.api_version, kind.name, metadata.namespace or "", metadata.name, metadata.uid or "")


def third_party_application(pod: Pod) -> Controller | None:
    """The controller of a pod when it is a third party's; None for a bare pod and for built-in controllers."""
    controller = owners.controller_of(pod)
    return None if controller is None or controller.built_in else controller


def pool_application(pool: SpiderIPPool) -> Controller | None:
    """The application that an automatic pool was made for, None for other pools.

    Read from podAffinity, because a label holds only a digest of a long name.
    """
    selector = pool.spec.podAffinity
    match = (selector.matchLabels if selector else None) or {}
    if not owners.is_automatic(pool) or not match.keys() >= APPLICATION_KEYS:
        return None
    api_version = "/".join(part for part in (match[APP_GROUP], match[APP_VERSION]) if part)
    uid = (pool.metadata.labels or {}).get(APPLICATION_UID_LABEL, "")
    return Controller(api_version, match[APP_KIND], match[APP_NAMESPACE], match[APP_NAME], uid)


def pod_count(workload: Workload) -> int:
    """How many pods a workload is to have."""
    match workload:
        case DaemonSet():
            return workload.status.desiredNumberScheduled or 0
        case Job() | CronJob():
            return workload.workload_spec.completions or workload.workload_spec.parallelism or 1
        case _:
            return workload.spec.replicas or 0
