"""What of a pod (core/v1) decides whether it is ready: its readiness gates and conditions."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import Kind, Object


class PodReadinessGate(msgspec.Struct):
    """core/v1 PodReadinessGate: the pod is ready only while its condition of this type is True."""

    conditionType: str


class PodCondition(msgspec.Struct, omit_defaults=True):
    """core/v1 PodCondition, in part."""

    type: str
    status: str


class GatedPodSpec(msgspec.Struct, omit_defaults=True):
    """core/v1 PodSpec, in part."""

    readinessGates: list[PodReadinessGate] | None = None


class GatedPodStatus(msgspec.Struct, omit_defaults=True):
    """core/v1 PodStatus, in part."""

    conditions: list[PodCondition] | None = None


class GatedPod(Object, kw_only=True):
    """core/v1 Pod, in part."""

    KIND: ClassVar[Kind] = Pod.KIND

    spec: GatedPodSpec = msgspec.field(default_factory=GatedPodSpec)
    status: GatedPodStatus = msgspec.field(default_factory=GatedPodStatus)

    def has_gate(self, condition: str) -> bool:
        """Whether the pod has a readiness gate of this condition."""
        return any(gate.conditionType == condition for gate in self.spec.readinessGates or ())

    def is_true(self, condition: str) -> bool:
        """Whether a condition of the pod is True."""
        return any(each.type == condition and each.status == "True" for each in self.status.conditions or ())
