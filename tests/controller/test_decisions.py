"""What the controller decides before it speaks to anybody, and what it answers to nonsense."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import Condition, ObjectMeta
from spiderpool.controller.coordinator import ClusterCIDRs, cidrs, flag_networks, kubeadm_networks
from spiderpool.controller.pools import MAX_RANGES, MAX_VIEW, status_of
from spiderpool.controller.webhooks import Webhooks, json_patch
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MUTATE = "/mutate-spiderpool-spidernet-io-v2beta1-spiderippool"
VALIDATE = "/validate-spiderpool-spidernet-io-v2beta1-spidermultusconfig"


def pool(subnet: str = "10.6.0.0/16", *ips: str) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec(subnet=subnet, ips=list(ips)))


def holder(address: str) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=address), spec=IPSpec(f"{address}/16", "p", "n", "ns", "web", "u", "eth0"))


class TestPoolStatus:
    def test_nobody(self) -> None:
        assert status_of(pool("10.6.0.0/16", "10.6.0.1-10.6.0.9"), [], NOW) == IPPoolStatus(None, 9, 0, [])

    def test_some(self) -> None:
        holders = [holder(f"10.6.0.{n}") for n in (9, 10, 2)]
        entry = '{"pod":"ns/web","podUid":"u"}'
        view = f'{{"10.6.0.10":{entry},"10.6.0.2":{entry},"10.6.0.9":{entry}}}'
        assert status_of(pool(), holders, NOW) == IPPoolStatus(view, 0, 3, ["10.6.0.2", "10.6.0.9-10.6.0.10"])

    def test_too_many_for_the_hint_and_the_view(self) -> None:
        scattered = [holder(f"10.6.{n // 100}.{n % 100 * 2}") for n in range(MAX_RANGES + 1)]
        status = status_of(pool(), scattered, NOW)
        assert status.allocatedRanges is None
        assert status.allocatedIPs is not None
        assert status.conditions is not None
        assert "allocatedRanges" in status.conditions[0].message
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        status = status_of(pool(), dense, NOW)
        assert status.allocatedRanges == ["10.6.0.0-10.6.7.208"]
        assert status.allocatedIPs is None
        assert status.allocatedIPCount == MAX_VIEW + 1
        (condition,) = status.conditions or [Condition("", "", "", "")]
        assert (condition.type, condition.status) == ("AllocationsPublished", "False")
        assert "allocatedIPs" in condition.message
        assert "ipam.spidernet.io/ippool=p" in condition.message
        assert condition.lastTransitionTime == "2026-01-01T00:00:00Z"

    def test_what_is_left_out_has_been_so_since_it_began(self) -> None:
        dense = [holder(f"10.6.{n // 256}.{n % 256}") for n in range(MAX_VIEW + 1)]
        before = replace(pool(), status=status_of(pool(), dense, NOW))
        assert status_of(before, dense, NOW + timedelta(hours=1)) == before.status
        assert status_of(before, dense[:-1], NOW).conditions is None

    def test_sizes_that_no_integer_of_the_api_holds_and_pools_that_cannot_be_read(self) -> None:
        assert status_of(pool("fd00::/64", "fd00::-fd00::ffff:ffff:ffff:ffff"), [], NOW).totalIPCount == 2**63 - 1
        assert status_of(pool("10.6.0.0/16", "x"), [], NOW).totalIPCount == 0


class TestClusterNetworks:
    @pytest.mark.parametrize(
        ("text", "networks"),
        [
            (
                'networking:\n  podSubnet: "10.244.0.0/16, fd00:10::/56"\n  serviceSubnet: 10.96.0.0/12\n',
                ClusterCIDRs(("10.244.0.0/16", "fd00:10::/56"), ("10.96.0.0/12",)),
            ),
            ("networking: {serviceSubnet: 10.96.0.0/12}", ClusterCIDRs((), ("10.96.0.0/12",))),
            ("networking: [1]", ClusterCIDRs()),
            ("a: b: c", ClusterCIDRs()),
            ("", ClusterCIDRs()),
        ],
    )
    def test_kubeadm(self, text: str, networks: ClusterCIDRs) -> None:
        assert kubeadm_networks(text) == networks

    def test_flags(self) -> None:
        words = ["kube-controller-manager", "--cluster-cidr=10.1.0.0/16,x", "--service-cluster-ip-range", "10.2.0.0/16"]
        assert flag_networks(words) == ClusterCIDRs(("10.1.0.0/16",), ("10.2.0.0/16",))
        assert flag_networks(["--leader-elect"]) == ClusterCIDRs()

    def test_only_cidrs(self) -> None:
        assert cidrs([None, "10.0.0.1", "10.0.0.0/8 fd00::/8", 7]) == ("10.0.0.0/8", "fd00::/8")


def patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after the operations: as much of RFC 6902 as we emit."""
    document = json.loads(json.dumps(document))
    for operation in operations:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")]
        if not way:
            document = operation["value"]
            continue
        parent = document
        for part in way[1:]:
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
    def test_it_turns_one_document_into_the_other(self, before: Any, after: Any) -> None:
        assert patched(before, list(json_patch(before, after))) == after

    @given(JSON)
    def test_no_difference_no_patch(self, document: Any) -> None:
        assert list(json_patch(document, document)) == []


