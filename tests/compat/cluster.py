"""A cluster with agents, for tests: creates and finds pods, calls CNI as a container runtime does, reads objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from spiderpool.api.cni import CNICall
from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.kube.client import Client, NotFound
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, ipam_call

TIMEOUT = 40.0
"""Seconds to wait for a condition; long, because the machine may be busy with other tests."""

CAPACITY = {"cpu": "64", "memory": "64Gi", "pods": "500", "example.com/rail_1": "8", "example.com/rail_2": "8"}
"""Capacity that the nodes report to the scheduler."""

POLL_INTERVAL = 0.1
"""Seconds between two checks of a condition."""

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """A control plane whose nodes have agents, by the name of the node."""

    plane: ControlPlane
    client: Client
    agents: Mapping[str, LocalAgent]

    async def heartbeat(self) -> None:
        """Report all nodes as ready, as kubelets do."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        status = {"conditions": [ready], "capacity": CAPACITY, "allocatable": CAPACITY}
        for name in self.agents:
            await self.client.patch(Node, name, {"status": status}, sub="status")

    async def pod(self, key: str) -> Pod:
        """A pod by ``namespace/name``. Waits until it is scheduled."""
        namespace, _, name = key.rpartition("/")
        return (await self.pods(namespace, fields=f"metadata.name={name}"))[0]

    async def pods(
        self, namespace: str = "default", count: int = 1, *, labels: str | None = None, fields: str | None = None
    ) -> list[Pod]:
        """Pods by selector. Waits until there are exactly ``count`` and all are scheduled."""
        found: list[Pod] = []

        async def all_scheduled() -> bool:
            found[:] = await self.client.list(Pod, namespace, labels=labels, fields=fields)
            found[:] = [pod for pod in found if not pod.terminating]
            return len(found) == count and all(pod.spec.nodeName for pod in found)

        await until(all_scheduled, f"{count} pods {labels or fields} on nodes, of {[pod.name for pod in found]}")
        return sorted(found, key=lambda pod: pod.name)

    async def create_pod(self, manifest: JSONObject, key: str, **changes: Any) -> Pod:
        """Create a pod from the manifest of a pod or workload, with another name and changes. Waits until scheduled."""
        template = manifest["spec"].get("template", manifest)
        metadata = template["metadata"] | changes.pop("metadata", {})
        namespace, _, name = key.rpartition("/")
        body = {"metadata": metadata | {"name": name, "namespace": namespace}, "spec": template["spec"] | changes}
        await self.client.apply(Pod, body, name, namespace)
        return await self.pod(key)

    def owner(self, resource: str) -> JSONObject:
        """An ownerReference to an object such as ``statefulsets/db``, as the controller of a pod."""
        found = json.loads(self.plane.kubectl("get", resource, "-o", "json"))
        metadata = found["metadata"]
        reference = {"apiVersion": found["apiVersion"], "kind": found["kind"], "controller": True}
        return reference | {"name": metadata["name"], "uid": metadata["uid"]}

    @asynccontextmanager
    async def cordoned(self, node: str) -> AsyncIterator[None]:
        """Keep new pods off a node while the context is open."""
        await self.client.patch(Node, node, {"spec": {"unschedulable": True}})
        try:
            yield
        finally:
            await self.client.patch(Node, node, {"spec": {"unschedulable": False}})

    async def wait_for_successor(self, former: Pod) -> Pod:
        """The next pod with the name of a deleted pod. Waits until it is scheduled."""

        async def is_recreated() -> bool:
            found = await self.client.list(Pod, former.metadata.namespace, fields=f"metadata.name={former.name}")
            return any(pod.metadata.uid != former.metadata.uid for pod in found)

        await until(is_recreated, f"the next {former.key}")
        return await self.pod(former.key)

    async def delete_pods(self, labels: str, *interfaces: str) -> None:
        """Delete pods by labels and release their addresses, until there are no more."""

        async def all_deleted() -> bool:
            found = await self.client.list(Pod, "default", labels=labels)
            await asyncio.gather(*(self._delete_and_release(pod, *interfaces) for pod in found))
            return not found

        await until(all_deleted, f"deletion of pods {labels}")

    async def _delete_and_release(self, pod: Pod, *interfaces: str) -> None:
        with suppress(NotFound):
            await self.delete_pod(pod)
        if pod.spec.nodeName:
            await self.release(pod, *interfaces)

    async def delete_pod(self, pod: Pod) -> None:
        """Delete the object of a pod, as the kubelet does before the runtime removes the interfaces."""
        await self.client.delete(Pod, pod.name, pod.metadata.namespace, grace=0)

    async def try_add(self, pod: Pod, interface: str = "eth0", network: str | None = None) -> JSONObject:
        """Call CNI ADD on the node of a pod, with the configuration of ``network``. Returns the result or the error."""
        return await self._call("ADD", pod, interface, network)

    async def add(self, pod: Pod, interface: str = "eth0", network: str | None = None) -> JSONObject:
        """Call CNI ADD until it succeeds, because the agent may see new objects late. Returns the result."""
        answers: list[JSONObject] = []

        async def is_allocated() -> bool:
            answers[:] = [await self.try_add(pod, interface, network)]
            return "ips" in answers[0]

        try:
            await until(is_allocated, f"addresses of {interface} of {pod.key}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {answers}") from None
        return answers[0]

    async def release(self, pod: Pod, *interfaces: str) -> None:
        """Call CNI DEL for interfaces of a pod."""
        for interface in interfaces or ("eth0",):
            assert await self._call("DEL", pod, interface, None) == {}

    async def _call(self, command: str, pod: Pod, interface: str, network: str | None) -> JSONObject:
        identity = (pod.metadata.namespace or "", pod.name, pod.metadata.uid or "", interface)
        call = ipam_call(command, *identity)
        if network:
            call = CNICall(call.plugin, call.environment, await self._plugin(network))
        return await self.agents[pod.spec.nodeName or ""].call(call)

    async def _plugin(self, network: str) -> bytes:
        """The configuration of the first plugin with an IPAM section, as a runtime passes it to the plugin."""
        config = json.loads(await self.config(network))
        plugin = next(item for item in config["plugins"] if "ipam" in item)
        return json.dumps(plugin | {"name": config["name"], "cniVersion": config["cniVersion"]}).encode()

    async def config(self, network: str) -> str:
        """The CNI configuration of a network. Waits for its NetworkAttachmentDefinition."""
        namespace, _, name = network.rpartition("/")

        async def exists() -> bool:
            try:
                await self.client.get(NetworkAttachmentDefinition, name, namespace)
            except NotFound:
                return False
            return True

        await until(exists, f"NetworkAttachmentDefinition {network}")
        found = await self.client.get(NetworkAttachmentDefinition, name, namespace)
        return (found.spec.config if found.spec else None) or ""

    async def ips_of(self, pod: Pod) -> list[SpiderIP]:
        """The SpiderIPs of a pod."""
        return [record for record in await self.client.list(SpiderIP) if record.spec.podUID == pod.metadata.uid]

    async def endpoint(self, pod: Pod) -> SpiderEndpoint:
        """The SpiderEndpoint of a pod. Waits until it lists all addresses of the pod."""
        found: list[SpiderEndpoint] = []
        expected = {record.spec.address for record in await self.ips_of(pod)}

        async def complete() -> bool:
            with suppress(NotFound):
                found[:] = [await self.client.get(SpiderEndpoint, pod.name, pod.metadata.namespace)]
                return _belongs_to(found[0], pod) and set(_addresses(found[0])) == expected
            return False

        await until(complete, f"SpiderEndpoint of {pod.key}")
        return found[0]

    async def pools(self, labels: str) -> list[SpiderIPPool]:
        """Pools by labels, sorted by name."""
        return sorted(await self.client.list(SpiderIPPool, labels=labels), key=lambda pool: pool.name)


def _belongs_to(endpoint: SpiderEndpoint, pod: Pod) -> bool:
    return endpoint.status is not None and endpoint.status.current.uid == pod.metadata.uid


def _addresses(endpoint: SpiderEndpoint) -> list[str]:
    assert endpoint.status is not None
    return [text for detail in endpoint.status.current.ips for text in (detail.ipv4, detail.ipv6) if text]


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until a condition holds. Raises AssertionError with ``what`` after ``seconds``."""
    await eventually(condition, what, timeout=seconds, interval=POLL_INTERVAL)


def addresses(answer: JSONObject) -> list[str]:
    """The addresses of a CNI result without prefix lengths. Fails with the message of an error."""
    assert "ips" in answer, answer.get("msg", answer)
    return [ip["address"].partition("/")[0] for ip in answer["ips"]]


def is_within(address: str, text: str) -> bool:
    """Whether an address is in a range ``a-b`` or equals a single address."""
    first, _, last = text.partition("-")
    return ip_address(first).packed <= ip_address(address).packed <= ip_address(last or first).packed
