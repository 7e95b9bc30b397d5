"""The servers of Nodes, as they were described last."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.core.servers import MASTER
from tests.support.caches import note, unused_client

pytestmark = pytest.mark.unit

NODE = Node(metadata=ObjectMeta(name="master", uid="u1"))
WRONG = replace(MASTER, enis=MASTER.enis * 2)


async def test_the_server_of_a_node_is_the_last_that_can_be_right() -> None:
    async with unused_client() as client:
        informer = Informer(client, SpiderServer)
        servers = NodeServers(informer)
        told: list[str] = []
        servers.subscribe(told.append)

        def say(version: int, instance: Instance, node: Node = NODE) -> Instance | None:
            server = SpiderServer.of(node, instance)
            server.metadata.uid = "s"
            note(informer, server, version)
            return servers.of(NODE)

        assert servers.of(NODE) is None
        assert say(1, MASTER) == MASTER
        assert say(2, MASTER) == MASTER
        assert told == ["master"], "an event that changes nothing is none"
        assert say(3, WRONG) is None
        assert servers.defect("master") == "2 of 4 ENIs are the primary one"
        assert say(4, MASTER) == MASTER
        assert servers.defect("master") is None
        assert say(5, MASTER, Node(metadata=ObjectMeta(name="master", uid="u2"))) is None
        informer.forget(informer.items()[0])
        assert told == ["master"] * 5
