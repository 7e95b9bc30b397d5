"""Pods that were endpoints of a Service: whether they still answer, though the Service has chosen others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from spiderpool.api.core_v1 import ObjectReference, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.cloudcontroller.pod_reader import PodReader
from spiderpool.kube.client import ApiRefusal
from spiderpool.telemetry import logger

READY = "Ready"
MOST_FORMER = 1000
"""Former pods of a Service that are known, the last ones."""

log = logger("services")


class FormerPods:
    """The pods by the addresses that they had, of Services whose balancers have not got the present ones yet."""

    def __init__(self, reader: PodReader) -> None:
        self._reader = reader
        self._pods: dict[str, dict[str, ObjectReference]] = {}  # Service key → address → pod
        self._present: dict[str, dict[str, ObjectReference]] = {}  # those of them that were noted last

    def note(self, service: Service, slices: Iterable[EndpointSlice]) -> None:
        """Notes the present pods beside the former ones."""
        present = self._present[service.key] = _pods(service, slices)
        former = [each for each in self._pods.get(service.key, {}).items() if each[0] not in present]
        self._pods[service.key] = dict(former[-MOST_FORMER:]) | present

    def forget_former(self, key: str) -> None:
        """Forgets all pods of a Service but those that were noted last: nobody will ask for the others."""
        self._pods[key] = self._present.get(key, {})

    def forget(self, key: str) -> None:
        """Forgets a Service that is gone."""
        self._pods.pop(key, None)
        self._present.pop(key, None)

    async def ready(self, service: Service, addresses: Collection[str]) -> frozenset[str]:
        """Returns those of the addresses whose pods are there and ready; asks the API server for each pod.

        One that was no endpoint since we began to look is known by the record of its address, if it is of the Service's
        Namespace. Raises SpiderpoolError.
        """
        answers = await asyncio.gather(*(self._is_ready(service, address) for address in addresses))
        return frozenset(address for address, is_ready in zip(addresses, answers, strict=True) if is_ready)

    async def _is_ready(self, service: Service, address: str) -> bool:
        namespace = service.metadata.namespace or ""
        try:
            pod = self._pods.get(service.key, {}).get(address) or await self._reader.holder(address)
            if pod is None or pod.namespace not in (None, namespace):
                return False
            found = await self._reader.find(pod, namespace)
        except ApiRefusal as error:  # it would refuse it again
            log.warning("pod not read", service=service.key, address=address, error=error.message)
            return False
        return found is not None and not found.terminating and found.is_true(READY)


def _pods(service: Service, slices: Iterable[EndpointSlice]) -> dict[str, ObjectReference]:
    """Returns the pods of the Service's Namespace by their addresses; hand-written slices may name others."""
    return {
        address: pod
        for item in slices
        for endpoint in item.endpoints or ()
        if (pod := endpoint.targetRef) is not None and pod.kind == "Pod" and pod.name and pod.uid
        if pod.namespace in (None, service.metadata.namespace)
        for address in endpoint.addresses[:1]
    }
