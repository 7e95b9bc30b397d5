"""Network balancers in the simulated account: after a plan, the account has what the Service asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.core_v1 import NodeAddress
from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.planning import plan_removal
from spiderpool.core.cloud.loadbalancer.values import MadeBalancer
from spiderpool_lab.alibaba.account import Delays
from tests.cloud.alibaba.balancers import (
    DNS,
    ENI,
    HTTP,
    SECURE,
    ZONES,
    model,
    network,
    reached,
    spec_of,
    with_enis,
)
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import endpoints, node

pytestmark = pytest.mark.unit

ADDRESSED = node("a")
ADDRESSED.status.addresses = [NodeAddress("InternalIP", each) for each in ("172.31.192.9", "2408:4005:1::9")]
NETWORK_HISTORY: list[list[dict[str, Any]]] = [
    [{"ports": [HTTP, DNS]}, {"ports": [HTTP]}],
    [
        {"ports": [HTTP, SECURE], "annotations": {"protocol-port": "TCPSSL:443", "cert-id": "crt-1"}},
        {"ports": [HTTP, SECURE]},
    ],
    [
        {"ports": [HTTP], "annotations": {"health-check-type": "http", "health-check-httpcode": "http_2xx,http_3xx"}},
        {"ports": [HTTP], "annotations": {"health-check-flag": "off", "scheduler": "wlc", "proxy-protocol": "on"}},
        {"ports": [HTTP], "annotations": {"cross-zone-enabled": "false", "delete-protection": "off", "cps": "10"}},
        {"ports": [HTTP]},
    ],
    [
        {"ports": [HTTP], "annotations": ENI, "snapshot": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))])},
        {
            "ports": [HTTP],
            "annotations": {**ENI, "server-group-type": "Ip"},
            "snapshot": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))]),
        },
    ],
    [
        {"ports": [HTTP], "annotations": {"server-group-type": "Ip"}, "snapshot": BackendSnapshot([ADDRESSED])},
        {
            "ports": [HTTP],
            "annotations": {"server-group-type": "Ip", "ip-version": "dualstack", "backend-ip-version": "ipv6"},
            "snapshot": BackendSnapshot([ADDRESSED]),
        },
        {
            "ports": [HTTP],
            "annotations": {"server-group-type": "Ip", "ip-version": "dualstack", "backend-ip-version": "dualstack"},
            "snapshot": BackendSnapshot([ADDRESSED]),
        },
    ],
]


@pytest.mark.parametrize(("history", "delay"), [(each, 0.0) for each in NETWORK_HISTORY] + [(NETWORK_HISTORY[0], 0.05)])
async def test_a_network_balancer_becomes_what_it_should_be(
    balanced: SimulatedCloud, history: list[dict[str, Any]], delay: float
) -> None:
    balanced.account.delays = Delays(job=delay)
    for given in history:
        state = await with_enis(balanced, given)
        annotations = ZONES | state.pop("annotations", {})
        spec = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": annotations, **state}
        desired = model(balanced, *spec.pop("ports"), **spec)
        observed = await reached(network(balanced), desired)
        assert {group.name: group.servers for group in observed.groups} == {
            group.name: group.servers for group in desired.groups
        }
    await network(balanced).carry_out(plan_removal(NLB, desired.owner, observed, preserve=False), observed)
    assert not list(balanced.account.tables.nlbs)
    assert not list(balanced.account.tables.nlb_groups)


async def test_a_range_of_ports_comes_changes_and_goes(balanced: SimulatedCloud) -> None:
    for text, ports in (("", [80]), ("80-90:80", [0]), ("80-95:80", [0]), ("", [80])):
        more = {"listener-port-range": text} if text else {}
        state = {"snapshot": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))])}
        given = await with_enis(balanced, state)
        annotations = {**ZONES, **ENI, **more, "idle-timeout": "60" if text else "70"}
        spec = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": annotations, **given}
        observed = await reached(network(balanced), model(balanced, HTTP, **spec))
        assert [each.port for each in balanced.account.tables.nlb_listeners] == ports
        assert [each.port for each in observed.listeners] == [80]


async def test_a_server_group_is_in_the_resource_group_of_its_balancer(balanced: SimulatedCloud) -> None:
    spec = spec_of(NLB)
    spec["annotations"] = {**ZONES, "resource-group-id": "rg-1"}
    await reached(network(balanced), model(balanced, HTTP, **spec))
    assert [group.settings["ResourceGroupId"] for group in balanced.account.tables.nlb_groups] == ["rg-1"]


async def test_security_groups_come_and_go(balanced: SimulatedCloud) -> None:
    for name in ("sg-1", "sg-2"):
        balanced.account.add_security_group(identity=name)
    for groups in ("sg-1", "sg-1,sg-2", "sg-2", ""):
        spec = spec_of(NLB)
        spec["annotations"] = {**ZONES, "security-group-ids": groups}
        observed = await reached(network(balanced), model(balanced, HTTP, **spec))
        assert observed.settings["SecurityGroupIds"] == groups


async def test_every_action_that_is_called_is_in_the_policy(balanced: SimulatedCloud) -> None:
    balanced.allow(*ACTIONS["balancers"])
    await test_a_network_balancer_becomes_what_it_should_be(balanced, NETWORK_HISTORY[1], 0.0)
    assert {call.action for call in balanced.account.calls} <= set(ACTIONS["balancers"])


async def test_what_was_made_for_a_cluster_is_known_by_its_tags(balanced: SimulatedCloud) -> None:
    cloud = network(balanced)
    desired = model(balanced, HTTP, **spec_of(NLB))
    observed = await reached(cloud, desired)
    made = MadeBalancer(observed.identity, "nlb", observed.tags["kubernetes.do.not.delete"], "default")
    assert await cloud.made("c1") == [made]
    assert await cloud.made("c2") == []
    await cloud.carry_out(plan_removal(NLB, desired.owner, observed, preserve=True), observed)
    assert await cloud.made("c1") == [replace(made, name="")]
