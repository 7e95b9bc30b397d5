"""Services of a real API server get, change and return balancers of a simulated account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Event, Node, NodeSpec, Service
from spiderpool.api.discovery_v1 import SERVICE_LABEL, Endpoint, EndpointPort, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI, LoadBalancers
from spiderpool.cloudcontroller.cluster import Cluster
from spiderpool.cloudcontroller.services import ServiceListers, ServiceReconciler, ServiceTimings
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import CLASS, PREFIX
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.balancers import CLB
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.control_plane import ControlPlane
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.cloudcontroller.conftest import BLOCK, Clock, CloudCluster, Start
from tests.support.eventually import eventually
from tests.support.servers import describe

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]

NAMESPACE = "default"
ENI_BACKENDS = {"service.beta.kubernetes.io/backend-type": "eni"}
ZONES = {"zone-maps": "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"}
REGION = "cn-hangzhou"


@dataclass
class ServiceCluster:
    """A cluster of two nodes in an account, with our reconciler."""

    client: Client
    simulated: SimulatedCloud
    clock: Clock

    async def create(self, name: str, **spec: Any) -> Service:
        """A Service of type LoadBalancer; ``annotations`` without their prefix."""
        given = spec.pop("annotations", {})
        annotations = {key if "/" in key else PREFIX + key: value for key, value in given.items()}
        ports = spec.pop("ports", [{"port": 80, "targetPort": 8080, "protocol": "TCP"}])
        body = {
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
            "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": ports, **spec},
        }
        return await self.client.create(msgspec.convert(body, Service))

    async def endpoints(self, name: str, *pods: tuple[str, str], version: str = "1") -> None:
        """The ready pods of a Service: address and node of each."""
        metadata = ObjectMeta(name=f"{name}-{version}", namespace=NAMESPACE, labels={SERVICE_LABEL: name})
        listed = [Endpoint([address], nodeName=node) for address, node in pods]
        ports = [EndpointPort("", 8080, "TCP")]
        body = EndpointSlice(metadata=metadata, addressType="IPv4", endpoints=listed, ports=ports)
        await self.client.apply(EndpointSlice, msgspec.to_builtins(body), metadata.name, NAMESPACE)

    async def get(self, name: str) -> Service:
        """A Service as it is stored."""
        return await self.client.get(Service, name, NAMESPACE)

    async def set(self, name: str, **annotations: str | None) -> None:
        """Change annotations, whose names are written with underscores."""
        body = {
            "metadata": {"annotations": {PREFIX + key.replace("_", "-"): text for key, text in annotations.items()}}
        }
        await self.client.patch(Service, name, body, NAMESPACE)

    async def address(self, name: str) -> str:
        """Where a Service is reached, as soon as that is said."""
        found: list[str] = []

        async def published() -> bool:
            ingress = (await self.get(name)).status.loadBalancer.ingress or []
            found[:] = [each.ip or each.hostname or "" for each in ingress]
            return bool(found)

        await self.eventually(published)
        return found[0]

    def clb(self) -> CLB:
        """The only classic balancer."""
        (found,) = self.simulated.account.tables.clbs
        return found

    def weights(self) -> dict[str, int]:
        """Servers of the only server group, by their identity or address."""
        groups = [*self.simulated.account.tables.clb_groups, *self.simulated.account.tables.nlb_groups]
        assert len(groups) <= 1
        return {
            each.address if each.server_type.lower() == "eni" else each.server: each.weight
            for group in groups
            for each in group.backends
        }

    async def gone(self, name: str) -> bool:
        """Whether a Service no longer exists."""
        try:
            await self.get(name)
        except NotFound:
            return True
        return False

    async def delete(self, name: str) -> None:
        """Delete a Service and wait until it is gone."""
        await self.client.delete(Service, name, NAMESPACE)
        await self.eventually(lambda: self.gone(name))

    async def wait_for_event(self, reason: str, part: str = "") -> None:
        """Waits for an Event."""

        async def recorded() -> bool:
            events = await self.client.list(Event, NAMESPACE)
            return any(each.reason == reason and part in each.message for each in events)

        await self.eventually(recorded)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of the account holds."""

        async def holds() -> bool:
            return condition()

        await self.eventually(holds)

    async def eventually(self, condition: Callable[[], Awaitable[bool]], timeout: float = 60.0) -> None:
        """Waits until a condition holds; the reconciler's clock advances by one second for each attempt."""

        async def holds() -> bool:
            self.clock.now += 1.0
            return await condition()

        await eventually(holds, timeout=timeout, interval=0.1)


