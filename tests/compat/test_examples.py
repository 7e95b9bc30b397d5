"""Applies all manifests of examples/ to one cluster and checks that each does what its comments say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from spiderpool.api.applications import Deployment
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Event, Pod, Service
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.cloud.alibaba import annotations as service_annotations
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB, kind_of
from spiderpool.core.cloud.loadbalancer import backends, checking, grants, kinds, model, values
from spiderpool.core.ipam.subnet_addresses import pool_addresses
from spiderpool.kube.client import Client
from spiderpool.settings import cloud_settings, load_source
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.topology import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6
from tests.compat.cluster import Cluster, JSONObject, addresses, is_within, until
from tests.compat.examples import EXAMPLES, NODES, applied
from tests.compat.expectations import (
    CNI_VERSIONS,
    EXPECTED_INTERFACES,
    NETWORK_NAMES,
    NETWORKS,
    PREFIX,
    REFUSED_PODS,
    RESOURCE_NAMES,
    USED_BY,
    V4,
    V6,
    ExpectedInterface,
    pool_annotation,
)
from tests.controller.conftest import Running
from tests.support.local_agent import LocalAgent, exchange

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

FILES = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file())

Test = Callable[..., Any]
COVERED: set[str] = set()
"""Example files that a test covers; filled by :func:`covers`."""


def covers(*files: str) -> Callable[[Test], Test]:
    """Mark a test as covering example files."""
    COVERED.update(files)
    return lambda test: test


# --- the cluster


@pytest.fixture(scope="module")
def running(
    control_plane: ControlPlane, controller: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, LocalAgent]]:
    """Agents of two nodes, with all examples applied."""
    with applied(control_plane, tmp_path_factory.mktemp("examples")) as started:
        yield started


@pytest.fixture
async def cluster(control_plane: ControlPlane, running: dict[str, LocalAgent]) -> AsyncIterator[Cluster]:
    """The cluster with the examples and ready nodes."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        cluster = Cluster(control_plane, client, running)
        await cluster.heartbeat()
        yield cluster


def manifest(file: str, kind: str) -> dict[str, Any]:
    """The first object of a kind in an example."""
    return next(item for item in yaml.safe_load_all((EXAMPLES / file).read_text()) if item["kind"] == kind)


# --- addresses of single pods


@pytest.mark.parametrize("file", EXPECTED_INTERFACES)
async def test_pods_get_the_expected_addresses_and_routes(cluster: Cluster, file: str) -> None:
    for expected in EXPECTED_INTERFACES[file]:
        pod = await cluster.pod(expected.pod)
        _check_result(await cluster.add(pod, expected.interface, expected.network), expected)


async def test_spiderendpoints_list_the_addresses_of_pods(cluster: Cluster) -> None:
    async with asyncio.TaskGroup() as group:
        for interfaces in EXPECTED_INTERFACES.values():
            group.create_task(_check_endpoint(cluster, interfaces))


def _check_result(result: JSONObject, expected: ExpectedInterface) -> None:
    ranges = list(expected.pools.values())
    assert len(found := addresses(result)) == len(ranges)
    assert all(map(is_within, found, ranges)), (found, ranges)
    assert {f"{route['dst']} {route['gw']}" for route in result.get("routes") or ()} == set(expected.routes)


async def _check_endpoint(cluster: Cluster, interfaces: tuple[ExpectedInterface, ...]) -> None:
    pod = await cluster.pod(interfaces[0].pod)
    for expected in interfaces:
        await cluster.add(pod, expected.interface, expected.network)
    status = (await cluster.endpoint(pod)).status
    assert status is not None
    assert (status.ownerControllerType, status.ownerControllerName) == ("Pod", pod.name)
    for expected in interfaces:
        detail = next(item for item in status.current.ips if item.interface == expected.interface)
        assert [name for name in (detail.ipv4Pool, detail.ipv6Pool) if name] == list(expected.pools)
        routes = {f"{route.dst} {route.gw}" for route in detail.routes or ()}
        assert routes == {route for route in expected.routes if not route.startswith((f"{V4} ", f"{V6} "))}


# --- pods that are refused


