"""What of a pod decides which nodes it may go to (core/v1, in part).

Kinds of their own beside those of `core_v1` and `applications`: daemons, which keep all pods of a cluster in memory,
need none of it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from spiderpool.api.applications import (
    CronJob,
    CronJobSpec,
    DaemonSet,
    Deployment,
    Job,
    JobTemplate,
    PodTemplate,
    ReplicaSet,
    StatefulSet,
    WorkloadSpec,
)
from spiderpool.api.core_v1 import Pod, PodSpec


class Toleration(msgspec.Struct, omit_defaults=True):
    """core/v1 Toleration, in part."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class NodeSelectorRequirement(msgspec.Struct, omit_defaults=True):
    """core/v1 NodeSelectorRequirement."""

    key: str
    operator: str
    values: list[str] | None = None


class NodeSelectorTerm(msgspec.Struct, omit_defaults=True):
    """core/v1 NodeSelectorTerm."""

    matchExpressions: list[NodeSelectorRequirement] | None = None
    matchFields: list[NodeSelectorRequirement] | None = None


class NodeSelector(msgspec.Struct, omit_defaults=True):
    """core/v1 NodeSelector."""

    nodeSelectorTerms: list[NodeSelectorTerm] = msgspec.field(default_factory=list)


class NodeAffinity(msgspec.Struct, omit_defaults=True):
    """core/v1 NodeAffinity, in part."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector | None = None


class Affinity(msgspec.Struct, omit_defaults=True):
    """core/v1 Affinity, in part."""

    nodeAffinity: NodeAffinity | None = None


class SchedulingSpec(PodSpec, omit_defaults=True):
    """core/v1 PodSpec, with what decides about its nodes."""

    nodeSelector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None

    @property
    def required_nodes(self) -> NodeSelector | None:
        """The node affinity that must hold; None without one."""
        nodes = self.affinity.nodeAffinity if self.affinity else None
        return nodes.requiredDuringSchedulingIgnoredDuringExecution if nodes else None


class ScheduledPod(Pod, kw_only=True):
    """core/v1 Pod."""

    spec: SchedulingSpec = msgspec.field(default_factory=SchedulingSpec)


class ScheduledTemplate(PodTemplate, omit_defaults=True):
    """core/v1 PodTemplateSpec."""

    spec: SchedulingSpec = msgspec.field(default_factory=SchedulingSpec)


class ScheduledSpec(WorkloadSpec, omit_defaults=True):
    """The specs of these kinds."""

    template: ScheduledTemplate = msgspec.field(default_factory=ScheduledTemplate)


class ScheduledDeployment(Deployment, kw_only=True):
    """apps/v1 Deployment."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledReplicaSet(ReplicaSet, kw_only=True):
    """apps/v1 ReplicaSet."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledStatefulSet(StatefulSet, kw_only=True):
    """apps/v1 StatefulSet."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledDaemonSet(DaemonSet, kw_only=True):
    """apps/v1 DaemonSet."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledJob(Job, kw_only=True):
    """batch/v1 Job."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledJobTemplate(JobTemplate, omit_defaults=True):
    """batch/v1 JobTemplateSpec, in part."""

    spec: ScheduledSpec = msgspec.field(default_factory=ScheduledSpec)


class ScheduledCronJobSpec(CronJobSpec, omit_defaults=True):
    """batch/v1 CronJobSpec, in part."""

    jobTemplate: ScheduledJobTemplate = msgspec.field(default_factory=ScheduledJobTemplate)


class ScheduledCronJob(CronJob, kw_only=True):
    """batch/v1 CronJob."""

    spec: ScheduledCronJobSpec = msgspec.field(default_factory=ScheduledCronJobSpec)


ScheduledWorkload: TypeAlias = (
    ScheduledDeployment
    | ScheduledReplicaSet
    | ScheduledStatefulSet
    | ScheduledDaemonSet
    | ScheduledJob
    | ScheduledCronJob
)
SCHEDULED_WORKLOADS: tuple[type[ScheduledWorkload], ...] = (
    ScheduledDeployment,
    ScheduledReplicaSet,
    ScheduledStatefulSet,
    ScheduledDaemonSet,
    ScheduledJob,
    ScheduledCronJob,
)


def template_of(workload: ScheduledWorkload) -> ScheduledTemplate:
    """The template of a workload's pods."""
    return workload.spec.jobTemplate.spec.template if isinstance(workload, ScheduledCronJob) else workload.spec.template
