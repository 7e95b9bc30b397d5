"""Owners of pods and of sticky addresses, read from the API server one at a time instead of being watched."""

from __future__ import annotations

from spiderpool.api.applications import StatefulSet
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.core.ipam.owners import (
    MACHINE_INSTANCE,
    Controller,
    controller_of,
    kind_to_read,
    sticky_owner_is_valid,
    top_controller,
)
from spiderpool.errors import Refused
from spiderpool.kube.client import Client

REMEMBERED = 1_000
"""Controllers whose top controller is cached. It is assumed not to change during the controller's life."""


class OwnerReader:
    """Finds the top controller of pods, and whether the owner of an address still needs it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tops: dict[Controller, Controller] = {}  # a controller that exists → its top controller

    async def top(self, pod: Pod, *, timeout: float) -> Controller | None:
        """The top controller of a pod (for a ReplicaSet's pod its Deployment); None for a bare pod.

        Users write the reference to the controller, and can give it any name and UID: only one that exists, with this
        UID and in the pod's Namespace, counts. Raises Refused for another, as happens while it is being deleted.
        """
        controller = controller_of(pod)
        kind = kind_to_read(controller) if controller else None
        if controller is None or kind is None:
            return controller
        if controller not in self._tops:
            read = await self._client.find(kind, controller.name, controller.namespace, timeout=timeout)
            if read is None or read.metadata.uid != controller.uid:
                raise Refused(f"{controller}, which owns pod {pod.key}, does not exist; it is being deleted")
            if len(self._tops) >= REMEMBERED:
                self._tops.clear()
            self._tops[controller] = top_controller(controller, read)
        return self._tops[controller]

    async def is_needed(self, record: SpiderIP, *, timeout: float) -> bool:
        """Whether the owner of a record still needs its address though the pod is gone. Costs one or two reads."""
        owner = record.spec.owner
        if owner is None:
            return False
        if owner.kind != MACHINE_INSTANCE:
            statefulset = await self._client.find(StatefulSet, owner.name, owner.namespace, timeout=timeout)
            return sticky_owner_is_valid(record, statefulset=statefulset)
        instance = await self._client.find(VirtualMachineInstance, owner.name, owner.namespace, timeout=timeout)
        if sticky_owner_is_valid(record, instance=instance):
            return True
        machine = await self._client.find(VirtualMachine, owner.name, owner.namespace, timeout=timeout)
        return sticky_owner_is_valid(record, instance=instance, machine=machine)
