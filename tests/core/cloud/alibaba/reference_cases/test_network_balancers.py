"""Cases of network balancers: their addresses, zones, security groups and bandwidth packages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.loadbalancer.planning import plan, unchangeable
from tests.core.cloud.alibaba.reference_cases.playing import changes, judged, network, said
from tests.core.pretend_balancers import reached

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case


@shows("another address type while it serves")
def test_another_address_type_while_it_serves() -> None:
    private, public = (network(annotations={"address-type": each}) for each in ("intranet", "internet"))
    assert changes(private, public) == ["change the balancer's address type: AddressType Intranet → Internet"]
    assert changes(public, private) == ["change the balancer's address type: AddressType Internet → Intranet"]
    assert changes(private, network()) == [], "nothing becomes public for want of an annotation"


@shows("an IPv6 address type")
def test_an_ipv6_address_type() -> None:
    private, public = (
        network(annotations={"ip-version": "dualstack", "ipv6-address-type": each}) for each in ("intranet", "internet")
    )
    assert reached(public, None).settings["Ipv6AddressType"] == "Internet"
    assert changes(private, public) == ["change the balancer's IPv6 address type: Ipv6AddressType Intranet → Internet"]
    assert changes(public, private) == ["change the balancer's IPv6 address type: Ipv6AddressType Internet → Intranet"]
    (fault,) = said(judged(kind=NLB, annotations={"ipv6-address-type": "internet"}).faults)
    assert fault == "annotation ipv6-address-type needs ip-version: dualstack"


@shows("zones are added and taken away")
def test_zones_are_added_and_taken_away() -> None:
    two, three = (network(annotations={"zone-maps": text}) for text in ("h:v,i:w", "h:v,i:w,j:x"))
    assert changes(two, three) == ["change the balancer's zones: ZoneMappings h:v,i:w → h:v,i:w,j:x"]
    assert changes(three, two) == ["change the balancer's zones: ZoneMappings h:v,i:w,j:x → h:v,i:w"]


@shows("a zone gets a private address later")
def test_a_zone_gets_a_private_address_later() -> None:
    with_address = network(annotations={"zone-maps": "h:v:10.0.0.9,i:w"})
    assert reached(with_address, None).settings["PrivateIPv4Address@h"] == "10.0.0.9"
    observed = reached(network(annotations={"zone-maps": "h:v,i:w"}), None)
    observed = replace(observed, settings={**observed.settings, "PrivateIPv4Address@h": "10.0.0.4"})
    assert plan(with_address, observed) == ()
    assert unchangeable(with_address, observed) == (
        "zone-maps of a balancer cannot be changed: it is 10.0.0.4, the Service asks for 10.0.0.9",
    )


@shows("a zone gets an elastic IP, at first or later")
def test_a_zone_gets_an_elastic_ip() -> None:
    with_address = network(annotations={"zone-maps": "h:v::eip-1,i:w"})
    assert reached(with_address, None).settings["AllocationId@h"] == "eip-1"
    steps = changes(network(annotations={"zone-maps": "h:v,i:w"}), with_address)
    assert steps == ["change the balancer's zones: AllocationId@h (none) → eip-1"]


@shows("security groups")
def test_security_groups() -> None:
    none, one, both, empty = (
        network(annotations=each)
        for each in ({}, *({"security-group-ids": text} for text in ("sg-1", "sg-2,sg-1", "")))
    )
    change = "change the balancer's security groups: SecurityGroupIds"
    assert reached(one, None).settings["SecurityGroupIds"] == "sg-1"
    assert changes(none, one) == [f"{change} (none) → sg-1"]
    assert changes(one, both) == [f"{change} sg-1 → sg-1,sg-2"]
    assert changes(one, empty) == [f"{change} sg-1 → (none)"]
    assert changes(one, none) == [], "without the annotation they stay"


@shows("a bandwidth package")
def test_a_bandwidth_package() -> None:
    none, first, second, left = (
        network(annotations=each)
        for each in ({}, *({"bandwidth-package-id": text} for text in ("cbwp-1", "cbwp-2", "")))
    )
    change = "change the balancer's bandwidth package: BandwidthPackageId"
    assert changes(none, first) == [f"{change} (none) → cbwp-1"]
    assert changes(first, second) == [f"{change} cbwp-1 → cbwp-2"]
    assert changes(first, left) == [f"{change} cbwp-1 → (none)"]
    assert changes(first, none) == []


@shows("a bandwidth package of a private balancer")
def test_a_bandwidth_package_of_a_private_balancer() -> None:
    found = judged(kind=NLB, annotations={"address-type": "intranet", "bandwidth-package-id": "cbwp-1"})
    assert said(found.faults)[0].startswith("annotation bandwidth-package-id is for public balancers")
    assert not found.steps


@shows("forwarding to servers of other zones, on and off")
def test_forwarding_to_servers_of_other_zones() -> None:
    on, off, by_default = (
        network(annotations=each) for each in ({"cross-zone-enabled": "on"}, {"cross-zone-enabled": "off"}, {})
    )
    assert reached(on, None).settings["CrossZoneEnabled"] == "true"
    assert changes(on, off) == ["change the balancer's attributes: CrossZoneEnabled true → false"]
    assert changes(off, by_default) == ["change the balancer's attributes: CrossZoneEnabled false → true"]
