"""Owners of pods and addresses, read one at a time and only when something depends on them."""

from __future__ import annotations

from typing import TypeVar

from spiderpool.api.applications import StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Object
from spiderpool.core.ipam.owners import (
    MACHINE_INSTANCE,
    Controller,
    controller_of,
    kind_to_read,
    sticky_owner_is_valid,
    top_controller,
)
from spiderpool.errors import Refused
from spiderpool.kube.client import Client, NotFound

REMEMBERED = 1_000
"""Controllers whose own controller is remembered; it never changes in their life."""

T = TypeVar("T", bound=Object)


class OwnerReader:
    """Answers who is at the top, and whether an owner still wants an address."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tops: dict[str, Controller] = {}

    async def top(self, pod: Pod, *, timeout: float) -> Controller | None:
        """The workload at the top of a pod's owners; None for a bare pod. Raises Refused while it is missing."""
        controller = controller_of(pod)
        kind = kind_to_read(controller) if controller else None
        if controller is None or kind is None:
            return controller
        if controller.uid not in self._tops:
            read = await self._read(kind, controller.name, controller.namespace, timeout)
            if read is None:
                raise Refused(f"{controller}, which owns pod {pod.key}, does not exist; it is being deleted")
            if len(self._tops) >= REMEMBERED:
                self._tops.clear()
            self._tops[controller.uid] = top_controller(controller, read)
        return self._tops[controller.uid]

    async def keep(self, record: SpiderIP, *, timeout: float) -> bool:
        """Whether the owner of a record still wants its address though the pod is gone; one read, or two."""
        owner = record.spec.owner
        if owner is None:
            return False
        if owner.kind != MACHINE_INSTANCE:
            statefulset = await self._read(StatefulSet, owner.name, owner.namespace, timeout)
            return sticky_owner_is_valid(record, statefulset=statefulset)
        instance = await self._read(VirtualMachineInstance, owner.name, owner.namespace, timeout)
        if sticky_owner_is_valid(record, instance=instance):
            return True
        machine = await self._read(VirtualMachine, owner.name, owner.namespace, timeout)
        return sticky_owner_is_valid(record, instance=instance, machine=machine)

    async def _read(self, kind: type[T], name: str, namespace: str, timeout: float) -> T | None:
        try:
            return await self._client.get(kind, name, namespace, timeout=timeout)
        except NotFound:
            return None
