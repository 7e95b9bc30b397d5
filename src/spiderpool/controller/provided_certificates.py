"""Certificates of the webhooks that somebody else makes and renews: cert-manager, or the administrator.

They are files of a folder, which a Secret is mounted on, with the names of a Secret of type ``kubernetes.io/tls``. The
kubelet replaces all files at once; until they fit each other again, what was loaded last serves.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spiderpool.controller.certificates import AUTHORITY, LEAF, LEAF_KEY, Now, load_chain, utc_now
from spiderpool.errors import BadConfig, is_bug
from spiderpool.telemetry import logger

CHECK = 10.0
"""Seconds between two looks at the files."""

log = logger("certificates")


class ProvidedCertificates:
    """Loads the certificate of a folder into the TLS context of the webhook server, and each that replaces it."""

    def __init__(self, folder: Path, hosts: Iterable[str], now: Now = utc_now, check: float = CHECK) -> None:
        self._folder = folder
        self._hosts = frozenset(hosts)
        self._now = now
        self._check = check
        self._loaded: tuple[bytes, bytes, bytes] | None = None  # what ``context`` serves: authorities, chain, key
        self._listeners: list[Callable[[], None]] = []
        self.problem: str | None = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    @property
    def trusted(self) -> bytes | None:
        """The authorities as PEM, for ``caBundle`` of the webhooks; None until a certificate is loaded."""
        return self._loaded[0] if self._loaded else None

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` whenever a certificate has been loaded. Returns a function that ends the subscription."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Load certificates until cancelled."""
        while True:
            try:
                self._look()
                self.problem = None
            except Exception as error:  # the one that was loaded serves on
                if self.problem != str(error):
                    log.warning(
                        "certificate not loaded", folder=str(self._folder), error=str(error), exc_info=is_bug(error)
                    )
                self.problem = str(error)
            await asyncio.sleep(self._check)

    def _look(self) -> None:
        """Load what the folder has, if it is another one. Raises BadConfig if it cannot be used."""
        found = tuple(self._read(name) for name in (AUTHORITY, LEAF, LEAF_KEY))
        authorities, chain, key = found
        if (authorities, chain, key) == self._loaded:
            return
        leaf = self._checked(authorities, chain, key)
        load_chain(self.context, chain.rstrip() + b"\n" + key)
        self._loaded = authorities, chain, key
        log.info("certificate loaded", serial=f"{leaf.serial_number:x}", until=leaf.not_valid_after_utc.isoformat())
        for listener in self._listeners:
            listener()

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise BadConfig(
                f"{self._folder / name} cannot be read ({error.strerror}): the Secret of the webhooks' certificate must"
                f" have {AUTHORITY}, {LEAF} and {LEAF_KEY}"
            ) from error

    def _checked(self, authorities: bytes, chain: bytes, key: bytes) -> x509.Certificate:
        """The server's certificate. Raises BadConfig if the API server would refuse it."""
        trusted = self._parsed(AUTHORITY, authorities)
        leaf, *others = self._parsed(LEAF, chain)
        try:
            private = load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:
            raise BadConfig(f"{LEAF_KEY} is no key in PEM without a password: {error}") from error
        if private.public_key() != leaf.public_key():
            raise BadConfig(f"{LEAF_KEY} is not the key of {LEAF}")
        if not any(_has_signed(issuer, leaf) for issuer in (*others, *trusted)):
            raise BadConfig(f"{LEAF} was signed by none of {AUTHORITY}: write the authority's own certificate there")
        if missing := sorted(self._hosts - _names(leaf)):
            raise BadConfig(f"{LEAF} lacks the names {', '.join(missing)}, by which the API server calls the webhooks")
        _require_valid(leaf, self._now())
        return leaf

    def _parsed(self, name: str, pem: bytes) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(pem)
        except ValueError as error:
            raise BadConfig(f"{name} has no certificate in PEM: {error}") from error


def _has_signed(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        value = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*value.get_values_for_type(x509.DNSName), *map(str, value.get_values_for_type(x509.IPAddress))}


def _require_valid(leaf: x509.Certificate, now: datetime) -> None:
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        begin, end = leaf.not_valid_before_utc.isoformat(), leaf.not_valid_after_utc.isoformat()
        raise BadConfig(f"{LEAF} is valid from {begin} to {end} only, and it is {now.isoformat()}")
