"""Certificates of the webhooks that somebody else makes and renews: cert-manager, or the administrator.

They are files of a folder, which a Secret is mounted on, with the names of a Secret of type ``kubernetes.io/tls``. What
is found there is tried as the API server will: by a handshake in memory. Until that succeeds, what was loaded last
serves; and one of another authority serves only when the API server has had time to learn that authority:

    time              trusted (caBundle)    serves
    A was found       A                     A
    B is found        A, B                  A, unless it has expired
    + announced       A, B                  B
    + overlap         B                     B

An authority that was found and is followed by another one before it serves is trusted for the overlap as well: another
replica may have found it earlier, and serve by it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spiderpool.controller.admission_server import accept_client_certificates
from spiderpool.controller.certificates import AUTHORITY, LEAF, LEAF_KEY, export_expiry, load_chain
from spiderpool.errors import BadConfig, is_bug
from spiderpool.telemetry import logger

MOST_FLIGHTS = 10
"""Rounds of a handshake in memory, which takes three."""

END = b"-----END CERTIFICATE-----\n"
"""The last line of a certificate in PEM."""

log = logger("certificates")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    check: float = 10.0
    """Between two looks at the files."""
    announced: float = 120.0
    """For which an authority is trusted before a certificate of it serves: the leader, who writes ``caBundle``, may see
    the change later than we, since kubelets bring the files of a Secret up to date once in a minute and a half."""
    overlap: float = 300.0
    """For which a former authority is trusted as well: other replicas may see the change later."""


DEFAULT_TIMES = Times()


@dataclass(frozen=True, slots=True)
class ProvidedPair:
    """A certificate that passed the handshake: its authorities (PEM), and a context that serves with it."""

    files: tuple[bytes, ...]
    authorities: bytes
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class AnnouncedPair:
    """A certificate whose authority is trusted already, and that serves from a time of the event loop's clock on."""

    pair: ProvidedPair
    serves_from: float


