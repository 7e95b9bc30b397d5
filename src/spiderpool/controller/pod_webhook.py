"""Admission webhook of new pods: injects networks, readiness gates and requests of resources.

It fails open: a pod is admitted unchanged when we cannot answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from spiderpool.api.core_v1 import Namespace, Pod, Service
from spiderpool.api.decoding import LONGEST_OBJECT, decode
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.cloud import registry
from spiderpool.controller.reviews import ALLOWED, MAX_VALUES, AdmissionRequest, Answer, patched, refused
from spiderpool.core.admission.pod_injection import (
    CannotInject,
    NewPod,
    as_stored,
    injection_request,
    network_selector,
    with_address_requests,
    with_networks,
    with_nic_resources,
    with_readiness_gates,
)
from spiderpool.core.cloud.loadbalancer import gates
from spiderpool.core.network.address_requests import RequirementRules, address_requests
from spiderpool.core.network.pod_networks import interface_networks
from spiderpool.errors import BadConfig, SpiderpoolError, is_bug
from spiderpool.kube.client import Client
from spiderpool.policies import requirement_policies
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

T = TypeVar("T", bound=Object)

POD_READ_TIMEOUT = 1.5
"""Seconds for one read for a new pod; its three reads together take less than ``registration.POD_TIMEOUT``."""
POD_ANSWER_TIMEOUT = 4.7
"""Seconds from the question until a new pod is admitted as it is by then: less than ``registration.POD_TIMEOUT``."""
MOST_POD_NETWORKS = 16
"""Networks of a new pod that are read, at most: one with more requests no addresses."""
POD_READS_AT_ONCE = 8
"""Reads for new pods' requests of addresses: the API server has others to answer, too."""

log = logger("webhooks")


class PodWebhook:
    """Answers reviews of new pods, by what the API server has at that moment."""

    def __init__(self, client: Client, settings: ControllerSettings) -> None:
        self._client = client
        self._settings = settings
        self._reads = asyncio.Semaphore(POD_READS_AT_ONCE)

    async def mutate(self, request: AdmissionRequest) -> Answer:
        """Injects networks and resources. Refuses a pod only for its own wrong request, never for an error of ours."""
        try:
            if bytes(request.object).count(b",") > MAX_VALUES:  # no real pod has so many, and each is looked at
                return {**ALLOWED, "warnings": [f"spiderpool injected nothing: more than {MAX_VALUES} values"]}
            pod = decode(request.object, NewPod, longest=LONGEST_OBJECT)
            if pod.spec.hostNetwork or not self._settings.pod_inject.covers(request.namespace):
                return ALLOWED
            answer_until = asyncio.get_running_loop().time() + POD_ANSWER_TIMEOUT
            changed = await self._injected(pod, request.namespace) if self._settings.pod_inject.enabled else pod
            warnings: list[str] = []
            if self._settings.inject_gates:
                changed = await self._gated(changed, request.namespace, answer_until, warnings)
            if self._settings.advertises:
                changed = await self._requesting(changed, request.namespace, answer_until, warnings)
            return patched(pod, changed, warnings)
        except CannotInject as error:
            return refused(403, "Forbidden", error.message)
        except msgspec.DecodeError:  # the API server, which has decoded it, names the field
            return ALLOWED
        except Exception as error:  # fail open: a defect of ours must not keep pods from starting
            named = {"namespace": request.namespace, "name": request.name}
            log.error("pod admitted unchanged", **named, error=str(error), exc_info=is_bug(error))
            return {**ALLOWED, "warnings": [f"spiderpool injected nothing into the pod: {error}"]}

    async def _injected(self, pod: NewPod, namespace: str) -> NewPod:
        request = injection_request(pod.metadata.annotations or {})
        request = request or injection_request(await self._namespace_annotations(namespace))
        if request and request.value:
            pod = with_networks(pod, namespace, request, await self._configs(network_selector(request)))
        if self._settings.pod_inject.enis:
            pod = with_nic_resources(pod, namespace, self._settings.common.namespace, await self._configs())
        return pod

    async def _gated(self, pod: NewPod, namespace: str, until: float, warnings: list[str]) -> NewPod:
        """The pod with the readiness gates of load balancers; a warning instead, where what decides cannot be read."""
        provider = registry.PROVIDERS.get(self._settings.common.cloud.provider)
        try:
            async with asyncio.timeout_at(until):
                found = await self._read(Namespace, namespace)
                if provider is None or found is None or not provider.injects_gates(found.metadata.labels or {}):
                    return pod
                services = await self._client.list(Service, namespace, timeout=POD_READ_TIMEOUT)
        except (SpiderpoolError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            warnings.append(f"the pod gets no readiness gates of load balancers: {reason}")
            return pod
        given, absent = gates.gates_of(pod.metadata.labels or {}, services, provider.kind_of)
        warnings += [
            f"the pod gets no readiness gate of Service {name}, which has no load balancer (yet): see its Events"
            for name in absent
        ]
        return with_readiness_gates(pod, given)

    async def _requesting(self, pod: NewPod, namespace: str, until: float, warnings: list[str]) -> NewPod:
        """The pod with requests of addresses; a warning instead, where what decides cannot be read in time."""
        try:
            async with asyncio.timeout_at(until):
                return with_address_requests(pod, await self._address_requests(as_stored(pod, namespace)))
        except (SpiderpoolError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            warnings.append(f"the pod requests no addresses, so it may be sent to a node that has none: {reason}")
            return pod

    async def _address_requests(self, pod: Pod) -> Mapping[str, int]:
        networks, addresses = requirement_policies(self._settings)
        try:
            annotations, own = pod.metadata.annotations or {}, pod.metadata.namespace or ""
            named = interface_networks(annotations, own, networks.default_network, networks.namespace).names
        except BadConfig:  # the agent says what is wrong
            return {}
        keys = {network for _, network in named if network}
        if len(keys) > MOST_POD_NETWORKS:
            raise BadConfig(f"it names {len(keys)} networks, of which at most {MOST_POD_NETWORKS} are looked at")
        namespace, found = await asyncio.gather(
            self._read(Namespace, own), asyncio.gather(*(self._definition(key) for key in keys))
        )
        definitions = dict(zip(keys, found, strict=True))
        return address_requests(pod, namespace, RequirementRules(networks, addresses, definitions.get))

    async def _definition(self, key: str) -> NetworkAttachmentDefinition | None:
        namespace, _, name = key.partition("/")
        return await self._read(NetworkAttachmentDefinition, name, namespace)

    async def _read(self, kind: type[T], name: str, namespace: str | None = None) -> T | None:
        async with self._reads:
            return await self._client.find(kind, name, namespace, timeout=POD_READ_TIMEOUT)

    async def _namespace_annotations(self, namespace: str) -> dict[str, str]:
        stored = await self._client.get(Namespace, namespace, timeout=POD_READ_TIMEOUT)
        return stored.metadata.annotations or {}

    async def _configs(self, labels: str | None = None) -> list[SpiderMultusConfig]:
        return await self._client.list(SpiderMultusConfig, labels=labels, timeout=POD_READ_TIMEOUT)