@pytest.mark.parametrize("file", REFUSED_PODS)
async def test_a_pod_is_refused_with_the_reason(cluster: Cluster, file: str) -> None:
    refused = REFUSED_PODS[file]
    for other in await cluster.pods(fields=refused.allocated_first) if refused.allocated_first else ():
        addresses(await cluster.add(other))
    name = f"refused-{file.removesuffix('.yaml').replace('/', '-')}"
    changes = {"nodeName": refused.node} if refused.node else {}
    pod = await cluster.create_pod(
        manifest(file, refused.kind), f"{refused.namespace}/{name}", metadata=refused.metadata, **changes
    )
    answer = await cluster.try_add(pod, refused.interface)
    assert refused.reason in answer.get("msg", ""), answer
    assert await cluster.ips_of(pod) == [], "no address of another family or interface stays allocated"

    async def has_event() -> bool:
        events = await cluster.client.list(Event, refused.namespace)
        return any(item.involvedObject.name == name and refused.reason in (item.message or "") for item in events)

    await until(has_event, f"Event on {pod.key}")


# --- addresses of workloads


@covers("pools/backup.yaml")
async def test_the_next_pool_is_used_when_the_first_is_full(cluster: Cluster) -> None:
    pods = await cluster.pods(count=2, labels="app=backup")
    allocated = [addresses(await cluster.add(pod)) for pod in pods]
    assert sorted(allocated) == [["10.12.0.10"], ["10.12.0.20"]]


@covers("pools/cooldown.yaml")
async def test_a_released_address_is_in_cooldown_and_returns_to_its_pod(cluster: Cluster) -> None:
    pod = await cluster.pod("default/pools-cooldown")
    (first,) = addresses(await cluster.add(pod))
    await cluster.delete_pod(pod)
    await cluster.release(pod)
    template = manifest("pools/cooldown.yaml", "Pod")
    other = await cluster.create_pod(template, "default/pools-cooldown-other", nodeName=pod.spec.nodeName)
    assert addresses(await cluster.add(other)) != [first]
    again = await cluster.create_pod(template, pod.key, nodeName=pod.spec.nodeName)
    assert addresses(await cluster.add(again)) == [first]


async def test_a_pool_is_deleted_without_waiting_for_cooldowns(cluster: Cluster) -> None:
    pool = manifest("pools/cooldown.yaml", "SpiderIPPool")
    spec = pool["spec"] | {"subnet": "10.15.0.0/24", "ips": ["10.15.0.10"]}
    cluster.plane.apply(json.dumps(pool | {"metadata": {"name": "cooldown-deleted"}, "spec": spec}))
    metadata = pool_annotation(ipv4=["cooldown-deleted"])
    pod = await cluster.create_pod(
        manifest("pools/cooldown.yaml", "Pod"), "default/cooldown-deleted", metadata=metadata
    )
    assert addresses(await cluster.add(pod)) == ["10.15.0.10"]
    await cluster.delete_pod(pod)
    await cluster.release(pod)

    async def is_cooling() -> bool:
        return bool((await cluster.client.get(SpiderIP, "10.15.0.10")).spec.releasedAt)

    await until(is_cooling, "the cooldown of 10.15.0.10")
    await cluster.client.delete(SpiderIPPool, "cooldown-deleted")

    async def is_deleted() -> bool:
        return "cooldown-deleted" not in {item.name for item in await cluster.client.list(SpiderIPPool)}

    await until(is_deleted, "deletion of the pool")


@covers("node-affinity/by-name.yaml", "node-affinity/by-label.yaml")
@pytest.mark.parametrize(
    ("app", "pools"),
    [
        ("node-by-name", {"master": "node-master", "worker": "node-worker"}),
        ("node-by-label", {"master": "zone-a", "worker": "zone-b"}),
    ],
)
async def test_every_pod_gets_an_address_of_its_nodes_pool(cluster: Cluster, app: str, pools: dict[str, str]) -> None:
    pods = await cluster.pods(count=2, labels=f"app={app}")
    assert {pod.spec.nodeName for pod in pods} == set(pools)
    for pod in pods:
        addresses(await cluster.add(pod))
        assert [record.spec.pool for record in await cluster.ips_of(pod)] == [pools[pod.spec.nodeName or ""]]
        detail = (await cluster.endpoint(pod)).status
        assert detail is not None
        assert (detail.ownerControllerType, detail.ownerControllerName) == ("DaemonSet", app)


