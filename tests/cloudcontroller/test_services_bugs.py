"""A bug of ours about one Service does not end the leader, which serves the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from spiderpool.api.core_v1 import Event, Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.service_inputs import ServiceListers, ServiceTimings
from spiderpool.cloudcontroller.services import ServiceReconciler
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]


class Kinds:
    """The kinds of Services, of which our own code makes so many bugs."""

    bugs = 0
    readings = 0

    def of(self, service: Service) -> None:
        self.readings += 1
        if self.bugs:
            self.bugs -= 1
            raise ZeroDivisionError


class NoENIs:
    """A cloud without pods."""

    async def holders(self, addresses: Collection[str]) -> Mapping[str, str]:
        return {}


class NoElasticIPs:
    """A cloud without elastic IPs."""

    async def bound_to(self, balancer: str) -> str:
        return ""


async def test_a_bug_of_the_rounds_stops_nothing() -> None:
    kinds = Kinds()
    models = (Service, EndpointSlice, Node, SpiderServer, SpiderLoadBalancerGrant)
    async with ApiServer(Event.KIND, *(model.KIND for model in models)) as server, server.client() as client:
        server.put(Service(metadata=ObjectMeta(name="web", namespace="default")))
        listers = ServiceListers(
            Informer(client, Service),
            Informer(client, EndpointSlice),
            Informer(client, Node),
            NodeServers(Informer(client, SpiderServer)),
            Informer(client, SpiderLoadBalancerGrant),
        )
        services = ServiceReconciler(
            Cluster(client, Recorder(client, "tests")),
            listers,
            LoadBalancers(kinds.of, {}, NoENIs(), NoElasticIPs()),
            BalancerConfiguration(cluster="c1", vpc="vpc-1", vswitch="vsw-1"),
            ServiceTimings(period=0.02),
        )
        async with running(listers.services.run()):
            await listers.services.synced(5)
            kinds.bugs, kinds.readings = 2, 0
            async with running(services.run()):
                await eventually(lambda: kinds.readings >= 4)
