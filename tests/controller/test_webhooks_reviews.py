"""Answers to AdmissionReviews that need no API server, and the patches in them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Namespace,
    Service,
    ServiceSpec,
    ServiceStatus,
)
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.controller import pod_webhook
from spiderpool.controller.reviews import json_patch
from spiderpool.controller.webhooks import Webhooks
from spiderpool.core.network.address_requests import AddressRequirement
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess
from spiderpool.settings import CommonSettings, ControllerSettings, ProviderSettings
from tests.support.admission import admission_caller
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

MUTATE = "/mutate-spiderpool-spidernet-io-v2beta1-spiderippool"
VALIDATE_RESERVED = "/validate-spiderpool-spidernet-io-v2beta1-spiderreservedip"
VALIDATE = "/validate-spiderpool-spidernet-io-v2beta1-spidermultusconfig"
GATING = ControllerSettings(common=CommonSettings(cloud=ProviderSettings(provider="alibaba")), inject_gates=True)
REQUESTING = ControllerSettings(node_resources="advertise", default_network="a")


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after the operations; knows the part of RFC 6902 that `json_patch` uses."""
    document = json.loads(json.dumps(document))
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")]
        if not parents:
            document = operation["value"]
            continue
        parent = document
        for part in parents[1:]:
            parent = parent[int(part) if isinstance(parent, list) else part]
        key = int(last) if isinstance(parent, list) else last
        if operation["op"] == "remove":
            del parent[key]
        else:
            parent[key] = operation["value"]
    return document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("a~/b", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a~/b", max_size=2), inner, max_size=3),
)


