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


def asked_by(kind: Any, port: dict[str, Any], snapshot: BackendSnapshot = SNAPSHOT, **spec: Any) -> LoadBalancerModel:
    """The same as `classic` or `network` for another port or snapshot."""
    if kind is network:
        spec = {**spec, **NETWORK, "annotations": {"zone-maps": "h:v,i:w", **spec.get("annotations", {})}}
    return model_of(service(port, **spec), snapshot)


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


def asks(observed: ObservedLoadBalancer) -> list[str]:
    """The ports at which a balancer asks servers, of listeners or groups."""
    settings = [each.settings for each in observed.listeners] + [each.settings for each in observed.groups]
    return [value for each in settings for key, value in each.items() if key.endswith("HealthCheckConnectPort")]


def after(steps: Any, observed: ObservedLoadBalancer) -> ObservedLoadBalancer:
    found = carried_out(steps, observed)
    assert found is not None
    return found


@pytest.mark.parametrize("enis", [{}, {"10.0.0.1": "eni-1"}], ids=["unknown", "known"])
@pytest.mark.parametrize("model", [classic, network])
def test_nodes_that_serve_until_pods_can_are_asked_no_more_at_a_port_that_is_gone(
    model: Any, enis: dict[str, str]
) -> None:
    wanted = asked_by(model, HTTP, snapshot=replace(SNAPSHOT, enis=enis), annotations=PODS)
    before = made(model(**LOCAL))
    steps = plan(wanted, before)
    assert isinstance(steps[0], SetListener | SetGroup)
    middle = after(steps, before)
    assert middle.listeners[0].group == before.listeners[0].group
    assert not {"31999", "31000"} & {*asks(middle)}
    unsettled = {(group.name, server.key) for group in middle.groups for server in group.servers}
    assert plan(wanted, middle, unsettled) == ()


@pytest.mark.parametrize("model", [classic, network])
def test_nodes_that_serve_until_others_can_are_asked_at_the_port_that_there_is(model: Any) -> None:
    before = made(model(**LOCAL))
    wanted = asked_by(model, {"port": 80, "nodePort": 30999}, **{**LOCAL, "healthCheckNodePort": 31000})
    steps = plan(wanted, before)
    assert {*asks(after(steps, before))} == {"31000"}
    assert len([step for step in steps if isinstance(step, SetListener)]) == (1 if model is classic else 0)


def test_a_listener_that_cannot_be_changed_yet_is_asked_no_more_at_a_port_that_is_gone() -> None:
    before = made(classic(**LOCAL))
    wanted = model_of(
        service(HTTP, annotations={**PODS, "protocol-port": "http:80"}),
        BackendSnapshot(SNAPSHOT.nodes, SNAPSHOT.slices),
    )
    steps = plan(wanted, before)
    assert [str(each) for each in steps if isinstance(each, SetListener)] == [
        "change listener tcp/80: HealthCheckConnectPort 31999 → -520, HealthyThreshold 2 → 3, "
        "UnhealthyThreshold 5 → 3, HealthCheckType http → tcp"
    ]
    assert after(steps, before).listeners[0].protocol == "tcp"


def test_a_listener_that_goes_now_is_not_changed_before() -> None:
    before = made(model_of(service(HTTP, {"port": 81, "nodePort": 30081}, **LOCAL), SNAPSHOT))
    changed = [step.listener.port for step in plan(classic(), before) if isinstance(step, SetListener)]
    assert changed == [80]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (classic, {"health-check-switch": "off"}),
        (classic, {"protocol-port": "http:80"}),
        (classic, {"protocol-port": "http:80", "health-check-flag": "on"}),
        (classic, PODS),
        (classic, {"default-weight": "101"}),
        (classic, {"health-check-type": "udp"}),
        (network, {"health-check-flag": "off"}),
        (network, {"protocol-port": "tcpssl:80", "cert-id": "c"}),
        (network, {"server-group-type": "ip"}),
        (network, PODS),
        (network, {"default-weight": "101"}),
    ],
)
def test_whatever_the_service_asks_for_no_port_that_is_gone_is_asked(kind: Any, given: dict[str, str]) -> None:
    before = made(kind(**LOCAL))
    steps = [*outdated_checks(kind(given), before)]
    assert len(steps) == 1
    found = after(steps, before)
    off = {each.settings.get("HealthCheckSwitch") for each in found.listeners} | {
        each.settings.get("HealthCheckConfig.HealthCheckEnabled") for each in found.groups
    }
    is_off = any("off" in value for key, value in given.items() if "health" in key)
    assert bool({"off", "false"} & off) == is_off
    assert is_off or {*asks(found)} == {"-520" if kind is classic else "0"}
    assert [*outdated_checks(kind(given), found)] == []


