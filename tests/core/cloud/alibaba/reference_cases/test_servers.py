"""Cases of servers: which nodes and pods there are, in which groups, and with which weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress
from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE
from spiderpool.core.cloud.alibaba.kinds import NLB, injects_gates, kind_of
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.gates import gates_of
from spiderpool.core.cloud.loadbalancer.planning import plan, reuse_fault
from spiderpool.core.cloud.loadbalancer.steps import AddServers, CreateGroup, RemoveServers, SetWeights
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer, ServerGroup
from tests.core.cloud.alibaba.reference_cases.playing import (
    NODES,
    PODS,
    changes,
    either,
    judged,
    lent,
    network,
    said,
    servers,
)
from tests.core.pretend_balancers import HTTP, KINDS, SECURE, carried_out, endpoints, node, reached, service

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])
A, B = "i-a:30698 weight 100", "i-b:30698 weight 100"
ENIS = {f"10.0.0.{place}": f"eni-{place}" for place in (1, 2)}
POD_1, POD_2 = "eni-1/10.0.0.1:80 weight 100", "eni-2/10.0.0.2:80 weight 100"
ENDING = {"terminating": True, "serving": True, "ready": False}


def with_pods(*slices: Any, nodes: Any = NODES.nodes, enis: Any = ENIS) -> BackendSnapshot:
    """Two nodes, the endpoints of a Service, and the ENIs of their addresses."""
    return BackendSnapshot(nodes, slices, enis)


RUNNING = with_pods(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a")))


@shows("only nodes with a label")
@BOTH
def test_only_nodes_with_a_label(kind: str) -> None:
    nodes = BackendSnapshot([node("a", labels={"role": "edge"}), node("b")])
    assert servers(either(kind, snapshot=nodes, annotations={"backend-label": "role=edge"})) == {A}


@shows("externalTrafficPolicy Cluster becomes Local, and the other way round", "spec.externalTrafficPolicy")
@BOTH
def test_another_traffic_policy(kind: str) -> None:
    anywhere, local = (either(kind, snapshot=RUNNING, externalTrafficPolicy=each) for each in ("Cluster", "Local"))
    assert (servers(anywhere), servers(local)) == ({A, B}, {"i-a:30698 weight 2"})
    assert [step.split()[0] for step in changes(anywhere, local)] == ["weights", "remove"]
    assert [step.split()[0] for step in changes(local, anywhere)] == ["add", "weights"]


@shows("pods that are terminating and still answer", "spec.externalTrafficPolicy")
@BOTH
def test_pods_that_are_terminating(kind: str) -> None:
    before = either(kind, snapshot=with_pods(endpoints(("10.0.0.1", "a"))), externalTrafficPolicy="Local")
    state = with_pods(endpoints(("10.0.0.1", "a"), conditions=ENDING), endpoints(("10.0.0.2", "b")))
    ending = either(kind, snapshot=state, externalTrafficPolicy="Local")
    gone = either(kind, snapshot=with_pods(endpoints(("10.0.0.2", "b"))), externalTrafficPolicy="Local")
    observed: ObservedLoadBalancer | None = reached(before, None)
    rounds = []
    for model in (ending, ending, gone):
        steps = plan(model, observed)
        rounds += [(type(step), str(step).partition(": ")[2]) for step in steps]
        observed = carried_out(steps, observed)
    assert rounds == [
        (AddServers, "i-b:30698 weight 1"),
        (SetWeights, "i-a:30698 weight 0"),
        (RemoveServers, "i-a:30698 weight 0"),
    ]


@shows("graceful-shutdown")
@BOTH
@pytest.mark.parametrize("given", [{}, {"graceful-shutdown": "true"}, {"graceful-shutdown": "off"}])
def test_pods_that_end_keep_their_connections_once_another_is_well(kind: str, given: dict[str, str]) -> None:
    both = with_pods(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "b")))
    one_ends = with_pods(endpoints(("10.0.0.1", "a"), conditions=ENDING), endpoints(("10.0.0.2", "b")))
    steps = changes(either(kind, snapshot=both, annotations=PODS), either(kind, snapshot=one_ends, annotations=PODS))
    assert [step.partition(": ")[2] for step in steps] == ["eni-1/10.0.0.1:80 weight 0"]
    annotated = either(kind, snapshot=one_ends, annotations={**PODS, **given})
    assert [group.ending for group in annotated.groups] == [
        group.ending for group in either(kind, snapshot=one_ends, annotations=PODS).groups
    ]
    remarks = said(judged(kind=KINDS[kind], annotations=given).notes)
    is_off = given.get("graceful-shutdown") == "off"
    expected = ["annotation graceful-shutdown off has no effect: servers whose pods end keep connections"]
    assert remarks == (expected if is_off else [])


@shows("pods as servers, and nodes again", "annotation service.beta.kubernetes.io/backend-type", "spec.selector")
@BOTH
def test_pods_as_servers(kind: str) -> None:
    nodes, pods, back = (either(kind, snapshot=RUNNING, annotations=each) for each in ({}, PODS, {BACKEND_TYPE: "ecs"}))
    assert (servers(nodes), servers(pods), servers(back)) == ({A, B}, {POD_1, POD_2}, {A, B})
    assert [step.split()[0] for step in changes(nodes, pods)] == ["create", "add"], (
        "the listener moves when they are well"
    )
    after = reached(pods, reached(nodes, None))
    assert [group.name for group in after.groups] == [after.listeners[0].group]
    by_hand = either(kind, snapshot=RUNNING, annotations=PODS, selector={})
    assert servers(by_hand) == {POD_1, POD_2}


@pytest.mark.parametrize(
    ("given", "annotations", "left"),
    [
        pytest.param({"unschedulable": True}, {}, {A, B}, marks=shows("a cordoned node")),
        pytest.param(
            {"unschedulable": True}, {"remove-unscheduled-backend": "on"}, {A}, marks=shows("a cordoned node")
        ),
        pytest.param(
            {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
            {},
            {A},
            marks=shows("a node that the autoscaler is about to delete"),
        ),
        pytest.param(
            {"labels": {"service.alibabacloud.com/exclude-node": "true"}},
            {},
            {A},
            marks=shows("a node that is excluded by a label", "node label service.alibabacloud.com/exclude-node"),
        ),
        pytest.param(
            {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}},
            {},
            {A},
            marks=shows(
                "a node that is excluded by a label",
                "node label node.kubernetes.io/exclude-from-external-load-balancers",
            ),
        ),
        pytest.param(
            {"labels": {"service.beta.kubernetes.io/exclude-node": "true"}},
            {},
            {A},
            marks=shows("a node that is excluded by a label", "node label service.beta.kubernetes.io/exclude-node"),
        ),
        pytest.param(
            {"labels": {"node-role.kubernetes.io/master": ""}},
            {},
            {A},
            marks=shows("a node of the control plane", "node label node-role.kubernetes.io/master"),
        ),
        pytest.param({"ready": False}, {}, {A}, marks=shows("nodes that are not ready")),
        pytest.param({"providerID": "e01-cn-x"}, {}, {A}, marks=shows("a node that is no server of ECS")),
        pytest.param({"labels": {"type": "virtual-kubelet"}}, {}, {A}, marks=shows("a pod on a virtual node")),
    ],
)
@BOTH
def test_which_nodes_are_servers(kind: str, given: dict[str, Any], annotations: dict[str, str], left: set[str]) -> None:
    snapshot = BackendSnapshot([node("a"), node("b", **given)])
    assert servers(either(kind, snapshot=snapshot, annotations=annotations)) == left
    notes = judged(kind=KINDS[kind], snapshot=snapshot, annotations=annotations).notes
    assert [note.split(":")[0] for note in notes] == (["node b is no backend"] if B not in left else [])


@shows("a node of the control plane", "node label node-role.kubernetes.io/master")
@BOTH
def test_a_cluster_of_a_control_plane_alone(kind: str) -> None:
    only = BackendSnapshot([node("a", labels={"node-role.kubernetes.io/master": ""})])
    assert servers(either(kind, snapshot=only)) == {A}


@shows("nodes that are not ready")
@BOTH
def test_no_node_is_ready(kind: str) -> None:
    none = BackendSnapshot([node("a", ready=False), node("b", ready=False)])
    assert changes(either(kind), either(kind, snapshot=none)) == []


@shows("Local, and the pod is on a node that is not ready")
@BOTH
def test_a_pod_on_a_node_that_is_not_ready(kind: str) -> None:
    nodes = [node("a"), node("b", ready=False)]
    state = with_pods(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "b")), nodes=nodes)
    assert servers(either(kind, snapshot=state, externalTrafficPolicy="Local")) == {"i-a:30698 weight 1"}


@shows("a pod on a virtual node", "virtual nodes (ECI)")
@BOTH
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_pod_on_a_virtual_node(kind: str, policy: str) -> None:
    nodes = [node("a"), node("v", labels={"type": "virtual-kubelet"})]
    state = with_pods(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "v")), nodes=nodes)
    model = either(kind, snapshot=state, externalTrafficPolicy=policy)
    assert model.virtual == ("10.0.0.2",)
    assert {server.split(":")[0] for server in servers(model)} == {"i-a"}
    notes = judged(kind=KINDS[kind], snapshot=state, externalTrafficPolicy=policy).notes
    assert any("10.0.0.2 is on a virtual node, which is not supported" in note for note in notes)


def group_of_the_user(identity: str) -> ServerGroup:
    return ServerGroup(identity, identity=identity, is_lent=True)


def in_groups(kind: str, text: str, *ports: dict[str, Any], **more: str) -> Any:
    """What a Service asks for that puts its servers into groups of the user's."""
    return either(kind, *ports, snapshot=RUNNING, annotations={"id": "lb-u", "vgroup-port": text, **more})