@covers("excluded-addresses/pool.yaml")
async def test_excluded_addresses_are_not_allocated(cluster: Cluster) -> None:
    pods = await cluster.pods(count=3, labels="app=with-gaps")
    allocated = [addresses(await cluster.add(pod))[0] for pod in pods]
    assert sorted(allocated) == ["10.33.0.2", "10.33.0.3", "10.33.0.5"]
    extra = await cluster.create_pod(
        manifest("excluded-addresses/pool.yaml", "Deployment"), "default/with-gaps-4", metadata={"labels": {}}
    )
    assert "with-gaps: 3 of 3 addresses in use" in (await cluster.try_add(extra))["msg"]


@covers("several-interfaces/default-route.yaml")
async def test_the_default_route_goes_by_the_interface_that_the_pod_names(cluster: Cluster) -> None:
    pod = await cluster.pod("default/interfaces-default-route")
    for interface, router in (("eth0", "10.40.0.1"), ("net1", "10.41.0.1")):
        answer = await cluster.add(pod, interface)
        assert answer["routes"] == [{"dst": V4, "gw": router}], "the coordinator moves the surplus default route"
    assert (await _coordinator_settings(cluster, pod))["podDefaultRouteNIC"] == "net1"


@covers("coordinator/coordinator.yaml")
async def test_the_coordinators_settings_reach_the_pods_and_the_clusters_networks_are_found(cluster: Cluster) -> None:
    async def synced() -> bool:
        status = (await cluster.client.get(SpiderCoordinator, "default")).status
        return status is not None and status.phase == "Synced"

    await until(synced, "SpiderCoordinator is synced")
    settings = await _coordinator_settings(cluster, await cluster.pod("default/pools-ipv4"))
    assert settings["hijackCIDR"] == ["169.254.0.0/16"]
    assert settings["serviceCIDR"] == [SERVICE_CIDR, SERVICE_CIDR6]
    assert settings["overlayPodCIDR"] == [POD_CIDR, POD_CIDR6]
    assert (settings["mode"], settings["hostRuleTable"]) == ("auto", 500)


async def _coordinator_settings(cluster: Cluster, pod: Pod) -> dict[str, Any]:
    request = json.dumps({"podNamespace": pod.metadata.namespace, "podName": pod.name}).encode()
    agent = cluster.agents[pod.spec.nodeName or ""]
    answers: list[Any] = []

    async def answered() -> bool:
        status, text = await exchange(agent.socket, request, "GET", "/v1/coordinator/config")
        answers[:] = [json.loads(text)]
        return status == 200 and "hijackCIDR" in answers[0]

    await until(answered, "coordinator settings")
    settings: dict[str, Any] = answers[0]
    return settings


BOTH_ENIS = {"eth0": "172", "net1": "192"}
GATEWAYS = {
    "172": ["172.31.207.253", "2001:db8:0:100:ffff:ffff:ffff:fffd"],
    "192": ["192.168.0.253", "2001:db8:0:101:ffff:ffff:ffff:fffd"],
}
"""Gateways of the ENIs of the walkthrough, by their vSwitch."""


@covers("alibaba-cloud/apps.yaml", "alibaba-cloud/networks.yaml", "alibaba-cloud/pools.yaml")
@covers("alibaba-cloud/pools-ipv6.yaml", "alibaba-cloud/two-cards.yaml")
@pytest.mark.parametrize(
    ("app", "enis"),
    [
        ("1", {"eth0": "172"}),
        ("2", {"eth0": "192"}),
        ("3", {"eth0": "172", "net1": "192"}),
        ("4", {"eth0": "172", "net1": "192"}),
    ],
)
async def test_pods_of_the_walkthrough_get_addresses_of_the_enis_of_their_node(
    cluster: Cluster, app: str, enis: dict[str, str]
) -> None:
    pods = await cluster.pods(count=2, labels=f"app=test-app-{app}")
    assert {pod.spec.nodeName for pod in pods} == set(NODES)
    for pod in pods:
        for interface, eni in enis.items():
            answer = await cluster.add(pod, interface)
            assert [route["gw"] for route in answer["routes"]] == GATEWAYS[eni]
        pools = {(record.spec.interface, record.spec.pool) for record in await cluster.ips_of(pod)}
        assert pools == {
            (interface, f"{pod.spec.nodeName}-{eni}{family}")
            for interface, eni in enis.items()
            for family in ("", "-v6")
        }


