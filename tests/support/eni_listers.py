"""The caches of pools of ENIs, each with an informer of its own."""

from __future__ import annotations

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller.eni_pools import ENIPoolListers
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers


def eni_listers(client: Client) -> ENIPoolListers:
    """Caches that nothing has filled."""
    return ENIPoolListers(
        Informer(client, Node),
        NodeServers(Informer(client, SpiderServer)),
        Informer(client, SpiderIPPool),
        Informer(client, SpiderIP),
        Informer(client, SpiderMultusConfig),
    )