@asynccontextmanager
async def reconciling(simulated: SimulatedCloud, control_plane: ControlPlane, clock: Clock) -> AsyncIterator[None]:
    """Our reconciler, under the service account that it has in a cluster."""
    kubeconfig = control_plane.service_account_kubeconfig("kube-system", "spiderpool-cloud")
    async with Client.load(kubeconfig) as client:
        servers = NodeServers(Informer(client, SpiderServer))
        nodes, slices = Informer(client, Node), Informer(client, EndpointSlice)
        listers = ServiceListers(Informer(client, Service), slices, nodes, servers)
        recorder, api = Recorder(client, "spiderpool-cloud"), simulated.client()
        vpc = simulated.account.vpc.identity
        apis: dict[BalancerKind, LoadBalancerAPI] = {
            kinds.CLB: ClassicLoadBalancers(api, REGION),
            kinds.NLB: NetworkLoadBalancers(api, REGION, pause=0.05),
        }
        services = ServiceReconciler(
            Cluster(client, recorder),
            listers,
            LoadBalancers(kinds.kind_of, apis, PodENIs(api, REGION, vpc)),
            BalancerConfiguration(cluster="c1", vpc=vpc, vswitch="vsw-1"),
            ServiceTimings(period=3.0, gather=0.05, first_pause=0.2, last_pause=1.0, confirm=5.0, clock=clock),
        )
        informers: list[Informer[Any]] = [listers.services, slices, nodes, servers.informer]
        tasks = [asyncio.create_task(each.run()) for each in informers]
        for informer in informers:
            await informer.synced(10)
        tasks += [asyncio.create_task(services.run()), asyncio.create_task(recorder.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
async def cluster(control_plane: ControlPlane, simulated: SimulatedCloud) -> AsyncIterator[ServiceCluster]:
    """Two nodes, no Service; emptied again at the end."""
    simulated.account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    clock = Clock()
    async with Client.load(control_plane.admin_kubeconfig) as client:
        for number, name in enumerate(("a", "b"), 1):
            server = simulated.account.add_instance(name, identity=f"i-{name}").identity
            pods = tuple(f"172.31.192.{number}{place}" for place in range(3))
            simulated.account.add_eni(
                "vsw-1", instance=server, identity=f"eni-{name}", addresses=ENIAddresses(secondaries=pods)
            )
            await client.create(Node(metadata=ObjectMeta(name=name), spec=NodeSpec(providerID=f"{REGION}.i-{name}")))
            await client.patch(
                Node, name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, sub="status"
            )
        try:
            async with reconciling(simulated, control_plane, clock):
                yield ServiceCluster(client, simulated, clock)
        finally:
            await empty(client)


async def empty(client: Client) -> None:
    """Take everything away that a test may have left behind, whoever holds it."""
    for service in await client.list(Service, NAMESPACE):
        if service.name != "kubernetes":
            with suppress(NotFound):
                await client.patch(Service, service.name, {"metadata": {"finalizers": None}}, NAMESPACE)
                await client.delete(Service, service.name, NAMESPACE)
    kinds: list[type[Any]] = [EndpointSlice, Event]
    for kind in kinds:
        for each in await client.list(kind, NAMESPACE):
            if each.name != "kubernetes":
                with suppress(NotFound):
                    await client.delete(kind, each.name, NAMESPACE)
    for node in await client.list(Node):
        await client.delete(Node, node.name)


async def test_the_life_of_a_service(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"), ("172.31.192.11", "a"), ("172.31.192.20", "b"))
    await cluster.create("web", externalTrafficPolicy="Local")
    address = await cluster.address("web")
    made = cluster.clb()
    assert address == made.address
    service = await cluster.get("web")
    assert kinds.CLB.naming.finalizer in (service.metadata.finalizers or ())
    assert (service.metadata.labels or {})[IDENTITY_LABEL] == made.identity
    assert made.settings["DeleteProtection"] == "on"
    (listener,) = made.listeners
    assert (listener.protocol, listener.port, listener.running) == ("tcp", 80, True)
    assert cluster.weights() == {"i-a": 2, "i-b": 1}
    await cluster.wait_for_event("EnsuredLoadBalancer", made.identity)

    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.until(lambda: cluster.weights() == {"i-a": 1})
    await cluster.set("web", protocol_port="http:80")
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["http"])
    await cluster.set("web", protocol_port=None)
    await cluster.until(lambda: [each.protocol for each in cluster.clb().listeners] == ["tcp"])

    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.wait_for_event("DeletedLoadBalancer")


async def test_a_service_that_becomes_internal_returns_its_balancer(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.client.patch(Service, "web", {"spec": {"type": "ClusterIP"}}, NAMESPACE)
    await cluster.until(lambda: not list(cluster.simulated.account.tables.clbs))

    async def released() -> bool:
        service = await cluster.get("web")
        return not service.metadata.finalizers and not service.status.loadBalancer.ingress

    await cluster.eventually(released)


async def test_pods_as_servers_of_a_network_balancer(cluster: ServiceCluster) -> None:
    await cluster.endpoints("web", ("172.31.192.10", "a"), ("172.31.192.99", "b"))
    await cluster.create("web", annotations={"type": "nlb", **ZONES, **ENI_BACKENDS})
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")
    assert cluster.weights() == {"172.31.192.10": 100}
    await cluster.wait_for_event("SyncLoadBalancerFailed", "172.31.192.99")
    eni = cluster.simulated.account.tables.enis.get("eni-b")
    assert eni is not None
    cluster.simulated.account.tables.enis.put(replace(eni, secondaries=(*eni.secondaries, "172.31.192.99")))
    await cluster.until(lambda: cluster.weights() == {"172.31.192.10": 100, "172.31.192.99": 100})
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.nlbs)
    assert not list(cluster.simulated.account.tables.nlb_groups)


async def test_enis_that_a_node_tells_need_no_call(cluster: ServiceCluster) -> None:
    eni = ENI(
        "eni-a", "00:16:3e:00:00:01", True, "172.31.192.2", ("172.31.192.10",), (), "vsw-1", BLOCK, None, None, None
    )
    await describe(cluster.client, "a", Instance("alibaba", REGION, f"{REGION}-i", "i-a", "ecs.g7.large", (eni,)))
    await cluster.endpoints("web", ("172.31.192.10", "a"))
    await cluster.create("web", annotations=ENI_BACKENDS)
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"172.31.192.10": 100})
    assert "ecs:DescribeNetworkInterfaces" not in cluster.simulated.account.call_counts()


