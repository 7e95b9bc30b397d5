"""What answers about network load balancers are read as."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cloud.alibaba import nlb_answers
from spiderpool.core.cloud.loadbalancer.values import BackendServer

pytestmark = pytest.mark.unit

BALANCER: dict[str, Any] = {
    "LoadBalancerId": "nlb-1",
    "LoadBalancerName": "web",
    "CreateTime": "2026-01-02T00:00:00Z",
    "Tags": [{"Key": "team", "Value": "a"}, {"TagKey": "app", "TagValue": "b"}],
    "AddressType": "Intranet",
    "DeletionProtectionConfig": {"Enabled": True},
    "SecurityGroupIds": ["sg-2", "sg-1"],
}


def test_a_balancer() -> None:
    assert nlb_answers.tags_of(BALANCER) == {"team": "a", "app": "b"}
    found = nlb_answers.settings_of(BALANCER)
    assert (found["AddressType"], found["DeletionProtectionEnabled"]) == ("Intranet", "true")
    assert (found["ModificationProtectionStatus"], found["SecurityGroupIds"]) == ("NonProtection", "sg-1,sg-2")


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        ({}, True),
        ({"LoadBalancerIds": ["nlb-1"]}, True),
        ({"LoadBalancerIds": ["nlb-2"]}, False),
        ({"LoadBalancerNames": ["other"]}, False),
        ({"Tag": [{"Key": "app", "Value": "b"}]}, True),
        ({"Tag": [{"Key": "app", "Value": "c"}]}, False),
    ],
)
def test_what_a_filter_that_the_cloud_ignored_would_let_through(request_: dict[str, Any], fits: bool) -> None:
    assert nlb_answers.fits(BALANCER, request_) is fits


def test_a_listener() -> None:
    described: dict[str, Any] = {
        "ListenerId": "lsn-1",
        "ListenerProtocol": "TCPSSL",
        "ListenerPort": 443,
        "StartPort": 0,
        "ServerGroupId": "sgp-1",
        "ListenerStatus": "Stopping",
        "CertificateIds": ["cert-1"],
    }
    found = nlb_answers.listener_of(described, {"sgp-1": "k8s.443"})
    assert (found.port, found.protocol, found.group, found.running) == (443, "tcpssl", "k8s.443", False)
    assert found.settings["CertificateIds"] == "cert-1"
    assert not {*nlb_answers.RANGE} & found.settings.keys()
    of_range = nlb_answers.listener_of({**described, "ListenerPort": 0, "StartPort": 80, "EndPort": 90}, {})
    assert (of_range.port, of_range.settings["EndPort"], of_range.group) == (80, "90", "sgp-1")


def test_the_settings_of_a_group() -> None:
    found = nlb_answers.group_settings_of({"Scheduler": "WRR", "HealthCheck": {"HealthCheckEnabled": True}})
    assert found["Scheduler"] == "Wrr"
    assert found["HealthCheckConfig.HealthCheckEnabled"] == "true"
    assert found["IpVersionAffinityMode"] == "NonAffinity"


def test_a_server() -> None:
    node = {"ServerId": "i-a", "ServerType": "Ecs", "Port": 30080, "ServerIp": "10.0.0.1"}
    assert nlb_answers.server_of(node) == BackendServer("i-a", "instance", 30080)
    pod = {"ServerId": "10.0.0.1", "ServerType": "Ip", "Port": 80, "ServerIp": "10.0.0.1", "Weight": 0}
    assert nlb_answers.server_of(pod) == BackendServer("10.0.0.1", "address", 80, 0, "10.0.0.1")
