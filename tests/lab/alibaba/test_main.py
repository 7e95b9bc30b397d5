"""The simulated cloud as a process of its own, called by the vendor's client library."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.serving import ServedEndpoint
from tests.lab.alibaba.conftest import Clients

pytestmark = pytest.mark.unit

TOPOLOGY = """
vSwitches:
- id: vsw-a
  cidrBlock: 10.0.0.0/24
instances:
- name: alone
  id: i-alone
  enis:
  - {vSwitch: vsw-a, address: 10.0.0.7, secondaryAddresses: [10.0.0.8]}
accessKeys:
- {id: LTAItest, secret: hush, allowed: ["ecs:Describe*"]}
"""


@asynccontextmanager
async def simulated_cloud(*options: str, stop: signal.Signals = signal.SIGTERM) -> AsyncIterator[dict[str, Any]]:
    """The parsed output of a running process, which must exit with 0 when it is stopped."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spiderpool_lab.alibaba", "--json", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())
        process.send_signal(stop)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def failure(*options: str) -> tuple[int | None, str]:
    """Exit code and error output of a process that refuses its options."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spiderpool_lab.alibaba", *options, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


def clients(cloud: dict[str, Any]) -> Clients:
    url = urlsplit(cloud["openapi"])
    assert url.hostname is not None
    assert url.port is not None
    (key, secret), *_ = cloud["access_keys"].items()
    endpoint = ServedEndpoint(url.hostname, url.port, Path(cloud["ca"]).read_bytes())
    return Clients(endpoint, CallerIdentity("user", key, secret), cloud["ca"])


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_the_vendors_client_creates_and_attaches_an_eni() -> None:
    async with simulated_cloud() as cloud:
        vendor = clients(cloud)
        enis = await vendor.call("ecs", "DescribeNetworkInterfaces", InstanceId="i-server-1")
        assert [eni["Type"] for eni in enis["NetworkInterfaceSets"]["NetworkInterfaceSet"]] == ["Primary", "Secondary"]
        created = await vendor.call("ecs", "CreateNetworkInterface", VSwitchId="vsw-1", SecurityGroupId="sg-0")
        eni = created["NetworkInterfaceId"]
        await vendor.call("ecs", "AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId="i-server-1")
        for product, action in (("vpc", "DescribeVSwitches"), ("slb", "DescribeLoadBalancers")):
            assert (await vendor.call(product, action))["TotalCount"] == {"vpc": 2, "slb": 0}[product]
        assert (await vendor.call("nlb", "ListLoadBalancers"))["TotalCount"] == 0
        assert json.loads(await get(f"{cloud['administration']}/calls"))["counts"]["ecs:AttachNetworkInterface"] == 1
        assert created["MacAddress"] in await get(
            f"{cloud['metadata']['server-1']}/latest/meta-data/network/interfaces/macs/"
        )
        authority = Path(cloud["ca"])
    assert not authority.exists()


async def test_a_topology_file_describes_the_account(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    options = ("--topology", str(file), "--directory", str(tmp_path))
    async with simulated_cloud(*options, stop=signal.SIGINT) as cloud:
        assert cloud["access_keys"] == {"LTAItest": "hush"}
        assert cloud["ca"] == str(tmp_path / "ca.crt")
        found = await clients(cloud).call("ecs", "DescribeInstances")
        assert [item["InstanceId"] for item in found["Instances"]["Instance"]] == ["i-alone"]
        assert await get(f"{cloud['metadata']['alone']}/latest/meta-data/private-ipv4") == "10.0.0.7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regions: here", "unknown field `regions`"),
        ("vSwitches: [{id: a, cidrBlock: 10.0.0.1/24}]", "has host bits set"),
        ("accessKeys: []", "needs an access key"),
        ("instances: [{name: a, type: t5}]", "the instance type t5 is not one of"),
        ("instances: [{name: a, enis: [{vSwitch: none}]}]", "The specified VSwitch none does not exist"),
        (TOPOLOGY.replace("10.0.0.8", "10.0.0.7"), "10.0.0.7 is given twice"),
        (TOPOLOGY.replace("10.0.0.8", "10.0.1.8"), "cannot be assigned in vsw-a"),
    ],
)
async def test_a_wrong_topology_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    code, errors = await failure("--topology", str(file))
    assert code == 1
    assert message in errors
    assert len(errors.splitlines()) == 1
