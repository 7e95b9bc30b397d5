"""SpiderCoordinator: spec and status."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.coordinator import SYNCED, SpiderCoordinator
from spiderpool.api.ippool import Route
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_spec_and_status() -> None:
    found = read(
        {
            "metadata": {"name": "default"},
            "spec": {
                "mode": "underlay",
                "podCIDRType": "cluster",
                "hijackCIDR": ["169.254.0.0/16"],
                "policyRoutes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.253"}],
                "tunePodRoutes": False,
                "podRPFilter": -1,
                "vethMTU": 1400,
            },
            "status": {"phase": "Synced", "overlayPodCIDR": ["10.233.64.0/18"], "serviceCIDR": ["10.233.0.0/18"]},
        },
        SpiderCoordinator,
    )
    assert found.spec is not None
    assert (found.spec.policyRoutes, found.spec.podRPFilter) == ([Route("10.7.0.0/16", "10.6.0.253")], -1)
    assert found.status is not None
    assert (found.status.phase, found.status.serviceCIDR) == (SYNCED, ["10.233.0.0/18"])


def test_the_mtu_is_at_least_1() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int` >= 1 - at `\$\.spec\.vethMTU`"):
        msgspec.convert({"spec": {"vethMTU": 0}}, SpiderCoordinator)
