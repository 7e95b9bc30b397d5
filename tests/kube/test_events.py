"""Events: written in the background, counted when repeated, never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from spiderpool.api.core_v1 import ConfigMap, Event
from spiderpool.api.event_reasons import EventReason
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.kube import events
from spiderpool.kube.events import AGAIN, Recorder, Reminders
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]

POOL = SpiderIPPool(metadata=ObjectMeta(name="p", uid="u"), spec=IPPoolSpec("10.0.0.0/24"))
CONFIG = ConfigMap(metadata=ObjectMeta(name="c", namespace="ns", uid="v"))
MORE = ("Correct it.", "usage/page.md")
WRONG: EventReason[ConfigMap] = EventReason("Wrong", "The ConfigMap is.", *MORE)
OTHER: EventReason[ConfigMap] = EventReason("Other", "Something else is.", *MORE)
RIGHT: EventReason[SpiderIPPool] = EventReason("Right", "The pool is.", *MORE, type="Normal")
SAID: EventReason[SpiderIPPool] = EventReason("Said", "Something of the pool.", *MORE, type="Normal")
BROKEN: EventReason[SpiderIPPool] = EventReason("Broken", "The text is.", *MORE, type="Normal")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(Event.KIND) as server:
        yield server


@asynccontextmanager
async def recording(server: ApiServer, host: str = "") -> AsyncIterator[Recorder]:
    async with server.client() as client:
        recorder = Recorder(client, "tests", host)
        task = asyncio.create_task(recorder.run())
        try:
            yield recorder
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def stored(server: ApiServer) -> list[Event]:
    return list(server.stored(Event).values())


def counts(server: ApiServer) -> dict[str, int | None]:
    return {event.message or "": event.count for event in stored(server)}


async def test_an_event_names_object_source_and_namespace(server: ApiServer) -> None:
    async with recording(server, "n1") as recorder:
        recorder.event(CONFIG, WRONG, "correct it")
        recorder.event(POOL, RIGHT, "thanks")
        await eventually(lambda: len(stored(server)) == 2)
    wrong, right = sorted(stored(server), key=lambda event: event.reason, reverse=True)
    assert (wrong.type, wrong.reason, wrong.message, wrong.metadata.namespace) == (
        "Warning",
        "Wrong",
        "correct it",
        "ns",
    )
    assert (wrong.involvedObject.kind, wrong.involvedObject.name, wrong.involvedObject.uid) == ("ConfigMap", "c", "v")
    assert wrong.source is not None
    assert (wrong.source.component, wrong.source.host) == ("tests", "n1")
    assert right.metadata.namespace == "default", "events on cluster-scoped objects are in namespace default"


async def test_a_repeated_event_is_counted(server: ApiServer) -> None:
    async with recording(server) as recorder:
        for message in ("a", "b", "a", "a"):
            recorder.event(POOL, SAID, message)
        await eventually(lambda: counts(server) == {"a": 3, "b": 1})


async def test_an_event_that_the_server_has_forgotten_is_written_anew(server: ApiServer) -> None:
    async with recording(server) as recorder:
        recorder.event(POOL, SAID, "a")
        await eventually(lambda: counts(server) == {"a": 1})
        server.remove(stored(server)[0])
        recorder.event(POOL, SAID, "a")
        await eventually(lambda: counts(server) == {"a": 1})


async def test_the_least_recently_used_is_forgotten_first(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 2)
    async with recording(server) as recorder:
        for message in ("a", "b", "a", "c", "a", "b"):
            recorder.event(POOL, SAID, message)
        await eventually(lambda: sorted(event.message or "" for event in stored(server)) == ["a", "b", "b", "c"])
        assert server.requests["patch"] == 2


async def test_a_failed_write_loses_one_event_only(server: ApiServer) -> None:
    server.inject(Fault("create", status=500))
    async with recording(server) as recorder:
        recorder.event(POOL, SAID, "lost")
        recorder.event(POOL, SAID, "kept")
        await eventually(lambda: counts(server) == {"kept": 1})


async def test_the_caller_never_waits(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE", 3)
    async with server.client() as client:
        recorder = Recorder(client, "tests")
        for number in range(10):
            recorder.event(POOL, SAID, str(number))
        task = asyncio.create_task(recorder.run())
        await eventually(lambda: set(counts(server)) == {"0", "1", "2"})
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_event_that_cannot_be_written_stops_no_other(server: ApiServer) -> None:
    async with recording(server) as recorder:
        recorder.event(POOL, BROKEN, "no text: \udc80")
        recorder.event(POOL, RIGHT, "thanks")
        await eventually(lambda: list(counts(server)) == ["thanks"])


async def test_a_message_that_repeats_a_long_text_is_cut(server: ApiServer) -> None:
    async with recording(server) as recorder:
        recorder.event(CONFIG, WRONG, "x" * 200_000)
        await eventually(lambda: stored(server), "it is written")
    assert [len(event.message or "") for event in stored(server)] == [events.LONGEST_MESSAGE]


async def test_an_event_with_a_name_is_written_once_by_all_processes(server: ApiServer) -> None:
    for _ in range(2):
        async with recording(server) as recorder:
            recorder.event(CONFIG, WRONG, "correct it", name="once")
            recorder.event(CONFIG, OTHER, "after it")
            await eventually(lambda: "after it" in counts(server), "both are written")
    assert [event.metadata.name for event in stored(server) if event.reason == "Wrong"] == ["once"]


def test_what_lasts_is_due_again_after_half_an_hour_and_what_was_gone_at_once() -> None:
    reminders: Reminders[str] = Reminders()
    assert reminders.due("a", 0.0)
    assert reminders.due("a", 1.0), "it was not told yet"
    for key in ("a", "b"):
        reminders.note(key, 1.0)
    assert [reminders.due("a", now) for now in (AGAIN, AGAIN + 1.0)] == [False, True]
    reminders.retain({"b"})
    assert [reminders.due(key, 2.0) for key in ("a", "b")] == [True, False]
