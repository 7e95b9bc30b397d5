"""Pods that wait for a load balancer: which are servers before they are ready."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, ObjectReference, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB, kind_of
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.gates import (
    ClosedPod,
    PodNodes,
    candidates,
    closed_gates,
    closed_pod,
    gate_states,
    gates_of,
    places,
    served,
    with_admitted,
)
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.planning import only_backends, plan
from spiderpool.core.cloud.loadbalancer.values import ServerGroup
from tests.core.pretend_balancers import (
    carried_out,
    endpoints,
    model_of,
    node,
    options,
    reached,
    service,
)

pytestmark = pytest.mark.unit

GATE = "service.readiness.alibabacloud.com/web"
WEB = service({"port": 80})


def referring(item: EndpointSlice, **reference: Any) -> EndpointSlice:
    """The slice with a reference to a pod ``p-<address>`` at each endpoint."""
    listed = []
    for each in item.endpoints or ():
        uid = f"uid-{each.addresses[0]}"
        fields = {"kind": "Pod", "name": f"p-{each.addresses[0]}", "namespace": "default", "uid": uid, **reference}
        listed.append(replace(each, targetRef=ObjectReference(**fields)))
    return replace(item, endpoints=listed)


def published(requested: Service) -> Service:
    """The Service with the address of a balancer."""
    status = msgspec.convert({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}, type(requested.status))
    return replace(requested, status=status)


def pod(uid: str, *true: str, gate: str = GATE) -> GatedPod:
    """A pod with a gate, and with conditions that are True."""
    body = {
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"readinessGates": [{"conditionType": gate}] if gate else None},
        "status": {"conditions": [{"type": each, "status": "True"} for each in true]},
    }
    return msgspec.convert(body, GatedPod)


@pytest.mark.parametrize(
    ("conditions", "reference", "published", "looked_at"),
    [
        ({"ready": False}, {}, None, True),
        ({"ready": True}, {}, None, False),
        ({"ready": True}, {}, True, True),
        ({"ready": False, "terminating": True}, {}, None, False),
        ({"ready": False}, {"kind": "Node"}, None, False),
        ({"ready": False}, {"namespace": "other"}, None, False),
        ({"ready": False}, {"namespace": None}, None, True),
        ({"ready": False}, {"uid": None}, None, False),
    ],
)
def test_pods_whose_gates_are_looked_at(
    conditions: dict[str, bool], reference: dict[str, Any], published: bool | None, looked_at: bool
) -> None:
    found = referring(endpoints(("10.0.0.1", "a"), conditions=conditions), **reference)
    requested = service({"port": 80}, publishNotReadyAddresses=published)
    assert [each.name for each in candidates(requested, [found, found])] == (["p-10.0.0.1"] if looked_at else [])


def test_an_endpoint_without_pod_has_no_gate() -> None:
    assert candidates(WEB, [endpoints(("10.0.0.1", "a"), ready=False)]) == []


def test_a_pod_is_a_server_when_its_containers_are_ready() -> None:
    closed, opened = pod("closed", "ContainersReady"), pod("opened", "ContainersReady", GATE)
    waiting, of_another = pod("waiting"), pod("another", "ContainersReady", gate=f"{GATE}-2")
    states = gate_states([closed, opened, waiting, of_another, pod("plain", gate="")], GATE)
    assert states.admitted == {"closed", "opened"}, "also while the kubelet has not noticed the condition"
    assert states.closed == (closed,)
    assert states.waiting == (waiting,)
    assert states.without == {"another", "plain"}


def test_the_endpoints_of_such_pods_count_as_ready() -> None:
    item = referring(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ready=False))
    ready = [each.ready for one in with_admitted([item], {"uid-10.0.0.2"}) for each in one.endpoints or ()]
    assert ready == [False, True]
    assert with_admitted([item], ()) == [item]


@pytest.mark.parametrize(
    ("labels", "spec", "gates"),
    [
        ({"app": "web", "tier": "front"}, {}, [GATE]),
        ({"app": "api"}, {}, []),
        ({"app": "web"}, {"selector": None}, []),
        ({"app": "web"}, {"selector": {"app": "web", "tier": "back"}}, []),
        ({"app": "web"}, {"type": "ClusterIP"}, []),
        ({"app": "web"}, {"loadBalancerClass": "example.com/other"}, []),
        ({"app": "web"}, {"loadBalancerClass": "alibabacloud.com/nlb"}, [GATE]),
    ],
)
def test_the_gates_of_a_new_pod_are_those_of_the_services_that_select_it(
    labels: dict[str, str], spec: dict[str, Any], gates: list[str]
) -> None:
    requested = service({"port": 80}, **spec)
    assert gates_of(labels, [published(requested)], kind_of) == (gates, [])
    assert gates_of(labels, [requested], kind_of) == ([], ["web"] if gates else []), "perhaps it is refused for ever"


def test_a_gate_is_named_after_its_service() -> None:
    assert {kind.naming.readiness_gate("web") for kind in (CLB, NLB)} == {GATE}


PODS = {"annotations": {"service.beta.kubernetes.io/backend-type": "eni"}}
ENIS = {"10.0.0.1": "eni-1", "10.0.0.2": "eni-2"}


def closed(*names: str) -> ClosedPod:
    """A pod that is reached by servers of these names."""
    return ClosedPod(pod("-".join(names), "ContainersReady"), frozenset(names))


def test_a_pod_is_served_when_it_is_in_the_group_of_each_port() -> None:
    """A port whose group is not there yet, since the Service is refused for something else, has no servers."""
    slices = [endpoints(("10.0.0.1", "a"), port=80)]
    before = reached(model_of(service({"port": 80}, **PODS), BackendSnapshot((), slices, ENIS)), None)
    moved = model_of(
        service({"port": 80, "targetPort": 9090}, **PODS),
        BackendSnapshot((), [endpoints(("10.0.0.1", "a"), port=9090)], ENIS),
    )
    steps = only_backends(plan(moved, before))
    assert not steps
    waits = closed("10.0.0.1")
    assert served([waits], moved, places(before.groups, steps)) == ([], [waits])
    after = carried_out(plan(moved, before), before)
    assert after is not None
    assert served([waits], moved, places(after.groups)) == ([waits], [])
    assert served([waits], moved, places(before.groups, plan(moved, before))) == ([waits], [])


def test_a_pod_waits_for_no_other_server_than_its_own() -> None:
    slices = [endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ("10.0.0.9", "a"))]
    model = model_of(service({"port": 80}, **PODS), BackendSnapshot((), slices, ENIS))
    (group,) = model.groups
    present = {(group.name, server.key) for server in group.servers if server.address == "10.0.0.1"}
    first, second, unresolved = closed("10.0.0.1"), closed("10.0.0.2"), closed("10.0.0.9")
    assert served([first, second, unresolved], model, present) == ([first], [second, unresolved])


@pytest.mark.parametrize(
    ("policy", "present", "is_served"),
    [
        ("Local", ["i-a"], True),
        ("Local", ["i-b"], False),
        ("Cluster", ["i-b"], True),
        ("Cluster", [], False),
    ],
)
def test_with_nodes_as_servers_a_pod_is_reached_by_its_node_or_by_any(
    policy: str, present: list[str], is_served: bool
) -> None:
    requested = service({"port": 80}, externalTrafficPolicy=policy)
    slices = [referring(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "b")))]
    nodes = {name: node(name) for name in ("a", "b")}
    model = model_of(requested, BackendSnapshot([*nodes.values()], slices))
    (group,) = model.groups
    there = {(group.name, server.key) for server in group.servers if server.identity in present}
    waiting = pod("uid-10.0.0.1", "ContainersReady")
    each = closed_pod(waiting, requested, slices, options("clb", {}), PodNodes(requested.spec.ports or (), nodes.get))
    own = frozenset({"i-a"} if policy == "Local" else ())
    assert (each.reached_by, each.nodes) == (own | {"10.0.0.1"}, own)
    assert served([each], model, there) == (([each], []) if is_served else ([], [each]))


EXCLUDED: dict[str, Any] = {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}
LOCAL: dict[str, Any] = {"externalTrafficPolicy": "Local"}


def opens(place: Node | None, kind: str = "clb", annotations: dict[str, str] | None = None, **spec: Any) -> bool:
    """Whether the gate of a pod on node b opens that answers by port 80, beside one on node a; ``place``: node b."""
    given = annotations or {}
    port = spec.pop("port", {"port": 80, "nodePort": 30080})
    spec |= {"loadBalancerClass": "alibabacloud.com/nlb"} if kind == "nlb" else {}
    requested = service(port, annotations=given, **spec)
    waiting = pod("uid-10.0.0.2", "ContainersReady")
    slices = [
        referring(endpoints(("10.0.0.1", "a"))),
        referring(endpoints(("10.0.0.2", "b"), ready=False)),
    ]
    nodes = {"a": node("a")} | ({"b": place} if place else {})
    of_nodes = [] if given.get("service.beta.kubernetes.io/backend-type") else requested.spec.ports or []
    chosen = options_of(requested, NLB if kind == "nlb" else CLB)
    each = closed_pod(waiting, requested, slices, chosen, PodNodes(of_nodes, nodes.get))
    snapshot = BackendSnapshot([*nodes.values()], with_admitted(slices, {"uid-10.0.0.2"}), ENIS)
    model = model_of(requested, snapshot)
    return served([each], model, places(model.groups))[0] == [each]


@pytest.mark.parametrize("kind", ["clb", "nlb"])
@pytest.mark.parametrize(
    ("place", "is_open"),
    [
        (node("b"), True),
        (node("b", ready=False), False),
        (None, False),
        (node("b", providerID=""), False),
        (node("b", providerID="ack-hybrid://x.y"), True),
        (node("b", **EXCLUDED), True),
        (node("b", ready=False, **EXCLUDED), True),
        (node("b", labels={"node-role.kubernetes.io/master": ""}), True),
        (node("b", labels={"type": "virtual-kubelet"}, providerID=""), True),
        (node("b", taints=[{"key": "ToBeDeletedByClusterAutoscaler"}]), True),
    ],
    ids=["ready", "not ready", "unknown", "new", "elsewhere", "excluded", "both", "control", "virtual", "going"],
)
def test_with_local_a_pod_waits_for_its_node_unless_that_will_be_no_server(
    kind: str, place: Node | None, *, is_open: bool
) -> None:
    assert opens(place, kind, **LOCAL) is is_open
    assert opens(place, kind), "any node leads to it"


@pytest.mark.parametrize("place", [None, node("b", ready=False), node("b", providerID="")])
def test_a_pod_that_no_node_leads_to_waits_for_none(place: Node | None) -> None:
    assert opens(place, annotations=PODS["annotations"], **LOCAL), "pods are the servers"
    assert opens(place, port={"port": 80, "name": "other", "nodePort": 30080}, **LOCAL), "it answers by no port"
    assert opens(place, "nlb", {"backend-ip-version": "ipv6"}, **LOCAL), "it has no address of the family"


def test_where_servers_are_addresses_a_pod_waits_for_that_of_its_node() -> None:
    by_address = {"server-group-type": "ip"}
    assert opens(node("b"), "nlb", by_address, **LOCAL)
    assert not opens(node("b", ready=False), "nlb", by_address, **LOCAL)
    assert not opens(without_address(node("b")), "nlb", by_address, **LOCAL)


def without_address(named: Node) -> Node:
    return replace(named, status=replace(named.status, addresses=None))


def test_a_node_that_is_ready_again_opens_the_gate_once_it_is_a_server() -> None:
    """All nodes are not ready: then all are servers."""
    requested = service({"port": 80}, **LOCAL)
    slices = [referring(endpoints(("10.0.0.1", "a"), ready=False))]
    place = node("a", ready=False)
    waiting = pod("uid-10.0.0.1", "ContainersReady")
    each = closed_pod(
        waiting, requested, slices, options("clb", {}), PodNodes(requested.spec.ports or (), {"a": place}.get)
    )
    model = model_of(requested, BackendSnapshot([place], with_admitted(slices, {"uid-10.0.0.1"})))
    assert served([each], model, ()) == ([], [each])
    assert served([each], model, places(model.groups)) == ([each], [])


def test_the_gates_that_are_closed() -> None:
    waiting = pod("waiting")
    assert closed_gates([waiting, pod("open", GATE), pod("plain", gate="")], GATE) == [waiting]


def test_a_server_that_is_anothers_in_a_users_group_is_there_all_the_same() -> None:
    key = ("eni-1", "10.0.0.1", 80)
    assert places([ServerGroup("rsp-1", is_lent=True, others=frozenset({key}))]) == {("rsp-1", key)}
