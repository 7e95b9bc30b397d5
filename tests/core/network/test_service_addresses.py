"""Which addresses of Services pods reach through their node."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.network import service_addresses
from spiderpool.core.network.service_addresses import (
    PROXY_NAME,
    PoolAddresses,
    ServiceAddress,
    addresses_of,
    bounded,
    has_address,
    has_family,
    listed_addresses,
    objection,
)

pytestmark = pytest.mark.unit

BOTH = ("LoadBalancer", "ExternalIP")
BALANCER, EXTERNAL = "198.51.100.65", "203.0.113.250"


def service(*ingress: LoadBalancerIngress, labels: dict[str, str] | None = None, **spec: Any) -> Service:
    fields = {"type": "LoadBalancer", "clusterIP": "10.233.0.5", "externalIPs": [EXTERNAL]} | spec
    return Service(
        metadata=ObjectMeta(name="s", namespace="n", labels=labels),
        spec=ServiceSpec(**fields),
        status=ServiceStatus(LoadBalancerStatus(list(ingress or [LoadBalancerIngress(ip=BALANCER)]))),
    )


def texts(found: Service, *kinds: str) -> list[str]:
    return [str(each.address) for each in addresses_of(found, kinds or BOTH)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (service(), [BALANCER, EXTERNAL]),
        (service(type="ClusterIP"), [EXTERNAL]),
        (service(LoadBalancerIngress(ip=BALANCER, ipMode="VIP")), [BALANCER, EXTERNAL]),
        (service(LoadBalancerIngress(ip=BALANCER, ipMode="Proxy")), [EXTERNAL]),
        (service(LoadBalancerIngress(hostname="nlb.example.com")), [EXTERNAL]),
        (service(clusterIP="None"), []),
        (service(labels={PROXY_NAME: "other"}), []),
        (service(ipFamilies=["IPv6"], externalIPs=["2001:db8::1"]), ["2001:db8::1"]),
        (service(externalIPs=["169.254.1.1", "127.0.0.1", "224.0.0.1", "nonsense"]), [BALANCER]),
    ],
)
def test_what_kube_proxy_serves(found: Service, expected: list[str]) -> None:
    assert texts(found) == expected


@pytest.mark.parametrize(("left_to_balancer", "balancers"), [(True, ["10.0.0.1", BALANCER]), (False, [BALANCER])])
def test_what_is_listed(left_to_balancer: bool, balancers: list[str]) -> None:
    ingress = (LoadBalancerIngress(ip="10.0.0.1", ipMode="Proxy"), LoadBalancerIngress(ip=BALANCER))
    found = service(*ingress, externalIPs=["nonsense"], clusterIP="None")
    listed = [*(("LoadBalancer", text) for text in balancers), ("ExternalIP", "nonsense")]
    assert list(listed_addresses(found, left_to_balancer=left_to_balancer)) == listed


@pytest.mark.parametrize(("families", "versions"), [(None, [4, 6]), (["IPv6"], [6]), (["IPv4", "IPv6"], [4, 6])])
def test_the_families_of_a_service(families: list[str] | None, versions: list[int]) -> None:
    assert [version for version in (4, 6) if has_family(service(ipFamilies=families), version)] == versions


def test_kinds_that_are_switched_off() -> None:
    assert texts(service(), "LoadBalancer") == [BALANCER]
    assert texts(service(), "ExternalIP") == [EXTERNAL]
    assert list(addresses_of(service(), ())) == []


def pool(**spec: Any) -> SpiderIPPool:
    fields = {"subnet": "172.31.192.0/20", "ips": ["172.31.199.187-172.31.199.189"], "gateway": "172.31.207.253"}
    return SpiderIPPool(metadata=ObjectMeta(name="p"), spec=IPPoolSpec(**fields | spec))


@pytest.mark.parametrize(
    ("address", "kind", "reason"),
    [
        ("172.31.207.253", "LoadBalancer", "it is the gateway of pool p"),
        ("172.31.199.188", "LoadBalancer", "pool p gives it to pods"),
        ("172.31.200.1", "LoadBalancer", None),
        ("172.31.199.189", "LoadBalancer", None),
        ("172.31.200.1", "ExternalIP", "an externalIP in 172.31.192.0/20, the subnet of pool p, may be another"),
        ("100.100.2.136", "LoadBalancer", None),
        ("100.100.2.136", "ExternalIP", "an externalIP in 100.100.0.0/16 may be of a cloud's own services"),
    ],
)
def test_addresses_that_pods_keep_their_own_way_to(address: str, kind: str, reason: str | None) -> None:
    found = objection(
        ServiceAddress(ip_address(address), kind), [PoolAddresses.of(pool(excludeIPs=["172.31.199.189"]))]
    )
    assert (found or "").startswith(reason or "")
    assert (found is None) == (reason is None)


@pytest.mark.parametrize("address", ["100.100.100.200", "fd00:ec2::254"])
@pytest.mark.parametrize("kind", BOTH)
def test_no_service_takes_what_is_sent_to_a_metadata_service(address: str, kind: str) -> None:
    assert "metadata" in (objection(ServiceAddress(ip_address(address), kind), []) or "")


def test_pools_that_are_malformed_object_to_nothing() -> None:
    assert objection(ServiceAddress(ip_address(BALANCER), "LoadBalancer"), [PoolAddresses.of(pool(ips=["x"]))]) is None
    assert not has_address("x", ip_address(BALANCER))
    assert has_address("198.51.100.0/24", ip_address(BALANCER))


def test_balancers_go_first_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_addresses, "LIMIT", 2)
    found = [
        ServiceAddress(ip_address(text), kind)
        for text, kind in (
            ("10.0.0.1", "ExternalIP"),
            ("10.0.0.10", "LoadBalancer"),
            ("10.0.0.9", "LoadBalancer"),
            ("10.0.0.9", "ExternalIP"),
        )
    ]
    assert bounded(found) == (["10.0.0.9", "10.0.0.10"], 1)
    assert bounded(found[:2]) == (["10.0.0.1", "10.0.0.10"], 0)
