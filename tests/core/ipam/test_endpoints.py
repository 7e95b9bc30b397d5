"""The SpiderEndpoint that is made from a pod's records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core.ipam.endpoints import endpoint, is_current, is_held
from spiderpool.core.ipam.owners import Controller

pytestmark = pytest.mark.unit

POOLS = {
    "four": SpiderIPPool(
        metadata=ObjectMeta(name="four"),
        spec=IPPoolSpec("10.6.0.0/16", gateway="10.6.255.254", routes=[Route("10.7.0.0/16", "10.6.0.254")]),
    ),
    "six": SpiderIPPool(metadata=ObjectMeta(name="six"), spec=IPPoolSpec("fd00::/64")),
}
WEB = Controller("apps/v1", "Deployment", "shop", "web", "d-1")


def pod(**annotations: str) -> Pod:
    keys = {f"ipam.spidernet.io/{key}": value for key, value in annotations.items()}
    return Pod(
        metadata=ObjectMeta(name="web-1", namespace="shop", uid="u-1", annotations=keys),
        spec=PodSpec(nodeName="n1"),
    )


def record(address: str, pool: str, interface: str = "eth0", **spec: Any) -> SpiderIP:
    name = address.partition("/")[0]
    return SpiderIP(
        metadata=ObjectMeta(name=name), spec=IPSpec(address, pool, "n1", "shop", "web-1", "u-1", interface, **spec)
    )


def shown(of: Pod, *records: SpiderIP, top: Controller | None = WEB) -> Any:
    made = endpoint(of, records, POOLS, top)
    return msgspec.to_builtins(made.status) if made else None


def test_all_interfaces_and_families_eth0_first() -> None:
    six, net1, eth0 = record("fd00::7/64", "six"), record("10.9.0.1/24", "gone", "net1"), record("10.6.0.7/16", "four")
    assert shown(pod(), net1, six, eth0) == {
        "current": {
            "uid": "u-1",
            "node": "n1",
            "ips": [
                {
                    "interface": "eth0",
                    "ipv4": "10.6.0.7/16",
                    "ipv4Pool": "four",
                    "ipv4Gateway": "10.6.255.254",
                    "ipv6": "fd00::7/64",
                    "ipv6Pool": "six",
                    "vlan": 0,
                    "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.254"}],
                },
                {"interface": "net1", "ipv4": "10.9.0.1/24", "ipv4Pool": "gone", "vlan": 0},
            ],
        },
        "ownerControllerType": "Deployment",
        "ownerControllerName": "web",
    }


def test_routes_and_clean_gateway_that_the_pod_asks_for() -> None:
    annotated = pod(
        routes='[{"dst":"10.8.0.0/16","gw":"10.6.0.9"},{"dst":"10.8.0.0/16","gw":"10.99.0.1"}]',
        ippools='[{"interface":"eth0","ipv4":["four"],"cleangateway":true}]',
    )
    (detail,) = shown(annotated, record("10.6.0.7/16", "four"))["current"]["ips"]
    assert detail["cleanGateway"] is True
    assert detail["routes"] == [{"dst": "10.7.0.0/16", "gw": "10.6.0.254"}, {"dst": "10.8.0.0/16", "gw": "10.6.0.9"}]


def test_annotations_that_cannot_be_read_are_ignored() -> None:
    (detail,) = shown(pod(routes="x", ippools="y"), record("10.6.0.7/16", "four"))["current"]["ips"]
    assert "cleanGateway" not in detail


def test_a_bare_pod_is_its_own_owner_and_a_pod_without_records_has_no_endpoint() -> None:
    status = shown(pod(), record("10.6.0.7/16", "four"), top=None)
    assert (status["ownerControllerType"], status["ownerControllerName"]) == ("Pod", "web-1")
    assert shown(pod()) is None


def test_a_released_record_is_not_held() -> None:
    assert is_held(record("10.6.0.7/16", "four"))
    assert not is_held(record("10.6.0.7/16", "four", releasedAt="2026-01-01T00:00:00Z"))


def test_it_belongs_to_its_pod_and_is_not_current_with_a_finalizer() -> None:
    wanted = endpoint(pod(), [record("10.6.0.7/16", "four")], POOLS, WEB)
    assert wanted is not None
    assert wanted.metadata.ownerReferences == [OwnerReference("v1", "Pod", "web-1", "u-1")]
    assert wanted.metadata.finalizers is None
    assert is_current(wanted, wanted)
    for change in ({"finalizers": ["x"]}, {"ownerReferences": None}, {"deletionTimestamp": "x"}):
        metadata = msgspec.structs.replace(wanted.metadata, **change)
        assert not is_current(msgspec.structs.replace(wanted, metadata=metadata), wanted)
