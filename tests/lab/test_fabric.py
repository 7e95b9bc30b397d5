"""The cloud's network is removed without a trace, and nodes end with the process that started them."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from spiderpool.errors import BadConfig, KernelFailure
from spiderpool_lab import backend, internet, namespaces
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import RULES, Fabric
from spiderpool_lab.probes import Answer, TrafficProbe, run
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH, AddressConfig
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

pytestmark = pytest.mark.lab

NAME = lab_name("scratch")
OURS = tuple(f"spl-{NAME}-{part}" for part in ("vpc", "inet", "mgmt", "master", "worker"))

START_AND_WAIT = """
import sys, time
from pathlib import Path
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH

fabric = Fabric(WALKTHROUGH, sys.argv[3], backend=NodeBackend(sys.argv[2]))
fabric.up()
Machines(fabric, Processes(Path(sys.argv[1])), Path(sys.argv[1])).start()
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=[NodeBackend.UML, NodeBackend.NATIVE], ids=lambda kind: kind.value)
def scratch(request: pytest.FixtureRequest) -> Iterator[Fabric]:
    fabric = Fabric(WALKTHROUGH, NAME, backend=request.param)
    yield fabric
    fabric.down()


def ours() -> list[str]:
    return [name for name in OURS if namespaces.path(name).exists()]


def links_here() -> list[str]:
    output = subprocess.run(["ip", "-j", "address"], capture_output=True, text=True, check=True).stdout
    return [link["ifname"] for link in json.loads(output)]


def test_comes_and_goes_without_a_trace(scratch: Fabric) -> None:
    before = links_here()
    scratch.up()
    assert ours()[:3] == list(OURS[:3])
    assert links_here() == before
    scratch.down()
    assert ours() == []
    assert links_here() == before


def test_counts_nothing_at_first(scratch: Fabric) -> None:
    scratch.up()
    enis = {f"{node.name}/{eni.name}" for node in WALKTHROUGH.servers for eni in node.enis}
    assert scratch.counters() == {eni: dict.fromkeys(RULES, 0) for eni in enis}


def test_down_without_up_does_nothing(scratch: Fabric) -> None:
    scratch.down()
    assert ours() == []


def test_up_removes_what_an_earlier_run_left(scratch: Fabric) -> None:
    scratch.up()
    left = subprocess.Popen(["ip", "netns", "exec", scratch.vpc, "sleep", "60"])
    try:
        wait_until(lambda: left.pid in namespaces.processes_in(namespaces.path(scratch.vpc)), "it is in the namespace")
        scratch.up()
        assert left.wait(timeout=5) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()
    assert namespaces.processes_in(namespaces.path(scratch.vpc)) == []


def test_nodes_end_with_a_killed_run(scratch: Fabric, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_WAIT, str(tmp_path), scratch.backend.value, NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == b"up\n"
            assert nodes_run()
        finally:
            run.kill()
    wait_until(lambda: not nodes_run(), "the nodes have ended")
    scratch.down()
    assert ours() == []


def nodes_run() -> bool:
    return any(namespaces.processes_in(namespaces.path(name)) for name in OURS)


MASTER = WALKTHROUGH.node("master")
ENI = MASTER.enis[0]
SERVER = WALKTHROUGH.internet.server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Fabric]:
    """A fabric whose master is a namespace with one configured ENI, and the internet's server."""
    fabric = Fabric(WALKTHROUGH, NAME, backend=NodeBackend.NATIVE)
    processes = Processes(tmp_path)
    fabric.up()
    try:
        processes.start(internet.NAME, [sys.executable, "-m", "spiderpool_lab.internet", "--netns", fabric.internet])
        namespaces.ip_batch(eni_set_up(), netns=fabric.node_namespace(MASTER))
        probe = TrafficProbe(kind="http", target=SERVER[0])
        wait_until(lambda: send(fabric.internet, probe).ok, "the internet's server answers")
        yield fabric
    finally:
        processes.stop_all()
        fabric.down()


