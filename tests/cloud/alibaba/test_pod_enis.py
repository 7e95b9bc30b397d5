"""The ENI on which a pod's address is registered."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.pod_enis import PodENIs
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit


async def test_the_eni_of_an_address(balanced: SimulatedCloud) -> None:
    enis = PodENIs(balanced.client(), "cn-hangzhou", balanced.account.vpc.identity)
    assert await enis.holders(["172.31.192.10", "172.31.192.21", "172.31.192.99"]) == {
        "172.31.192.10": "eni-a",
        "172.31.192.21": "eni-b",
    }
    assert await enis.holders([]) == {}


async def test_ipv6_addresses_are_found_too(balanced: SimulatedCloud) -> None:
    (server,) = [each for each in balanced.account.tables.instances if each.identity == "i-a"]
    eni = balanced.account.enis_of(server.identity)[-1]
    given = await balanced.ecs().assign("cn-hangzhou", eni.identity, 6, 1)
    enis = PodENIs(balanced.client(), "cn-hangzhou", balanced.account.vpc.identity)
    assert await enis.holders(given) == {given[0]: eni.identity}


async def test_without_a_vpc_nothing_is_asked(balanced: SimulatedCloud) -> None:
    assert await PodENIs(balanced.client(), "cn-hangzhou", "").holders(["172.31.192.10"]) == {}
    assert balanced.account.calls == []
