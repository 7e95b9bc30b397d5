"""While a virtual machine moves, both its pods have its address: nobody takes the one for a stranger to the other."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from spiderpool.agent.api import AgentAPI
from spiderpool.errors import AddressInUse
from tests.agent.addressing_node import owned_by
from tests.agent.sandbox_node import SandboxNode, sandbox_node
from tests.simulation.kernel import SimulatedKernel

pytestmark = pytest.mark.unit

ADDRESS = "10.0.0.1"
MIGRATION = {"kubevirt.io/migrationJobName": "move"}


async def launcher(one: SandboxNode, annotations: dict[str, str]) -> None:
    """A pod of a virtual machine, which detection is on for; on another node the machine has the address already."""
    pod = owned_by(await one.node.pod("p"), "VirtualMachineInstance", "vm", "kubevirt.io/v1")
    await one.node.seen(replace(pod, metadata=replace(pod.metadata, annotations=annotations)))
    source = SimulatedKernel("n2", "10.0.0.254", one.ledger, Random(1)).create("s", "default/source", "uid-of-source")
    one.ledger.up(source, ADDRESS)


async def test_the_target_takes_the_address_that_its_machine_still_has(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        await launcher(one, MIGRATION)
        await one.attach("c")
        assert one.node.records == {ADDRESS: "p"}


async def test_any_other_pod_of_a_machine_does_not(tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        await launcher(one, {})
        with pytest.raises(AddressInUse):
            await one.attach("c")


@pytest.mark.parametrize(("annotations", "detects"), [(MIGRATION, False), ({}, True)])
async def test_executables_are_told_so(annotations: dict[str, str], detects: bool, tmp_path: Path) -> None:
    async with sandbox_node(tmp_path) as one:
        await launcher(one, annotations)
        application = web.Application()
        AgentAPI(one.node.cluster, one.node.addresses, one.node.ipam, 5.0).register(application.router)
        names = {"podName": "p", "podNamespace": "default", "podUID": one.node.uids["p"]}
        call = names | {"containerID": "c", "netNamespace": "/run/netns/n1/c", "ifName": "eth0"}
        async with TestClient(TestServer(application)) as client, client.post("/v1/ipam/ip", json=call) as response:
            (told,) = (await response.json())["ips"]
        assert told.get("enableIPConflictDetection", False) is detects
        assert told["enableGatewayDetection"] is True
