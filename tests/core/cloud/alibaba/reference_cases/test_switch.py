"""Cases of a switch: balancers that the cloud's own controller has made, and somebody may have tuned in the console."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.annotations import CLASS
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB, kind_of
from spiderpool.core.cloud.loadbalancer.adoption import keeps_its_kind
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, owner_of
from spiderpool.core.cloud.loadbalancer.planning import ownership_fault, plan, plan_removal, unchangeable
from spiderpool.core.cloud.loadbalancer.succession import standing_of, stays_for_another
from spiderpool.core.cloud.loadbalancer.values import BackendServer, ObservedLoadBalancer, ServerGroup, Settings
from tests.core.cloud.alibaba.reference_cases.playing import (
    FOREIGN,
    NLB_CLASS,
    PODS,
    classic,
    either,
    lent,
    network,
    of_others,
)
from tests.core.pretend_balancers import CONFIGURATION, HTTP, KINDS, UID, endpoints, node, reached, service

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])
CHECKED_SLOWLY = {"HealthCheckInterval": "5", "HealthCheckConnectTimeout": "10"}
DNS = {"port": 53, "nodePort": 30053, "protocol": "UDP"}


def left(
    model: LoadBalancerModel, settings: Settings | None = None, listener: Settings | None = None, **more: Any
) -> ObservedLoadBalancer:
    """A balancer of this model that the other controller left, with settings as they are found."""
    made = reached(model, None)
    listeners = tuple(replace(each, settings={**each.settings, **(listener or {})}) for each in made.listeners)
    return of_others(made, settings={**made.settings, **(settings or {})}, listeners=listeners, **more)


@pytest.mark.parametrize(
    ("model", "settings", "listener"),
    [
        pytest.param(classic(), {}, {"Scheduler": "rr"}, marks=shows("nothing was tuned: the scheduler is rr")),
        pytest.param(
            classic(),
            {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s1.small"},
            {},
            marks=shows("it is paid by size, or by bandwidth"),
        ),
        pytest.param(
            classic(),
            {"InstanceChargeType": "PayBySpec", "InternetChargeType": "paybybandwidth", "Bandwidth": "200"},
            {},
            marks=shows("it is paid by size, or by bandwidth"),
        ),
        pytest.param(
            classic(annotations={"instance-charge-type": "PayBySpec"}),
            {"LoadBalancerSpec": "slb.s3.large"},
            {},
            marks=shows("its size was raised in the console"),
        ),
        pytest.param(
            classic(),
            {},
            {"AclStatus": "on", "AclId": "acl-9", "AclType": "white", "PersistenceTimeout": "600"},
            marks=shows("an access list and persistence were set in the console"),
        ),
        pytest.param(classic(), {"LoadBalancerName": "shop"}, {}, marks=shows("it was renamed in the console")),
        pytest.param(classic(DNS), {}, CHECKED_SLOWLY, marks=shows("a UDP listener is checked as the cloud does it")),
        pytest.param(
            network(),
            {},
            {"IdleTimeout": "60", "Cps": "500"},
            marks=shows("a network balancer was tuned in the console"),
        ),
    ],
)
def test_what_was_set_in_the_console_stays(
    model: LoadBalancerModel, settings: dict[str, str], listener: dict[str, str]
) -> None:
    observed = left(model, settings, listener)
    assert [str(step) for step in plan(model, observed)] == []
    assert unchangeable(model, observed) == ()


@shows("pods are its servers")
@BOTH
def test_pods_are_its_servers(kind: str) -> None:
    state = BackendSnapshot([], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"})
    model = either(kind, snapshot=state, annotations=PODS)
    assert plan(model, left(model)) == ()


@shows("it was made for a cluster with another ID")
@BOTH
def test_it_was_made_for_a_cluster_with_another_id(kind: str) -> None:
    model = either(kind)
    observed = left(model)
    observed = replace(observed, tags={**observed.tags, "ack.aliyun.com": "c0"})
    assert "until then the balancer is left alone" in (ownership_fault(model, observed) or "")
    assert plan_removal(model.kind, model.owner, observed, preserve=False) == ()


@shows("it has no tag of a cluster", "it has no tag of a cluster, and a name annotation")
@BOTH
@pytest.mark.parametrize("annotations", [{}, {"name": "shop"}])
def test_it_has_no_tag_of_a_cluster(kind: str, annotations: dict[str, str]) -> None:
    model = either(kind, annotations=annotations)
    observed = left(model)
    observed = replace(observed, tags={key: observed.tags[key] for key in observed.tags if key != "ack.aliyun.com"})
    assert ownership_fault(model, observed) is None
    assert [str(step) for step in plan(model, observed)] == ["tag the balancer: ack.aliyun.com=c1"]


@shows("a pod on a virtual node is its server")
@BOTH
def test_a_pod_on_a_virtual_node_is_its_server(kind: str) -> None:
    nodes = [node("a"), node("v", labels={"type": "virtual-kubelet"})]
    model = either(kind, snapshot=BackendSnapshot(nodes, [endpoints(("10.0.0.2", "v"))]))
    observed = left(model)
    (group,) = observed.groups
    of_pod = BackendServer("eni-v", "eni", 80, 100, "10.0.0.2")
    observed = replace(observed, groups=(replace(group, servers=group.servers | {of_pod}),))
    assert plan(model, observed) == ()


@shows("pods of a Service without selector are its servers")
def test_pods_of_a_service_without_selector() -> None:
    state = BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=8080)], {"10.0.0.1": "eni-1"})
    model = classic({"port": 80, "targetPort": 8080}, snapshot=state, annotations=PODS, selector={})
    observed = left(model)
    (group,), (listener,) = observed.groups, observed.listeners
    name = "k8s/8080/web/default/c1"
    named = replace(observed, groups=(replace(group, name=name),), listeners=(replace(listener, group=name),))
    assert plan(model, named) == ()


@shows("it is lent, with listeners and servers in groups of the user's")
@BOTH
def test_it_is_lent_with_groups_of_the_users(kind: str) -> None:
    annotations = {"id": "lb-u", "force-override-listeners": "true", "vgroup-port": "sgp-1:80"}
    model = either(kind, annotations=annotations)
    servers = frozenset(server for group in model.groups for server in group.servers)
    group = ServerGroup("sgp-1", servers=servers, identity="sgp-1", is_lent=True)
    listener = replace(model.listeners[0], group="sgp-1")
    observed = lent(kind, listeners=(FOREIGN, listener), groups=(group,), tags={model.kind.naming.reuse_tag: "true"})
    assert plan(model, observed) == ()


@shows("its server groups have the names of the other controller")
@pytest.mark.parametrize(
    ("annotations", "settings", "name"),
    [
        ({}, {}, "k8s.30698.TCP.web.default.c1"),
        ({}, {}, "k8s.30698.tcp.web.default.c1"),
        ({"server-group-type": "Ip"}, {"ServerGroupType": "Ip"}, "k8s.30698.TCP.web.default.c1"),
        ({"protocol-port": "tcpssl:80", "cert-id": "crt"}, {"Protocol": "TCPSSL"}, "k8s.30698.TCPSSL.web.default.c1"),
    ],
)
def test_its_server_groups_have_the_names_of_the_other_controller(
    annotations: dict[str, str], settings: dict[str, str], name: str
) -> None:
    model = network(annotations=annotations)
    observed = left(model)
    (group,), (listener,) = observed.groups, observed.listeners
    group = replace(group, name=name, settings={**group.settings, **settings})
    named = replace(observed, groups=(group,), listeners=(replace(listener, group=name),))
    assert plan(model, named) == ()


@shows("it has a listener of a range of ports")
def test_it_has_a_listener_of_a_range_of_ports() -> None:
    state = BackendSnapshot([], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"})
    model = network(snapshot=state, annotations={**PODS, "listener-port-range": "80-90:80"})
    assert plan(model, left(model)) == ()


@shows("the Service has an empty class", "the Service gets the class of another controller")
@pytest.mark.parametrize(("value", "kind"), [("", CLB), ("other", None)])
def test_the_annotation_of_a_class(value: str, kind: object) -> None:
    asked = service(HTTP, annotations={CLASS: value})
    assert kind_of(asked) is kind
    assert stays_for_another(asked, standing_of(asked, kind_of(asked), [CLB])) is (kind is None)


@shows("the Service gets the class of another controller", "annotation service.beta.kubernetes.io/class")
@shows("spec.loadBalancerClass")
@pytest.mark.parametrize(
    ("spec", "kind"),
    [({"loadBalancerClass": NLB_CLASS}, NLB), ({"loadBalancerClass": "example.com/other"}, None), ({}, CLB)],
)
def test_the_class_of_another_controller(spec: dict[str, Any], kind: object) -> None:
    asked = service(HTTP, **spec)
    assert kind_of(asked) is kind
    standing = standing_of(asked, kind_of(asked), [CLB])
    assert stays_for_another(asked, standing) is (kind is None)
    assert CLB in standing.held


@shows("the Service has the annotation of the other kind", "type")
def test_the_annotation_of_the_other_kind() -> None:
    asked = service(HTTP, annotations={"type": "nlb"})
    owner = owner_of(asked, CONFIGURATION)
    assert kind_of(asked) is NLB
    assert keeps_its_kind(asked, CLB, owner, left(classic()))
    assert not keeps_its_kind(asked, CLB, owner, reached(classic(), None)), "one that we made is exchanged"


@shows("a Service that names no kind", "type")
@pytest.mark.parametrize("default", ["clb", "nlb"])
def test_a_service_that_names_no_kind(default: str) -> None:
    asked = service(HTTP)
    assert kind_of(asked, default) is KINDS[default]
    assert kind_of(service(HTTP, annotations={"type": "clb"}), default) is CLB
    asked.metadata.finalizers = [CLB.naming.finalizer]
    assert kind_of(asked, default) is CLB, "it keeps what it has"


@shows("finalizers service.k8s.alibaba/resources and …/nlb", "label service.k8s.alibaba/loadbalancer-id")
def test_marks_on_services() -> None:
    assert [kind.naming.finalizer for kind in (CLB, NLB)] == [
        "service.k8s.alibaba/resources",
        "service.k8s.alibaba/nlb",
    ]
    assert {kind.naming.identity_label for kind in (CLB, NLB)} == {"service.k8s.alibaba/loadbalancer-id"}


@shows("names by which either controller knows what is its own")
def test_names_by_which_what_is_its_own_is_known() -> None:
    assert (classic().name, len(classic().name)) == (f"a{UID.replace('-', '')}"[:32], 32)
    clb, nlb = classic(), network()
    assert (clb.listeners[0].description, clb.groups[0].name) == ("k8s/80/web/default/c1", "k8s/30698/web/default/c1")
    names = ("k8s.80.TCP.web.default.c1", "k8s.30698.TCP.web.default.c1")
    assert (nlb.listeners[0].description, nlb.groups[0].name) == names
    state = BackendSnapshot([], [endpoints(("10.0.0.1", "a"))], {"10.0.0.1": "eni-1"})
    assert classic(snapshot=state, annotations=PODS).groups[0].name == "k8s/80/web/default/c1"