@shows("servers in groups of the user's", "vgroup-port")
@BOTH
def test_servers_in_groups_of_the_users(kind: str) -> None:
    groups = tuple(map(group_of_the_user, ("sgp-1", "sgp-2")))
    ours = lent(kind, groups=groups)
    model = in_groups(kind, "sgp-1:80,sgp-2:443", HTTP, SECURE)
    assert reuse_fault(model, ours) is None
    after = reached(model, ours)
    assert {group.name: len(group.servers) for group in after.groups} == {"sgp-1": 2, "sgp-2": 2}
    assert after.listeners == ours.listeners


@shows("servers move to another group of the user's")
@BOTH
def test_servers_move_to_another_group(kind: str) -> None:
    groups = tuple(map(group_of_the_user, ("sgp-1", "sgp-2")))
    first = reached(in_groups(kind, "sgp-1:80"), lent(kind, groups=groups))
    after = reached(in_groups(kind, "sgp-2:80"), first)
    assert {group.name: len(group.servers) for group in after.groups} == {"sgp-1": 0, "sgp-2": 2}


@shows("a group that does not exist, or is another balancer's")
@BOTH
def test_a_group_that_does_not_exist(kind: str) -> None:
    model = in_groups(kind, "sgp-none:80")
    assert "names sgp-none, which is no server group of yours" in (reuse_fault(model, lent(kind)) or "")
    assert not any(isinstance(step, CreateGroup) for step in plan(model, lent(kind)))


