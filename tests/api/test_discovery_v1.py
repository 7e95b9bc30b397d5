"""EndpointSlices."""

from __future__ import annotations

import pytest

from spiderpool.api.discovery_v1 import EndpointSlice
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
