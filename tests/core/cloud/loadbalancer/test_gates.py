"""Pods that wait for a load balancer: which are servers before they are ready."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import ObjectReference
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.pod_readiness import GatedPod
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB, kind_of
from spiderpool.core.cloud.loadbalancer.gates import addresses_of, candidates, gate_states, gates_of, with_admitted
from tests.core.pretend_balancers import endpoints, service

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
    assert states.waiting == {"waiting"}
    assert states.without == {"another", "plain"}


def test_the_endpoints_of_such_pods_count_as_ready() -> None:
    item = referring(endpoints(("10.0.0.1", "a"), ("10.0.0.2", "a"), ready=False))
    ready = [each.ready for one in with_admitted([item], {"uid-10.0.0.2"}) for each in one.endpoints or ()]
    assert ready == [False, True]
    assert with_admitted([item], ()) == [item]
    assert addresses_of([item], "uid-10.0.0.2") == {"10.0.0.2"}


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
    assert gates_of(labels, [service({"port": 80}, **spec)], kind_of) == gates


def test_a_gate_is_named_after_its_service() -> None:
    assert {kind.naming.readiness_gate("web") for kind in (CLB, NLB)} == {GATE}
