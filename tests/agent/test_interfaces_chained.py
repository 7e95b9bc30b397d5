"""The coordinator's part for interfaces that the reference plugins make: on every kind that the kernel has."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from spiderpool.agent.interfaces import add, check, refresh, remove_path
from spiderpool.core.network.plumbing.values import EXISTING, Attachment, Ownership
from spiderpool.errors import BadConfig, Drift
from spiderpool_lab.binaries import cni_plugins
from tests.agent.runtime import Container, Json, Refusal, Runtime
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import (
    CONTAINER,
    ETH0,
    HOST_END,
    NET1,
    UNDERLAY,
    Net,
    assert_answers,
    one_interface,
    two_interfaces,
)

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("strict")]


def network(kind: str, master: str, nets: dict[int, Net]) -> Json:
    """A network of one reference plugin with fixed addresses."""
    addresses = [{"address": f"{net.pod}/{net.length}", "gateway": net.router} for net in nets.values()]
    routes = [{"dst": dst} for dst in ("0.0.0.0/0", "::/0")]
    ipam = {"type": "static", "addresses": addresses, "routes": routes}
    return {"cniVersion": "0.4.0", "name": master, "plugins": [{"type": kind, "master": master, "ipam": ipam}]}


def runtime(world: World) -> Runtime:
    return Runtime(world.node, cni_plugins(), Path("/no/such/socket"))


def part(pod: str, name: str, default: str = "eth0") -> Attachment:
    """The coordinator's part of an interface."""
    nets = ETH0 if name == "eth0" else NET1
    reported = Ownership(reported=frozenset(ip_address(net.pod) for net in nets.values()))
    subnets = tuple(ip_interface(f"{net.pod}/{net.length}").network for net in nets.values())
    settings = replace(UNDERLAY, default_route_nic=default, ipam_cidrs=subnets)
    return Attachment(CONTAINER, pod, name, EXISTING, "", coordination=settings, ownership=reported)


async def test_one_interface(wide: World, kind: str) -> None:
    pod = wide.pod()
    container = Container(pod, "p", "u", CONTAINER)
    result = runtime(wide).add(network(kind, "eth0", ETH0), container)
    attached = await add(part(pod, "eth0"), node=wide.node)
    assert attached.host_interface == HOST_END
    for version in (4, 6):
        assert_answers(wide.route_of(pod, one_interface(version)))
    await check(part(pod, "eth0"), node=wide.node)
    servers = [await serve(side, 8080, version) for side in (pod, wide.node, wide.router) for version in (4, 6)]
    for version in (4, 6):
        assert await seen_by(pod, ETH0[version].node, 8080) == ETH0[version].pod
        assert await seen_by(wide.node, ETH0[version].pod, 8080) == ETH0[version].node
        assert await seen_by(pod, ETH0[version].router, 8080) == ETH0[version].pod
    for server in servers:
        server.close()
    await remove_path(CONTAINER, pod, "eth0", node=wide.node)
    assert [each["ifname"] for each in json.loads(wide.ip(pod, "-json", "link"))] == ["lo", "eth0"]
    runtime(wide).delete(network(kind, "eth0", ETH0), container, result)


@pytest.mark.parametrize("default", ["eth0", "net1"])
async def test_two_interfaces(wide: World, kind: str, default: str) -> None:
    pod = wide.pod()
    container = Container(pod, "p", "u", CONTAINER)
    for name, nic, nets in (("eth0", "eth0", ETH0), ("net1", "eth1", NET1)):
        runtime(wide).add(network(kind, nic, nets), container, name)
        await add(part(pod, name, default), node=wide.node)
    for _ in range(2):
        for version in (4, 6):
            assert_answers(wide.route_of(pod, two_interfaces(version, default)))
        for name in ("eth0", "net1"):
            await check(part(pod, name, default), node=wide.node)
        await add(part(pod, "net1", default), node=wide.node)
    wide.ip(wide.node, "address", "add", "172.31.199.200/20", "dev", "eth0")
    assert await refresh(CONTAINER, pod, node=wide.node)
    await check(part(pod, "net1", default), node=wide.node)
    await remove_path(CONTAINER, pod, "net1", node=wide.node)
    await remove_path(CONTAINER, pod, "eth0", node=wide.node)
    assert not wide.inside(wide.node, "ip", "route", "show", "table", "all").count("table 500")


async def test_what_is_not_there_or_not_free(wide: World, kind: str) -> None:
    pod, other = wide.pod(), wide.pod("other")
    with pytest.raises(BadConfig, match="eth0 is missing in the pod"):
        await add(part(pod, "eth0"), node=wide.node)
    with pytest.raises(Drift, match="eth0 is missing in the pod"):
        await check(part(pod, "eth0"), node=wide.node)
    six = {6: ETH0[6]}
    runtime(wide).add(network(kind, "eth0", six), Container(pod, "p", "u", CONTAINER))
    await add(part(pod, "eth0"), node=wide.node)
    if kind == "macvlan":  # ipvlan refuses the second address itself
        with pytest.raises(Refusal, match="DADFAILED"):  # the reference plugin waits for the kernel's own detection
            runtime(wide).add(network(kind, "eth0", six), Container(other, "q", "v", "d" * 20))
    await remove_path(CONTAINER, pod, "eth0", node=wide.node)