class TestPatch:
    @given(JSON, JSON)
    def test_a_patch_turns_one_document_into_the_other(self, before: Any, after: Any) -> None:
        assert patched(before, list(json_patch(before, after))) == after

    @given(JSON)
    def test_equal_documents_need_no_patch(self, document: Any) -> None:
        assert list(json_patch(document, document)) == []


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    # port 9, discard, where nothing listens
    unreachable = ClusterAccess("http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials())
    async with Client(unreachable) as kube, admission_caller(Webhooks(kube, frozenset({4, 6}))) as caller:
        yield caller


def review(new: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    request = {"uid": "r", "operation": "CREATE", "name": "x", "object": new, "oldObject": old}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def pool_of(count: int) -> dict[str, Any]:
    """A pool with so many values."""
    return {"metadata": {"name": "x"}, "spec": {"subnet": "10.0.0.0/8", "ipVersion": 4, "ips": ["10.0.0.1"] * count}}


class TestWebhooks:
    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"{}", b'{"request":{}}', b'{"request":null}', b"\xff", b'{"request":{"uid":"\xff"}}'],
    )
    async def test_a_body_that_is_no_review_is_a_bad_request(self, http: ClientSession, body: bytes) -> None:
        for path in (MUTATE, VALIDATE):
            reply = await http.post(path, data=body)
            assert reply.status == 400
            assert "AdmissionReview" in await reply.text()

    async def test_a_patch_leaves_unknown_fields_alone(self, http: ClientSession) -> None:
        metadata = {"name": "x", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}]}
        spec = {"subnet": "10.6.0.0/16", "routes": [], "future": {"field": 1}}
        document = {"metadata": metadata, "spec": spec}
        reply = msgspec.json.decode(await (await http.post(MUTATE, json=review(document))).read())
        assert reply["response"]["uid"] == "r"
        assert patched(document, msgspec.json.decode(base64.b64decode(reply["response"]["patch"]))) == {
            "metadata": {
                **metadata,
                "labels": {"a": "b", "ipam.spidernet.io/ippool-cidr": "10-6-0-0-16"},
                "finalizers": ["spiderpool.spidernet.io/in-use"],
            },
            "spec": {**spec, "ipVersion": 4},
        }

    async def test_objects_that_do_not_fit_their_type_are_left_to_the_schema(self, http: ClientSession) -> None:
        for new in ({"spec": {"subnet": 7}}, {"spec": None}, {}):
            reply = msgspec.json.decode(await (await http.post(MUTATE, json=review(new))).read())
            assert reply["response"] == {"uid": "r", "allowed": True}
        reply = msgspec.json.decode(await (await http.post(VALIDATE, json=review({"spec": 7}))).read())
        assert reply["response"]["allowed"] is False
        assert reply["response"]["status"]["code"] == 422
        assert "$.spec" in reply["response"]["status"]["message"]

    @pytest.mark.parametrize("kind", ["spiderreservedip", "spiderippool", "spidersubnet"])
    async def test_a_family_that_there_is_not_is_left_to_the_schema(self, http: ClientSession, kind: str) -> None:
        spec: dict[str, Any] = {"ipVersion": 5, "ips": ["10.0.0.1", "10.0.0.2"], "subnet": "10.0.0.0/8"}
        new = {"metadata": {"name": "x"}, "spec": spec}
        reply = await http.post(MUTATE.replace("spiderippool", kind), json=review(new))
        assert reply.status == 200
        assert msgspec.json.decode(await reply.read())["response"]["allowed"]

    async def test_a_pod_that_fits_no_type_is_left_to_the_api_server(self, capsys: pytest.CaptureFixture[str]) -> None:
        unreachable = ClusterAccess("http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials())
        settings = replace(ControllerSettings(), pod_inject=replace(ControllerSettings().pod_inject, enabled=True))
        async with Client(unreachable) as kube, admission_caller(Webhooks(kube, frozenset({4}), settings)) as http:
            reply = await http.post("/mutate--v1-pod", json=review({"spec": []}))
            assert msgspec.json.decode(await reply.read())["response"] == {"uid": "r", "allowed": True}
            reply = await http.post("/mutate--v1-pod", json=review({"metadata": {"name": "x"}, "spec": {}}))
            response = msgspec.json.decode(await reply.read())["response"]
            assert response["allowed"]
            assert "injected nothing" in response["warnings"][0]
        assert "Traceback" not in capsys.readouterr().out, "that the API server is away is no bug"

    async def test_a_pod_requests_what_it_needs_of_its_node(self) -> None:
        ipam = {"type": "ipvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}
        config = json.dumps({"cniVersion": "1.0.0", "name": "a", "plugins": [ipam]})
        network = NetworkAttachmentDefinition(
            metadata=ObjectMeta(name="a", namespace="kube-system"), spec=NADSpec(config=config)
        )
        annotations = {"ipam.spidernet.io/default-ipv4-ippool": '["x"]'}
        named = Namespace(metadata=ObjectMeta(name="named", annotations=annotations))
        async with ApiServer(Namespace.KIND, NetworkAttachmentDefinition.KIND) as server, server.client() as kube:
            server.put(network, Namespace(metadata=ObjectMeta(name="plain")), named)
            async with admission_caller(Webhooks(kube, frozenset({4}), REQUESTING)) as http:

                async def resource_of(namespace: str, **metadata: Any) -> Any:
                    document = {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}}
                    asked = review(document)
                    asked["request"]["namespace"] = namespace
                    reply = await (await http.post("/mutate--v1-pod", json=asked)).read()
                    response = msgspec.json.decode(reply)["response"]
                    assert response["allowed"]
                    assert "warnings" not in response
                    operations = msgspec.json.decode(base64.b64decode(response.get("patch", "W10=")))
                    (container,) = patched(document, operations)["spec"]["containers"]
                    return container.get("resources")

                of_network = {AddressRequirement("kube-system/a").resource: "1"}
                assert await resource_of("plain") == {"limits": of_network, "requests": of_network}
                of_pools = {AddressRequirement("kube-system/a", ((4, ("x",)),)).resource: "1"}
                assert await resource_of("named") == {"limits": of_pools, "requests": of_pools}
                assert await resource_of("kube-system") is None
                wrong = {"v1.multus-cni.io/default-network": "a,b"}
                assert await resource_of("plain", annotations=wrong) is None, "the agent says what is wrong"
                owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": True}
                assert await resource_of("plain", ownerReferences=[owner]) is None

    async def test_a_pod_gets_the_readiness_gates_of_load_balancers_where_its_namespace_says_so(self) -> None:
        label = {"k8s.alibabacloud.com/pod-readiness-gate-inject": "enabled"}
        spec = ServiceSpec(type="LoadBalancer", selector={"app": "web"})
        async with ApiServer(Namespace.KIND, Service.KIND) as server, server.client() as kube:
            server.put(Namespace(metadata=ObjectMeta(name="shop", labels=label)))
            server.put(Namespace(metadata=ObjectMeta(name="plain")))
            status = ServiceStatus(LoadBalancerStatus([LoadBalancerIngress(ip="198.51.100.1")]))
            for namespace in ("shop", "plain"):
                server.put(Service(metadata=ObjectMeta(name="web", namespace=namespace), spec=spec, status=status))
            server.put(Service(metadata=ObjectMeta(name="refused", namespace="shop"), spec=spec))
            async with admission_caller(Webhooks(kube, frozenset({4}), GATING)) as http:
                warnings: list[str] = []

                async def gates_in(namespace: str, app: str) -> Any:
                    document = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c"}]}}
                    asked = review(document)
                    asked["request"]["namespace"] = namespace
                    reply = await (await http.post("/mutate--v1-pod", json=asked)).read()
                    response = msgspec.json.decode(reply)["response"]
                    assert response["allowed"]
                    warnings[:] = response.get("warnings", [])
                    operations = msgspec.json.decode(base64.b64decode(response.get("patch", "W10=")))
                    return patched(document, operations)["spec"].get("readinessGates")

                assert await gates_in("shop", "web") == [{"conditionType": "service.readiness.alibabacloud.com/web"}]
                assert "no readiness gate of Service refused, which has no load balancer" in " ".join(warnings)
                assert await gates_in("shop", "other") is None
                assert await gates_in("plain", "web") is None

    async def test_a_pod_is_admitted_without_gates_where_they_cannot_be_told(self) -> None:
        unreachable = ClusterAccess("http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials())
        asked = review({"metadata": {"name": "x"}, "spec": {}})
        asked["request"]["namespace"] = "shop"
        async with Client(unreachable) as kube, admission_caller(Webhooks(kube, frozenset({4}), GATING)) as http:
            reply = await http.post("/mutate--v1-pod", json=asked)
            response = msgspec.json.decode(await reply.read())["response"]
            assert response["allowed"]
            assert "patch" not in response
            assert "no readiness gates of load balancers" in response["warnings"][0]

    async def test_a_pod_is_admitted_without_requests_where_they_cannot_be_told(self) -> None:
        unreachable = ClusterAccess("http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials())
        async with Client(unreachable) as kube, admission_caller(Webhooks(kube, frozenset({4}), REQUESTING)) as http:
            reply = await http.post("/mutate--v1-pod", json=review({"metadata": {"name": "x"}, "spec": {}}))
            response = msgspec.json.decode(await reply.read())["response"]
            assert response["allowed"]
            assert "patch" not in response
            assert "the pod requests no addresses" in response["warnings"][0]

    async def test_an_api_server_that_answers_too_late_holds_up_no_pod(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pod_webhook, "POD_ANSWER_TIMEOUT", 0.2)
        async with ApiServer(Namespace.KIND, NetworkAttachmentDefinition.KIND) as server, server.client() as kube:
            server.inject(Fault("get", times=2, delay=1.0))
            async with admission_caller(Webhooks(kube, frozenset({4}), REQUESTING)) as http:
                reply = await http.post("/mutate--v1-pod", json=review({"metadata": {"name": "x"}, "spec": {}}))
                response = msgspec.json.decode(await reply.read())["response"]
        assert response["allowed"]
        assert "no answer in time" in response["warnings"][0]

    async def test_a_pod_with_very_many_networks_costs_no_reads(self) -> None:
        networks = ",".join(f"n{number}" for number in range(pod_webhook.MOST_POD_NETWORKS))
        document = {"metadata": {"name": "x", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}}, "spec": {}}
        async with ApiServer(Namespace.KIND, NetworkAttachmentDefinition.KIND) as server, server.client() as kube:
            async with admission_caller(Webhooks(kube, frozenset({4}), REQUESTING)) as http:
                reply = await http.post("/mutate--v1-pod", json=review(document))
                response = msgspec.json.decode(await reply.read())["response"]
            assert server.requests["get"] == 0
        assert response["allowed"]
        assert "it names 17 networks" in response["warnings"][0]

    async def test_only_some_reads_for_pods_wait_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pod_webhook, "POD_READS_AT_ONCE", 2)
        async with ApiServer(Namespace.KIND, NetworkAttachmentDefinition.KIND) as server, server.client() as kube:
            server.inject(Fault("get", times=4, delay=0.5))
            async with admission_caller(Webhooks(kube, frozenset({4}), REQUESTING)) as http:
                document = {"metadata": {"name": "x", "annotations": {"k8s.v1.cni.cncf.io/networks": "b,c"}}}
                body = review(document | {"spec": {}})
                body["request"]["namespace"] = "plain"
                asked = asyncio.create_task(http.post("/mutate--v1-pod", json=body))
                await eventually(lambda: server.requests["get"] > 0)
                await asyncio.sleep(0.2)
                assert server.requests["get"] == 2
                assert (await asked).status == 200
            assert server.requests["get"] == 4

    async def test_an_unreachable_api_server_is_reported(self, http: ClientSession) -> None:
        network = {"metadata": {"name": "x", "namespace": "ns"}, "spec": {"cniType": "custom"}}
        reply = msgspec.json.decode(await (await http.post(VALIDATE, json=review(network))).read())
        assert reply["response"]["allowed"] is False
        assert reply["response"]["status"]["code"] == 503

    async def test_a_refusal_of_many_faults_is_short(self, http: ClientSession) -> None:
        """Without a bound the answer to 6 MiB had 380 MiB, and took 11 s in which the event loop stood still."""
        reserved = {"metadata": {"name": "x"}, "spec": {"ipVersion": 4, "ips": ["x" * 15] * 40_000}}
        begun = time.process_time()
        body = await (await http.post(VALIDATE_RESERVED, json=review(reserved))).read()
        assert time.process_time() - begun < 1
        response = msgspec.json.decode(body)["response"]
        assert len(response["status"]["details"]["causes"]) == 50
        assert len(body) < 40_000

    async def test_a_value_without_end_is_not_repeated(self, http: ClientSession) -> None:
        reserved = {"metadata": {"name": "x"}, "spec": {"ipVersion": 4, "ips": ["x" * 1_000_000]}}
        assert len(await (await http.post(VALIDATE_RESERVED, json=review(reserved))).read()) < 2_000

    async def test_a_spec_of_more_values_than_can_be_checked_is_refused(self, http: ClientSession) -> None:
        reserved = {"metadata": {"name": "x"}, "spec": {"ips": [""] * 60_000}}
        reply = msgspec.json.decode(await (await http.post(VALIDATE_RESERVED, json=review(reserved))).read())
        assert "spec: Forbidden: more than 50000 values" in reply["response"]["status"]["message"]
        reply = msgspec.json.decode(await (await http.post(MUTATE, json=review(pool_of(60_000)))).read())
        assert reply["response"] == {"uid": "r", "allowed": True}, "the validation tells"

    @pytest.mark.parametrize("finalizers", [["spiderpool.spidernet.io/in-use"], []])
    async def test_what_is_stored_can_be_changed_and_deleted_whatever_its_size(
        self, http: ClientSession, finalizers: list[str]
    ) -> None:
        """Also by its status alone, which is no part of the count."""
        stored = {**pool_of(60_000), "status": {"allocatedIPs": '"":"",' * 20_000}}
        new = {**stored, "metadata": {**stored["metadata"], "labels": {"a": "b"}, "finalizers": finalizers}}
        reply = await http.post(VALIDATE, data=io.BytesIO(msgspec.json.encode(review(new, stored))))
        assert msgspec.json.decode(await reply.read())["response"]["allowed"]

    async def test_a_long_list_may_be_as_long_in_an_update_as_in_a_creation(self, http: ClientSession) -> None:
        reserved = {"metadata": {"name": "x"}, "spec": {"ipVersion": 4, "ips": ["10.0.0.1"] * 30_000}}
        old = {**reserved, "spec": {"ipVersion": 4, "ips": ["10.0.0.2"] * 30_000}}
        for before in (None, old):
            reply = msgspec.json.decode(
                await (await http.post(VALIDATE_RESERVED, json=review(reserved, before))).read()
            )
            assert reply["response"]["allowed"]

    async def test_health(self, http: ClientSession) -> None:
        assert (await http.get("/webhook-health-check")).status == 200
