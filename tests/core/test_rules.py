"""Admission rules as tables: a spec, and the faults or defaults that it gets."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_CIDR_LABEL, POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.meta import FINALIZER, ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.addresses import from_int
from spiderpool.core.allocation import usable
from spiderpool.core.rules import (
    NETWORK_INJECT,
    RDMA_INJECT,
    FieldError,
    default_coordinator,
    default_ippool,
    default_multusconfig,
    validate_coordinator,
    validate_ippool,
    validate_multusconfig,
)

pytestmark = pytest.mark.unit

CR_NAME = "multus.spidernet.io/cr-name"


def pool(spec: dict[str, Any], name: str = "p", **metadata: Any) -> SpiderIPPool:
    return msgspec.convert({"metadata": {"name": name, **metadata}, "spec": spec}, SpiderIPPool)


def network(spec: dict[str, Any] | None, **annotations: str) -> SpiderMultusConfig:
    metadata = {"name": "net", "namespace": "default", "annotations": annotations}
    return msgspec.convert({"metadata": metadata, "spec": spec}, SpiderMultusConfig)


def coordinator(**spec: Any) -> SpiderCoordinator:
    return msgspec.convert({"metadata": {"name": "default"}, "spec": spec}, SpiderCoordinator)


def holder(address: str, pod: str) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=address), spec=IPSpec(f"{address}/24", "p", "n", "ns", pod, pod, "eth0"))


def paths(faults: tuple[FieldError, ...]) -> list[str]:
    return [fault.path for fault in faults]


NET4 = {"subnet": "10.6.0.0/24"}
NET6 = {"subnet": "fd00::/64"}


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
        made = default_ippool(pool({**NET4, "ips": given, "excludeIPs": given}))
        assert made.spec.ips == merged
        assert made.spec.excludeIPs == merged

    def test_half_of_a_64_merges_at_once(self) -> None:
        ranges = ["fd00::8000:0:0:0-fd00::ffff:ffff:ffff:ffff", "FD00::A", "fd00::b-fd00::d"]
        made = default_ippool(pool({**NET6, "ips": ranges}))
        assert made.spec.ips == ["fd00::a-fd00::d", "fd00::8000:0:0:0-fd00::ffff:ffff:ffff:ffff"]
        assert validate_ippool(made, None, [made]) != ()
        assert validate_ippool(made, None, []) == ()

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
        made = default_ippool(pool({**NET4, "nodeName": nodes}, labels={POOL_NODE_LABEL: "stale", "x": "y"}))
        labels = made.metadata.labels or {}
        assert labels["x"] == "y"
        assert labels.get(POOL_NODE_LABEL) == label

    def test_it_changes_nothing_twice_and_nothing_that_terminates(self) -> None:
        made = default_ippool(pool({**NET4, "ips": ["10.6.0.1", "10.6.0.2"]}))
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
            ({**NET4, "ipVersion": 6}, "spec.ipVersion", "write 4"),
            ({**NET4, "ips": ["10.6.0.1", "10.6.0.9-10.6.0.5"]}, "spec.ips[1]", "write 10.6.0.5-10.6.0.9"),
            ({**NET4, "ips": ["10.6.0.0/28"]}, "spec.ips[0]", "one address"),
            ({**NET4, "ips": ["10.6.0.01"]}, "spec.ips[0]", "one address"),
            ({**NET4, "ips": ["10.6.0.1 - 10.6.0.2"]}, "spec.ips[0]", "one address"),
            ({**NET4, "ips": ["10.6.0.250-10.6.1.5"]}, "spec.ips[0]", "10.6.1.0-10.6.1.5 lies outside"),
            ({**NET6, "ips": ["fd00::1%eth0"]}, "spec.ips[0]", "one address"),
            ({**NET4, "excludeIPs": ["10.7.0.1"]}, "spec.excludeIPs[0]", "lies outside"),
            ({**NET4, "excludeIPs": ["10.6.0.9-10.6.0.1"]}, "spec.excludeIPs[0]", "reversed"),
            ({**NET4, "gateway": ""}, "spec.gateway", "address of the subnet 10.6.0.0/24"),
            ({**NET4, "gateway": "10.7.0.1"}, "spec.gateway", "outside"),
            ({**NET4, "gateway": "10.6.0.1", "ips": ["10.6.0.1-10.6.0.9"]}, "spec.gateway", "spec.excludeIPs"),
            ({**NET6, "gateway": "fd00:0::1", "ips": ["fd00::1"]}, "spec.gateway", "spec.excludeIPs"),
            ({**NET4, "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "spec.gateway"),
            ({**NET4, "routes": [{"dst": "1.2.3.4", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "CIDR"),
            ({**NET4, "routes": [{"dst": "fd01::/64", "gw": "10.6.0.1"}]}, "spec.routes[0].dst", "IPv4"),
            ({**NET4, "routes": [{"dst": "1.0.0.0/8", "gw": "10.7.0.1"}]}, "spec.routes[0].gw", "outside"),
            (
                {**NET4, "routes": [{"dst": f"1.0.0.{n}/8", "gw": "10.6.0.1"} for n in (1, 2)]},
                "spec.routes[1].dst",
                "already",
            ),
            ({**NET4, "podAffinity": {}}, "spec.podAffinity", "name labels"),
            ({**NET4, "podAffinity": {"matchLabels": {"a b": "c"}}}, "spec.podAffinity.matchLabels", "label key"),
            ({**NET4, "podAffinity": {"matchLabels": {"a": "-"}}}, "spec.podAffinity.matchLabels[a]", "label value"),
            (
                {**NET4, "nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
                "spec.nodeAffinity.matchExpressions[0].operator",
                "NotIn",
            ),
            (
                {**NET4, "namespaceAffinity": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
                "spec.namespaceAffinity.matchExpressions[0].values",
                "at least one",
            ),
            (
                {**NET4, "nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
                "spec.nodeAffinity.matchExpressions[0].values",
                "no values",
            ),
        ],
    )
    def test_a_fault_names_its_field_and_remedy(self, spec: dict[str, Any], path: str, remedy: str) -> None:
        faults = validate_ippool(pool(spec), None, [])
        assert paths(faults) == [path]
        assert remedy in faults[0].message

    @pytest.mark.parametrize(
        "spec",
        [
            NET4,
            {**NET4, "ips": ["10.6.0.0-10.6.0.255"], "gateway": "10.6.0.1", "excludeIPs": ["10.6.0.1"]},
            {**NET4, "routes": [{"dst": "1.2.3.4/8", "gw": "10.6.0.1"}], "nodeAffinity": {}, "namespaceAffinity": {}},
            {**NET6, "ips": ["fd00::-fd00::ffff:ffff:ffff:fffe"], "gateway": "fd00::ffff:ffff:ffff:ffff"},
            {**NET4, "podAffinity": {"matchExpressions": [{"key": "a.b/c", "operator": "In", "values": [""]}]}},
        ],
    )
    def test_right_pools_are_accepted(self, spec: dict[str, Any]) -> None:
        assert validate_ippool(pool(spec), None, []) == ()

    def test_all_faults_are_told_at_once(self) -> None:
        spec = {**NET4, "ips": ["x", "10.6.0.1", "y"], "gateway": "z", "podAffinity": {}}
        faults = validate_ippool(pool(spec), None, [])
        assert paths(faults) == ["spec.ips[0]", "spec.ips[2]", "spec.podAffinity"]

    def test_a_family_that_is_switched_off(self) -> None:
        faults = validate_ippool(pool(NET6), None, [], families=frozenset({4}))
        assert paths(faults) == ["spec.ipVersion"]
        assert "enableIPv6" in faults[0].message

    def test_overlaps_name_the_other_pool_and_what_both_have_whatever_its_labels(self) -> None:
        other = pool({**NET4, "ips": ["10.6.0.5-10.6.0.20"], "excludeIPs": ["10.6.0.7"]}, "other")
        faults = validate_ippool(pool({**NET4, "ips": ["10.6.0.1-10.6.0.8"]}), None, [other])
        assert paths(faults) == ["spec.ips"]
        assert "pool other has 10.6.0.5-10.6.0.6, 10.6.0.8 as well" in faults[0].message
        assert validate_ippool(pool({**NET4, "ips": ["10.6.0.1-10.6.0.4", "10.6.0.7"]}), None, [other]) == ()

    def test_subnets_are_equal_or_apart(self) -> None:
        other = pool({"subnet": "10.0.0.0/8"}, "other")
        faults = validate_ippool(pool(NET4), None, [other, pool(NET6, "six")])
        assert paths(faults) == ["spec.subnet"]
        assert "10.0.0.0/8 of pool other" in faults[0].message

    def test_a_broken_neighbour_does_not_block(self) -> None:
        broken = [pool({"subnet": "nonsense"}, "a"), pool({**NET4, "ips": ["x"]}, "b")]
        assert validate_ippool(pool({**NET4, "ips": ["10.6.0.1"]}), None, broken) == ()

    def test_what_identifies_a_pool_cannot_change(self) -> None:
        faults = validate_ippool(pool({"subnet": "10.7.0.0/24"}), pool(NET4), [])
        assert paths(faults) == ["spec.subnet"]
        assert paths(validate_ippool(pool({**NET4, "ipVersion": 6}), pool({**NET4, "ipVersion": 4}), [])) == [
            "spec.ipVersion"
        ]

    def test_addresses_in_use_stay(self) -> None:
        old = pool({**NET4, "ips": ["10.6.0.1-10.6.0.20"]})
        users = [holder(f"10.6.0.{n}", f"pod-{n}") for n in range(1, 11)]
        faults = validate_ippool(pool({**NET4, "ips": ["10.6.0.3-10.6.0.9"]}), old, [], users)
        assert paths(faults) == ["spec.ips"]
        assert "10.6.0.1 (pod ns/pod-1), 10.6.0.2 (pod ns/pod-2), 10.6.0.10 (pod ns/pod-10)" in faults[0].message
        faults = validate_ippool(
            pool({**NET4, "ips": old.spec.ips, "excludeIPs": ["10.6.0.0-10.6.0.8"]}), old, [], users
        )
        assert paths(faults) == ["spec.excludeIPs"]
        assert "and 3 more" in faults[0].message
        assert validate_ippool(pool({**NET4, "ips": ["10.6.0.1-10.6.0.10"]}), old, [], users) == ()

    def test_a_pool_that_was_wrong_already_can_be_labelled_and_disabled(self) -> None:
        old = pool({**NET4, "ips": ["10.6.0.9-10.6.0.1"], "ipVersion": 4})
        relabelled = pool({**NET4, "ips": ["10.6.0.9-10.6.0.1"], "ipVersion": 4}, labels={"a": "b"})
        assert validate_ippool(relabelled, old, []) == ()
        overlapping = pool({**NET4, "ips": ["10.6.0.1"]}, "other")
        old = pool({**NET4, "ips": ["10.6.0.1"]})
        assert validate_ippool(pool({**NET4, "ips": ["10.6.0.1"], "disable": True}), old, [overlapping]) == ()

    def test_a_terminating_pool_keeps_its_spec(self) -> None:
        leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        assert validate_ippool(pool(NET4, **leaving), pool(NET4), []) == ()
        assert paths(validate_ippool(pool({**NET4, "disable": True}, **leaving), pool(NET4), [])) == ["spec"]

    def test_pools_of_one_application_select_by_the_application_alone(self) -> None:
        labels = {"ipam.spidernet.io/owner-application-name": "x"}
        selector = {"matchLabels": {"ipam.spidernet.io/app-name": "x", "foo": "bar"}}
        assert paths(validate_ippool(pool({**NET4, "podAffinity": selector}, labels=labels), None, [])) == [
            "spec.podAffinity"
        ]
        del selector["matchLabels"]["foo"]
        assert validate_ippool(pool({**NET4, "podAffinity": selector}, labels=labels), None, []) == ()

    @given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=6))
    def test_merging_changes_no_address(self, bounds: list[tuple[int, int]]) -> None:
        base = 10 << 24 | 6 << 16
        ranges = [f"{from_int(base + min(pair), 4)}-{from_int(base + max(pair), 4)}" for pair in bounds]
        before = pool({**NET4, "ips": ranges})
        after = default_ippool(before)
        assert usable(after) == usable(before)
        assert validate_ippool(after, None, []) == ()

    def test_it_reads_as_kubernetes_says_it(self) -> None:
        (fault,) = validate_ippool(pool({**NET4, "ips": ["x"]}), None, [])
        assert str(fault).startswith('spec.ips[0]: Invalid value: "x": not an IPv4 address')


class TestNetworkDefaults:
    def test_ipvlan(self) -> None:
        made = default_multusconfig(network({"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}}))
        assert msgspec.to_builtins(made.spec) == {
            "cniType": "ipvlan",
            "ipvlan": {"master": ["eth0"], "vlanID": 0, "ippools": {}},
            "coordinator": {"mode": "auto", "podRPFilter": 0, "tunePodRoutes": True, "txQueueLen": 0},
            "chainCNIJsonData": [],
        }
        assert default_multusconfig(made) == made

    def test_a_network_without_a_word_is_custom(self) -> None:
        made = default_multusconfig(network(None))
        assert msgspec.to_builtins(made.spec) == {"cniType": "custom", "chainCNIJsonData": []}
        assert validate_multusconfig(made) == ()

    def test_what_is_written_stays(self) -> None:
        spec = {
            "cniType": "vlan",
            "vlan": {"master": ["eth0"], "vlanMode": "auto"},
            "coordinator": {"mode": "underlay", "tunePodRoutes": False, "hijackCIDR": ["10.0.0.1", "fd00::1/64"]},
        }
        made = default_multusconfig(network(spec)).spec
        assert made is not None
        assert made.vlan is not None
        assert made.vlan.vlanID is None
        assert made.coordinator is not None
        assert made.coordinator.mode == "underlay"
        assert made.coordinator.tunePodRoutes is False
        assert made.coordinator.hijackCIDR == ["10.0.0.1/32", "fd00::1/64"]

    def test_the_inject_label_comes_and_goes_with_its_annotation(self) -> None:
        old = default_multusconfig(network(None, **{RDMA_INJECT: "r"}))
        assert old.metadata.labels == {RDMA_INJECT: "r"}
        new = network(None)
        new.metadata.labels = {RDMA_INJECT: "r", "mine": "x"}
        assert default_multusconfig(new, old).metadata.labels == {"mine": "x"}
        assert default_multusconfig(new, None).metadata.labels == {RDMA_INJECT: "r", "mine": "x"}


IPVLAN = {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}}


class TestNetworkFaults:
    @pytest.mark.parametrize(
        ("spec", "path"),
        [
            ({"cniType": "ipvlan"}, "spec.ipvlan"),
            ({"cniType": "ib-sriov"}, "spec.ibsriov"),
            ({"cniType": "macvlan", "macvlan": {"master": []}}, "spec.macvlan.master"),
            ({"cniType": "macvlan", "macvlan": {"master": ["eth0", "eth1"]}}, "spec.macvlan.bond"),
            (
                {"cniType": "macvlan", "macvlan": {"master": ["eth0", "eth1"], "bond": {"name": "", "mode": 1}}},
                "spec.macvlan.bond.name",
            ),
            ({"cniType": "ipvlan", "ipvlan": {"master": ["a-name-of-16-bytes"]}}, "spec.ipvlan.master[0]"),
            (
                {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"], "ippools": {"matchMasterSubnet": True}}},
                "spec.ipvlan.ippools.matchMasterSubnet",
            ),
            ({**IPVLAN, "macvlan": {"master": ["eth0"]}}, "spec.macvlan"),
            ({**IPVLAN, "customCNI": "{}"}, "spec.customCNI"),
            ({"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "manual"}}, "spec.vlan.vlanID"),
            ({"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "auto", "vlanID": 1}}, "spec.vlan.vlanID"),
            ({"cniType": "sriov", "sriov": {}}, "spec.sriov.resourceName"),
            (
                {"cniType": "sriov", "sriov": {"resourceName": "r", "minTxRateMbps": 9, "maxTxRateMbps": 8}},
                "spec.sriov.minTxRateMbps",
            ),
            ({"cniType": "ipoib", "ipoib": {"master": ""}}, "spec.ipoib.master"),
            ({"cniType": "ovs", "ovs": {"bridge": "br", "vlan": 4095}}, "spec.ovs.vlan"),
            ({"cniType": "ovs", "ovs": {"bridge": "br", "trunk": [{"maxID": 5}]}}, "spec.ovs.trunk[0]"),
            (
                {"cniType": "ovs", "ovs": {"bridge": "br", "trunk": [{"minID": 6, "maxID": 5}]}},
                "spec.ovs.trunk[0].maxID",
            ),
            ({"cniType": "custom", "customCNI": "[1]"}, "spec.customCNI"),
            ({"cniType": "custom", "ipvlan": {"master": ["eth0"]}}, "spec.ipvlan"),
            ({**IPVLAN, "chainCNIJsonData": ['{"type":"a"}', '{"name":"b"}']}, "spec.chainCNIJsonData[1]"),
            ({**IPVLAN, "coordinator": {"hijackCIDR": ["10.0.0.0/8", "x"]}}, "spec.coordinator.hijackCIDR[1]"),
            ({**IPVLAN, "coordinator": {"podRPFilter": 3}}, "spec.coordinator.podRPFilter"),
            ({**IPVLAN, "coordinator": {"podCIDRType": "x"}}, "spec.coordinator.podCIDRType"),
        ],
    )
    def test_a_fault_names_its_field(self, spec: dict[str, Any], path: str) -> None:
        assert paths(validate_multusconfig(network(spec))) == [path]

    @pytest.mark.parametrize(
        "spec",
        [
            IPVLAN,
            {**IPVLAN, "customCNI": ""},
            {"cniType": "sriov", "sriov": {"resourceName": "r", "minTxRateMbps": 9, "maxTxRateMbps": 0}},
            {"cniType": "custom", "customCNI": '{"type":"bridge"}'},
            {"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "manual", "vlanID": 0}},
        ],
    )
    def test_right_networks_are_accepted(self, spec: dict[str, Any]) -> None:
        assert validate_multusconfig(network(spec)) == ()

    def test_the_attachments_name(self) -> None:
        path = f"metadata.annotations[{CR_NAME}]"
        plain, named = network(IPVLAN), network(IPVLAN, **{CR_NAME: "a"})
        assert paths(validate_multusconfig(named, plain)) == [path]
        assert paths(validate_multusconfig(network(IPVLAN, **{CR_NAME: "b"}), named)) == [path]
        assert paths(validate_multusconfig(network(IPVLAN, **{CR_NAME: ""}))) == [path]
        assert validate_multusconfig(named, named) == ()
        assert validate_multusconfig(plain, named) == ()

    @pytest.mark.parametrize(("owner", "accepted"), [("thief", False), ("net", True), (None, True)])
    def test_the_attachment_of_another_network_is_not_taken(self, owner: str | None, accepted: bool) -> None:
        owners = [OwnerReference("g/v", "SpiderMultusConfig", owner, "u")] if owner else None
        existing = NetworkAttachmentDefinition(metadata=ObjectMeta(name="net", ownerReferences=owners))
        assert (validate_multusconfig(network(IPVLAN), None, existing) == ()) is accepted

    def test_cni_version(self) -> None:
        key = "multus.spidernet.io/cni-version"
        assert validate_multusconfig(network(IPVLAN, **{key: "1.0.0"})) == ()
        assert paths(validate_multusconfig(network(IPVLAN, **{key: "1.1.0"}))) == [f"metadata.annotations[{key}]"]

    @pytest.mark.parametrize(
        ("key", "block", "faulty"),
        [
            (RDMA_INJECT, {}, ["spec.ipvlan", "spec.ipvlan.ippools"]),
            (RDMA_INJECT, {"rdmaResourceName": "r", "ippools": {"ipv6": ["p"]}}, []),
            (NETWORK_INJECT, {}, []),
            (NETWORK_INJECT, {"rdmaResourceName": "r"}, ["spec.ipvlan.ippools"]),
        ],
    )
    def test_resource_injection(self, key: str, block: dict[str, Any], faulty: list[str]) -> None:
        spec = {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"], **block}}
        assert paths(validate_multusconfig(network(spec, **{key: "x"}))) == faulty
        assert paths(validate_multusconfig(network(None, **{key: "x"}))) == ["spec.cniType"]


class TestCoordinator:
    def test_defaults(self) -> None:
        made = default_coordinator(coordinator(podCIDRType="auto", hijackCIDR=["169.254.0.1", "x"]))
        assert msgspec.to_builtins(made.spec) == {
            "mode": "auto",
            "podCIDRType": "auto",
            "hijackCIDR": ["169.254.0.1/32", "x"],
            "tunePodRoutes": True,
            "hostRuleTable": 500,
            "podRPFilter": 0,
            "txQueueLen": 0,
            "vethMTU": 1500,
        }
        assert made.metadata.finalizers is None

    @pytest.mark.parametrize(
        ("spec", "path"),
        [
            ({"podCIDRType": None}, "spec.podCIDRType"),
            ({"podCIDRType": "flannel"}, "spec.podCIDRType"),
            ({"hijackCIDR": ["10.0.0.0/8", "10.0.0.0/33"]}, "spec.hijackCIDR[1]"),
            ({"hijackCIDR": ["10.0.0.0/255.0.0.0"]}, "spec.hijackCIDR[0]"),
            ({"hijackCIDR": ["fe80::1%eth0"]}, "spec.hijackCIDR[0]"),
            ({"policyRoutes": [{"dst": "x", "gw": "10.0.0.1"}]}, "spec.policyRoutes[0].dst"),
            ({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "10.0.0.1/8"}]}, "spec.policyRoutes[0].gw"),
            ({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, "spec.policyRoutes[0]"),
            ({"podMACPrefix": "01:1b"}, "spec.podMACPrefix"),
            ({"podMACPrefix": "-a:1b"}, "spec.podMACPrefix"),
            ({"txQueueLen": -1}, "spec.txQueueLen"),
            ({"podRPFilter": 3}, "spec.podRPFilter"),
            ({"vethLinkAddress": "169.254.100.1/16"}, "spec.vethLinkAddress"),
        ],
    )
    def test_a_fault_names_its_field(self, spec: dict[str, Any], path: str) -> None:
        assert paths(validate_coordinator(coordinator(**{"podCIDRType": "auto", **spec}))) == [path]

    def test_right_settings_are_accepted(self) -> None:
        assert validate_coordinator(coordinator(podCIDRType="none", podMACPrefix="0a:1B", podRPFilter=-1)) == ()
