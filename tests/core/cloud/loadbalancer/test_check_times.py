"""How long a new server waits: until the slowest of the checks that look at it has found it well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.adoption import adapted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.check_times import SETTLING_MARGIN, is_off, present_parts, settling_time
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, ServerGroup
from tests.core.pretend_balancers import HTTP, endpoints, model_of, node, options, reached, service

pytestmark = pytest.mark.unit

LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}
DNS = {"port": 53, "protocol": "UDP", "nodePort": 30053}
SNAPSHOT = BackendSnapshot([node("a"), node("b")], [endpoints(("10.0.0.1", "a"))])
LENT = {"id": "lb-u", "vgroup-port": "rsp-u:80"}


def classic(*ports: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> LoadBalancerModel:
    return model_of(service(*(ports or (HTTP,)), annotations=annotations or {}, **spec), SNAPSHOT)


@pytest.mark.parametrize(
    ("kind", "given", "seconds"),
    [
        ("clb", {}, 7.0),
        ("nlb", {}, 11.0),
        ("clb", {"healthy-threshold": "2", "health-check-interval": "10"}, 21.0),
    ],
)
def test_how_long_a_balancer_takes_to_find_a_server_well(kind: str, given: dict[str, str], seconds: float) -> None:
    assert settling_time(options(kind, given), ()) == seconds


@pytest.mark.parametrize("ports", [(DNS,), (HTTP, DNS), (DNS, HTTP)])
def test_a_listener_that_asks_nodes_nothing_is_waited_for_as_well(ports: tuple[dict[str, Any], ...]) -> None:
    found = classic(*ports, **LOCAL)
    udp = next(each.settings for each in found.listeners if each.protocol == "udp")
    checks = int(udp["HealthyThreshold"]) * int(udp["HealthCheckInterval"])
    assert checks + SETTLING_MARGIN == found.settling == 7.0
    assert adapted(found, reached(found, None)).settling == found.settling
    assert classic(HTTP, **LOCAL).settling == 5.0


def test_until_a_check_is_changed_servers_are_waited_for_as_long_as_it_takes() -> None:
    slow = reached(classic(annotations={"health-check-interval": "30"}), None)
    assert adapted(classic(), slow).settling == 3 * 30 + SETTLING_MARGIN
    assert adapted(classic(), reached(classic(), slow)).settling == classic().settling


def test_checks_of_other_ports_are_not_waited_for() -> None:
    usual = reached(classic(), None)
    (listener,) = usual.listeners
    other = replace(listener, port=81, group="other", settings={**listener.settings, "HealthCheckInterval": "50"})
    assert adapted(classic(), replace(usual, listeners=(listener, other))).settling == classic().settling
    assert [*present_parts(replace(usual, listeners=(listener, other)), classic().groups)] == [listener, *usual.groups]


def test_a_check_that_is_switched_off_takes_no_time() -> None:
    slow = {"HealthyThreshold": "10", "HealthCheckInterval": "50"}
    for settings, seconds in ((slow, 501.0), ({**slow, "HealthCheckSwitch": "off"}, 7.0)):
        assert settling_time(options("clb", {}), [Listener(80, "tcp", "", settings=settings)]) == seconds
    assert is_off({"HealthCheckConfig.HealthCheckEnabled": "false"}, NLB.set_by.group)
    assert is_off({"HealthCheck": "off"}, CLB.set_by.listener)
    assert not is_off({"HealthCheckSwitch": "on"}, CLB.set_by.listener)
    assert not is_off({}, CLB.set_by.listener)


def test_in_a_users_group_servers_are_checked_as_the_user_says() -> None:
    settings = {"HealthyThreshold": "5", "HealthCheckInterval": "20"}
    console = Listener(8080, "tcp", "mine", "rsp-u", settings)
    classic_one = ObservedLoadBalancer("lb-u", "mine", "", listeners=(console,), groups=(_lent({}),))
    assert adapted(classic(annotations=LENT), classic_one).settling == 5 * 20 + SETTLING_MARGIN
    given = {"zone-maps": "h:v,i:w", **LENT}
    network = model_of(service(HTTP, annotations=given, loadBalancerClass="alibabacloud.com/nlb"), SNAPSHOT)
    checked = _lent({f"HealthCheckConfig.{key}": value for key, value in settings.items()})
    assert adapted(network, ObservedLoadBalancer("lb-u", "mine", "", groups=(checked,))).settling == 101.0


def _lent(settings: dict[str, str]) -> ServerGroup:
    return ServerGroup("rsp-u", settings, identity="rsp-u", is_lent=True)
