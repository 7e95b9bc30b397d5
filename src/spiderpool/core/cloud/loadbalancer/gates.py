"""Readiness gates of pods that wait for a load balancer: which pods are servers before they are ready.

A pod with the gate of a Service becomes ready only when its condition of that name is True, and that is set when the
pod is a server. Until then its endpoint is not ready, so its containers count instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.core_v1 import ObjectReference, Service
from spiderpool.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind

CONTAINERS_READY = "ContainersReady"


@dataclass(frozen=True, slots=True)
class GateStates:
    """Pods of a Service, by what their readiness gate needs. All pods are named by their UIDs."""

    admitted: frozenset[str] = frozenset()
    """Those that are servers although their endpoints are not ready."""
    closed: tuple[GatedPod, ...] = ()
    """Those among them whose condition has to be set as soon as they are servers."""
    waiting: frozenset[str] = frozenset()
    """Those with a gate whose containers are not ready."""
    without: frozenset[str] = frozenset()
    """Those without the gate, which they will never have."""


def gates_of(
    labels: Mapping[str, str], services: Iterable[Service], kind_of: Callable[[Service], BalancerKind | None]
) -> list[str]:
    """Returns the gates of a new pod: of each Service that selects it and asks for one of our load balancers."""
    chosen = [
        service
        for service in services
        if service.spec.selector and service.spec.selector.items() <= labels.items() and not service.terminating
    ]
    found = ((service, kind_of(service)) for service in sorted(chosen, key=lambda each: each.name))
    return [kind.naming.readiness_gate(service.name) for service, kind in found if kind]


def candidates(service: Service, slices: Iterable[EndpointSlice]) -> list[ObjectReference]:
    """Returns the pods whose gates may have to be looked at: their endpoints are not ready, and not terminating.

    Where the Service publishes addresses that are not ready, the endpoint does not tell, so it may be any pod. Pods of
    other Namespaces, which hand-written EndpointSlices may name, are left out.
    """
    found: dict[str, ObjectReference] = {}
    for endpoint in (each for item in slices for each in item.endpoints or ()):
        pod = endpoint.targetRef
        if pod is None or pod.kind != "Pod" or not pod.name or not pod.uid or endpoint.conditions.terminating:
            continue
        is_own = pod.namespace in (None, service.metadata.namespace)
        if is_own and (not endpoint.ready or service.spec.publishNotReadyAddresses):
            found[pod.uid] = pod
    return list(found.values())


def gate_states(pods: Iterable[GatedPod], gate: str) -> GateStates:
    """Returns which pods are servers before they are ready, and whose condition has to be set then."""
    found = list(pods)
    gated = [pod for pod in found if pod.has_gate(gate)]
    admitted = [pod for pod in gated if pod.is_true(CONTAINERS_READY)]
    return GateStates(
        admitted=_uids(admitted),
        closed=tuple(pod for pod in admitted if not pod.is_true(gate)),
        waiting=_uids(gated) - _uids(admitted),
        without=_uids(found) - _uids(gated),
    )


def with_admitted(slices: Sequence[EndpointSlice], admitted: Collection[str]) -> Sequence[EndpointSlice]:
    """Returns the slices with the endpoints of these pods as ready ones."""
    return [_with_admitted(each, admitted) for each in slices] if admitted else slices


def addresses_of(slices: Iterable[EndpointSlice], uid: str) -> set[str]:
    """Returns the addresses of a pod."""
    endpoints = (each for item in slices for each in item.endpoints or ())
    return {each.addresses[0] for each in endpoints if each.addresses and _uid(each) == uid}


def _with_admitted(item: EndpointSlice, admitted: Collection[str]) -> EndpointSlice:
    endpoints = [
        replace(each, conditions=EndpointConditions(ready=True)) if _uid(each) in admitted else each
        for each in item.endpoints or ()
    ]
    return replace(item, endpoints=endpoints)


def _uid(endpoint: Endpoint) -> str:
    return (endpoint.targetRef.uid or "") if endpoint.targetRef else ""


def _uids(pods: Iterable[GatedPod]) -> frozenset[str]:
    return frozenset(pod.metadata.uid or "" for pod in pods)
