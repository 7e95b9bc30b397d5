"""Pods of our daemons (core/v1 Pod): how their containers are, which watchers of pods do not keep."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.core_v1 import NodeCondition, Pod
from spiderpool.api.meta import Kind, Object


class WaitingState(msgspec.Struct):
    """core/v1 ContainerStateWaiting and ContainerStateTerminated, in part."""

    reason: str = ""
    message: str = ""


class DaemonContainerState(msgspec.Struct):
    """core/v1 ContainerState, in part."""

    waiting: WaitingState | None = None
    terminated: WaitingState | None = None


class DaemonContainerStatus(msgspec.Struct):
    """core/v1 ContainerStatus, in part."""

    name: str
    ready: bool = False
    restartCount: int = 0
    state: DaemonContainerState = msgspec.field(default_factory=DaemonContainerState)
    lastState: DaemonContainerState = msgspec.field(default_factory=DaemonContainerState)


class DaemonContainer(msgspec.Struct):
    """core/v1 Container, in part."""

    name: str


class DaemonPodSpec(msgspec.Struct):
    """core/v1 PodSpec, in part."""

    nodeName: str | None = None
    containers: list[DaemonContainer] = msgspec.field(default_factory=list)
    initContainers: list[DaemonContainer] = msgspec.field(default_factory=list)


class DaemonPodStatus(msgspec.Struct):
    """core/v1 PodStatus, in part."""

    phase: str = ""
    reason: str = ""
    conditions: list[NodeCondition] = msgspec.field(default_factory=list)
    containerStatuses: list[DaemonContainerStatus] = msgspec.field(default_factory=list)
    initContainerStatuses: list[DaemonContainerStatus] = msgspec.field(default_factory=list)


class DaemonPod(Object, kw_only=True):
    """core/v1 Pod, with the states of its containers."""

    KIND: ClassVar[Kind] = Pod.KIND

    spec: DaemonPodSpec = msgspec.field(default_factory=DaemonPodSpec)
    status: DaemonPodStatus = msgspec.field(default_factory=DaemonPodStatus)

    @property
    def ready(self) -> bool:
        """Whether its condition Ready is true."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)

    @property
    def state(self) -> str:
        """Why it is not ready, as far as the kubelet has told."""
        for each in (*self.status.initContainerStatuses, *self.status.containerStatuses):
            found = each.state.waiting or each.state.terminated
            if not each.ready and found is not None and found.reason not in ("Completed", "PodInitializing"):
                last = each.lastState.terminated
                details = found.message or (last.message or last.reason if last else "")
                restarts = f", {each.restartCount} restarts" if each.restartCount else ""
                return f"container {each.name}: {found.reason}{restarts}{f': {details}' if details else ''}"
        return self.status.reason or self.status.phase or "it was not started yet"
