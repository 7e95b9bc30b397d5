"""`spiderpoolctl connectivity test` before it begins: which pods, which addresses, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from spiderpool.api.applications import DaemonSet
from spiderpool.api.core_v1 import ConfigMap, Namespace, Node, NodeCondition, NodeStatus
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.connectivity.command import ConnectivityTest
from spiderpool.cli.connectivity.matrix import (
    NODE_TOPICS,
)
from spiderpool.cli.connectivity.preparation import ProbePlan, ProbeSize, plan_test
from spiderpool.cli.plan.case import read_facts
from spiderpool.cli.policies import PolicyOptions, read_policies
from spiderpool.errors import Refused
from tests.cli.test_explain import NAD, agents
from tests.cli.test_plan import node, pool, record
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

KINDS = (
    *(DaemonSet, Node, Namespace, ConfigMap, SpiderIP, SpiderIPPool, SpiderIPQuota, SpiderReservedIP, SpiderServer),
    *(SpiderSubnet, NetworkAttachmentDefinition),
)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with a network and two nodes, with five and four addresses."""
    async with ApiServer(*{kind.KIND for kind in KINDS}) as server:
        metadata = ObjectMeta(name="underlay", namespace="kube-system")
        server.put(NetworkAttachmentDefinition(metadata=metadata, spec=NADSpec(config=NAD)))
        data = {"conf.yml": "enableIPv6: false", "clusterNetwork": "kube-system/underlay"}
        server.put(ConfigMap(metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data=data))
        server.put(agents(), node("n1"), node("n2"))
        server.put(pool("one", "10.0.0.1-10.0.0.5", "n1"), pool("two", "10.0.0.11-10.0.0.14", "n2"))
        yield server


async def planned(
    server: ApiServer, nodes: tuple[str, ...] = (), networks: tuple[str, ...] = (), pods: int = 2, **more: Any
) -> ProbePlan:
    async with server.client() as client:
        cluster = Cluster(client, 5.0)
        policies = await read_policies(cluster, PolicyOptions("kube-system"))
        facts = await read_facts(cluster, policies, 0.0)
        return await plan_test(cluster, facts, ProbeSize(nodes, networks, pods, **more), "test")


async def test_it_says_what_it_takes_of_which_pool(server: ApiServer) -> None:
    plan = await planned(server)
    assert str(plan) == "6 pods on 2 nodes take 2 of pool one (leaves 3), 2 of pool two (leaves 2)"
    assert [(each.name, each.node, each.network) for each in plan.sites] == [
        ("pod-1", "n1", "kube-system/underlay"),
        ("pod-2", "n1", "kube-system/underlay"),
        ("pod-3", "n2", "kube-system/underlay"),
        ("pod-4", "n2", "kube-system/underlay"),
        ("host-1", "n1", ""),
        ("host-2", "n2", ""),
    ]


async def test_it_takes_no_last_address(server: ApiServer) -> None:
    server.put(record("10.0.0.11", pool="two", node="n2"), record("10.0.0.12", pool="two", node="n2"))
    with pytest.raises(Refused, match=r"kept free for other pods, of SpiderIPPool two \(2 free, 2 needed, 1 kept\)"):
        await planned(server)
    assert (await planned(server, kept=0)).left == {"one": 3, "two": 0}
    assert (await planned(server, pods=1)).left == {"one": 4, "two": 1}


async def test_a_tenth_of_a_pool_stays_free_for_other_pods_but_not_more_than_five(server: ApiServer) -> None:
    server.put(pool("one", "10.0.0.1-10.0.0.30", "n1"), pool("two", "10.0.0.100-10.0.0.250", "n2"))
    server.put(*(record(f"10.0.0.{number}", pool="one", node="n1") for number in range(1, 27)))
    with pytest.raises(Refused, match=r"SpiderIPPool one \(4 free, 2 needed, 3 kept\): .* --keep-free"):
        await planned(server)
    assert (await planned(server, pods=1)).left == {"one": 3, "two": 150}
    server.put(*(record(f"10.0.0.{number}", pool="two", node="n2") for number in range(100, 245)))
    with pytest.raises(Refused, match=r"SpiderIPPool two \(6 free, 2 needed, 5 kept\)"):
        await planned(server, nodes=("n2",))


async def test_without_questions_to_nodes_no_pod_is_on_the_host_network(server: ApiServer) -> None:
    assert {each.network for each in (await planned(server, has_nodes=False)).sites} == {"kube-system/underlay"}
    topics = [each.value for each in NODE_TOPICS]
    options = {"nodes": (), "networks": (), "addresses_per_network": 1, "keep_free": None, "load_balancer": ()}
    options |= {"egress": (), "spiderpool_namespace": None, "values": None, "default_network": None, "image": None}
    options |= dict.fromkeys(("port", "timeout", "perf", "perf_seconds", "keep"))
    assert not ConnectivityTest.of(**options, without=topics).size.has_nodes
    assert ConnectivityTest.of(**options, without=topics[:2]).size.has_nodes


async def test_a_full_pool_is_a_problem_of_its_node_alone(server: ApiServer) -> None:
    server.put(*(record(f"10.0.0.{number}", pool="two", node="n2") for number in range(11, 15)))
    plan = await planned(server)
    assert plan.taken == {"one": 2}
    assert plan.problems[0].startswith("no pod of network kube-system/underlay on n2: no IPv4 address")
    with pytest.raises(Refused, match="no pod of network kube-system/underlay on n2"):
        await planned(server, networks=("underlay",))


async def test_pods_that_are_left_out_take_nothing_where_a_pool_has_too_few_for_all_of_them(server: ApiServer) -> None:
    server.put(*(record(f"10.0.0.{number}", pool="two", node="n2") for number in range(11, 14)))
    plan = await planned(server)
    assert (plan.taken, plan.left) == ({"one": 2}, {"one": 3})
    assert plan.problems[0].startswith("no pod of network kube-system/underlay on n2: no IPv4 address")
    assert [each.node for each in plan.sites if each.network] == ["n1", "n1"]


async def test_nodes_that_are_not_ready_are_left_out(server: ApiServer) -> None:
    sick = Node(metadata=ObjectMeta(name="n3"), status=NodeStatus([NodeCondition("Ready", "Unknown")]))
    server.put(sick)
    plan = await planned(server)
    assert {each.node for each in plan.sites} == {"n1", "n2"}
    assert plan.problems == ("node n3 is not ready, and was left out",)
    with pytest.raises(Refused, match="none of 1 nodes is ready"):
        await planned(server, nodes=("n3",))


async def test_nodes_and_networks_that_do_not_exist_are_refused(server: ApiServer) -> None:
    with pytest.raises(Refused, match="node n9 does not exist"):
        await planned(server, nodes=("n9",))
    with pytest.raises(Refused, match="network kube-system/none does not exist; there are kube-system/underlay"):
        await planned(server, networks=("none",))
