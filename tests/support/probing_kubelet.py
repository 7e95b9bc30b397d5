"""The kubelet of a node of which only the API server knows: it runs the programs of a connectivity test's pods here.

Each pod has an address of its own in 127.0.0.0/8, which stands for its network.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from spiderpool.api.core_v1 import Node, Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.connectivity import objects, prober
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool_lab.certificates import Authority

INTERVAL = 0.3


@dataclass(slots=True)
class ProbingKubelet:
    """A node and the programs of its pods; none without ``starts_pods``."""

    client: Client
    name: str
    directory: Path
    network: str
    """The first three bytes of its addresses; 1 is the node's, pods have the following ones."""
    starts_pods: bool = True
    pods: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    asked_lines: list[int] = field(default_factory=list)
    """How many lines of a log were asked for, each time."""
    listens_after: float = 0.0
    """Seconds after which programs begin though their pods run before."""
    _addresses: dict[str, str] = field(default_factory=dict)
    _last: int = 1

    @property
    def address(self) -> str:
        """That of the node."""
        return f"{self.network}.1"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a node while the context lasts."""
        runner = web.AppRunner(self._application())
        await runner.setup()
        site = web.TCPSite(runner, self.address, 0, ssl_context=_certificate(self.address, self.directory))
        await site.start()
        port = runner.addresses[0][1]
        await self.client.create(Node(metadata=ObjectMeta(name=self.name)))
        status = {
            "addresses": [{"type": "InternalIP", "address": self.address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self.client.patch(Node, self.name, {"status": status}, sub="status")
        await self._report_ready()
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            for uid in tuple(self.pods):
                await self._end(uid)
            await self.client.delete(Node, self.name)
            await runner.cleanup()

    def _application(self) -> web.Application:
        async def log(request: web.Request) -> web.Response:
            file = self.directory / f"{request.match_info['pod']}.log"
            lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
            self.asked_lines.append(int(request.query["tailLines"]))
            return web.Response(body=b"".join(lines[-self.asked_lines[-1] :]))

        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", log)
        return application

    async def _report_ready(self) -> None:
        """As often as a slow machine needs it: a node that says nothing is taken for lost."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now}
        await self.client.patch(Node, self.name, {"status": {"conditions": [ready]}}, sub="status")

    async def _work(self) -> None:
        while True:
            with suppress(SpiderpoolError):  # a pod that has gone meanwhile
                await self._report_ready()
                for pod in await self.client.list(objects.ProbePodObject, fields=f"spec.nodeName={self.name}"):
                    await self._look_after(pod)
            await asyncio.sleep(INTERVAL)

    async def _look_after(self, pod: objects.ProbePodObject) -> None:
        uid = pod.metadata.uid or ""
        if pod.terminating:
            await self._end(uid)
            await self.client.delete(Pod, pod.name, pod.metadata.namespace, grace=0)
        elif not self.starts_pods:
            return
        elif uid not in self.pods:
            await self._start(pod, uid)
        else:
            self._write_questions(pod)

    def _write_questions(self, pod: objects.ProbePodObject) -> None:
        """They are put from the pod's address, which elsewhere its routes choose."""
        text = (pod.metadata.annotations or {}).get(objects.QUESTIONS)
        if text is None:
            return
        work = json.loads(text)
        work["questions"] = [{"bind": self._addresses[pod.metadata.uid or ""], **each} for each in work["questions"]]
        fresh = self._file(pod).with_suffix(".new")
        fresh.write_text(json.dumps(work))
        fresh.rename(self._file(pod))

    def _file(self, pod: objects.ProbePodObject) -> Path:
        return self.directory / f"{pod.name}.questions"

    async def _start(self, pod: objects.ProbePodObject, uid: str) -> None:
        (container,) = pod.spec["containers"]
        name, port, _, token, measured, *addresses = container["args"]
        if not addresses:
            self._last += 1
            addresses = [f"{self.network}.{self._last}"]
        self._addresses[uid] = addresses[0]
        self._file(pod).unlink(missing_ok=True)  # of a pod of that name in an earlier test
        with (self.directory / f"{pod.name}.log").open("wb") as output:
            words = [name, port, str(self._file(pod)), token, measured, *addresses]
            command = [sys.executable, "-I", prober.__file__, *words]
            wait = ["sh", "-c", f'sleep {self.listens_after}; exec "$@"', "sh"] if self.listens_after else []
            self.pods[uid] = await asyncio.create_subprocess_exec(*wait, *command, stdout=output)
        state = {"name": container["name"], "state": {"running": {}}, "ready": True, "restartCount": 0}
        status = {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": addresses[0]}],
            "containerStatuses": [{**state, "image": "", "imageID": ""}],
        }
        await self.client.patch(Pod, pod.name, {"status": status}, pod.metadata.namespace, sub="status")

    async def _end(self, uid: str) -> None:
        process = self.pods.pop(uid, None)
        if process is not None and process.returncode is None:
            process.terminate()
            await process.wait()


def _certificate(address: str, directory: Path) -> ssl.SSLContext:
    pair = Authority.create("kubelet").server([address])
    file = directory / "kubelet.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context
