"""What is sent to browsers as it happens: server-sent events, with a bound for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

MOST_BROWSERS = 5
"""Streams at a time: pages that are open."""
MOST_WAITING = 64
"""Events that wait for one browser; with more it is behind: its stream ends, it follows anew and loads all again."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that a connection that is gone is noticed."""


def event_bytes(name: str, value: Any) -> bytes:
    """An event as it goes over the wire."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))


@dataclass(slots=True, eq=False)
class BrowserFeed:
    """One browser that follows."""

    waiting: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    is_behind: bool = False

    def put(self, event: bytes) -> None:
        """Queue an event; where too many wait, drop all of them and end."""
        if self.is_behind:
            return
        if self.waiting.qsize() < MOST_WAITING:
            self.waiting.put_nowait(event)
            return
        self.is_behind = True
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        """The events, and comments while there are none; ends where the browser is behind."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    event = await self.waiting.get()
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            if event is None:
                return
            yield event


class EventStreams:
    """All browsers that follow."""

    def __init__(self) -> None:
        self._feeds: set[BrowserFeed] = set()

    @property
    def is_full(self) -> bool:
        """Whether no further browser may follow."""
        return len(self._feeds) >= MOST_BROWSERS

    @contextmanager
    def listening(self) -> Iterator[BrowserFeed]:
        """A new browser follows until the context ends."""
        feed = BrowserFeed()
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)

    def publish(self, name: str, value: Any) -> None:
        """Send an event to all."""
        if self._feeds:
            event = event_bytes(name, value)
            for each in self._feeds:
                each.put(event)