@shows("a weight for all servers together", "weight")
@BOTH
@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        ({"externalTrafficPolicy": "Cluster"}, {None: [100, 100], "60": [30, 30], "80": [40, 40], "0": [0, 0]}),
        ({"externalTrafficPolicy": "Local"}, {None: [2, 1], "60": [40, 20], "80": [53, 26], "0": [0, 0]}),
        ({"annotations": PODS}, {None: [100, 100, 100], "60": [20, 20, 20], "100": [33, 33, 33], "0": [0, 0, 0]}),
    ],
)
def test_a_weight_for_all_servers_together(
    kind: str, spec: dict[str, Any], weights: dict[str | None, list[int]]
) -> None:
    pods = endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.3", "b"))
    state = with_pods(pods, enis=ENIS | {"10.0.0.3": "eni-3"})
    observed = lent(kind, groups=(group_of_the_user("sgp-1"),))
    for total, expected in weights.items():
        annotations = {"id": "lb-u", "vgroup-port": "sgp-1:80", **({"weight": total} if total else {})}
        given = spec | {"annotations": spec.get("annotations", {}) | annotations}
        observed = reached(either(kind, snapshot=state, **given), observed)
        (group,) = observed.groups
        assert sorted((server.weight for server in group.servers), reverse=True) == expected


