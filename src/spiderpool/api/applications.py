"""Kubernetes' own controllers of pods (apps/v1, batch/v1), in part. We watch them and never write them."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.core_v1 import PodSpec
from spiderpool.api.meta import Kind, Object, ObjectMeta, Scope


class PodTemplate(msgspec.Struct, omit_defaults=True):
    """core/v1 PodTemplateSpec, in part."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class Ordinals(msgspec.Struct, omit_defaults=True):
    """apps/v1 StatefulSetOrdinals."""

    start: int = 0


class WorkloadSpec(msgspec.Struct, omit_defaults=True):
    """Fields of the specs of all these kinds; each kind uses some of them."""

    template: PodTemplate = msgspec.field(default_factory=PodTemplate)
    replicas: int | None = None
    completions: int | None = None
    parallelism: int | None = None
    ordinals: Ordinals | None = None


class WorkloadStatus(msgspec.Struct, omit_defaults=True):
    """apps/v1 DaemonSetStatus and DeploymentStatus, in part."""

    desiredNumberScheduled: int | None = None
    numberReady: int | None = None
    readyReplicas: int | None = None


class Workload(Object, kw_only=True):
    """Base of these kinds."""

    spec: WorkloadSpec = msgspec.field(default_factory=WorkloadSpec)
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)

    @property
    def workload_spec(self) -> WorkloadSpec:
        """The specification that holds the pod template and the number of pods."""
        return self.spec


class Deployment(Workload, kw_only=True):
    """apps/v1 Deployment."""

    KIND: ClassVar[Kind] = Kind("apps", "v1", "Deployment", "deployments", Scope.NAMESPACED, status=True)


class ReplicaSet(Workload, kw_only=True):
    """apps/v1 ReplicaSet."""

    KIND: ClassVar[Kind] = Kind("apps", "v1", "ReplicaSet", "replicasets", Scope.NAMESPACED, status=True)


class StatefulSet(Workload, kw_only=True):
    """apps/v1 StatefulSet."""

    KIND: ClassVar[Kind] = Kind("apps", "v1", "StatefulSet", "statefulsets", Scope.NAMESPACED, status=True)


class DaemonSet(Workload, kw_only=True):
    """apps/v1 DaemonSet."""

    KIND: ClassVar[Kind] = Kind("apps", "v1", "DaemonSet", "daemonsets", Scope.NAMESPACED, status=True)


class Job(Workload, kw_only=True):
    """batch/v1 Job."""

    KIND: ClassVar[Kind] = Kind("batch", "v1", "Job", "jobs", Scope.NAMESPACED, status=True)


class JobTemplate(msgspec.Struct, omit_defaults=True):
    """batch/v1 JobTemplateSpec, in part."""

    spec: WorkloadSpec = msgspec.field(default_factory=WorkloadSpec)


class CronJobSpec(WorkloadSpec, omit_defaults=True):
    """batch/v1 CronJobSpec, in part."""

    jobTemplate: JobTemplate = msgspec.field(default_factory=JobTemplate)


class CronJob(Workload, kw_only=True):
    """batch/v1 CronJob."""

    KIND: ClassVar[Kind] = Kind("batch", "v1", "CronJob", "cronjobs", Scope.NAMESPACED, status=True)

    spec: CronJobSpec = msgspec.field(default_factory=CronJobSpec)

    @property
    def workload_spec(self) -> WorkloadSpec:
        """The specification of the Jobs that the CronJob creates."""
        return self.spec.jobTemplate.spec


WORKLOADS: tuple[type[Workload], ...] = (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob)
