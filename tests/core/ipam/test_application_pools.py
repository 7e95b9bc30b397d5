"""The automatic pools of an application: names, contents, and which stored pool is whose."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.ippool import Route
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.application_pools import SubnetUse, desired_pool, find_pool, pool_names, slot_labels
from spiderpool.core.ipam.applications import (
    PoolClaim,
    PoolSlot,
    pool_application,
)
from spiderpool.core.ipam.owners import Controller, application_labels
from spiderpool.core.ipam.subnets import owner_reference
from tests.core.ipam.objects import ETH0, UID, WEB, addresses, subnet, web_claim

pytestmark = pytest.mark.unit


class TestNames:
    def test_the_second_name_differs_for_each_subnet(self) -> None:
        first, second = pool_names(WEB, ETH0)
        assert first == "auto4-web-eth0-0a1b2"
        assert re.fullmatch(r"auto4-web-eth0-0a1b2-[0-9a-f]{5}", second)
        other = pool_names(WEB, PoolSlot("eth0", 4, "green"))
        assert other[0] == first
        assert other[1] != second

    @given(
        st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True),
        st.from_regex(r"[A-Za-z][A-Za-z0-9_.@-]{0,14}", fullmatch=True),
        st.uuids(),
    )
    def test_they_are_valid_names_of_objects(self, name: str, interface: str, uid: object) -> None:
        application = Controller("apps/v1", "Deployment", "shop", name, str(uid))
        for pool_name in pool_names(application, PoolSlot(interface, 6, "s")):
            assert len(pool_name) <= 253
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", pool_name)


class TestPool:
    def test_it_names_its_application_and_belongs_to_its_subnet(self) -> None:
        blue = subnet(gateway="10.6.255.254", routes=[Route("10.7.0.0/16", "10.6.0.254")])
        made = desired_pool(web_claim(), ETH0, blue, "auto4-web-eth0-0a1b2", addresses(0x0A060001, 0x0A060002))
        assert made.metadata.labels == {
            "ipam.spidernet.io/owner-spider-subnet": "blue",
            "ipam.spidernet.io/owner-application-gv": "apps_v1",
            "ipam.spidernet.io/owner-application-kind": "Deployment",
            "ipam.spidernet.io/owner-application-namespace": "shop",
            "ipam.spidernet.io/owner-application-name": "web",
            "ipam.spidernet.io/owner-application-uid": UID,
            "ipam.spidernet.io/interface": "eth0",
            "ipam.spidernet.io/ip-version": "IPv4",
            "ipam.spidernet.io/ippool-reclaim": "true",
            "ipam.spidernet.io/ippool-cidr": "10-6-0-0-16",
        }
        assert made.metadata.annotations == {"ipam.spidernet.io/ippool-ip-number": "+1"}
        assert made.metadata.ownerReferences == [owner_reference(blue)]
        assert made.metadata.finalizers == ["spiderpool.spidernet.io/in-use"]
        assert msgspec.to_builtins(made.spec) == {
            "ipVersion": 4,
            "subnet": "10.6.0.0/16",
            "ips": ["10.6.0.1-10.6.0.2"],
            "gateway": "10.6.255.254",
            "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.254"}],
            "podAffinity": {
                "matchLabels": {
                    "ipam.spidernet.io/app-api-group": "apps",
                    "ipam.spidernet.io/app-api-version": "v1",
                    "ipam.spidernet.io/app-kind": "Deployment",
                    "ipam.spidernet.io/app-namespace": "shop",
                    "ipam.spidernet.io/app-name": "web",
                }
            },
        }
        assert pool_application(made) == WEB
        assert application_labels(WEB, "blue", "eth0", 4).items() <= (made.metadata.labels or {}).items()

    def test_a_pool_that_is_as_desired_does_not_change(self) -> None:
        held = addresses(0x0A060001, 0x0A060002, 0x0A060003)
        made = desired_pool(web_claim(), ETH0, subnet(), "x", held)
        assert desired_pool(web_claim(), ETH0, subnet(), made, held) == made
        assert desired_pool(web_claim(IPNumber(3, False)), ETH0, subnet(), made, held) != made

    def test_names_longer_than_a_label_value(self) -> None:
        long = Controller("apps/v1", "Deployment", "shop", "w" * 200, UID)
        made = desired_pool(PoolClaim(long, (ETH0,), IPNumber(1, True), True, 1), ETH0, subnet(), "x", addresses())
        assert all(len(value) <= 63 for value in (made.metadata.labels or {}).values())
        assert pool_application(made) == long
        assert find_pool([made], long, ETH0) is made

    @pytest.mark.parametrize(
        ("uid", "reclaim", "terminating", "found"),
        [
            (UID, True, False, True),
            (UID, True, True, False),
            ("earlier", True, False, False),
            ("earlier", False, False, True),
        ],
    )
    def test_a_pool_is_found_by_its_own_application_or_when_it_was_left_for_reuse(
        self, uid: str, reclaim: bool, terminating: bool, found: bool
    ) -> None:
        earlier = Controller("apps/v1", "Deployment", "shop", "web", uid)
        made = desired_pool(
            PoolClaim(earlier, (ETH0,), IPNumber(1, True), reclaim, 1), ETH0, subnet(), "x", addresses()
        )
        made.metadata.deletionTimestamp = "2026-01-01T00:00:00Z" if terminating else None
        assert (find_pool([made], WEB, ETH0) is made) is found
        assert find_pool([made], WEB, PoolSlot("net1", 4, "blue")) is None
        assert "owner-application-uid" not in " ".join(slot_labels(WEB, ETH0))


def test_what_a_pool_is_to_hold_comes_from_what_the_subnet_has_left() -> None:
    blue = subnet()
    stored = desired_pool(web_claim(), ETH0, blue, "auto", addresses(0x0A060001))
    other = desired_pool(web_claim(), ETH0, blue, "other", addresses(0x0A060002))
    use = SubnetUse(blue, (stored, other), addresses(0x0A060003), addresses())
    assert use.addresses(stored, 2) == addresses(0x0A060001, 0x0A060004)
    assert use.addresses(None, 1) == addresses(0x0A060004)
