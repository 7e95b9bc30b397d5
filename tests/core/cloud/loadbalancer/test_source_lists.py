"""Lists of admitted clients: no order of steps, and no refusal, opens a Service wider than asked, or closes it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.ordering import prerequisites
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal, unchangeable
from spiderpool.core.cloud.loadbalancer.printing import risks
from spiderpool.core.cloud.loadbalancer.steps import (
    CreateBalancer,
    CreateSourceList,
    SetBalancer,
    SetSourceList,
    StartListener,
    Step,
)
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, SourceList
from tests.core.pretend_balancers import HTTP, SECURE, carried_out, lists_of, model_of, node, reached, service

pytestmark = pytest.mark.unit

NODES = BackendSnapshot([node("a"), node("b")])
NETWORK = {"loadBalancerClass": "alibabacloud.com/nlb"}
ZONES = {"zone-maps": "h:v,i:w"}
SOME, OTHERS = ["10.0.0.0/8", "192.0.2.0/24"], ["10.0.0.0/8", "198.51.100.0/24"]
NAMES = {"clb": "k8s-clb-a0a1b2c3d4e5f60718293a4b5c6d7e8f", "nlb": "k8s-nlb-a0a1b2c3d4e5f60718293a4b5c6d7e8f"}


def wanted(kind: str, ranges: Sequence[str], *ports: dict[str, Any], **annotations: str) -> LoadBalancerModel:
    """A Service that admits clients of some ranges; without any, everybody."""
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    spec: dict[str, Any] = {**NETWORK, "annotations": ZONES | given} if kind == "nlb" else {"annotations": given}
    return model_of(service(*(ports or (HTTP,)), loadBalancerSourceRanges=[*ranges], **spec), NODES)


def made(model: LoadBalancerModel) -> ObservedLoadBalancer:
    """A balancer that was made a moment ago: it is in no security group."""
    found = carried_out([CreateBalancer(model)], None)
    assert found is not None
    return found


def admits(state: ObservedLoadBalancer, listener: Listener) -> frozenset[str] | None:
    """The entries by which a listener admits clients; None: it admits everybody."""
    named = [*lists_of(listener.settings), *lists_of(state.settings)]
    found = [each.entries for each in state.source_lists if each.name in named]
    return frozenset().union(*found) if found else None


def allowed(steps: Sequence[Step], present: ObservedLoadBalancer, refused: int | None, seed: int) -> Iterator[Step]:
    """The steps in an order that is allowed, without one that is refused and those that need it."""
    shuffle, waits = random.Random(seed), prerequisites(steps, present)
    left, done = {*range(len(steps))}, set[int]()
    while left:
        place = shuffle.choice([each for each in sorted(left) if not waits[each].ended & left])
        left.discard(place)
        if place != refused and waits[place].done <= done:
            done.add(place)
            yield steps[place]


@pytest.mark.parametrize("kind", ["clb", "nlb"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, (SOME, [HTTP, SECURE])),
        (([], [HTTP]), (SOME, [HTTP, SECURE])),
        ((SOME, [HTTP]), (OTHERS, [HTTP, SECURE])),
        ((SOME, [HTTP, SECURE]), (["203.0.113.0/24"], [HTTP])),
        ((SOME, [HTTP, SECURE]), ([], [HTTP])),
    ],
)
def test_nobody_comes_in_or_stays_out_by_mistake(
    kind: str, before: tuple[list[str], list[Any]] | None, after: tuple[list[str], list[Any]]
) -> None:
    model = wanted(kind, after[0], *after[1])
    present = made(model) if before is None else reached(wanted(kind, before[0], *before[1]), None)
    steps = plan(model, present)
    were = {each.key: admits(present, each) for each in present.listeners}
    entries = model.sources.entries if model.sources else None
    for refused in (None, *range(len(steps))):
        for seed in range(3):
            state = present
            for step in allowed(steps, present, refused, seed):
                state = carried_out([step], state) or state
                for listener in state.listeners:
                    now, former = admits(state, listener), were.get(listener.key, entries)
                    assert now != frozenset(), step
                    if former is not None and entries is not None:
                        assert now is not None, step
                        assert former & entries <= now <= former | entries, step
            reached(model, state)


@pytest.mark.parametrize("kind", ["clb", "nlb"])
def test_a_list_comes_changes_and_goes(kind: str) -> None:
    name = NAMES[kind]
    present = reached(wanted(kind, SOME), None)
    assert [each.name for each in present.source_lists] == [name]
    changed = plan(wanted(kind, OTHERS), present)
    entry = "{}" if kind == "clb" else "accept {}"
    noun = "access list" if kind == "clb" else "security group"
    add, remove = entry.format("198.51.100.0/24"), entry.format("192.0.2.0/24")
    assert [str(step) for step in changed] == [f"change {noun} {name}: add {add}; remove {remove}"]
    *_, released, deleted = (str(step) for step in plan(wanted(kind, []), present))
    assert released == (
        "change listener tcp/80: AclStatus on → off"
        if kind == "clb"
        else f"change the balancer's security groups: SecurityGroupIds {name} → (none)"
    )
    assert deleted == f"delete the list of admitted clients {name}"
    assert reached(wanted(kind, ["0.0.0.0/0"]), present).source_lists == ()


@pytest.mark.parametrize("kind", ["clb", "nlb"])
def test_an_annotation_takes_the_place_of_ranges(kind: str) -> None:
    given = {"acl_status": "on", "acl_id": "acl-1"} if kind == "clb" else {"security_group_ids": "sg-1"}
    after = reached(wanted(kind, [], **given), reached(wanted(kind, SOME), None))
    assert after.source_lists == ()
    assert [*lists_of(after.listeners[0].settings), *lists_of(after.settings)] == ["acl-1" if kind == "clb" else "sg-1"]


def by_others(state: ObservedLoadBalancer) -> ObservedLoadBalancer:
    """The balancer as one that another controller made."""
    return replace(state, tags={key: value for key, value in state.tags.items() if not key.startswith("spiderpool.")})


def test_on_a_balancer_of_others_ranges_are_said_and_what_they_left_is_taken_back() -> None:
    state = by_others(reached(wanted("clb", []), None))
    by_hand = {"AclStatus": "on", "AclId": "acl-9", "AclType": "white"}
    (listener,) = state.listeners
    state = replace(state, listeners=(replace(listener, settings={**listener.settings, **by_hand}),))
    assert plan(wanted("clb", []), state) == ()
    closed = reached(wanted("clb", SOME), state)
    assert lists_of(closed.listeners[0].settings) == [NAMES["clb"]]
    opened = reached(wanted("clb", []), closed)
    assert (opened.listeners[0].settings["AclStatus"], opened.source_lists) == ("off", ())


def test_security_groups_of_others_stay_where_ours_goes() -> None:
    state = by_others(reached(wanted("nlb", SOME), None))
    both = {"SecurityGroupIds": f"{NAMES['nlb']},sg-9"}
    state = replace(state, settings={**state.settings, **both})
    assert reached(wanted("nlb", SOME), state).settings["SecurityGroupIds"] == NAMES["nlb"]
    opened = reached(wanted("nlb", []), state)
    assert (opened.settings["SecurityGroupIds"], opened.source_lists) == ("sg-9", ())


def test_a_list_that_is_there_twice_is_used_once_and_the_other_one_goes() -> None:
    state = reached(wanted("nlb", SOME), None)
    again = replace(state, source_lists=(*state.source_lists, SourceList("sg-2", frozenset(), "sg-2")))
    assert [str(step) for step in plan(wanted("nlb", SOME), again)] == ["delete the list of admitted clients sg-2"]


@pytest.mark.parametrize("kind", ["clb", "nlb"])
def test_a_list_goes_with_its_balancer_but_stays_on_one_that_is_preserved(kind: str) -> None:
    model = wanted(kind, SOME)
    present = reached(model, None)
    *_, last = plan_removal(model.kind, model.owner, present, preserve=False)
    assert str(last) == f"delete the list of admitted clients {NAMES[kind]}"
    steps = plan_removal(model.kind, model.owner, present, preserve=True)
    assert not any("admitted" in str(step) for step in steps)


def test_each_service_on_a_lent_balancer_has_a_list_of_its_own() -> None:
    users = ObservedLoadBalancer("lb-u", "users", "198.51.100.9")
    model = wanted("clb", SOME, id="lb-u", force_override_listeners="true")
    other = Listener(81, "tcp", "k8s/81/other/default/c1", settings={"AclStatus": "on", "AclId": "acl-other"})
    state = replace(reached(model, users), listeners=(*reached(model, users).listeners, other))
    assert plan(model, state) == ()
    left = carried_out(plan_removal(model.kind, model.owner, state, preserve=False), state)
    assert left is not None
    assert (left.listeners, left.source_lists) == ((other,), ())


def test_a_group_that_a_balancer_which_stays_is_in_is_not_deleted() -> None:
    model = wanted("nlb", SOME)
    state = reached(model, None)
    state = replace(state, tags={"kubernetes.do.not.delete": model.name})  # lacks the cluster, so it is not deleted
    steps = plan_removal(model.kind, model.owner, state, preserve=False)
    assert steps
    assert not any("admitted" in str(step) for step in steps)


EVERY_IPV4, ONE_IPV6 = "0.0.0.0/0", "2001:db8:1::/48"


def test_who_is_admitted_goes_by_the_addresses_that_a_balancer_has_not_by_an_annotation_that_is_gone() -> None:
    both = reached(wanted("nlb", SOME, ip_version="DualStack"), None)
    assert both.settings["AddressIpVersion"] == "DualStack"
    assert plan(wanted("nlb", SOME), both) == ()
    (mixed,) = reached(wanted("nlb", [EVERY_IPV4, ONE_IPV6]), both).source_lists
    accepted = {f"accept {each}" for each in (EVERY_IPV4, ONE_IPV6)}
    assert mixed.entries == {*accepted, f"drop {EVERY_IPV4}", "drop ::/0"}
    (all_of_one,) = reached(wanted("nlb", [EVERY_IPV4]), both).source_lists
    assert all_of_one.entries == {f"accept {EVERY_IPV4}", f"drop {EVERY_IPV4}", "drop ::/0"}
    assert reached(wanted("nlb", [EVERY_IPV4, "::/0"]), both).source_lists == ()


def test_a_balancer_with_fewer_addresses_than_the_annotation_says_has_no_list_that_keeps_nobody_out() -> None:
    one = reached(wanted("nlb", []), None)
    later = wanted("nlb", [EVERY_IPV4, ONE_IPV6], ip_version="DualStack")
    assert plan(later, one) == ()
    closed = reached(wanted("nlb", [ONE_IPV6], ip_version="DualStack"), one)
    assert [each.name for each in closed.source_lists] == [NAMES["nlb"]], "nobody fits, so nobody is let in"


def test_a_users_balancer_admits_by_the_addresses_that_it_has() -> None:
    users = ObservedLoadBalancer("lb-u", "users", "2001:db8::1", {"AddressIPVersion": "ipv6"})
    model = wanted("clb", [EVERY_IPV4, ONE_IPV6], id="lb-u", force_override_listeners="true")
    assert model.sources is None
    state = reached(model, users)
    (listener,) = state.listeners
    assert admits(state, listener) == frozenset({ONE_IPV6})
    again = wanted("clb", [EVERY_IPV4, "::/0"], id="lb-u", force_override_listeners="true")
    assert reached(again, state).source_lists == ()


@pytest.mark.parametrize(("kind", "parameter"), [("clb", "AddressIPVersion"), ("nlb", "AddressIpVersion")])
def test_ranges_that_only_a_user_could_apply_are_reported(kind: str, parameter: str) -> None:
    version = "ipv6" if kind == "clb" else "DualStack"
    users = ObservedLoadBalancer("lb-u", "users", "2001:db8::1", {parameter: version})
    model = wanted(kind, [EVERY_IPV4, ONE_IPV6], id="lb-u")
    assert not any("access list" in str(step) or "security group" in str(step) for step in plan(model, users))
    (text,) = unchangeable(model, users)
    assert text.startswith("source ranges keep nobody out: balancer lb-u is yours and has IPv")
    assert unchangeable(wanted(kind, [EVERY_IPV4], id="lb-u"), replace(users, settings={parameter: "ipv4"})) == ()


def without(model: LoadBalancerModel, present: ObservedLoadBalancer, refused: str) -> ObservedLoadBalancer:
    """The balancer after three plans, of which the step with this text is always refused, and so what needs it."""
    for _ in range(3):
        steps = plan(model, present)
        place = next((place for place, step in enumerate(steps) if str(step) == refused), None)
        present = carried_out(allowed(steps, present, place, 0), present) or present
    return present


@pytest.mark.parametrize("kind", ["clb", "nlb"])
@pytest.mark.parametrize("former", [[], OTHERS])
def test_a_port_whose_listener_is_exchanged_keeps_one_whatever_is_refused(kind: str, former: list[str]) -> None:
    other = {"protocol_port": "http:80"} if kind == "clb" else {"protocol_port": "tcpssl:80", "cert_id": "crt"}
    present, model = reached(wanted(kind, former), None), wanted(kind, SOME, **other)
    own = {CreateSourceList, SetSourceList, SetBalancer}
    refusals = [str(step) for step in plan(model, present) if type(step) in own]
    assert refusals
    for refused in refusals:
        assert [each.port for each in without(model, present, refused).listeners] == [80], refused
    assert reached(model, present).listeners[0].protocol == other["protocol_port"].partition(":")[0]


@pytest.mark.parametrize("kind", ["clb", "nlb"])
@pytest.mark.parametrize("former", [[], OTHERS])
def test_a_stopped_listener_is_not_started_before_it_keeps_out_whom_it_is_to(kind: str, former: list[str]) -> None:
    state, model = reached(wanted(kind, former), None), wanted(kind, SOME)
    assert model.sources is not None
    present = replace(state, listeners=tuple(replace(each, running=False) for each in state.listeners))
    steps = plan(model, present)
    assert any(isinstance(step, StartListener) for step in steps)
    for refused in map(str, steps):
        after = without(model, present, refused)
        (listener,) = after.listeners
        assert not listener.running or admits(after, listener) == model.sources.entries, refused
    assert reached(model, present).listeners[0].running


def test_a_stopped_listener_waits_for_the_list_that_an_annotation_names_too() -> None:
    state, model = reached(wanted("clb", []), None), wanted("clb", [], acl_status="on", acl_id="acl-9")
    present = replace(state, listeners=tuple(replace(each, running=False) for each in state.listeners))
    change, start = plan(model, present)
    assert [str(each).split()[0] for each in (change, start)] == ["change", "start"]
    assert not without(model, present, str(change)).listeners[0].running


def test_a_new_listener_waits_for_the_security_group_that_an_annotation_names_too() -> None:
    model = wanted("nlb", [], HTTP, SECURE, security_group_ids="sg-9")
    present = made(wanted("nlb", [], HTTP))
    (join,) = (str(each) for each in plan(model, present) if isinstance(each, SetBalancer) and "sg-9" in str(each))
    assert without(model, present, join).listeners == ()
    assert {each.port for each in reached(model, present).listeners} == {80, 443}


@pytest.mark.parametrize("former", [[], OTHERS])
def test_a_balancer_is_not_made_public_before_it_keeps_out_whom_it_is_to(former: list[str]) -> None:
    present = reached(wanted("nlb", former, address_type="intranet"), None)
    model = wanted("nlb", SOME, address_type="internet")
    assert model.sources is not None
    for refused in map(str, plan(model, present)):
        after = without(model, present, refused)
        is_closed = admits(after, after.listeners[0]) == model.sources.entries
        assert after.settings["AddressType"] == "Intranet" or is_closed, refused
    assert reached(model, present).settings["AddressType"] == "Internet"


def test_whoever_was_kept_out_of_a_public_balancer_is_let_in_only_when_it_is_private() -> None:
    present = reached(wanted("nlb", SOME, address_type="internet"), None)
    model = wanted("nlb", [], address_type="intranet")
    for refused in map(str, plan(model, present)):
        after = without(model, present, refused)
        assert after.settings["AddressType"] == "Intranet" or admits(after, after.listeners[0]), refused
    assert reached(model, present).source_lists == ()


def test_a_list_that_was_switched_off_is_brought_up_to_date_before_it_is_used_again() -> None:
    state, model = reached(wanted("clb", OTHERS), None), wanted("clb", SOME)
    off = tuple(replace(each, settings={**each.settings, "AclStatus": "off"}) for each in state.listeners)
    present = replace(state, listeners=off)
    (change,) = (str(step) for step in plan(model, present) if isinstance(step, SetSourceList))
    assert without(model, present, change).listeners[0].settings["AclStatus"] == "off"
    assert reached(model, present).listeners[0].settings["AclStatus"] == "on"


@pytest.mark.parametrize("kind", ["clb", "nlb"])
def test_a_dry_run_says_that_everybody_is_let_in(kind: str) -> None:
    model = wanted(kind, [])
    steps = plan(model, reached(wanted(kind, SOME), None))
    assert any("no longer keeps any client out" in each for each in risks(steps, model.kind)), steps
