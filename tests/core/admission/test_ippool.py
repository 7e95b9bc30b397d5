"""Defaults and faults of SpiderIPPools, alone and in a SpiderSubnet."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.ippool import (
    POOL_CIDR_LABEL,
    POOL_ENI_LABEL,
    POOL_MOVING_ANNOTATION,
    POOL_NODE_LABEL,
    SpiderIPPool,
)
from spiderpool.api.meta import FINALIZER, OwnerReference
from spiderpool.api.subnet import APPLICATION_NAME_LABEL, OWNER_SUBNET_LABEL, SpiderSubnet
from spiderpool.core.addresses import from_int
from spiderpool.core.admission.ippool import (
    MOST_MOVING,
    PoolContext,
    default_ippool,
    validate_ippool,
    why_ippool_in_use,
)
from spiderpool.core.ipam.allocation import usable
from tests.core.admission.objects import LEAVING, NET6, found, holder, paths, pool, subnet

pytestmark = pytest.mark.unit


class TestPoolDefaults:
    @pytest.mark.parametrize(
        ("given", "merged"),
        [
            (["10.6.0.5", "10.6.0.1-10.6.0.3", "10.6.0.4"], ["10.6.0.1-10.6.0.5"]),
            (["10.6.0.1-10.6.0.1"], ["10.6.0.1-10.6.0.1"]),
            (["10.6.0.2", "10.6.0.9-10.6.0.7"], ["10.6.0.2", "10.6.0.9-10.6.0.7"]),
            (["10.6.0.2", "10.6.0.1", "10.7.0.1"], ["10.6.0.2", "10.6.0.1", "10.7.0.1"]),
            ([], []),
            (None, None),
        ],
    )
    def test_lists_that_will_be_accepted_are_merged(self, given: list[str] | None, merged: list[str] | None) -> None:
        made = default_ippool(pool({"ips": given, "excludeIPs": given}))
        assert made.spec.ips == merged
        assert made.spec.excludeIPs == merged

    def test_half_of_a_64_merges_at_once(self) -> None:
        ranges = ["fd00::8000:0:0:0-fd00::ffff:ffff:ffff:ffff", "FD00::A", "fd00::b-fd00::d"]
        made = default_ippool(pool({**NET6, "ips": ranges}))
        assert made.spec.ips == ["fd00::a-fd00::d", "fd00::8000:0:0:0-fd00::ffff:ffff:ffff:ffff"]
        assert validate_ippool(made, None, PoolContext(others=[made])) != ()
        assert validate_ippool(made) == ()

    @pytest.mark.parametrize(
        ("subnet", "version", "label"),
        [
            ("10.6.0.0/24", 4, "10-6-0-0-24"),
            ("abcd:1234::/120", 6, "abcd-1234---120"),
            ("fd00::/64", 6, "fd00---64"),
            ("::/0", 6, None),
        ],
    )
    def test_version_and_label_follow_the_subnet(self, subnet: str, version: int, label: str | None) -> None:
        made = default_ippool(pool({"subnet": subnet}))
        assert made.spec.ipVersion == version
        assert (made.metadata.labels or {}).get(POOL_CIDR_LABEL) == label
        assert made.metadata.finalizers == [FINALIZER]

    @pytest.mark.parametrize(
        ("nodes", "label"),
        [
            (["node-1"], "node-1"),
            (["n" * 64], hashlib.sha256(b"n" * 64).hexdigest()[:63]),
            (["a", "b"], None),
            ([], None),
            (None, None),
            (["not a node"], None),
        ],
    )
    def test_a_pool_of_one_node_is_labelled(self, nodes: list[str] | None, label: str | None) -> None:
        made = default_ippool(pool({"nodeName": nodes}, labels={POOL_NODE_LABEL: "stale", "x": "y"}))
        labels = made.metadata.labels or {}
        assert labels["x"] == "y"
        assert labels.get(POOL_NODE_LABEL) == label

    def test_a_family_that_differs_from_the_subnets_stays_for_the_validation(self) -> None:
        made = default_ippool(pool({"ipVersion": 6, "ips": ["10.6.0.2", "10.6.0.1"]}))
        assert (made.spec.ipVersion, made.spec.ips) == (6, ["10.6.0.2", "10.6.0.1"])

    def test_defaults_change_neither_a_defaulted_nor_a_terminating_pool(self) -> None:
        made = default_ippool(pool({"ips": ["10.6.0.1", "10.6.0.2"]}))
        assert default_ippool(made) == made
        leaving = pool({"subnet": "10.6.0.0/24"}, deletionTimestamp="2026-01-01T00:00:00Z")
        assert default_ippool(leaving) == leaving


class TestPoolFaults:
    @pytest.mark.parametrize(
        ("spec", "path", "remedy"),
        [
            ({"subnet": "10.6.0.1/24"}, "spec.subnet", "write 10.6.0.0/24"),
            ({"subnet": "10.6.0.0"}, "spec.subnet", "prefix length"),
            ({"subnet": "10.6.0.0/255.255.255.0"}, "spec.subnet", "write 10.6.0.0/24"),
            ({"subnet": "10.6.0.0/024"}, "spec.subnet", "write 10.6.0.0/24"),
            ({"subnet": "FD00::/64"}, "spec.subnet", "write fd00::/64"),
            ({"ipVersion": 6}, "spec.ipVersion", "write 4"),
            ({"ips": ["10.6.0.1", "10.6.0.9-10.6.0.5"]}, "spec.ips[1]", "write 10.6.0.5-10.6.0.9"),
            ({"ips": ["10.6.0.0/28"]}, "spec.ips[0]", "one address"),
            ({"ips": ["10.6.0.01"]}, "spec.ips[0]", "one address"),
            ({"ips": ["10.6.0.1 - 10.6.0.2"]}, "spec.ips[0]", "one address"),
            ({"ips": ["10.6.0.250-10.6.1.5"]}, "spec.ips[0]", "10.6.1.0-10.6.1.5 lies outside"),
            ({**NET6, "ips": ["fd00::1%eth0"]}, "spec.ips[0]", "one address"),
            ({"excludeIPs": ["10.7.0.1"]}, "spec.excludeIPs[0]", "lies outside"),
            ({"excludeIPs": ["10.6.0.9-10.6.0.1"]}, "spec.excludeIPs[0]", "reversed"),
            ({"gateway": ""}, "spec.gateway", "address of the subnet 10.6.0.0/24"),
            ({"gateway": "10.7.0.1"}, "spec.gateway", "outside"),
            ({"gateway": "10.6.0.1", "ips": ["10.6.0.1-10.6.0.9"]}, "spec.gateway", "spec.excludeIPs"),
            ({**NET6, "gateway": "fd00:0::1", "ips": ["fd00::1"]}, "spec.gateway", "spec.excludeIPs"),
            ({"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "spec.gateway"),
            ({"routes": [{"dst": "1.2.3.4", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "CIDR"),
            ({"routes": [{"dst": "fd01::/64", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "IPv4"),
            ({"routes": [{"dst": "1.0.0.0/8", "gw": "10.7.0.1"}]}, "spec.routes[0].gw", "outside"),
            (
                {"routes": [{"dst": f"1.0.0.{n}/8", "gw": "10.6.0.1"} for n in (1, 2)]},
                "spec.routes[1].dst",
                "already",
            ),
            ({"podAffinity": {}}, "spec.podAffinity", "name labels"),
            ({"podAffinity": {"matchLabels": {"a b": "c"}}}, "spec.podAffinity.matchLabels", "label key"),
            ({"podAffinity": {"matchLabels": {"a": "-"}}}, "spec.podAffinity.matchLabels[a]", "label value"),
            (
                {"nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
                "spec.nodeAffinity.matchExpressions[0].operator",
                "NotIn",
            ),
            (
                {"namespaceAffinity": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
                "spec.namespaceAffinity.matchExpressions[0].values",
                "at least one",
            ),
            (
                {"nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
                "spec.nodeAffinity.matchExpressions[0].values",
                "no values",
            ),
        ],
    )
    def test_a_fault_names_its_field_and_remedy(self, spec: dict[str, Any], path: str, remedy: str) -> None:
        faults = validate_ippool(pool(spec))
        assert paths(faults) == [path]
        assert remedy in faults[0].message

    @pytest.mark.parametrize(
        "spec",
        [
            {},
            {"ips": ["10.6.0.0-10.6.0.255"], "gateway": "10.6.0.1", "excludeIPs": ["10.6.0.1"]},
            {"routes": [{"dst": "1.2.3.4/8", "gw": "10.6.0.1"}], "nodeAffinity": {}, "namespaceAffinity": {}},
            {**NET6, "ips": ["fd00::-fd00::ffff:ffff:ffff:fffe"], "gateway": "fd00::ffff:ffff:ffff:ffff"},
            {"podAffinity": {"matchExpressions": [{"key": "a.b/c", "operator": "In", "values": [""]}]}},
        ],
    )
    def test_valid_pools_are_accepted(self, spec: dict[str, Any]) -> None:
        assert validate_ippool(pool(spec)) == ()

    def test_all_faults_are_reported_at_once(self) -> None:
        spec = {"ips": ["x", "10.6.0.1", "y"], "gateway": "z", "podAffinity": {}}
        faults = validate_ippool(pool(spec))
        assert paths(faults) == ["spec.ips[0]", "spec.ips[2]", "spec.podAffinity"]

    def test_a_family_that_is_switched_off(self) -> None:
        faults = validate_ippool(pool(NET6), None, PoolContext(families=frozenset({4})))
        assert paths(faults) == ["spec.ipVersion"]
        assert "enableIPv6" in faults[0].message

    def test_an_overlap_names_the_other_pool_and_the_common_addresses(self) -> None:
        other = pool({"ips": ["10.6.0.5-10.6.0.20"], "excludeIPs": ["10.6.0.7"]}, "other")
        faults = validate_ippool(pool({"ips": ["10.6.0.1-10.6.0.8"]}), None, PoolContext(others=[other]))
        assert paths(faults) == ["spec.ips"]
        assert "pool other has 10.6.0.5-10.6.0.6, 10.6.0.8 as well" in faults[0].message
        assert (
            validate_ippool(pool({"ips": ["10.6.0.1-10.6.0.4", "10.6.0.7"]}), None, PoolContext(others=[other])) == ()
        )

    def test_subnets_of_pools_are_equal_or_disjoint(self) -> None:
        other = pool({"subnet": "10.0.0.0/8"}, "other")
        faults = validate_ippool(pool({}), None, PoolContext(others=[other, pool(NET6, "six")]))
        assert paths(faults) == ["spec.subnet"]
        assert "10.0.0.0/8 of pool other" in faults[0].message

    def test_an_unreadable_pool_does_not_block_others(self) -> None:
        broken = [pool({"subnet": "nonsense"}, "a"), pool({"ips": ["x"]}, "b")]
        assert validate_ippool(pool({"ips": ["10.6.0.1"]}), None, PoolContext(others=broken)) == ()

    def test_the_family_is_that_of_the_subnet(self) -> None:
        assert paths(validate_ippool(pool({"ipVersion": 6}), pool({"ipVersion": 4}))) == ["spec.ipVersion"]

    def test_addresses_in_use_stay(self) -> None:
        old = pool({"ips": ["10.6.0.1-10.6.0.20"]})
        records = [holder(f"10.6.0.{n}", f"pod-{n}") for n in range(1, 11)]
        faults = validate_ippool(pool({"ips": ["10.6.0.3-10.6.0.9"]}), old, PoolContext(records=records))
        assert paths(faults) == ["spec.ips"]
        assert "10.6.0.1 (pod ns/pod-1), 10.6.0.2 (pod ns/pod-2), 10.6.0.10 (pod ns/pod-10)" in faults[0].message
        faults = validate_ippool(
            pool({"ips": old.spec.ips, "excludeIPs": ["10.6.0.0-10.6.0.8"]}), old, PoolContext(records=records)
        )
        assert paths(faults) == ["spec.excludeIPs"]
        assert "and 3 more" in faults[0].message
        assert validate_ippool(pool({"ips": ["10.6.0.1-10.6.0.10"]}), old, PoolContext(records=records)) == ()

    @pytest.mark.parametrize(("trusted", "faults"), [(True, []), (False, [("FORBIDDEN", "spec.excludeIPs")])])
    def test_the_controller_may_exclude_addresses_in_use_of_a_nics_pool(
        self, trusted: bool, faults: list[tuple[str, str]]
    ) -> None:
        labels = {POOL_ENI_LABEL: "eni-1"}
        old = pool({"ips": ["10.6.0.1-10.6.0.9"]}, labels=labels)
        fenced = pool({"ips": ["10.6.0.1-10.6.0.9"], "excludeIPs": ["10.6.0.1"]}, labels=labels)
        assert found(validate_ippool(fenced, old, PoolContext(trusted=trusted, records=[holder("10.6.0.1")]))) == faults
        without = pool({"ips": ["10.6.0.2-10.6.0.9"]}, labels=labels)
        assert found(validate_ippool(without, old, PoolContext(trusted=trusted, records=[holder("10.6.0.1")]))) == [
            ("FORBIDDEN", "spec.ips")
        ]

    def test_a_faulty_pool_can_be_labelled_and_disabled(self) -> None:
        old = pool({"ips": ["10.6.0.9-10.6.0.1"], "ipVersion": 4})
        relabelled = pool({"ips": ["10.6.0.9-10.6.0.1"], "ipVersion": 4}, labels={"a": "b"})
        assert validate_ippool(relabelled, old) == ()
        overlapping = pool({"ips": ["10.6.0.1"]}, "other")
        old = pool({"ips": ["10.6.0.1"]})
        assert (
            validate_ippool(pool({"ips": ["10.6.0.1"], "disable": True}), old, PoolContext(others=[overlapping])) == ()
        )

    def test_a_terminating_pool_keeps_its_spec(self) -> None:
        leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        assert validate_ippool(pool({}, **leaving), pool({})) == ()
        assert paths(validate_ippool(pool({"disable": True}, **leaving), pool({}))) == ["spec"]

    def test_an_automatic_pool_selects_its_application_alone(self) -> None:
        labels = {"ipam.spidernet.io/owner-application-name": "x"}
        selector = {"matchLabels": {"ipam.spidernet.io/app-name": "x", "foo": "bar"}}
        assert paths(validate_ippool(pool({"podAffinity": selector}, labels=labels))) == ["spec.podAffinity"]
        del selector["matchLabels"]["foo"]
        assert validate_ippool(pool({"podAffinity": selector}, labels=labels)) == ()

    @given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=6))
    def test_merging_changes_no_address(self, bounds: list[tuple[int, int]]) -> None:
        base = 10 << 24 | 6 << 16
        ranges = [f"{from_int(base + min(pair), 4)}-{from_int(base + max(pair), 4)}" for pair in bounds]
        before = pool({"ips": ranges})
        after = default_ippool(before)
        assert usable(after) == usable(before)
        assert validate_ippool(after) == ()

    def test_a_fault_reads_as_kubernetes_writes_its_own(self) -> None:
        (fault,) = validate_ippool(pool({"ips": ["x"]}))
        assert str(fault).startswith('spec.ips[0]: Invalid value: "x": not an IPv4 address')


OTHER_SUBNET = subnet({"subnet": "10.7.0.0/16"}, "other")


def owned(name: str, **spec: Any) -> SpiderIPPool:
    """A pool of subnet ``name``."""
    made = pool(spec)
    reference = OwnerReference("spiderpool.spidernet.io/v2beta1", "SpiderSubnet", name, f"uid-{name}", controller=True)
    made.metadata.ownerReferences = [reference]
    return made


class TestPoolOfASubnet:
    PARENT = subnet(
        {
            "ips": ["10.6.0.1-10.6.0.99"],
            "gateway": "10.6.0.254",
            "routes": [{"dst": "10.9.0.0/16", "gw": "10.6.0.253"}],
        }
    )

    def test_it_is_adopted_and_inherits(self) -> None:
        made = default_ippool(pool({"ips": ["10.6.0.1"]}), [OTHER_SUBNET, self.PARENT])
        (owner,) = made.metadata.ownerReferences or []
        assert (owner.kind, owner.name, owner.uid, owner.controller, owner.blockOwnerDeletion) == (
            "SpiderSubnet",
            "s",
            "uid-s",
            True,
            True,
        )
        assert (made.metadata.labels or {})[OWNER_SUBNET_LABEL] == "s"
        assert made.spec.gateway == "10.6.0.254"
        assert made.spec.routes == self.PARENT.spec.routes
        assert default_ippool(made, [self.PARENT]) == made

    def test_gateway_and_routes_that_it_has_stay(self) -> None:
        made = default_ippool(pool({"gateway": "10.6.0.200", "routes": []}), [self.PARENT])
        assert made.spec.gateway == "10.6.0.200"
        assert made.spec.routes == []

    def test_it_inherits_once(self) -> None:
        made = default_ippool(owned("s"), [self.PARENT])
        assert made.spec.gateway is None
        assert (made.metadata.labels or {})[OWNER_SUBNET_LABEL] == "s"

    def test_a_pool_of_an_earlier_subnet_of_the_same_name_is_adopted(self) -> None:
        stale = owned("s")
        (owner,) = stale.metadata.ownerReferences or []
        owner.uid = "uid-of-an-earlier-one"
        (owner,) = default_ippool(stale, [self.PARENT]).metadata.ownerReferences or []
        assert (owner.name, owner.uid) == ("s", "uid-s")

    @pytest.mark.parametrize(
        ("made", "parent"),
        [
            (pool({}), OTHER_SUBNET),
            (pool({}), subnet({}, **LEAVING)),
            (owned("another"), PARENT),
            (pool({}, **LEAVING), PARENT),
        ],
    )
    def test_it_is_not_adopted(self, made: SpiderIPPool, parent: SpiderSubnet) -> None:
        assert OWNER_SUBNET_LABEL not in (default_ippool(made, [parent]).metadata.labels or {})

    @pytest.mark.parametrize(
        ("made", "faults"),
        [
            (owned("s", ips=["10.6.0.1-10.6.0.99"]), []),
            (owned("s", ips=["10.6.0.99-10.6.0.100"]), [("FORBIDDEN", "spec.ips")]),
            (owned("gone", ips=["10.6.0.1"]), [("INVALID", "metadata.ownerReferences")]),
            (owned("gone"), []),
            (pool({"ips": ["10.6.0.200"]}), []),
        ],
    )
    def test_its_addresses_are_within_those_of_the_subnet(
        self, made: SpiderIPPool, faults: list[tuple[str, str]]
    ) -> None:
        assert found(validate_ippool(made, None, PoolContext(subnets=[self.PARENT]))) == faults
        assert validate_ippool(made) == ()

    def test_addresses_that_it_has_already_may_stay(self) -> None:
        old, new = owned("s", ips=["10.6.0.200"]), owned("s", ips=["10.6.0.200", "10.6.0.1"])
        assert validate_ippool(new, old, PoolContext(subnets=[self.PARENT])) == ()

    @pytest.mark.parametrize(("trusted", "faults"), [(True, []), (False, [("FORBIDDEN", "spec.ips")])])
    def test_the_controller_alone_sizes_an_automatic_pool(self, trusted: bool, faults: list[tuple[str, str]]) -> None:
        old, new = owned("s", ips=["10.6.0.1"]), owned("s", ips=["10.6.0.2"])
        for stored in (old, new):
            stored.metadata.labels = {APPLICATION_NAME_LABEL: "web"}
        assert found(validate_ippool(new, old, PoolContext(subnets=[self.PARENT], trusted=trusted))) == faults
        assert found(validate_ippool(new, None, PoolContext(subnets=[self.PARENT], trusted=trusted))) == faults
        routed = msgspec.structs.replace(new, spec=msgspec.structs.replace(new.spec, disable=True))
        assert validate_ippool(routed, new, PoolContext(subnets=[self.PARENT], trusted=trusted)) == ()

    def test_addresses_in_their_cooldown_can_be_removed(self) -> None:
        old, new = pool({"ips": ["10.6.0.1-10.6.0.9"]}), pool({"ips": ["10.6.0.2-10.6.0.9"]})
        assert found(validate_ippool(new, old, PoolContext(records=[holder("10.6.0.1")]))) == [
            ("FORBIDDEN", "spec.ips")
        ]
        assert (
            validate_ippool(new, old, PoolContext(records=[holder("10.6.0.1", released="2026-01-01T00:00:00Z")])) == ()
        )

    def test_a_pool_in_use_names_the_pods(self) -> None:
        assert why_ippool_in_use(pool({}), [holder("10.6.0.1", released="2026-01-01T00:00:00Z")]) is None
        reason = why_ippool_in_use(pool({}), [holder("10.6.0.1")])
        assert reason is not None
        assert "10.6.0.1 (pod ns/web)" in reason


def test_a_long_list_of_addresses_that_pods_move_away_from_is_refused_unless_it_was_there() -> None:
    long, longer = (pool({}, annotations={POOL_MOVING_ANNOTATION: "1" * (MOST_MOVING + each)}) for each in (1, 2))
    assert [each.path for each in validate_ippool(long, pool({}))] == [
        f"metadata.annotations[{POOL_MOVING_ANNOTATION}]"
    ]
    assert len(validate_ippool(longer, long)) == 1
    assert validate_ippool(long, long) == ()
    assert validate_ippool(pool({}), long) == ()
