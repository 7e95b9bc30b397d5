"""What answers about classic load balancers are read as."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cloud.alibaba import clb_answers
from spiderpool.core.cloud.alibaba.clb import DEFAULTS
from spiderpool.core.cloud.loadbalancer.values import BackendServer

pytestmark = pytest.mark.unit

BALANCER: dict[str, Any] = {
    "LoadBalancerId": "lb-1",
    "LoadBalancerName": "web",
    "CreateTime": "2026-01-02T00:00:00Z",
    "Tags": {"Tag": [{"TagKey": "team", "TagValue": "a"}]},
    "InternetChargeType": "4",
    "Bandwidth": 5,
    "MasterZoneId": "",
}


def test_a_balancer() -> None:
    assert clb_answers.tags_of(BALANCER) == {"team": "a"}
    settings = {"LoadBalancerName": "web", "Bandwidth": "5", "InternetChargeType": "paybytraffic"}
    assert clb_answers.settings_of(BALANCER) == settings
    named = clb_answers.settings_of({**BALANCER, "InternetChargeTypeAlias": "paybybandwidth"})
    assert named["InternetChargeType"] == "paybybandwidth"


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        ({}, True),
        ({"LoadBalancerId": "lb-1"}, True),
        ({"LoadBalancerId": "lb-2"}, False),
        ({"LoadBalancerName": "other"}, False),
        ({"Tag": [{"Key": "team", "Value": "a"}]}, True),
        ({"Tag": [{"Key": "team", "Value": "b"}]}, False),
    ],
)
def test_what_a_filter_that_the_cloud_ignored_would_let_through(request_: dict[str, Any], fits: bool) -> None:
    assert clb_answers.fits(BALANCER, request_) is fits


def test_a_listener() -> None:
    described: dict[str, Any] = {
        "ListenerProtocol": "TCP",
        "ListenerPort": 80,
        "VServerGroupId": "rsp-1",
        "Status": "stopped",
        "AclIds": {"AclId": ["acl-2", "acl-1"]},
        "TCPListenerConfig": {"HealthCheck": "off", "HealthCheckConnectPort": 0},
    }
    found = clb_answers.listener_of(described, {"rsp-1": "k8s/80"})
    assert (found.port, found.protocol, found.group, found.running) == (80, "tcp", "k8s/80", False)
    assert found.settings["HealthCheckSwitch"] == "off"
    assert found.settings["AclId"] == "acl-1,acl-2"
    assert found.settings.get("HealthCheckConnectPort") == DEFAULTS["tcp"].get("HealthCheckConnectPort")
    flat = clb_answers.listener_of({**described, "AclIds": ["acl-3"], "VServerGroupId": "rsp-9"}, {})
    assert (flat.group, flat.settings["AclId"]) == ("rsp-9", "acl-3")


def test_a_server() -> None:
    node = {"ServerId": "i-a", "Type": "ecs", "Port": 30080, "ServerIp": "10.0.0.1"}
    assert clb_answers.server_of(node) == BackendServer("i-a", "instance", 30080)
    pod = {"ServerId": "eni-a", "Type": "eni", "Port": 80, "ServerIp": "10.0.0.1", "Weight": 0}
    assert clb_answers.server_of(pod) == BackendServer("eni-a", "eni", 80, 0, "10.0.0.1")
