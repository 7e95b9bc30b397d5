"""SpiderMultusConfig: one block for each kind of interface."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.multusconfig import CNI_TYPES, SpiderMultusConfig, VlanConfig
from tests.api.documents import Document, read

pytestmark = pytest.mark.unit

BLOCKS: dict[str, Document] = {
    "macvlan": {"master": ["eth0", "eth1"], "bond": {"name": "bond0", "mode": 1, "options": "miimon=100"}},
    "ipvlan": {"master": ["eth0"], "vlanID": 5, "ippools": {"ipv4": ["a"], "ipv6": ["b"]}},
    "vlan": {"master": ["eth0"], "vlanMode": "auto"},
    "sriov": {"resourceName": "r", "minTxRateMbps": 1, "maxTxRateMbps": 2, "ippools": {"matchMasterSubnet": True}},
    "ovs": {"bridge": "br", "trunk": [{"minID": 1, "maxID": 5}, {"id": 7}], "deviceID": "0000:01:00.2"},
    "ib-sriov": {"resourceName": "r", "pkey": "0x1", "linkState": "auto", "enableIbKubernetes": True},
    "ipoib": {"master": "ib0"},
}


@pytest.mark.parametrize(("cni_type", "block"), BLOCKS.items())
def test_a_block(cni_type: str, block: Document) -> None:
    field = cni_type.replace("-", "")
    spec = read({"metadata": {"name": "n"}, "spec": {"cniType": cni_type, field: block}}, SpiderMultusConfig).spec
    assert spec is not None
    assert spec.cniType in CNI_TYPES
    assert msgspec.to_builtins(getattr(spec, field)) == block


def test_a_network_of_another_plugin() -> None:
    spec = {"cniType": "custom", "customCNI": '{"type":"bridge"}', "chainCNIJsonData": ['{"type":"tuning"}']}
    found = read({"metadata": {"name": "n"}, "spec": spec}, SpiderMultusConfig).spec
    assert found is not None
    assert (found.customCNI, found.chainCNIJsonData) == ('{"type":"bridge"}', ['{"type":"tuning"}'])


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"master": ["eth0"], "mtu": -1}, "mtu"),
        ({"master": ["eth0"], "vlanID": 4095}, "vlanID"),
        ({"master": ["eth0"], "bond": {"name": "b", "mode": 7}}, "bond.mode"),
        ({}, "missing required field `master`"),
    ],
)
def test_numbers_out_of_range(block: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert(block, VlanConfig)
