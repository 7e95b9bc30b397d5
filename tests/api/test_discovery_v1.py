"""EndpointSlices."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from tests.api.documents import Document, read

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("endpoint", "ready", "node"),
    [
        ({"addresses": ["10.6.0.1"]}, True, None),
        ({"addresses": ["10.6.0.1"], "conditions": {"ready": True}, "nodeName": "n1"}, True, "n1"),
        ({"addresses": ["10.6.0.1"], "conditions": {"ready": False}}, False, None),
    ],
)
def test_node_and_readiness_of_an_endpoint(endpoint: Document, ready: bool, node: str | None) -> None:
    document = {
        "metadata": {"name": "web-x", "namespace": "shop"},
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    found = read(document, EndpointSlice)
    (each,) = found.endpoints or []
    assert (each.ready, each.nodeName) == (ready, node)
    assert [port.port for port in found.ports or ()] == [8080]


@pytest.mark.parametrize(
    ("conditions", "ending"),
    [
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": False}, False),
        ({"ready": True, "serving": True, "terminating": True}, False),
        ({}, False),
    ],
)
def test_an_endpoint_is_ending_while_its_pod_terminates_and_answers(conditions: dict[str, bool], ending: bool) -> None:
    endpoint = msgspec.convert({"addresses": ["10.0.0.1"], "conditions": conditions}, Endpoint)
    assert endpoint.ending is ending
