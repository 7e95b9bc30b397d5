"""Changes of the policy while a balancer serves: at no time is every server checked where it does not answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.alibaba.naming import ORIGIN_TAG
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.check_steps import changes_check, outdated_checks
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.steps import AddServers, ParameterChange, SetGroup, SetListener
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.pretend_balancers import HTTP, carried_out, endpoints, model_of, node, reached, service

pytestmark = pytest.mark.unit

LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}
NETWORK: dict[str, Any] = {"loadBalancerClass": "alibabacloud.com/nlb"}
PODS = {BACKEND_TYPE: "eni"}
SNAPSHOT = BackendSnapshot([node("a"), node("b")], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"})


def classic(annotations: dict[str, str] | None = None, **spec: Any) -> LoadBalancerModel:
    return model_of(service(HTTP, annotations=annotations or {}, **spec), SNAPSHOT)


def network(annotations: dict[str, str] | None = None, **spec: Any) -> LoadBalancerModel:
    given = {"zone-maps": "h:v,i:w"} | (annotations or {})
    return model_of(service(HTTP, annotations=given, **NETWORK, **spec), SNAPSHOT)


def made(model: LoadBalancerModel) -> ObservedLoadBalancer:
    return reached(model, None)


def made_by_others(model: LoadBalancerModel) -> ObservedLoadBalancer:
    observed = made(model)
    return replace(observed, tags={key: value for key, value in observed.tags.items() if key != ORIGIN_TAG})


@pytest.mark.parametrize("model", [classic, network])
def test_the_check_changes_before_nodes_are_added_that_it_would_find_ill(model: Any) -> None:
    first, second, *_ = plan(model(), made(model(**LOCAL)))
    assert isinstance(first, SetListener | SetGroup)
    assert ParameterChange in {type(each) for each in first.changes if each.old == "31999"}
    assert isinstance(second, AddServers)


@pytest.mark.parametrize("model", [classic, network])
def test_the_check_changes_before_nodes_leave_that_have_no_pods(model: Any) -> None:
    steps = plan(model(**LOCAL), made(model()))
    kinds = [type(step).__name__.removeprefix("Set") for step in steps]
    assert kinds[0] in ("Listener", "Group")
    assert kinds[-1] == "RemoveServers"
    reached(model(**LOCAL), made(model()))


def test_a_new_port_is_asked_first() -> None:
    again = {**LOCAL, "healthCheckNodePort": 31000}
    (step,) = plan(classic(**again), made(classic(**LOCAL)))
    assert str(step) == "change listener tcp/80: HealthCheckConnectPort 31999 → 31000"
    assert changes_check(step, CLB)


def test_pods_are_not_checked_at_the_port_of_nodes_that_take_their_place() -> None:
    nodes, before = classic(**LOCAL), made(classic(PODS))
    steps = plan(nodes, before)
    assert not any(isinstance(step, SetListener) for step in steps)  # nodes are added and not yet found well
    after = carried_out(steps, before)
    assert after is not None
    moved = next(step for step in plan(nodes, after) if isinstance(step, SetListener))
    assert not changes_check(moved, CLB)
    assert {"server group", "HealthCheckConnectPort"} <= {each.parameter for each in moved.changes}


def test_nodes_of_a_former_port_are_not_checked_at_the_port_of_pods() -> None:
    steps = plan(classic(PODS, **LOCAL), made(classic(**LOCAL)))
    (step,) = [each for each in steps if isinstance(each, SetListener)]
    assert changes_check(step, CLB)
    assert step.listener.settings["HealthCheckConnectPort"] == "-520"  # where each server answers


def test_a_move_and_other_settings_are_no_changes_of_the_check() -> None:
    listener = classic().listeners[0]
    assert not changes_check(SetListener(listener, (ParameterChange("Scheduler", "rr", "wrr"),)), CLB)
    assert not changes_check(AddServers("g", ()), CLB)


@pytest.mark.parametrize(
    ("listener", "changes"),
    [
        ({}, []),
        ({"health-check-type": "http", "health-check-connect-port": "8080"}, ["HealthCheckURI / → /healthz"]),
    ],
)
def test_on_a_balancer_that_others_made_annotations_alone_change_the_check(
    listener: dict[str, str], changes: list[str]
) -> None:
    observed = made_by_others(classic(listener, **LOCAL))
    assert plan(classic(listener, **LOCAL), observed) == ()
    usual = made_by_others(classic(listener))
    assert not any(isinstance(step, SetListener) for step in plan(classic(listener, **LOCAL), usual))
    asked = {**listener, "health-check-uri": "/healthz"} if changes else listener
    steps = [step for step in plan(classic(asked, **LOCAL), usual) if isinstance(step, SetListener)]
    assert [str(each) for step in steps for each in step.changes] == changes


def test_what_is_added_to_a_balancer_of_others_is_checked_where_it_gets_its_traffic() -> None:
    usual = made_by_others(classic())
    two = model_of(service(HTTP, {"port": 81, "nodePort": 30081}, **LOCAL), SNAPSHOT)
    after = reached(two, usual)
    assert [each.settings["HealthCheckConnectPort"] for each in after.listeners] == ["-520", "-520"]
    lent = ObservedLoadBalancer("lb-u", "mine", "192.0.2.9")
    model = classic({"id": "lb-u", "force-override-listeners": "true"}, **LOCAL)
    assert reached(model, lent).listeners[0].settings["HealthCheckConnectPort"] == "-520"
    group = reached(network({"id": "nlb-u", "force-override-listeners": "true"}, **LOCAL), lent).groups[0]
    assert group.settings["HealthCheckConfig.HealthCheckConnectPort"] == "0"


@pytest.mark.parametrize("model", [classic, network])
def test_a_port_that_is_gone_is_asked_no_more_although_the_service_must_be_corrected(model: Any) -> None:
    wanted = model({"scheduler": "rr", "acl-status": "on", "acl-id": "acl-1"} if model is classic else {})
    (step,) = outdated_checks(wanted, made(model(**LOCAL)))
    settings = step.listener.settings if isinstance(step, SetListener) else step.group.settings
    ports = [value for key, value in settings.items() if key.endswith("HealthCheckConnectPort")]
    assert ports == ["-520" if model is classic else "0"]
    assert settings["Scheduler"] == ("wrr" if model is classic else "Wrr")
    assert settings.get("AclStatus", "off") == "off"
    after = carried_out([step], made(model(**LOCAL)))
    assert after is not None
    assert [*outdated_checks(wanted, after)] == []


def test_other_checks_wait_for_the_correction() -> None:
    given = {"health-check-type": "http", "health-check-connect-port": "8080", "health-check-uri": "/ready"}
    for wanted, observed in (
        (classic(**LOCAL), made(classic())),  # as safe as before
        (classic(**LOCAL), made(classic(**LOCAL))),
        (classic(), made(classic(given))),
        (classic(), made_by_others(classic(given))),
        (classic(), replace(made(classic(**LOCAL)), listeners=())),
    ):
        assert [*outdated_checks(wanted, observed)] == []
