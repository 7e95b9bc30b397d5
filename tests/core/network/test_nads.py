"""Every kind of network, and the exact text that Multus reads."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.core.admission.multusconfig import default_multusconfig
from spiderpool.core.network.nads import RESOURCE_ANNOTATION, attachment
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

C = '{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}'
I = '"ipam":{"type":"spiderpool"}'  # noqa: E741


def network(spec: dict[str, Any], **annotations: str) -> SpiderMultusConfig:
    metadata = {"name": "net", "namespace": "ns", "uid": "u-1", "annotations": annotations}
    return msgspec.convert({"metadata": metadata, "spec": spec}, SpiderMultusConfig)


def config(spec: dict[str, Any], **annotations: str) -> str:
    """The configuration, as it is after the webhooks and the schema's defaults."""
    made = attachment(default_multusconfig(network(spec, **annotations)))
    assert made.spec is not None
    return made.spec.config or ""


BOND = {"name": "bond0", "mode": 1, "options": "miimon=100"}
SRIOV = {
    "resourceName": "intel.com/vf",
    "vlanID": 100,
    "mtu": 1500,
    "rdmaIsolation": True,
    "minTxRateMbps": 10,
    "maxTxRateMbps": 100,
    "ippools": {"ipv4": ["a"], "matchMasterSubnet": True},
}
OVS = {"bridge": "br1", "deviceID": "0000:01:00.2", "trunk": [{"minID": 1, "maxID": 5}, {"id": 7}]}


@pytest.mark.parametrize(
    ("spec", "plugins"),
    [
        (
            {"cniType": "macvlan", "macvlan": {"master": ["eth0"]}},
            f'{{"type":"macvlan","master":"eth0","mode":"bridge","mtu":0,{I}}},{C}',
        ),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["eth0", "eth1"], "vlanID": 100, "bond": BOND}},
            '{"vlanID":100,"type":"ifacer","interfaces":["eth0","eth1"],'
            '"bond":{"name":"bond0","mode":1,"options":"miimon=100"}},'
            f'{{"type":"macvlan","master":"bond0.100","mode":"bridge","mtu":0,{I}}},{C}',
        ),
        (
            {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}},
            f'{{"type":"ipvlan","master":"eth0","mtu":0,{I}}},{C}',
        ),
        (
            {
                "cniType": "ipvlan",
                "ipvlan": {"master": ["eth0"], "vlanID": 7, "ippools": {"ipv4": ["a"], "ipv6": ["b*"]}},
            },
            '{"vlanID":7,"type":"ifacer","interfaces":["eth0"]},{"type":"ipvlan","master":"eth0.7","mtu":0,'
            f'"ipam":{{"type":"spiderpool","default_ipv4_ippool":["a"],"default_ipv6_ippool":["b*"]}}}},{C}',
        ),
        (
            {"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "manual", "vlanID": 7}},
            f'{{"type":"vlan","master":"eth0","vlanMode":"manual","vlanId":7,"mtu":0,{I}}},{C}',
        ),
        (
            {"cniType": "vlan", "vlan": {"master": ["eth0"], "vlanMode": "auto"}},
            f'{{"type":"vlan","master":"eth0","vlanMode":"auto","mtu":0,{I}}},{C}',
        ),
        (
            {"cniType": "sriov", "sriov": SRIOV, "chainCNIJsonData": ['{"type":"bandwidth"}']},
            '{"vlan":100,"min_tx_rate":10,"max_tx_rate":100,"type":"sriov",'
            '"ipam":{"type":"spiderpool","default_ipv4_ippool":["a"],"match_master_subnet":true}},'
            f'{{"type":"rdma"}},{{"type":"bandwidth"}},{C},{{"type":"tuning","mtu":1500}}',
        ),
        (
            {"cniType": "ib-sriov", "ibsriov": {"resourceName": "r"}},
            '{"type":"ib-sriov","pkey":"","link_state":"enable","rdmaIsolation":true,"ibKubernetesEnabled":false,'
            f"{I}}},{C}",
        ),
        ({"cniType": "ipoib", "ipoib": {"master": "ib0"}}, f'{{"type":"ipoib","master":"ib0",{I}}},{C}'),
        (
            {"cniType": "ovs", "ovs": OVS},
            f'{{"vlan":0,"type":"ovs","bridge":"br1","deviceID":"0000:01:00.2",{I},'
            f'"trunk":[{{"minID":1,"maxID":5}},{{"id":7}}]}},{C}',
        ),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["eth0"]}, "disableIPAM": True, "enableCoordinator": False},
            '{"type":"macvlan","master":"eth0","mode":"bridge","mtu":0}',
        ),
    ],
)
def test_each_kind_of_network_has_its_plugins(spec: dict[str, Any], plugins: str) -> None:
    assert config(spec) == f'{{"cniVersion":"0.3.1","name":"net","plugins":[{plugins}]}}'


