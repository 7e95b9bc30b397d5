"""The namespace of tests that ask for addresses, and what they do with it through the real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent

NAMESPACE = "asking"
BOTH = "enableIPv6: true\n"
PREFIX = "ipam.spidernet.io"


class AddressCluster:
    """The API server with one namespace for the test, and what tests do with it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            self.plane.apply(json.dumps(each))

    def pool(self, name: str, ips: str, **spec: Any) -> None:
        subnet = "fd09::/64" if ":" in ips else "10.9.0.0/16"
        gateway = "fd09::ff" if ":" in ips else "10.9.255.254"
        version = 6 if ":" in ips else 4
        fields = {"subnet": subnet, "ipVersion": version, "ips": [ips], "gateway": gateway} | spec
        self.apply(spiderpool_object("SpiderIPPool", name, fields))

    def pod(self, name: str, annotations: dict[str, Any] | None = None, node: str = "n1") -> str:
        """Make a pod; its UID. There need be no Node, but Kubernetes deletes the pods of one that is missing soon."""
        written = {key: _text(value) for key, value in (annotations or {}).items()}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "annotations": written},
                "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [_CONTAINER]},
            }
        )
        return self.uid(name)

    def uid(self, name: str) -> str:
        return self.plane.kubectl("get", "pod", "-n", NAMESPACE, name, "-o", "jsonpath={.metadata.uid}").strip()

    def reserve(self, ips: str) -> None:
        self.apply(spiderpool_object("SpiderReservedIP", "mine", {"ipVersion": 4, "ips": [ips]}))

    def delete_pod(self, name: str) -> None:
        self.plane.kubectl("delete", "pod", "-n", NAMESPACE, name, "--force", "--grace-period=0", "--wait=true")

    def records(self) -> dict[str, dict[str, Any]]:
        items = json.loads(self.plane.kubectl("get", "spiderips", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each["spec"] for each in items}

    def events(self, name: str) -> str:
        return self.plane.kubectl("get", "events", "-n", NAMESPACE, "--field-selector", f"involvedObject.name={name}")


_CONTAINER = {"name": "c", "image": "none"}


def spiderpool_object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def add(agent: LocalAgent, name: str, uid: str, interface: str = "eth0") -> dict[str, Any]:
    return await agent.address("ADD", NAMESPACE, name, uid, interface)


async def served(agent: LocalAgent, name: str, uid: str) -> dict[str, Any]:
    """The answer once it is no refusal: the agent's own watch may be late."""

    async def granted() -> dict[str, Any] | None:
        answer = await add(agent, name, uid)
        return answer if "ips" in answer else None

    return await eventually(granted) or {}


def addresses(answer: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in answer["ips"]]


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition that takes the time of a program."""
    await eventually(lambda: asyncio.to_thread(condition), timeout=seconds, interval=0.2)


def statefulset(replicas: int, annotations: dict[str, Any] | None = None) -> dict[str, Any]:
    written = {key: _text(value) for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": written},
                "spec": {"containers": [_CONTAINER], "terminationGracePeriodSeconds": 0},
            },
        },
    }


async def next_pod(cluster: AddressCluster, node: str, before: str = "") -> str:
    """UID of the pod that the StatefulSet's controller makes after ``before``, once it is bound to a node."""

    def found() -> str:
        listed = json.loads(cluster.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
        return next((each["metadata"]["uid"] for each in listed if each["metadata"]["uid"] != before), "")

    await until(found)
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web-0"}, "target": {"name": node}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/web-0/binding"
    cluster.plane.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(binding))
    return found()
