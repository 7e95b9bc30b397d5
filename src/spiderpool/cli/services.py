"""The dry run of spiderpool-cloud: plans load balancers from manifests alone; calls neither a cluster nor a cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import yaml

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.meta import Object
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud.loadbalancers import KindOf
from spiderpool.core.cloud.instances import described
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, reported_enis
from spiderpool.core.cloud.loadbalancer.printing import dry_run
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.errors import BadConfig

NO_UID = "00000000-0000-0000-0000-000000000000"
"""UID of a Service whose manifest has none, as it was not created yet."""

T = TypeVar("T", bound=Object)


def plans(text: str, configuration: BalancerConfiguration, kind_of: KindOf) -> str:
    """Returns the plans for all Services of type LoadBalancer in YAML documents, as if they had no balancers yet.

    Nodes, their SpiderServers and EndpointSlices among the documents, also in Lists, are the servers. Raises BadConfig.
    """
    documents = list(_documents(text))
    services = [service for service in _typed(documents, "Service", Service) if kind_of(service) is not None]
    if not services:
        raise BadConfig("there is no Service of type LoadBalancer that spiderpool-cloud would serve")
    nodes, slices = _typed(documents, "Node", Node), _typed(documents, "EndpointSlice", EndpointSlice)
    enis = reported_enis(described(nodes, _typed(documents, "SpiderServer", SpiderServer)))
    snapshots = [BackendSnapshot(nodes, _slices_of(service, slices), enis) for service in services]
    return "\n\n".join(
        f"{service.key}\n{dry_run(service, kind_of(service), snapshot, configuration)}"
        for service, snapshot in zip(services, snapshots, strict=True)
    )


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yields the objects, those in Lists one by one."""
    try:
        whole = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise BadConfig(f"the manifests cannot be read as YAML: {error}") from error
    for document in whole:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise BadConfig(f"a manifest is {type(document).__name__}, not a mapping of keys")
        yield from ((document["items"] or ()) if "items" in document else (document,))


def _typed(documents: Iterable[dict[str, Any]], kind: str, model: type[T]) -> list[T]:
    return [_read(each, model) for each in documents if each.get("kind") == kind]


def _read(document: dict[str, Any], model: type[T]) -> T:
    meta = document.get("metadata") or {}
    named = {"namespace": "default", "uid": NO_UID, **meta} if model is not Node else meta
    try:
        return msgspec.convert({**document, "metadata": named}, model)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{document.get('kind')} {meta.get('name', 'without a name')}: {error}") from error


def _slices_of(service: Service, slices: Sequence[EndpointSlice]) -> list[EndpointSlice]:
    """Returns the slices of one Service."""
    return [
        each
        for each in slices
        if each.metadata.namespace == service.metadata.namespace
        and (each.metadata.labels or {}).get(SERVICE_LABEL) == service.name
    ]
