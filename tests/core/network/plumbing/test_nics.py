from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from spiderpool.core.network.plumbing.nics import (
    NIC,
    NICAddress,
    NodeState,
    Reply,
    diagnose,
    nics_with_gateways,
    plan_nics,
    undo_nics,
)
from spiderpool.core.network.plumbing.steps import AddRoute, AddRule, DropNICMarks, LoadNICMarks, Remove, SetSysctl
from spiderpool.errors import BadConfig
from tests.core.pretend import Pretend
from tests.kernel.questions import CLIENT, ETH0, NET1, NextHop, Question, assert_next_hops

pytestmark = pytest.mark.unit

NICS = (
    NIC("eth0", (ip_address(ETH0[4].router), ip_address(ETH0[6].router))),
    NIC("eth1", (ip_address(NET1[4].router), ip_address(NET1[6].router))),
)
HELD = (("eth0", "172.31.199.183/20"), ("eth1", "192.168.0.154/24"))
DEFAULT = AddRoute("node", ip_network("0.0.0.0/0"), "eth0", ip_address(ETH0[4].router))


def state(world: Pretend) -> NodeState:
    node = world.sides["node"]
    addresses = tuple(NICAddress(one.link, one.address) for one in node.addresses)
    return NodeState(addresses=addresses, routes=tuple(node.routes), rules=tuple(node.rules))


def tuned() -> Pretend:
    world = Pretend()
    world.apply([DEFAULT])
    world.apply(plan_nics(NICS, state(world)))
    return world


@pytest.mark.parametrize("version", [4, 6])
def test_every_nic_answers_for_itself(version: int) -> None:
    by_eth0, by_eth1 = NextHop("eth0", ETH0[version].router), NextHop("eth1", NET1[version].router)
    assert_next_hops(
        tuned().route_of,
        [
            Question("node", CLIENT[version], by_eth0, source=ETH0[version].node),
            Question("node", CLIENT[version], by_eth1, source=NET1[version].node),
            Question("node", ETH0[version].other, by_eth1, source=NET1[version].node),
            Question("node", NET1[version].other, NextHop("eth1"), source=NET1[version].node),
            Question("node", CLIENT[version], by_eth1, mark=0x20),
            Question("node", CLIENT[version], by_eth1, mark=0x4020),
        ],
    )


def test_all_nics_are_marked_but_an_only_one() -> None:
    """A client in the subnet of the second NIC that asks by the first is answered by the first."""
    world = Pretend()
    world.apply([DEFAULT, AddRoute("node", ip_network("::/0"), "eth0", ip_address(ETH0[6].router))])
    assert plan_nics(NICS, state(world))[-1] == LoadNICMarks("node", (("eth0", 0x10), ("eth1", 0x20)), 0xF0, (4, 6))
    assert plan_nics(NICS[:1], state(world))[-1] == DropNICMarks("node")


def test_what_is_right_is_left_alone() -> None:
    assert [type(step) for step in plan_nics(NICS, state(tuned()))] == [LoadNICMarks]


def test_nic_that_is_left_out_is_undone() -> None:
    world = tuned()
    world.apply(plan_nics(NICS[:1], state(world)))
    assert_next_hops(
        world.route_of, [Question("node", CLIENT[4], NextHop("eth0", ETH0[4].router), source=NET1[4].node)]
    )


def test_undo_leaves_nothing() -> None:
    world = tuned()
    world.apply(undo_nics(state(world)))
    before = Pretend()
    before.apply([DEFAULT])
    assert world.sides["node"] == before.sides["node"]


def test_foreign_rules_and_tables_are_left_alone() -> None:
    world = tuned()
    theirs = AddRule("node", 4, 2000, 1000, source=ip_network("10.0.0.1/32"))
    world.apply([theirs])
    assert Remove(theirs) not in undo_nics(state(world))


def test_strict_filter_is_loosened_on_second_nics() -> None:
    seen = NodeState(addresses=(NICAddress("eth1", ip_interface("192.168.0.154/24")),), strict=("eth0", "eth1"))
    steps = plan_nics((NIC("eth1", (ip_address("192.168.0.253"),)),), seen)
    assert [step for step in steps if isinstance(step, SetSysctl)] == [
        SetSysctl("node", "net/ipv4/conf/eth1/rp_filter", "2")
    ]


def test_refused() -> None:
    with pytest.raises(BadConfig, match=r"gateway 10\.0\.0\.1 lies in no subnet of eth0"):
        plan_nics((NIC("eth0", (ip_address("10.0.0.1"),)),), state(Pretend()))
    with pytest.raises(BadConfig, match="16 NICs are more than the 15"):
        plan_nics(tuple(NIC(f"eth{number}", ()) for number in range(16)), NodeState())


SUBNETS = (ip_network("172.31.192.0/20"), ip_network("192.168.0.0/24"))


