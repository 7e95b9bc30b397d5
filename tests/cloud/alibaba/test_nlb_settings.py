"""Addresses, zones and bandwidth of a network balancer: changed in the simulated account, without a new balancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spiderpool.cloud.alibaba.nlb_settings import change
from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.provider import StepsRefused
from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.loadbalancer.planning import unchangeable
from spiderpool.core.cloud.loadbalancer.steps import SetBalancer
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from spiderpool_lab.alibaba.resources import EIP
from tests.cloud.alibaba.balancers import HTTP, ZONES, model, network, reached
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

ONE, TWO = "cn-hangzhou-i:vsw-1", "cn-hangzhou-h:vsw-2"


async def made(simulated: SimulatedCloud, **annotations: str) -> ObservedLoadBalancer:
    """Returns the balancer of a Service with these annotations, which is the same one each time."""
    given = ZONES | {key.replace("_", "-"): value for key, value in annotations.items()}
    desired = model(simulated, HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given)
    observed = await reached(network(simulated), desired)
    assert len(list(simulated.account.tables.nlbs)) == 1
    assert unchangeable(desired, observed) == ()
    return observed


async def test_a_public_balancer_becomes_private_and_public_again(balanced: SimulatedCloud) -> None:
    for kind in ("internet", "intranet", "internet"):
        await made(balanced, address_type=kind)
        (balancer,) = balanced.account.tables.nlbs
        assert [bool(zone.public_address) for zone in balancer.zones] == [kind == "internet"] * 2


async def test_no_balancer_becomes_public_because_an_annotation_is_gone(balanced: SimulatedCloud) -> None:
    await made(balanced, address_type="intranet")
    observed = await made(balanced)
    assert observed.settings["AddressType"] == "Intranet"


async def test_zones_come_and_go(balanced: SimulatedCloud) -> None:
    balanced.account.add_vswitch("172.31.224.0/20", zone="cn-hangzhou-j", identity="vsw-3")
    await made(balanced)
    (former,) = balanced.account.tables.nlbs
    for zones in (f"{ONE},{TWO},cn-hangzhou-j:vsw-3", f"{ONE},cn-hangzhou-j:vsw-3"):
        observed = await made(balanced, zone_maps=zones)
        assert observed.settings["ZoneMappings"] == ",".join(sorted(zones.split(",")))
    (balancer,) = balanced.account.tables.nlbs
    assert balancer.zones[0] == former.zones[0]  # the zone that stays keeps its addresses


async def test_a_zone_gets_the_public_address_that_its_service_names(balanced: SimulatedCloud) -> None:
    for number in (1, 2):
        balanced.account.tables.eips.put(EIP(f"eip-{number}", f"198.51.100.{200 + number}"))
    for given, addresses in (
        ({"zone_maps": f"{ONE}::eip-1,{TWO}"}, ["198.51.100.201"]),
        ({"zone_maps": f"{ONE}::eip-2,{TWO}"}, ["198.51.100.202"]),
        ({"zone_maps": f"{ONE}::eip-2,{TWO}", "address_type": "intranet"}, []),
        ({"zone_maps": f"{ONE}::eip-1,{TWO}"}, ["198.51.100.201"]),
    ):
        await made(balanced, **given)
        (balancer,) = balanced.account.tables.nlbs
        named = [zone.public_address for zone in balancer.zones if zone.public_address.startswith("198.51.100.20")]
        assert named == addresses


async def test_a_private_address_that_its_zone_cannot_get_is_reported(balanced: SimulatedCloud) -> None:
    await made(balanced, zone_maps=f"{ONE}:172.31.192.200,{TWO}")
    given = {"zone-maps": f"{ONE}:172.31.192.201,{TWO}"}
    desired = model(balanced, HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given)
    observed = await network(balanced).find(desired.owner)
    assert observed is not None
    (said,) = unchangeable(desired, observed)
    assert said.startswith("zone-maps of a balancer cannot be changed: it is 172.31.192.200")


async def test_bandwidth_packages_come_change_and_go(balanced: SimulatedCloud) -> None:
    for package in ("cbwp-1", "cbwp-2", "", "cbwp-1"):
        observed = await made(balanced, bandwidth_package_id=package)
        assert observed.settings.get("BandwidthPackageId", "") == package
    observed = await made(balanced)
    assert observed.settings["BandwidthPackageId"] == "cbwp-1"  # nobody says that it should go


async def test_public_ipv6_addresses_are_switched_on_and_off(balanced: SimulatedCloud) -> None:
    for number, vswitch in enumerate(list(balanced.account.tables.vswitches)):
        block = f"2408:4005:{number}::/64"
        balanced.account.tables.vswitches.put(type(vswitch)(vswitch.identity, vswitch.zone, vswitch.block, block))
    for kind in ("internet", "intranet"):
        observed = await made(balanced, ip_version="dualstack", ipv6_address_type=kind)
        assert observed.settings["Ipv6AddressType"] == kind.capitalize()


async def test_certificates_beside_the_own_one_come_and_go_by_the_batch(balanced: SimulatedCloud) -> None:
    secure = {"protocol_port": "tcpssl:80", "cert_id": "crt-1"}
    many = ",".join(f"crt-{number}" for number in range(10, 30))
    for certificates in ("crt-2,crt-3", "crt-3,crt-4", many, ""):
        observed = await made(balanced, **secure, additional_cert_ids=certificates)
        (listener,) = observed.listeners
        assert listener.settings["AdditionalCertificateIds"] == certificates
        assert listener.settings["CertificateIds"] == "crt-1"
    assert len(balanced.outcomes("UpdateListenerAttribute")) == 0


async def test_certificates_that_nobody_names_stay(balanced: SimulatedCloud) -> None:
    secure = {"protocol_port": "tcpssl:80", "cert_id": "crt-1"}
    await made(balanced, **secure, additional_cert_ids="crt-2")
    observed = await made(balanced, **secure, idle_timeout="60")
    assert observed.listeners[0].settings["AdditionalCertificateIds"] == "crt-2"


async def test_a_policy_without_the_list_of_certificates_stops_nothing_else(balanced: SimulatedCloud) -> None:
    balanced.allow(*(each for each in ACTIONS["balancers"] if not each.endswith(("Certificates", "WithListener"))))
    secure = {"protocol_port": "tcpssl:80", "cert_id": "crt-1"}
    await made(balanced, **secure)
    await made(balanced, **secure, idle_timeout="60")
    with pytest.raises(StepsRefused, match="AssociateAdditionalCertificatesWithListener"):
        await made(balanced, **secure, additional_cert_ids="crt-2")


async def test_servers_are_told_more_by_proxy_v2(balanced: SimulatedCloud) -> None:
    name = "ProxyProtocolV2Config.Ppv2VpcIdEnabled"
    for value, flag in (("on", "true"), ("off", "false")):
        observed = await made(balanced, proxy_protocol="on", ppv2_pvl_vpc_id_enabled=value)
        assert observed.listeners[0].settings[name] == flag


async def test_an_aspect_that_is_not_known_is_no_silent_success(balanced: SimulatedCloud) -> None:
    async def unused(action: str, _: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError(action)

    desired = model(balanced, HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=ZONES)
    assert desired.kind is NLB
    with pytest.raises(ValueError, match="has no aspect colour"):
        await change(unused, "nlb-1", SetBalancer(desired, "colour", ()), str)
