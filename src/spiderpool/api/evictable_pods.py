"""Pods (core/v1) with what their eviction needs to know: where others may run, and whether they serve."""

from __future__ import annotations

import msgspec

from spiderpool.api.core_v1 import NodeCondition, PodStatus
from spiderpool.api.scheduling import ScheduledPod


class EvictablePodStatus(PodStatus, omit_defaults=True):
    """core/v1 PodStatus, with conditions."""

    conditions: list[NodeCondition] | None = None


class EvictablePod(ScheduledPod, kw_only=True):
    """core/v1 Pod."""

    status: EvictablePodStatus = msgspec.field(default_factory=EvictablePodStatus)

    @property
    def ready(self) -> bool:
        """Whether the condition Ready is true."""
        return any((each.type, each.status) == ("Ready", "True") for each in self.status.conditions or ())
