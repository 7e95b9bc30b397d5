"""Readiness gates of pods that wait for a load balancer: which pods are servers before they are ready.

A pod with the gate of a Service becomes ready only when its condition of that name is True, and that is set when the
pod is a server. Until then its endpoint is not ready, so its containers count instead. A pod waits for nothing where
there is no balancer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, ObjectReference, Service, ServicePort
from spiderpool.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.loadbalancer import backends
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import AddServers, RemoveServers, Step
from spiderpool.core.cloud.loadbalancer.values import ServerGroup, ServerPlace

CONTAINERS_READY = "ContainersReady"


@dataclass(frozen=True, slots=True)
class GateStates:
    """Pods of a Service, by what their readiness gate needs. All pods are named by their UIDs."""

    admitted: frozenset[str] = frozenset()
    """Those that are servers although their endpoints are not ready."""
    closed: tuple[GatedPod, ...] = ()
    """Those among them whose condition has to be set as soon as they are servers."""
    waiting: tuple[GatedPod, ...] = ()
    """Those with a gate whose containers are not ready."""
    without: frozenset[str] = frozenset()
    """Those without the gate, which they will never have."""


@dataclass(frozen=True, slots=True)
class ClosedPod:
    """A pod whose condition has to be set as soon as it is a server."""

    pod: GatedPod
    reached_by: frozenset[str] = frozenset()
    """The servers that it cannot do without, where they are wanted: its own addresses, and what its node is."""
    nodes: frozenset[str] = frozenset()
    """Servers of which one has to be wanted, too: what its node is, or will be; none: it is not reached by its own."""


@dataclass(frozen=True, slots=True)
class PodNodes:
    """What leads clients to pods by their nodes."""

    ports: Collection[ServicePort]
    """Ports of the Service whose servers are nodes."""
    find: Callable[[str], Node | None]
    """Returns a node by its name; None for one that is not known, perhaps not yet."""


def gates_of(
    labels: Mapping[str, str], services: Iterable[Service], kind_of: Callable[[Service], BalancerKind | None]
) -> tuple[list[str], list[str]]:
    """Returns the gates of a new pod, and the names of Services for which it gets none.

    A gate for each Service that selects the pod and has one of our load balancers. Services that ask for a balancer and
    have no address of one yet get no traffic by it: perhaps they are refused, and a pod would wait for ever.
    """
    chosen = [
        service
        for service in services
        if service.spec.selector and service.spec.selector.items() <= labels.items() and not service.terminating
    ]
    found = ((service, kind_of(service)) for service in sorted(chosen, key=lambda each: each.name))
    asking = [(service, kind) for service, kind in found if kind]
    given = [kind.naming.readiness_gate(each.name) for each, kind in asking if each.status.loadBalancer.ingress]
    return given, [service.name for service, _ in asking if not service.status.loadBalancer.ingress]


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
        waiting=tuple(pod for pod in gated if pod not in admitted),
        without=_uids(found) - _uids(gated),
    )


def closed_gates(pods: Iterable[GatedPod], gate: str) -> list[GatedPod]:
    """Returns the pods that have the gate, and whose condition is not set."""
    return [pod for pod in pods if pod.has_gate(gate) and not pod.is_true(gate)]


def places(groups: Iterable[ServerGroup], steps: Iterable[Step] = ()) -> frozenset[ServerPlace]:
    """Returns the servers, also those of others, that are in these groups after steps have been carried out."""
    found = {(group.name, key) for group in groups for key in (*group.others, *(each.key for each in group.servers))}
    for step in steps:
        match step:
            case AddServers(group, servers):
                found.update((group, server.key) for server in servers)
            case RemoveServers(group, servers):
                found.difference_update((group, server.key) for server in servers)
    return frozenset(found)


def closed_pod(
    pod: GatedPod,
    service: Service,
    slices: Sequence[EndpointSlice],
    options: BalancerOptions,
    nodes: PodNodes,
) -> ClosedPod:
    """Returns a pod with the servers by which alone it is reached: its addresses, or its node, unless any node does."""
    uid = pod.metadata.uid or ""
    own = [each for item in slices for each in item.endpoints or () if _uid(each) == uid]
    addresses = frozenset(address for each in own for address in each.addresses[:1])
    if service.spec.externalTrafficPolicy != "Local":
        return ClosedPod(pod, addresses)
    names = sorted({each.nodeName for each in own if each.nodeName})
    found = {name: nodes.find(name) for name in names}
    identities = frozenset(
        identity for node in found.values() if node for identity in backends.identities_of(node, options)
    )
    answering = backends.pod_addresses(nodes.ports, with_admitted(slices, {uid}), options)
    awaited = [name for name, node in found.items() if node is None or backends.may_become_backend(node, options)]
    if not awaited or not answering & addresses:
        return ClosedPod(pod, addresses | identities)
    return ClosedPod(pod, addresses | identities, nodes=identities or frozenset(awaited))


def served(
    pods: Iterable[ClosedPod], model: LoadBalancerModel, present: Collection[ServerPlace]
) -> tuple[list[ClosedPod], list[ClosedPod]]:
    """Returns which pods get traffic of each port when the balancer has these servers, and the others.

    ``model`` is all that the Service asks for, also groups that are not there yet, with the names that they have.
    """
    desired = [(group.name, server) for group in model.groups for server in group.servers]
    absent = [server for group, server in desired if (group, server.key) not in present]
    missing = {*model.unresolved, *(name for each in absent for name in (each.identity, each.address))}
    wanted = {server.identity for _, server in desired}
    filled = {group for group, server in desired if (group, server.key) in present}
    is_filled = all(group in filled for group, _ in desired)
    found: tuple[list[ClosedPod], list[ClosedPod]] = ([], [])
    for pod in pods:
        is_reached = not pod.reached_by & missing and (not pod.nodes or bool(pod.nodes & wanted))
        found[0 if is_filled and is_reached else 1].append(pod)
    return found


def with_admitted(slices: Sequence[EndpointSlice], admitted: Collection[str]) -> Sequence[EndpointSlice]:
    """Returns the slices with the endpoints of these pods as ready ones."""
    return [_with_admitted(each, admitted) for each in slices] if admitted else slices


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