@shows("an endpoint without a node")
@BOTH
def test_an_endpoint_without_a_node(kind: str) -> None:
    state = with_pods(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "")))
    assert servers(either(kind, snapshot=state, externalTrafficPolicy="Local")) == {"i-a:30698 weight 1"}
    assert servers(either(kind, snapshot=state, annotations=PODS)) == {POD_1, POD_2}


@shows("another targetPort, by number or by name")
@BOTH
def test_another_target_port(kind: str) -> None:
    by_number, other = (
        either(
            kind,
            {**HTTP, "targetPort": target},
            snapshot=with_pods(endpoints(("10.0.0.1", "a"), port=port)),
            annotations=PODS,
        )
        for target, port in ((80, 80), (8080, 8080))
    )
    by_name = either(
        kind,
        {**HTTP, "targetPort": "web"},
        snapshot=with_pods(endpoints(("10.0.0.1", "a"), port=8080)),
        annotations=PODS,
    )
    after = reached(other, reached(by_number, None))
    assert {str(each) for group in after.groups for each in group.servers} == {"eni-1/10.0.0.1:8080 weight 100"}
    after = reached(by_name, after)
    assert after.listeners[0].group == {"clb": "k8s/web/web/default/c1", "nlb": "k8s.web.TCP.web.default.c1"}[kind]
    nodes = changes(either(kind, {**HTTP, "targetPort": 80}), either(kind, {**HTTP, "targetPort": "web"}))
    assert nodes == [], "nodes are reached by their NodePort"


@shows("a pod whose network card is not known")
@BOTH
def test_a_pod_whose_network_card_is_not_known(kind: str) -> None:
    known = either(kind, snapshot=RUNNING, annotations=PODS)
    partly = either(kind, snapshot=replace(RUNNING, enis={"10.0.0.1": "eni-1"}), annotations=PODS)
    assert partly.unresolved == ("10.0.0.2",)
    assert changes(known, partly) == [], "it stays a server"
    assert servers(partly) == {POD_1}
    notes = judged(kind=KINDS[kind], snapshot=replace(RUNNING, enis={}), annotations=PODS).notes
    assert "no ENI is known to have the pod address 10.0.0.2" in notes


@shows("the weight of a server by default")
@BOTH
def test_the_weight_of_a_server_by_default(kind: str) -> None:
    model = either(kind, annotations={"default-weight": "7"})
    assert servers(model) == {"i-a:30698 weight 7", "i-b:30698 weight 7"}
    local = either(kind, snapshot=RUNNING, externalTrafficPolicy="Local", annotations={"default-weight": "7"})
    assert servers(local) == {"i-a:30698 weight 2"}


@shows("weights are left alone", "ignore-weight-update")
@BOTH
def test_weights_are_left_alone(kind: str) -> None:
    kept = {"ignore-weight-update": "on", "default-weight": "7"}
    assert changes(either(kind), either(kind, annotations=kept)) == []
    assert len(changes(either(kind), either(kind, annotations={"default-weight": "7"}))) == 1


