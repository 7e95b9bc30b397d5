"""Who owns a pod: the top controller, and the sticky owner, if the pod's addresses have one.

A sticky owner is an ordinal of a StatefulSet, or a virtual machine. The record of its address outlives the pod, and
the next pod of the same ordinal or machine takes the record over, on whatever node it runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from spiderpool.api.applications import Job, ReplicaSet, StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import GROUP as KUBEVIRT
from spiderpool.api.kubevirt import MIGRATION_ANNOTATION, VirtualMachine, VirtualMachineInstance
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
MACHINES = frozenset({MACHINE_INSTANCE, VirtualMachine.KIND.name})
"""Kinds of sticky owners that may have two pods at once."""

BUILT_IN = frozenset({"v1", "apps/v1", "batch/v1"})
"""API versions of the controllers that are part of Kubernetes."""

OWNER_DIGEST = 40
"""Characters of a record's owner label: 160 bits, and within the limit of a label value."""

APPLICATION_KEYS = frozenset({APP_GROUP, APP_VERSION, APP_KIND, APP_NAMESPACE, APP_NAME})
"""Keys of an automatic pool's podAffinity."""

PARENTS: dict[tuple[str, str], tuple[type[Object], tuple[str, str]]] = {
    ("apps/v1", "ReplicaSet"): (ReplicaSet, ("apps/v1", "Deployment")),
    ("batch/v1", "Job"): (Job, ("batch/v1", "CronJob")),
}
"""API version and kind of a controller that may have a controller → how to read it, and what its controller must be."""


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
        """Whether this kind of controller is part of Kubernetes."""
        return self.api_version in BUILT_IN

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def controller_of(pod: Pod) -> Controller | None:
    """The controller in the pod's own ownerReferences; None for a bare pod."""
    reference = pod.controller
    return _controller(reference, pod.metadata.namespace or "") if reference else None


def kind_to_read(controller: Controller) -> type[Object] | None:
    """The kind as which to read a controller to learn its own controller; None when it is the top controller."""
    parent = PARENTS.get((controller.api_version, controller.kind))
    return parent[0] if parent else None


def top_controller(controller: Controller, stored: Object) -> Controller:
    """The top controller of a pod, given the pod's controller and its stored object (a ReplicaSet or a Job)."""
    reference = stored.controller
    _, parent = PARENTS[controller.api_version, controller.kind]
    if reference and (reference.apiVersion, reference.kind) == parent:
        return _controller(reference, controller.namespace)
    return controller


def is_automatic(pool: SpiderIPPool) -> bool:
    """Whether Spiderpool made a pool for one application."""
    return APPLICATION_NAME_LABEL in (pool.metadata.labels or {})


def application_affinity(controller: Controller) -> dict[str, str]:
    """``podAffinity.matchLabels`` of the automatic pools of an application."""
    return {
        APP_GROUP: controller.group,
        APP_VERSION: controller.version,
        APP_KIND: controller.kind,
        APP_NAMESPACE: controller.namespace,
        APP_NAME: controller.name,
    }


def application_labels(controller: Controller, subnet: str, interface: str, version: int) -> dict[str, str]:
    """The labels of the automatic pool for one interface and family of an application."""
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
    """The sticky owner of a pod's addresses, None when it has none; ``statefulsets`` and ``machines`` are settings."""
    owner = controller_of(pod)
    if owner is None:
        return None
    stateful = statefulsets and (owner.group, owner.kind) == ("apps", STATEFUL_SET)
    machine = machines and _is_machine(owner)
    return IPOwner(owner.kind, owner.namespace, owner.name) if stateful or machine else None


def is_migration_target(pod: Pod) -> bool:
    """Whether a machine that runs in another pod is to move to this one."""
    owner = controller_of(pod)
    return owner is not None and _is_machine(owner) and MIGRATION_ANNOTATION in (pod.metadata.annotations or {})


def _is_machine(owner: Controller) -> bool:
    return (owner.group, owner.kind) == (KUBEVIRT, MACHINE_INSTANCE)


def owner_label(owner: IPOwner, pod: str) -> str:
    """The value of a record's owner label: a digest that the next pod of the same ordinal or machine has too.

    A StatefulSet's pods are told apart by their names, which end with the ordinal; a machine's pods have random names.
    """
    name = owner.name if owner.kind == MACHINE_INSTANCE else pod
    return hashlib.sha256(f"{owner.kind}/{owner.namespace}/{name}".encode()).hexdigest()[:OWNER_DIGEST]


def sticky_owner_is_valid(
    record: SpiderIP,
    *,
    statefulset: StatefulSet | None = None,
    instance: VirtualMachineInstance | None = None,
    machine: VirtualMachine | None = None,
) -> bool:
    """Whether the sticky owner still needs the address of a record whose pod is gone, so that the record must stay.

    Pass the objects that the record's owner names, as just read; None for one that does not exist. A ``machine``
    (VirtualMachine) has the name of its ``instance``.
    """
    owner = record.spec.owner
    if owner is None:
        return False
    if owner.kind == MACHINE_INSTANCE:
        return _machine_stays(instance, machine)
    return statefulset is not None and not statefulset.terminating and _covers(statefulset, record.spec.pod)


def _machine_stays(instance: VirtualMachineInstance | None, machine: VirtualMachine | None) -> bool:
    """A restart of a machine replaces its instance, so a terminating instance alone ends nothing."""
    if instance is not None and not instance.terminating:
        return True
    return machine is not None and not machine.terminating


def _covers(statefulset: StatefulSet, pod: str) -> bool:
    """Whether a StatefulSet has a pod of this name: ``replicas`` ordinals, from ``ordinals.start`` on."""
    prefix, _, digits = pod.rpartition("-")
    if prefix != statefulset.name or not (digits.isascii() and digits.isdigit()):
        return False
    start = statefulset.spec.ordinals.start if statefulset.spec.ordinals else 0
    replicas = 1 if statefulset.spec.replicas is None else statefulset.spec.replicas
    return start <= int(digits) < start + replicas


def _controller(reference: OwnerReference, namespace: str) -> Controller:
    return Controller(reference.apiVersion, reference.kind, namespace, reference.name, reference.uid)
