"""Faults of a node as Events: none is lost before it is told, and none is forgotten while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from spiderpool.agent.node_faults import NodeFaults
from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.doctor.checks_networks import FRESH
from spiderpool.kube import events
from spiderpool.kube.events import AGAIN, Recorder
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

NODE = Node(metadata=ObjectMeta(name="n1", uid="u"))
FAULT = event_reasons.NODE_NETWORK_FAULT
HOUR = 3600
LOOK = 60


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(Event.KIND) as server:
        yield server


@asynccontextmanager
async def writing(recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def told(server: ApiServer) -> dict[str, int | None]:
    return {event.message or "": event.count for event in server.stored(Event).values()}


async def test_what_is_found_before_the_node_is_known_is_told_once_it_is(server: ApiServer) -> None:
    nodes: dict[str, Node] = {}
    async with server.client() as client:
        recorder = Recorder(client, "tests")
        faults = NodeFaults(lambda: nodes.get("n1"), recorder)
        faults.look(FAULT, {"a": "eth1 filters"}, 0.0)
        nodes["n1"] = NODE
        async with writing(recorder):
            for now in (60.0, 120.0):
                faults.look(FAULT, {"a": "eth1 filters"}, now)
            await eventually(lambda: told(server) == {"eth1 filters": 1})


async def test_what_finds_no_place_among_other_events_is_told_later(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUEUE", 1)
    async with server.client() as client:
        recorder = Recorder(client, "tests")
        faults = NodeFaults(lambda: NODE, recorder)
        both = {"a": "eth1 filters", "b": "eth2 filters"}
        faults.look(FAULT, both, 0.0)
        async with writing(recorder):
            await eventually(lambda: len(told(server)) == 1)
            faults.look(FAULT, both, 60.0)
            await eventually(lambda: told(server) == {"eth1 filters": 1, "eth2 filters": 1})


async def test_a_fault_that_lasts_is_told_again_before_doctor_finds_it_too_old(server: ApiServer) -> None:
    async with server.client() as client:
        recorder = Recorder(client, "tests")
        faults = NodeFaults(lambda: NODE, recorder)
        times: list[int] = []

        def is_counted() -> bool:
            return told(server) == {"eth1 filters": len(times)}

        async with writing(recorder):
            for now in range(0, 4 * HOUR, LOOK):
                faults.look(FAULT, {"a": "eth1 filters"}, float(now))
                await asyncio.sleep(0)
                if now % AGAIN == 0:
                    times.append(now)
                    await eventually(is_counted)
            assert is_counted(), "no look but these told it"
        assert max(later - sooner for sooner, later in pairwise(times)) < FRESH


async def test_a_fault_that_was_gone_is_told_anew(server: ApiServer) -> None:
    async with server.client() as client:
        recorder = Recorder(client, "tests")
        faults = NodeFaults(lambda: NODE, recorder)
        for now, found in enumerate(({"a": "x"}, {}, {"a": "x"}, {"a": "x"})):
            faults.look(FAULT, found, float(now))
        faults.look(event_reasons.POD_ADDRESS_ON_NODE, {"a": "y"}, 4.0)
        faults.look(FAULT, {"a": "x"}, 5.0)
        async with writing(recorder):
            await eventually(lambda: told(server) == {"x": 2, "y": 1})
