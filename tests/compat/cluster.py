"""What tests do with the cluster: find pods, ask for their addresses as a container runtime does, and read on."""

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
from tests.support.local_agent import LocalAgent, ipam_call

PATIENCE = 40.0
"""Seconds; the machine may be busy with other tests."""

CAPACITY = {"cpu": "64", "memory": "64Gi", "pods": "500", "example.com/rail_1": "8", "example.com/rail_2": "8"}
"""What the scheduler believes of a node."""

POLL = 0.1
"""Seconds between two looks at a condition."""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A cluster with agents."""

    plane: ControlPlane
    client: Client
    agents: Mapping[str, LocalAgent]

    async def heartbeat(self) -> None:
        """Say that the nodes are ready, as kubelets do."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        status = {"conditions": [ready], "capacity": CAPACITY, "allocatable": CAPACITY}
        for name in self.agents:
            await self.client.patch(Node, name, {"status": status}, sub="status")

    async def pod(self, key: str) -> Pod:
        """A pod by ``namespace/name``, once it is on a node."""
        namespace, _, name = key.rpartition("/")
        return (await self.pods(namespace, fields=f"metadata.name={name}"))[0]

    async def pods(
        self, namespace: str = "default", count: int = 1, *, labels: str | None = None, fields: str | None = None
    ) -> list[Pod]:
        """So many pods by selector, once they are on nodes."""
        found: list[Pod] = []

        async def placed() -> bool:
            found[:] = await self.client.list(Pod, namespace, labels=labels, fields=fields)
            found[:] = [pod for pod in found if not pod.terminating]
            return len(found) == count and all(pod.spec.nodeName for pod in found)

        await until(placed, f"{count} pods {labels or fields} on nodes, of {[pod.name for pod in found]}")
        return sorted(found, key=lambda pod: pod.name)

    async def make_pod(self, manifest: Answer, key: str, **changes: Any) -> Pod:
        """A pod as a manifest has it (a pod's or a workload's template), under another name and with changes."""
        template = manifest["spec"].get("template", manifest)
        metadata = template["metadata"] | changes.pop("metadata", {})
        namespace, _, name = key.rpartition("/")
        body = {"metadata": metadata | {"name": name, "namespace": namespace}, "spec": template["spec"] | changes}
        await self.client.apply(Pod, body, name, namespace)
        return await self.pod(key)

    def owner(self, resource: str) -> Answer:
        """A reference by which an object is a pod's controller, as in ``statefulsets/db``."""
        found = json.loads(self.plane.kubectl("get", resource, "-o", "json"))
        metadata = found["metadata"]
        reference = {"apiVersion": found["apiVersion"], "kind": found["kind"], "controller": True}
        return reference | {"name": metadata["name"], "uid": metadata["uid"]}

    @asynccontextmanager
    async def cordoned(self, node: str) -> AsyncIterator[None]:
        """Keep new pods off a node."""
        await self.client.patch(Node, node, {"spec": {"unschedulable": True}})
        try:
            yield
        finally:
            await self.client.patch(Node, node, {"spec": {"unschedulable": False}})

    async def successor(self, former: Pod) -> Pod:
        """The next pod of a name, once it is on a node."""

        async def there() -> bool:
            found = await self.client.list(Pod, former.metadata.namespace, fields=f"metadata.name={former.name}")
            return any(each.metadata.uid != former.metadata.uid for each in found)

        await until(there, f"the next {former.key}")
        return await self.pod(former.key)

    async def end_pods(self, labels: str, *interfaces: str) -> None:
        """End pods by labels, and tell the agents, until there are no more."""

        async def gone() -> bool:
            found = await self.client.list(Pod, "default", labels=labels)
            await asyncio.gather(*(self._end(pod, *interfaces) for pod in found))
            return not found

        await until(gone, f"the end of pods {labels}")

    async def _end(self, pod: Pod, *interfaces: str) -> None:
        with suppress(NotFound):
            await self.delete_pod(pod)
        if pod.spec.nodeName:
            await self.remove(pod, *interfaces)

    async def delete_pod(self, pod: Pod) -> None:
        """End a pod as the kubelet does: its object goes, then its interfaces."""
        await self.client.delete(Pod, pod.name, pod.metadata.namespace, grace=0)

    async def add(self, pod: Pod, interface: str = "eth0", network: str | None = None) -> Answer:
        """Ask for a pod's addresses on its node; ``network`` is the NetworkAttachmentDefinition that asks."""
        return await self._call("ADD", pod, interface, network)

    async def served(self, pod: Pod, interface: str = "eth0", network: str | None = None) -> Answer:
        """As :meth:`add`, once it is no refusal: what an agent watches may come late."""
        answers: list[Answer] = []

        async def given() -> bool:
            answers[:] = [await self.add(pod, interface, network)]
            return "ips" in answers[0]

        try:
            await until(given, f"addresses of {interface} of {pod.key}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {answers}") from None
        return answers[0]

    async def remove(self, pod: Pod, *interfaces: str) -> None:
        """Tell the agent that a pod's interfaces are gone."""
        for interface in interfaces or ("eth0",):
            assert await self._call("DEL", pod, interface, None) == {}

    async def _call(self, command: str, pod: Pod, interface: str, network: str | None) -> Answer:
        identity = (pod.metadata.namespace or "", pod.name, pod.metadata.uid or "", interface)
        call = ipam_call(command, *identity)
        if network:
            call = CNICall(call.plugin, call.environment, await self._plugin(network))
        return await self.agents[pod.spec.nodeName or ""].call(call)

    async def _plugin(self, network: str) -> bytes:
        """The configuration of a network's first plugin with an IPAM block, as a runtime hands it over."""
        config = json.loads(await self.config(network))
        plugin = next(each for each in config["plugins"] if "ipam" in each)
        return json.dumps(plugin | {"name": config["name"], "cniVersion": config["cniVersion"]}).encode()

    async def config(self, network: str) -> str:
        """The configuration of a network, once its NetworkAttachmentDefinition is there."""
        namespace, _, name = network.rpartition("/")

        async def there() -> bool:
            try:
                await self.client.get(NetworkAttachmentDefinition, name, namespace)
            except NotFound:
                return False
            return True

        await until(there, f"NetworkAttachmentDefinition {network}")
        found = await self.client.get(NetworkAttachmentDefinition, name, namespace)
        return (found.spec.config if found.spec else None) or ""

    async def held(self, pod: Pod) -> list[SpiderIP]:
        """The records of a pod."""
        return [each for each in await self.client.list(SpiderIP) if each.spec.podUID == pod.metadata.uid]

    async def endpoint(self, pod: Pod) -> SpiderEndpoint:
        """A pod's SpiderEndpoint, once it tells of this pod all that it holds."""
        found: list[SpiderEndpoint] = []
        held = {each.spec.address for each in await self.held(pod)}

        async def complete() -> bool:
            with suppress(NotFound):
                found[:] = [await self.client.get(SpiderEndpoint, pod.name, pod.metadata.namespace)]
                return _shows(found[0], pod) and set(_addresses(found[0])) == held
            return False

        await until(complete, f"SpiderEndpoint of {pod.key}")
        return found[0]

    async def pools(self, labels: str) -> list[SpiderIPPool]:
        """Pools by labels, by name."""
        return sorted(await self.client.list(SpiderIPPool, labels=labels), key=lambda pool: pool.name)


def _shows(endpoint: SpiderEndpoint, pod: Pod) -> bool:
    return endpoint.status is not None and endpoint.status.current.uid == pod.metadata.uid


def _addresses(endpoint: SpiderEndpoint) -> list[str]:
    assert endpoint.status is not None
    return [text for each in endpoint.status.current.ips for text in (each.ipv4, each.ipv6) if text]


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds. Fails with what was waited for."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"after {seconds:.0f} s still not there: {what}") from None


def addresses(answer: Answer) -> list[str]:
    """The addresses of an answer without prefix lengths. Fails with the refusal."""
    assert "ips" in answer, answer.get("msg", answer)
    return [each["address"].partition("/")[0] for each in answer["ips"]]


def is_within(address: str, text: str) -> bool:
    """Whether an address lies in a range ``a-b``."""
    first, _, last = text.partition("-")
    return ip_address(first).packed <= ip_address(address).packed <= ip_address(last or first).packed
