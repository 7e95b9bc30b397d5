"""What a pod needs on a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import new_record, released
from spiderpool.core.ipam.dry_run import AddressSnapshot
from spiderpool.core.ipam.placement import NeededAddress, PodSite
from spiderpool.core.ipam.pod_sites import pod_site
from spiderpool.core.ipam.selection import AllocationRequest, ApplicationPool

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
WEB = IPOwner("StatefulSet", "default", "web")
RESERVED = {4: AddressSet.parse(["10.0.0.8"], 4), 6: AddressSet(6)}
SLOT = ("eth0", 4)


def pool(name: str = "blue", ips: str = "10.0.0.1-10.0.0.9", **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": [ips], "default": True} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))


OWN = pool("own", "10.0.0.21", nodeName=["n1"])


def request(**fields: Any) -> AllocationRequest:
    return replace(AllocationRequest("default", "web-0", "uid", "eth0", "n1", None), **fields)


def record(number: int, where: SpiderIPPool | None = None, **fields: Any) -> SpiderIP:
    of = request(pod_uid="former", owner=WEB, **fields)
    return new_record(of, where or pool(), 0x0A000000 + number)


def site(asked: AllocationRequest, *records: SpiderIP, pools: tuple[SpiderIPPool, ...] = ()) -> PodSite:
    seen = AddressSnapshot("n1", pools or (pool(), OWN), records, RESERVED, NOW)
    return pod_site({SLOT: asked}, seen)


def needs(*pools: str, **fields: Any) -> PodSite:
    return PodSite((NeededAddress(SLOT, pools, **fields),))


def test_pools_in_the_order_in_which_they_are_tried() -> None:
    assert site(request()) == needs("own", "blue")
    assert site(request(), pools=(pool(nodeName=["n2"]),)) == needs()


def test_an_address_of_an_applications_pool_does_not_count() -> None:
    assert not site(request(candidates=ApplicationPool("subnet", {}))).counted


class TestOwners:
    def test_what_the_owner_keeps_is_not_needed(self) -> None:
        assert site(request(owner=WEB), record(1)) == PodSite()

    @pytest.mark.parametrize("number", [8, 30], ids=["reserved since", "no longer in the pool"])
    def test_a_released_one_that_nobody_may_have_any_more_is_replaced(self, number: int) -> None:
        assert site(request(owner=WEB), released(record(number), NOW)) == needs("own", "blue")

    def test_nor_what_is_given_to_nobody_else(self) -> None:
        off = pool(disable=True)
        assert site(request(owner=WEB), released(record(1, off), NOW), pools=(off,)) == PodSite()

    def test_one_that_was_released_may_be_given_to_another(self) -> None:
        found = site(request(owner=WEB), released(record(1), NOW))
        assert found == needs("blue", "own", returns=True)
        assert not found.counted

    def test_an_address_that_does_not_suit(self) -> None:
        there = pool("there", "10.0.0.31", nodeName=["n2"])
        assert site(request(owner=WEB), record(31, there), pools=(pool(), there)) == needs("blue")
        assert site(request(owner=WEB), record(31, there), pools=(there,)) == needs()

    def test_an_address_that_is_not_given_up(self) -> None:
        assert site(request(owner=WEB), record(1, pool("gone"))).refused


class TestRequestedAddresses:
    def test_the_pool_that_gives_it(self) -> None:
        assert site(request(address="10.0.0.3")) == needs("blue", address="10.0.0.3")

    def test_in_use(self) -> None:
        assert site(request(address="10.0.0.3"), record(3)).refused
