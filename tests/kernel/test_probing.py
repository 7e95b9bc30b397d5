"""A NIC asks its network who has an address, before a pod uses it."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from spiderpool.agent.interfaces import add, probe
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.errors import AddressInUse, GatewaySilent
from spiderpool.kernel.arp import ETH_P_ARP
from spiderpool.kernel.namespaces import opened, socket_in_netns
from tests.kernel.environment import World
from tests.kernel.questions import ETH0, interface

pytestmark = pytest.mark.lab

BOTH = Detection(conflicts=True, gateway=True)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_foreign_holder_is_named_by_its_mac(wide: World, version: int) -> None:
    wanted = interface(wide.pod(), "macvlan", versions=(version,))
    await probe(wanted, BOTH, node=wide.node)

    net = ETH0[version]
    nodad = ("nodad",) if version == 6 else ()
    wide.ip(wide.router, "address", "add", f"{net.pod}/{net.length}", "dev", "port", *nodad)
    mac = wide.ip(wide.router, "-json", "link", "show", "port").partition('"address":"')[2][:17]
    with pytest.raises(AddressInUse, match=f"{ip_address(net.pod)} is in use on the network of eth0 by {mac}"):
        await probe(wanted, BOTH, node=wide.node)
    await probe(wanted, Detection(gateway=True), node=wide.node)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_silent_gateway_is_noticed_in_bounded_time(wide: World, version: int) -> None:
    wanted = interface(wide.pod(), "macvlan", versions=(version,))
    net = ETH0[version]
    wide.ip(wide.router, "address", "delete", f"{net.router}/{net.length}", "dev", "port")
    async with asyncio.timeout(3):
        with pytest.raises(GatewaySilent, match=f"gateway {ip_address(net.router)} does not answer on eth0"):
            await probe(wanted, Detection(gateway=True), node=wide.node)


async def test_the_nic_speaks_in_its_own_name_only(wide: World) -> None:
    """A cloud drops what comes from an address that the NIC does not have."""
    net = ETH0[4]
    wanted = interface(wide.pod(), "macvlan", versions=(4,))
    with opened(wide.router) as router:
        listener = await socket_in_netns(router, socket.AF_PACKET, socket.SOCK_RAW, 0)
    with listener:
        listener.bind(("port", ETH_P_ARP))
        listener.setblocking(False)
        await probe(wanted, BOTH, node=wide.node)
        senders: set[str] = set()
        async with asyncio.timeout(5):
            while not senders:
                frame = await asyncio.get_running_loop().sock_recv(listener, 128)
                if frame[12:14] == ETH_P_ARP.to_bytes(2, "big") and frame[20:22] == b"\x00\x01":
                    senders.add(str(ip_address(frame[28:32])))
    assert senders == {net.node}


async def test_a_pod_that_is_there_already_is_no_conflict(wide: World, kind: str) -> None:
    there = interface(wide.pod(), kind)
    await add(there, node=wide.node)
    await probe(there, BOTH, node=wide.node)
