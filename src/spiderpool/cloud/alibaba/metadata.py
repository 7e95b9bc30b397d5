"""Client of Alibaba Cloud's metadata service: a server reads its own description there, without credentials.

Source: Elastic Compute Service, "Instance metadata": paths under ``/latest/meta-data/``, and the security hardening
mode with tokens.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

import aiohttp
import msgspec
from aiohttp.connector import Connection
from msgspec.structs import replace

from spiderpool.api.decoding import decode
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.cloud.provider import NetworkPath
from spiderpool.core.cloud.instances import ordered
from spiderpool.errors import KernelFailure, SpiderpoolError

PROVIDER = "alibaba"
"""Name of this provider in conf.yml and in SpiderServers."""
ADDRESS = IPv4Address("100.100.100.200")
ENDPOINT = f"http://{ADDRESS}"

REQUEST_TIMEOUT = 2.0
"""Seconds for one request."""
ATTEMPTS = 4
"""Times that a request is sent while the service is busy or silent; it only reads, so repeating is safe."""
FIRST_PAUSE = 0.25
"""Seconds before the second attempt; doubled for each further one."""
JITTER = (0.5, 1.5)
"""Factors of a pause: the agents of a cluster should not repeat their requests at the same time."""
READING_TIMEOUT = 20.0
"""Seconds for all requests of one reading."""
MAX_ANSWER = 1 << 16
"""Bytes; an ENI has at most some hundred addresses."""

LIFETIME_SECONDS = "21600"
AUTH_HEADER = "X-aliyun-ecs-metadata-token"
TTL_HEADER = "X-aliyun-ecs-metadata-token-ttl-seconds"
NO_TOKENS = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
"""Answers of a service that has no tokens, or has them disabled."""
UNAUTHORIZED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_TOKEN = re.compile(r"[!-~]+")


class NoAnswer(SpiderpoolError):
    """The metadata service did not answer, or refused, within the limits."""

    retriable = True


class BadAnswer(SpiderpoolError):
    """An answer of the metadata service cannot be parsed, or is incomplete."""

    retriable = True


class _Busy(Exception):
    """One request got no usable answer; another try may."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Properties of a server that never change."""

    region: str
    zone: str
    instance_type: str


class MetadataClient:
    """Reads the server that it runs on; what cannot change is read once and cached."""

    def __init__(self, endpoint: str | None = None, path: NetworkPath | None = None) -> None:
        """``endpoint`` is a URL or a host; None: the usual one, whose connections take ``path``."""
        self._base = url_of(endpoint)
        path = path if self._base == ENDPOINT else None
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),  # _exchange has a limit, which loses no cancellation
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(socket_factory=path.open if path else None),
            request_class=_confirmed_by(path) if path else aiohttp.ClientRequest,
        )
        self._token: str | None = None
        """Empty: the service has no tokens. None: not requested yet, or refused."""
        self._fixed: _Fixed | None = None  # cache
        self._enis: dict[str, ENI] = {}  # cache: MAC address → ENI, without its addresses

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    def forget(self) -> None:
        """Drop the cache: what was read cannot be right."""
        self._fixed = None
        self._enis = {}

    async def read(self) -> Instance:
        """Returns the server and its ENIs, without their Linux names. Raises NoAnswer or BadAnswer."""
        try:
            async with asyncio.timeout(READING_TIMEOUT):
                return await self._read()
        except TimeoutError as error:
            raise NoAnswer(f"the metadata service took more than {READING_TIMEOUT:.0f} s for one reading") from error

    async def _read(self) -> Instance:
        identity = await self._need("instance-id")
        primary = await self._need("mac")
        macs = macs_of(await self._need("network/interfaces/macs/"))
        self._enis = {mac: eni for mac, eni in self._enis.items() if mac in macs}
        enis = tuple([await self._eni(mac, primary=mac == primary.lower()) for mac in macs])
        fixed = self._fixed = self._fixed or await self._read_fixed()
        return Instance(PROVIDER, fixed.region, fixed.zone, identity, fixed.instance_type, enis)

    async def _read_fixed(self) -> _Fixed:
        names = ("region-id", "zone-id", "instance/instance-type")
        return _Fixed(*[await self._need(name) for name in names])

    async def _eni(self, mac: str, *, primary: bool) -> ENI:
        """Returns an ENI: its addresses are read every time, the rest once."""
        if mac not in self._enis:
            self._enis[mac] = await self._read_eni(mac)
        eni = replace(self._enis[mac], primary=primary)
        path = f"network/interfaces/macs/{mac}/"
        addresses = addresses_of(await self._need(f"{path}private-ipv4s"))
        if eni.primary_address not in addresses:
            raise BadAnswer(f"{path}private-ipv4s lacks the ENI's own address {eni.primary_address}: only a part")
        secondary = ordered(set(addresses) - {eni.primary_address})
        ipv6 = ipv6_addresses_of(await self.text(f"{path}ipv6s") or "")
        if ipv6 and eni.subnet6 is None:
            eni = self._enis[mac] = await self._with_block6(eni, path)
        return replace(eni, addresses=secondary, ipv6_addresses=ipv6)

    async def _read_eni(self, mac: str) -> ENI:
        path = f"network/interfaces/macs/{mac}/"
        return ENI(
            identity=await self._need(f"{path}network-interface-id"),
            mac=mac,
            primary=False,
            primary_address=await self._need(f"{path}primary-ip-address"),
            addresses=(),
            ipv6_addresses=(),
            vswitch=await self._need(f"{path}vswitch-id"),
            subnet=block_of(await self._need(f"{path}vswitch-cidr-block")),
            subnet6=None,
            gateway=await self.text(f"{path}gateway") or None,
            gateway6=None,
        )

    async def _with_block6(self, eni: ENI, path: str) -> ENI:
        block = block_of(await self._need(f"{path}vswitch-ipv6-cidr-block"))
        return replace(eni, subnet6=block, gateway6=gateway6_of(await self.text(f"{path}ipv6-gateway"), block))

    async def _need(self, path: str) -> str:
        text = await self.text(path)
        if not text:
            raise BadAnswer(f"the metadata service has nothing under {path}: only a part")
        return text

    async def text(self, path: str) -> str | None:
        """Returns the text at a path below ``/latest/meta-data/``; None where there is none. Raises NoAnswer.

        Redirections are not followed, since the token goes with a request.
        """
        reason = ""
        for pause in pauses():
            await asyncio.sleep(pause)
            try:
                return self._text(path, *await self._authorized(path))
            except _Busy as busy:
                reason = str(busy)
        raise NoAnswer(f"the metadata service {self._base} does not answer {path}: {reason}")

    def _text(self, path: str, status: int, text: str) -> str | None:
        match status:
            case HTTPStatus.OK:
                return text
            case HTTPStatus.NOT_FOUND:
                return None
            case _:
                raise NoAnswer(f"the metadata service {self._base} answers {status} to {path}")

    async def _authorized(self, path: str) -> tuple[int, str]:
        """Returns the answer to a request with a token; a token that is refused is replaced once."""
        status, text = await self._request(path)
        if status in UNAUTHORIZED:
            self._token = None
            status, text = await self._request(path)
        return status, text

    async def _request(self, path: str) -> tuple[int, str]:
        if self._token is None:
            self._token = await self._new_token()
        headers = {AUTH_HEADER: self._token} if self._token else {}
        return await self._exchange("GET", f"/latest/meta-data/{path}", headers)

    async def _new_token(self) -> str:
        """Returns a new token; empty when the service has no tokens, or has them disabled."""
        status, text = await self._exchange("PUT", "/latest/api/token", {TTL_HEADER: LIFETIME_SECONDS})
        if status in NO_TOKENS:
            return ""
        if status != HTTPStatus.OK or not _TOKEN.fullmatch(text):
            raise _Busy(f"{status} instead of a token")
        return text

    async def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT),
                self._http.request(method, self._base + path, headers=headers, allow_redirects=False) as reply,
            ):
                content = await _bounded(reply.content)
        except (aiohttp.ClientError, TimeoutError, OSError, KernelFailure) as error:
            raise _Busy(str(error) or type(error).__name__) from error
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Busy(f"status {reply.status}")
        return reply.status, content.decode(errors="replace").strip()


