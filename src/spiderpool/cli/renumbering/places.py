"""Where pools and subnets are named that pods are to move away from, and what is to be written there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from spiderpool.api.applications import WORKLOADS
from spiderpool.api.core_v1 import Namespace
from spiderpool.api.evictable_pods import EvictablePod
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.subnet import SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.cli.connection import Cluster
from spiderpool.core.annotations import NAMESPACE_POOLS, POOL, POOLS

NAMING_ANNOTATIONS = (POOL, POOLS, SUBNET_ANNOTATION, SUBNETS_ANNOTATION, *NAMESPACE_POOLS.values())


def named_in(notes: dict[str, str] | None, names: Collection[str]) -> list[tuple[str, str]]:
    """The annotations that name one of some pools or subnets, each with that; patterns name no certain one."""
    found = []
    for key in NAMING_ANNOTATIONS:
        text = (notes or {}).get(key, "")
        found += [(key, name) for name in sorted(names) if text and name in _strings(text)]
    return found


def _strings(text: str) -> set[str]:
    """All strings of a JSON text; none where it is none."""
    try:
        return set(_values(msgspec.json.decode(text)))
    except msgspec.DecodeError:
        return set()


def _values(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value.strip()
        case list():
            for each in value:
                yield from _values(each)
        case dict():
            for each in value.values():
                yield from _values(each)


def network_pools(config: SpiderMultusConfig) -> set[str]:
    """The default pools that a network names."""
    spec = msgspec.to_builtins(config.spec)
    blocks = (each for each in spec.values() if isinstance(each, dict))
    return {name for block in blocks for name in _values(block.get("ippools"))}


async def places(cluster: Cluster, names: Collection[str], remedy: str) -> list[str]:
    """The templates, pods without a controller, Namespaces and networks that name pools or subnets, in sentences."""
    found: list[str] = []
    for kind in WORKLOADS:
        for each in await cluster.list(kind) or ():
            if each.controller is None:
                notes = each.workload_spec.template.metadata.annotations
                found += _sentences(f"{kind.KIND.name} {each.key}, pod template", named_in(notes, names), remedy)
    for pod in await cluster.list(EvictablePod) or ():
        if pod.controller is None:
            found += _sentences(f"Pod {pod.key}", named_in(pod.metadata.annotations, names), remedy)
    for namespace in await cluster.list(Namespace) or ():
        found += _sentences(f"Namespace {namespace.name}", named_in(namespace.metadata.annotations, names), remedy)
    for config in await cluster.list(SpiderMultusConfig) or ():
        common = sorted(network_pools(config) & {*names})
        found += _sentences(f"SpiderMultusConfig {config.key}", [("ippools", name) for name in common], remedy)
    return found


def _sentences(where: str, found: Iterable[tuple[str, str]], remedy: str) -> list[str]:
    return [f"{where}: {key} names {name}; {remedy}" for key, name in found]