@covers("alibaba-cloud/host.yaml", "alibaba-cloud/services.yaml")
async def test_servers_on_nodes_and_services_are_accepted(cluster: Cluster) -> None:
    """The lab tests their traffic."""
    hosts = await cluster.pods(count=2, labels="app=test-host")
    assert all(pod.spec.hostNetwork for pod in hosts)
    manifests = list(yaml.safe_load_all((EXAMPLES / "alibaba-cloud/services.yaml").read_text()))
    services = {item.name: item.spec for item in await cluster.client.list(Service, "default")}
    for written in manifests:
        spec = services[written["metadata"]["name"]]
        assert spec.type == written["spec"]["type"]
        assert all(port.nodePort for port in spec.ports or ()) == (spec.type == "NodePort")


@covers("alibaba-cloud/growth.yaml")
async def test_of_three_more_pods_on_one_eni_two_get_an_address(cluster: Cluster) -> None:
    for app in ("1", "3", "4"):
        for pod in await cluster.pods(count=2, labels=f"app=test-app-{app}"):
            addresses(await cluster.add(pod))
    pods = await cluster.pods(count=3, labels="app=test-app-5")
    assert {pod.spec.nodeName for pod in pods} == {"master"}
    for pod in pods[:2]:
        addresses(await cluster.add(pod))
    assert "master-172: 5 of 5 addresses in use" in (await cluster.try_add(pods[2]))["msg"]


@covers("alibaba-cloud/load-balancers.yaml")
async def test_services_of_the_walkthrough_ask_for_balancers_of_layer_4_and_7(cluster: Cluster) -> None:
    services = {item.name: item for item in await cluster.client.list(Service, "default")}
    configuration = values.BalancerConfiguration("test")
    listeners = {}
    for name in ("tcp-service", "http-service"):
        service = services[name]
        options = kinds.read_options(service.metadata.annotations or {}, CLB)
        assert (kind_of(service), checking.faults(service, options, configuration)) == (CLB, ())
        desired = model.build_model(service, options, backends.BackendSnapshot(), configuration)
        listeners[name] = [(item.protocol, item.port) for item in desired.listeners]
    assert listeners == {"tcp-service": [("tcp", 999)], "http-service": [("http", 80)]}


@covers("alibaba-cloud/load-balancer-ipv6.yaml")
def test_the_service_with_ipv6_alone_can_have_no_balancer() -> None:
    service = msgspec.convert(manifest("alibaba-cloud/load-balancer-ipv6.yaml", "Service"), Service)
    options = kinds.read_options(service.metadata.annotations or {}, NLB)
    (fault,) = checking.faults(service, options, values.BalancerConfiguration("test", "vpc-1"))
    assert kind_of(service) is NLB
    assert "ServerGroupNotSupportIpv6" in fault


@covers("alibaba-cloud/network-load-balancer.yaml")
def test_the_network_balancer_can_be_had_with_the_grant_of_the_example() -> None:
    service = msgspec.convert(manifest("alibaba-cloud/network-load-balancer.yaml", "Service"), Service)
    configuration = values.BalancerConfiguration("test", "vpc-1")
    options = kinds.read_options(service.metadata.annotations or {}, NLB)
    assert (kind_of(service), checking.faults(service, options, configuration)) == (NLB, ())
    given = [
        msgspec.convert(each, SpiderLoadBalancerGrant).spec
        for each in yaml.safe_load_all((EXAMPLES / "alibaba-cloud/load-balancer-grant.yaml").read_text())
    ]
    allowed = [each for each in given if each.applies_to(service.metadata.namespace or "")]
    assert grants.missing([*NLB.needs(options, configuration)], allowed) == ()


