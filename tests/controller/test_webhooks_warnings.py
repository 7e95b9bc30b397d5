"""Warnings of the admission webhooks while the API server is slow or fails."""

from __future__ import annotations

import pytest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Node
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller import webhooks
from spiderpool.controller.webhooks import Webhooks, webhook_path
from tests.core.servers import MASTER
from tests.support.admission import admission_caller
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("fault", "why"),
    [(Fault("get", delay=2.0), "no answer in time"), (Fault("get", status=500), "injected status 500")],
)
async def test_a_valid_pool_is_accepted_though_what_it_names_cannot_be_read(
    fault: Fault, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WARN_TIMEOUT", 0.1)
    pool = {"metadata": {"name": "p"}, "spec": {"subnet": "10.6.0.0/16", "ips": ["10.6.0.1"], "nodeName": ["n1"]}}
    request = {"uid": "u", "operation": "CREATE", "name": "p", "object": pool, "userInfo": {"username": "admin"}}
    async with ApiServer(Node.KIND, SpiderIPPool.KIND, SpiderSubnet.KIND) as server, server.client() as client:
        server.inject(fault)
        async with admission_caller(Webhooks(client, frozenset((4,)))) as caller:
            answer = await caller.post(webhook_path("validate", SpiderIPPool.KIND), json={"request": request})
            response = (await answer.json())["response"]
    assert response["allowed"]
    assert [why in said for said in response["warnings"]] == [True]


@pytest.mark.parametrize(
    ("master", "said"), [("eth1", []), ("eth9", ["no node reports a NIC eth9; reported are eth0, eth1"])]
)
async def test_a_network_on_a_nic_that_no_node_reports_is_warned_of(master: str, said: list[str]) -> None:
    network = {
        "metadata": {"name": "n", "namespace": "ns"},
        "spec": {"cniType": "ipvlan", "ipvlan": {"master": [master]}},
    }
    request = {"uid": "u", "operation": "CREATE", "name": "n", "object": network, "userInfo": {"username": "admin"}}
    kinds = (Node, SpiderServer, SpiderIPPool, SpiderMultusConfig, NetworkAttachmentDefinition)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        server.put(Node(metadata=ObjectMeta(name="n1")))
        server.put(SpiderServer.of(server.stored(Node)["n1"], MASTER))
        async with admission_caller(Webhooks(client, frozenset((4,)))) as caller:
            answer = await caller.post(webhook_path("validate", SpiderMultusConfig.KIND), json={"request": request})
            response = (await answer.json())["response"]
    assert response["allowed"]
    assert [each.partition("master: ")[2] for each in response.get("warnings", ())] == said


async def test_a_coordinator_that_nodes_do_not_follow_is_warned_of() -> None:
    coordinator = {"metadata": {"name": "second"}, "spec": {"podCIDRType": "none", "ipamCIDR": ["10.3.0.0/16"]}}
    request = {"uid": "u", "operation": "CREATE", "name": "second", "object": coordinator}
    async with ApiServer(SpiderCoordinator.KIND) as server, server.client() as client:
        server.put(SpiderCoordinator(metadata=ObjectMeta(name="default")))
        async with admission_caller(Webhooks(client, frozenset((4,)))) as caller:
            path = webhook_path("validate", SpiderCoordinator.KIND)
            answer = await caller.post(path, json={"request": {**request, "userInfo": {"username": "admin"}}})
            (warning,) = (await answer.json())["response"]["warnings"]
    assert "while there is SpiderCoordinator default" in warning


async def test_a_network_whose_coordinator_the_defaults_remove_is_warned_of() -> None:
    spec = {"cniType": "custom", "coordinator": {"ipamCIDR": ["10.3.0.0/16"]}}
    network = {"metadata": {"name": "n", "namespace": "ns"}, "spec": spec}
    request = {"uid": "u", "operation": "CREATE", "name": "n", "object": network}
    async with (
        ApiServer() as server,
        server.client() as client,
        admission_caller(Webhooks(client, frozenset((4,)))) as caller,
    ):
        path = webhook_path("mutate", SpiderMultusConfig.KIND)
        for user, told in (("admin", 1), ("system:serviceaccount:kube-system:spiderpool-controller", 0)):
            answer = await caller.post(path, json={"request": {**request, "userInfo": {"username": user}}})
            assert len((await answer.json())["response"].get("warnings", ())) == told