@pytest.fixture
async def http() -> AsyncIterator[TestClient[Any, Any]]:
    nowhere = ClusterAccess(
        "http://127.0.0.1:9", ssl.create_default_context(), ClientCredentials()
    )  # the port of discard
    async with Client(nowhere) as unreachable:
        application = Webhooks(unreachable, frozenset({4, 6})).application()
        async with TestClient(TestServer(application)) as client:
            yield client


def review(new: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    request = {"uid": "r", "operation": "CREATE", "name": "x", "object": new, "oldObject": old}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


class TestWebhooks:
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"request":{}}', b'{"request":null}', b"\xff"])
    async def test_what_is_no_review_is_a_bad_request(self, http: TestClient[Any, Any], body: bytes) -> None:
        for path in (MUTATE, VALIDATE):
            reply = await http.post(path, data=body)
            assert reply.status == 400
            assert "AdmissionReview" in await reply.text()

    async def test_the_patch_touches_only_what_we_change(self, http: TestClient[Any, Any]) -> None:
        metadata = {"name": "x", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}]}
        spec = {"subnet": "10.6.0.0/16", "routes": [], "future": {"field": 1}}
        document = {"metadata": metadata, "spec": spec}
        reply = msgspec.json.decode(await (await http.post(MUTATE, json=review(document))).read())
        assert reply["response"]["uid"] == "r"
        assert patched(document, msgspec.json.decode(base64.b64decode(reply["response"]["patch"]))) == {
            "metadata": {
                **metadata,
                "labels": {"a": "b", "ipam.spidernet.io/ippool-cidr": "10-6-0-0-16"},
                "finalizers": ["spiderpool.spidernet.io"],
            },
            "spec": {**spec, "ipVersion": 4},
        }

    async def test_objects_of_the_wrong_shape_are_left_to_the_schema(self, http: TestClient[Any, Any]) -> None:
        for new in ({"spec": {"subnet": 7}}, {"spec": None}, {}):
            reply = msgspec.json.decode(await (await http.post(MUTATE, json=review(new))).read())
            assert reply["response"] == {"uid": "r", "allowed": True}
        reply = msgspec.json.decode(await (await http.post(VALIDATE, json=review({"spec": 7}))).read())
        assert reply["response"]["allowed"] is False
        assert reply["response"]["status"]["code"] == 422
        assert "$.spec" in reply["response"]["status"]["message"]

    async def test_an_api_server_out_of_reach_is_told(self, http: TestClient[Any, Any]) -> None:
        network = {"metadata": {"name": "x", "namespace": "ns"}, "spec": {"cniType": "custom"}}
        reply = msgspec.json.decode(await (await http.post(VALIDATE, json=review(network))).read())
        assert reply["response"]["allowed"] is False
        assert reply["response"]["status"]["code"] == 503

    async def test_health(self, http: TestClient[Any, Any]) -> None:
        assert (await http.get("/webhook-health-check")).status == 200
