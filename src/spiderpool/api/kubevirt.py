"""The parts of KubeVirt's kinds that we read, one at a time."""

from __future__ import annotations

from typing import ClassVar

from spiderpool.api.meta import Kind, Object, Scope

GROUP = "kubevirt.io"


class VirtualMachineInstance(Object, kw_only=True):
    """kubevirt.io/v1 VirtualMachineInstance: owns the pod in which a machine runs."""

    KIND: ClassVar[Kind] = Kind(
        GROUP, "v1", "VirtualMachineInstance", "virtualmachineinstances", Scope.NAMESPACED, ("vmi",)
    )


class VirtualMachine(Object, kw_only=True):
    """kubevirt.io/v1 VirtualMachine: makes an instance of its name, again and again."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "VirtualMachine", "virtualmachines", Scope.NAMESPACED, ("vm",))
