"""Defaults and faults of the coordinator's settings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.core.admission.coordinator import default_coordinator, validate_coordinator
from tests.core.admission.objects import paths

pytestmark = pytest.mark.unit


def coordinator(**spec: Any) -> SpiderCoordinator:
    return msgspec.convert({"metadata": {"name": "default"}, "spec": spec}, SpiderCoordinator)


class TestCoordinator:
    def test_defaults(self) -> None:
        made = default_coordinator(coordinator(podCIDRType="auto", hijackCIDR=["169.254.0.1", "x"]))
        assert msgspec.to_builtins(made.spec) == {
            "mode": "auto",
            "podCIDRType": "auto",
            "hijackCIDR": ["169.254.0.1/32", "x"],
            "tunePodRoutes": True,
            "hostRuleTable": 500,
            "podRPFilter": 0,
            "txQueueLen": 0,
            "vethMTU": 1500,
        }
        assert made.metadata.finalizers is None

    @pytest.mark.parametrize(
        ("spec", "path"),
        [
            ({"podCIDRType": None}, "spec.podCIDRType"),
            ({"podCIDRType": "flannel"}, "spec.podCIDRType"),
            ({"hijackCIDR": ["10.0.0.0/8", "10.0.0.0/33"]}, "spec.hijackCIDR[1]"),
            ({"hijackCIDR": ["10.0.0.0/255.0.0.0"]}, "spec.hijackCIDR[0]"),
            ({"hijackCIDR": ["fe80::1%eth0"]}, "spec.hijackCIDR[0]"),
            ({"ipamCIDR": ["10.0.0.0/8", "ten"]}, "spec.ipamCIDR[1]"),
            ({"policyRoutes": [{"dst": "x", "gw": "10.0.0.1"}]}, "spec.policyRoutes[0].dst"),
            ({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "10.0.0.1/8"}]}, "spec.policyRoutes[0].gw"),
            ({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, "spec.policyRoutes[0]"),
            ({"podMACPrefix": "01:1b"}, "spec.podMACPrefix"),
            ({"podMACPrefix": "-a:1b"}, "spec.podMACPrefix"),
            ({"txQueueLen": -1}, "spec.txQueueLen"),
            ({"txQueueLen": 2**31}, "spec.txQueueLen"),
            ({"hostRuleTable": 0}, "spec.hostRuleTable"),
            ({"hostRuleTable": -1}, "spec.hostRuleTable"),
            ({"hostRuleTable": 2**32}, "spec.hostRuleTable"),
            ({"podRPFilter": 3}, "spec.podRPFilter"),
            ({"vethLinkAddress": "169.254.100.1/16"}, "spec.vethLinkAddress"),
        ],
    )
    def test_a_fault_names_its_field(self, spec: dict[str, Any], path: str) -> None:
        assert paths(validate_coordinator(coordinator(**{"podCIDRType": "auto", **spec}))) == [path]

    def test_valid_settings_are_accepted(self) -> None:
        assert validate_coordinator(coordinator(podCIDRType="none", podMACPrefix="0a:1B", podRPFilter=-1)) == ()
