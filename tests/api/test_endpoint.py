"""SpiderEndpoint: the addresses of one pod."""

from __future__ import annotations

import pytest

from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ippool import Route
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_an_endpoint() -> None:
    interface = {
        "interface": "eth0",
        "ipv4": "10.6.0.1/24",
        "ipv4Pool": "blue",
        "ipv4Gateway": "10.6.0.254",
        "vlan": 0,
        "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.253"}],
    }
    status = {
        "current": {"uid": "u-1", "node": "n1", "ips": [interface]},
        "ownerControllerType": "Deployment",
        "ownerControllerName": "web",
    }
    found = read({"metadata": {"name": "web-1", "namespace": "shop"}, "status": status}, SpiderEndpoint).status
    assert found is not None
    (detail,) = found.current.ips
    assert (detail.ipv4, detail.ipv6, detail.routes) == ("10.6.0.1/24", None, [Route("10.7.0.0/16", "10.6.0.253")])
