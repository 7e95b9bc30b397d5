"""The status that pools give a subnet, and the pools that a subnet adopts."""

from __future__ import annotations

import json

import pytest

from spiderpool.api.ippool import Route
from spiderpool.api.meta import OwnerReference
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.application_pools import desired_pool
from spiderpool.core.ipam.applications import (
    PoolClaim,
)
from spiderpool.core.ipam.owners import Controller
from spiderpool.core.ipam.subnets import adopted_pool, is_cut_from, owned_by_subnet, owner_reference, subnet_status
from tests.core.ipam.objects import ETH0, UID, addresses, pool, subnet, web_claim

pytestmark = pytest.mark.unit


class TestStatus:
    def test_it_lists_pools_made_by_hand_and_those_of_applications(self) -> None:
        blue = subnet(excludeIPs=["10.6.0.100"])
        auto = desired_pool(web_claim(), ETH0, blue, "auto4-web-eth0-0a1b2", addresses(0x0A060001, 0x0A060003))
        core = desired_pool(
            PoolClaim(
                Controller("v1", "ReplicationController", "shop", "old", UID), (ETH0,), IPNumber(1, True), True, 1
            ),
            ETH0,
            blue,
            "auto-core",
            addresses(),
        )
        status = subnet_status(blue, [auto, core, pool("b", "10.6.0.10-10.6.0.19", "10.6.200.1"), pool("empty")])
        assert status.controlledIPPools is not None
        assert json.loads(status.controlledIPPools) == {
            "auto4-web-eth0-0a1b2": {"ips": ["10.6.0.1", "10.6.0.3"], "application": "apps_v1_Deployment_shop_web"},
            "auto-core": {"ips": [], "application": "v1_ReplicationController_shop_old"},
            "b": {"ips": ["10.6.0.10-10.6.0.19"]},
        }
        assert " " not in status.controlledIPPools
        assert (status.totalIPCount, status.allocatedIPCount) == (99, 12)

    def test_a_subnet_without_pools_and_one_that_cannot_be_read(self) -> None:
        assert subnet_status(subnet(), []) == SubnetStatus(None, 100, 0)
        assert subnet_status(subnet("x"), [pool("b", "10.6.0.1")]) == SubnetStatus(None, 0, 0)

    def test_sizes_beyond_int64_are_cut_off(self) -> None:
        spec = SubnetSpec("fd00::/64", 6, ["fd00::-fd00::ffff:ffff:ffff:ffff"])
        assert subnet_status(SpiderSubnet(spec=spec), []).totalIPCount == 2**63 - 1


def test_pools_are_told_by_the_label_of_their_subnet_however_long_its_name_is() -> None:
    long, short, bare = subnet(), subnet(), subnet()
    long.metadata.name, short.metadata.name, bare.metadata.name = "l" * 70, "short", "bare"
    owned = [
        adopted
        for name, owner in (("a", long), ("b", long), ("c", short))
        if (adopted := adopted_pool(pool(name, "10.6.0.1"), owner))
    ]
    found = owned_by_subnet([long, short, bare], [*owned, pool("of-nobody", "10.6.0.2")])
    assert {name: [each.name for each in pools] for name, pools in found.items()} == {
        "l" * 70: ["a", "b"],
        "short": ["c"],
        "bare": [],
    }


class TestAdoption:
    BLUE = subnet(gateway="10.6.255.254", routes=[Route("10.7.0.0/16", "10.6.0.254")])

    def test_a_pool_without_controller_inherits_gateway_and_routes(self) -> None:
        adopted = adopted_pool(pool("b", "10.6.0.1"), self.BLUE)
        assert adopted is not None
        assert adopted.metadata.ownerReferences == [owner_reference(self.BLUE)]
        assert adopted.metadata.labels == {"ipam.spidernet.io/owner-spider-subnet": "blue"}
        assert (adopted.spec.gateway, adopted.spec.routes) == ("10.6.255.254", self.BLUE.spec.routes)
        assert adopted_pool(adopted, self.BLUE) is None

    def test_a_pool_keeps_the_gateway_and_routes_that_it_has(self) -> None:
        adopted = adopted_pool(pool("b", "10.6.0.1", gateway="10.6.0.254", routes=[]), self.BLUE)
        assert adopted is not None
        assert (adopted.spec.gateway, adopted.spec.routes) == ("10.6.0.254", [])

    def test_a_pool_of_an_earlier_subnet_of_the_same_name_is_adopted(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [owner_reference(subnet(uid="s-0")), OwnerReference("v1", "X", "x", "x")]
        adopted = adopted_pool(stored, self.BLUE)
        assert adopted is not None
        assert adopted.metadata.ownerReferences == [OwnerReference("v1", "X", "x", "x"), owner_reference(self.BLUE)]

    def test_a_pool_of_another_controller_stays(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [OwnerReference("v1", "X", "x", "x", controller=True)]
        assert adopted_pool(stored, self.BLUE) is None

    def test_pools_of_the_same_cidr_belong_to_the_subnet(self) -> None:
        assert is_cut_from(pool("b"), self.BLUE)
        assert not is_cut_from(pool("b", cidr="10.6.0.0/24"), self.BLUE)

    def test_a_lost_label_comes_back_but_a_later_gateway_does_not_reach_the_pool(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [owner_reference(self.BLUE)]
        adopted = adopted_pool(stored, self.BLUE)
        assert adopted is not None
        assert adopted.spec.gateway is None