@covers("alibaba-cloud/load-balancer-grant.yaml")
async def test_grants_are_what_the_services_of_the_account_need(cluster: Cluster) -> None:
    specs = [item.spec for item in await cluster.client.list(SpiderLoadBalancerGrant)]
    service = msgspec.convert(manifest("alibaba-cloud/load-balancer-ipv6.yaml", "Service"), Service)
    needs = [*NLB.needs(kinds.read_options(service.metadata.annotations or {}, NLB), values.BalancerConfiguration())]
    assert [need.value for need in needs] == ["vsw0", "vsw1"]
    for namespace in ("default", "shop"):
        assert grants.missing(needs, [spec for spec in specs if spec.applies_to(namespace)]) == ()
    lent = {
        f"{service_annotations.PREFIX}id": "lb-bp1shop",
        f"{service_annotations.PREFIX}force-override-listeners": "true",
    }
    asked = [*CLB.needs(kinds.read_options(lent, CLB), values.BalancerConfiguration())]
    assert grants.missing(asked, [spec for spec in specs if spec.applies_to("shop")]) == ()
    assert len(grants.missing(asked, [spec for spec in specs if spec.applies_to("default")])) == 2


@covers("alibaba-cloud/settings.yaml")
def test_settings_turn_discovery_on(tmp_path: Path) -> None:
    file = tmp_path / "conf.yml"
    file.write_text(manifest("alibaba-cloud/settings.yaml", "ConfigMap")["data"]["conf.yml"])
    settings = cloud_settings(load_source({"SPIDERPOOL_CONFIG": str(file)}))
    common = settings.common
    assert (common.cloud.provider, common.enable_ipv6, common.enable_statefulset) == ("alibaba", True, False)
    assert (settings.balancing.enabled, settings.balancing.vpc, settings.preallocation.enabled) == (
        True,
        "vpc-lab",
        False,
    )


@covers("network-injection/pod.yaml")
async def test_networks_and_resources_are_injected_into_the_pod(cluster: Cluster) -> None:
    pod = await cluster.pod("default/trainer")
    networks = "kube-system/rail-1,kube-system/rail-2"
    assert (pod.metadata.annotations or {})["k8s.v1.cni.cncf.io/networks"] == networks
    raw = json.loads(await cluster.client.get_raw(Pod.KIND.object_path("default", "trainer")))
    limits = raw["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"example.com/rail_1": "1", "example.com/rail_2": "1"}


# --- addresses that survive their pods


@covers("statefulset/statefulset.yaml")
async def test_a_statefulsets_addresses_follow_its_ordinals_to_other_nodes(cluster: Cluster) -> None:
    pods = await cluster.pods(count=2, labels="app=db")
    before = {pod.name: addresses(await cluster.add(pod)) for pod in pods}
    assert sorted(map(len, before.values())) == [2, 2]
    for pod in pods:
        async with cluster.cordoned(pod.spec.nodeName or ""):
            await cluster.delete_pod(pod)
            await cluster.release(pod)
            moved = await cluster.wait_for_successor(pod)
        assert moved.spec.nodeName != pod.spec.nodeName
        assert addresses(await cluster.add(moved)) == before[pod.name]
        status = (await cluster.endpoint(moved)).status
        assert status is not None
        assert (status.current.node, status.ownerControllerName) == (moved.spec.nodeName, "db")


@covers("kubevirt/machine.yaml")
async def test_a_machine_keeps_its_address_when_it_starts_again_on_another_node(cluster: Cluster) -> None:
    machine = manifest("kubevirt/machine.yaml", "VirtualMachine")
    instance = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "machine"}}
    cluster.plane.apply(json.dumps(instance | {"metadata": {"name": "machine", "namespace": "default"}}))
    template = {"metadata": machine["spec"]["template"]["metadata"], "spec": CONTAINERS}
    allocated = []
    for index, node in enumerate(NODES):
        owner = cluster.owner("virtualmachineinstances/machine")
        metadata = {"ownerReferences": [owner]}
        key = f"default/virt-launcher-machine-{index}"
        pod = await cluster.create_pod(template, key, metadata=metadata, nodeName=node)
        allocated.append(addresses(await cluster.add(pod)))
        await cluster.delete_pod(pod)
        await cluster.release(pod)
    assert allocated[0] == allocated[1]
    assert is_within(allocated[0][0], "10.51.0.10-10.51.0.19")
    cluster.plane.kubectl("delete", "virtualmachines,virtualmachineinstances", "machine")

    async def released() -> bool:
        return not [record for record in await cluster.client.list(SpiderIP) if record.spec.pool == "machines"]

    await until(released, "the machine's address is released with the machine")


