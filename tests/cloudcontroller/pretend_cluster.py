"""A cluster of two nodes in a simulated account, behind a pretend API server: no process is started for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from spiderpool.api.core_v1 import Event, Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL, OTHER_IDENTITY_LABEL, SUCCESSOR_LABEL
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.cloudcontroller.service_cluster import NAMESPACE, Clock, ServiceCluster
from tests.core.pretend_balancers import node
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

HTTP = {"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}


class PretendCluster(ServiceCluster):
    """The cluster, of which a test can stop the time and read what is written on a Service."""

    server: ApiServer

    async def restart(self) -> None:
        """Starts our reconciler anew, which knows of nothing."""
        await self.connect(self.server.client())

    async def create(self, name: str, **spec: Any) -> Service:
        """A Service with a NodePort, which no API server gives it here."""
        return await super().create(name, **{"ports": [HTTP], **spec})

    async def store(self, listed: EndpointSlice) -> None:
        """Puts an EndpointSlice into the API server, which knows no apply."""
        self.server.put(listed)

    async def marks(self, name: str) -> tuple[list[str], str, str, str]:
        """Which finalizers a Service has, its label of the balancer in use, of the other one, and its address."""
        web = await self.get(name)
        labels, ingress = web.metadata.labels or {}, web.status.loadBalancer.ingress or []
        address = ",".join(each.ip or each.hostname or "" for each in ingress)
        finalizers = [*(web.metadata.finalizers or ())]
        other = labels.get(OTHER_IDENTITY_LABEL) or labels.get(SUCCESSOR_LABEL, "")
        return finalizers, labels.get(IDENTITY_LABEL, ""), other, address

    async def at_this_moment(self, reason: str, part: str = "") -> None:
        """Waits for an Event while no time passes for the reconciler."""

        async def recorded() -> bool:
            events = await self.client.list(Event, NAMESPACE)
            return any(each.reason == reason and part in each.message for each in events)

        await eventually(recorded, timeout=30.0, interval=0.05)

    async def has_only(self, name: str, finalizer: str) -> None:
        """Waits until a Service has this finalizer alone."""

        async def is_released() -> bool:
            return (await self.marks(name))[0] == [finalizer]

        await self.eventually(is_released)


@pytest.fixture
async def pretended(simulated: SimulatedCloud) -> AsyncIterator[PretendCluster]:
    """The cluster, with two nodes and no Service."""
    simulated.account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    kinds = (Event, Service, EndpointSlice, Node, GatedPod, SpiderServer, SpiderLoadBalancerGrant)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        for name in ("a", "b"):
            simulated.account.add_instance(name, identity=f"i-{name}")
            simulated.account.add_eni("vsw-1", instance=f"i-{name}", identity=f"eni-{name}")
            server.put(node(name))
        found = PretendCluster(client, simulated, Clock())
        found.server = server
        try:
            await found.restart()
            yield found
        finally:
            await found.running.aclose()