@shows("a Service without NodePorts", "spec.allocateLoadBalancerNodePorts")
@BOTH
def test_a_service_without_node_ports(kind: str) -> None:
    without = {"port": 80, "nodePort": 0}
    spec: dict[str, Any] = {"snapshot": RUNNING, "allocateLoadBalancerNodePorts": False}
    assert servers(either(kind, without, **spec)) == {POD_1, POD_2}
    (fault,) = judged(without, kind=KINDS[kind], annotations={BACKEND_TYPE: "ecs"}, **spec).faults
    assert fault.startswith("spec.allocateLoadBalancerNodePorts is false, so nodes cannot serve port 80")


@shows("servers by address, and by identity again")
def test_servers_by_address() -> None:
    by_address = network(annotations={"server-group-type": "Ip"})
    assert servers(by_address) == {"10.1.0.97/10.1.0.97:30698 weight 100", "10.1.0.98/10.1.0.98:30698 weight 100"}
    assert by_address.groups[0].settings["ServerGroupType"] == "Ip"
    after = reached(network(), reached(by_address, None))
    assert {str(server) for server in after.groups[0].servers} == {A, B}
    pods = network(snapshot=replace(RUNNING, enis={}), annotations={**PODS, "server-group-type": "Ip"})
    assert servers(pods) == {"10.0.0.1/10.0.0.1:80 weight 100", "10.0.0.2/10.0.0.2:80 weight 100"}


SIX = BalancerConfiguration("c1", "vpc-1", "vsw-1", ipv6_backends=True)


@shows("IPv6 servers, or servers of both families", "spec.ipFamilies")
@pytest.mark.parametrize(
    ("version", "families", "affinity"),
    [("ipv6", ["IPv6"], "NonAffinity"), ("dualstack", ["IPv4", "IPv6"], "Affinity")],
)
def test_ipv6_servers(version: str, families: list[str], affinity: str) -> None:
    annotations = {"ip-version": "dualstack", "backend-ip-version": version, **PODS}
    slices = endpoints(("10.0.0.1", "a")), endpoints(("fd00::1", "a"), family="IPv6")
    state = with_pods(*slices, enis={"10.0.0.1": "eni-1", "fd00::1": "eni-1"})
    (group,) = network(snapshot=state, annotations=annotations, ipFamilies=families).groups
    assert (group.settings["AddressIPVersion"], group.settings["IpVersionAffinityMode"]) == ("DualStack", affinity)
    assert {server.address for server in group.servers} == {"10.0.0.1", "fd00::1"} - (
        {"10.0.0.1"} if version == "ipv6" else set()
    )
    assert not judged(kind=NLB, annotations=annotations, configuration=SIX, ipFamilies=families).faults
    (fault,) = judged(kind=NLB, ipFamilies=["IPv6"]).faults
    assert "do not take IPv6 servers (the cloud: ServerGroupNotSupportIpv6)" in fault


@shows("servers see the client's address")
def test_servers_see_the_clients_address() -> None:
    off, on = (network(annotations={"preserve-client-ip": each}) for each in ("off", "on"))
    (step,) = changes(off, on)
    assert step.endswith("PreserveClientIpEnabled false → true")
    tls = {"protocol-port": "tcpssl:80", "cert-id": "crt"}
    assert network(annotations=tls).groups[0].settings["PreserveClientIpEnabled"] == "false"
    (fault,) = said(judged(kind=NLB, annotations={**tls, "preserve-client-ip": "on"}).faults)
    assert fault == "annotation preserve-client-ip cannot be on with TCPSSL"


@shows("readiness gates of pods", "pod readiness gate service.readiness.alibabacloud.com/…")
@shows("namespace label k8s.alibabacloud.com/pod-readiness-gate-inject")
def test_readiness_gates_of_pods() -> None:
    asked = service(HTTP)
    asked.status.loadBalancer.ingress = [LoadBalancerIngress(ip="198.51.100.1")]
    given, without = gates_of({"app": "web"}, [asked], kind_of)
    assert given == ["service.readiness.alibabacloud.com/web"]
    assert without == []
    assert injects_gates({"k8s.alibabacloud.com/pod-readiness-gate-inject": "enabled"})
