"""Ports of the node that lead to a pod, and the connections that must not outlive a change of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.cni import PortMapping
from spiderpool.core.network.hostports import Connection, HostPort, bypasses, host_ports, in_order, leads_to, unserved

pytestmark = pytest.mark.unit

BOTH = ("10.0.0.5", "2001:db8::5")


@pytest.mark.parametrize(
    ("host", "only"),
    [
        ("", {"10.0.0.5": "", "2001:db8::5": ""}),
        ("0.0.0.0", {"10.0.0.5": ""}),
        ("::", {"2001:db8::5": ""}),
        ("127.0.0.1", {"10.0.0.5": "127.0.0.1"}),
        ("2001:db8::1", {"2001:db8::5": "2001:db8::1"}),
    ],
)
def test_a_mapping_concerns_the_families_of_its_address_and_of_the_pod(host: str, only: dict[str, str]) -> None:
    mapping = PortMapping(8080, 80, "udp", host)
    found = host_ports([mapping], BOTH)
    assert found == tuple(HostPort("udp", 8080, target, 80, address) for target, address in only.items())
    assert {port.version for port in found} == {6 if ":" in target else 4 for target in only}
    assert unserved([mapping], BOTH) == ()


def test_a_mapping_that_no_address_of_the_pod_serves() -> None:
    mappings = [PortMapping(8080, 80), PortMapping(8081, 80, "tcp", "2001:db8::1")]
    assert [port.port for port in host_ports(mappings, BOTH[:1])] == [8080]
    [sentence] = unserved(mappings, BOTH[:1])
    assert sentence.startswith("hostPort 8081/tcp on 2001:db8::1 leads nowhere")
    assert len(unserved(mappings, ())) == 2


def test_a_single_address_of_the_node_comes_first_and_else_the_order_stays() -> None:
    plain, other = HostPort("tcp", 1, "10.0.0.5", 80), HostPort("tcp", 1, "10.0.0.6", 80)
    single = replace(other, address="10.0.0.1")
    assert in_order([plain, other, single]) == (single, plain, other)


PORT = HostPort("udp", 53, "10.0.0.5", 5353)
PLAIN = Connection("192.0.2.1", "10.0.0.1", 53, "10.0.0.1", "192.0.2.1", 53)
TO_POD = replace(PLAIN, answer_source="10.0.0.5", answer_port=5353)


@pytest.mark.parametrize(
    ("connection", "passes_by", "leads"),
    [
        (PLAIN, True, False),
        (replace(PLAIN, port=54), False, False),
        (TO_POD, False, True),
        (replace(TO_POD, port=54), False, False),  # by another port of the node
        (replace(TO_POD, answer_port=53), False, False),  # to another port of the pod
        (replace(TO_POD, answer_source="10.0.0.6"), False, False),  # to another pod, as of a Service
        (replace(PLAIN, answer_destination="10.0.0.1"), False, False),  # masqueraded: deleting it would lose the answer
    ],
)
def test_which_connections_must_end(connection: Connection, passes_by: bool, leads: bool) -> None:
    assert bypasses(connection, PORT) is passes_by
    assert leads_to(connection, PORT) is leads
