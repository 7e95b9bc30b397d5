"""Defaults and faults of SpiderMultusConfigs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import NETWORK_INJECT, RDMA_INJECT, SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.admission.multusconfig import (
    default_multusconfig,
    validate_multusconfig,
)
from tests.core.admission.objects import paths

pytestmark = pytest.mark.unit

CR_NAME = "multus.spidernet.io/cr-name"


def network(spec: dict[str, Any] | None, **annotations: str) -> SpiderMultusConfig:
    metadata = {"name": "net", "namespace": "default", "annotations": annotations}
    return msgspec.convert({"metadata": metadata, "spec": spec}, SpiderMultusConfig)


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

    @pytest.mark.parametrize(
        ("cni_type", "block", "made"),
        [
            (
                "sriov",
                {"resourceName": "r"},
                {
                    "resourceName": "r",
                    "vlanID": 0,
                    "minTxRateMbps": 0,
                    "maxTxRateMbps": 0,
                    "ippools": {"matchMasterSubnet": False},
                },
            ),
            (
                "ib-sriov",
                {"resourceName": "r", "rdmaIsolation": False},
                {
                    "resourceName": "r",
                    "linkState": "enable",
                    "rdmaIsolation": False,
                    "enableIbKubernetes": False,
                    "ippools": {},
                },
            ),
            ("ipoib", {"master": "ib0"}, {"master": "ib0", "ippools": {}}),
            ("ovs", {"bridge": "br"}, {"bridge": "br", "vlan": 0, "ippools": {}}),
            ("vlan", {"master": ["eth0"]}, {"master": ["eth0"], "vlanID": 0, "ippools": {}, "vlanMode": "manual"}),
        ],
    )
    def test_other_cni_types(self, cni_type: str, block: dict[str, Any], made: dict[str, Any]) -> None:
        field = cni_type.replace("-", "")
        spec = default_multusconfig(network({"cniType": cni_type, field: block})).spec
        assert msgspec.to_builtins(spec)[field] == made

    def test_a_missing_block_gets_no_defaults(self) -> None:
        made = default_multusconfig(network({"cniType": "ipvlan"}))
        assert made.spec is not None
        assert made.spec.ipvlan is None

    def test_a_network_without_a_spec_is_custom(self) -> None:
        made = default_multusconfig(network(None))
        assert msgspec.to_builtins(made.spec) == {"cniType": "custom", "chainCNIJsonData": []}
        assert validate_multusconfig(made) == ()

    def test_values_that_are_set_stay(self) -> None:
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
            ({"cniType": "vlan", "vlan": {"master": ["eth0"]}}, "spec.vlan.vlanMode"),
            ({"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "manual"}}, "spec.vlan.vlanID"),
            ({"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "auto", "vlanID": 1}}, "spec.vlan.vlanID"),
            ({"cniType": "sriov", "sriov": {}}, "spec.sriov.resourceName"),
            (
                {"cniType": "sriov", "sriov": {"resourceName": "r", "minTxRateMbps": 9, "maxTxRateMbps": 8}},
                "spec.sriov.minTxRateMbps",
            ),
            ({"cniType": "ib-sriov", "ibsriov": {}}, "spec.ibsriov.resourceName"),
            ({"cniType": "ipoib", "ipoib": {"master": ""}}, "spec.ipoib.master"),
            ({"cniType": "ovs", "ovs": {"bridge": "br", "vlan": 4095}}, "spec.ovs.vlan"),
            ({"cniType": "ovs", "ovs": {"bridge": "br", "trunk": [{"maxID": 5}]}}, "spec.ovs.trunk[0]"),
            (
                {"cniType": "ovs", "ovs": {"bridge": "br", "trunk": [{"minID": 6, "maxID": 5}]}},
                "spec.ovs.trunk[0].maxID",
            ),
            ({"cniType": "custom", "customCNI": "[1]"}, "spec.customCNI"),
            ({"cniType": "custom", "customCNI": '{"type":'}, "spec.customCNI"),
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
    def test_valid_networks_are_accepted(self, spec: dict[str, Any]) -> None:
        assert validate_multusconfig(network(spec)) == ()

    def test_the_name_of_the_attachment_is_valid_and_cannot_change(self) -> None:
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

    @pytest.mark.parametrize(
        ("spec", "faulty"),
        [
            (None, ["spec.cniType"]),
            ({"cniType": "ovs", "ovs": {"bridge": "br"}}, ["spec.cniType"]),
            ({"cniType": "sriov", "sriov": {"resourceName": "r", "ippools": {"ipv4": ["p"]}}}, []),
            ({"cniType": "ib-sriov", "ibsriov": {"resourceName": "r"}}, ["spec.ibsriov.ippools"]),
            ({"cniType": "ipoib", "ipoib": {"master": "ib0", "ippools": {"ipv4": ["p"]}}}, []),
        ],
    )
    @pytest.mark.parametrize("key", [RDMA_INJECT, NETWORK_INJECT])
    def test_a_resource_belongs_to_a_nic(self, key: str, spec: dict[str, Any] | None, faulty: list[str]) -> None:
        assert paths(validate_multusconfig(network(spec, **{key: "x"}))) == faulty

    def test_the_injection_annotation_must_be_a_label_value(self) -> None:
        faults = validate_multusconfig(network(IPVLAN, **{NETWORK_INJECT: "a b"}))
        assert paths(faults) == [f"metadata.annotations[{NETWORK_INJECT}]"]
        assert "label of this value" in faults[0].message
