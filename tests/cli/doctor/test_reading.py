"""`spiderpoolctl doctor`: what becomes of reads that fail, and of what changes meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Node, Pod, PodStatus
from spiderpool.api.crd import KINDS, crd
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli import installation
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.checks_addresses import suspects
from spiderpool.cli.doctor.checks_pods import refusal_findings
from spiderpool.cli.doctor.diagnosis import diagnosis, examine
from spiderpool.cli.doctor.look import confirmed
from spiderpool.cli.installation import look
from spiderpool.cli.policies import AgentPolicies
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.client import Forbidden, Unauthorized
from tests.cli.doctor.snapshots import HOME, NOW, pod, pool, record, snapshot, written
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit


async def test_a_pod_that_began_meanwhile_is_no_finding() -> None:
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        server.put(pod("b", "v", "10.0.0.6"))
        running = server.stored(Pod)["shop/b"]
        looked = snapshot(record(5, "a", "u"), running)
        server.put(record(6, "b", running.metadata.uid or ""))  # and the record of a is gone
        again = await confirmed(Cluster(client, 5.0), looked, suspects(looked))
    assert diagnosis(again, {}, NOW).findings == ()


@pytest.mark.parametrize("hidden", ["records", "pods"])
async def test_nothing_is_wrong_with_what_may_not_be_listed(hidden: str) -> None:
    looked = snapshot(record(5, "a", "u"), pod("b", "v", "10.0.0.6"), **{hidden: None})
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        again = await confirmed(Cluster(client, 5.0), looked, ["10.0.0.5", "10.0.0.6"])
    assert again == looked
    assert diagnosis(again, {}, NOW).findings == ()


async def test_what_may_be_listed_but_not_read_is_as_it_was_listed() -> None:
    looked = snapshot(record(5, "a", "u"), pod("a", "u", "10.0.0.5"))
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        server.put(record(5, "a", "u"))
        server.inject(Fault("get", plural="pods", status=403))
        assert await confirmed(Cluster(client, 5.0), looked, ["10.0.0.5"]) == looked


@pytest.mark.parametrize("hidden", ["pools", "nodes", "networks", "namespaces"])
def test_no_pod_is_explained_by_what_may_not_be_read(hidden: str) -> None:
    waiting = pod("web", "u", "10.0.0.5")
    waiting.metadata.creationTimestamp = written(60)
    waiting.status = PodStatus("Pending")
    policies = AgentPolicies(AttachmentPolicy("default/net", HOME), AddressPolicy())
    whole = snapshot(waiting, policies=policies)
    controllers: dict[str, Any] = {waiting.key: (None, None)}
    assert list(refusal_findings(whole, controllers, NOW))
    if hidden in ("pools", "nodes"):
        whole = replace(whole, installation=replace(whole.installation, **{hidden: None}))  # type: ignore[arg-type]
    else:
        whole = replace(whole, **{hidden: None})  # type: ignore[arg-type]
    assert not list(refusal_findings(whole, controllers, NOW))


async def test_webhooks_are_unknown_only_where_they_may_not_be_read() -> None:
    kinds = MutatingWebhookConfiguration, ValidatingWebhookConfiguration
    async with ApiServer(*(each.KIND for each in kinds)) as server, server.client() as client:
        server.inject(*(Fault("get", 2, each.KIND.plural, status=403) for each in kinds))
        cluster = Cluster(client, 5.0)
        assert [(await look(cluster, HOME)).webhooks for _ in range(2)] == [None, None]
        assert (await look(Cluster(client, 5.0), HOME)).webhooks == ()


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    """A cluster with a node and a pool, of which nobody has told anything."""
    kinds = (Node, SpiderIP, SpiderIPPool, SpiderNode, Pod, Lease, CustomResourceDefinition)
    monkeypatch.setattr(installation, "SECOND_LOOK", 0.01)
    async with ApiServer(*(each.KIND for each in kinds)) as server, server.client() as client:
        server.put(
            Node(metadata=ObjectMeta(name="n1")),
            pool(),
            *(msgspec.convert(crd(each), CustomResourceDefinition) for each in KINDS),
        )
        yield server, Cluster(client, 5.0)


class TestReading:
    """What becomes of reads that fail."""

    async def test_who_may_see_nothing_is_not_told_that_all_is_well(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        server.inject(Fault("list", plural="spiderips", status=403))
        answer = await examine(ours, HOME, None, NOW)
        assert answer.unread == ("SpiderIP",)
        empty = replace(answer, findings=())
        said = "Spiderpool in kube-system: nothing is found wrong in what could be read (1 kind could not)"
        assert printed(empty, "table", View(width=120)) == said

    async def test_credentials_that_are_not_accepted_end_it(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        server.inject(Fault("list", 100, status=401), Fault("get", 100, status=401))
        with pytest.raises(Unauthorized):
            await ours.list(Node)
        with pytest.raises(Unauthorized):
            await examine(ours, HOME, None, NOW)

    @pytest.mark.parametrize("status", [410, 500])
    async def test_a_failed_read_costs_its_kind_alone(self, cluster: tuple[ApiServer, Cluster], status: int) -> None:
        server, ours = cluster
        server.inject(Fault("list", plural="spiderips", status=status))
        answer = await examine(ours, HOME, None, NOW)
        assert answer.unread == ("SpiderIP",)
        assert [each for each in answer.unseen if each.startswith("SpiderIP objects were not read: ")]
        assert "node-silent" in [each.check for each in answer.findings], "the rest is judged"

    async def test_a_server_that_does_not_answer_ends_it(self) -> None:
        async with ApiServer(Node.KIND) as server:
            url = server.client()
        async with url as client:
            with pytest.raises(ApiUnavailable):
                await examine(Cluster(client, 1.0), HOME, None, NOW)

    async def test_a_node_that_does_not_exist_is_refused(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        with pytest.raises(Refused, match="node nowhere does not exist"):
            await examine(ours, HOME, "nowhere", NOW)
        assert (await examine(ours, HOME, "n1", NOW)).node == "n1"
        server.inject(Fault("get", plural="nodes", status=403))
        assert "Node" in (await examine(ours, HOME, "nowhere", NOW)).unread

    async def test_our_definitions_are_asked_for_by_name(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        answer = await examine(ours, HOME, None, NOW)
        assert not [each for each in answer.findings if each.check == "crd-missing"]
        queries = [query for plural, query in server.list_queries if plural == "customresourcedefinitions"]
        assert queries
        assert all("fieldSelector" in each for each in queries)

    async def test_a_record_that_says_nothing_is_seen(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        named = record(6, "b", "v", address="10.0.0.7/24")
        named.metadata.name = "fd00-0000-0000-0000-0000-0000-0000-0007"
        stray = record(7, "c", "w")
        stray.metadata.name = "stray"
        server.put(record(5, "a", "u", address="nonsense"), named, stray)
        wrong = [each for each in (await examine(ours, HOME, None, NOW)).findings if each.check == "record-wrong"]
        uid = server.stored(SpiderIP)["stray"].metadata.uid
        assert {each.object.rpartition("/")[2]: each.remedy for each in wrong} == {
            "10.0.0.5": "delete pod shop/a if it is there, then: spiderpoolctl ip release 10.0.0.5",
            named.name: f"delete pod shop/b if it is there, then: spiderpoolctl ip release {named.name}",
            "stray": "delete pod shop/c if it is there, then: kubectl annotate spiderip stray"
            f" ipam.spidernet.io/release={uid}, and delete the SpiderIP",
        }

    async def test_an_owner_that_may_not_be_read_is_no_refusal(self) -> None:
        waiting = pod("web", "u", "10.0.0.5")
        waiting.metadata.creationTimestamp = written(60)
        waiting.status = PodStatus("Pending")
        whole = snapshot(waiting, policies=AgentPolicies(AttachmentPolicy("default/net", HOME), AddressPolicy()))
        assert not list(refusal_findings(whole, {waiting.key: (None, Forbidden("no"))}, NOW))