# --- automatic pools of subnets

CONTAINERS = {"containers": [{"name": "c", "image": "none"}]}


def _owner_label(app: str) -> str:
    return f"{PREFIX}/owner-application-name={app}"


def _sizes(pools: list[SpiderIPPool]) -> dict[str, int]:
    return {pool.spec.subnet: pool_addresses(pool, 6 if ":" in pool.spec.subnet else 4).size for pool in pools}


async def _automatic_pools(cluster: Cluster, app: str, sizes: dict[str, int]) -> list[SpiderIPPool]:
    """The pools of an application. Waits until they have these sizes, by subnet."""

    async def have_sizes() -> bool:
        return _sizes(await cluster.pools(_owner_label(app))) == sizes

    await until(have_sizes, f"pools of {app} of sizes {sizes}")
    return await cluster.pools(_owner_label(app))


@covers("subnet/subnets.yaml", "subnet/deployment.yaml")
async def test_an_applications_pools_grow_with_it_serve_its_pods_alone_and_go_with_it(cluster: Cluster) -> None:
    four, _ = await _automatic_pools(cluster, "shop", {"10.6.0.0/16": 4, "fd00:6::/112": 4})
    for pod in await cluster.pods(count=2, labels="app=shop"):
        allocated = addresses(await cluster.add(pod))
        assert is_within(allocated[0], "10.6.100.1-10.6.100.200")
        assert is_within(allocated[1], "fd00:6::100-fd00:6::200")
        status = (await cluster.endpoint(pod)).status
        assert status is not None
        assert (status.ownerControllerType, status.ownerControllerName) == ("Deployment", "shop")
    template = manifest("subnet/deployment.yaml", "Deployment")
    metadata = pool_annotation(ipv4=[four.name]) | {"labels": {}}
    stranger = await cluster.create_pod(template, "default/shop-stranger", metadata=metadata)
    assert "was made for another application" in (await cluster.try_add(stranger))["msg"]
    await cluster.client.patch(Deployment, "shop", {"spec": {"replicas": 5}}, "default")
    await _automatic_pools(cluster, "shop", {"10.6.0.0/16": 7, "fd00:6::/112": 7})
    await cluster.client.delete(Deployment, "shop", "default")
    await cluster.delete_pods("app=shop")
    await _automatic_pools(cluster, "shop", {})


@covers("subnet/fixed.yaml")
async def test_a_fixed_number_of_addresses_serves_no_more_pods(cluster: Cluster) -> None:
    await _automatic_pools(cluster, "fixed", {"10.6.0.0/16": 3})
    await cluster.client.patch(Deployment, "fixed", {"spec": {"replicas": 4}}, "default")
    pods = await cluster.pods(count=4, labels="app=fixed")
    for pod in pods[:3]:
        addresses(await cluster.add(pod))
    waiting = asyncio.create_task(cluster.try_add(pods[3]))
    await cluster.delete_pod(pods[0])
    await cluster.release(pods[0])
    assert len(addresses(await waiting)) == 1, "ADD waits for a change of the pool"
    assert _sizes(await cluster.pools(_owner_label("fixed"))) == {"10.6.0.0/16": 3}


