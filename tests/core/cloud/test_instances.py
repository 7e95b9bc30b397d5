"""What a server says of its ENIs: which descriptions are believed, and when something counts as vanished."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.core.cloud.instances import (
    completed,
    defect,
    described,
    device_of,
    devices_of,
    is_this_machine,
    merged,
    ordered,
    reported_devices,
    with_devices,
)
from spiderpool.core.network.plumbing.values import Link
from tests.core.servers import ETH0, ETH1, MASTER, with_addresses, with_eni

pytestmark = pytest.mark.unit

GATEWAY = "192.168.0.253"


def changed(**fields: object) -> Instance:
    return with_eni(MASTER, replace(ETH1, **fields))


NODE = Node(metadata=ObjectMeta(name="master", uid="uid-1"))
WRONG = with_eni(MASTER, replace(ETH1, identity=ETH0.identity))


def test_a_description_survives_its_object() -> None:
    made = SpiderServer.of(NODE, MASTER)
    assert msgspec.json.decode(msgspec.json.encode(made), type=SpiderServer) == made
    assert MASTER.provider_id == "cn-hangzhou.i-master"
    assert MASTER.primary == ETH0
    assert MASTER.eni("eni-m1") == ETH1
    assert MASTER.eni("eni-x") is None


def test_a_description_counts_for_its_own_node_and_if_it_can_be_right() -> None:
    again = Node(metadata=ObjectMeta(name="master", uid="uid-2"))
    server, wrong = SpiderServer.of(NODE, MASTER), SpiderServer.of(NODE, WRONG)
    assert [*described([NODE, again], [server])] == [MASTER, None]
    assert [*described([NODE], [wrong])] == [*described([NODE], [])] == [None]


def test_a_description_is_no_larger_than_a_server() -> None:
    many = replace(ETH1, addresses=tuple(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(9000)))
    assert defect(with_eni(MASTER, many)) == "it has more than 256 ENIs or 8192 addresses"


def test_the_nics_of_all_nodes_are_known_once_each_reports_its_own() -> None:
    one, two = with_eni(MASTER, replace(ETH1, device="eth1")), with_eni(MASTER, replace(ETH1, device="eth2"))
    expected = frozenset(eni.device for eni in (*one.enis, *two.enis) if eni.device)
    assert reported_devices(map(devices_of, [one, two])) == expected
    assert {"eth1", "eth2"} <= {*expected}
    assert reported_devices(map(devices_of, [one, None])) is None
    assert reported_devices([]) is None
    assert reported_devices([frozenset()]) is None, "no name is known"


def test_families_of_an_eni() -> None:
    assert ETH0.addresses_of(4) == ETH0.addresses
    assert ETH0.addresses_of(6) == ETH0.ipv6_addresses
    assert (ETH0.subnet_of(4), ETH0.subnet_of(6)) == ("172.31.192.0/20", "2408:4005:3a0:b00::/64")


def test_the_gateway_is_the_one_told_else_the_third_last_address() -> None:
    assert ETH0.gateway_of(4) == "172.31.207.253"
    assert replace(ETH0, gateway=None).gateway_of(4) == "172.31.207.253"
    assert replace(ETH0, subnet="10.0.0.8/29", gateway=None).gateway_of(4) == "10.0.0.13"
    assert replace(ETH0, subnet="10.0.0.8/31", gateway=None).gateway_of(4) is None
    assert ETH0.gateway_of(6) == "2408:4005:3a0:b00:ffff:ffff:ffff:fffd"
    assert ETH1.gateway_of(6) is None


def test_a_sound_description_is_believed() -> None:
    assert defect(MASTER) is None
    assert defect(MASTER, MASTER) is None
    assert defect(with_addresses(()), MASTER) is None


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (replace(MASTER, identity=""), "identity is ''"),
        (replace(MASTER, identity="<html>"), "identity is '<html>'"),
        (replace(MASTER, region="cn.hangzhou"), "region is 'cn.hangzhou'"),
        (replace(MASTER, identity="i-other"), "this machine is cn-hangzhou.i-master"),
        (replace(MASTER, enis=()), "0 of 0 ENIs are the primary one"),
        (replace(MASTER, enis=(ETH1,)), "0 of 1 ENIs are the primary one"),
        (replace(MASTER, enis=(ETH0, replace(ETH1, primary=True))), "2 of 2 ENIs"),
        (replace(MASTER, enis=(replace(ETH0, identity="eni-x"), ETH1)), "the primary ENI is eni-x, it was eni-m0"),
        (replace(MASTER, enis=(ETH0, replace(ETH1, identity="eni m1"))), "an ENI calls itself 'eni m1'"),
        (replace(MASTER, enis=(ETH0, replace(ETH1, identity="eni-m0"))), "ENI eni-m0 is listed twice"),
        (changed(mac=""), "ENI eni-m1 has MAC address ''"),
        *(
            (changed(device=name), "ENI eni-m1 has the Linux name")
            for name in ("", "a/b", "a b", "a:b", "..", "e" * 16)
        ),
        (changed(mac=ETH0.mac), "MAC address 00:16:3e:00:00:01 is listed twice"),
        (changed(addresses=("192.168.0.156", "192.168.0.156")), "address 192.168.0.156 is listed twice"),
        (changed(addresses=("192.168.0.155",)), "address 192.168.0.155 is listed twice"),
        (changed(addresses=("172.31.199.185",)), "address 172.31.199.185 is listed twice"),
        (changed(addresses=("192.168.1.1",)), "address '192.168.1.1' of ENI eni-m1 lies outside its block"),
        (changed(addresses=("fd00::1",)), "address 'fd00::1' of ENI eni-m1 lies outside its block"),
        (changed(addresses=("192.168.0.999",)), "address '192.168.0.999'"),
        (changed(addresses=(GATEWAY,)), "ENI eni-m1 has the address 192.168.0.253 of its gateway"),
        (changed(gateway="10.0.0.1"), "address '10.0.0.1' of ENI eni-m1 lies outside its block"),
        (changed(subnet="192.168.0.1/24"), "the block '192.168.0.1/24' of ENI eni-m1 is not in canonical form"),
        (changed(ipv6_addresses=("fd00::1",)), "ENI eni-m1 has IPv6 addresses and no IPv6 block"),
        (changed(subnet6="fd01::/64", ipv6_addresses=("fd00::1",)), "'fd00::1' of ENI eni-m1 lies outside its block"),
        (changed(subnet6="fd00::/64", ipv6_addresses=("FD00::1",)), "address 'FD00::1' of ENI eni-m1"),
    ],
)
def test_a_description_that_contradicts_itself_is_not_believed(reading: Instance, reason: str) -> None:
    assert reason in (defect(reading, MASTER) or "")


def test_growth_counts_at_once() -> None:
    assert merged(MASTER, with_addresses([*ETH1.addresses, "192.168.0.9"])).eni("eni-m1") == replace(
        ETH1, addresses=("192.168.0.9", "192.168.0.156", "192.168.0.157")
    )


def test_an_address_is_there_until_two_readings_in_a_row_lack_it() -> None:
    less = with_addresses(["192.168.0.156"])
    assert merged(MASTER, less) == MASTER
    assert merged(less, less) == less


def test_a_eni_is_there_until_two_readings_in_a_row_lack_it() -> None:
    less = replace(MASTER, enis=(ETH0,))
    assert merged(MASTER, less) == MASTER
    assert merged(less, less) == less


def test_an_address_that_moved_is_where_the_later_reading_has_it() -> None:
    before = with_addresses(["192.168.0.156", "192.168.0.157"])
    third = replace(ETH1, identity="eni-m2", mac="00:16:3e:00:00:03", primary_address="192.168.0.9", addresses=())
    moved = replace(
        with_addresses(["192.168.0.157"]),
        enis=(
            ETH0,
            with_157 := replace(ETH1, addresses=("192.168.0.157",)),
            replace(third, addresses=("192.168.0.156",)),
        ),
    )
    told = merged(before, moved)
    assert told.eni("eni-m1") == with_157
    assert told.eni("eni-m2") == replace(third, addresses=("192.168.0.156",))
    assert defect(told) is None


def test_a_eni_that_was_replaced_behind_its_mac_is_not_there_twice() -> None:
    other = replace(ETH1, identity="eni-new", addresses=())
    assert merged(MASTER, replace(MASTER, enis=(ETH0, other))).enis == (ETH0, other)


def test_an_answer_without_any_ipv6_address_removes_none_however_often_it_comes() -> None:
    less = with_eni(MASTER, replace(ETH0, ipv6_addresses=(), subnet6=None, gateway6=None))
    assert completed(MASTER, less) == MASTER
    assert completed(None, less) == less
    assert completed(less, MASTER) == MASTER


def test_ipv6_addresses_that_moved_to_another_eni_are_there_alone() -> None:
    eth1 = replace(ETH1, ipv6_addresses=ETH0.ipv6_addresses, subnet6=ETH0.subnet6)
    moved = with_eni(with_eni(MASTER, replace(ETH0, ipv6_addresses=(), subnet6=None)), eth1)
    assert completed(MASTER, moved).eni("eni-m0") == replace(ETH0, ipv6_addresses=())
    assert defect(completed(MASTER, moved)) is None


def test_the_order_of_enis_is_no_change() -> None:
    assert merged(None, replace(MASTER, enis=(ETH1, ETH0))) == MASTER
    assert merged(MASTER, replace(MASTER, enis=(ETH1, ETH0))) == MASTER


POSSIBLE = [f"192.168.0.{last}" for last in range(160, 166)]

LIES = st.sampled_from(
    [
        replace(MASTER, enis=()),
        replace(MASTER, enis=(ETH1,)),
        replace(MASTER, identity="i-other"),
        changed(mac=""),
        changed(addresses=("10.0.0.1",)),
        changed(addresses=("172.31.199.185",)),
    ]
)
"""Descriptions that contradict themselves, or what is known of this machine."""


@given(st.lists(st.one_of(st.none(), LIES, st.sets(st.sampled_from(POSSIBLE))), max_size=12))
def test_whatever_the_service_answers_nothing_vanishes_that_one_of_the_last_two_good_readings_has(
    answers: list[Instance | set[str] | None],
) -> None:
    """None is a failed reading; the model keeps nothing but the sets of the last two good ones."""
    last = told = MASTER
    good: list[set[str]] = [set(ETH1.addresses), set(ETH1.addresses)]
    for answer in answers:
        reading = with_addresses(ordered(answer)) if isinstance(answer, set) else answer
        if reading is not None and defect(reading, last) is None:
            told, last = merged(last, reading), reading
            good = [good[1], set(reading.enis[1].addresses)]
        eni = told.eni("eni-m1")
        assert eni is not None
        assert set(eni.addresses) == good[0] | good[1]
        assert told.eni("eni-m0") == ETH0
        assert defect(told, MASTER) is None


def link(name: str, index: int, mac: str = ETH1.mac, kind: str = "") -> Link:
    return Link(name, index, kind, mac=mac)


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ([link("lo", 1, "00:00:00:00:00:00"), link("ens6", 3)], "ens6"),
        ([link("ens6", 3, ETH1.mac.upper())], "ens6"),
        ([link("ens6.5", 2, kind="vlan"), link("ipvl0", 4, kind="ipvlan"), link("ens6", 9)], "ens6"),
        ([link("eth9", 2, kind="veth")], "eth9"),
        ([link("eth9", 2, kind="veth"), link("ens6", 3)], "ens6"),
        ([link("ipvl0", 4, kind="ipvlan")], None),
        ([link("ens5", 2, ETH0.mac)], None),
    ],
)
def test_a_eni_is_found_by_its_mac_address(links: list[Link], found: str | None) -> None:
    assert device_of(ETH1.mac, links) == found


def test_names_come_from_the_links_and_the_nodes_own_addresses_are_no_pods() -> None:
    links = [link("ens5", 2, ETH0.mac), link("ens6", 3)]
    told = with_devices(MASTER, links, ["172.31.199.183", "192.168.0.157", "2408:4005:3a0:b00::101"])
    assert [eni.device for eni in told.enis] == ["ens5", "ens6"]
    assert told.enis[0].ipv6_addresses == ("2408:4005:3a0:b00::102",)
    assert told.enis[1].addresses == ("192.168.0.156",)


def test_a_description_of_another_machine_is_not_ours() -> None:
    assert is_this_machine(MASTER, [link("eth0", 2, ETH0.mac)])
    assert not is_this_machine(MASTER, [link("eth0", 2)])
    assert not is_this_machine(replace(MASTER, enis=()), [link("eth0", 2, ETH0.mac)])


def test_addresses_are_ordered_by_number() -> None:
    assert ordered(["10.0.0.10", "10.0.0.9"]) == ("10.0.0.9", "10.0.0.10")


def test_enis_are_values() -> None:
    assert isinstance(hash(MASTER), int)
    assert isinstance(ETH0, ENI)
