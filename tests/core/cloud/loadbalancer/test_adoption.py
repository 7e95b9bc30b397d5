"""Balancers that others made: only what an annotation says is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.alibaba.naming import ORIGIN_TAG
from spiderpool.core.cloud.loadbalancer.adoption import adapted, is_adopted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model
from spiderpool.core.cloud.loadbalancer.planning import plan, unchangeable
from spiderpool.core.cloud.loadbalancer.steps import SetListener
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, Settings, parameter_of
from tests.core.pretend_balancers import (
    CONFIGURATION,
    HTTP,
    SECURE,
    endpoints,
    model_of,
    node,
    options,
    reached,
    service,
)

pytestmark = pytest.mark.unit

NODES = BackendSnapshot([node("a"), node("b")])
SECURED = {"protocol-port": "https:443", "cert-id": "crt"}


def classic(**annotations: str) -> LoadBalancerModel:
    """What a Service with a TCP port asks for, its annotations with underscores."""
    return model_of(service(HTTP, annotations=hyphened(annotations)), NODES)


def network(**annotations: str) -> LoadBalancerModel:
    """The same of a network balancer."""
    given = {"zone-maps": "h:v,i:w"} | hyphened(annotations)
    return model_of(service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given), NODES)


def hyphened(annotations: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in annotations.items()}


def left_by_another(
    model: LoadBalancerModel, *, settings: Settings, listener: Settings, group: Settings | None = None
) -> ObservedLoadBalancer:
    """A balancer of this model that another controller made and somebody tuned in the console."""
    made = reached(model, None)
    return replace(
        made,
        settings={**made.settings, **settings},
        tags={key: value for key, value in made.tags.items() if key != ORIGIN_TAG},
        listeners=tuple(replace(each, settings={**each.settings, **listener}) for each in made.listeners),
        groups=tuple(replace(each, settings={**each.settings, **(group or {})}) for each in made.groups),
    )


def changed(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> list[str]:
    reached(model, observed)
    return [str(step) for step in plan(model, observed)]


TUNED = {"Scheduler": "rr", "AclStatus": "on", "AclId": "acl-9", "AclType": "white", "PersistenceTimeout": "600"}
PAID = {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s3.large", "InternetChargeType": "paybybandwidth"}
NAMED = {"LoadBalancerName": "shop", "DeleteProtection": "off", "Bandwidth": "200"}


def test_what_we_make_is_not_adopted_and_what_is_lent_is() -> None:
    model = classic()
    assert not is_adopted(model, reached(model, None))
    assert is_adopted(model, left_by_another(model, settings={}, listener={}))
    assert is_adopted(classic(id="lb-1"), reached(model, None))


def test_neither_payment_nor_size_nor_name_nor_access_list_is_reset() -> None:
    observed = left_by_another(classic(), settings=PAID | NAMED, listener=TUNED)
    assert changed(classic(), observed) == []


def test_on_a_balancer_of_ours_the_defaults_hold() -> None:
    made = reached(classic(), None)
    observed = replace(made, settings={**made.settings, **NAMED})
    assert len(changed(classic(), observed)) == 2


@pytest.mark.parametrize(
    ("annotations", "steps"),
    [
        ({"name": "web"}, ["change the balancer's name: LoadBalancerName shop → web"]),
        ({"name": "shop"}, []),
        ({"delete_protection": "on"}, ["change the balancer's delete protection: DeleteProtection off → on"]),
        ({"spec": "slb.s2.small"}, ["change the balancer's size: LoadBalancerSpec slb.s3.large → slb.s2.small"]),
        (
            {"instance_charge_type": "PayByCLCU"},
            ["change the balancer's payment: InstanceChargeType PayBySpec → PayByCLCU"],
        ),
        ({"bandwidth": "100"}, ["change the balancer's bandwidth: Bandwidth 200 → 100"]),
        ({"scheduler": "wrr"}, ["change listener tcp/80: Scheduler rr → wrr"]),
        ({"acl_status": "off"}, ["change listener tcp/80: AclStatus on → off"]),
        ({"acl_status": "on", "acl_id": "acl-1"}, ["change listener tcp/80: AclId acl-9 → acl-1"]),
        ({"persistence_timeout": "0"}, ["change listener tcp/80: PersistenceTimeout 600 → 0"]),
        ({"connection_drain": "on"}, ["change listener tcp/80: ConnectionDrain off → on"]),
    ],
)
def test_what_an_annotation_says_is_changed_and_nothing_else(annotations: dict[str, str], steps: list[str]) -> None:
    observed = left_by_another(classic(), settings=PAID | NAMED, listener=TUNED)
    assert changed(classic(**annotations), observed) == steps


def test_a_change_is_sent_with_the_settings_that_stay() -> None:
    observed = left_by_another(classic(), settings={}, listener=TUNED)
    (step,) = plan(classic(established_timeout="60"), observed)
    assert isinstance(step, SetListener)
    assert step.listener.settings["AclId"] == "acl-9"
    assert step.listener.settings["Scheduler"] == "rr"


def test_the_interval_of_a_health_check_that_somebody_switched_off_says_nothing() -> None:
    observed = left_by_another(classic(), settings={}, listener={"HealthCheckSwitch": "off"})
    assert changed(classic(health_check_interval="9"), observed) == []
    assert len(changed(classic(health_check_interval="9", health_check_switch="on"), observed)) == 1


def test_a_hash_that_somebody_chose_does_not_make_the_listener_anew() -> None:
    observed = left_by_another(classic(), settings={}, listener={"Scheduler": "sch"})
    assert changed(classic(), observed) == []


def test_a_network_balancer_keeps_what_was_tuned() -> None:
    tuned = {"IdleTimeout": "60", "Cps": "500"}
    group = {"Scheduler": "sch", "HealthCheckConfig.HealthCheckInterval": "30", "Protocol": "TCPSSL"}
    settings = {"CrossZoneEnabled": "false", "SecurityGroupIds": "sg-9", "DeletionProtectionEnabled": "false"}
    observed = left_by_another(network(), settings=settings, listener=tuned, group=group)
    assert changed(network(), observed) == []
    assert changed(network(cps="100"), observed) == ["change listener tcp/80: Cps 500 → 100"]
    (step,) = changed(network(health_check_interval="9"), observed)
    assert step.endswith("HealthCheckConfig.HealthCheckInterval 30 → 9")
    (step,) = changed(network(security_group_ids="sg-1"), observed)
    assert step.endswith("SecurityGroupIds sg-9 → sg-1")


def test_a_new_listener_on_an_adopted_balancer_is_made_by_our_defaults() -> None:
    observed = left_by_another(classic(), settings=PAID, listener=TUNED)
    after = reached(model_of(service(HTTP, SECURE), NODES), observed)
    assert [each.settings["Scheduler"] for each in after.listeners] == ["rr", "wrr"]


@pytest.mark.reference_case("it has the server group of a port that redirects")
def test_the_server_group_of_a_port_that_redirects_is_kept_up_to_date_where_others_have_made_it() -> None:
    annotations = {"protocol-port": "http:80,https:443", "forward-port": "80:443", "cert-id": "c"}
    asked = service(HTTP, SECURE, annotations=annotations)
    model = model_of(asked, NODES)
    (group,) = model.idle_groups
    made = reached(model, None)
    assert group.name not in {each.name for each in made.groups}
    idle = replace(group, identity="rsp-9")
    theirs = left_by_another(model, settings={}, listener={})
    assert changed(model, theirs) == []
    theirs = replace(theirs, groups=(*theirs.groups, idle))
    assert changed(model, theirs) == []
    grown = model_of(asked, BackendSnapshot([node("a"), node("b"), node("c")]))
    assert sum(each.startswith("add ") for each in changed(grown, theirs)) == len(theirs.groups)
    assert changed(model, replace(made, groups=(*made.groups, idle))) == [f"delete server group {group.name}"]


def test_what_no_annotation_asks_for_is_not_told_as_unchangeable() -> None:
    observed = left_by_another(classic(), settings={"AddressType": "intranet"}, listener={})
    assert unchangeable(classic(), observed) == ()
    assert len(unchangeable(classic(address_type="internet"), observed)) == 1


EXTREMES = {
    "clb": [
        {"protocol-port": f"{protocol}:80", **given}
        for protocol in ("tcp", "udp", "http", "https")
        for given in (
            {},
            {"acl-status": "on", "acl-id": "a", "connection-drain": "on", "health-check-type": "http"},
            {"health-check-flag": "on", "sticky-session": "on"},
            {"domain-extensions": "example.com:c"},
            {"sticky-session": "on", "sticky-session-type": "server", "cookie": "c"},
            {"instance-charge-type": "PayBySpec", "charge-type": "paybybandwidth"},
        )
    ],
    "nlb": [
        {"protocol-port": f"{protocol}:80", **given}
        for protocol in ("tcp", "udp", "tcpssl")
        for given in (
            {},
            {"cacert": "on", "cacert-id": "c", "alpn": "on", "security-group-ids": "sg"},
            {"connection-drain": "on", "health-check-type": "HTTP"},
            {"additional-cert-ids": "a", "ppv2-pvl-vpc-id-enabled": "on", "bandwidth-package-id": "b"},
            {"ipv6-address-type": "internet", "zone-maps": "h:v::eip-1,i:w", "address-type": "internet"},
        )
    ],
}
NOT_BY_ANNOTATION = {
    "clb": {"Bandwidth", "ListenerForward"},
    "nlb": {"Protocol", "ServerGroupType", "AddressIPVersion"},
}
"""Parameters of listeners and groups that no annotation sets, or that cannot be changed."""


@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
def test_it_is_known_which_annotation_sets_each_parameter(kind: BalancerKind) -> None:
    for given in EXTREMES[kind.name]:
        asked, protocol = options(kind.name, given), given["protocol-port"].partition(":")[0]
        assert {parameter_of(key) for key in kind.settings(asked, "web")} <= kind.set_by.balancer.keys()
        parts = {**dict.fromkeys(kind.listener(protocol, asked), kind.set_by.listener)}
        parts |= dict.fromkeys(kind.group(protocol, asked), kind.set_by.group)
        assert {name for name, table in parts.items() if name not in table} <= NOT_BY_ANNOTATION[kind.name]


@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
def test_only_annotations_that_exist_set_parameters(kind: BalancerKind) -> None:
    suffixes = {*kind.set_by.balancer.values(), *kind.set_by.listener.values(), *kind.set_by.group.values()}
    assert suffixes <= kind.annotations.known.keys()


def test_a_listener_of_a_range_of_ports_stays_one_and_keeps_what_was_tuned() -> None:
    given = {
        "zone-maps": "h:v,i:w",
        "listener-port-range": "80-100:80",
        "service.beta.kubernetes.io/backend-type": "eni",
    }
    asked = service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given)
    model = model_of(asked, BackendSnapshot([], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"}))
    observed = left_by_another(model, settings={}, listener={"IdleTimeout": "60"}, group={"Scheduler": "rr"})
    assert changed(model, observed) == []
    assert adapted(model, observed).listeners[0].settings["EndPort"] == "100"


def test_a_field_of_the_service_says_something_too() -> None:
    observed = left_by_another(classic(), settings={}, listener={"PersistenceTimeout": "0"})
    sticky = service(HTTP, sessionAffinity="ClientIP")
    model = build_model(sticky, options_of(sticky, CLB), NODES, CONFIGURATION)
    (step,) = changed(model, observed)
    assert step.startswith("change listener tcp/80: PersistenceTimeout 0 →")


# --- server groups

CCM_GROUP = "k8s.30698.TCP.web.default.c1"
FORMER_GROUP = "k8s.30698.tcp.web.default.c1"


def with_group(observed: ObservedLoadBalancer, name: str, **settings: str) -> ObservedLoadBalancer:
    """A balancer whose only group has another name."""
    (group,), (listener,) = observed.groups, observed.listeners
    renamed = replace(group, name=name, settings={**group.settings, **settings})
    return replace(observed, groups=(renamed,), listeners=(replace(listener, group=name),))


def test_parts_of_a_network_balancer_are_named_as_by_the_clouds_own_controller() -> None:
    model = network()
    assert [(each.description, each.group) for each in model.listeners] == [("k8s.80.TCP.web.default.c1", CCM_GROUP)]


@pytest.mark.parametrize("name", [FORMER_GROUP, CCM_GROUP])
def test_a_group_that_is_there_is_used_further_however_it_is_spelt(name: str) -> None:
    observed = with_group(reached(network(), None), name)
    assert changed(network(), observed) == []
    grown = model_of(
        service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations={"zone-maps": "h:v,i:w"}),
        BackendSnapshot([node("a"), node("b"), node("c")]),
    )
    assert changed(grown, observed) == [f"add to {name}: i-c:30698 weight 100"]


def test_a_group_of_addresses_that_another_controller_made_keeps_its_name() -> None:
    observed = with_group(reached(network(), None), CCM_GROUP, ServerGroupType="Ip", PreserveClientIpEnabled="false")
    assert adapted(network(server_group_type="Ip"), observed).groups[0].name == CCM_GROUP
    assert adapted(network(), observed).groups[0].name == FORMER_GROUP, "it cannot be changed to hold instances"


def test_of_two_groups_the_one_that_is_spelt_as_now_is_used() -> None:
    observed = reached(network(), None)
    (group,) = observed.groups
    both = replace(observed, groups=(replace(group, name=FORMER_GROUP, identity="rsp-f"), group))
    assert changed(network(), both) == [f"delete server group {FORMER_GROUP}"]


def test_pods_without_selector_keep_the_group_that_is_named_by_their_target() -> None:
    pods = {"service.beta.kubernetes.io/backend-type": "eni"}
    asked = service({"port": 80, "targetPort": 8080}, annotations=pods, selector={})
    snapshot = BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=8080)], {"10.0.0.1": "eni-1"})
    model = model_of(asked, snapshot)
    observed = with_group(reached(model, None), "k8s/8080/web/default/c1")
    assert changed(model, observed) == []
    two = service({"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080}, annotations=pods, selector={})
    assert [group.other_names for group in model_of(two, snapshot).groups] == [(), ()], "it may be either's"


def test_health_checks_that_somebody_made_slower_are_waited_for() -> None:
    slow = {"HealthCheckConfig.HealthCheckInterval": "30"}
    observed = left_by_another(network(), settings={}, listener={}, group=slow)
    assert adapted(network(), observed).settling == 2 * 30 + 1
    assert adapted(classic(), left_by_another(classic(), settings={}, listener={})).settling == classic().settling
