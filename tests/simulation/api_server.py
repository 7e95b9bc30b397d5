"""The API server of a simulation: `tests.support.api_store` behind connections in memory, with faults."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from spiderpool.api.meta import Kind
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess
from tests.simulation.network import Connection, Connector, Link
from tests.support.api_store import (
    VERBS,
    Body,
    Change,
    Matches,
    Refusal,
    Store,
    Target,
    discover,
    event_type,
    find_target,
    prefix,
    selector,
)

LATENCY = 0.0002, 0.002
"""Seconds from one end of a connection to the other."""

_FAULTS = ("late_request", "late_answer", "lost_request", "lost_answer", "throttled", "failed", "failed_late")
_REASONS = {200: "OK", 201: "Created"}
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How likely each fault is, of one request or one event of a watch."""

    late_request: float = 0.0
    """It is carried out after so long that its sender has given up."""
    late_answer: float = 0.0
    """It is carried out at once, and answered after so long that its sender has given up."""
    lost_request: float = 0.0
    """The connection breaks before it is carried out."""
    lost_answer: float = 0.0
    """The connection breaks after it was carried out."""
    throttled: float = 0.0
    """429, nothing is done."""
    failed: float = 0.0
    """500, nothing is done."""
    failed_late: float = 0.0
    """500, and it is carried out all the same."""
    expired: float = 0.0
    """410 to a watch."""
    stalled: float = 0.0
    """A watch delivers nothing for some seconds."""

    def scaled(self, factor: float) -> FaultRates:
        """The same mixture, more or less often."""
        return FaultRates(**{name: getattr(self, name) * factor for name in self.__dataclass_fields__})