def eni_set_up() -> Iterator[str]:
    for address in (
        *ENI.address_configs,
        *(msgspec.structs.replace(config, address=other(config)) for config in ENI.address_configs),
    ):
        yield f"address add {address.interface} dev {ENI.name}{' nodad' if address.version == 6 else ''}"
    yield f"link set {ENI.name} up"
    yield from (f"route add default via {config.gateway} dev {ENI.name}" for config in ENI.address_configs)


def other(config: AddressConfig) -> str:
    """An address that is not registered."""
    return {4: "172.31.199.220", 6: "2001:db8:0:100::220"}[config.version]


def send(netns: str, probe: TrafficProbe) -> Answer:
    return asyncio.run(run(probe, namespaces.path(netns)))


def seen_as(fabric: Fabric, kind: Literal["http", "udp"], target: str, source: str) -> str | None:
    """How the internet's server sees an ENI's address; None if it does not answer."""
    port = {"http": 80, "udp": 53}[kind]
    probe = TrafficProbe(kind=kind, target=target, port=port, bind=source, timeout=0.5)
    answer = send(fabric.node_namespace(MASTER), probe)
    return str(json.loads(answer.body)["client"]) if answer.ok else None


def test_the_internet_sees_elastic_and_nat_addresses_and_ipv6_as_it_is(server: Fabric) -> None:
    secondary = ENI.secondaries[0]
    namespaces.ip_batch([f"address add {secondary}/20 dev eth0"], netns=server.node_namespace(MASTER))
    assert seen_as(server, "http", SERVER[0], ENI.address) == ENI.elastic
    assert seen_as(server, "udp", SERVER[0], secondary) == ENI.vswitch.nat
    assert ENI.address6 is not None
    for kind in ("http", "udp"):
        assert seen_as(server, kind, SERVER[1], ENI.address6) == ENI.address6


@pytest.mark.parametrize(
    ("config", "rule"), [(ENI.address_configs[0], "spoof_ip"), (ENI.address_configs[1], "spoof_ip6")]
)
def test_addresses_are_registered_at_run_time(server: Fabric, config: AddressConfig, rule: str) -> None:
    address, target = other(config), SERVER[config.version == 6]
    assert seen_as(server, "http", target, config.address) is not None  # the router's MAC is known from now on
    before = server.counters()["master/eth0"][rule]
    assert seen_as(server, "http", target, address) is None
    assert server.counters()["master/eth0"][rule] > before
    server.register(ENI, address)
    server.register(ENI, address)
    assert seen_as(server, "http", target, address) == (ENI.vswitch.nat if config.version == 4 else address)
    server.unregister(ENI, address)
    assert seen_as(server, "http", target, address) is None
    with pytest.raises(KernelFailure, match="delete element bridge vpc master-eth0"):
        server.unregister(ENI, address)


def test_an_answer_without_its_request_goes_astray_and_is_counted(server: Fabric) -> None:
    """Sends a SYN-ACK, as a pod does whose answer takes another way than the request."""
    script = f"from socket import *; s = socket(AF_INET, SOCK_RAW, 6); s.sendto({SYN_ACK!r}, ({SERVER[0]!r}, 0))"
    before = server.strays()
    netns = server.node_namespace(MASTER)
    subprocess.run(["ip", "netns", "exec", netns, sys.executable, "-c", script], check=True, timeout=10)
    wait_until(lambda: server.strays() == before + 1, "the router has counted it")


SYN_ACK = struct.pack("!HHIIBBHHH", 80, 40000, 1, 1, 5 << 4, 0x12, 1024, 0, 0)


def test_a_name_too_long_for_a_link_is_refused() -> None:
    node = msgspec.structs.replace(WALKTHROUGH.nodes[0], name="a-very-long-name")
    topology = msgspec.structs.replace(WALKTHROUGH, nodes=(node,))
    with pytest.raises(BadConfig, match="shorten the node's name"):
        Fabric(topology, NAME)


def test_backend_can_be_chosen_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.OVERRIDE, "native")
    assert backend.choose() is NodeBackend.NATIVE
    monkeypatch.setenv(backend.OVERRIDE, "docker")
    with pytest.raises(BadConfig, match="native or uml"):
        backend.choose()
