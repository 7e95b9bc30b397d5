"""What waits until a balancer has found a server well: listeners that move, and balancers that are published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.settling import is_well, serves, waits
from spiderpool.core.cloud.loadbalancer.steps import DeleteListener, SetListener
from tests.core.pretend_balancers import HTTP, SECURE, carried_out, model_of, node, reached, service

pytestmark = pytest.mark.unit

FORMER_GROUP = "k8s.30698.TCP.web.default.c1"
IP_GROUP = "k8s.30698.TCP-ip.web.default.c1"
NODES = BackendSnapshot([node("a"), node("b")])


def network(**annotations: str) -> LoadBalancerModel:
    """What a Service with a TCP port asks for, its annotations with underscores."""
    given = {"zone-maps": "h:v,i:w"} | {key.replace("_", "-"): value for key, value in annotations.items()}
    return model_of(service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given), NODES)


def test_a_listener_moves_when_a_server_of_its_new_group_is_well() -> None:
    observed = reached(network(), None)
    model = network(server_group_type="Ip")
    filled = carried_out(plan(model, observed), observed)
    assert filled is not None
    assert [each.group for each in filled.listeners] == [FORMER_GROUP]
    assert [group.name for group in filled.groups] == [FORMER_GROUP, IP_GROUP]
    new = {(IP_GROUP, server.key) for server in filled.groups[1].servers}
    assert plan(model, filled, new) == ()
    assert waits(model, filled, new)
    assert waits(model, observed, ()), "they are not there yet"
    assert not waits(model, filled, ())
    moved = carried_out(plan(model, filled), filled)
    assert moved is not None
    assert [(each.group, [group.name for group in moved.groups]) for each in moved.listeners] == [
        (IP_GROUP, [IP_GROUP])
    ]


def test_other_changes_of_a_listener_do_not_wait_for_its_new_group() -> None:
    observed = reached(network(), None)
    steps = [str(step) for step in plan(network(server_group_type="Ip", cps="9"), observed)]
    assert "change listener tcp/80: Cps 0 → 9" in steps


def test_a_listener_of_another_protocol_waits_for_its_group_too() -> None:
    observed = reached(network(), None)
    model = network(protocol_port="tcpssl:80", cert_id="crt")
    assert not any(isinstance(step, DeleteListener) for step in plan(model, observed))
    assert [each.protocol for each in reached(model, observed).listeners] == ["tcpssl"]


@pytest.mark.parametrize("emptied", ["old", "new"])
def test_a_listener_moves_at_once_where_there_is_nothing_to_wait_for(emptied: str) -> None:
    observed = reached(network(), None)
    model = network(server_group_type="Ip")
    if emptied == "old":
        observed = replace(observed, groups=(replace(observed.groups[0], servers=frozenset()),))
    else:
        model = replace(model, groups=tuple(replace(group, servers=frozenset()) for group in model.groups))
    assert not waits(model, observed, ())
    assert any(isinstance(step, SetListener) for step in plan(model, observed))


def test_a_balancer_is_well_when_each_of_its_groups_has_a_server_that_is() -> None:
    model = model_of(service(HTTP, SECURE), NODES)
    first, second = ([(group.name, server.key) for server in group.servers] for group in model.groups)
    assert is_well(model, [*first, *second])
    assert is_well(model, [first[0], second[1]])
    assert not is_well(model, first)
    assert not is_well(model, second)
    assert not is_well(model, []), "a server that was refused is not there"
    unresolved = replace(model, unresolved=("10.0.0.1",))
    assert not is_well(unresolved, [*first, *second]), "the former balancer may have that pod"
    empty = replace(model, groups=tuple(replace(group, servers=frozenset()) for group in model.groups))
    assert is_well(empty, []), "it has nothing to wait for"


def test_servers_that_end_are_found_well_where_there_are_no_others() -> None:
    model = model_of(service(HTTP), NODES)
    (group,) = model.groups
    ending = replace(model, groups=(replace(group, servers=frozenset(), ending=group.servers),))
    first, *_ = ((group.name, server.key) for server in group.servers)
    assert not is_well(ending, [])
    assert is_well(ending, [first])


def test_a_balancer_serves_when_each_port_leads_to_a_server_of_the_service() -> None:
    model = model_of(service(HTTP, SECURE), NODES)
    observed = reached(model, None)
    assert serves(model, observed)
    first, second = observed.listeners
    for other in ((first,), (first, replace(second, running=False)), (first, replace(second, group="of another"))):
        assert not serves(model, replace(observed, listeners=other))
    filled, empty = observed.groups[0], replace(observed.groups[1], servers=frozenset())
    assert not serves(model, replace(observed, groups=(filled, empty)))
    one = replace(filled, servers=frozenset([*filled.servers][:1]))
    assert serves(model, replace(observed, groups=(one, observed.groups[1]))), "some of its servers are enough"
    without = replace(model, groups=tuple(replace(group, servers=frozenset()) for group in model.groups))
    assert serves(without, replace(observed, groups=(filled, empty))), "the Service has none"


def test_a_listener_that_has_not_moved_yet_serves_by_the_former_group_of_its_service() -> None:
    observed = reached(network(), None)
    moving = carried_out(plan(network(server_group_type="Ip"), observed), observed)
    assert moving is not None
    assert [each.group for each in moving.listeners] == [FORMER_GROUP]
    assert serves(network(server_group_type="Ip"), moving)
