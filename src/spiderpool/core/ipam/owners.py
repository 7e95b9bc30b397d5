"""Who owns a pod: the workload at the top, and the owner with whom an address stays.

An address stays with the ordinal of a StatefulSet or with a virtual machine: its record outlives the pod,
and the next pod of the same ordinal or machine takes it over, on whatever node it runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from spiderpool.api.applications import Job, ReplicaSet, StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import GROUP as KUBEVIRT
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Object, OwnerReference
from spiderpool.api.subnet import (
    APP_GROUP,
    APP_KIND,
    APP_NAME,
    APP_NAMESPACE,
    APP_VERSION,
    APPLICATION_GV_LABEL,
    APPLICATION_KIND_LABEL,
    APPLICATION_NAME_LABEL,
    APPLICATION_NAMESPACE_LABEL,
    APPLICATION_UID_LABEL,
    INTERFACE_LABEL,
    IP_VERSION_LABEL,
    OWNER_SUBNET_LABEL,
)
from spiderpool.core.labels import label_value

STATEFUL_SET = StatefulSet.KIND.name
MACHINE_INSTANCE = VirtualMachineInstance.KIND.name

BUILT_IN = frozenset({"v1", "apps/v1", "batch/v1"})
"""API versions whose controllers the cluster itself brings."""

APPLICATION_KEYS = frozenset({APP_GROUP, APP_VERSION, APP_KIND, APP_NAMESPACE, APP_NAME})
"""Keys of an automatic pool's podAffinity."""

PARENTS: dict[tuple[str, str], tuple[type[Object], tuple[str, str]]] = {
    ("apps/v1", "ReplicaSet"): (ReplicaSet, ("apps/v1", "Deployment")),
    ("batch/v1", "Job"): (Job, ("batch/v1", "CronJob")),
}
"""Controllers that may have a controller of their own: how to read them, and what that one must be."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A workload that owns a pod."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version without the group."""
        return self.api_version.rpartition("/")[2]

    @property
    def built_in(self) -> bool:
        """Whether the cluster itself brings this kind of controller."""
        return self.api_version in BUILT_IN

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def controller_of(pod: Pod) -> Controller | None:
    """The controller that the pod itself names; None for a bare pod."""
    reference = pod.controller
    return _controller(reference, pod.metadata.namespace or "") if reference else None


def unread_parent(controller: Controller) -> type[Object] | None:
    """The kind by which a controller must be read to know its own controller; None when it is the top."""
    known = PARENTS.get((controller.api_version, controller.kind))
    return known[0] if known else None


def top(controller: Controller, read: Object) -> Controller:
    """The top controller, given the controller of the pod as it was read (a ReplicaSet or a Job)."""
    reference = read.controller
    _, wanted = PARENTS[controller.api_version, controller.kind]
    if reference and (reference.apiVersion, reference.kind) == wanted:
        return _controller(reference, controller.namespace)
    return controller


def is_automatic(pool: SpiderIPPool) -> bool:
    """Whether a pool was made for one application."""
    return APPLICATION_NAME_LABEL in (pool.metadata.labels or {})


def application_affinity(controller: Controller) -> dict[str, str]:
    """What the podAffinity of a pool says that was made for this application."""
    return {
        APP_GROUP: controller.group,
        APP_VERSION: controller.version,
        APP_KIND: controller.kind,
        APP_NAMESPACE: controller.namespace,
        APP_NAME: controller.name,
    }


def application_labels(controller: Controller, subnet: str, interface: str, version: int) -> dict[str, str]:
    """The labels by which the pool that was made for an application's interface is found."""
    labels = {
        OWNER_SUBNET_LABEL: subnet,
        APPLICATION_GV_LABEL: controller.api_version.replace("/", "_"),
        APPLICATION_KIND_LABEL: controller.kind,
        APPLICATION_NAMESPACE_LABEL: controller.namespace,
        APPLICATION_NAME_LABEL: controller.name,
        INTERFACE_LABEL: interface,
        IP_VERSION_LABEL: f"IPv{version}",
    }
    uid = {APPLICATION_UID_LABEL: controller.uid} if controller.built_in else {}
    return {key: label_value(value) for key, value in (labels | uid).items()}


def sticky_owner(pod: Pod, *, statefulsets: bool, machines: bool) -> IPOwner | None:
    """The owner with whom the pod's addresses stay, where the settings want it; no read is needed to tell."""
    owner = controller_of(pod)
    if owner is None:
        return None
    stateful = statefulsets and (owner.group, owner.kind) == ("apps", STATEFUL_SET)
    machine = machines and (owner.group, owner.kind) == (KUBEVIRT, MACHINE_INSTANCE)
    return IPOwner(owner.kind, owner.namespace, owner.name) if stateful or machine else None


def owner_label(owner: IPOwner, pod: str) -> str:
    """The value of a record's owner label: a digest of the owner and of the name under which it holds the address.

    That is the pod's name, which holds the ordinal, or the machine's, whose pods have names by chance.
    """
    holder = owner.name if owner.kind == MACHINE_INSTANCE else pod
    return hashlib.sha256(f"{owner.kind}/{owner.namespace}/{holder}".encode()).hexdigest()[:40]


def sticky_owner_is_valid(
    record: SpiderIP,
    *,
    statefulset: StatefulSet | None = None,
    instance: VirtualMachineInstance | None = None,
    machine: VirtualMachine | None = None,
) -> bool:
    """Whether the owner still wants the address of a record whose pod is gone, so that it must be kept.

    The objects are those that the record's owner names, as just read; None: it does not exist. A machine
    (VirtualMachine) has the name of its instance.
    """
    owner = record.spec.owner
    if owner is None:
        return False
    if owner.kind == MACHINE_INSTANCE:
        return _machine_stays(instance, machine)
    return statefulset is not None and not statefulset.terminating and _covers(statefulset, record.spec.pod)


def _machine_stays(instance: VirtualMachineInstance | None, machine: VirtualMachine | None) -> bool:
    """An instance that goes comes back while its machine stays, as after a restart."""
    if instance is not None and not instance.terminating:
        return True
    return machine is not None and not machine.terminating


def _covers(statefulset: StatefulSet, pod: str) -> bool:
    """Whether a StatefulSet wants a pod of this name: its replicas, counted from where its ordinals start."""
    prefix, _, digits = pod.rpartition("-")
    if prefix != statefulset.name or not (digits.isascii() and digits.isdigit()):
        return False
    start = statefulset.spec.ordinals.start if statefulset.spec.ordinals else 0
    replicas = 1 if statefulset.spec.replicas is None else statefulset.spec.replicas
    return start <= int(digits) < start + replicas


def _controller(reference: OwnerReference, namespace: str) -> Controller:
    return Controller(reference.apiVersion, reference.kind, namespace, reference.name, reference.uid)
