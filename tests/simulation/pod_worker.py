"""What a simulated kubelet does for one pod: its sandboxes, its status, its end."""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from spiderpool.core.network.plumbing.steps import AddAddress
from spiderpool.errors import SpiderpoolError
from tests.simulation.kernel import Namespace
from tests.simulation.sandbox import Sandbox
from tests.support.api_store import Body

if TYPE_CHECKING:
    from tests.simulation.node import Kubelet


class PodWorker:
    """What a kubelet does for one pod."""

    def __init__(self, kubelet: Kubelet, uid: str, key: str, *, static: bool) -> None:
        self.kubelet = kubelet
        self.uid = uid
        self.key = key
        self.static = static
        self.changed = asyncio.Event()
        self.crashed = False
        self.finished = ""
        """The final phase, once the containers are to end by themselves."""
        self.stop_seconds: float | None = None
        """How long the containers take to stop; None: drawn."""
        self.sandbox: Sandbox | None = None
        self.namespace: Namespace | None = None
        self._cluster = kubelet.cluster
        self._random = kubelet.random
        self._node = kubelet.node

    @property
    def ending(self) -> bool:
        """Whether the pod is to end, as far as the kubelet knows."""
        if self.static:
            return self.uid not in self._node.statics
        body = self.kubelet.view.get(self.uid)
        return body is None or "deletionTimestamp" in body["metadata"]

    async def run(self) -> None:
        """The life of the pod on this node."""
        former = self.kubelet.former(self.uid)
        if former is not None:
            await self._restart(former)
        while not self.ending and not self.finished:
            if self.namespace is None and not await self._start():
                await self._wait(self._random.uniform(1.0, 15.0))
                continue
            await self._wait()
            if self.crashed and not self.ending and not self.finished:
                await self._replace()
        await self._stop()
        self.kubelet.workers.pop(self.uid, None)
        self.kubelet.wake()

    async def _wait(self, seconds: float | None = None) -> None:
        """Until something has changed that matters, or for so long."""
        deadline = None if seconds is None else self._cluster.loop.time() + seconds
        while not (self.ending or self.finished or (self.crashed and self.namespace)):
            self.changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self.changed.wait()
            except TimeoutError:
                return

    # --- sandboxes

    async def _start(self) -> bool:
        """A new sandbox; whether it is attached."""
        sandbox = Sandbox(self.key, self.uid, self.kubelet.container())
        namespace = self.kubelet.node.kernel.create(sandbox.container, self.key, self.uid)
        result, error = await self._add(sandbox, namespace)
        if error:
            await self._delete(sandbox, namespace)
            self._node.kernel.destroy(namespace)
            return False
        namespace.attached = True
        self.crashed = False
        self.sandbox = Sandbox(self.key, self.uid, sandbox.container, result)
        self.namespace = namespace
        self._node.disk[sandbox.container] = self.sandbox
        ips = [str(ip_interface(each["address"]).ip) for each in result["ips"]]
        self._cluster.checks.attached(namespace, ips)
        self.kubelet.spawn(self._report({"phase": "Running", "podIPs": [{"ip": ip} for ip in ips]}, running=True))
        return True

    async def _add(self, sandbox: Sandbox, namespace: Namespace) -> tuple[Any, str]:
        if not self._cluster.ipam_only:
            return await self.kubelet.call("ADD", sandbox, namespace.path)
        self._node.kernel.create_link(namespace, "eth0")
        result, error = await self.kubelet.call("ADD", sandbox, namespace.path)
        if error:
            return result, error
        await asyncio.sleep(self._random.uniform(0.001, 0.02))
        try:
            for each in result["ips"]:
                self._node.kernel.add_address(namespace, AddAddress("pod", "eth0", ip_interface(each["address"])))
        except SpiderpoolError as refused:
            await self.kubelet.call("DEL", sandbox, namespace.path)
            return None, f"plugin ipvlan: {refused}"
        return result, error

    async def _delete(self, sandbox: Sandbox, namespace: Namespace) -> str:
        """DEL of a sandbox that ends; the error or an empty text."""
        namespace.ending = True
        _, error = await self.kubelet.call("DEL", sandbox, namespace.path, sandbox.result)
        if not error and self._cluster.ipam_only:
            self._node.kernel.delete_link(namespace, "eth0")
        return error

    async def _restart(self, former: Sandbox) -> None:
        """After a reboot: the former sandbox is taken away before the next one comes, or much later."""
        if self._random.random() < 0.7:
            await self.kubelet.late_delete(former, 0.0)
        for after in (self._random.uniform(3.0, 30.0), self._random.uniform(30.0, 300.0)):
            self.kubelet.spawn(self.kubelet.late_delete(former, after, prev_result=False))
        self._node.disk.pop(former.container, None)

    async def _replace(self) -> None:
        """The sandbox has died: another one takes its place."""
        assert self.sandbox
        assert self.namespace
        sandbox, namespace = self.sandbox, self.namespace
        self.sandbox = self.namespace = None
        self.crashed = False
        await self._delete(sandbox, namespace)
        self._take_away(sandbox, namespace)

    def _take_away(self, sandbox: Sandbox, namespace: Namespace) -> None:
        """The namespace goes, and two more DELs come some time later."""
        self._node.kernel.destroy(namespace)
        self._node.disk.pop(sandbox.container, None)
        latest = 900.0 if self._random.random() < 0.2 else 30.0
        for after in (self._random.uniform(3.0, 30.0), self._random.uniform(3.0, latest)):
            self.kubelet.spawn(self.kubelet.late_delete(sandbox, after, prev_result=False))

    # --- the end

    async def _stop(self) -> None:
        """The containers end, then the sandbox, then the pod's object."""
        seconds = self.stop_seconds if self.stop_seconds is not None else self._random.expovariate(0.2)
        await asyncio.sleep(min(seconds, self._cluster.longest_stop))
        if self.sandbox and self.namespace:
            while await self._delete(self.sandbox, self.namespace):
                await asyncio.sleep(self._random.uniform(1.0, 10.0))
            self._take_away(self.sandbox, self.namespace)
            self.sandbox = self.namespace = None
        if self.static:
            await self.kubelet.reach()
            self._cluster.unmirror(self.key, self.uid)
            return
        if self.finished:
            await self._report({"phase": self.finished}, running=False)
        if self.ending:
            await self.kubelet.reach()
            await asyncio.sleep(self._random.uniform(0.0, 1.0))
            self._cluster.finish_deletion(self.key, self.uid)
            self.kubelet.view.pop(self.uid, None)

    async def _report(self, status: Body, *, running: bool) -> None:
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        await self.kubelet.reach()
        if running and (self.finished or self.namespace is None):
            return
        state: Body = {"running": {}} if running else {}
        self._cluster.report(self.key, self.uid, {**status, "containerStatuses": [{"state": state}]})
