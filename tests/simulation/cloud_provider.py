"""How processes reach the cloud: `CloudProvider` for spiderpool-cloud, the metadata service for agents; with faults.

A call that was sent is carried out whatever becomes of its process meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Context
from typing import TypeVar

from spiderpool.agent.discovery import HostLinks
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudServer,
    CloudUnavailable,
    Quota,
    RegisteredENI,
    Throttled,
)
from spiderpool.core.cloud.instances import ordered
from spiderpool.core.network.plumbing.values import Link
from tests.simulation.cloud import BLOCKS, LARGEST_LAG, REGION, SERVER_TYPE, VSWITCH, ZONE, Card, Server, SimulatedCloud

LATENCY = 0.02, 0.3
"""Seconds from a process to the cloud, or back."""
TIMEOUT = 10.0
"""Seconds after which a caller takes a missing answer for lost."""

T = TypeVar("T")


class SimulatedProvider:
    """`CloudProvider` of one process."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud
        self._loop = asyncio.get_running_loop()
        self._unanswered: dict[tuple[str, int, int], list[str]] = {}  # assignments that were carried out

    def parse_provider_id(self, text: str) -> tuple[str, str] | None:
        region, found, instance = text.partition(".")
        return (region, instance) if found else None

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        def answer() -> dict[str, CloudServer]:
            named = (self._cloud.servers.get(identity) for identity in sorted(identities))
            shown = [server for server in named if server and server.hidden_until <= self._loop.time()]
            return {each.identity: _described(each) for each in shown}

        return await self._call("instances", answer)

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        def answer() -> dict[str, RegisteredENI]:
            at = self._loop.time() - self._cloud.random.uniform(0.0, LARGEST_LAG)
            cards = (card for card in self._cloud.cards() if card.identity in identities)
            return {card.identity: self._described_card(card, at) for card in cards if not _is_left_out(self._cloud)}

        return await self._call("enis", answer)

    async def quota(self, region: str, instance_type: str) -> Quota:
        return await self._call("quota", lambda: self._cloud.quota)

    async def free_addresses(self, region: str, vswitch: str) -> int:
        return await self._call("free_addresses", lambda: self._cloud.free_addresses(4))

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        key = eni, version, count

        def answer() -> list[str]:
            if key not in self._unanswered:
                self._unanswered[key] = self._cloud.assign(eni, version, count)
            return self._unanswered[key]

        given = await self._call("assign", answer)
        self._unanswered.pop(key, None)
        return given

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        await self._call("unassign", lambda: self._cloud.unassign(eni, version, addresses))

    @staticmethod
    def _described_card(card: Card, at: float) -> RegisteredENI:
        found = card.as_of(at)
        return RegisteredENI(
            card.identity, card.server.identity, VSWITCH, "InUse", card.primary_address, found[4], found[6]
        )

    async def _call(self, action: str, answer: Callable[[], T]) -> T:
        """Have the cloud carry a call out. Raises CloudError."""
        fault, future = self._draw(action), self._loop.create_future()
        self._loop.call_later(self._delay(), self._arrive, fault, answer, future, context=Context())
        return await future  # type: ignore[no-any-return]

    def _draw(self, action: str) -> str:
        """The fault of a call; empty for none."""
        rates = self._cloud.rates
        drawn = self._cloud.random.random()
        changes = ("conflict",) if action in ("assign", "unassign") else ()
        for name in ("throttled", "lost_request", "lost_answer", *changes):
            drawn -= getattr(rates, name)
            if drawn < 0:
                self._cloud.faults[f"cloud {name}"] += 1
                return str(name)
        return ""

    def _arrive(self, fault: str, answer: Callable[[], object], future: asyncio.Future[object]) -> None:
        result: object = None
        error: CloudError | None = None
        delay = self._delay()
        if fault == "throttled":
            error = Throttled("too many calls", retry_after=self._cloud.random.uniform(1.0, 20.0))
        elif fault == "conflict":
            error = CloudConflict("the ENI is being changed")
        else:
            try:
                result = answer() if fault != "lost_request" else None
            except CloudError as refusal:
                error = refusal
        if fault in ("lost_request", "lost_answer"):
            error, delay = CloudUnavailable("no answer"), TIMEOUT
        self._loop.call_later(delay, _finish, future, result, error, context=Context())

    def _delay(self) -> float:
        return self._cloud.random.uniform(*LATENCY)


class SimulatedMetadata:
    """The metadata service as the server of one node reaches it."""

    def __init__(self, cloud: SimulatedCloud, node: str) -> None:
        self._cloud = cloud
        self._node = node

    async def read(self) -> Instance:
        await asyncio.sleep(self._cloud.random.uniform(0.001, 0.05))
        server = self._cloud.server_of(self._node)
        rates, random = self._cloud.rates, self._cloud.random
        if random.random() < rates.lost_request + rates.lost_answer:
            self._cloud.faults["metadata lost"] += 1
            raise CloudUnavailable("the metadata service does not answer")
        at = asyncio.get_running_loop().time() if server.frozen_since is None else server.frozen_since
        cards = [
            self._described(card, at) for card in server.cards if card.device == "eth0" or not _is_left_out(self._cloud)
        ]
        return Instance("simulated", REGION, ZONE, server.identity, SERVER_TYPE, tuple(cards))

    def forget(self) -> None:
        """Nothing is remembered."""

    async def links(self) -> HostLinks:
        """The machine's own links and addresses."""
        await asyncio.sleep(0.0)
        server = self._cloud.server_of(self._node)
        links = (Link(card.device, number, mac=card.mac) for number, card in enumerate(server.cards, 2))
        return HostLinks(tuple(links), tuple(card.primary_address for card in server.cards))

    def _described(self, card: Card, at: float) -> ENI:
        found, six = card.as_of(at), 6 in self._cloud.families
        shown = {} if _is_left_out(self._cloud) else found
        return ENI(
            identity=card.identity,
            mac=card.mac,
            primary=card.device == "eth0",
            primary_address=card.primary_address,
            addresses=ordered(shown.get(4, ())),
            ipv6_addresses=ordered(shown.get(6, ())),
            vswitch=VSWITCH,
            subnet=BLOCKS[4],
            subnet6=BLOCKS[6] if six else None,
            gateway=None,
            gateway6=None,
        )


def _is_left_out(cloud: SimulatedCloud) -> bool:
    """Whether an answer lacks something this time."""
    left_out = cloud.random.random() < cloud.rates.empty
    cloud.faults["cloud left out"] += left_out
    return left_out


def _described(server: Server) -> CloudServer:
    return CloudServer(
        server.identity, SERVER_TYPE, ZONE, "Stopped" if server.stopped else "Running", stopped=server.stopped
    )


def _finish(future: asyncio.Future[object], result: object, error: CloudError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
