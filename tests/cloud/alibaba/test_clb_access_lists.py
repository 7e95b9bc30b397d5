"""Access lists of classic balancers in the simulated account."""

from __future__ import annotations

import pytest

from spiderpool_lab.alibaba.balancers import AccessList
from tests.cloud.alibaba.balancers import DNS, HTTP, SECURE, classic, model, reached
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

NAME = "k8s-clb-a0a1b2c3d4e5f60718293a4b5c6d7e8f"
TAGS = {"kubernetes.do.not.delete": "a0a1b2c3d4e5f60718293a4b5c6d7e8f", "ack.aliyun.com": "c1"}


async def lists(simulated: SimulatedCloud, *ranges: str, **annotations: str) -> list[AccessList]:
    """The lists in the account after a Service with three ports admits the clients of some ranges."""
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    desired = model(simulated, HTTP, DNS, SECURE, annotations=given, loadBalancerSourceRanges=[*ranges])
    await reached(classic(simulated), desired)
    return list(simulated.account.tables.access_lists)


async def test_each_listener_has_the_list_of_its_service(balanced: SimulatedCloud) -> None:
    (made,) = await lists(balanced, "10.1.2.3/8", "192.0.2.1/32")
    assert (made.name, made.version, made.tags) == (NAME, 4, TAGS)
    assert {*made.entries} == {"10.0.0.0/8", "192.0.2.1/32"}
    (balancer,) = balanced.account.tables.clbs
    assert [(each.access_lists, each.settings["AclType"]) for each in balancer.listeners] == [
        ([made.identity], "white")
    ] * 3
    assert await lists(balanced) == []
    (balancer,) = balanced.account.tables.clbs
    assert [each.settings["AclStatus"] for each in balancer.listeners] == ["off"] * 3


async def test_what_somebody_changes_in_it_is_changed_back(balanced: SimulatedCloud) -> None:
    (made,) = await lists(balanced, "10.0.0.0/8")
    balanced.account.tables.access_lists.put(AccessList(made.identity, "renamed", 4, {"192.0.2.0/24": ""}, made.tags))
    (changed,) = await lists(balanced, "10.0.0.0/8")
    assert (changed.identity, {*changed.entries}) == (made.identity, {"10.0.0.0/8"})


async def test_a_balancer_with_an_ipv6_address_has_an_ipv6_list(balanced: SimulatedCloud) -> None:
    (made,) = await lists(balanced, "2001:DB8::/32", "10.0.0.0/8", ip_version="ipv6")
    assert (made.version, {*made.entries}) == (6, {"2001:db8::/32"})
