"""What a node advertises: what its pods request, and what its own pools have left beside."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.api.subnet import APPLICATION_NAME_LABEL
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.node_capacity import (
    PLENTY,
    FreeAddresses,
    ServingPools,
    Supply,
    advertised,
    concerns,
    free_addresses,
    is_exact,
    supply,
)
from spiderpool.core.ipam.selection import AllocationRequest, Candidates, DefaultPools, NamedPools

pytestmark = pytest.mark.unit

NOTHING = AddressSet(4)
RELEASED = "2026-01-01T00:00:00Z"
AT = 1767225600.0
"""The same time."""


def pool(name: str = "p", *, labels: dict[str, str] | None = None, **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.10"], "nodeName": ["n"]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name, labels=labels), spec=IPPoolSpec(**fields))


def record(address: str, released_at: str | None = None) -> SpiderIP:
    spec = IPSpec(f"{address}/24", "p", "n", "default", "web", "u", "eth0", releasedAt=released_at)
    return SpiderIP(metadata=ObjectMeta(name=address), spec=spec)


def request(candidates: Candidates | None = None, version: int = 4) -> AllocationRequest:
    return AllocationRequest("", "", "", "eth0", "", "kube-system/a", version, "", candidates or NamedPools(("p", "q")))


def node(*pools: SpiderIPPool, free: dict[str, int] | None = None) -> ServingPools:
    counts = {"p": 5, "q": 3} if free is None else free
    return ServingPools("n", {"zone": "h"}, frozenset({"eni-1"}), pools, lambda each: counts[each.name])


class TestFreeAddresses:
    def count(self, *records: SpiderIP, reserved: AddressSet = NOTHING, now: float = AT, **spec: Any) -> int:
        return free_addresses(pool(**spec), records, reserved, now).count

    def test_what_nobody_has_is_free(self) -> None:
        assert self.count() == 10
        assert self.count(excludeIPs=["10.0.0.1-10.0.0.4"]) == 6
        assert self.count(reserved=AddressSet.parse(["10.0.0.9-10.0.0.20"], 4)) == 8
        assert self.count(record("10.0.0.1"), record("10.0.0.2")) == 8

    def test_a_record_counts_once_and_only_within_the_pool(self) -> None:
        assert self.count(record("10.0.0.1"), record("10.0.0.1"), record("10.0.0.99")) == 9
        reserved = AddressSet.parse(["10.0.0.1"], 4)
        assert self.count(record("10.0.0.1"), reserved=reserved) == 9

    def test_an_address_is_not_free_before_its_cooldown_ends(self) -> None:
        cooling = pool(cooldownSeconds=60)
        records = [record("10.0.0.1", RELEASED), record("10.0.0.2")]
        assert free_addresses(cooling, records, NOTHING, AT + 59) == FreeAddresses(8, AT + 60)
        assert free_addresses(cooling, records, NOTHING, AT + 60) == FreeAddresses(9, None)
        assert self.count(record("10.0.0.1", "yesterday"), cooldownSeconds=60) == 10

    def test_a_malformed_pool_has_none(self) -> None:
        assert self.count(ips=["x"]) == 0


class TestSupply:
    def test_own_pools_are_counted(self) -> None:
        assert supply([request()], node(pool("p"), pool("q"))) == Supply(8, frozenset({"p", "q"}))
        assert supply([request(NamedPools(("q",)))], node(pool("p"), pool("q"))) == Supply(3, frozenset({"q"}))

    def test_default_pools(self) -> None:
        found = supply([request(DefaultPools())], node(pool("p", default=True), pool("q")))
        assert found == Supply(5, frozenset({"p"}))

    @pytest.mark.parametrize(
        "spec",
        [
            {"disable": True},
            {"nodeName": ["other"]},
            {"nodeName": None, "nodeAffinity": LabelSelector(matchLabels={"zone": "other"})},
            {"multusName": ["kube-system/b"]},
            {"labels": {POOL_ENI_LABEL: "eni-2"}},
        ],
    )
    def test_pools_that_serve_no_pod_here_give_nothing(self, spec: Any) -> None:
        assert supply([request()], node(pool("p", **spec))).free == 0

    @pytest.mark.parametrize(
        "spec",
        [
            {"nodeName": None},
            {"nodeName": ["n", "m"]},
            {"nodeName": None, "nodeAffinity": LabelSelector(matchLabels={"zone": "h"})},
            {"podAffinity": LabelSelector(matchLabels={"app": "web"})},
            {"namespaceName": ["team"]},
            {"namespaceAffinity": LabelSelector(matchLabels={"team": "a"})},
            {"labels": {APPLICATION_NAME_LABEL: "web"}, "podAffinity": LabelSelector(matchLabels={"app": "web"})},
        ],
    )
    def test_who_else_takes_from_these_pools_is_not_known(self, spec: Any) -> None:
        """So a node has plenty until nothing is left."""
        assert not is_exact(pool("p", **spec), "n")
        assert supply([request()], node(pool("p", **spec), pool("q"))) == Supply(PLENTY, frozenset({"q"}))
        assert supply([request()], node(pool("p", **spec), pool("q"), free={"p": 0, "q": 3})).free == 3

    def test_a_pool_of_this_node_is_exact(self) -> None:
        assert is_exact(pool("p", labels={"a": "b"}, multusName=["x"]), "n")

    def test_a_pod_needs_an_address_of_each_family(self) -> None:
        v6 = pool("q", subnet="fd00::/64", ips=["fd00::1-fd00::9"])
        both = [request(NamedPools(("p",))), request(NamedPools(("q",)), 6)]
        assert supply(both, node(pool("p"), v6)) == Supply(3, frozenset({"p", "q"}))
        assert supply(both, node(pool("p"))).free == 0

    def test_a_large_pool_has_no_more_than_plenty(self) -> None:
        assert supply([request()], node(pool("p"), free={"p": 2**64})).free == PLENTY

    def test_who_needs_nothing_known_gets_nothing(self) -> None:
        assert supply([], node(pool("p"))) == Supply(0, frozenset())


class TestAdvertised:
    A = Supply(5, frozenset({"p"}))
    B = Supply(5, frozenset({"p", "q"}))
    C = Supply(5, frozenset({"x"}))

    def test_what_pods_request_and_what_is_left(self) -> None:
        assert advertised({"a": self.A}, {"a": 3}, {}) == {"a": 8}
        assert advertised({"a": self.A}, {}, {}) == {"a": 5}

    def test_the_figure_stays_while_a_pod_comes_and_gets_its_address(self) -> None:
        before = advertised({"a": self.A}, {"a": 3}, {})
        assert advertised({"a": self.A}, {"a": 4}, {"a": 1}) == before
        assert advertised({"a": Supply(4, self.A.pools)}, {"a": 4}, {}) == before

    def test_what_pods_of_other_resources_will_take_is_not_offered(self) -> None:
        supplies = {"a": self.A, "b": self.B, "c": self.C}
        assert advertised(supplies, {}, {"b": 2}) == {"a": 3, "b": 3, "c": 5}
        assert advertised({"a": self.A}, {}, {"unknown": 2}) == {"a": 5}

    def test_never_less_than_what_is_requested(self) -> None:
        assert advertised({"a": self.A}, {"a": 9}, {"a": 9}) == {"a": 9}

    def test_plenty_does_not_change(self) -> None:
        assert advertised({"a": Supply(PLENTY, frozenset({"p"}))}, {"a": 7}, {"a": 3}) == {"a": PLENTY}

    @pytest.mark.parametrize("requested", [PLENTY // 2, PLENTY, 10 * PLENTY])
    def test_nobody_requests_all_of_plenty(self, requested: int) -> None:
        own = Supply(PLENTY, frozenset())
        assert advertised({"a": own}, {"a": requested}, {})["a"] - requested >= PLENTY // 2

    def test_no_figure_is_more_than_the_api_server_takes(self) -> None:
        assert advertised({"a": Supply(PLENTY, frozenset())}, {"a": 2**64}, {}) == {"a": 2**63 - 1}
        assert advertised({"a": self.A}, {"a": 2**64}, {}) == {"a": 2**63 - 1}

    def test_nothing_is_left_out(self) -> None:
        assert advertised({"a": Supply(0, frozenset())}, {}, {}) == {}
        assert advertised({"a": Supply(0, frozenset())}, {"a": 2}, {}) == {"a": 2}


def test_a_pool_concerns_who_names_it() -> None:
    assert concerns([request()], pool("q"))
    assert not concerns([request()], pool("r", default=True))
    assert concerns([request(NamedPools(("x",))), request(NamedPools(("r*",)))], pool("r1"))
    assert concerns([request(DefaultPools())], pool("r", default=True))
    assert not concerns([request(DefaultPools())], pool("r"))
    assert not concerns([], pool("r", default=True))
    of_application = pool("r1", labels={APPLICATION_NAME_LABEL: "web"})
    assert not concerns([request(NamedPools(("r*",)))], of_application), "there may be very many"
    assert concerns([request(NamedPools(("r1",)))], of_application)
