"""Probes of a given size are sent whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from spiderpool_lab import namespaces, probes
from spiderpool_lab.pod_servers import PodIdentity, serving
from spiderpool_lab.probes import TrafficProbe
from tests.lab.names import lab_name

pytestmark = pytest.mark.lab

MTU = 1501
"""Odd, so that a checksum has a last byte without a partner."""


@pytest.fixture
def netns() -> Iterator[Path]:
    """A namespace whose loopback has an MTU of its own."""
    name = lab_name("probes")
    netns = namespaces.create(name)
    namespaces.ip_batch([f"link set lo mtu {MTU}"], netns=name)
    yield netns
    namespaces.delete(netns)


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", ["ping", "udp"])
async def test_a_packet_of_the_mtu_passes_and_a_larger_one_is_not_fragmented(
    netns: Path, kind: Literal["ping", "udp"], target: str
) -> None:
    async with serving(netns, [("UDP", 53)], PodIdentity("default/web", "master")):
        sent = [TrafficProbe(kind=kind, target=target, port=53, packet=size) for size in (0, MTU, MTU + 1)]
        answers = [await probes.run(probe, netns) for probe in sent]
    assert [answer.ok for answer in answers] == [True, True, False], answers
    assert "Message too long" in answers[2].error
