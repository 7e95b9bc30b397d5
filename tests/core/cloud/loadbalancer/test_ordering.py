"""Which steps wait for which: a plan stays right in every order that this allows, whatever is refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.ordering import prerequisites
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal
from spiderpool.core.cloud.loadbalancer.steps import CreateBalancer, Step
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer, ServerGroup
from tests.core.pretend_balancers import HTTP, SECURE, carried_out, model_of, node, reached, service

pytestmark = pytest.mark.unit

NODES = BackendSnapshot([node("a"), node("b")])
SECURE_PORTS = (HTTP, SECURE)
OTHERS = BackendSnapshot([node("c")])
REDIRECT = {"protocol-port": "http:80,https:443", "forward-port": "80:443", "cert-id": "crt-1"}
RANGES = ("10.0.0.0/8", "192.0.2.0/24")
SECOND = {"port": 76, "nodePort": 30076}
OVERRIDE = (("force-override-listeners", "true"),)
USERS = ObservedLoadBalancer(
    "lb-u",
    "users",
    "198.51.100.9",
    groups=tuple(ServerGroup(name, identity=name, is_lent=True) for name in ("rsp-1", "rsp-2")),
)


def lent(groups: str, backends: BackendSnapshot, *annotations: tuple[str, str]) -> LoadBalancerModel:
    """A Service on a user's balancer, whose servers are put into a user's group."""
    given = {"id": "lb-u", **({"vgroup-port": groups} if groups else {}), **dict(annotations)}
    return model_of(service(HTTP, annotations=given), backends)


def ranged(ports: str, *others: dict[str, int]) -> LoadBalancerModel:
    """A network balancer that listens on ranges of ports."""
    given = {"zone-maps": "h:v,i:w", "listener-port-range": ports}
    listed = [{"port": 70, "nodePort": 30070}, *others]
    return model_of(service(*listed, loadBalancerClass="alibabacloud.com/nlb", annotations=given), NODES)


def closed(network: bool, *ranges: str) -> LoadBalancerModel:
    """A Service that admits the clients of some ranges alone."""
    annotations = {"zone-maps": "h:v,i:w"} if network else {}
    spec: dict[str, Any] = {"loadBalancerClass": "alibabacloud.com/nlb"} if network else {}
    ports = SECURE_PORTS if len(ranges) > 1 else (HTTP,)
    return model_of(service(*ports, loadBalancerSourceRanges=[*ranges], annotations=annotations, **spec), NODES)


HISTORIES = [
    (model_of(service(HTTP), NODES), model_of(service(HTTP), OTHERS)),
    (model_of(service(HTTP, SECURE), NODES), model_of(service(HTTP), NODES)),
    (model_of(service(HTTP), NODES), model_of(service({"port": 80, "nodePort": 31000}), NODES)),
    (model_of(service(HTTP, SECURE), NODES), model_of(service(HTTP, SECURE, annotations=REDIRECT), NODES)),
    (model_of(service(HTTP, SECURE, annotations=REDIRECT), NODES), model_of(service(HTTP, SECURE), OTHERS)),
    (
        model_of(service(HTTP), NODES),
        model_of(service(HTTP, annotations={"name": "x", "additional-resource-tags": "team=x"}), OTHERS),
    ),
    *(
        (lent(former, NODES, *OVERRIDE), lent(later, backends, *OVERRIDE))
        for former, later in (("rsp-1:80", "rsp-2:80"), ("rsp-1:80", ""), ("", "rsp-1:80"))
        for backends in (NODES, OTHERS)
    ),
    (lent("rsp-1:80", NODES, *OVERRIDE), lent("rsp-2:80", NODES, *OVERRIDE, ("protocol-port", "http:80"))),
    (ranged("70-75:70"), ranged("71-75:70")),
    (ranged("70-75:70"), ranged("70-80:70")),
    (ranged("70-75:70", SECOND), ranged("70-72:70,73-80:76", SECOND)),
    *(
        (closed(network, *former), closed(network, *later))
        for network in (False, True)
        for former, later in (((), RANGES), (RANGES[:1], RANGES), (RANGES, RANGES[1:]), (RANGES, ()))
    ),
]


def observed(model: LoadBalancerModel | None = None) -> ObservedLoadBalancer:
    """A balancer without parts, or as a model wants it."""
    if model is not None:
        return reached(model, USERS if model.reuse else None)
    made = carried_out([CreateBalancer(model_of(service(HTTP), NODES))], None)
    assert made is not None
    return made


def waits(steps: Sequence[Step], before: ObservedLoadBalancer) -> dict[str, tuple[set[str], set[str]]]:
    """The steps that each step waits for, and those of them that it needs, as text."""
    return {
        str(step): ({str(steps[place]) for place in each.ended}, {str(steps[place]) for place in each.done})
        for step, each in zip(steps, prerequisites(steps, before), strict=True)
    }


@pytest.mark.parametrize(("before", "after"), HISTORIES)
@pytest.mark.parametrize("seed", range(5))
def test_every_allowed_order_leads_to_what_should_be(
    before: LoadBalancerModel, after: LoadBalancerModel, seed: int
) -> None:
    present, shuffle = observed(before), random.Random(seed)
    steps = plan(after, present)
    open_steps, order = dict(enumerate(prerequisites(steps, present))), list[Step]()
    while open_steps:
        place = shuffle.choice([place for place, each in open_steps.items() if not each.ended & open_steps.keys()])
        del open_steps[place]
        order.append(steps[place])
    reached(after, carried_out(order, present))


@pytest.mark.parametrize("is_filled", [False, True])
@pytest.mark.parametrize(("before", "after"), HISTORIES)
def test_whichever_step_is_refused_every_port_keeps_a_server(
    before: LoadBalancerModel, after: LoadBalancerModel, is_filled: bool
) -> None:
    present = observed(before)
    if is_filled:  # what waited for servers to be well comes now
        present = carried_out(plan(after, present), present) or present
    steps = plan(after, present)
    needs = prerequisites(steps, present)
    former = {(listener.ports, listener.protocol) for listener in before.listeners}
    kept = {listener.port for listener in after.listeners if (listener.ports, listener.protocol) in former}
    for refused in range(len(steps)):
        done = set[int]()
        for place in range(len(steps)):
            if place != refused and needs[place].done <= done:
                done.add(place)
        state = carried_out([steps[place] for place in sorted(done)], present)
        assert state is not None
        for port in kept:
            listener = state.listener(port, "tcp")
            assert listener is not None
            group = state.group(listener.group)
            assert group is None or group.servers, f"without {steps[refused]}"
        reached(after, state)


def test_settings_and_tags_come_last_and_stop_nothing() -> None:
    before, after = HISTORIES[5]
    found = waits(plan(after, observed(before)), observed(before))
    *parts, name, tag = found
    assert name.startswith("change the balancer's name")
    assert tag.startswith("tag the balancer")
    assert tag.endswith("team=x")
    assert found[tag] == ({*parts, name}, set())


def test_the_last_servers_go_only_after_others_have_come() -> None:
    before, after = HISTORIES[0]
    add, remove = map(str, plan(after, observed(before)))
    assert waits(plan(after, observed(before)), observed(before))[remove] == ({add}, {add})
    one_of_two = plan(model_of(service(HTTP), BackendSnapshot([node("a"), node("c")])), observed(before))
    assert waits(one_of_two, observed(before))[str(one_of_two[1])] == ({str(one_of_two[0])}, set())


def test_a_port_is_replaced_only_when_its_new_group_has_servers() -> None:
    before, after = HISTORIES[2]
    create, add = plan(after, observed(before))
    change, delete = plan(after, carried_out([create, add], observed(before)))
    found = waits([create, add, change, delete], observed(before))
    assert found[str(add)][1] == {str(create)}
    assert found[str(change)][1] == {str(create), str(add)}
    assert found[str(delete)][1] == {str(change)}


@pytest.mark.parametrize(("former", "later"), [("rsp-1:80", "rsp-2:80"), ("rsp-1:80", "")])
def test_whichever_step_is_refused_a_users_listener_keeps_a_server(former: str, later: str) -> None:
    before, after = lent(former, NODES), lent(later, OTHERS)
    present = observed(before)
    steps = plan(after, present)
    needs = prerequisites(steps, present)
    for refused in range(len(steps)):
        done = set[int]()
        for place in range(len(steps)):
            if place != refused and needs[place].done <= done:
                done.add(place)
        state = carried_out([steps[place] for place in sorted(done)], present)
        assert state is not None
        assert any(group.servers for group in state.groups), f"without {steps[refused]}"


def test_a_users_group_is_emptied_when_its_listener_has_moved() -> None:
    desired, present = lent("rsp-2:80", NODES, *OVERRIDE), observed(lent("rsp-1:80", NODES, *OVERRIDE))
    (add,) = plan(desired, present)
    filled = carried_out([add], present)
    assert filled is not None
    change, remove = plan(desired, filled)
    assert str(add).startswith("add to rsp-2")
    assert str(remove).startswith("remove from rsp-1")
    assert waits([change, remove], filled)[str(remove)][1] == {str(change)}


def test_servers_of_a_port_that_stays_do_not_wait_for_another() -> None:
    present = observed(lent("rsp-1:80", NODES, *OVERRIDE))
    for backends in (BackendSnapshot([node("a")]), BackendSnapshot([])):
        steps = plan(lent("rsp-1:80", backends, *OVERRIDE, ("scheduler", "rr")), present)
        (remove,) = (step for step in steps if str(step).startswith("remove"))
        assert len(steps) > 1
        assert waits(steps, present)[str(remove)] == (set(), set())


def test_a_redirect_waits_for_its_target() -> None:
    before, after = HISTORIES[3]
    found = waits(plan(after, observed(before)), observed(before))
    target = "create listener https/443"
    (made,) = (each for each in found if each.startswith(target))
    assert made in found["delete listener tcp/80"][1]


def test_a_redirect_does_not_wait_for_the_udp_listener_of_its_target_s_port() -> None:
    udp = SECURE | {"protocol": "UDP", "nodePort": 30444}
    secure = {"protocol-port": "http:80,https:443", "cert-id": "crt", "forward-port": "80:443"}
    found = waits(plan(model_of(service(HTTP, SECURE, udp, annotations=secure), OTHERS), observed()), observed())
    (redirect,) = (step for step in found if "http/80" in step)
    needed = found[redirect][1]
    assert any("https/443" in step for step in needed)
    assert not any("udp/443" in step for step in needed)


def test_a_removal_is_one_after_the_other() -> None:
    present = observed(HISTORIES[0][0])
    for preserve in (False, True):
        steps = plan_removal(CLB, HISTORIES[0][0].owner, present, preserve=preserve)
        for place, each in enumerate(prerequisites(steps, present)):
            assert each.done >= set(range(1 if preserve else 0, place))
