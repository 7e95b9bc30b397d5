"""Servers whose ENIs have larger MTUs: packets of that size pass between them, and larger ones are not sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH, Topology, with_large_mtus
from tests.lab.names import lab_name

TOPOLOGY = with_large_mtus(WALKTHROUGH)


@pytest.mark.unit
def test_the_third_enis_have_addresses_and_macs_of_their_own() -> None:
    assert [eni.mtu for eni in TOPOLOGY.nodes[0].enis] == [1500, 8500, 9000]
    for of in (_macs, _addresses):
        assert len(of(TOPOLOGY)) == len({*of(TOPOLOGY)})


def _macs(topology: Topology) -> list[str]:
    return [eni.mac for server in topology.servers for eni in server.enis]


def _addresses(topology: Topology) -> list[str | None]:
    return [address for server in topology.servers for eni in server.enis for address in (*eni.registered, eni.elastic)]


@pytest.mark.lab
@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", [NodeBackend.UML, NodeBackend.NATIVE], ids=lambda kind: kind.value)
def test_packets_as_large_as_the_mtu_pass_between_servers(backend: NodeBackend, tmp_path: Path) -> None:
    fabric = Fabric(TOPOLOGY, lab_name("mtus"), backend=backend)
    machines = Machines(fabric, Processes(tmp_path / "processes"), tmp_path / "nodes")
    fabric.up()
    try:
        machines.start()
        master, worker = TOPOLOGY.nodes
        sizes = [(target, eni.mtu) for eni in worker.enis for target in eni.own_addresses]
        fitting, larger = (
            machines.client(master.name).probe(
                [TrafficProbe(kind="ping", target=target, packet=mtu + more) for target, mtu in sizes]
            )
            for more in (0, 1)
        )
        assert [answer.ok for answer in fitting] == [True] * len(sizes), fitting
        assert {answer.error[-16:] for answer in larger} == {"Message too long"}, larger
    finally:
        machines.stop()
        fabric.down()