def test_diagnosis() -> None:
    held = (
        NICAddress("eth0", ip_interface("172.31.199.183/20")),
        NICAddress("eth1", ip_interface("192.168.0.154/24")),
    )
    source = ip_address("192.168.0.154")
    seen = NodeState(
        addresses=held,
        routes=(DEFAULT,),
        rules=(AddRule("node", 4, 500, 7, source=ip_network("172.31.199.183/32")),),
        strict=("eth1",),
        forwarding=(),
        replies=(
            Reply("eth0", ip_address("172.31.199.183"), "eth0"),
            Reply("eth1", source, "eth0"),
            Reply("eth1", source, None, for_pods=True),
        ),
    )
    assert diagnose(seen, SUBNETS) == (
        "The node does not forward IPv4, so Services do not work from pods: set net.ipv4.ip_forward to 1.",
        "Rule 500 from 172.31.199.183/32 comes before the rule of the pods' table (priority 1000), so answers of the"
        " node to its pods leave by a NIC: give it a priority above that.",
        "On NIC eth1, answers from 192.168.0.154 leave by eth0, where the network may drop them: switch on node tuning"
        " for this NIC, or add its rules by hand.",
        "On NIC eth1, answers of pods to connections that arrived by it have no route, where the network may drop"
        " them: switch on node tuning for this NIC, or add its rules by hand.",
        "NIC eth1 filters strictly by reverse path, which drops connections to NodePorts that arrive by it: set"
        " net.ipv4.conf.eth1.rp_filter to 2.",
    )
    assert diagnose(NodeState(addresses=held, routes=(DEFAULT,)), SUBNETS) == ()
    [fault] = diagnose(NodeState(addresses=held, routes=(DEFAULT,), untracked=True), SUBNETS)
    assert fault.endswith("set net.ipv4.vs.conntrack to 1, as kube-proxy does when it begins.")


def test_diagnosis_of_a_node_that_is_tuned() -> None:
    source = ip_address("192.168.0.154")
    held = NICAddress("eth1", ip_interface("192.168.0.154/24"))
    seen = NodeState(addresses=(held,), replies=(Reply("eth1", source, "eth0"),))
    [fault] = diagnose(seen, SUBNETS, tuning=True)
    assert fault.endswith(
        "its tuning lacks the gateway, which no pool of the NIC's subnet names: set it in one, or add rules by hand."
    )
    rule = AddRule("node", 4, 3000, 1001, source=ip_network("192.168.0.154/32"))
    assert diagnose(replace(seen, rules=(rule,)), SUBNETS, tuning=True) == (fault,)
    route = AddRoute("node", ip_network("0.0.0.0/0"), "eth1", ip_address("192.168.0.253"), table=1001)
    [fault] = diagnose(replace(seen, rules=(rule,), routes=(route, DEFAULT)), (), tuning=True)
    assert fault.endswith(
        "another rule of the node comes before those of its tuning: give it a higher priority number."
    )


def test_a_nic_of_a_management_network_is_no_fault() -> None:
    held = NICAddress("eth1", ip_interface("192.168.0.154/24"))
    replies = (Reply("eth1", held.address.ip, "eth0"),)
    seen = NodeState(addresses=(held,), routes=(DEFAULT,), replies=replies, strict=("eth1",))
    assert diagnose(seen, SUBNETS[:1], tuning=True) == ()
    assert len(diagnose(seen, SUBNETS, tuning=True)) == 2
    part = (ip_network("192.168.0.128/25"), ip_network("fd00::/64"))
    assert len(diagnose(seen, part, tuning=True)) == 2, "the pool is for a part of the NIC's network"
    onwards = AddRoute("node", ip_network("10.0.0.0/8"), "eth1", ip_address("192.168.0.253"))
    assert len(diagnose(replace(seen, routes=(DEFAULT, onwards)), (), tuning=True)) == 2


def test_diagnosis_of_a_node_whose_tuning_has_failed() -> None:
    held = NICAddress("eth1", ip_interface("192.168.0.154/24"))
    seen = NodeState(addresses=(held,), replies=(Reply("eth1", held.address.ip, "eth0"),), untracked=True)
    why = "16 NICs are more than marks can tell apart"
    failed, answers, untracked = diagnose(seen, SUBNETS, tuning=True, failed=why)
    assert failed == f"The tuning of the node's NICs has failed: {why}."
    assert answers.endswith("mend what keeps the node from being tuned, or add its rules by hand.")
    assert untracked.startswith("kube-proxy serves by IPVS"), "what has nothing to do with it is told as well"


def test_nics_get_the_gateways_of_their_subnets() -> None:
    seen = state(Pretend())
    elsewhere = {ip_network("203.0.113.0/24"): ip_address("203.0.113.1")}
    assert nics_with_gateways(seen, elsewhere) == ()
    here = {ip_interface(f"{ETH0[4].node}/{ETH0[4].length}").network: ip_address(ETH0[4].router)}
    assert nics_with_gateways(seen, elsewhere | here) == (NIC("eth0", (ip_address(ETH0[4].router),)),)
