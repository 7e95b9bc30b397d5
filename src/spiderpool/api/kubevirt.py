"""Kinds of KubeVirt (kubevirt.io/v1). Of these objects we read metadata only, by single GETs."""

from __future__ import annotations

from typing import ClassVar

from spiderpool.api.meta import Kind, Object, Scope

GROUP = "kubevirt.io"

MIGRATION_ANNOTATION = "kubevirt.io/migrationJobName"
"""On the pod to which a running machine is about to move: the VirtualMachineInstanceMigration."""


class VirtualMachineInstance(Object, kw_only=True):
    """kubevirt.io/v1 VirtualMachineInstance: a running machine; it owns the pod that the machine runs in."""

    KIND: ClassVar[Kind] = Kind(
        GROUP, "v1", "VirtualMachineInstance", "virtualmachineinstances", Scope.NAMESPACED, ("vmi",)
    )


class VirtualMachine(Object, kw_only=True):
    """kubevirt.io/v1 VirtualMachine: creates an instance of its own name each time it is started."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "VirtualMachine", "virtualmachines", Scope.NAMESPACED, ("vm",))
