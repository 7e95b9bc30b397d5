"""With policy Local the health checks ask nodes at the Service's healthCheckNodePort; annotations come first."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.check_times import SETTLING_MARGIN
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.node_checks import (
    PORT,
    is_of_node_check,
    with_check_alone,
    with_node_check,
    with_present_check,
    without_node_check,
)
from spiderpool.core.cloud.loadbalancer.values import Listener, Settings
from tests.core.pretend_balancers import HTTP, endpoints, model_of, node, options, service

pytestmark = pytest.mark.unit

LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}
NETWORK: dict[str, Any] = {"loadBalancerClass": "alibabacloud.com/nlb"}
DNS = {"port": 53, "protocol": "UDP", "nodePort": 30053}
SNAPSHOT = BackendSnapshot([node("a"), node("b")], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"})
NOTICED = 3.0
"""Seconds in which a pod that is ready becomes a server, or its node."""
_CHECK = "HealthCheckConfig."


def classic(*ports: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> LoadBalancerModel:
    return model_of(service(*(ports or (HTTP,)), annotations=annotations or {}, **spec), SNAPSHOT)


def network(*ports: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> LoadBalancerModel:
    given = {"zone-maps": "h:v,i:w"} | (annotations or {})
    return model_of(service(*(ports or (HTTP,)), annotations=given, **NETWORK, **spec), SNAPSHOT)


def question(model: LoadBalancerModel) -> tuple[str, ...]:
    """Type, port and path of the check of the first listener or group."""
    settings = {**model.listeners[0].settings, **model.groups[0].settings}
    names = ("HealthCheckType", "HealthCheckConnectPort", "HealthCheckURI", "HealthCheckUrl")
    keys = [f"{prefix}{name}" for name in names for prefix in ("", _CHECK)]
    return tuple(settings[key] for key in keys if key in settings)


@pytest.mark.reference_case("spec.healthCheckNodePort")
def test_nodes_are_asked_whether_they_have_ready_pods() -> None:
    assert question(classic(**LOCAL)) == ("http", "31999", "/healthz")
    assert question(network(**LOCAL)) == ("HTTP", "31999", "/healthz")
    assert network(**LOCAL).groups[0].settings[f"{_CHECK}HealthCheckHttpCode"] == "http_2xx"


@pytest.mark.parametrize("spec", [{}, {"externalTrafficPolicy": "Local"}, {"healthCheckNodePort": 31999}])
def test_nodes_that_serve_all_pods_are_checked_where_they_get_their_traffic(spec: dict[str, Any]) -> None:
    assert question(classic(**spec)) == ("tcp", "-520")
    assert question(network(**spec)) == ("TCP", "0")


@pytest.mark.parametrize("model", [classic, network])
def test_pods_are_not_asked(model: Any) -> None:
    usual = question(model(annotations={BACKEND_TYPE: "eni"}))
    assert question(model(annotations={BACKEND_TYPE: "eni"}, **LOCAL)) == usual
    without = {"port": 80, "nodePort": None}
    assert question(model(without, allocateLoadBalancerNodePorts=False, **LOCAL)) == usual


def test_a_classic_balancer_checks_udp_by_udp_alone_and_a_network_balancer_also_by_http() -> None:
    (dns,) = classic(DNS, **LOCAL).listeners
    assert (dns.settings["HealthCheckConnectPort"], dns.settings["UnhealthyThreshold"]) == ("-520", "3")
    assert "HealthCheckType" not in dns.settings
    assert question(network(DNS, **LOCAL)) == ("HTTP", "31999", "/healthz")
    assert question(network(DNS)) == ("UDP", "0")


def test_an_http_listener_asks_where_its_check_is_on() -> None:
    given = {"protocol-port": "http:80"}
    (off,) = classic(annotations=given, **LOCAL).listeners
    assert "HealthCheckConnectPort" not in off.settings
    (on,) = classic(annotations={**given, "health-check-flag": "on"}, **LOCAL).listeners
    assert (on.settings["HealthCheckConnectPort"], on.settings["HealthCheckURI"]) == ("31999", "/healthz")


@pytest.mark.parametrize(
    "annotations",
    [
        {"health-check-type": "tcp"},
        {"health-check-connect-port": "8080"},
        {"health-check-uri": "/ready"},
        {"health-check-domain": "example.com"},
        {"health-check-method": "get"},
        {"health-check-httpcode": "http_2xx,http_3xx"},
        {"id": "lb-1", "force-override-listeners": "true", "vgroup-port": "rsp-1:80"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_an_annotation_about_what_is_checked_and_a_group_of_the_users_come_first(annotations: dict[str, str]) -> None:
    assert question(classic(annotations=annotations, **LOCAL)) == question(classic(annotations=annotations))


def test_annotations_about_the_times_apply_to_this_check_as_well() -> None:
    given = {"health-check-interval": "9", "unhealthy-threshold": "7", "healthy-threshold": "4"}
    settings = classic(annotations=given, **LOCAL).listeners[0].settings
    times = ("HealthCheckInterval", "UnhealthyThreshold", "HealthyThreshold", "HealthCheckConnectPort")
    assert [settings[each] for each in times] == ["9", "7", "4", "31999"]
    off = classic(annotations={"health-check-switch": "off"}, **LOCAL).listeners[0].settings
    assert "HealthCheckConnectPort" not in off


@pytest.mark.parametrize("model", [classic(**LOCAL), network(**LOCAL)], ids=["clb", "nlb"])
def test_another_node_is_found_well_before_the_one_whose_pods_end_is_found_ill(model: LoadBalancerModel) -> None:
    options = model.options
    interval, bad = int(options["health-check-interval"]), int(options["unhealthy-threshold"])
    assert model.settling == int(options["healthy-threshold"]) * interval + SETTLING_MARGIN
    assert (bad - 1) * interval - model.settling >= NOTICED


def test_the_default_of_a_service_comes_before_that_of_the_annotation_and_after_what_is_given() -> None:
    asking = with_node_check(options("clb", {"unhealthy-threshold": "8"}), 31999)
    assert (asking[PORT], asking["unhealthy-threshold"], asking["healthy-threshold"]) == ("31999", "8", "2")
    usual = without_node_check(asking)
    assert (usual[PORT], usual["unhealthy-threshold"], usual["healthy-threshold"]) == ("-520", "8", "3")


@pytest.mark.parametrize(
    ("settings", "sources", "expected"),
    [
        (classic(**LOCAL).listeners[0].settings, CLB.set_by.listener, True),
        (network(**LOCAL).groups[0].settings, NLB.set_by.group, True),
        (network(DNS, **LOCAL).groups[0].settings, NLB.set_by.group, True),
        ({"HealthCheckConnectPort": "31999", "HealthCheckURI": "/healthz"}, CLB.set_by.listener, True),
        (classic().listeners[0].settings, CLB.set_by.listener, False),
        ({"HealthCheckType": "tcp", "HealthCheckURI": "/healthz"}, CLB.set_by.listener, False),
        ({"HealthCheckType": "http", "HealthCheckURI": "/"}, CLB.set_by.listener, False),
    ],
)
def test_such_a_check_is_recognised(settings: Settings, sources: dict[str, str], *, expected: bool) -> None:
    assert is_of_node_check(settings, sources) is expected


def test_a_listener_that_stays_is_checked_as_before_and_follows_its_other_annotations() -> None:
    pods = classic(annotations={BACKEND_TYPE: "eni"}).listeners[0]
    nodes = classic(annotations={"established-timeout": "60"}, **LOCAL)
    found = with_present_check(nodes.listeners[0], pods, nodes.options).settings
    assert (found["HealthCheckType"], found["HealthCheckConnectPort"], found["EstablishedTimeout"]) == (
        "tcp",
        "-520",
        "60",
    )
    usual = Listener(80, "tcp", "", settings={"HealthCheckConnectPort": "31999"})
    assert with_present_check(pods, usual, options("clb", {})).settings == pods.settings


def test_a_check_alone_leaves_all_other_settings() -> None:
    present = {"HealthCheckConnectPort": "31999", "AclStatus": "on", "Unknown": "1"}
    desired = {"HealthCheckConnectPort": "-520", "AclStatus": "off", "AclId": "acl-1", "HealthCheckType": "tcp"}
    expected = {"HealthCheckConnectPort": "-520", "AclStatus": "on", "HealthCheckType": "tcp"}
    assert with_check_alone(present, desired, CLB.set_by.listener) == expected
    off = {"HealthCheckSwitch": "off"}
    assert with_check_alone({**present, "HealthCheckSwitch": "on"}, off, CLB.set_by.listener) == off
