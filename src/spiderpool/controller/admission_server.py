"""The port of the admission webhooks: HTTP/1.1, bounded in connections, bytes and time whoever calls.

aiohttp's server bounds neither the number of connections, nor the time of a request, nor pipelined requests, and
anybody who reaches this port may call it. Where a limit is reached, those lose first who have the most of it: of the
address with the most connections the oldest that is not handled, of the address with the most bytes the largest, and
of one address, as API servers have it, first those about objects of the Namespace with the most of it.
Connections on which a review was answered, as API servers' were, are lost to none on which there was none.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from spiderpool import daemon
from spiderpool.controller.http_request import (
    MAX_HEAD,
    BadCall,
    RequestHead,
    continue_line,
    parse_head,
    response,
)
from spiderpool.controller.review_slots import ReviewSlots, ReviewTenant
from spiderpool.controller.reviews import AdmissionRequest, Decide, answered, request_of
from spiderpool.errors import BadConfig, is_bug
from spiderpool.telemetry import WEBHOOK_DROPS, logger

HEALTH = "/webhook-health-check"
BACKLOG = 256
"""Connections that wait in the kernel to be accepted."""
RECEIVE_BUFFER = 32 << 10
"""Bytes that the kernel keeps of what a caller sends ahead, and that one reading therefore brings; Linux doubles it."""
PAUSE = 0.1
"""Seconds until the next try when the process has no file descriptor left."""
CLOSING = 1.0
"""Seconds in which a caller must have taken the end of its connection."""

log = logger("webhooks")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What all callers together may use, and how long one may take; times are seconds."""

    connections: int = 512
    kept: int = 128
    """Of these, connections with an answered review that go last. The others are for new ones, so that callers who have
    answers too keep no API server out that comes anew."""
    held: int = 32 << 20
    """Bytes of requests and of answers that wait to be taken. The process takes a few times as much meanwhile."""
    handled: int = 32
    """Reviews that are handled at the same time."""
    handled_shared: int = 24
    """Of these, reviews that are handled beside another one from their address about an object of their Namespace."""
    handled_bytes: int = 16 << 20
    """Bytes of these, if there is more than one; decoded, they take a multiple."""
    handshake: float = 5.0
    request: float = 10.0
    """From the first byte to the last; the API server waits so long for an answer at most."""
    answer: float = 10.0
    """Until a review is answered, if its caller does not say that it waits for less, and until its answer is taken."""
    idle: float = 120.0
    """Between two requests. API servers give an idle connection up after 90 s: whoever is first must be they."""


@dataclass(eq=False, slots=True)
class _Caller:
    """One connection."""

    address: str
    task: asyncio.Task[None]
    since: float = field(default_factory=time.monotonic)
    """When it came, or got its last answer."""
    held: int = 0
    handled: bool = False
    answered: bool = False
    """Whether a review of its was answered."""
    known: bool = False
    """Whether it has shown a client certificate."""
    tenant: ReviewTenant | None = None
    """Whose review it has given, and has no answer to yet."""
    waiting: bool = False
    """Whether that review waits for a slot."""
    gone: bool = False

    def hang_up(self) -> None:
        """Note that it has gone: nobody is there to take an answer. A review of its that is handled goes on."""
        self.gone = True
        if self.waiting:
            self.task.cancel()


