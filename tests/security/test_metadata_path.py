"""Somebody on the node or in the cluster leads the node's requests to the metadata service to a pod of theirs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from spiderpool.cloud.alibaba.metadata import MetadataClient, NoAnswer
from spiderpool.kernel.namespaces import opened, socket_in_netns
from spiderpool.kernel.nic_path import NICPath
from spiderpool_lab import namespaces
from tests.kernel.environment import ROUTER, World

pytestmark = pytest.mark.lab

METADATA = "100.100.100.200"


class Service:
    """A metadata service, real or false, that notes what it is asked."""

    def __init__(self, namespace: str | Path, address: str, port: int = 80) -> None:
        self._namespace, self._at = namespace, (address, port)
        self.asked: list[str] = []

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(text="token" if request.method == "PUT" else "i-1")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Service]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        with opened(self._namespace) as descriptor:
            sock = await socket_in_netns(descriptor, socket.AF_INET, socket.SOCK_STREAM, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(self._at)
        await web.SockSite(runner, sock).start()
        yield self
        await asyncio.sleep(0.1)  # what was accepted last has its transport by then, and is closed with it
        await runner.cleanup()


async def identity(world: World, path: NICPath | None) -> str | None:
    """What a program on the node is told of its identity."""

    async def read() -> str | None:
        async with MetadataClient(path=path) as metadata:
            return await metadata.text("instance-id")

    return await asyncio.to_thread(namespaces.call_in, world.node, lambda: asyncio.run(read()))


@pytest.fixture
async def service(world: World) -> AsyncIterator[Service]:
    world.ip(world.router, "address", "add", f"{METADATA}/32", "dev", "lo")
    async with Service(world.router, METADATA).serve() as service:
        yield service


def thief(world: World) -> Service:
    """A pod with a path of ours to its node, which has the address of the metadata service."""
    pod = world.pod("thief")
    world.batch(
        world.node,
        f"link add vethf00df00df00 type veth peer veth0 netns {Path(pod).name}",
        "link set vethf00df00df00 up",
    )
    world.batch(
        Path(pod),
        *("link set lo up", "link set veth0 up", f"address add {METADATA}/32 dev veth0"),
        "route add default dev veth0",
    )
    return Service(pod, METADATA)


async def test_the_service_answers(world: World, service: Service) -> None:
    assert await identity(world, NICPath()) == "i-1"
    assert service.asked


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_route_to_a_pod(world: World, service: Service, guarded: bool) -> None:
    async with thief(world).serve() as false:
        world.ip(world.node, "route", "add", METADATA, "dev", "vethf00df00df00", "table", "500")
        world.ip(world.node, "rule", "add", "priority", "1000", "lookup", "500")
        if guarded:
            with pytest.raises(NoAnswer, match="is reached by vethf00df00df00, and by no NIC"):
                await identity(world, NICPath())
        else:
            assert await identity(world, None) == "i-1"
        assert bool(false.asked) is not guarded
    assert not service.asked


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_service_of_the_cluster_with_that_address(world: World, service: Service, guarded: bool) -> None:
    """As kube-proxy translates an externalIP, to an endpoint on another node."""
    rule = ("ip", "daddr", METADATA, "tcp", "dport", "80", "dnat", "to", f"{ROUTER}:8081")
    hook = ("{", "type", "nat", "hook", "output", "priority", "-100", ";", "}")
    for words in (("table", "ip", "services"), ("chain", "ip", "services", "output", *hook)):
        world.inside(world.node, "nft", "add", *words)
    world.inside(world.node, "nft", "add", "rule", "ip", "services", "output", *rule)
    async with Service(world.router, ROUTER, 8081).serve() as false:
        if guarded:
            with pytest.raises(NoAnswer, match=f"is translated to {ROUTER}: remove the Service"):
                await identity(world, NICPath())
        else:
            assert await identity(world, None) == "i-1"
        assert bool(false.asked) is not guarded
    assert not service.asked


async def test_the_address_on_the_node_itself(world: World, service: Service) -> None:
    """As kube-proxy in mode ipvs has it for an externalIP."""
    world.ip(world.node, "address", "add", f"{METADATA}/32", "dev", "lo")
    async with Service(world.node, METADATA).serve() as false:
        with pytest.raises(NoAnswer, match="is reached by lo, and by no NIC"):
            await identity(world, NICPath())
        assert not false.asked
