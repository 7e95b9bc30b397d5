"""Traffic between booted nodes, and what the cloud's network drops."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import spiderpool
from spiderpool.errors import IOFailure
from spiderpool_lab import namespaces
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.control_plane import NODE_HOST
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.node import ClusterServices
from spiderpool_lab.node_client import NodeClient, Outcome
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

MASTER, WORKER = WALKTHROUGH.nodes
GATEWAY = MASTER.enis[0].vswitch.gateway
SECONDARY = MASTER.enis[0].secondaries[0]
UNREGISTERED = "172.31.199.200"

PING = """
import asyncio, sys
from spiderpool_lab.probes import TrafficProbe, run
answer = asyncio.run(run(TrafficProbe(kind="ping", target=sys.argv[1]), None))
sys.exit(0 if answer.ok else 1)
"""
SEND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.sendto(b"?", (sys.argv[2], 9))
"""


@pytest.fixture
def master(machines: Machines) -> NodeClient:
    return machines.client("master")


def shell(client: NodeClient, *lines: str) -> Outcome:
    outcome = client.exec(["sh", "-ec", "\n".join(lines)])
    assert outcome.rc == 0, outcome.stderr
    return outcome


@pytest.fixture
def child(master: NodeClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace in the master whose eth0 is a child of the ENI (the parameter's kind) with a registered address."""
    shell(
        master,
        "ip netns add child",
        f"ip link add link eth0 name child0 netns child type {request.param}",
        "ip -n child link set child0 name eth0",
        f"ip -n child address add {SECONDARY}/20 dev eth0",
        "ip -n child link set eth0 up",
    )
    yield "child"
    shell(master, "ip -n child link delete eth0", "ip netns delete child")


def ping_from(client: NodeClient, netns: str, target: str) -> bool:
    return client.exec(["ip", "netns", "exec", netns, sys.executable, "-c", PING, target]).rc == 0


def test_node_reaches_gateways_and_the_other_node_on_both_enis(master: NodeClient) -> None:
    targets = [eni.vswitch.gateway for eni in MASTER.enis] + [eni.address for eni in WORKER.enis]
    answers = master.probe([TrafficProbe(kind="ping", target=target) for target in targets])
    assert [answer.ok for answer in answers] == [True] * 4, answers


def test_legitimate_traffic_is_not_counted(machines: Machines, fabric: Fabric) -> None:
    before = fabric.counters()
    machines.client("worker").probe([TrafficProbe(kind="ping", target=eni.address) for eni in MASTER.enis])
    assert fabric.counters() == before


def test_unregistered_source_address_is_dropped_and_counted(master: NodeClient, fabric: Fabric) -> None:
    target = WORKER.enis[0].address
    assert master.probe([TrafficProbe(kind="ping", target=target)])[0].ok  # resolves the neighbour's MAC
    before = fabric.counters()["master/eth0"]
    shell(master, f"ip address add {UNREGISTERED}/32 dev eth0")
    try:
        assert master.exec([sys.executable, "-c", SEND, UNREGISTERED, target]).rc == 0
    finally:
        shell(master, f"ip address delete {UNREGISTERED}/32 dev eth0")
    after = fabric.counters()["master/eth0"]
    assert after["spoof_ip"] == before["spoof_ip"] + 1


def sends(listening: socket.socket, size: int) -> None:
    with listening.accept()[0] as connection:
        connection.settimeout(20)
        connection.sendall(bytes(size))


def test_a_node_receives_much_at_once(master: NodeClient, fabric: Fabric) -> None:
    """As a list from the API server: it would take minutes if large segments were lost."""
    with (
        namespaces.call_in(namespaces.path(fabric.management), lambda: socket.create_server(("", 0))) as listening,
        ThreadPoolExecutor() as thread,
    ):
        thread.submit(lambda: sends(listening, 4_000_000))
        host, port = NODE_HOST, listening.getsockname()[1]
        received = master.exec(["bash", "-c", f"cat < /dev/tcp/{host}/{port} | wc --bytes"], timeout=20)
    assert received.stdout.strip() == "4000000"


@pytest.mark.parametrize("child", ["macvlan mode bridge"], indirect=True)
def test_macvlan_child_is_cut_off_by_its_own_mac(child: str, master: NodeClient, fabric: Fabric) -> None:
    before = fabric.counters()["master/eth0"]["spoof_mac"]
    assert not ping_from(master, child, GATEWAY)
    assert fabric.counters()["master/eth0"]["spoof_mac"] > before


@pytest.mark.parametrize("child", ["ipvlan mode l2"], indirect=True)
def test_ipvlan_child_with_a_registered_address_passes(child: str, master: NodeClient, fabric: Fabric) -> None:
    before = fabric.counters()
    assert ping_from(master, child, GATEWAY)
    assert ping_from(master, child, WORKER.enis[0].address)
    assert fabric.counters() == before


def test_a_node_runs_the_code_of_its_lab(master: NodeClient) -> None:
    code = "import spiderpool; print(spiderpool.__file__, end='')"
    assert master.exec([sys.executable, "-c", code]).stdout == spiderpool.__file__


def test_a_node_with_a_kernel_of_its_own_has_its_name(master: NodeClient, fabric: Fabric) -> None:
    if fabric.backend is not NodeBackend.UML:
        pytest.skip("a node that is a container has the name of its machine")
    assert master.exec(["uname", "--nodename"]).stdout == "master\n"


def test_commands_report_their_end(master: NodeClient) -> None:
    assert master.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]) == Outcome(3, "out\n", "err\n")
    assert master.exec(["no-such-program"]).rc == 127
    assert master.exec(["sleep", "10"], timeout=0.2).rc == 124


