"""Conditions by the API conventions: since when, about which generation, and on which of our kinds."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.meta import Condition, ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import ReservedIPSpec, ReservedIPStatus, SpiderReservedIP
from spiderpool.controller.networks import readiness as network_readiness
from spiderpool.controller.reservedips import ReservedIPReconciler, readiness
from spiderpool.kube.conditions import dated, not_ready, ready, write
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

THEN, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
BEGUN, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def reserved(*ips: str, **metadata: Any) -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="r", **metadata), spec=ReservedIPSpec(ips=list(ips)))


@pytest.mark.unit
class TestConditions:
    def test_a_condition_has_been_so_since_its_status_changed(self) -> None:
        obj = reserved(generation=1)
        first = dated([not_ready("A", "a"), ready("x")], obj, None, THEN)
        assert first == [
            Condition("Ready", "False", "A", "a", BEGUN, 1),
            Condition("Ready", "True", "InForce", "x", BEGUN, 1),
        ]
        (second,) = dated([not_ready("B", "b")], reserved(generation=2), first[:1], NOW)
        assert second == Condition("Ready", "False", "B", "b", BEGUN, 2)
        (third,) = dated([ready("x")], reserved(generation=2), [second], NOW)
        assert third == Condition("Ready", "True", "InForce", "x", NEW, 2)

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

    async def test_they_are_written_once_and_not_for_what_is_gone(self) -> None:
        async with ApiServer(SpiderReservedIP.KIND) as server, server.client() as client:
            cache = Informer(client, SpiderReservedIP)
            reconciler = ReservedIPReconciler(client, cache)
            tasks = [asyncio.create_task(each.run()) for each in (cache, reconciler)]
            try:
                await client.create(reserved("10.0.0.1"))
                await eventually(lambda: server.stored(SpiderReservedIP)["r"].status)
                (condition,) = (server.stored(SpiderReservedIP)["r"].status or ReservedIPStatus()).conditions or []
                assert (condition.type, condition.status) == ("Ready", "True")
                stored = await client.get(SpiderReservedIP, "r")
                before = server.requests["patch"]
                await write(client, cache, stored, [condition], condition)
                assert server.requests["patch"] == before
                gone = replace(stored, metadata=replace(stored.metadata, name="gone"))
                await write(client, cache, gone, None, condition)
                assert server.requests["patch"] == before + 1
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


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
