"""The allocator's histories on the real record store: `kube.records`, the real client, a pretend API server."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis.stateful import rule

from spiderpool.api.ip import SpiderIP
from spiderpool.kube.records import NodeRecords
from tests.agent.test_allocator_histories import Histories, pytestmark
from tests.support.api_server import ApiServer, Fault

__all__ = ["pytestmark"]

TIMEOUT = 5.0


class Server:
    """The API server, as the histories look at their far end."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.server = ApiServer(SpiderIP.KIND)
        runner.run(self.server.start())
        self.server.hold_watches()

    @property
    def objects(self) -> dict[str, SpiderIP]:
        return self.server.stored(SpiderIP)

    @property
    def faults(self) -> list[str]:
        raise AttributeError("faults are for the server")

    @faults.setter
    def faults(self, faults: list[str]) -> None:
        """What happens to the next writes: nothing, or the loss of a message."""
        self.server.clear_faults()
        for verb in ("create", "replace", "delete"):
            for fault in faults:
                lost = fault.removeprefix("lost ")
                self.server.inject(Fault(verb, lose_answer=lost == "answer", lose_request=lost == "request"))


class Records(NodeRecords):
    """One node's records, with a watch of its own whose events come when they are delivered."""

    def __init__(self, far: Server, node: str) -> None:
        self.far = far
        self.node = node
        far.runner.run(self._start())

    @property
    def known(self) -> dict[str, SpiderIP]:
        return {record.name: record for record in self.informer.items()}

    def deliver(self) -> None:
        self.far.runner.run(self._catch_up())

    def stop(self) -> None:
        self.far.runner.run(self._stop())

    async def _start(self) -> None:
        self.client = self.far.server.client()
        super().__init__(self.client, self.node)
        self.task = asyncio.create_task(self.informer.run())
        await self.informer.synced(TIMEOUT)

    async def _catch_up(self) -> None:
        self.far.server.release_watches()
        async with asyncio.timeout(TIMEOUT):
            while self.known != self._stored():
                await asyncio.sleep(0.001)
        self.far.server.hold_watches()

    async def _stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.client.close()

    def _stored(self) -> dict[str, SpiderIP]:
        return {name: record for name, record in self.far.objects.items() if record.spec.node == self.node}


class RealHistories(Histories):
    """Random ADD, DEL, restart, late events and lost messages, by real HTTP requests."""

    @rule()
    def land(self) -> None:
        """This server does at once what it does at all."""

    def new_store(self) -> Server:
        return Server(self.runner)

    def new_view(self, node: str) -> Records:
        if node in self.views:
            self.views[node].stop()
        return Records(self.store, node)

    def close(self) -> None:
        for view in self.views.values():
            view.stop()
        self.runner.run(self.store.server.stop())
        super().close()


RealHistories.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None, derandomize=True)
TestRealHistories = RealHistories.TestCase
