"""Rules of SpiderSubnet and SpiderReservedIP, and of pools that are cut from a subnet, as tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import FINALIZER, ObjectMeta, OwnerReference
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import APPLICATION_NAME_LABEL, OWNER_SUBNET_LABEL, SUBNET_CIDR_LABEL, SpiderSubnet
from spiderpool.core.rules import (
    Fault,
    FieldError,
    default_ippool,
    default_reservedip,
    default_subnet,
    ippool_kept_by,
    subnet_kept_by,
    validate_ippool,
    validate_reservedip,
    validate_subnet,
)

pytestmark = pytest.mark.unit

NET = "10.6.0.0/24"
LEAVING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def subnet(spec: dict[str, Any], name: str = "s", **metadata: Any) -> SpiderSubnet:
    return msgspec.convert({"metadata": {"name": name, "uid": f"uid-{name}", **metadata}, "spec": spec}, SpiderSubnet)


def pool(spec: dict[str, Any], name: str = "p", **metadata: Any) -> SpiderIPPool:
    return msgspec.convert({"metadata": {"name": name, **metadata}, "spec": {"subnet": NET, **spec}}, SpiderIPPool)


def reserved(ips: list[str] | None = None, version: int | None = None, **metadata: Any) -> SpiderReservedIP:
    spec = {"ips": ips, "ipVersion": version}
    return msgspec.convert({"metadata": {"name": "r", **metadata}, "spec": spec}, SpiderReservedIP)


def holder(address: str, released: str | None = None) -> SpiderIP:
    spec = IPSpec(f"{address}/24", "p", "n", "ns", "web", "u", "eth0", releasedAt=released)
    return SpiderIP(metadata=ObjectMeta(name=address), spec=spec)


def owned(name: str, **spec: Any) -> SpiderIPPool:
    """A pool of subnet ``name``."""
    made = pool(spec)
    reference = OwnerReference("spiderpool.spidernet.io/v2beta1", "SpiderSubnet", name, f"uid-{name}", controller=True)
    made.metadata.ownerReferences = [reference]
    return made


def found(faults: tuple[FieldError, ...]) -> list[tuple[str, str]]:
    return [(fault.kind.name, fault.path) for fault in faults]


S = {"subnet": NET}
S6 = {"subnet": "fd00::/64"}


class TestSubnetDefaults:
    def test_what_it_gets(self) -> None:
        made = default_subnet(subnet({**S, "ips": ["10.6.0.3", "10.6.0.1-10.6.0.2"]}, labels={"mine": "x"}))
        assert made.metadata.finalizers == [FINALIZER]
        assert made.metadata.labels == {"mine": "x", SUBNET_CIDR_LABEL: "10-6-0-0-24"}
        assert made.spec.ipVersion == 4
        assert made.spec.ips == ["10.6.0.1-10.6.0.3"]
        assert default_subnet(made) == made

    def test_a_stale_label_is_put_right_and_an_illegal_one_left_out(self) -> None:
        made = default_subnet(subnet({"subnet": "::/0"}, labels={SUBNET_CIDR_LABEL: "stale"}))
        assert made.metadata.labels is None

    def test_what_cannot_be_read_and_what_terminates_stays(self) -> None:
        made = default_subnet(subnet({"subnet": "nonsense", "ips": ["b", "a"]}))
        assert made.spec.ips == ["b", "a"]
        assert made.spec.ipVersion is None
        leaving = subnet(S, **LEAVING)
        assert default_subnet(leaving) == leaving


OTHER_SUBNET = subnet({"subnet": "10.7.0.0/16"}, "other")
OTHER_POOL = pool({"subnet": "10.8.0.0/16"}, "wide")
SAME_POOL = pool({"ips": ["10.6.0.1-10.6.0.9"], "excludeIPs": ["10.6.0.5"]}, "same")


class TestSubnetFaults:
    @pytest.mark.parametrize(
        ("spec", "kind", "path", "remedy"),
        [
            ({**S, "ipVersion": 6}, "INVALID", "spec.ipVersion", "write 4"),
            (S6, "FORBIDDEN", "spec.ipVersion", "enableIPv6"),
            ({"subnet": "10.6.0.0"}, "INVALID", "spec.subnet", "prefix length"),
            ({"subnet": "10.6.0.1/24"}, "INVALID", "spec.subnet", "write 10.6.0.0/24"),
            ({"subnet": "10.7.0.0/16"}, "INVALID", "spec.subnet", "SpiderSubnet other"),
            ({"subnet": "10.7.1.0/24"}, "INVALID", "spec.subnet", "SpiderSubnet other"),
            ({"subnet": "10.8.1.0/24"}, "INVALID", "spec.subnet", "10.8.0.0/16 of pool wide"),
            ({**S, "ips": ["10.6.0.2-10.6.0.9"]}, "INVALID", "spec.ips", "pool same has 10.6.0.1"),
            ({**S, "ips": ["10.6.0.1-10.6.0.9", "x"]}, "INVALID", "spec.ips[1]", "not an IPv4 address"),
            ({**S, "ips": ["10.6.0.1-10.6.1.9"]}, "INVALID", "spec.ips[0]", "lies outside"),
            ({**S, "ips": ["10.6.0.9-10.6.0.1"]}, "INVALID", "spec.ips[0]", "write 10.6.0.1-10.6.0.9"),
            ({**S, "excludeIPs": ["10.7.0.1"]}, "INVALID", "spec.excludeIPs[0]", "lies outside"),
            ({**S, "ips": ["10.6.0.1-10.6.0.9"], "gateway": "10.7.0.1"}, "INVALID", "spec.gateway", "outside"),
            ({**S, "ips": ["10.6.0.1-10.6.0.9"], "gateway": "10.6.0.9"}, "INVALID", "spec.gateway", "excludeIPs"),
            (
                {**S, "ips": ["10.6.0.1-10.6.0.9"], "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]},
                "INVALID",
                "spec.routes[0].dst",
                "spec.gateway",
            ),
            (
                {**S, "ips": ["10.6.0.1-10.6.0.9"], "routes": [{"dst": "10.9.0.0/16", "gw": "10.9.0.1"}]},
                "INVALID",
                "spec.routes[0].gw",
                "outside",
            ),
        ],
    )
    def test_a_new_one(self, spec: dict[str, Any], kind: str, path: str, remedy: str) -> None:
        faults = validate_subnet(subnet(spec), None, [OTHER_SUBNET], [OTHER_POOL, SAME_POOL], frozenset({4}))
        assert found(faults) == [(kind, path)]
        assert remedy in faults[0].message

    def test_right_ones(self) -> None:
        assert validate_subnet(subnet({**S, "ips": ["10.6.0.0-10.6.0.255"]}), None, [OTHER_SUBNET], [SAME_POOL]) == ()
        assert validate_subnet(subnet(S), None, [subnet({"subnet": "nonsense"}, "b")], [pool({"subnet": "x"})]) == ()
        assert validate_subnet(subnet({"subnet": "fd00::/64"}), None, [OTHER_SUBNET], [SAME_POOL]) == ()

    @pytest.mark.parametrize(
        ("spec", "faults"),
        [
            ({**S, "ips": ["10.6.0.1-10.6.0.20"], "gateway": "10.6.0.30"}, []),
            ({**S, "ips": ["10.6.0.1-10.6.0.4", "10.6.0.6-10.6.0.9"]}, []),
            ({**S, "ips": ["10.6.0.2-10.6.0.20"]}, [("FORBIDDEN", "spec.ips")]),
            (
                {**S, "ips": ["10.6.0.1-10.6.0.20"], "excludeIPs": ["10.6.0.9"]},
                [("FORBIDDEN", "spec.ips")],
            ),
            ({"subnet": "10.9.0.0/24"}, [("FORBIDDEN", "spec.subnet")]),
            ({**S, "ipVersion": 6}, [("INVALID", "spec.ipVersion")]),
        ],
    )
    def test_a_change(self, spec: dict[str, Any], faults: list[tuple[str, str]]) -> None:
        old = subnet({**S, "ips": ["10.6.0.1-10.6.0.20"]})
        assert found(validate_subnet(subnet(spec), old, [], [SAME_POOL])) == faults

    def test_what_is_told_of_addresses_that_pools_have(self) -> None:
        old = subnet({**S, "ips": ["10.6.0.1-10.6.0.20"]})
        (fault,) = validate_subnet(subnet({**S, "ips": ["10.6.0.8-10.6.0.20"]}), old, [], [SAME_POOL])
        assert fault.message.startswith("takes away 10.6.0.1-10.6.0.4, 10.6.0.6-10.6.0.7 of pool same")

    def test_a_terminating_one_keeps_its_spec(self) -> None:
        old = subnet({**S, "ips": ["10.6.0.1-10.6.0.20"]})
        same = subnet({**S, "ips": ["10.6.0.1-10.6.0.20"]}, labels={"a": "b"}, **LEAVING)
        assert validate_subnet(same, old) == ()
        assert found(validate_subnet(subnet(S, **LEAVING), old)) == [("FORBIDDEN", "spec")]

    def test_a_used_one_says_by_whom(self) -> None:
        assert subnet_kept_by(subnet(S), [OTHER_POOL, pool({}, "empty")]) is None
        reason = subnet_kept_by(subnet(S), [SAME_POOL])
        assert reason is not None
        assert "in pools: same" in reason


class TestPoolOfASubnet:
    PARENT = subnet(
        {
            **S,
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

    def test_what_it_says_itself_stays(self) -> None:
        made = default_ippool(pool({"gateway": "10.6.0.200", "routes": []}), [self.PARENT])
        assert made.spec.gateway == "10.6.0.200"
        assert made.spec.routes == []

    def test_it_inherits_once(self) -> None:
        made = default_ippool(owned("s"), [self.PARENT])
        assert made.spec.gateway is None
        assert (made.metadata.labels or {})[OWNER_SUBNET_LABEL] == "s"

    @pytest.mark.parametrize(
        ("made", "parent"),
        [
            (pool({}), OTHER_SUBNET),
            (pool({}), subnet(S, **LEAVING)),
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
    def test_its_addresses_are_the_subnets(self, made: SpiderIPPool, faults: list[tuple[str, str]]) -> None:
        assert found(validate_ippool(made, None, [], subnets=[self.PARENT])) == faults
        assert validate_ippool(made, None, []) == ()

    def test_addresses_that_it_has_already_may_stay(self) -> None:
        old, new = owned("s", ips=["10.6.0.200"]), owned("s", ips=["10.6.0.200", "10.6.0.1"])
        assert validate_ippool(new, old, [], subnets=[self.PARENT]) == ()

    @pytest.mark.parametrize(("trusted", "faults"), [(True, []), (False, [("FORBIDDEN", "spec.ips")])])
    def test_the_pool_of_an_application_is_sized_by_us_alone(
        self, trusted: bool, faults: list[tuple[str, str]]
    ) -> None:
        old, new = owned("s", ips=["10.6.0.1"]), owned("s", ips=["10.6.0.2"])
        for each in (old, new):
            each.metadata.labels = {APPLICATION_NAME_LABEL: "web"}
        assert found(validate_ippool(new, old, [], subnets=[self.PARENT], trusted=trusted)) == faults
        assert found(validate_ippool(new, None, [], subnets=[self.PARENT], trusted=trusted)) == faults
        routed = msgspec.structs.replace(new, spec=msgspec.structs.replace(new.spec, disable=True))
        assert validate_ippool(routed, new, [], subnets=[self.PARENT], trusted=trusted) == ()

    def test_addresses_that_only_cool_down_can_be_taken_away(self) -> None:
        old, new = pool({"ips": ["10.6.0.1-10.6.0.9"]}), pool({"ips": ["10.6.0.2-10.6.0.9"]})
        assert found(validate_ippool(new, old, [], [holder("10.6.0.1")])) == [("FORBIDDEN", "spec.ips")]
        assert validate_ippool(new, old, [], [holder("10.6.0.1", "2026-01-01T00:00:00Z")]) == ()

    def test_a_used_one_says_by_whom(self) -> None:
        assert ippool_kept_by(pool({}), [holder("10.6.0.1", "2026-01-01T00:00:00Z")]) is None
        reason = ippool_kept_by(pool({}), [holder("10.6.0.1")])
        assert reason is not None
        assert "10.6.0.1 (pod ns/web)" in reason


class TestReservedIPs:
    @pytest.mark.parametrize(
        ("given", "version", "merged"),
        [
            (["10.6.0.2", "10.6.0.1"], 4, ["10.6.0.1-10.6.0.2"]),
            (["fd00::2-fd00::3"], 6, ["fd00::2-fd00::3"]),
            (["10.6.0.2", "fd00::1"], 4, ["10.6.0.2", "fd00::1"]),
            (["x", "10.6.0.1"], None, ["x", "10.6.0.1"]),
            ([], None, []),
            (None, None, None),
        ],
    )
    def test_defaults(self, given: list[str] | None, version: int | None, merged: list[str] | None) -> None:
        made = default_reservedip(reserved(given))
        assert (made.spec.ipVersion, made.spec.ips) == (version, merged)
        assert made.metadata.finalizers is None
        leaving = reserved(given, **LEAVING)
        assert default_reservedip(leaving) == leaving

    @pytest.mark.parametrize(
        ("made", "kind", "path"),
        [
            (reserved(), Fault.REQUIRED, "spec.ipVersion"),
            (reserved(["x"]), Fault.INVALID, "spec.ips[0]"),
            (reserved(["fd00::1"]), Fault.FORBIDDEN, "spec.ipVersion"),
            (reserved(["10.6.0.1", "fd00::1"]), Fault.INVALID, "spec.ips[1]"),
            (reserved(["10.6.0.1", "10.6.0.0/24"]), Fault.INVALID, "spec.ips[1]"),
            (reserved(["10.6.0.9-10.6.0.1"]), Fault.INVALID, "spec.ips[0]"),
            (reserved(["10.6.0.1"], 6), Fault.FORBIDDEN, "spec.ipVersion"),
        ],
    )
    def test_a_new_one(self, made: SpiderReservedIP, kind: Fault, path: str) -> None:
        faults = validate_reservedip(default_reservedip(made), None, frozenset({4}))
        assert [(fault.kind, fault.path) for fault in faults] == [(kind, path)]

    def test_right_ones(self) -> None:
        assert validate_reservedip(reserved(version=4), None) == ()
        assert validate_reservedip(default_reservedip(reserved(["10.6.0.1", "192.0.2.0-192.0.2.9"])), None) == ()

    def test_a_change(self) -> None:
        old = reserved(["10.6.0.1"], 4)
        assert validate_reservedip(reserved(["10.6.0.2"], 4), old) == ()
        assert found(validate_reservedip(reserved(["fd00::1"], 6), old)) == [("FORBIDDEN", "spec.ipVersion")]
        assert validate_reservedip(reserved(["10.6.0.1"], 4, **LEAVING), old) == ()
        assert found(validate_reservedip(reserved(["10.6.0.2"], 4, **LEAVING), old)) == [("FORBIDDEN", "spec")]
