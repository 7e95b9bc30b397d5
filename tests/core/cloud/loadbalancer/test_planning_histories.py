"""Plans for Services that change at random lead to what should be, also those that are cut short."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.steps import CreateBalancer, Step
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.pretend_balancers import HTTP, SECURE, carried_out, endpoints, model_of, node, reached, service

pytestmark = pytest.mark.unit

DNS = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
EVERY_PORT: list[dict[str, Any]] = [HTTP, SECURE, DNS]
PORTS = st.lists(st.sampled_from(EVERY_PORT), unique_by=lambda each: int(each["port"]))
CLASSIC = st.fixed_dictionaries(
    {},
    optional={
        "scheduler": st.sampled_from(["wrr", "rr", "sch"]),
        "health-check-switch": st.sampled_from(["on", "off"]),
        "health-check-type": st.sampled_from(["tcp", "http"]),
        "connection-drain": st.sampled_from(["on", "off"]),
        "sticky-session": st.sampled_from(["on", "off"]),
        "charge-type": st.sampled_from(["paybytraffic", "paybybandwidth"]),
        "instance-charge-type": st.sampled_from(["PayBySpec", "PayByCLCU"]),
        "delete-protection": st.sampled_from(["on", "off"]),
        "name": st.sampled_from(["one", "two"]),
        "additional-resource-tags": st.sampled_from(["a=b", "a=c"]),
        "protocol-port": st.sampled_from(["http:80", "http:80,https:443"]),
        "cert-id": st.just("crt"),
        "forward-port": st.just("80:443"),
        "service.beta.kubernetes.io/backend-type": st.sampled_from(["eni", "ecs"]),
    },
)
NETWORK = st.fixed_dictionaries(
    {"zone-maps": st.just("h:v,i:w")},
    optional={
        "protocol-port": st.just("TCPSSL:443"),
        "cert-id": st.sampled_from(["one", "one,two"]),
        "scheduler": st.sampled_from(["rr", "wlc"]),
        "health-check-flag": st.sampled_from(["on", "off"]),
        "security-group-ids": st.sampled_from(["sg-1", "sg-1,sg-2"]),
        "server-group-type": st.sampled_from(["Ip", "Instance"]),
        "cross-zone-enabled": st.sampled_from(["true", "false"]),
        "proxy-protocol": st.sampled_from(["on", "off"]),
    },
)
RANGES = st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "0.0.0.0/0"]), max_size=2, unique=True)
PODS = st.lists(st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), st.sampled_from("ab")), max_size=3)


@st.composite
def models(draw: st.DrawFn, network: bool) -> LoadBalancerModel:
    spec: dict[str, Any] = {"annotations": draw(NETWORK if network else CLASSIC)}
    spec["loadBalancerSourceRanges"] = draw(RANGES)
    spec["externalTrafficPolicy"] = draw(st.sampled_from(["Local", "Cluster"]))
    if network:
        spec["loadBalancerClass"] = "alibabacloud.com/nlb"
    ports = draw(PORTS)
    if "forward-port" in spec["annotations"] and spec["annotations"].get("protocol-port") != "http:80,https:443":
        del spec["annotations"]["forward-port"]
    if len([port for port in ports if port["port"] in (80, 443)]) < 2:
        spec["annotations"].pop("forward-port", None)
    nodes = [node(name, ready=draw(st.booleans())) for name in draw(st.sampled_from(["a", "ab"]))]
    enis = {"10.0.0.1": "eni-1", "10.0.0.2": "eni-2"}
    return model_of(service(*ports, **spec), BackendSnapshot(nodes, [endpoints(*draw(PODS))], enis))


@given(history=st.booleans().flatmap(lambda network: st.lists(models(network), min_size=1, max_size=4)))
def test_every_change_reaches_what_should_be_and_ends(history: list[LoadBalancerModel]) -> None:
    observed: ObservedLoadBalancer | None = None
    for model in history:
        observed = reached(model, observed)
        assert {listener.key for listener in observed.listeners} == {listener.key for listener in model.listeners}
        for group in model.groups:
            there = observed.group(group.name)
            assert there is not None
            assert {
                server for server in there.servers if (server.address, server.port) not in group.keep
            } == group.servers
        assert observed.settings.items() >= model.settings.items()
        assert observed.tags.items() >= model.tags.items()


@given(pair=st.booleans().flatmap(lambda network: st.tuples(models(network), models(network))), data=st.data())
def test_a_plan_that_was_cut_short_is_finished_by_the_next(
    pair: tuple[LoadBalancerModel, LoadBalancerModel], data: st.DataObject
) -> None:
    first, second = pair
    observed = reached(first, None)
    steps: tuple[Step, ...] = plan(second, observed)
    cut = data.draw(st.integers(0, len(steps)))
    reached(second, carried_out(steps[:cut], observed))


@given(model=st.booleans().flatmap(models), data=st.data())
def test_a_creation_that_was_cut_short_is_finished_by_the_next(model: LoadBalancerModel, data: st.DataObject) -> None:
    steps = plan(model, None)
    cut = data.draw(st.integers(1, len(steps)))
    after = carried_out(steps[:cut], None)
    assert after is not None
    assert not any(isinstance(step, CreateBalancer) for step in plan(model, after))
    reached(model, after)
