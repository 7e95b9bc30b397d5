"""A port keeps the servers that it has while the ENIs of the pods that are to serve it are not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, ServerGroup
from tests.core.pretend_balancers import HTTP, carried_out, endpoints, model_of, node, reached, service

pytestmark = pytest.mark.unit

PODS = {"service.beta.kubernetes.io/backend-type": "eni"}
SLICES = [endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"))]
FIRST, SECOND = ({"10.0.0.1": "eni-1"}, {"10.0.0.2": "eni-2"})
NODE_GROUP, POD_GROUP = "k8s/30698/web/default/c1", "k8s/80/web/default/c1"
OVERRIDE = {"id": "lb-1", "force-override-listeners": "true"}


def by_nodes(*ports: dict[str, Any], **annotations: str) -> LoadBalancerModel:
    """Nodes are the servers."""
    return model_of(service(*(ports or (HTTP,)), annotations=annotations), BackendSnapshot([node("a")], SLICES))


def by_pods(enis: dict[str, str], **annotations: str) -> LoadBalancerModel:
    """Pods are the servers, with those ENIs that are known."""
    return model_of(service(HTTP, annotations={**PODS, **annotations}), BackendSnapshot([node("a")], SLICES, enis))


def servers_of(observed: ObservedLoadBalancer, port: int = 80) -> list[str]:
    """The servers behind a listener."""
    listener = observed.listener(port, "tcp")
    group = observed.group(listener.group) if listener else None
    return sorted(server.identity for server in group.servers) if group else []


@pytest.mark.parametrize("more", [{}, {"protocol-port": "http:80"}, {"scheduler": "sch"}])
def test_a_listener_moves_to_pods_only_when_one_of_them_is_known(more: dict[str, str]) -> None:
    waiting = reached(by_pods({}, **more), reached(by_nodes(), None))
    assert servers_of(waiting) == ["i-a"]
    assert waiting.group(POD_GROUP) is not None
    after = reached(by_pods(FIRST, **more), waiting)
    assert servers_of(after) == ["eni-1"]
    assert after.group(NODE_GROUP) is None


def test_what_can_be_changed_of_a_listener_that_stays_is_changed() -> None:
    waiting = reached(by_pods({}, **{"established-timeout": "60"}), reached(by_nodes(), None))
    (listener,) = waiting.listeners
    assert (listener.group, listener.settings["EstablishedTimeout"]) == (NODE_GROUP, "60")


def test_a_port_without_a_node_port_takes_no_other_port_along() -> None:
    spec: dict[str, Any] = {"allocateLoadBalancerNodePorts": False}
    before = reached(model_of(service(HTTP, **spec), BackendSnapshot([node("a")], SLICES)), None)
    more = service(HTTP, {"port": 8080, "nodePort": None}, **spec)
    after = reached(model_of(more, BackendSnapshot([node("a")], SLICES)), before)
    assert (servers_of(after), servers_of(after, 8080)) == (["i-a"], [])


def test_pods_of_the_former_group_stay_as_long_as_they_answer() -> None:
    both = reached(by_pods({**FIRST, **SECOND}), None)
    gone = BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=9090)])
    moved = service({**HTTP, "targetPort": 9090}, annotations=PODS)
    assert servers_of(reached(model_of(moved, gone), both)) == ["eni-1"]
    others = BackendSnapshot([], [endpoints(("10.0.0.7", "a"), port=9090)])
    assert servers_of(reached(model_of(moved, others), both)) == []


def test_nodes_stay_in_a_users_group() -> None:
    lent = {"id": "lb-1", "vgroup-port": "rsp-1:80"}
    mine = Listener(80, "tcp", "mine", "rsp-1")
    empty = ObservedLoadBalancer(
        "lb-1", "", "", listeners=(mine,), groups=(ServerGroup("rsp-1", identity="rsp-1", is_lent=True),)
    )
    served = reached(by_nodes(**lent), empty)
    waiting = reached(by_pods({}, **lent), served)
    assert servers_of(waiting) == ["i-a"]
    assert servers_of(reached(by_pods(FIRST, **lent), waiting)) == ["eni-1"]
    other = ServerGroup("rsp-2", identity="rsp-2", is_lent=True)
    waiting = reached(
        by_pods({}, **{**lent, "vgroup-port": "rsp-2:80"}), replace(served, groups=(*served.groups, other))
    )
    assert servers_of(waiting) == ["i-a"], "until the user moves the listener, or a pod is known"


def test_a_users_listener_is_taken_over_only_when_a_pod_is_known() -> None:
    theirs = ObservedLoadBalancer(
        "lb-1", "", "", listeners=(Listener(80, "tcp", "mine", "rsp-1"),), groups=(ServerGroup("rsp-1"),)
    )
    waiting = reached(by_pods({}, **OVERRIDE), theirs)
    assert waiting.listeners == theirs.listeners
    assert servers_of(reached(by_pods(FIRST, **OVERRIDE), waiting)) == ["eni-1"]


def test_without_servers_there_is_nothing_to_keep() -> None:
    before = carried_out(plan(model_of(service(HTTP, annotations=PODS), BackendSnapshot()), None), None)
    moved = service({**HTTP, "targetPort": 9090}, annotations=PODS)
    after = reached(model_of(moved, BackendSnapshot([], [endpoints(("10.0.0.1", "a"), port=9090)])), before)
    assert [listener.group for listener in after.listeners] == ["k8s/9090/web/default/c1"]