def _confirmed_by(path: NetworkPath) -> type[aiohttp.ClientRequest]:
    """Requests that look at their connection before they are sent."""

    class Confirmed(aiohttp.ClientRequest):
        async def send(self, conn: Connection) -> aiohttp.ClientResponse:
            transport = conn.transport
            if transport is None:
                raise aiohttp.ClientConnectionError("the connection has ended")
            path.confirm(*(transport.get_extra_info(name)[:2] for name in ("sockname", "peername")))
            return await super().send(conn)

    return Confirmed


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    content = b""
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise _Busy(f"more than {MAX_ANSWER} bytes")
    return content


def pauses() -> Iterator[float]:
    """Yields the seconds to wait before each attempt of a request: none, then longer and longer, with jitter."""
    yield 0.0
    for attempt in range(ATTEMPTS - 1):
        yield FIRST_PAUSE * 2.0**attempt * random.uniform(*JITTER)


def url_of(endpoint: str | None) -> str:
    """Returns the URL of a metadata service that is given as URL or host; None: of the usual one."""
    chosen = endpoint or ENDPOINT
    return (chosen if "://" in chosen else f"http://{chosen}").rstrip("/")


def macs_of(text: str) -> tuple[str, ...]:
    """Parses a list with one MAC address per line, each followed by a slash. Raises BadAnswer."""
    macs = tuple(line.strip().rstrip("/").lower() for line in text.splitlines() if line.strip())
    for mac in macs:
        if not _MAC.fullmatch(mac):
            raise BadAnswer(f"the list of MAC addresses holds {mac[:80]!r}")
    return macs


def addresses_of(text: str) -> tuple[str, ...]:
    """Parses a JSON array of addresses. Raises BadAnswer."""
    try:
        return ordered(decode(text, list[str]))
    except (msgspec.DecodeError, ValueError) as error:
        raise BadAnswer(f"private-ipv4s is {text[:80]!r}: {error}") from error


def ipv6_addresses_of(text: str) -> tuple[str, ...]:
    """Parses a list in brackets whose entries are not quoted. Raises BadAnswer."""
    entries = [entry.strip(' "') for entry in text.strip("[] ").split(",")]
    try:
        return ordered(str(IPv6Address(entry)) for entry in entries if entry)
    except ValueError as error:
        raise BadAnswer(f"ipv6s is {text[:80]!r}: {error}") from error


def block_of(text: str) -> str:
    """Returns a CIDR block in canonical form. Raises BadAnswer."""
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise BadAnswer(f"a CIDR block of a vSwitch is {text[:80]!r}: {error}") from error


def gateway6_of(text: str | None, block: str) -> str | None:
    """Returns the gateway of an IPv6 block; None when it lies outside the block. Raises BadAnswer."""
    try:
        gateway = ip_address(text) if text else None
    except ValueError as error:
        raise BadAnswer(f"ipv6-gateway is {str(text)[:80]!r}: {error}") from error
    return str(gateway) if gateway and gateway in ip_network(block) else None