async def test_drift_is_repaired(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    made = cluster.clb()
    (listener,) = made.listeners
    harmed = replace(listener, running=False, settings={**listener.settings, "Scheduler": "rr"})
    cluster.simulated.account.tables.clbs.put(replace(made, listeners=(harmed,), name="other"))
    (group,) = cluster.simulated.account.tables.clb_groups
    cluster.simulated.account.tables.clb_groups.put(replace(group, backends=group.backends[:1]))

    def repaired() -> bool:
        (now,) = cluster.clb().listeners
        same = now.settings.items() >= listener.settings.items() and now.running
        return same and cluster.clb().name == made.name and len(cluster.weights()) == 2

    await cluster.until(repaired)


async def test_nothing_is_changed_while_nothing_has_changed(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.wait_for_event("EnsuredLoadBalancer")
    reads = ("slb:Describe", "nlb:List", "nlb:Get")

    def looks() -> int:
        return sum(call.action == "slb:DescribeVServerGroupAttribute" for call in cluster.simulated.account.calls)

    before = looks()
    await cluster.until(lambda: looks() > before)
    cluster.simulated.account.calls.clear()
    await cluster.until(lambda: looks() > 2)
    assert all(call.action.startswith(reads) for call in cluster.simulated.account.calls)


async def test_a_lent_balancer(cluster: ServiceCluster) -> None:
    lent = CLB("lb-mine", "mine", "198.51.100.99", {**DEFAULTS}, tags={"team": "x"})
    cluster.simulated.account.tables.clbs.put(lent)
    given = {"id": "lb-mine", "force-override-listeners": "true"}
    await cluster.create("web", annotations=given)
    assert await cluster.address("web") == "198.51.100.99"
    assert [each.port for each in cluster.clb().listeners] == [80]
    await cluster.delete("web")
    assert cluster.clb() == lent


DEFAULTS = {
    "AddressType": "internet",
    "AddressIPVersion": "ipv4",
    "DeleteProtection": "off",
    "InstanceChargeType": "PayByCLCU",
    "InternetChargeType": "paybytraffic",
    "ModificationProtectionStatus": "NonProtection",
    "PayType": "PayOnDemand",
}


async def test_a_balancer_of_another_service_is_not_lent(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    await cluster.create("thief", annotations={"id": made.identity})
    await cluster.wait_for_event("SyncLoadBalancerFailed", "cannot be lent")
    await cluster.delete("thief")
    assert cluster.clb() == made


async def test_a_label_does_not_give_away_somebody_elses_balancer(cluster: ServiceCluster) -> None:
    theirs = CLB("lb-theirs", "theirs", "198.51.100.99", {**DEFAULTS})
    cluster.simulated.account.tables.clbs.put(theirs)
    service = await cluster.create("web", annotations={"scheduler": "best"})
    body = {"metadata": {"labels": {IDENTITY_LABEL: "lb-theirs"}, "annotations": {f"{PREFIX}scheduler": None}}}
    await cluster.client.patch(Service, service.name, body, NAMESPACE)
    await cluster.wait_for_event("SyncLoadBalancerFailed", "lacks the tags")
    await cluster.delete("web")
    assert cluster.clb() == theirs


async def test_a_preserved_balancer(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={"preserve-lb-on-delete": "on"})
    await cluster.address("web")
    await cluster.delete("web")
    assert cluster.clb().tags == {}
    assert [each.port for each in cluster.clb().listeners] == [80]


async def test_a_throttled_cloud_gets_there_in_the_end(cluster: ServiceCluster) -> None:
    cluster.simulated.account.set_fault(Fault(kind="throttle", actions="slb:*", every=3, seconds=0.1))
    cluster.simulated.account.set_fault(Fault(kind="lose", actions="slb:Create*", every=2))
    await cluster.create("web")
    await cluster.address("web")
    await cluster.until(lambda: cluster.weights() == {"i-a": 100, "i-b": 100})
    await cluster.until(lambda: [each.running for each in cluster.clb().listeners] == [True])
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)


async def test_a_balancer_that_was_deleted_by_hand_is_not_made_again(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    cluster.simulated.account.tables.clbs.remove(made.identity)
    await cluster.wait_for_event("LoadBalancerNotFound", made.identity)
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.delete("web")


async def test_an_empty_answer_neither_makes_a_second_balancer_nor_loses_the_first(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    made = cluster.clb()
    number = cluster.simulated.account.set_fault(Fault(kind="empty", actions="slb:Describe*"))
    await cluster.wait_for_event("SyncLoadBalancerFailed", "cannot be found")
    assert cluster.clb().identity == made.identity
    cluster.simulated.account.faults.clear(number)
    await cluster.delete("web")
    assert not list(cluster.simulated.account.tables.clbs)


async def test_an_ipv6_service_is_told_why_before_the_cloud_is_asked(cluster: ServiceCluster) -> None:
    given = {"backend-ip-version": "ipv6", "ip-version": "ipv6"}
    await cluster.create("web", annotations=given)
    await cluster.wait_for_event("InvalidService", "ServerGroupNotSupportIpv6")
    assert not [call for call in cluster.simulated.account.calls if call.action.startswith("slb:")]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "the balancer would be open to all"),
        ({"allocateLoadBalancerNodePorts": False}, "so nodes cannot serve port 80"),
        ({"sessionAffinity": "ClientIP"}, "spec.sessionAffinity ClientIP is not served"),
    ],
)
async def test_fields_that_are_not_served_are_told_before_the_cloud_is_asked(
    cluster: ServiceCluster, spec: dict[str, Any], said: str
) -> None:
    await cluster.create("web", **spec)
    await cluster.wait_for_event("InvalidService", said)
    assert not [call for call in cluster.simulated.account.calls if call.action.startswith("slb:")]


async def test_annotations_are_checked(cluster: ServiceCluster) -> None:
    await cluster.create("web", annotations={"scheduler": "best", "bandwith": "1"})
    await cluster.wait_for_event("InvalidService", "scheduler must be one of")
    await cluster.wait_for_event("AnnotationIgnored", "did you mean bandwidth?")
    assert not list(cluster.simulated.account.tables.clbs)
    await cluster.set("web", scheduler="rr")
    await cluster.address("web")
    await cluster.set("web", address_type="intranet")
    await cluster.wait_for_event("CannotBeChanged", "address-type")
    await cluster.set("web", scheduler="best")
    await cluster.client.patch(Node, "b", {"metadata": {"labels": {"service.alibabacloud.com/exclude-node": ""}}})
    await cluster.until(lambda: cluster.weights() == {"i-a": 100})


async def test_a_service_that_takes_another_kind_returns_the_former_balancer(cluster: ServiceCluster) -> None:
    await cluster.create("web")
    await cluster.address("web")
    await cluster.set("web", type="nlb", zone_maps=ZONES["zone-maps"])
    await cluster.until(lambda: [each.status for each in cluster.simulated.account.tables.nlbs] == ["Active"])
    await cluster.until(lambda: not list(cluster.simulated.account.tables.clbs))
    assert (await cluster.address("web")).endswith("nlb.aliyuncs.com")
    assert (await cluster.get("web")).metadata.finalizers == [kinds.NLB.naming.finalizer]


async def test_another_class_is_left_alone(cluster: ServiceCluster) -> None:
    await cluster.create("other", annotations={CLASS: "mine"})
    await cluster.create("web")
    await cluster.address("web")
    assert not (await cluster.get("other")).metadata.finalizers


async def test_the_process_balances(cloud_cluster: CloudCluster, start: Start) -> None:
    cloud_cluster.add_server("a")
    await cloud_cluster.add_node("a")
    cluster = ServiceCluster(cloud_cluster.client, cloud_cluster.simulated, cloud_cluster.clock)
    running = start(cloud_cluster)
    try:
        await cluster.create("web")
        address = await cluster.address("web")
        assert address == cluster.clb().address
        assert cluster.clb().tags["ack.aliyun.com"] == "clusterid"
        await cluster.until(lambda: cluster.weights() == {"i-a": 100})
        await cluster.delete("web")
        assert not list(cloud_cluster.simulated.account.tables.clbs)
        assert "Traceback" not in running.log.read_text()
    finally:
        await empty(cloud_cluster.client)