@covers("subnet/two-interfaces.yaml")
async def test_each_interface_has_a_pool_which_outlives_the_application(cluster: Cluster) -> None:
    sizes = {"10.6.0.0/16": 5, "10.7.0.0/16": 5}
    before = await _automatic_pools(cluster, "ledger", sizes)
    for pod in await cluster.pods(count=3, labels="app=ledger"):
        assert is_within(addresses(await cluster.add(pod))[0], "10.6.100.1-10.6.100.200")
        assert is_within(addresses(await cluster.add(pod, "net1"))[0], "10.7.100.1-10.7.100.200")
    cluster.plane.kubectl("delete", "statefulset", "ledger")
    await cluster.delete_pods("app=ledger")

    async def released() -> bool:
        pools = {pool.name for pool in before}
        return not [record for record in await cluster.client.list(SpiderIP) if record.spec.pool in pools]

    await until(released, "addresses of the StatefulSet are released with it")
    cluster.plane.apply(json.dumps(manifest("subnet/two-interfaces.yaml", "StatefulSet")))
    again = await _automatic_pools(cluster, "ledger", sizes)
    assert [pool.metadata.uid for pool in again] == [pool.metadata.uid for pool in before]


@covers("subnet/pool.yaml")
async def test_a_pool_of_the_same_cidr_belongs_to_the_subnet_and_inherits_its_gateway(cluster: Cluster) -> None:
    pool = await cluster.client.get(SpiderIPPool, "by-hand")
    assert pool.spec.gateway == "10.6.0.1"
    assert [owner.name for owner in pool.metadata.ownerReferences or ()] == ["blue"]

    async def counted() -> bool:
        status = (await cluster.client.get(SpiderSubnet, "blue")).status
        shares = json.loads((status and status.controlledIPPools) or "{}")
        return bool(shares.get("by-hand") == {"ips": ["10.6.100.150-10.6.100.159"]})

    await until(counted, "the subnet's status lists its pool")


@covers("third-party/cloneset.yaml")
async def test_a_third_partys_application_has_a_pool_of_the_size_that_it_names(cluster: Cluster) -> None:
    clones = manifest("third-party/cloneset.yaml", "CloneSet")
    owner = cluster.owner("clonesets/clones")
    for name in ("clones-a", "clones-b"):
        template = clones["spec"]["template"]
        pod = await cluster.create_pod(template, f"default/{name}", metadata={"ownerReferences": [owner]})
        assert is_within(addresses(await cluster.add(pod))[0], "10.60.0.10-10.60.0.13")
    await _automatic_pools(cluster, "clones", {"10.60.0.0/24": 4})
    cluster.plane.kubectl("delete", "clonesets", "clones", "--wait")
    await cluster.delete_pods("app=clones")
    await _automatic_pools(cluster, "clones", {})


# --- networks


@pytest.mark.parametrize("network", NETWORKS)
async def test_a_networks_configuration_is_generated_from_its_spidermultusconfig(
    cluster: Cluster, network: str
) -> None:
    name = NETWORK_NAMES.get(network, network)
    config = json.loads(await cluster.config(f"kube-system/{name}"))
    assert config == {"cniVersion": CNI_VERSIONS.get(network, "0.3.1"), "name": name, "plugins": NETWORKS[network]}
    nad = await cluster.client.get(NetworkAttachmentDefinition, name, "kube-system")
    assert [(owner.kind, owner.name) for owner in nad.metadata.ownerReferences or ()] == [
        ("SpiderMultusConfig", network)
    ]
    assert (nad.metadata.annotations or {}).get("k8s.v1.cni.cncf.io/resourceName") == RESOURCE_NAMES.get(network)


@covers("networks/custom.yaml")
async def test_a_custom_networks_configuration_is_taken_as_it_is(cluster: Cluster) -> None:
    written = manifest("networks/custom.yaml", "SpiderMultusConfig")["spec"]["customCNI"]
    assert await cluster.config("kube-system/custom") == written


@pytest.mark.unit
def test_no_example_is_without_a_test() -> None:
    tables = {*EXPECTED_INTERFACES, *USED_BY, *(f"networks/{name}.yaml" for name in NETWORKS)}
    assert set(FILES) == COVERED | tables
    assert set(REFUSED_PODS) <= set(FILES)
    assert set(USED_BY.values()) <= COVERED | set(EXPECTED_INTERFACES)