def test_a_port_that_the_service_gives_up_meanwhile_is_looked_at_as_well() -> None:
    before = made(classic(**LOCAL))
    other = model_of(service({"port": 81, "nodePort": 30081}), SNAPSHOT)
    assert [step.listener.port for step in outdated_checks(other, before) if isinstance(step, SetListener)] == [80]
    theirs = replace(before.listeners[0], description="by hand")
    assert [*outdated_checks(other, replace(before, listeners=(theirs,)))] == []


def test_a_check_that_the_service_asks_for_stays_though_an_annotation_about_it_is_wrong() -> None:
    own = {"health-check-type": "http", "health-check-connect-port": "10256", "health-check-uri": "/healthz"}
    before = made(classic(own))
    (step,) = outdated_checks(classic({**own, "health-check-connect-port": "1025600"}), before)
    assert isinstance(step, SetListener)
    asked = step.listener.settings
    assert (asked["HealthCheckType"], asked["HealthCheckConnectPort"]) == ("tcp", "-520"), "servers answer there"
    for wrong in ({"scheduler": "xx"}, {"health-check-interval": "xx"}, {"health-check-switch": "off"}):
        assert [*outdated_checks(classic({**own, **wrong}), before)] == []
    pods = made(classic({**own, **PODS}))
    assert [*outdated_checks(classic(PODS), pods)] == [], "they have no such port"


@pytest.mark.parametrize("wrong", [{"health-check-httpcode": "nonsense"}, {"health-check-interval": "soon"}])
def test_the_services_own_port_stands_though_another_annotation_of_its_check_is_wrong(wrong: dict[str, str]) -> None:
    own = {"health-check-type": "http", "health-check-connect-port": "10256", "health-check-uri": "/healthz"}
    assert [*outdated_checks(classic({**own, **wrong}), made(classic(own)))] == []


def test_where_it_gets_its_traffic_a_server_can_be_asked_for_the_same() -> None:
    own = {"health-check-type": "http", "health-check-uri": "/healthz"}
    for given in ({}, {"health-check-switch": "off"}):
        assert [*outdated_checks(classic(given), made(classic(own)))] == []


def test_with_the_check_all_is_sent_that_the_rest_of_a_listener_needs() -> None:
    """A listener that keeps clients, or lets some in alone, cannot be changed without saying how."""
    cookie = {"sticky-session": "on", "sticky-session-type": "server", "cookie": "c"}
    given = {"protocol-port": "http:80", "health-check-flag": "on", "acl-status": "on", "acl-id": "acl-1", **cookie}
    usual = {"protocol-port": "http:80", "health-check-flag": "on"}
    (step,) = outdated_checks(classic(usual), made(classic(given, **LOCAL)))
    assert isinstance(step, SetListener)
    sent = {"StickySession": "on", "StickySessionType": "server", "Cookie": "c", "AclStatus": "on", "AclId": "acl-1"}
    assert step.listener.settings.items() >= sent.items()
    assert {each.parameter for each in step.changes} <= {
        "HealthCheckConnectPort",
        "HealthyThreshold",
        "UnhealthyThreshold",
        "HealthCheckURI",
    }


def test_a_port_that_there_is_stays_asked_whatever_the_service_asks_for() -> None:
    assert [*outdated_checks(classic(PODS, **LOCAL), made(classic(**LOCAL)))] == []
    off = made(classic(**LOCAL))
    (listener,) = off.listeners
    listener = replace(listener, settings={**listener.settings, "HealthCheckSwitch": "off"})
    assert [*outdated_checks(classic(), replace(off, listeners=(listener,)))] == []


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
