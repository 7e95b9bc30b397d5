"""Every manifest of examples/, applied to one cluster at once, keeps what it promises."""

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
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.cloud.loadbalancer import annotations as lb_annotations
from spiderpool.core.cloud.loadbalancer import backends, checking, model, values
from spiderpool.core.ipam.subnet_addresses import pool_addresses
from spiderpool.kube.client import Client
from spiderpool.settings import cloud_settings, load_source
from spiderpool_lab.control_plane import ControlPlane
from tests.compat.cluster import Answer, Stage, addresses, is_within, until
from tests.compat.conftest import agents, nodes
from tests.compat.expectations import (
    GIVEN,
    NAMES,
    NEEDED,
    NETWORKS,
    PREFIX,
    RESOURCES,
    UNFIT,
    V4,
    V6,
    VERSIONS,
    Given,
    asking_for,
)
from tests.controller.conftest import Running
from tests.support.local_agent import LocalAgent, exchange

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file())
NODES = {"master": {"topology.kubernetes.io/zone": "zone-a"}, "worker": {"topology.kubernetes.io/zone": "zone-b"}}

OTHERS = (
    ("apps.kruise.io", "v1alpha1", "CloneSet", "clonesets"),
    ("kubevirt.io", "v1", "VirtualMachine", "virtualmachines"),
    ("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances"),
)
"""Kinds of other projects that examples use."""

Test = Callable[..., Any]
SHOWN: set[str] = set()
"""Files whose promises have a test of their own."""


def shows(*files: str) -> Callable[[Test], Test]:
    """Tell that a test shows what these files promise."""
    SHOWN.update(files)
    return lambda test: test


# --- the cluster


@pytest.fixture(scope="module")
def running(
    control_plane: ControlPlane, controller: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, LocalAgent]]:
    """Two nodes with all examples on them. At the end all of it is deleted, and nothing must be left."""
    kinds = [_kind(*each) for each in OTHERS]
    control_plane.apply(*(json.dumps(each) for each in kinds))
    names = [each["metadata"]["name"] for each in kinds]
    before = asyncio.run(_present(control_plane))
    try:
        control_plane.kubectl("wait", "--for=condition=Established", "crd", *names, "--timeout=30s")
        with (
            nodes(control_plane, NODES),
            agents(control_plane, tmp_path_factory.mktemp("examples"), list(NODES)) as started,
        ):
            control_plane.kubectl("apply", "--recursive", "--filename", EXAMPLES, timeout=60)
            yield started
            control_plane.kubectl("delete", "--recursive", "--filename", EXAMPLES, "--ignore-not-found", "--wait=false")
            asyncio.run(_emptied(control_plane, before))
    finally:
        control_plane.kubectl("delete", "crd", *names)


