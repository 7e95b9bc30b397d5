"""The path of a pod's packets, from what `explain` computes and what its SpiderEndpoint says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spiderpool.api.core_v1 import Service
from spiderpool.api.endpoint import InterfaceDetail, SpiderEndpoint
from spiderpool.api.ippool import Route, SpiderIPPool
from spiderpool.cli.connection import Cluster
from spiderpool.cli.explain.answer import Explanation
from spiderpool.cli.explain.case import find_pod
from spiderpool.cli.explain.question import PodQuestion
from spiderpool.cli.policies import PolicyOptions


@dataclass(frozen=True, slots=True)
class InterfacePath:
    """One interface of the pod, and where its packets go."""

    interface: str
    network: str
    made_as: str
    mac: str | None
    addresses: tuple[str, ...]
    pools: tuple[str, ...]
    gateways: tuple[str, ...]
    routes: tuple[Route, ...]
    eni: str | None
    """ID of the ENI whose addresses it has."""


@dataclass(frozen=True, slots=True)
class LeadingService:
    """A Service whose selector the pod matches."""

    name: str
    type: str
    addresses: tuple[str, ...]
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodPath:
    """A pod as the page draws it."""

    pod: str
    node: str
    outcome: str
    refusal: str | None
    interfaces: tuple[InterfacePath, ...]
    services: tuple[LeadingService, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]


async def look_at_pod(cluster: Cluster, key: str, pools: Iterable[SpiderIPPool], options: PolicyOptions) -> PodPath:
    """The path of a pod, by ``namespace/name``. Raises Refused for one that does not exist, ApiUnavailable."""
    namespace, _, name = key.partition("/")
    pod = await find_pod(cluster, namespace, name)
    explained = await PodQuestion(key, None, None, None, options).answer_about(cluster, pod)
    endpoint = await cluster.find(SpiderEndpoint, name, namespace)
    services = await cluster.list(Service, namespace)
    enis = {each.name: each.eni for each in pools if each.eni}
    return PodPath(
        explained.pod,
        explained.node,
        explained.outcome,
        explained.refusal,
        tuple(interface_paths(explained, endpoint, enis)),
        tuple(leading_services(services or (), pod.metadata.labels or {})),
        explained.advice,
        explained.notes,
    )


def interface_paths(
    explained: Explanation, endpoint: SpiderEndpoint | None, enis: Mapping[str, str]
) -> Iterable[InterfacePath]:
    """Each interface with its addresses: those of the SpiderEndpoint, or else those that the pod holds."""
    details = {each.interface: each for each in (endpoint.status.current.ips if endpoint and endpoint.status else ())}
    for each in explained.interfaces:
        detail = details.get(each.interface, InterfaceDetail(each.interface))
        held = [one for one in explained.addresses if one.interface == each.interface and one.is_held]
        pools = [detail.ipv4Pool, detail.ipv6Pool, *(one.pool for one in held)]
        found = _known(detail.ipv4, detail.ipv6) or _known(*(one.address for one in held))
        yield InterfacePath(
            each.interface,
            each.network,
            each.made_as,
            detail.mac,
            found,
            tuple(dict.fromkeys(_known(*pools))),
            () if detail.cleanGateway else _known(detail.ipv4Gateway, detail.ipv6Gateway),
            tuple(detail.routes or ()),
            next((enis[name] for name in _known(*pools) if name in enis), None),
        )


def _known(*texts: str | None) -> tuple[str, ...]:
    return tuple(filter(None, texts))


def leading_services(services: Iterable[Service], labels: Mapping[str, str]) -> Iterable[LeadingService]:
    """The Services whose selectors match labels of a pod."""
    for each in sorted(services, key=lambda one: one.name):
        selector = each.spec.selector or {}
        if selector and selector.items() <= labels.items():
            yield LeadingService(each.name, each.spec.type or "ClusterIP", tuple(_addresses(each)), tuple(_ports(each)))


def _addresses(service: Service) -> Iterable[str]:
    yield from service.cluster_ips
    yield from service.spec.externalIPs or ()
    for each in service.status.loadBalancer.ingress or ():
        yield each.ip or each.hostname or ""


def _ports(service: Service) -> Iterable[str]:
    for each in service.spec.ports or ():
        node = f", node {each.nodePort}" if each.nodePort else ""
        yield f"{each.port} → {each.targetPort or each.port}/{each.protocol}{node}"
