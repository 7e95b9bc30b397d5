"""Finds addresses, pods, nodes, pools and ENIs by a part of what people know of them. Values in, out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.core.addresses import canonical, object_name, to_int, version_of_text
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.ipam.gc import pod_key
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses

MOST_HITS = 100
MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){2,5}", re.IGNORECASE)
"""A MAC address, or its beginning from three bytes on."""


@dataclass(frozen=True, slots=True)
class SearchInput:
    """The objects that are searched."""

    records: Sequence[SpiderIP]
    record: Callable[[str], SpiderIP | None]
    """One of them by its name."""
    pools: Sequence[SpiderIPPool]
    nodes: Sequence[Node]
    accounts: Sequence[SpiderNode]
    servers: Sequence[SpiderServer]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """Something that was found."""

    kind: str
    """address, pod, node or pool."""
    name: str
    """``namespace/name`` of a pod."""
    where: str
    because: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, as far as it is shown."""

    hits: tuple[SearchHit, ...]
    more: bool


def search(objects: SearchInput, query: str) -> SearchResult:
    """What a query finds: an address, a MAC address, or a part of the name of a pod, node or pool."""
    text = query.strip()
    if not text:
        return SearchResult((), more=False)
    hits = list(islice(dict.fromkeys(_hits(objects, text)), MOST_HITS + 1))
    return SearchResult(tuple(hits[:MOST_HITS]), more=len(hits) > MOST_HITS)


def _hits(objects: SearchInput, text: str) -> Iterator[SearchHit]:
    address = _address(text)
    if address is not None:
        return _by_address(objects, address)
    if MAC.fullmatch(text):
        return _by_mac(objects, text.lower().replace("-", ":"))
    return _by_name(objects, text.lower())


def _address(text: str) -> str | None:
    try:
        return canonical(text.partition("/")[0])
    except ValueError:
        return None


def _by_address(objects: SearchInput, address: str) -> Iterator[SearchHit]:
    if (held := objects.record(object_name(address))) is not None:
        yield SearchHit("address", address, f"pool {held.spec.pool}", f"SpiderIP of pod {pod_key(held)}")
        yield SearchHit("pod", pod_key(held), f"node {held.spec.node}", f"holds {address}")
    version = version_of_text(address)
    number = to_int(address, version)
    for pool in objects.pools:
        if version_of(pool) == version and number in pool_addresses(pool, version):
            yield SearchHit("address", address, f"pool {pool.name}", "the pool has it")
            yield SearchHit("pool", pool.name, pool.spec.subnet, f"has {address}")
    for server in objects.servers:
        for eni in server.spec.enis:
            if address in eni.all_addresses:
                yield SearchHit("node", server.name, f"ENI {eni.identity}", f"its ENI has {address}")


def _by_mac(objects: SearchInput, mac: str) -> Iterator[SearchHit]:
    for account in objects.accounts:
        for sandbox in account.sandboxes:
            for interface in sandbox.interfaces or ():
                if (interface.mac or "").lower().startswith(mac):
                    where = f"{interface.name} on node {account.name}"
                    yield SearchHit("pod", f"{sandbox.namespace}/{sandbox.pod}", where, f"MAC {interface.mac}")
    for server in objects.servers:
        for eni in server.spec.enis:
            if eni.mac.lower().startswith(mac):
                yield SearchHit("node", server.name, f"ENI {eni.identity}", f"MAC {eni.mac}")


def _by_name(objects: SearchInput, text: str) -> Iterator[SearchHit]:
    names = dict.fromkeys(chain((each.name for each in objects.nodes), (each.name for each in objects.accounts)))
    yield from (SearchHit("node", name, "", "its name") for name in _matching(names, text))
    by_name = {each.name: each for each in objects.pools}
    yield from (SearchHit("pool", name, by_name[name].spec.subnet, "its name") for name in _matching(by_name, text))
    for each in objects.records:
        if text in pod_key(each).lower():
            yield SearchHit("pod", pod_key(each), f"node {each.spec.node}", f"holds {address_text(each)}")


def _matching(names: Iterable[str], text: str) -> list[str]:
    return sorted(each for each in names if text in each.lower())
