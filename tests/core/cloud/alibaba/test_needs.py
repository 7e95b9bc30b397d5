"""What of the annotations must have been granted: that which has an effect, and no more."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.annotations import BOTH, PREFIX
from spiderpool.core.cloud.alibaba.needs import clb_has, nlb_has
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerConfiguration,
    GrantField,
    GrantNeed,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
)
from tests.core.pretend_balancers import CONFIGURATION, KINDS, options

pytestmark = pytest.mark.unit

ZONES = {"zone-maps": "h:vsw-h,i:vsw-1"}
SECURE = {"protocol-port": "tcpssl:443"}


def needs(
    kind: str, annotations: dict[str, str], configuration: BalancerConfiguration = CONFIGURATION
) -> dict[str, list[str]]:
    """The values that are needed, by field."""
    found: dict[str, list[str]] = {}
    for need in KINDS[kind].needs(options(kind, annotations), configuration):
        assert need.annotation.removeprefix(PREFIX) in annotations
        found.setdefault(need.field, []).append(need.value)
    return found


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        ({}, {}),
        ({"id": "lb-1"}, {"loadBalancers": ["lb-1"]}),
        (
            {"id": "lb-1", "force-override-listeners": "true"},
            {"loadBalancers": ["lb-1"], "overrideListeners": ["lb-1"]},
        ),
        ({"id": "lb-1", "preserve-lb-on-delete": "on", "resource-group-id": "rg-1"}, {"loadBalancers": ["lb-1"]}),
        ({"force-override-listeners": "true"}, {}),
        ({"preserve-lb-on-delete": "true"}, {"preserve": ["true"]}),
        ({"preserve-lb-on-delete": "off"}, {}),
        ({"resource-group-id": "rg-1"}, {"resourceGroups": ["rg-1"]}),
    ],
)
def test_of_both_kinds(kind: str, annotations: dict[str, str], found: dict[str, list[str]]) -> None:
    assert needs(kind, annotations) == found


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        ({"cert-id": "crt-1"}, {}),
        ({"cert-id": "crt-1", "protocol-port": "https:443"}, {"certificates": ["crt-1"]}),
        ({"domain-extensions": "a:crt-2"}, {}),
        (
            {"cert-id": "crt-1", "protocol-port": "https:443", "domain-extensions": "a:crt-2,b:crt-3"},
            {"certificates": ["crt-1", "crt-2", "crt-3"]},
        ),
        ({"id": "lb-1", "cert-id": "crt-1", "protocol-port": "https:443"}, {"loadBalancers": ["lb-1"]}),
        ({"acl-id": "acl-1", "acl-status": "off"}, {}),
        ({"acl-id": "acl-1,acl-2", "acl-status": "on"}, {"accessLists": ["acl-1", "acl-2"]}),
        ({"vswitch-id": "vsw-2"}, {}),
        ({"vswitch-id": "vsw-2", "address-type": "intranet"}, {"vSwitches": ["vsw-2"]}),
        ({"vswitch-id": "vsw-1", "address-type": "intranet"}, {}),
        ({"address-type": "intranet"}, {}),
        ({"instance-charge-type": "PayByCLCU", "spec": "slb.s3.large"}, {}),
        ({"instance-charge-type": "PayBySpec"}, {"specs": ["slb.s1.small"]}),
        ({"charge-type": "paybybandwidth"}, {"maxBandwidth": ["50"]}),
        ({"charge-type": "paybybandwidth", "address-type": "intranet"}, {}),
        ({"bandwidth": "5120"}, {}),
    ],
)
def test_of_a_classic_balancer(annotations: dict[str, str], found: dict[str, list[str]]) -> None:
    kind = KINDS["clb"]
    got: dict[str, list[str]] = {}
    for need in kind.needs(options("clb", annotations), CONFIGURATION):
        got.setdefault(need.field, []).append(need.value)
    assert got == found


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        (ZONES, {"vSwitches": ["vsw-h"]}),
        ({"zone-maps": "h:vsw-1::eip-1,i:vsw-1:10.0.0.1"}, {"elasticIPs": ["eip-1"]}),
        ({"security-group-ids": "sg-1,sg-2"}, {"securityGroups": ["sg-1", "sg-2"]}),
        ({"zone-maps": "h:vsw-1::eip-1,i:vsw-1", "address-type": "intranet"}, {}),
        ({"bandwidth-package-id": "cbwp-1"}, {"bandwidthPackages": ["cbwp-1"]}),
        ({"bandwidth-package-id": "", "security-group-ids": ""}, {}),
        ({"cert-id": "crt-1", "cacert": "on", "cacert-id": "ca-1"}, {}),
        ({**SECURE, "cert-id": "crt-1,crt-2", "cacert-id": "ca-1"}, {"certificates": ["crt-1", "crt-2"]}),
        ({**SECURE, "cert-id": "crt-1", "additional-cert-ids": "crt-2"}, {"certificates": ["crt-1", "crt-2"]}),
        ({"additional-cert-ids": "crt-2"}, {}),
        ({**SECURE, "cert-id": "crt-1", "cacert": "on", "cacert-id": "ca-1"}, {"certificates": ["crt-1", "ca-1"]}),
        ({"id": "nlb-1", **ZONES, "security-group-ids": "sg-1"}, {"loadBalancers": ["nlb-1"]}),
    ],
)
def test_of_a_network_balancer(annotations: dict[str, str], found: dict[str, list[str]]) -> None:
    assert needs("nlb", annotations) == found


def test_the_resource_group_of_the_settings_is_free() -> None:
    assert needs("clb", {"resource-group-id": "rg-1"}, BalancerConfiguration(resource_group="rg-1")) == {}


def test_the_vswitches_of_the_settings_are_free() -> None:
    zoned = BalancerConfiguration(zones="h:vsw-h,i:vsw-i")
    assert needs("nlb", {}, zoned) == {}
    assert needs("nlb", {"zone-maps": "h:vsw-h,i:vsw-2"}, zoned) == {"vSwitches": ["vsw-2"]}


@pytest.mark.parametrize("kind", ["clb", "nlb"])
def test_server_groups_of_the_user_are_granted(kind: str) -> None:
    found = needs(kind, {"id": "lb-1", "vgroup-port": "rsp-1:80,rsp-1:81,rsp-2:82"}, BalancerConfiguration())
    assert found["serverGroups"] == ["rsp-1", "rsp-2"]


LENT_GROUPS = (
    ServerGroup("rsp-1", servers=frozenset({BackendServer("i-a", "instance", 80)}), is_lent=True),
    ServerGroup("rsp-2", is_lent=True),
)


def need(field: GrantField, value: str) -> GrantNeed:
    return GrantNeed("a", field, value)


LISTENER = Listener(
    443,
    "https",
    "",
    settings={"ServerCertificateId": "crt-1", "AclId": "acl-1,acl-2", "DomainExtensions": "a:crt-2,b:crt-3"},
)
SECURED = Listener(443, "tcpssl", "", settings={"CertificateIds": "crt-1,crt-2", "CaCertificateIds": "ca-1"})
FURTHER = Listener(444, "tcpssl", "", settings={"AdditionalCertificateIds": "crt-4,crt-5"})


@pytest.mark.parametrize(
    ("field", "value", "settings", "has"),
    [
        ("certificates", "crt-1", {}, True),
        ("certificates", "crt", {}, False),
        ("certificates", "crt-3", {}, True),
        ("certificates", "b", {}, False),
        ("accessLists", "acl-2", {}, True),
        ("accessLists", "acl", {}, False),
        ("specs", "slb.s1.small", {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s1.small"}, True),
        ("specs", "slb.s1.small", {"InstanceChargeType": "PayByCLCU", "LoadBalancerSpec": "slb.s1.small"}, False),
        ("specs", "slb.s2.small", {"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": "slb.s1.small"}, False),
        ("maxBandwidth", "50", {"InternetChargeType": "paybybandwidth", "Bandwidth": "50"}, True),
        ("maxBandwidth", "51", {"InternetChargeType": "paybybandwidth", "Bandwidth": "50"}, False),
        ("maxBandwidth", "50", {"InternetChargeType": "paybytraffic", "Bandwidth": "5120"}, False),
        ("maxBandwidth", "50", {"InternetChargeType": "paybybandwidth"}, False),
        ("vSwitches", "vsw-2", {}, True),
        ("serverGroups", "rsp-1", {}, True),
        ("serverGroups", "rsp-2", {}, False),
        ("securityGroups", "sg-1", {}, False),
    ],
)
def test_what_a_classic_balancer_has(field: GrantField, value: str, settings: dict[str, str], has: bool) -> None:
    observed = ObservedLoadBalancer("lb-1", "", "", settings, groups=LENT_GROUPS)
    assert clb_has(need(field, value), observed, [LISTENER]) is has


@pytest.mark.parametrize(
    ("field", "value", "has"),
    [
        ("certificates", "crt-2", True),
        ("certificates", "ca-1", True),
        ("certificates", "crt-3", False),
        ("certificates", "crt-5", True),
        ("securityGroups", "sg-2", True),
        ("securityGroups", "sg-3", False),
        ("elasticIPs", "eip-1", True),
        ("elasticIPs", "eip-2", False),
        ("vSwitches", "vsw-2", True),
        ("vSwitches", "vsw-3", False),
        ("bandwidthPackages", "cbwp-1", True),
        ("bandwidthPackages", "cbwp-2", False),
        ("resourceGroups", "rg-1", True),
        ("serverGroups", "rsp-1", True),
        ("serverGroups", "rsp-2", False),
        ("accessLists", "acl-1", False),
    ],
)
def test_what_a_network_balancer_has(field: GrantField, value: str, has: bool) -> None:
    settings = {
        "SecurityGroupIds": "sg-1,sg-2",
        "ZoneMappings": "h:vsw-1,i:vsw-2",
        "AllocationId@h": "eip-1",
        "BandwidthPackageId": "cbwp-1",
    }
    observed = ObservedLoadBalancer("nlb-1", "", "", settings, groups=LENT_GROUPS)
    assert nlb_has(need(field, value), observed, [SECURED, FURTHER]) is has
