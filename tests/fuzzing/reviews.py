"""Requests to the port of the admission webhooks: an input is the head of one, an empty line, and its body.

The lines of the head may end without a carriage return. The length that it gives is not compared with the body's.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Kind
from spiderpool.api.multusconfig import NETWORK_INJECT, SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.http_request import BadCall, parse_head
from spiderpool.controller.reviews import answered, request_of
from spiderpool.controller.webhooks import Webhooks
from spiderpool.kube.client import Client
from spiderpool.settings import ControllerSettings
from tests.simulation.api_server import SimulatedApiServer
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Link
from tests.support.api_store import Store

KINDS: tuple[Kind, ...] = tuple(
    each.KIND
    for each in (
        *(SpiderIPPool, SpiderSubnet, SpiderIP, SpiderMultusConfig, SpiderServer),
        *(NetworkAttachmentDefinition, Node, Namespace),
    )
)
DEFAULTS = ControllerSettings()
SETTINGS = replace(
    DEFAULTS,
    common=replace(DEFAULTS.common, enable_spider_subnet=True),
    pod_inject=replace(DEFAULTS.pod_inject, enabled=True, enis=True),
)
"""With everything that has rules."""


@cache
def _controller() -> tuple[SimulatedLoop, Client]:
    """A loop whose requests take no time, and a client of a pretend API server."""
    random = Random(0)
    loop = SimulatedLoop(random)
    server = SimulatedApiServer(KINDS, random, _stored())

    async def client() -> Client:
        return server.client(Link("controller"))

    return loop, loop.run_until_complete(client())


def _stored() -> Store:
    """The objects that the rules read."""
    store = Store()
    for name, subnet in (("pool", "10.6.0.0/16"), ("pool6", "fd00:6::/64")):
        store.put(SpiderIPPool.KIND, {"metadata": {"name": name}, "spec": {"subnet": subnet}})
        store.put(SpiderSubnet.KIND, {"metadata": {"name": f"subnet-{name}"}, "spec": {"subnet": subnet}})
    config = {"cniType": "macvlan", "macvlan": {"master": ["eth0"]}}
    metadata = {"name": "macvlan", "namespace": "default", "annotations": {NETWORK_INJECT: "underlay"}}
    metadata["labels"] = {NETWORK_INJECT: "underlay"}
    store.put(SpiderMultusConfig.KIND, {"metadata": metadata, "spec": config})
    store.put(Namespace.KIND, {"metadata": {"name": "default"}})
    store.put(Node.KIND, {"metadata": {"name": "node"}})
    return store


def run(data: bytes) -> None:
    """Answer a request."""
    loop, client = _controller()
    head, _, body = data.partition(b"\n\n")
    with suppress(BadCall):
        path = parse_head(head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).path
        decide = Webhooks(client, frozenset({4, 6}), SETTINGS).by_path().get(path)
        if decide is not None:
            _check(loop.run_until_complete(answered(decide, request_of(body))))


def _check(answer: bytes) -> None:
    """An answer that the API server can read."""
    response: Any = msgspec.json.decode(answer)["response"]
    assert isinstance(response["allowed"], bool)
    assert isinstance(response["uid"], str)


def close() -> None:
    """Close the client."""
    if _controller.cache_info().currsize:
        loop, client = _controller()
        loop.run_until_complete(client.__aexit__(None, None, None))
        loop.close()
        _controller.cache_clear()
