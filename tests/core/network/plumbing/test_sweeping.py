"""What GC removes from a node, and what it leaves alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.core.network.plumbing.steps import AddNeighbour, AddRoute, DeleteLink, Remove
from spiderpool.core.network.plumbing.sweeping import PodPaths, plan_sweep
from spiderpool.core.network.plumbing.values import Link

pytestmark = pytest.mark.unit

LIVE, STALE, HALF = "a" * 64, "b" * 64, "c" * 64
POD, GONE = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def route(address: object, link: str) -> AddRoute:
    return AddRoute("node", ip_network(str(address)), link, table=500)


def veth(name: str, master: int = 0) -> Link:
    return Link(name, 7, "veth", master=master)


def test_host_ends_without_a_container_and_an_address_that_lives() -> None:
    ends = {name: host_interface(name) for name in (LIVE, STALE, HALF)}
    seen = PodPaths(tuple(veth(end) for end in ends.values()), (route(POD, ends[LIVE]), route(GONE, ends[STALE])))
    assert plan_sweep(seen, [LIVE], []) == (DeleteLink("node", ends[STALE]), DeleteLink("node", ends[HALF]))
    assert plan_sweep(seen, [], [POD]) == (DeleteLink("node", ends[STALE]), DeleteLink("node", ends[HALF]))
    assert plan_sweep(seen, [LIVE, STALE, HALF], []) == ()


def test_links_of_others() -> None:
    names = ("veth1a2b3c4d", "vethwepl1234567", "eth0", "vethAAAAAAAAAAA", "cali0123456789a")
    bridged = veth("veth0123456789a", master=3)
    assert plan_sweep(PodPaths((*map(veth, names), bridged, Link("veth0123456789b", 8, "dummy"))), [], []) == ()


def test_routes_by_links_of_others_to_addresses_that_no_pod_has() -> None:
    mac = "0a:00:00:00:00:01"
    neighbours = tuple(AddNeighbour("node", "cali1", one, mac) for one in (POD, GONE))
    seen = PodPaths((veth("cali1"),), (route(POD, "cali1"), route(GONE, "cali1"), route(GONE, "eth0")), neighbours)
    assert plan_sweep(seen, [], [POD]) == (Remove(route(GONE, "cali1")), Remove(neighbours[1]))