@pytest.mark.parametrize(
    ("written", "block"),
    [
        ({}, C),
        # defaults of the CRD's schema are no choice of the user
        ({"podRPFilter": 0, "hostRuleTable": 500, "txQueueLen": 0}, C),
        (
            {
                "mode": "underlay",
                "hijackCIDR": ["10.0.0.1"],
                "ipamCIDR": ["10.3.0.0/16"],
                "policyRoutes": [{"dst": "10.1.0.0/16", "gw": "10.0.0.1"}],
                "podMACPrefix": "0a:1b",
                "podDefaultRouteNIC": "net1",
                "podRPFilter": 2,
                "hostRuleTable": 600,
                "txQueueLen": 9,
                "tunePodRoutes": False,
                "vethLinkAddress": "169.254.100.1",
                "vethMTU": 1400,
            },
            '{"txQueueLen":9,"vethLinkAddress":"169.254.100.1","vethMTU":1400,"tunePodRoutes":false,'
            '"podMACPrefix":"0a:1b","mode":"underlay","type":"coordinator","podDefaultRouteNic":"net1",'
            '"podRPFilter":2,"hostRuleTable":600,"hijackCIDR":["10.0.0.1/32"],"ipamCIDR":["10.3.0.0/16"],'
            '"policyRoutes":[{"dst":"10.1.0.0/16","gw":"10.0.0.1"}]}',
        ),
    ],
)
def test_the_coordinators_plugin(written: dict[str, Any], block: str) -> None:
    text = config({"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}, "coordinator": written})
    assert json.dumps(json.loads(text)["plugins"][-1], separators=(",", ":")) == block


def test_annotations_name_the_object_the_version_and_the_configuration() -> None:
    annotations = {
        "multus.spidernet.io/cr-name": "other",
        "multus.spidernet.io/cni-version": "1.0.0",
        "cni.spidernet.io/cniconfig-name": "<bridge>",
    }
    made = attachment(network({"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}}, **annotations))
    assert made.key == "ns/other"
    assert made.metadata.annotations == annotations
    (owner,) = made.metadata.ownerReferences or []
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("SpiderMultusConfig", "net", "u-1", True)
    assert made.spec is not None
    assert (made.spec.config or "").startswith('{"cniVersion":"1.0.0","name":"\\u003cbridge\\u003e","plugins":')


@pytest.mark.parametrize(
    ("spec", "resource"),
    [
        ({"cniType": "sriov", "sriov": {"resourceName": "r"}}, "r"),
        ({"cniType": "ovs", "ovs": {"bridge": "br", "deviceID": "x"}}, "ovs-cni.network.kubevirt.io/br"),
        ({"cniType": "ovs", "ovs": {"bridge": "br"}}, None),
        ({"cniType": "ipvlan", "ipvlan": {"master": ["eth0"], "rdmaResourceName": "r"}}, None),
    ],
)
def test_the_resource_of_the_device_plugin(spec: dict[str, Any], resource: str | None) -> None:
    assert (attachment(network(spec)).metadata.annotations or {}).get(RESOURCE_ANNOTATION) == resource


def test_a_custom_configuration_is_copied_verbatim() -> None:
    text = '{ "cniVersion": "0.3.1",  "type": "bridge" }'
    assert config({"cniType": "custom", "customCNI": text, "chainCNIJsonData": ['{"type":"x"}']}) == text
    made = attachment(network({"cniType": "custom"}))
    assert made.spec is not None
    assert made.spec.config is None


def test_chained_plugins_are_sorted_at_every_depth() -> None:
    chain = ['{"type":"t","args":{"z":1,"a":[{"y":2,"b":3}]}}']
    text = config({"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}, "chainCNIJsonData": chain})
    assert '{"args":{"a":[{"b":3,"y":2}],"z":1},"type":"t"}' in text


@pytest.mark.parametrize(
    "spec",
    [
        {"cniType": "ipvlan"},
        {"cniType": "ipvlan", "ipvlan": {"master": []}},
        {"cniType": "ipvlan", "ipvlan": {"master": ["a", "b"]}},
        {"cniType": "ipvlan", "ipvlan": {"master": ["a"]}, "chainCNIJsonData": ["["]},
    ],
)
def test_an_object_written_past_admission_is_a_bad_configuration(spec: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        attachment(network(spec))