def test_a_pod_that_is_not_there_is_named(master: NodeClient) -> None:
    with pytest.raises(IOFailure, match="pod 'default/none' has no sandbox"):
        master.exec(["true"], pod="default/none")


def test_a_killed_daemon_is_started_again(master: NodeClient) -> None:
    first = master.state().children["kubelet"]
    with suppress(IOFailure):  # the daemon that dies is the one that would answer
        master.signal("kubelet")
    assert wait_until(lambda: kubelet_pid(master), "the endpoint is back", timeout=30) != first


def kubelet_pid(client: NodeClient) -> int | None:
    """The pid of the node's kubelet; None while it does not answer."""
    try:
        return client.state(timeout=1.0).children["kubelet"]
    except IOFailure:
        return None


def test_a_node_comes_back_after_a_power_cut(machines: Machines, master: NodeClient) -> None:
    worker = machines.fabric.topology.node("worker")
    shell(machines.client("worker"), "touch /run/tmp/memory")
    machines.cut_power(worker)
    assert not master.probe([TrafficProbe(kind="ping", target=worker.enis[0].address, count=1)])[0].ok
    machines.boot(worker)
    machines.wait(worker)
    assert master.probe([TrafficProbe(kind="ping", target=worker.enis[0].address)])[0].ok
    assert machines.client("worker").exec(["test", "-e", "/run/tmp/memory"]).rc == 1


def test_a_node_that_cannot_boot_says_where_to_look(tmp_path: Path) -> None:
    fabric = Fabric(WALKTHROUGH, lab_name("scratch"))
    services = ClusterServices(kubelet_kubeconfig="/nowhere", proxy_kubeconfig="/nowhere", kube_proxy="/nowhere")
    processes = Processes(tmp_path / "processes")
    machines = Machines(fabric, processes, tmp_path / "nodes", services={"master": services})
    fabric.up()
    try:
        with pytest.raises(IOFailure, match=r"node master died while it booted.*node-master\.log") as failure:
            machines.start()
    finally:
        fabric.down()
    assert "No such file or directory: '/nowhere'" in failure.value.details
    assert processes.names() == []