class _CallerProtocol(asyncio.StreamReaderProtocol):
    """Tells when a caller hangs up, also while nothing is read of it."""

    def __init__(self, caller: _Caller, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._caller = caller

    def eof_received(self) -> bool | None:
        self._caller.hang_up()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.hang_up()
        super().connection_lost(exc)


class AdmissionServer:
    """Answers reviews at the paths of ``webhooks``, and a probe.

    With ``known_only`` it refuses reviews of callers that have shown no client certificate.
    """

    def __init__(
        self,
        webhooks: Mapping[str, Decide],
        context: ssl.SSLContext | None = None,
        *,
        known_only: bool = False,
        limits: AdmissionLimits | None = None,
    ) -> None:
        self._webhooks = webhooks
        self._context = context
        self._known_only = known_only
        self._limits = limits or AdmissionLimits()
        limits = self._limits
        self._slots = ReviewSlots(limits.handled, limits.handled_shared, limits.handled_bytes)
        self._callers: set[_Caller] = set()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; yields the port. Raises BadConfig when it cannot be listened on."""
        listeners = await _listeners(host, port)
        accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]
        try:
            yield listeners[0].getsockname()[1]
        finally:
            await _end(accepting)
            for listener in listeners:
                listener.close()
            await self._close()

    async def _close(self) -> None:
        """Let reviews end that are handled, for a moment, and close all connections."""
        handled = [caller.task for caller in self._callers if caller.handled]
        if handled:
            await asyncio.wait(handled, timeout=daemon.SHUTDOWN_TIMEOUT)
        await _end(caller.task for caller in self._callers)

    # --- Connections

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._admit(*await loop.sock_accept(listener))
                await asyncio.sleep(0)  # sock_accept leaves the others no turn while connections wait
            except Exception as error:  # no file descriptor is left, for example
                log.warning("no connection accepted", error=str(error), exc_info=is_bug(error))
                await asyncio.sleep(PAUSE)

    def _admit(self, connection: socket.socket, address: tuple[str, int]) -> None:
        """Serve a new connection, in the place of another one where there are as many as may be."""
        caller = _Caller(address[0], asyncio.create_task(self._connected(connection)))
        self._callers.add(caller)
        caller.task.add_done_callback(partial(self._gone, caller, connection))
        self._bound_connections()

    def _gone(self, caller: _Caller, connection: socket.socket, _: asyncio.Task[None]) -> None:
        self._callers.discard(caller)
        connection.close()  # that of a task that was cancelled before it began

    def _bound_connections(self) -> None:
        staying = [caller for caller in self._callers if not caller.task.cancelling()]
        if len(staying) <= self._limits.connections:
            return
        callers = self._unanswered_first(_least_known(staying))
        by_address = Counter(caller.address for caller in callers)
        by_tenant = Counter(caller.tenant for caller in callers if caller.tenant)
        idle = [caller for caller in callers if not caller.handled] or callers

        def place(caller: _Caller) -> tuple[int, int, float]:
            return -by_address[caller.address], -by_tenant[caller.tenant] if caller.tenant else 0, caller.since

        _drop(min(idle, key=place), "connections")

    def _unanswered_first(self, callers: list[_Caller]) -> list[_Caller]:
        """Those without an answered review; those with one where they are too many, or all."""
        answered = [caller for caller in callers if caller.answered]
        if len(answered) > self._limits.kept or len(answered) == len(callers):
            return answered
        return [caller for caller in callers if not caller.answered]

    def _hold(self, caller: _Caller, size: int) -> None:
        """Count bytes that are kept for a caller; drop the one with the most when that is too much for all."""
        caller.held += size
        if sum(each.held for each in self._callers) <= self._limits.held:
            return
        callers = _least_known(each for each in self._callers if each.held)
        by_address: Counter[str] = Counter()
        by_tenant: Counter[ReviewTenant | _Caller] = Counter()
        for each in callers:
            by_address[each.address] += each.held
            by_tenant[each.tenant or each] += each.held
        _drop(
            max(callers, key=lambda each: (by_address[each.address], by_tenant[each.tenant or each], each.held)),
            "bytes",
        )

    async def _connected(self, connection: socket.socket) -> None:
        """Serve one connection to its end. What goes wrong with it concerns nobody else."""
        caller = next(each for each in self._callers if each.task is asyncio.current_task())
        try:
            reader, writer = await self._streams(caller, connection)
        except OSError:  # no handshake, or not in time
            return
        try:
            caller.known = bool(writer.get_extra_info("peercert"))
            while await self._serve_request(caller, reader, writer):
                caller.since = time.monotonic()
            writer.close()
            async with asyncio.timeout(CLOSING):
                await writer.wait_closed()
        except TimeoutError:
            WEBHOOK_DROPS.labels("time").inc()
        except (OSError, EOFError):
            pass  # the caller has gone
        except Exception:
            log.exception("connection failed", address=caller.address)
        finally:
            writer.transport.abort()

    async def _streams(
        self, caller: _Caller, connection: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_HEAD, loop=loop)
        protocol = _CallerProtocol(caller, reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=self._limits.handshake if self._context else None,
            ssl_shutdown_timeout=CLOSING if self._context else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    # --- Requests

    async def _serve_request(self, caller: _Caller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next request; whether another one may follow."""
        try:
            async with asyncio.timeout(self._limits.idle):
                first = await reader.read(1)
        except TimeoutError:  # it has nothing more to ask
            return False
        if not first:
            return False
        keep = False
        try:
            head, body = await self._read(caller, first, reader, writer)
            status, text = await self._answer(caller, head, body)
            keep = head.keep_alive
        except BadCall as refusal:
            status, text = refusal.status, refusal.text.encode()
        except asyncio.LimitOverrunError:
            status, text = 431, b"the head of the request is too long"
        finally:
            caller.held, caller.handled, caller.waiting, caller.tenant = 0, False, False, None
        self._hold(caller, len(text))
        writer.write(response(status, text, keep_alive=keep))
        async with asyncio.timeout(self._limits.answer):
            await writer.drain()
        caller.held = 0
        return keep

    async def _read(
        self, caller: _Caller, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[RequestHead, bytes]:
        """The request that begins with ``first``. Raises BadCall before it reads the body of one to be refused."""
        async with asyncio.timeout(self._limits.request):
            head = parse_head(first + await reader.readuntil(b"\r\n\r\n"))
            self._check(caller, head)
            writer.write(continue_line(head))
            self._hold(caller, head.length)
            await asyncio.sleep(0)  # if this one was dropped, it ends here
            body, filled = bytearray(head.length), 0  # one that grows leaves holes in the heap
            while filled < head.length:
                chunk = await reader.read(head.length - filled)
                if not chunk:
                    raise EOFError
                body[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            return head, bytes(body)

    def _check(self, caller: _Caller, head: RequestHead) -> None:
        if head.path != HEALTH and head.path not in self._webhooks:
            raise BadCall(404, "nothing is served here")
        if head.method != ("GET" if head.path == HEALTH else "POST"):
            raise BadCall(405, f"{head.method} is not served here")
        if head.path != HEALTH and self._known_only and not caller.known:
            raise BadCall(403, "SPIDERPOOL_WEBHOOK_CLIENT_CA is set, and this caller has shown no client certificate")

    async def _answer(self, caller: _Caller, head: RequestHead, body: bytes) -> tuple[int, bytes]:
        if head.path == HEALTH:
            return 200, b"ok"
        if caller.gone:
            raise EOFError
        try:
            request = request_of(body)
            async with asyncio.timeout(min(self._limits.answer, head.timeout or math.inf)):
                return 200, await self._handle(caller, request, self._webhooks[head.path], len(body))
        except msgspec.DecodeError as error:
            raise BadCall(400, f"not an AdmissionReview: {error}") from error
        except TimeoutError:
            raise BadCall(503, "the review took too long") from None
        except Exception as error:
            log.exception("review failed", path=head.path)
            raise BadCall(500, "the review failed, see the log of the controller") from error

    async def _handle(self, caller: _Caller, request: AdmissionRequest, decide: Decide, size: int) -> bytes:
        """The answer to a review of ``size`` bytes, when it has a slot."""
        caller.tenant, caller.waiting = ReviewTenant(caller.address, request.namespace), True
        async with self._slots.slot(caller.tenant, size):
            caller.waiting, caller.handled = False, True
            text = await answered(decide, request)
            caller.answered = True
            return text


def accept_client_certificates(context: ssl.SSLContext, authorities: Path) -> None:
    """Let callers show certificates of these authorities. Raises BadConfig when the file has none."""
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise BadConfig(f"SPIDERPOOL_WEBHOOK_CLIENT_CA: no certificates in {authorities}: {error}") from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Go's authorities need not write key identifiers
    context.verify_mode = ssl.CERT_OPTIONAL


def _least_known(callers: Iterable[_Caller]) -> list[_Caller]:
    """Those without a client certificate, if any."""
    found = [*callers]
    return [caller for caller in found if not caller.known] or found


def _drop(caller: _Caller, reason: str) -> None:
    WEBHOOK_DROPS.labels(reason).inc()
    caller.held = 0
    caller.task.cancel()


async def _listeners(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for all addresses of a host, "" for all of both families."""
    listeners: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        for listener in listeners:
            listener.close()
        raise BadConfig(f"cannot listen on {host or 'any address'}, port {port}: {error}") from error
    return listeners


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ended = [*tasks]
    for task in ended:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*ended, return_exceptions=True)