def _kind(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


KINDS: tuple[type[Object], ...] = (
    Pod,
    SpiderIP,
    SpiderIPPool,
    SpiderSubnet,
    SpiderReservedIP,
    SpiderEndpoint,
    SpiderMultusConfig,
    NetworkAttachmentDefinition,
)


async def _listed(client: Client) -> set[str]:
    return {f"{kind.__name__} {each.key}" for kind in KINDS for each in await client.list(kind)}


async def _present(control_plane: ControlPlane) -> set[str]:
    """What other tests have left in the cluster."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        return await _listed(client)


async def _emptied(control_plane: ControlPlane, before: set[str]) -> None:
    """End the pods as kubelets do, and see that everything follows, but for what was there ``before``."""
    left: set[str] = set()
    async with Client.load(control_plane.admin_kubeconfig) as client:

        async def nothing_is_left() -> bool:
            for pod in await client.list(Pod):
                await client.delete(Pod, pod.name, pod.metadata.namespace, grace=0)
            left.clear()
            left.update(await _listed(client) - before)
            return not left

        try:
            await until(nothing_is_left, "an empty cluster", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None


@pytest.fixture
async def stage(control_plane: ControlPlane, running: dict[str, LocalAgent]) -> AsyncIterator[Stage]:
    """The cluster with its nodes ready."""
    async with Client.load(control_plane.admin_kubeconfig) as client:
        stage = Stage(control_plane, client, running)
        await stage.heartbeat()
        yield stage


def manifest(file: str, kind: str) -> dict[str, Any]:
    """The first object of a kind in an example."""
    return next(each for each in yaml.safe_load_all((EXAMPLES / file).read_text()) if each["kind"] == kind)


# --- what single pods get


@pytest.mark.parametrize("file", GIVEN)
async def test_pods_get_the_addresses_and_routes_that_are_promised(stage: Stage, file: str) -> None:
    for given in GIVEN[file]:
        _check_answer(await stage.served(await stage.pod(given.pod), given.interface, given.network), given)


async def test_spiderendpoints_tell_what_pods_hold(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        for every in GIVEN.values():
            group.create_task(_check_endpoint(stage, every))


def _check_answer(answer: Answer, given: Given) -> None:
    ranges = list(given.pools.values())
    assert len(found := addresses(answer)) == len(ranges)
    assert all(map(is_within, found, ranges)), (found, ranges)
    assert {f"{each['dst']} {each['gw']}" for each in answer.get("routes") or ()} == set(given.routes)


async def _check_endpoint(stage: Stage, every: tuple[Given, ...]) -> None:
    pod = await stage.pod(every[0].pod)
    for given in every:
        await stage.served(pod, given.interface, given.network)
    status = (await stage.endpoint(pod)).status
    assert status is not None
    assert (status.ownerControllerType, status.ownerControllerName) == ("Pod", pod.name)
    for given in every:
        detail = next(each for each in status.current.ips if each.interface == given.interface)
        assert [name for name in (detail.ipv4Pool, detail.ipv6Pool) if name] == list(given.pools)
        told = {f"{route.dst} {route.gw}" for route in detail.routes or ()}
        assert told == {route for route in given.routes if not route.startswith((f"{V4} ", f"{V6} "))}


# --- pods that do not fit


@pytest.mark.parametrize("file", UNFIT)
async def test_a_pod_that_does_not_fit_is_refused_with_the_reason(stage: Stage, file: str) -> None:
    unfit = UNFIT[file]
    for each in await stage.pods(fields=unfit.full) if unfit.full else ():
        addresses(await stage.served(each))
    name = f"unfit-{file.removesuffix('.yaml').replace('/', '-')}"
    changes = {"nodeName": unfit.node} if unfit.node else {}
    pod = await stage.make_pod(
        manifest(file, unfit.kind), f"{unfit.namespace}/{name}", metadata=unfit.metadata, **changes
    )
    answer = await stage.add(pod, unfit.interface)
    assert unfit.reason in answer.get("msg", ""), answer
    assert await stage.held(pod) == [], "an address of one family or interface is not kept either"

    async def told() -> bool:
        events = await stage.client.list(Event, unfit.namespace)
        return any(each.involvedObject.name == name and unfit.reason in (each.message or "") for each in events)

    await until(told, f"Event on {pod.key}")


# --- what workloads get


@shows("pools/backup.yaml")
async def test_the_next_pool_serves_when_the_first_is_full(stage: Stage) -> None:
    pods = await stage.pods(count=2, labels="app=backup")
    given = [addresses(await stage.served(pod)) for pod in pods]
    assert sorted(given) == [["10.12.0.10"], ["10.12.0.20"]]


@shows("pools/cooldown.yaml")
async def test_a_released_address_rests_and_returns_to_its_pod(stage: Stage) -> None:
    pod = await stage.pod("default/pools-cooldown")
    (first,) = addresses(await stage.served(pod))
    await stage.delete_pod(pod)
    await stage.remove(pod)
    template = manifest("pools/cooldown.yaml", "Pod")
    other = await stage.make_pod(template, "default/pools-cooldown-other", nodeName=pod.spec.nodeName)
    assert addresses(await stage.served(other)) != [first]
    again = await stage.make_pod(template, pod.key, nodeName=pod.spec.nodeName)
    assert addresses(await stage.served(again)) == [first]


async def test_a_pool_that_is_deleted_waits_for_no_cooldown(stage: Stage) -> None:
    pool = manifest("pools/cooldown.yaml", "SpiderIPPool")
    spec = pool["spec"] | {"subnet": "10.15.0.0/24", "ips": ["10.15.0.10"]}
    stage.plane.apply(json.dumps(pool | {"metadata": {"name": "cooldown-deleted"}, "spec": spec}))
    wish = asking_for(ipv4=["cooldown-deleted"])
    pod = await stage.make_pod(manifest("pools/cooldown.yaml", "Pod"), "default/cooldown-deleted", metadata=wish)
    assert addresses(await stage.served(pod)) == ["10.15.0.10"]
    await stage.delete_pod(pod)
    await stage.remove(pod)

    async def is_cooling() -> bool:
        return bool((await stage.client.get(SpiderIP, "10.15.0.10")).spec.releasedAt)

    await until(is_cooling, "the cooldown of 10.15.0.10")
    await stage.client.delete(SpiderIPPool, "cooldown-deleted")

    async def gone() -> bool:
        return "cooldown-deleted" not in {each.name for each in await stage.client.list(SpiderIPPool)}

    await until(gone, "the end of the pool")


@shows("node-affinity/by-name.yaml", "node-affinity/by-label.yaml")
@pytest.mark.parametrize(
    ("app", "pools"),
    [
        ("node-by-name", {"master": "node-master", "worker": "node-worker"}),
        ("node-by-label", {"master": "zone-a", "worker": "zone-b"}),
    ],
)
async def test_every_pod_gets_an_address_of_its_nodes_pool(stage: Stage, app: str, pools: dict[str, str]) -> None:
    pods = await stage.pods(count=2, labels=f"app={app}")
    assert {pod.spec.nodeName for pod in pods} == set(pools)
    for pod in pods:
        addresses(await stage.served(pod))
        assert [each.spec.pool for each in await stage.held(pod)] == [pools[pod.spec.nodeName or ""]]
        detail = (await stage.endpoint(pod)).status
        assert detail is not None
        assert (detail.ownerControllerType, detail.ownerControllerName) == ("DaemonSet", app)


@shows("excluded-addresses/pool.yaml")
async def test_addresses_that_a_pool_leaves_out_are_not_given(stage: Stage) -> None:
    pods = await stage.pods(count=3, labels="app=with-gaps")
    given = [addresses(await stage.served(pod))[0] for pod in pods]
    assert sorted(given) == ["10.33.0.2", "10.33.0.3", "10.33.0.5"]
    extra = await stage.make_pod(
        manifest("excluded-addresses/pool.yaml", "Deployment"), "default/with-gaps-4", metadata={"labels": {}}
    )
    assert "with-gaps: 3 of 3 addresses in use" in (await stage.add(extra))["msg"]


@shows("several-interfaces/default-route.yaml")
async def test_the_default_route_goes_by_the_interface_that_the_pod_names(stage: Stage) -> None:
    pod = await stage.pod("default/interfaces-default-route")
    for interface, router in (("eth0", "10.40.0.1"), ("net1", "10.41.0.1")):
        answer = await stage.served(pod, interface)
        assert answer["routes"] == [{"dst": V4, "gw": router}], "the coordinator moves those that are too much"
    assert (await _coordinator_settings(stage, pod))["podDefaultRouteNIC"] == "net1"


@shows("coordinator/coordinator.yaml")
async def test_the_coordinators_settings_reach_the_pods_and_the_clusters_networks_are_found(stage: Stage) -> None:
    async def synced() -> bool:
        status = (await stage.client.get(SpiderCoordinator, "default")).status
        return status is not None and status.phase == "Synced"

    await until(synced, "SpiderCoordinator is synced")
    settings = await _coordinator_settings(stage, await stage.pod("default/pools-ipv4"))
    assert settings["hijackCIDR"] == ["169.254.0.0/16"]
    assert settings["serviceCIDR"] == ["10.233.0.0/18"]
    assert settings["overlayPodCIDR"] == ["10.233.64.0/18"]
    assert (settings["mode"], settings["hostRuleTable"]) == ("auto", 500)


async def _coordinator_settings(stage: Stage, pod: Pod) -> dict[str, Any]:
    asked = json.dumps({"podNamespace": pod.metadata.namespace, "podName": pod.name}).encode()
    agent = stage.agents[pod.spec.nodeName or ""]
    answers: list[Any] = []

    async def answered() -> bool:
        status, text = await exchange(agent.socket, asked, "GET", "/v1/coordinator/config")
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
"""Of the ENIs of the walkthrough."""


@shows("alibaba-cloud/apps.yaml", "alibaba-cloud/networks.yaml", "alibaba-cloud/pools.yaml")
@shows("alibaba-cloud/pools-ipv6.yaml", "alibaba-cloud/two-cards.yaml")
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
    stage: Stage, app: str, enis: dict[str, str]
) -> None:
    pods = await stage.pods(count=2, labels=f"app=test-app-{app}")
    assert {pod.spec.nodeName for pod in pods} == set(NODES)
    for pod in pods:
        for interface, eni in enis.items():
            answer = await stage.served(pod, interface)
            assert [route["gw"] for route in answer["routes"]] == GATEWAYS[eni]
        held = {(each.spec.interface, each.spec.pool) for each in await stage.held(pod)}
        assert held == {
            (interface, f"{pod.spec.nodeName}-{eni}{family}")
            for interface, eni in enis.items()
            for family in ("", "-v6")
        }


@shows("alibaba-cloud/host.yaml", "alibaba-cloud/services.yaml")
async def test_servers_on_nodes_and_services_are_accepted(stage: Stage) -> None:
    """What they are for is shown where packets flow, in the lab."""
    hosts = await stage.pods(count=2, labels="app=test-host")
    assert all(pod.spec.hostNetwork for pod in hosts)
    wanted = list(yaml.safe_load_all((EXAMPLES / "alibaba-cloud/services.yaml").read_text()))
    made = {each.name: each.spec for each in await stage.client.list(Service, "default")}
    for each in wanted:
        spec = made[each["metadata"]["name"]]
        assert spec.type == each["spec"]["type"]
        assert all(port.nodePort for port in spec.ports or ()) == (spec.type == "NodePort")


@shows("alibaba-cloud/growth.yaml")
async def test_of_three_more_pods_on_one_eni_two_get_an_address(stage: Stage) -> None:
    for app in ("1", "3", "4"):
        for pod in await stage.pods(count=2, labels=f"app=test-app-{app}"):
            addresses(await stage.served(pod))
    pods = await stage.pods(count=3, labels="app=test-app-5")
    assert {pod.spec.nodeName for pod in pods} == {"master"}
    for pod in pods[:2]:
        addresses(await stage.served(pod))
    assert "master-172: 5 of 5 addresses in use" in (await stage.add(pods[2]))["msg"]


@shows("alibaba-cloud/load-balancers.yaml")
async def test_services_of_the_walkthrough_ask_for_balancers_of_layer_4_and_7(stage: Stage) -> None:
    made = {each.name: each for each in await stage.client.list(Service, "default")}
    configuration = values.BalancerConfiguration("test")
    asked = {}
    for name in ("tcp-service", "http-service"):
        service = made[name]
        options = lb_annotations.read(service.metadata.annotations or {}, "clb")
        assert (model.kind_of(service), checking.faults(service, options, configuration)) == ("clb", ())
        wanted = model.wanted(service, options, backends.BackendSnapshot(), configuration)
        asked[name] = [(each.protocol, each.port) for each in wanted.listeners]
    assert asked == {"tcp-service": [("tcp", 999)], "http-service": [("http", 80)]}


@shows("alibaba-cloud/load-balancer-ipv6.yaml")
def test_the_service_with_ipv6_alone_can_have_no_balancer() -> None:
    service = msgspec.convert(manifest("alibaba-cloud/load-balancer-ipv6.yaml", "Service"), Service)
    options = lb_annotations.read(service.metadata.annotations or {}, "nlb")
    (fault,) = checking.faults(service, options, values.BalancerConfiguration("test", "vpc-1"))
    assert model.kind_of(service) == "nlb"
    assert "ServerGroupNotSupportIpv6" in fault


@shows("alibaba-cloud/settings.yaml")
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


@shows("network-injection/pod.yaml")
async def test_networks_and_resources_are_injected_into_the_pod(stage: Stage) -> None:
    pod = await stage.pod("default/trainer")
    networks = "kube-system/rail-1,kube-system/rail-2"
    assert (pod.metadata.annotations or {})["k8s.v1.cni.cncf.io/networks"] == networks
    raw = json.loads(await stage.client.get_raw(Pod.KIND.path("default", "trainer")))
    limits = raw["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"example.com/rail_1": "1", "example.com/rail_2": "1"}


# --- addresses that outlive pods


@shows("statefulset/statefulset.yaml")
async def test_a_statefulsets_addresses_follow_its_ordinals_to_other_nodes(stage: Stage) -> None:
    pods = await stage.pods(count=2, labels="app=db")
    before = {pod.name: addresses(await stage.served(pod)) for pod in pods}
    assert sorted(map(len, before.values())) == [2, 2]
    for pod in pods:
        async with stage.cordoned(pod.spec.nodeName or ""):
            await stage.delete_pod(pod)
            await stage.remove(pod)
            moved = await stage.successor(pod)
        assert moved.spec.nodeName != pod.spec.nodeName
        assert addresses(await stage.served(moved)) == before[pod.name]
        status = (await stage.endpoint(moved)).status
        assert status is not None
        assert (status.current.node, status.ownerControllerName) == (moved.spec.nodeName, "db")


@shows("kubevirt/machine.yaml")
async def test_a_machine_keeps_its_address_when_it_starts_again_on_another_node(stage: Stage) -> None:
    machine = manifest("kubevirt/machine.yaml", "VirtualMachine")
    instance = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "machine"}}
    stage.plane.apply(json.dumps(instance | {"metadata": {"name": "machine", "namespace": "default"}}))
    template = {"metadata": machine["spec"]["template"]["metadata"], "spec": CONTAINERS}
    given = []
    for index, node in enumerate(NODES):
        owner = stage.owner("virtualmachineinstances/machine")
        metadata = {"ownerReferences": [owner]}
        key = f"default/virt-launcher-machine-{index}"
        pod = await stage.make_pod(template, key, metadata=metadata, nodeName=node)
        given.append(addresses(await stage.served(pod)))
        await stage.delete_pod(pod)
        await stage.remove(pod)
    assert given[0] == given[1]
    assert is_within(given[0][0], "10.51.0.10-10.51.0.19")
    stage.plane.kubectl("delete", "virtualmachines,virtualmachineinstances", "machine")

    async def released() -> bool:
        return not [each for each in await stage.client.list(SpiderIP) if each.spec.pool == "machines"]

    await until(released, "the machine's address is released with the machine")


# --- pools cut from subnets

CONTAINERS = {"containers": [{"name": "c", "image": "none"}]}


def _of(app: str) -> str:
    return f"{PREFIX}/owner-application-name={app}"


def _sizes(pools: list[SpiderIPPool]) -> dict[str, int]:
    return {pool.spec.subnet: pool_addresses(pool, 6 if ":" in pool.spec.subnet else 4).size for pool in pools}


async def _automatic(stage: Stage, app: str, sizes: dict[str, int]) -> list[SpiderIPPool]:
    """An application's pools, once they have these sizes by subnet."""

    async def made() -> bool:
        return _sizes(await stage.pools(_of(app))) == sizes

    await until(made, f"pools of {app} of sizes {sizes}")
    return await stage.pools(_of(app))


@shows("subnet/subnets.yaml", "subnet/deployment.yaml")
async def test_an_applications_pools_grow_with_it_serve_its_pods_alone_and_go_with_it(stage: Stage) -> None:
    four, _ = await _automatic(stage, "shop", {"10.6.0.0/16": 4, "fd00:6::/112": 4})
    for pod in await stage.pods(count=2, labels="app=shop"):
        given = addresses(await stage.served(pod))
        assert is_within(given[0], "10.6.100.1-10.6.100.200")
        assert is_within(given[1], "fd00:6::100-fd00:6::200")
        status = (await stage.endpoint(pod)).status
        assert status is not None
        assert (status.ownerControllerType, status.ownerControllerName) == ("Deployment", "shop")
    template = manifest("subnet/deployment.yaml", "Deployment")
    metadata = asking_for(ipv4=[four.name]) | {"labels": {}}
    stranger = await stage.make_pod(template, "default/shop-stranger", metadata=metadata)
    assert "was made for another application" in (await stage.add(stranger))["msg"]
    await stage.client.patch(Deployment, "shop", {"spec": {"replicas": 5}}, "default")
    await _automatic(stage, "shop", {"10.6.0.0/16": 7, "fd00:6::/112": 7})
    await stage.client.delete(Deployment, "shop", "default")
    await stage.end_pods("app=shop")
    await _automatic(stage, "shop", {})


@shows("subnet/fixed.yaml")
async def test_a_fixed_number_of_addresses_serves_no_more_pods(stage: Stage) -> None:
    await _automatic(stage, "fixed", {"10.6.0.0/16": 3})
    await stage.client.patch(Deployment, "fixed", {"spec": {"replicas": 4}}, "default")
    pods = await stage.pods(count=4, labels="app=fixed")
    for pod in pods[:3]:
        addresses(await stage.served(pod))
    waiting = asyncio.create_task(stage.add(pods[3]))
    await stage.delete_pod(pods[0])
    await stage.remove(pods[0])
    assert len(addresses(await waiting)) == 1, "it waits for a change of its pool"
    assert _sizes(await stage.pools(_of("fixed"))) == {"10.6.0.0/16": 3}


@shows("subnet/two-interfaces.yaml")
async def test_each_interface_has_a_pool_which_outlives_the_application(stage: Stage) -> None:
    sizes = {"10.6.0.0/16": 5, "10.7.0.0/16": 5}
    before = await _automatic(stage, "ledger", sizes)
    for pod in await stage.pods(count=3, labels="app=ledger"):
        assert is_within(addresses(await stage.served(pod))[0], "10.6.100.1-10.6.100.200")
        assert is_within(addresses(await stage.served(pod, "net1"))[0], "10.7.100.1-10.7.100.200")
    stage.plane.kubectl("delete", "statefulset", "ledger")
    await stage.end_pods("app=ledger")

    async def released() -> bool:
        pools = {pool.name for pool in before}
        return not [each for each in await stage.client.list(SpiderIP) if each.spec.pool in pools]

    await until(released, "addresses of the StatefulSet are released with it")
    stage.plane.apply(json.dumps(manifest("subnet/two-interfaces.yaml", "StatefulSet")))
    again = await _automatic(stage, "ledger", sizes)
    assert [pool.metadata.uid for pool in again] == [pool.metadata.uid for pool in before]


@shows("subnet/pool.yaml")
async def test_a_pool_of_the_same_cidr_belongs_to_the_subnet_and_inherits_its_gateway(stage: Stage) -> None:
    pool = await stage.client.get(SpiderIPPool, "by-hand")
    assert pool.spec.gateway == "10.6.0.1"
    assert [owner.name for owner in pool.metadata.ownerReferences or ()] == ["blue"]

    async def counted() -> bool:
        status = (await stage.client.get(SpiderSubnet, "blue")).status
        shares = json.loads((status and status.controlledIPPools) or "{}")
        return bool(shares.get("by-hand") == {"ips": ["10.6.100.150-10.6.100.159"]})

    await until(counted, "the subnet's status tells of its pool")


@shows("third-party/cloneset.yaml")
async def test_a_third_partys_application_has_a_pool_of_the_size_that_it_names(stage: Stage) -> None:
    clones = manifest("third-party/cloneset.yaml", "CloneSet")
    owner = stage.owner("clonesets/clones")
    for name in ("clones-a", "clones-b"):
        template = clones["spec"]["template"]
        pod = await stage.make_pod(template, f"default/{name}", metadata={"ownerReferences": [owner]})
        assert is_within(addresses(await stage.served(pod))[0], "10.60.0.10-10.60.0.13")
    await _automatic(stage, "clones", {"10.60.0.0/24": 4})
    stage.plane.kubectl("delete", "clonesets", "clones", "--wait")
    await stage.end_pods("app=clones")
    await _automatic(stage, "clones", {})


# --- networks


@pytest.mark.parametrize("network", NETWORKS)
async def test_a_networks_configuration_is_made_from_the_few_words(stage: Stage, network: str) -> None:
    name = NAMES.get(network, network)
    config = json.loads(await stage.config(f"kube-system/{name}"))
    assert config == {"cniVersion": VERSIONS.get(network, "0.3.1"), "name": name, "plugins": NETWORKS[network]}
    made = await stage.client.get(NetworkAttachmentDefinition, name, "kube-system")
    assert [(owner.kind, owner.name) for owner in made.metadata.ownerReferences or ()] == [
        ("SpiderMultusConfig", network)
    ]
    assert (made.metadata.annotations or {}).get("k8s.v1.cni.cncf.io/resourceName") == RESOURCES.get(network)


@shows("networks/custom.yaml")
async def test_a_custom_networks_configuration_is_taken_as_it_is(stage: Stage) -> None:
    written = manifest("networks/custom.yaml", "SpiderMultusConfig")["spec"]["customCNI"]
    assert await stage.config("kube-system/custom") == written


@pytest.mark.unit
def test_no_example_is_without_a_test() -> None:
    tables = {*GIVEN, *NEEDED, *(f"networks/{name}.yaml" for name in NETWORKS)}
    assert set(FILES) == SHOWN | tables
    assert set(UNFIT) <= set(FILES)
    assert set(NEEDED.values()) <= SHOWN | set(GIVEN)