class ProvidedCertificates:
    """Serves with the certificate of a folder, and with each that replaces it. ``host`` is whom the API server calls.

    A certificate has a context of its own, since OpenSSL keeps the one before in a context if the kind of key differs:
    ``context`` hands each connection over to it.
    """

    def __init__(self, folder: Path, host: str, *, clients: Path | None = None, times: Times = DEFAULT_TIMES) -> None:
        self._folder = folder
        self._host = host
        self._clients = clients
        self._times = times
        self._pair: ProvidedPair | None = None
        self._next: AnnouncedPair | None = None
        self._former: dict[bytes, float] = {}  # each authority that others may serve by → loop time until which
        self._listeners: list[Callable[[], None]] = []
        self.problem: str | None = None
        self.context = self._new_context()
        self.context.sni_callback = self._hand_over

    @property
    def trusted(self) -> bytes | None:
        """The authorities as PEM, for ``caBundle`` of the webhooks; None until a certificate is loaded."""
        if self._pair is None:
            return None
        found = [*_each(self._pair.authorities), *(_each(self._next.pair.authorities) if self._next else ())]
        return b"".join(dict.fromkeys([*(each for each in self._former if each not in found), *found]))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` whenever a certificate has been loaded. Returns a function that ends the subscription."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def note_registered(self, authorities: bytes) -> None:
        """Trust registered authorities (PEM) for a while: other replicas may serve by them. Damaged ones are left."""
        with suppress(BadConfig):
            self._trust_for_a_while(_certificates(authorities))

    async def run(self) -> None:
        """Load certificates until cancelled."""
        while True:
            try:
                self._look()
                self.problem = None
            except Exception as error:  # the one that was loaded serves on
                if self.problem != str(error):
                    facts = {"folder": str(self._folder), "error": str(error)}
                    log.warning("certificate not usable", **facts, exc_info=is_bug(error))
                self.problem = str(error)
            self._forget_former()
            await asyncio.sleep(self._times.check)

    def _look(self) -> None:
        """Load what the folder has, if it is another certificate. Raises BadConfig if the API server would refuse it.

        The present one is tried again, too: it may have expired.
        """
        files = tuple(self._read(name) for name in (AUTHORITY, LEAF, LEAF_KEY))
        known = [self._pair, self._next.pair if self._next else None]
        pair = next((each for each in known if each and each.files == files), None) or self._loaded(files)
        _shake_hands(pair.context, pair.authorities, self._host)
        if pair is self._pair:
            self._withdraw()
        elif self._may_serve(pair):
            self._serve(pair)
        elif self._next is None or self._next.pair is not pair:
            self._take_back()
            self._next = AnnouncedPair(pair, asyncio.get_running_loop().time() + self._times.announced)
            log.info(
                "certificate of another authority found", folder=str(self._folder), serves_in=self._times.announced
            )
            self._notify()

    def _may_serve(self, pair: ProvidedPair) -> bool:
        """Whether the API server accepts it by now, or accepts what serves no longer."""
        if self._next and self._next.pair is pair and asyncio.get_running_loop().time() >= self._next.serves_from:
            return True
        present = self._pair
        return (
            present is None
            or is_accepted(pair.context, present.authorities, self._host)
            or not is_accepted(present.context, present.authorities, self._host)
        )

    def _serve(self, pair: ProvidedPair) -> None:
        if self._pair:
            self._trust_for_a_while(self._pair.authorities)
        self._take_back()
        self._pair = pair
        export_expiry(
            x509.load_pem_x509_certificates(pair.files[1])[0], x509.load_pem_x509_certificates(pair.authorities)
        )
        log.info("certificate loaded", folder=str(self._folder))
        self._notify()

    def _withdraw(self) -> None:
        """The folder has the certificate that serves (again)."""
        if self._next:
            self._take_back()
            self._notify()

    def _take_back(self) -> None:
        """Let what was announced not serve; another replica may serve by it already."""
        if self._next:
            self._trust_for_a_while(self._next.pair.authorities)
        self._next = None

    def _trust_for_a_while(self, authorities: bytes) -> None:
        until = asyncio.get_running_loop().time() + self._times.overlap
        self._former |= dict.fromkeys(_each(authorities), until)

    def _loaded(self, files: tuple[bytes, ...]) -> ProvidedPair:
        authorities, chain, key = files
        context = self._new_context()
        try:
            load_chain(context, chain.rstrip() + b"\n" + key)
        except (ssl.SSLError, ValueError) as error:
            raise BadConfig(f"{LEAF} and {LEAF_KEY} are no certificate with its key in PEM: {error}") from error
        return ProvidedPair(files, _certificates(authorities), context)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if self._clients:
            accept_client_certificates(context, self._clients)
        return context

    def _hand_over(self, connection: ssl.SSLObject, _: str, __: ssl.SSLContext) -> None:
        if self._pair:
            connection.context = self._pair.context

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise BadConfig(
                f"{self._folder / name} cannot be read ({error.strerror}): the Secret of the webhooks' certificate must"
                f" exist and have {AUTHORITY}, {LEAF} and {LEAF_KEY}"
            ) from error

    def _forget_former(self) -> None:
        """Trust authorities no more whose time is over."""
        now = asyncio.get_running_loop().time()
        if over := [authorities for authorities, until in self._former.items() if now >= until]:
            for authorities in over:
                del self._former[authorities]
            self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()


def _certificates(pem: bytes) -> bytes:
    """The certificates of a file and nothing else: the webhook configurations, where they go, are no secret."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadConfig(f"{AUTHORITY} has no certificate in PEM: {error}") from error
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def _each(authorities: bytes) -> list[bytes]:
    """Each certificate of what :func:`_certificates` returns."""
    return [each + END for each in authorities.split(END)[:-1]]


def _as_the_api_server(authorities: bytes) -> ssl.SSLContext:
    """A client that accepts what Go's crypto/x509 does.

    Each certificate of ``authorities`` is an anchor, roots or not; a server's names are its alternative names alone;
    and extensions that RFC 5280 asks for, such as key identifiers, may be missing.
    """
    client = ssl.create_default_context(cadata=authorities.decode())
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    client.hostname_checks_common_name = False
    return client


def _shake_hands(server: ssl.SSLContext, authorities: bytes, host: str) -> None:
    """Connect to a server in memory as the API server does. Raises BadConfig with what it does not accept."""
    client = _as_the_api_server(authorities)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = [*ends]
    for _ in range(MOST_FLIGHTS):
        waiting = [end for end in waiting if not _has_finished(end, host)]
        if not waiting:
            return
    raise BadConfig(f"a connection with {LEAF} is not made after {MOST_FLIGHTS} rounds")


def is_accepted(server: ssl.SSLContext, authorities: bytes, host: str) -> bool:
    """Whether the API server, which calls a host and trusts authorities (PEM), accepts what a server has."""
    with suppress(BadConfig):
        _shake_hands(server, _certificates(authorities), host)
        return True
    return False


def _has_finished(end: ssl.SSLObject, host: str) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLCertVerificationError as error:
        raise BadConfig(
            f"the API server would not accept {LEAF} for {host} by {AUTHORITY}: {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        raise BadConfig(f"no connection can be made with {LEAF} and {LEAF_KEY}: {error}") from error
    return True
