"""The cloud beside the fabric: servers ask it who they are, and what it registers may send."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from spiderpool.cloud.alibaba import policy
from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import cloud, internet, namespaces
from spiderpool_lab.admin_client import AdminClient
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.metadata import ADDRESS
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.cloud import LabCloud
from spiderpool_lab.cloud_process import ROLE, make_account
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.probes import Answer, TrafficProbe, run
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

MASTER = WALKTHROUGH.node("master")
ETH0 = MASTER.enis[0]
SERVER = WALKTHROUGH.internet.server[0]
IDENTITY = "eni-master-eth0"
NAME = lab_name("cloud")


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    """A network in which the master is a namespace with one configured ETH0."""
    fabric = Fabric(WALKTHROUGH, NAME, backend=NodeBackend.NATIVE)
    fabric.up()
    try:
        lines = [
            *(f"address add {config.interface} dev {ETH0.name}" for config in ETH0.address_configs[:1]),
            f"link set {ETH0.name} up",
            f"route add default via {ETH0.vswitch.gateway} dev {ETH0.name}",
        ]
        namespaces.ip_batch(lines, netns=fabric.node_namespace(MASTER))
        yield fabric
    finally:
        fabric.down()


@pytest.fixture(scope="module")
def running(fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCloud]:
    """Its cloud, and the server on the internet."""
    directory = tmp_path_factory.mktemp("cloud")
    processes = Processes(directory / "processes")
    running = LabCloud(fabric, processes, directory / "cloud")
    try:
        processes.start(internet.NAME, [sys.executable, "-m", "spiderpool_lab.internet", "--netns", fabric.internet])
        running.start(["nodes"])
        wait_until(lambda: running.is_ready, "the cloud serves", timeout=20)
        wait_until(lambda: get(fabric, SERVER).ok, "the internet's server answers", timeout=20)
        yield running
    finally:
        running.stop()
        processes.stop_all()


def get(fabric: Fabric, target: str, path: str = "/", bind: str | None = None) -> Answer:
    """The answer to an HTTP request of the master."""
    probe = TrafficProbe(kind="http", target=target, path=path, bind=bind, timeout=0.5)
    return asyncio.run(run(probe, namespaces.path(fabric.node_namespace(MASTER))))


@pytest.mark.lab
def test_a_server_reads_who_it_is_and_gets_no_keys(fabric: Fabric, running: LabCloud) -> None:
    page = "/latest/meta-data/"
    assert get(fabric, ADDRESS, f"{page}instance-id").body == "i-master"
    assert get(fabric, ADDRESS, f"{page}network/interfaces/macs/{ETH0.mac}/network-interface-id").body == IDENTITY
    assert get(fabric, ADDRESS, f"{page}network/interfaces/macs/{ETH0.mac}/gateway").body == ETH0.vswitch.gateway
    assert get(fabric, ADDRESS, f"{page}eipv4").body == ETH0.elastic
    assert get(fabric, ADDRESS, f"{page}ram/security-credentials/").status == 404


@pytest.mark.lab
def test_keys_are_given_on_loopback_for_a_token_alone(running: LabCloud) -> None:
    with closing(HTTPConnection("127.0.0.1", running.config.role_port, timeout=5)) as connection:
        connection.request("GET", f"/latest/meta-data/ram/security-credentials/{ROLE}")
        answer = connection.getresponse()
        assert (answer.status, b"AccessKey" in answer.read()) == (401, False)


@pytest.mark.lab
def test_what_the_cloud_registers_may_send_and_what_it_takes_off_may_not(fabric: Fabric, running: LabCloud) -> None:
    admin = running.admin
    answer = admin.call(
        "ecs", "AssignPrivateIpAddresses", NetworkInterfaceId=IDENTITY, SecondaryPrivateIpAddressCount="1"
    )
    (address,) = answer["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    assert address in admin.registered_addresses()[ETH0.mac]
    namespaces.ip_batch([f"address add {address}/20 dev {ETH0.name}"], netns=fabric.node_namespace(MASTER))
    answer_from_address = get(fabric, SERVER, bind=address)
    assert json.loads(answer_from_address.body)["client"] == ETH0.vswitch.nat
    admin.call("ecs", "UnassignPrivateIpAddresses", NetworkInterfaceId=IDENTITY, **{"PrivateIpAddress.1": address})
    before = fabric.counters()["master/eth0"]["spoof_ip"]
    assert not get(fabric, SERVER, bind=address).ok
    assert fabric.counters()["master/eth0"]["spoof_ip"] > before


@pytest.mark.lab
def test_calls_at_the_console_are_refused_as_those_of_the_api_and_faults_apply_to_them(running: LabCloud) -> None:
    admin = running.admin
    admin.set_vswitch_full(ETH0.vswitch.name)
    with pytest.raises(BadConfig, match="IpNotEnough"):
        admin.call("ecs", "AssignPrivateIpAddresses", NetworkInterfaceId=IDENTITY, SecondaryPrivateIpAddressCount="1")
    admin.set_vswitch_full(ETH0.vswitch.name, full=False)
    with pytest.raises(BadConfig, match=r"InvalidAction\.NotFound"):
        admin.call("ecs", "DoNothing")
    number = admin.set_fault(Fault(kind="drop", actions="ecs:*"))
    assert str(number) in admin.faults()
    with pytest.raises(BadConfig, match="the answer was lost"):
        admin.call("ecs", "DescribeInstances")
    admin.clear_faults(number)
    assert admin.call("ecs", "DescribeInstances")["TotalCount"] == 4
    last = admin.calls()["last"]
    assert [call["outcome"] for call in last if call["action"] == "ecs:DescribeInstances"] == ["Dropped", "OK"]
    with pytest.raises(BadConfig, match="no instance"):
        admin.remove_instance("i-nobody")


@pytest.mark.lab
def test_another_process_finds_the_cloud_by_its_files(fabric: Fabric, running: LabCloud) -> None:
    directory = Path(running.config.directory)
    found = LabCloud(fabric, Processes(directory.parent / "processes"), directory)
    assert found.is_ready
    assert Path(found.access()["SPIDERPOOL_CLOUD_CA"]).read_text().startswith("-----BEGIN CERTIFICATE")
    assert directory.joinpath("ca.crt").stat().st_mode & 0o077 == 0
    with pytest.raises(IOFailure, match="no cloud was started here"):
        _ = LabCloud(fabric, Processes(directory / "none"), directory / "none").admin


@pytest.mark.unit
def test_the_role_may_do_what_its_features_need_and_no_more() -> None:
    account = make_account(WALKTHROUGH, ["nodes"])
    assert set(account.roles[ROLE]) == set(policy.ACTIONS["nodes"])
    holders = [server.name for server in account.tables.instances if server.role]
    assert holders == ["operations"]


@pytest.mark.unit
def test_a_cloud_that_is_away_says_so() -> None:
    admin = AdminClient(9)
    assert not admin.is_ready
    with pytest.raises(IOFailure, match="does not answer GET /state"):
        admin.state()


@pytest.mark.unit
def test_public_addresses_of_balancers_lead_to_the_cloud_and_are_nobodys() -> None:
    ipv4, ipv6 = WALKTHROUGH.internet.elastic
    assert IPv4Network(cloud.PUBLIC).subnet_of(IPv4Network(ipv4))
    assert IPv6Network(cloud.PUBLIC_IPV6).subnet_of(IPv6Network(ipv6))
    elastic = [eni.elastic for node in WALKTHROUGH.nodes for eni in node.enis]
    taken = [*elastic, *(vswitch.nat for vswitch in WALKTHROUGH.vswitches)]
    assert not [address for address in taken if address and IPv4Address(address) in IPv4Network(cloud.PUBLIC)]
