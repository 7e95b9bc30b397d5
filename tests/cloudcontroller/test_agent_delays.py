"""When addresses wait for an agent, and how often that is said."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import Instance
from spiderpool.cloudcontroller.agent_delays import REPORT_AFTER, AgentDelays
from spiderpool.cloudcontroller.eni_families import ENIFamily
from spiderpool.kube import events
from spiderpool.kube.events import AGAIN, Recorder
from tests.cloudcontroller.service_cluster import Clock
from tests.core.servers import ETH0
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

NODE = Node(metadata=ObjectMeta(name="n1", uid="uid-n1"))
FAMILIES = [ENIFamily(NODE, Instance("alibaba", "r", "z", "i-1", "type", (ETH0,)), ETH0, version) for version in (4, 6)]


async def test_a_node_is_reported_once_until_none_of_its_enis_waits() -> None:
    clock = Clock()
    async with ApiServer(Event.KIND) as server, server.client() as client:
        recorder = Recorder(client, "test")
        delays = AgentDelays(recorder, clock)

        def reports() -> list[str]:
            return sorted(event.message or "" for event in server.stored(Event).values())

        def wait(reason: str, seconds: float) -> None:
            clock.now += seconds
            for family in FAMILIES:
                delays.begin(family, reason)

        async with running(recorder.run()):
            for _ in range(4):
                wait("first", REPORT_AFTER / 2)
            await eventually(reports)
            delays.end(FAMILIES[0].key)
            wait("still", REPORT_AFTER)
            delays.retain(set())
            wait("second", REPORT_AFTER)
            wait("second", REPORT_AFTER)
            await eventually(lambda: len(reports()) == 2)
            await asyncio.sleep(0.05)
        assert [text.split(": ")[1].split(".")[0] for text in reports()] == ["first", "second"]
        assert all(f"ENI {ETH0.identity} stay registered" in text for text in reports())


async def test_a_wait_that_lasts_is_reported_again() -> None:
    clock = Clock()
    async with ApiServer(Event.KIND) as server, server.client() as client:
        recorder = Recorder(client, "test")
        delays = AgentDelays(recorder, clock)
        for _ in range(1 + int((REPORT_AFTER + AGAIN) / 60)):
            delays.begin(FAMILIES[0], "its agent is silent")
            clock.now += 60
        async with running(recorder.run()):
            await eventually(lambda: [each.count for each in server.stored(Event).values()] == [2])


async def test_a_report_that_finds_no_place_among_other_events_is_made_later_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(events, "QUEUE", 1)
    clock = Clock()
    async with ApiServer(Event.KIND) as server, server.client() as client:
        recorder = Recorder(client, "test")
        recorder.event(NODE, event_reasons.ACCOUNT_MISSING, "something else")
        delays = AgentDelays(recorder, clock)

        def wait() -> int:
            delays.begin(FAMILIES[0], "its agent is silent")
            clock.now += REPORT_AFTER
            return capsys.readouterr().out.count("agent does not know the pools")

        assert [wait() for _ in range(3)] == [0, 0, 0], "it has not been told"
        async with running(recorder.run()):
            await eventually(lambda: len(server.stored(Event)) == 1)
            assert [wait() for _ in range(3)] == [1, 0, 0]
            await eventually(lambda: len(server.stored(Event)) == 2)
