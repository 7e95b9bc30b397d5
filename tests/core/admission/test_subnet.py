"""Defaults and faults of SpiderSubnets, alone and with the pools of their CIDR."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.meta import FINALIZER
from spiderpool.api.subnet import SUBNET_CIDR_LABEL
from spiderpool.core.admission.subnet import default_subnet, validate_subnet, why_subnet_in_use
from tests.core.admission.objects import LEAVING, NET6, found, pool, subnet

pytestmark = pytest.mark.unit


class TestSubnetDefaults:
    def test_defaults(self) -> None:
        made = default_subnet(subnet({"ips": ["10.6.0.3", "10.6.0.1-10.6.0.2"]}, labels={"mine": "x"}))
        assert made.metadata.finalizers == [FINALIZER]
        assert made.metadata.labels == {"mine": "x", SUBNET_CIDR_LABEL: "10-6-0-0-24"}
        assert made.spec.ipVersion == 4
        assert made.spec.ips == ["10.6.0.1-10.6.0.3"]
        assert default_subnet(made) == made

    def test_a_stale_label_is_corrected_and_an_invalid_one_left_out(self) -> None:
        made = default_subnet(subnet({"subnet": "::/0"}, labels={SUBNET_CIDR_LABEL: "stale"}))
        assert made.metadata.labels is None

    def test_unreadable_and_terminating_subnets_stay_as_written(self) -> None:
        made = default_subnet(subnet({"subnet": "nonsense", "ips": ["b", "a"]}))
        assert made.spec.ips == ["b", "a"]
        assert made.spec.ipVersion is None
        leaving = subnet({}, **LEAVING)
        assert default_subnet(leaving) == leaving

    def test_a_family_that_differs_from_the_subnets_stays_for_the_validation(self) -> None:
        made = default_subnet(subnet({"ipVersion": 6, "ips": ["10.6.0.2", "10.6.0.1"]}))
        assert (made.spec.ipVersion, made.spec.ips) == (6, ["10.6.0.2", "10.6.0.1"])


OTHER_SUBNET = subnet({"subnet": "10.7.0.0/16"}, "other")
OTHER_POOL = pool({"subnet": "10.8.0.0/16"}, "wide")
SAME_POOL = pool({"ips": ["10.6.0.1-10.6.0.9"], "excludeIPs": ["10.6.0.5"]}, "same")


class TestSubnetFaults:
    @pytest.mark.parametrize(
        ("spec", "kind", "path", "remedy"),
        [
            ({"ipVersion": 6}, "INVALID", "spec.ipVersion", "write 4"),
            (NET6, "FORBIDDEN", "spec.ipVersion", "enableIPv6"),
            ({"subnet": "10.6.0.0"}, "INVALID", "spec.subnet", "prefix length"),
            ({"subnet": "10.6.0.1/24"}, "INVALID", "spec.subnet", "write 10.6.0.0/24"),
            ({"subnet": "10.7.0.0/16"}, "INVALID", "spec.subnet", "SpiderSubnet other"),
            ({"subnet": "10.7.1.0/24"}, "INVALID", "spec.subnet", "SpiderSubnet other"),
            ({"subnet": "10.8.1.0/24"}, "INVALID", "spec.subnet", "10.8.0.0/16 of pool wide"),
            ({"ips": ["10.6.0.2-10.6.0.9"]}, "INVALID", "spec.ips", "pool same has 10.6.0.1"),
            ({"ips": ["10.6.0.1-10.6.0.9", "x"]}, "INVALID", "spec.ips[1]", "not an IPv4 address"),
            ({"ips": ["10.6.0.1-10.6.1.9"]}, "INVALID", "spec.ips[0]", "lies outside"),
            ({"ips": ["10.6.0.9-10.6.0.1"]}, "INVALID", "spec.ips[0]", "write 10.6.0.1-10.6.0.9"),
            ({"excludeIPs": ["10.7.0.1"]}, "INVALID", "spec.excludeIPs[0]", "lies outside"),
            ({"ips": ["10.6.0.1-10.6.0.9"], "gateway": "10.7.0.1"}, "INVALID", "spec.gateway", "outside"),
            ({"ips": ["10.6.0.1-10.6.0.9"], "gateway": "10.6.0.9"}, "INVALID", "spec.gateway", "excludeIPs"),
            (
                {"ips": ["10.6.0.1-10.6.0.9"], "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]},
                "INVALID",
                "spec.routes[0].dst",
                "spec.gateway",
            ),
            (
                {"ips": ["10.6.0.1-10.6.0.9"], "routes": [{"dst": "10.9.0.0/16", "gw": "10.9.0.1"}]},
                "INVALID",
                "spec.routes[0].gw",
                "outside",
            ),
        ],
    )
    def test_faults_of_a_new_subnet(self, spec: dict[str, Any], kind: str, path: str, remedy: str) -> None:
        faults = validate_subnet(subnet(spec), None, [OTHER_SUBNET], [OTHER_POOL, SAME_POOL], frozenset({4}))
        assert found(faults) == [(kind, path)]
        assert remedy in faults[0].message

    def test_valid_subnets_are_accepted(self) -> None:
        assert validate_subnet(subnet({"ips": ["10.6.0.0-10.6.0.255"]}), None, [OTHER_SUBNET], [SAME_POOL]) == ()
        assert validate_subnet(subnet({}), None, [subnet({"subnet": "nonsense"}, "b")], [pool({"subnet": "x"})]) == ()
        assert validate_subnet(subnet({"subnet": "fd00::/64"}), None, [OTHER_SUBNET], [SAME_POOL]) == ()

    @pytest.mark.parametrize(
        ("spec", "faults"),
        [
            ({"ips": ["10.6.0.1-10.6.0.20"], "gateway": "10.6.0.30"}, []),
            ({"ips": ["10.6.0.1-10.6.0.4", "10.6.0.6-10.6.0.9"]}, []),
            ({"ips": ["10.6.0.2-10.6.0.20"]}, [("FORBIDDEN", "spec.ips")]),
            (
                {"ips": ["10.6.0.1-10.6.0.20"], "excludeIPs": ["10.6.0.9"]},
                [("FORBIDDEN", "spec.ips")],
            ),
            ({"ipVersion": 6}, [("INVALID", "spec.ipVersion")]),
        ],
    )
    def test_faults_of_a_change(self, spec: dict[str, Any], faults: list[tuple[str, str]]) -> None:
        old = subnet({"ips": ["10.6.0.1-10.6.0.20"]})
        assert found(validate_subnet(subnet(spec), old, [], [SAME_POOL])) == faults

    def test_removed_addresses_of_pools_are_listed_with_the_pool(self) -> None:
        old = subnet({"ips": ["10.6.0.1-10.6.0.20"]})
        (fault,) = validate_subnet(subnet({"ips": ["10.6.0.8-10.6.0.20"]}), old, [], [SAME_POOL])
        assert fault.message.startswith("takes away 10.6.0.1-10.6.0.4, 10.6.0.6-10.6.0.7 of pool same")

    def test_a_subnet_written_past_admission_can_be_corrected(self) -> None:
        broken = subnet({"ips": ["10.6.0.9-10.6.0.1"]})
        assert validate_subnet(subnet({"ips": ["10.6.0.1-10.6.0.9"]}), broken, [], [SAME_POOL]) == ()

    def test_a_terminating_subnet_keeps_its_spec(self) -> None:
        old = subnet({"ips": ["10.6.0.1-10.6.0.20"]})
        same = subnet({"ips": ["10.6.0.1-10.6.0.20"]}, labels={"a": "b"}, **LEAVING)
        assert validate_subnet(same, old) == ()
        assert found(validate_subnet(subnet({}, **LEAVING), old)) == [("FORBIDDEN", "spec")]

    def test_a_subnet_in_use_names_the_pools(self) -> None:
        assert why_subnet_in_use(subnet({}), [OTHER_POOL, pool({}, "empty")]) is None
        reason = why_subnet_in_use(subnet({}), [SAME_POOL])
        assert reason is not None
        assert "in pools: same" in reason
