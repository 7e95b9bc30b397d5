"""SpiderSubnet: spec and status, and the keys by which pools and applications name it."""

from __future__ import annotations

import pytest

from spiderpool.api.ippool import Route
from spiderpool.api.subnet import APP_GROUP, APP_KIND, APP_NAME, APP_NAMESPACE, APP_VERSION, SpiderSubnet
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_a_subnet() -> None:
    subnet = read(
        {
            "metadata": {"name": "blue"},
            "spec": {
                "subnet": "10.6.0.0/16",
                "ipVersion": 4,
                "ips": ["10.6.0.1-10.6.0.100"],
                "excludeIPs": ["10.6.0.9"],
                "gateway": "10.6.255.254",
                "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.255.253"}],
            },
            "status": {
                "controlledIPPools": '{"a":{"ips":["10.6.0.1"]}}',
                "totalIPCount": 99,
                "allocatedIPCount": 1,
            },
        },
        SpiderSubnet,
    )
    assert subnet.spec.routes == [Route("10.7.0.0/16", "10.6.255.253")]
    assert subnet.status is not None
    assert subnet.status.totalIPCount == 99


def test_the_keys_of_an_automatic_pools_affinity() -> None:
    assert [APP_GROUP, APP_VERSION, APP_KIND, APP_NAMESPACE, APP_NAME] == [
        "ipam.spidernet.io/app-api-group",
        "ipam.spidernet.io/app-api-version",
        "ipam.spidernet.io/app-kind",
        "ipam.spidernet.io/app-namespace",
        "ipam.spidernet.io/app-name",
    ]
