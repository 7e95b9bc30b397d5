"""Addresses of Services in the status of the SpiderCoordinator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Event
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

PATIENCE = 8.0
BALANCER, EXTERNAL = "198.51.100.65", "203.0.113.250"


def objects(*items: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def service(name: str, **spec: Any) -> str:
    fields = {"ports": [{"port": 80}], "selector": {"app": name}} | spec
    return objects({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": fields})


def serve(plane: ControlPlane, name: str, *ingress: dict[str, str]) -> None:
    """Write the status of a Service, as the controller of its load balancer does."""
    patch = json.dumps({"status": {"loadBalancer": {"ingress": list(ingress)}}})
    plane.kubectl("patch", "service", name, "--subresource=status", "--type=merge", "-p", patch)


async def published(client: Client, *expected: str) -> None:
    """Wait until the status has these addresses."""

    async def so() -> bool:
        status = (await client.get(SpiderCoordinator, "default")).status
        return status is not None and status.serviceAddresses == list(expected) and status.phase == "Synced"

    await eventually(so, timeout=PATIENCE)


async def test_they_follow_services_nodes_and_settings(client: Client, control_plane: ControlPlane) -> None:
    plane = control_plane
    await published(client)
    try:
        plane.apply(service("web", type="LoadBalancer", externalIPs=[EXTERNAL]))
        await published(client, EXTERNAL)
        serve(plane, "web", {"ip": BALANCER}, {"ip": "198.51.100.66", "ipMode": "Proxy"})
        await published(client, BALANCER, EXTERNAL)
        settings = {"spec": {"serviceAddresses": ["LoadBalancer"]}}
        await client.patch(SpiderCoordinator, "default", settings)
        await published(client, BALANCER)
        await client.patch(SpiderCoordinator, "default", {"spec": {"serviceAddresses": None}})
        await published(client, BALANCER, EXTERNAL)
        plane.apply(objects({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "taken"}}))
        addresses = {"status": {"addresses": [{"type": "InternalIP", "address": EXTERNAL}]}}
        plane.kubectl("patch", "node", "taken", "--subresource=status", "-p", json.dumps(addresses))
        await published(client, BALANCER)
        plane.kubectl("delete", "node", "taken")
        await published(client, BALANCER, EXTERNAL)
    finally:
        plane.kubectl("delete", "service", "web", "--ignore-not-found")
        plane.kubectl("delete", "node", "taken", "--ignore-not-found")
    await published(client)


async def test_an_external_ip_beside_pods_gets_an_event_instead(client: Client, control_plane: ControlPlane) -> None:
    spec = {"subnet": "10.77.0.0/24", "ips": ["10.77.0.10-10.77.0.20"], "gateway": "10.77.0.1"}
    kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool", "metadata": {"name": "beside"}}
    control_plane.apply(objects({**kind, "spec": spec}))
    try:
        control_plane.apply(service("thief", externalIPs=["10.77.0.200", "10.77.0.201"]))
        control_plane.apply(service("honest", externalIPs=[EXTERNAL]))

        async def reported() -> list[int | None]:
            """How often it was said of the first address, by Event."""
            return [
                event.count
                for event in await client.list(Event, namespace="default")
                if event.involvedObject.name == "thief"
                and "pods do not reach 10.77.0.200 through their node" in event.message
                and "the subnet of pool beside" in event.message
            ]

        await eventually(reported, timeout=PATIENCE)
        await published(client, EXTERNAL)
        control_plane.apply(
            service("other", externalIPs=["203.0.113.251"])
        )  # another pass, which has nothing new to say
        await published(client, EXTERNAL, "203.0.113.251")
        assert await reported() == [1]
    finally:
        control_plane.kubectl("delete", "service", "thief", "honest", "other", "--ignore-not-found")
        control_plane.kubectl("delete", "spiderippool", "beside")
