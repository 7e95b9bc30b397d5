"""The route socket against the kernel, which is the only far end that it has."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

import pytest

from spiderpool.core.network.plumbing.steps import AddAddress, AddNeighbour, AddRoute, AddRule
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.namespaces import opened, run_inside
from tests.kernel.environment import World

T = TypeVar("T")


async def _in_node(world: World, work: Callable[[rt.Socket], T]) -> T:
    def body() -> T:
        route = rt.Socket()
        try:
            return work(route)
        finally:
            route.close()

    with opened(world.node) as node:
        return await run_inside(node, body)


def _index(route: rt.Socket) -> int:
    return messages.read_link(route.request(rt.GETLINK, messages.link_by_name("eth0"))[0]).index


@pytest.mark.lab
@pytest.mark.parametrize(
    ("address", "gateway", "table"), [("172.31.199.9", "172.31.207.253", 101), ("2001:db8::9", "2001:db8::253", 70000)]
)
async def test_what_is_made_is_read_back(world: World, address: str, gateway: str, table: int) -> None:
    packed = ip_address(address)
    length = 20 if packed.version == 4 else 64
    made = AddAddress("node", "eth0", ip_interface(f"{address}/{length}"))
    beyond = ip_network("10.9.0.0/16" if packed.version == 4 else "2001:db8:9::/64")
    route_made = AddRoute("node", beyond, "eth0", ip_address(gateway), packed, table)
    near = AddRoute("node", ip_network(gateway), "eth0", table=table)
    rules = (
        AddRule("node", packed.version, 1001, table, source=ip_network(address)),
        AddRule("node", packed.version, 1100, table, 0x20, mask=0xF0),
    )
    neighbour = AddNeighbour("node", "eth0", ip_address(gateway), "02:00:00:00:00:09")

    def work(route: rt.Socket) -> set[object]:
        index = _index(route)
        names = {index: "eth0"}
        for _ in range(2):
            route.request(rt.NEWADDR, messages.address(made, index), rt.CREATE | rt.REPLACE)
            for one in (near, route_made):
                route.request(rt.NEWROUTE, messages.route(one, index), rt.CREATE | rt.REPLACE)
            route.request(rt.NEWNEIGH, messages.neighbour(neighbour, index), rt.CREATE | rt.REPLACE)
        for rule in rules:
            route.request(rt.NEWRULE, messages.rule(rule), rt.CREATE | rt.EXCLUSIVE)
        wanted = messages.route_dump(packed.version, index)
        neighbours = route.request(rt.GETNEIGH, messages.neighbour_dump(index), rt.DUMP)
        return {
            *messages.read_addresses("node", route.request(rt.GETADDR, messages.address_dump(), rt.DUMP), names),
            *messages.read_routes("node", route.request(rt.GETROUTE, wanted, rt.DUMP), names),
            *messages.read_rules("node", route.request(rt.GETRULE, messages.rule_dump(), rt.DUMP)),
            *messages.read_neighbours("node", neighbours, names),
        }

    assert {made, route_made, near, *rules, neighbour} <= await _in_node(world, work)


@pytest.mark.lab
async def test_refusal_says_what_the_kernel_says(world: World) -> None:
    def work(route: rt.Socket) -> rt.NetlinkError:
        bad = AddRoute("node", ip_network("10.9.0.0/16"), "eth0", ip_address("198.51.100.1"))
        with pytest.raises(rt.NetlinkError) as caught:
            route.request(rt.NEWROUTE, messages.route(bad, _index(route)), rt.CREATE)
        route.request(rt.GETLINK, messages.link_by_name("eth0"))
        return caught.value

    refusal = await _in_node(world, work)
    assert refusal.code == errno.ENETUNREACH
    assert refusal.reason == "Nexthop has invalid gateway: Network is unreachable (errno 101)"


@pytest.mark.lab
async def test_default_route_over_two_gateways_is_two_routes(world: World) -> None:
    near = ("nexthop", "via", "172.31.207.253", "dev", "eth0", "nexthop", "via", "172.31.207.252", "dev", "eth0")
    world.ip(world.node, "route", "replace", "default", *near)

    def work(route: rt.Socket) -> list[str]:
        names = {_index(route): "eth0"}
        found = messages.read_routes("node", route.request(rt.GETROUTE, messages.route_dump(4), rt.DUMP), names)
        return [str(one.gateway) for one in found if one.destination.prefixlen == 0]

    assert await _in_node(world, work) == ["172.31.207.253", "172.31.207.252"]


@pytest.mark.lab
async def test_a_thousand_routes_come_in_several_datagrams(world: World) -> None:
    world.batch(world.node, *(f"route add 10.{n // 250}.{n % 250}.0/24 via 172.31.207.253" for n in range(1000)))

    def work(route: rt.Socket) -> int:
        names = {_index(route): "eth0"}
        return len(
            list(messages.read_routes("node", route.request(rt.GETROUTE, messages.route_dump(4), rt.DUMP), names))
        )

    assert await _in_node(world, work) == 1002


@pytest.mark.unit
@pytest.mark.parametrize(
    ("request_type", "absent", "failures"),
    [
        (rt.DELROUTE, {errno.ESRCH, errno.ENODEV, errno.ENOENT}, {errno.EPERM, errno.EINVAL}),
        (rt.DELRULE, {errno.ENOENT}, {errno.EPERM, errno.ESRCH}),
        (rt.DELNEIGH, {errno.ENOENT, errno.ENODEV}, {errno.EPERM}),
        (rt.NEWROUTE, set(), {errno.ENOENT, errno.ESRCH}),
    ],
)
def test_what_another_process_has_deleted_meanwhile_is_absent(
    request_type: int, absent: set[int], failures: set[int]
) -> None:
    assert all(rt.NetlinkError(request_type, code, "").is_absent for code in absent)
    assert not any(rt.NetlinkError(request_type, code, "").is_absent for code in failures)


@pytest.mark.unit
def test_attributes_round_trip() -> None:
    data = rt.nested(18, rt.text(1, "veth"), rt.number(2, 258, 2)) + rt.attribute(9, b"")
    outer = rt.attributes(data)
    inner = rt.attributes(outer[18])
    assert (rt.as_text(inner[1]), rt.as_number(inner[2]), outer[9]) == ("veth", 258, b"")


@pytest.mark.unit
@pytest.mark.parametrize("data", [b"", b"\x01", b"\x00\x00\x00\x00rest", b"\xff\xff\x01\x00ab"])
def test_malformed_attributes_end_the_reading(data: bytes) -> None:
    assert len(rt.attributes(data)) <= 1