CALM = FaultRates()
STORM = FaultRates(
    late_request=0.02,
    late_answer=0.02,
    lost_request=0.02,
    lost_answer=0.03,
    throttled=0.02,
    failed=0.02,
    failed_late=0.01,
    expired=0.1,
    stalled=0.02,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is to be carried out."""

    connection: Connection
    verb: str
    target: Target
    query: Mapping[str, str]
    body: bytes
    fault: str
    sent: float


class Watch:
    """A watch that a connection serves."""

    def __init__(self, connection: Connection, matches: Matches) -> None:
        self.connection = connection
        self.matches = matches
        self.stalled_until = 0.0


class SimulatedApiServer:
    """Answers requests that arrive by connections in memory."""

    def __init__(self, kinds: Iterable[Kind], random: Random, store: Store | None = None) -> None:
        self.store = store or Store()
        self.listening = True
        self.rates = CALM
        self.faults: Counter[str] = Counter()
        """Faults that have happened, by kind."""
        self.requests: Counter[str] = Counter()
        """Requests by verb."""
        self._under_way: Counter[str] = Counter()  # names of creates that have been sent and not carried out yet
        self._created: dict[str, float] = {}  # name → when the last create was carried out, or lost
        self.listed: dict[tuple[str, str], float] = {}
        """(machine, label selector) → when its last list was carried out."""
        self.sent = 0.0
        """When the request that is being carried out was sent."""
        self._kinds = {prefix(kind): kind for kind in kinds}
        self._random = random
        self._watches: dict[str, dict[Connection, Watch]] = {}  # by plural
        self.store.listeners.append(self._tell)

    def client(self, link: Link) -> Client:
        """A client on a machine; to be made in the context of its process."""
        access = ClusterAccess("http://api", _no_tls(), ClientCredentials())
        return Client(access, Connector(link, self, self._random))

    def restart(self, links: Iterable[Link]) -> None:
        """Go down; all connections end."""
        self.listening = False
        for link in links:
            link.drop()

    def request(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        """A request has arrived: carry it out after a while, unless a fault is drawn for it."""
        loop, latency = asyncio.get_running_loop(), self._latency()
        resource, _, text = path.partition("?")
        query = dict(parse_qsl(text))
        target = find_target(self._kinds, resource)
        if target is None:
            self._reply(connection, *self._discovered(resource))
            return
        verb = VERBS.get(method, "get")
        if verb == "get" and not target.name:
            verb = "watch" if query.get("watch") == "true" else "list"
        self.requests[verb] += 1
        fault = self._draw(verb)
        if fault == "late_request":
            latency += self._random.uniform(2.5, 40.0)
        if verb == "create":
            self._under_way[_name(body)] += 1
        loop.call_later(latency, self._carry_out, Arrival(connection, verb, target, query, body, fault, loop.time()))

    def closed(self, connection: Connection) -> None:
        """A connection has ended, and its watch with it."""
        if connection.watching is not None:
            self._watches[connection.watching].pop(connection, None)

    def _draw(self, verb: str) -> str:
        """The fault of a request; empty for none."""
        rates = self.rates
        if rates is CALM:
            return ""
        drawn = self._random.random()
        for name in ("expired", *_FAULTS) if verb == "watch" else _FAULTS:
            drawn -= getattr(rates, name)
            if drawn < 0:
                self.faults[name] += 1
                return name
        return ""

    def is_tried(self, name: str, since: float) -> bool:
        """Whether a create of an object of that name is on its way, or has been since a time."""
        return self._under_way[name] > 0 or self._created.get(name, 0.0) > since

    def _carry_out(self, arrival: Arrival) -> None:
        if arrival.verb == "create":
            name = _name(arrival.body)
            self._under_way[name] -= 1
            self._created[name] = asyncio.get_running_loop().time()
        if not self.listening:
            return
        connection, fault = arrival.connection, arrival.fault
        if fault == "lost_request":
            connection.cut()
        elif fault in ("throttled", "failed"):
            self._fail(connection, 429 if fault == "throttled" else 500)
        elif arrival.verb == "watch":
            self._watch(connection, arrival.target, arrival.query, fault)
        else:
            if arrival.verb == "list":
                asked = connection.link.name, arrival.query.get("labelSelector", "")
                self.listed[asked] = asyncio.get_running_loop().time()
            self._answer_with(arrival, *self._answer(arrival))

    def _answer_with(self, arrival: Arrival, status: int, content: bytes) -> None:
        """Send the answer to a request that was carried out, unless it is late or lost."""
        connection = arrival.connection
        match arrival.fault:
            case "lost_answer":
                connection.cut()
            case "late_answer":
                self._reply(connection, status, content, self._random.uniform(2.5, 40.0))
            case "failed_late" if arrival.verb not in ("get", "list"):
                self._fail(connection, 500)
            case _:
                self._reply(connection, status, content)

    def _fail(self, connection: Connection, code: int) -> None:
        self._reply(connection, code, _ENCODE(Refusal(code, "Injected", "injected").status()))

    def _answer(self, arrival: Arrival) -> tuple[int, bytes]:
        body = _DECODE(arrival.body) if arrival.body else {}
        self.sent = arrival.sent
        try:
            answer = self.store.answer(arrival.verb, arrival.target, body, arrival.query)
        except Refusal as refusal:
            return refusal.code, _ENCODE(refusal.status())
        return 200, _ENCODE(answer)

    def _discovered(self, path: str) -> tuple[int, bytes]:
        try:
            return 200, _ENCODE(discover(self._kinds, path))
        except Refusal as refusal:
            return refusal.code, _ENCODE(refusal.status())

    def _reply(self, connection: Connection, status: int, content: bytes, delay: float = 0.0) -> None:
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Refused')}\r\nContent-Type: application/json\r\n"
        data = b"%sContent-Length: %d\r\n\r\n%s" % (head.encode(), len(content), content)
        connection.deliver(data, delay + self._latency())

    # --- watches

    def _watch(self, connection: Connection, target: Target, query: Mapping[str, str], fault: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.deliver(head, self._latency())
        try:
            if fault == "expired":
                raise Refusal(410, "Expired", "injected")
            missed = self.store.since(int(query.get("resourceVersion") or 0))
        except Refusal as refusal:
            connection.deliver(_chunk(_line("ERROR", refusal.status())) + b"0\r\n\r\n", self._latency())
            return
        plural = target.kind.plural
        watch = Watch(connection, selector(target, query))
        for change in missed:
            if change.key[0] == plural:
                self._event(watch, change)
        if connection.is_closing():
            return
        connection.watching = plural
        self._watches.setdefault(plural, {})[connection] = watch
        seconds = float(query.get("timeoutSeconds", "300"))
        asyncio.get_running_loop().call_later(seconds, self._finish, watch, target.kind)

    def _finish(self, watch: Watch, kind: Kind) -> None:
        """End a watch after its time, with a bookmark."""
        if self._watches[kind.plural].pop(watch.connection, None) is watch:
            watch.connection.watching = None
            bookmark = {"kind": kind.name, "metadata": {"resourceVersion": str(self.store.version)}}
            watch.connection.deliver(_chunk(_line("BOOKMARK", bookmark)) + b"0\r\n\r\n", self._latency())

    def _tell(self, change: Change) -> None:
        for watch in list(self._watches.get(change.key[0], {}).values()):
            self._event(watch, change)

    def _event(self, watch: Watch, change: Change) -> None:
        kind = event_type(change, watch.matches)
        if kind is None:
            return
        now = asyncio.get_running_loop().time()
        if self.rates is not CALM and self._random.random() < self.rates.stalled:
            self.faults["stalled"] += 1
            watch.stalled_until = now + self._random.uniform(1.0, 20.0)
        delay = max(watch.stalled_until - now, 0.0) + self._latency()
        watch.connection.deliver(_chunk(_encoded(change.version, kind, _Changed(change))), delay)

    def _latency(self) -> float:
        return self._random.uniform(*LATENCY)


class _Changed:
    """A change as key of a cache: the version stands for it."""

    def __init__(self, change: Change) -> None:
        self.change = change

    def __hash__(self) -> int:
        return self.change.version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Changed) and other.change is self.change


@lru_cache(maxsize=256)
def _encoded(version: int, kind: str, changed: _Changed) -> bytes:
    """A line of a watch: the same for all that see the change alike."""
    return _line(kind, changed.change.last)


@lru_cache
def _no_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _name(body: bytes) -> str:
    """The first name in a body, which is that of the object."""
    _, found, rest = body.partition(b'"name":"')
    return rest[: rest.index(b'"')].decode() if found else ""


def _line(kind: str, body: Body) -> bytes:
    line: dict[str, Any] = {"type": kind, "object": body}
    return _ENCODE(line) + b"\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
