"""What spiderpool-cloud would make for Services, from their manifests alone: no cluster and no cloud is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import yaml

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.meta import Object
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot, told_enis
from spiderpool.core.cloud.loadbalancer.model import kind_of
from spiderpool.core.cloud.loadbalancer.printing import dry_run
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.errors import BadConfig

NO_UID = "00000000-0000-0000-0000-000000000000"
"""For a Service that no API server has seen yet."""

T = TypeVar("T", bound=Object)


def plans(text: str, configuration: BalancerConfiguration) -> str:
    """The plan of every Service of type LoadBalancer in YAML documents, as if it had no balancer yet.

    Nodes and EndpointSlices among the documents, lists too, give the servers. Raises BadConfig.
    """
    documents = list(_documents(text))
    services = [each for each in _typed(documents, "Service", Service) if kind_of(each) is not None]
    if not services:
        raise BadConfig("there is no Service of type LoadBalancer that spiderpool-cloud would serve")
    nodes, slices = _typed(documents, "Node", Node), _typed(documents, "EndpointSlice", EndpointSlice)
    enis = told_enis(nodes)
    return "\n\n".join(
        f"{service.key}\n{dry_run(service, BackendSnapshot(nodes, _of(service, slices), enis), configuration)}"
        for service in services
    )


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Objects, those of lists one by one."""
    try:
        whole = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise BadConfig(f"the manifests cannot be read as YAML: {error}") from error
    for each in whole:
        if each is None:
            continue
        if not isinstance(each, dict):
            raise BadConfig(f"a manifest is {type(each).__name__}, not a mapping of keys")
        yield from ((each["items"] or ()) if "items" in each else (each,))


def _typed(documents: Iterable[dict[str, Any]], kind: str, shape: type[T]) -> list[T]:
    return [_read(each, shape) for each in documents if each.get("kind") == kind]


def _read(document: dict[str, Any], shape: type[T]) -> T:
    meta = document.get("metadata") or {}
    named = {"namespace": "default", "uid": NO_UID, **meta} if shape is not Node else meta
    try:
        return msgspec.convert({**document, "metadata": named}, shape)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{document.get('kind')} {meta.get('name', 'without a name')}: {error}") from error


def _of(service: Service, slices: Sequence[EndpointSlice]) -> list[EndpointSlice]:
    """The slices of one Service."""
    return [
        each
        for each in slices
        if each.metadata.namespace == service.metadata.namespace
        and (each.metadata.labels or {}).get(SERVICE_LABEL) == service.name
    ]
