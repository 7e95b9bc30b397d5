"""Conditions by the API conventions, on which of our kinds, and what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.controller.networks import readiness as network_readiness
from spiderpool.controller.reservedips import readiness
from spiderpool_lab.control_plane import ControlPlane

BEGUN = "2026-01-01T00:00:00Z"


def reserved(*ips: str, **metadata: Any) -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="r", **metadata), spec=ReservedIPSpec(ips=list(ips)))


@pytest.mark.unit
class TestConditions:
    @pytest.mark.parametrize(
        ("obj", "status", "message"),
        [
            (reserved("10.0.0.1-10.0.0.9"), "True", "no new pod gets its 9 addresses"),
            (reserved("fd00::1"), "True", "no new pod gets its 1 addresses"),
            (reserved(), "True", "no new pod gets its 0 addresses"),
            (reserved("x"), "False", "entry 0 ('x'): not an IPv4 address"),
            (reserved("10.0.0.1", deletionTimestamp=BEGUN), "False", "it is being deleted"),
        ],
    )
    def test_reserved_addresses(self, obj: SpiderReservedIP, status: str, message: str) -> None:
        condition = readiness(obj)
        assert (condition.type, condition.status) == ("Ready", status)
        assert message in condition.message

    @pytest.mark.parametrize(
        ("plugin", "status", "message"),
        [
            ({"type": "ipvlan", "master": "eth0"}, "True", "pods may name NetworkAttachmentDefinition ns/n"),
            ({"type": "bridge", "anything": 1}, "True", "pods may name"),
            ({"type": "vlan", "master": "eth0", "vlanMode": "auto"}, "False", "no pod can be attached: vlanMode auto"),
            ({"type": "ipvlan", "colour": "red"}, "False", "no pod can be attached: unknown field 'colour'"),
            (None, "False", "no pod can be attached: network ns/n has no configuration yet"),
        ],
    )
    def test_networks(self, plugin: dict[str, Any] | None, status: str, message: str) -> None:
        spec = NADSpec(config=json.dumps(plugin)) if plugin else None
        made = NetworkAttachmentDefinition(metadata=ObjectMeta(name="n", namespace="ns"), spec=spec)
        condition = network_readiness(made)
        assert condition.status == status
        assert condition.message.startswith(message)


MANIFESTS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: awaited}
spec: {subnet: 10.66.0.0/24, ips: [10.66.0.1]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: awaited}
spec: {subnet: 10.66.0.0/24, ips: [10.66.0.1-10.66.0.9]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata: {name: awaited}
spec: {ips: [10.66.0.9]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: awaited, namespace: default}
spec: {cniType: ipvlan, ipvlan: {master: [eth0]}}
"""
AWAITED = ("sp/awaited", "ss/awaited", "sr/awaited", "smc/awaited")


@pytest.mark.control_plane
@pytest.mark.usefixtures("controller")
def test_kubectl_can_wait_for_each_of_our_kinds(control_plane: ControlPlane) -> None:
    control_plane.kubectl("apply", "-f", "-", input=MANIFESTS)
    try:
        for each in (*AWAITED, "scc/default"):
            control_plane.kubectl("wait", "--for=condition=Ready", each, "--timeout=30s")
        patch = '{"spec": {"disable": true}}'
        control_plane.kubectl("patch", "sp/awaited", "--type=merge", "-p", patch)
        control_plane.kubectl("wait", "--for=condition=Ready=False", "sp/awaited", "--timeout=30s")
        wrong = '{"spec": {"cniType": "vlan", "ipvlan": null, "vlan": {"master": ["eth0"], "vlanMode": "auto"}}}'
        control_plane.kubectl("patch", "smc/awaited", "--type=merge", "-p", wrong)
        control_plane.kubectl("wait", "--for=condition=Ready=False", "smc/awaited", "--timeout=30s")
    finally:
        control_plane.kubectl("delete", "ss,sp,sr,smc", "--all", "--timeout=60s")
