"""Conditions by the API conventions, on which of our kinds, and what they say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import IpvlanConfig, MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.controller.networks import NetworkListers, NetworkReconciler
from spiderpool.controller.networks import readiness as network_readiness
from spiderpool.controller.reservedips import readiness
from spiderpool.core.network.nads import attachment
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool_lab.control_plane import ControlPlane
from tests.core.servers import MASTER
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

BEGUN = "2026-01-01T00:00:00Z"


def reserved(*ips: str, **metadata: Any) -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="r", **metadata), spec=ReservedIPSpec(ips=list(ips)))


SECOND = SpiderMultusConfig(
    metadata=ObjectMeta(name="second", namespace="ns", uid="u-second"),
    spec=MultusConfigSpec(cniType="ipvlan", ipvlan=IpvlanConfig(["eth1"])),
)
"""A network on the second NIC."""


def put_node(server: ApiServer, name: str, *devices: str) -> None:
    """A node that reports NICs."""
    enis = tuple(replace(eni, device=device) for eni, device in zip(MASTER.enis, devices, strict=False))
    server.put(Node(metadata=ObjectMeta(name=name)))
    server.put(SpiderServer.of(server.stored(Node)[name], replace(MASTER, enis=enis)))


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
        condition = network_readiness(SpiderMultusConfig(), made, None)
        assert condition.status == status
        assert condition.message.startswith(message)

    @pytest.mark.parametrize(
        ("devices", "message"),
        [
            (None, ""),
            ({"eth0", "eth1"}, ""),
            ({"eth0"}, "; but master: no node reports a NIC eth1; reported are eth0"),
        ],
    )
    def test_networks_on_a_nic_that_no_node_reports(self, devices: set[str] | None, message: str) -> None:
        condition = network_readiness(SECOND, attachment(SECOND), devices)
        assert condition.status == "True", "nodes report ENIs, not all NICs"
        assert condition.message == f"pods may name NetworkAttachmentDefinition {SECOND.key}{message}"

    async def test_the_condition_of_a_network_follows_the_nics_that_nodes_report(self) -> None:
        kinds = (SpiderMultusConfig, NetworkAttachmentDefinition, Node, SpiderServer)
        async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
            server.put(SECOND, attachment(SECOND))
            put_node(server, "n1", "eth0")
            configs = Informer(client, SpiderMultusConfig)
            attachments = Informer(client, NetworkAttachmentDefinition)
            nodes = Informer(client, Node)
            servers = NodeServers(Informer(client, SpiderServer))
            caches: list[Informer[Any]] = [configs, attachments, nodes, servers.informer]
            listers = NetworkListers(configs, attachments, nodes, servers)
            reconciler = NetworkReconciler(client, listers, Recorder(client, "test"))
            tasks = [asyncio.create_task(each.run()) for each in caches]
            for each in caches:
                await each.synced(5)
            tasks.append(asyncio.create_task(reconciler.run()))

            def is_told(told: bool) -> bool:
                stored = server.stored(SpiderMultusConfig)[SECOND.key].status
                messages = [each.message or "" for each in (stored and stored.conditions) or ()]
                return ["no node reports" in each for each in messages] == [told]

            try:
                await eventually(lambda: is_told(True))
                put_node(server, "n2", "eth1")
                await eventually(lambda: is_told(False))
                server.remove(server.stored(SpiderServer)["n2"])
                server.remove(server.stored(Node)["n2"])
                await eventually(lambda: is_told(True))
                server.put(Node(metadata=ObjectMeta(name="n3")))
                await eventually(lambda: is_told(False), "one node may have any NIC")
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
