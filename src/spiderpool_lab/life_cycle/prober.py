"""A client on the internet of a lab that sends a request every 50 ms, as a process of its own.

``python -m spiderpool_lab.life_cycle.prober --netns NAME --bind ADDRESS --target ADDRESS --port PORT --file FILE``
writes a :class:`Probes` to the file several times a second, until SIGTERM or SIGINT. Each request has a connection of
its own and a number, which is its path: by it the server's log tells whether a lost one has arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from pathlib import Path

import msgspec

from spiderpool_lab import namespaces, probes
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.signals import stop_event

INTERVAL = 0.05
"""Seconds between the starts of two requests."""
PROMPT = 3.0
"""Seconds within which a request is answered in time: TCP repeats what was dropped after one."""
TIMEOUT = 15.0
"""Seconds after which it is lost. An answer between both is late: of a packet that was repeated, or a busy machine."""
WRITE_INTERVAL = 0.2
"""Seconds between two writes of the file."""
KEPT = 10
"""Reasons that are kept."""


class Probes(msgspec.Struct):
    """How many requests were sent and answered, those answered late too, and those that were lost by their numbers."""

    sent: int = 0
    open: set[int] = set()
    """The numbers of those that are neither answered nor lost."""
    answered: int = 0
    late: int = 0
    lost: list[int] = []
    latest: list[str] = []
    """When the latest that were lost had been sent, and what became of them."""

    @property
    def ended(self) -> int:
        """How many requests were answered or lost."""
        return self.answered + len(self.lost)


async def run(probe: TrafficProbe, netns: Path, file: Path) -> None:
    """Send requests until SIGTERM or SIGINT."""
    ended, seen = stop_event(), Probes()
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(_write(seen, file))
        begin = time.monotonic()
        while not ended.is_set():
            seen.open.add(seen.sent)
            group.create_task(_send(probe, netns, seen.sent, seen))
            seen.sent += 1
            await asyncio.sleep(max(0.0, begin + seen.sent * INTERVAL - time.monotonic()))
        writer.cancel()


async def _send(probe: TrafficProbe, netns: Path, number: int, seen: Probes) -> None:
    begin, clock = time.monotonic(), time.strftime("%H:%M:%S")
    answer = await probes.run(msgspec.structs.replace(probe, path=f"/{number}"), netns)
    seen.open.remove(number)
    if answer.ok:
        seen.answered += 1
        seen.late += time.monotonic() - begin > PROMPT
        return
    seen.lost.append(number)
    seen.latest = [*seen.latest[1 - KEPT :], f"{clock} {answer.error}"]


async def _write(seen: Probes, file: Path) -> None:
    while True:
        draft = file.with_name(f".{file.name}.new")
        draft.write_bytes(msgspec.json.encode(seen))
        draft.replace(file)
        await asyncio.sleep(WRITE_INTERVAL)


def logged(log: str) -> set[int]:
    """The numbers of the requests in what servers have logged, each with its first line."""
    return {int(number) for number in re.findall(r"^GET /(\d+) ", log, re.MULTILINE)}


def read(file: Path) -> Probes:
    """What a prober has written last. Raises FileNotFoundError before that."""
    return msgspec.json.decode(file.read_bytes(), type=Probes)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--netns", required=True)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    chosen = parser.parse_args()
    probe = TrafficProbe(
        kind="http", target=chosen.target, port=chosen.port, bind=chosen.bind, count=1, timeout=TIMEOUT
    )
    asyncio.run(run(probe, namespaces.path(chosen.netns), chosen.file))


if __name__ == "__main__":
    main()
