"""The dry run: what people read before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.printing import (
    UNASSIGNED,
    LeavingBalancer,
    removal,
    risks,
    service_dry_run,
)
from spiderpool.core.cloud.loadbalancer.steps import ParameterChange, SetGroup, SetListener
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, Settings
from tests.core.pretend_balancers import (
    CONFIGURATION,
    carried_out,
    endpoints,
    model_of,
    node,
    planned_text,
    reached,
    service,
)

pytestmark = pytest.mark.unit

HTTP = {"port": 80, "nodePort": 30698}
NODES = BackendSnapshot([node("a"), node("b", ready=False)])
GROUP = "k8s/30698/web/default/c1"


def made(*, lent: bool = False) -> ObservedLoadBalancer:
    """The balancer of the Service, or one that a user lends it."""
    if lent:
        return ObservedLoadBalancer("lb-u", "users", "198.51.100.9", {"AddressType": "internet"})
    requested = model_of(service(HTTP), NODES)
    found = carried_out(plan(requested, None), None)
    assert found is not None
    return found


def test_a_new_balancer() -> None:
    lines = planned_text(service(HTTP, annotations={"bandwith": "1"}), CLB, NODES, CONFIGURATION).splitlines()
    assert lines[:2] == [
        "note: annotation service.beta.kubernetes.io/alibaba-cloud-loadbalancer-bandwith has no effect: "
        "there is no such annotation; did you mean bandwidth?",
        "note: node b is no backend: it is not ready",
    ]
    assert lines[2].startswith("1. create clb balancer a0a1b2c3d4e5f60718293a4b5c6d7e8f: ")
    assert lines[3:5] == [f"2. create server group {GROUP}", f"3. add to {GROUP}: i-a:30698 weight 100"]
    assert lines[5].startswith(f"4. create listener tcp/80 to {GROUP}: ")
    assert len(lines) == 6


def test_a_new_balancer_joins_the_group_of_its_clients_when_that_is_made() -> None:
    spec = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": {"zone-maps": "h:v,i:w"}}
    steps = plan(model_of(service(HTTP, **spec, loadBalancerSourceRanges=["10.0.0.0/8"]), NODES), None)
    create, fill, join, *_ = map(str, steps)
    assert "SecurityGroupIds" not in create
    assert fill == "create security group k8s-nlb-a0a1b2c3d4e5f60718293a4b5c6d7e8f: accept 10.0.0.0/8, drop 0.0.0.0/0"
    assert join.startswith("change the balancer's security groups: SecurityGroupIds (none) → k8s-nlb-")
    assert [*risks(steps, NLB)] == []


def test_a_balancer_that_is_as_it_should_be() -> None:
    text = planned_text(service(HTTP), CLB, BackendSnapshot([node("a")]), CONFIGURATION, made())
    assert text == "nothing to do"


def test_a_change() -> None:
    text = planned_text(
        service(HTTP, annotations={"scheduler": "rr"}), CLB, BackendSnapshot([node("a")]), CONFIGURATION, made()
    )
    assert text == "1. change listener tcp/80: Scheduler wrr → rr"


def test_faults_come_instead_of_steps() -> None:
    annotations = {"scheduler": "best", "acl-status": "on"}
    lines = planned_text(service(HTTP, annotations=annotations), CLB, NODES, CONFIGURATION).splitlines()
    assert [line.split(":")[0] for line in lines] == ["fault", "fault"]


def test_pods_of_which_nobody_knows_the_eni() -> None:
    requested = service(HTTP, annotations={BACKEND_TYPE: "eni"})
    lines = planned_text(
        requested, CLB, BackendSnapshot([], [endpoints(("10.0.0.7", "a"))]), CONFIGURATION
    ).splitlines()
    assert lines[0] == "note: no ENI is known to have the pod address 10.0.0.7"


def test_what_cannot_be_changed_is_told_beside_what_can() -> None:
    requested = service(HTTP, annotations={"ip-version": "ipv6", "scheduler": "rr"})
    lines = planned_text(requested, CLB, BackendSnapshot([node("a")]), CONFIGURATION, made()).splitlines()
    assert lines == [
        "fault: ip-version of a balancer cannot be changed: it is ipv4, the Service asks for ipv6",
        "1. change listener tcp/80: Scheduler wrr → rr",
    ]


def test_a_balancer_that_cannot_be_lent_is_not_touched() -> None:
    requested = service(HTTP, annotations={"id": "lb-u"})
    theirs = replace(made(lent=True), tags={"ack.aliyun.com": "c2"})
    (line,) = planned_text(requested, CLB, BackendSnapshot([node("a")]), CONFIGURATION, theirs).splitlines()
    assert line.startswith("fault: balancer lb-u was made for a Service and cannot be lent to another: ")
    assert planned_text(requested, CLB, BackendSnapshot([node("a")]), CONFIGURATION, made(lent=True)).endswith(
        "3. tag the balancer: kubernetes.reused.by.user=true"
    )


def test_a_balancer_that_lacks_the_tags_of_the_service_is_a_fault() -> None:
    found = service_dry_run(service(HTTP), CLB, NODES, CONFIGURATION, replace(made(), tags={}, name="users"))
    assert found.steps == ()
    assert found.faults[0].startswith("label service.k8s.alibaba/loadbalancer-id names balancer ")


def test_only_what_would_be_made_is_billed() -> None:
    made_anew = service_dry_run(service(HTTP), CLB, NODES, CONFIGURATION)
    assert made_anew.bill[0].unit == "classic balancer"
    assert service_dry_run(service(HTTP), CLB, NODES, CONFIGURATION, made()).bill == ()


@pytest.mark.parametrize(("preserve", "last"), [(False, "delete balancer "), (True, "take tags from the balancer: ")])
def test_a_balancer_that_its_service_no_longer_asks_for(preserve: bool, last: str) -> None:
    steps = removal(service(HTTP), [LeavingBalancer(CLB, made(), preserve)], CONFIGURATION)
    assert str(steps[-1]).startswith(last)
    assert any("is no longer protected" in each for each in risks(steps, None))
    assert any("its address is given up" in each for each in risks(steps, None)) is not preserve


def test_what_ends_traffic_or_undoes_what_was_set_is_a_risk() -> None:
    sized = service(HTTP, annotations={"instance-charge-type": "PayBySpec", "protocol-port": "http:80"})
    steps = service_dry_run(sized, CLB, BackendSnapshot([node("a")]), CONFIGURATION, made()).steps
    assert sorted(risks(steps, CLB)) == [
        "listener tcp/80 is deleted, and made again",
        "the balancer's payment is changed",
        "the balancer's size is changed",
    ]
    gone = service({"port": 81, "nodePort": 30698})
    assert "listener tcp/80 is deleted" in list(
        risks(service_dry_run(gone, CLB, BackendSnapshot([node("a")]), CONFIGURATION, made()).steps, CLB)
    )
    assert list(risks(service_dry_run(service(HTTP), CLB, NODES, CONFIGURATION).steps, CLB)) == []


def listener_by_hand(settings: Settings) -> ObservedLoadBalancer:
    """The balancer of the Service, with settings that somebody has given its listener by hand."""
    found = made()
    (listener,) = found.listeners
    return replace(found, listeners=(replace(listener, settings={**listener.settings, **settings}),))


def risks_of(observed: ObservedLoadBalancer, annotations: Mapping[str, str]) -> list[str]:
    requested = service(HTTP, annotations=annotations)
    steps = service_dry_run(requested, CLB, BackendSnapshot([node("a")]), CONFIGURATION, observed).steps
    assert steps
    return list(risks(steps, CLB))


def test_a_listener_that_is_opened_to_all_clients_is_a_risk_in_words_of_its_own() -> None:
    guarded = listener_by_hand({"AclStatus": "on", "AclId": "acl-1", "AclType": "white", "Scheduler": "rr"})
    assert risks_of(guarded, {"acl-status": "off", "scheduler": "wrr"}) == [
        "listener tcp/80 no longer keeps any client out: AclStatus on → off",
        "listener tcp/80 is changed: Scheduler rr → wrr",
    ]


def test_a_changed_server_group_is_a_risk_and_a_description_is_none() -> None:
    observed = made()
    (listener,), (group,) = observed.listeners, observed.groups
    changed = (ParameterChange("ConnectionDrainEnabled", "true", "false"),)
    named = (ParameterChange("description", "", listener.description),)
    assert list(risks([SetGroup(group, changed), SetListener(listener, named)], CLB)) == [
        f"server group {GROUP} is changed: ConnectionDrainEnabled true → false"
    ]


def test_who_is_admitted_is_a_risk() -> None:
    wanted, other = (service(HTTP, loadBalancerSourceRanges=[each]) for each in ("10.0.0.0/8", "192.0.2.0/24"))
    observed = reached(model_of(wanted, NODES), None)
    assert list(risks(service_dry_run(other, CLB, NODES, CONFIGURATION, observed).steps, CLB)) == [
        "who is admitted is changed: change access list k8s-clb-a0a1b2c3d4e5f60718293a4b5c6d7e8f: "
        "add 192.0.2.0/24; remove 10.0.0.0/8"
    ]
    assert "listener tcp/80 no longer keeps any client out: AclStatus on → off" in list(
        risks(service_dry_run(service(HTTP), CLB, NODES, CONFIGURATION, observed).steps, CLB)
    )


def test_a_service_that_no_api_server_has_completed_is_said_to_have_another_check() -> None:
    nodes = BackendSnapshot([node("a")])
    assert f"note: {UNASSIGNED}" in planned_text(service(HTTP, externalTrafficPolicy="Local"), CLB, nodes)
    assigned = service(HTTP, externalTrafficPolicy="Local", healthCheckNodePort=31999)
    text = planned_text(assigned, CLB, nodes)
    assert UNASSIGNED not in text
    assert "HealthCheckConnectPort=31999" in text
    said = service(HTTP, externalTrafficPolicy="Local", annotations={"health-check-type": "tcp"})
    assert UNASSIGNED not in planned_text(said, CLB, nodes)
    unchecked = service(HTTP, externalTrafficPolicy="Local", annotations={"protocol-port": "http:80"})
    assert UNASSIGNED not in planned_text(unchecked, CLB, nodes)
