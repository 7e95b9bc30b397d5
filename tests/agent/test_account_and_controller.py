"""What a real agent publishes, and what a real controller makes of it: sandboxes decide, not the objects of pods."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from spiderpool.api.cni import CNICall
from spiderpool_lab.control_plane import ControlPlane
from tests.agent.conftest import MakeAgent, MakePods
from tests.controller.conftest import Running, start_controller, unregister, wait
from tests.kernel.environment import World
from tests.support.eventually import wait_until
from tests.support.local_agent import ipam_call

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)]

NODE = "judged"
UNUSED = 8.0
"""Seconds within which an address would be released, by the settings of the controller, if nothing kept it."""


@pytest.fixture
def controller(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Running]:
    """A leading controller. Its webhooks are removed at the end."""
    running = start_controller(control_plane, tmp_path / "controller")
    try:
        wait(running, lambda: running.is_leading, "not leading")
        yield running
        running.stop()
    finally:
        running.kill()
        unregister(control_plane)


def is_held(plane: ControlPlane, address: str) -> bool:
    names = plane.kubectl("get", "spiderips", "-o", "name").split()
    return address in {name.rpartition("/")[2] for name in names}


@pytest.mark.usefixtures("controller")
def test_a_sandbox_keeps_the_address_of_a_pod_that_is_gone_until_it_is_gone_itself(
    control_plane: ControlPlane, make_agent: MakeAgent, make_pods: MakePods, pool: Callable[..., None], world: World
) -> None:
    control_plane.apply(f"apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}")
    pool("judged", "10.9.0.1-10.9.0.9")
    agent = make_agent(NODE)
    ((name, uid),) = make_pods(1, [NODE]).items()
    netns = world.pod(name)
    made = ipam_call("ADD", "default", name, uid)
    call = CNICall(made.plugin, {**made.environment, "CNI_NETNS": netns}, made.stdin)
    address = asyncio.run(agent.call(call))["ips"][0]["address"]
    world.batch(Path(netns), "link add eth0 type veth peer name far", f"address add {address} dev eth0")

    control_plane.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    time.sleep(UNUSED)
    record = str(ip_interface(address).ip)
    assert is_held(control_plane, record)
    (account,) = json.loads(control_plane.kubectl("get", "spidernodes", "-o", "json"))["items"]
    requests = account["spec"]["accountRequest"]
    assert requests >= 1
    assert account["status"]["observedGeneration"] == account["metadata"]["generation"]

    world.remove(netns)  # without a DEL, so the agent sees it within a minute, or when it is asked
    asked = json.dumps({"spec": {"accountRequest": requests + 1}})
    control_plane.kubectl("patch", "spidernode", account["metadata"]["name"], "--type=merge", "--patch", asked)
    wait_until(lambda: not is_held(control_plane, record), "the address is released", timeout=90.0)
