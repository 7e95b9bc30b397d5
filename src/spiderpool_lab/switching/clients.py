"""Clients on the internet of a lab that send requests to many Services all the time, as a process of its own.

``python -m spiderpool_lab.switching.clients --netns NAME --requests FILE --file FILE`` reads a list of
:class:`ServiceRequests`, and writes what became of each Service's requests several times a second, until SIGTERM or
SIGINT. Each of ``CLIENTS`` sends a request every ``INTERVAL`` seconds to its Services in turn, whether those before
were answered or not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import msgspec

from spiderpool_lab import namespaces, probes
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.signals import stop_event

CLIENTS = 2
"""More would ask for more than a busy machine's lab can answer."""
INTERVAL = 0.05
"""Seconds between the starts of two requests of a client."""
TIMEOUT = 30.0
"""Seconds after which a request is lost. TCP repeats what was dropped; a datagram is lost at once."""
WRITE_INTERVAL = 0.2
"""Seconds between two writes of the file."""
KEPT = 5
"""Reasons that are kept of a Service."""
EXPECTED = (None, HTTPStatus.OK, HTTPStatus.FOUND)
"""Status of an answer that is no loss: none for datagrams, and a redirect is one as well."""


class ServiceRequests(msgspec.Struct, frozen=True):
    """What clients ask of a Service, one after the other."""

    service: str
    requests: list[TrafficProbe]


class ServiceTraffic(msgspec.Struct):
    """How many requests a Service was sent, and how many were answered; when the latest ones were lost, and why."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    longest: float = 0.0
    """Seconds of the answer that took longest."""
    latest: list[str] = []


async def run(services: Sequence[ServiceRequests], netns: Path, file: Path) -> None:
    """Send requests until SIGTERM or SIGINT, and write what became of all of them."""
    ended = stop_event()
    seen = {each.service: ServiceTraffic() for each in services}
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(_write(seen, file))
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                of_client = [(each, seen[each.service]) for each in services[number::CLIENTS]]
                begin = time.monotonic() + number * INTERVAL / CLIENTS
                clients.create_task(_keep_sending(of_client, netns, begin, ended))
        writer.cancel()
    _store(seen, file)


async def _keep_sending(
    services: Sequence[tuple[ServiceRequests, ServiceTraffic]], netns: Path, begin: float, ended: asyncio.Event
) -> None:
    """Send the requests of one client, and wait until those that were sent have been answered or lost."""
    async with asyncio.TaskGroup() as group:
        for number, (service, seen) in enumerate(itertools.cycle(services), 1):
            group.create_task(_send(service.requests[seen.sent % len(service.requests)], netns, seen))
            seen.sent += 1
            await asyncio.sleep(max(0.0, begin + number * INTERVAL - time.monotonic()))
            if ended.is_set():
                break


async def _send(probe: TrafficProbe, netns: Path, seen: ServiceTraffic) -> None:
    begin, clock = time.monotonic(), time.strftime("%H:%M:%S")
    answer = await probes.run(probe, netns)
    if is_answered(answer):
        seen.answered += 1
        seen.longest = max(seen.longest, time.monotonic() - begin)
        return
    seen.lost += 1
    reason = answer.error or f"status {answer.status}"
    seen.latest = [*seen.latest[1 - KEPT :], f"{clock} {probe.kind} {probe.target}:{probe.port}: {reason}"]


def is_answered(answer: Answer) -> bool:
    """Whether a server has answered: a balancer without any answers, too, with an error."""
    return answer.ok and answer.status in EXPECTED


async def _write(seen: dict[str, ServiceTraffic], file: Path) -> None:
    while True:
        _store(seen, file)
        await asyncio.sleep(WRITE_INTERVAL)


def _store(seen: dict[str, ServiceTraffic], file: Path) -> None:
    draft = file.with_name(f".{file.name}.new")
    draft.write_bytes(msgspec.json.encode(seen))
    draft.replace(file)


def read(file: Path) -> dict[str, ServiceTraffic]:
    """What the clients have counted, by Service. Raises FileNotFoundError before the first time."""
    return msgspec.json.decode(file.read_bytes(), type=dict[str, ServiceTraffic])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--netns", required=True)
    parser.add_argument("--requests", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    chosen = parser.parse_args()
    services = msgspec.json.decode(chosen.requests.read_bytes(), type=list[ServiceRequests])
    asyncio.run(run(services, namespaces.path(chosen.netns), chosen.file))


if __name__ == "__main__":
    main()
