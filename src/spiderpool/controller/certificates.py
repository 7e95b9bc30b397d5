"""The webhooks' own certificate authority and server certificate (leaf), which all replicas share in one Secret.

The installation makes the Secret, empty. Every replica may fill and renew it: the API server lets one writer win, and
the others load what it wrote.
``renewed`` decides each step from the bundle and the time, so a restart or another writer loses nothing:

    state of the bundle                            step
    there is none, or its newest authority expired create an authority and a leaf
    the newest authority is due                    add an authority: trusted, but it signs nothing yet
    the leaf is due, or an older authority signed  sign a new leaf with the newest authority, once that authority is
    it, or it has expired or lacks a host name     known everywhere (at once for an expired leaf or a new host name)
    the newest authority's leaf is used everywhere remove the older authorities

"Due" is after two thirds of the life, "everywhere" after ``CertificateLifetimes.overlap``. So during a rotation the
API server trusts the leaf that any replica serves, and no handshake fails.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiderpool.api.core_v1 import Secret
from spiderpool.controller.installation import missing, unusable
from spiderpool.errors import BadConfig, is_bug
from spiderpool.kube.client import Client, Conflict, Invalid, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import CERTIFICATE_EXPIRY, logger

STORE = "spiderpool-webhook-certs"
"""Name of the Secret."""
COMMON_NAME = "spiderpool-controller"
CLOCK_SKEW = timedelta(hours=1)
"""How far other clocks may be behind ours: certificates are valid from so long before their creation."""
RENEW_AFTER = 2 / 3
"""Part of its life after which a certificate is due."""
MAX_COMMON_NAME = 64
"""Characters of a common name at most (RFC 5280, ub-common-name)."""
AUTHORITY, AUTHORITY_KEY, LEAF, LEAF_KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
SYNC_TIMEOUT = 60.0
"""Seconds within which the informer must have read whether there is a Secret."""
SHORTEST_CHECK, LONGEST_CHECK = 0.1, 60.0
"""Bounds in seconds of the time between two checks whether a certificate is due."""
CHECKS_PER_OVERLAP = 4
"""Checks within ``CertificateLifetimes.overlap``, so that a replica loads new certificates well before it ends."""

Now = Callable[[], datetime]

log = logger("certificates")


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CertificateLifetimes:
    """How long certificates are valid."""

    authority: timedelta = timedelta(days=3650)
    leaf: timedelta = timedelta(days=365)

    @property
    def overlap(self) -> timedelta:
        """How long a new authority is trusted before it signs, and an old one after its last leaf was replaced."""
        return min(timedelta(minutes=5), self.leaf / 10)


@dataclass(frozen=True, slots=True)
class CertificateBundle:
    """The content of the Secret: authorities, the oldest first, and a leaf. Keys are PEM."""

    authorities: tuple[x509.Certificate, ...]
    authority_key: bytes
    """Key of the newest authority; those of older authorities are not stored, as they sign nothing any more."""
    leaf: x509.Certificate
    leaf_key: bytes

    @property
    def newest(self) -> x509.Certificate:
        """The authority that signs."""
        return self.authorities[-1]

    @property
    def trusted(self) -> bytes:
        """All authorities as PEM, for ``caBundle`` of the webhooks."""
        return b"".join(_pem(authority) for authority in self.authorities)

    @property
    def chain(self) -> bytes:
        """The leaf and its key as PEM, for the TLS server."""
        return _pem(self.leaf) + self.leaf_key

    @property
    def names(self) -> set[str]:
        """Host names and addresses of the leaf."""
        value = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {*value.get_values_for_type(x509.DNSName), *map(str, value.get_values_for_type(x509.IPAddress))}

    def data(self) -> dict[str, bytes]:
        """``data`` of the Secret."""
        leaf = {LEAF: _pem(self.leaf), LEAF_KEY: self.leaf_key}
        return {AUTHORITY: self.trusted, AUTHORITY_KEY: self.authority_key, **leaf}


def parse(data: dict[str, bytes] | None) -> CertificateBundle | None:
    """The bundle in a Secret's ``data``; None when a part is missing or damaged, or does not fit the others."""
    try:
        return _parse(data or {})
    except (KeyError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        log.warning("certificates not usable", secret=STORE, error=f"{type(error).__name__}: {error}")
        return None


def _parse(data: dict[str, bytes]) -> CertificateBundle:
    authorities = tuple(x509.load_pem_x509_certificates(data[AUTHORITY]))
    leaf = x509.load_pem_x509_certificate(data[LEAF])
    bundle = CertificateBundle(authorities, data[AUTHORITY_KEY], leaf, data[LEAF_KEY])
    _require_match(bundle.newest, bundle.authority_key)
    _require_match(leaf, bundle.leaf_key)
    leaf.verify_directly_issued_by(_issuer(bundle))
    bundle.names  # noqa: B018 - raises ExtensionNotFound when the leaf has none
    return bundle


def _require_match(certificate: x509.Certificate, key: bytes) -> None:
    if _load_key(key).public_key() != certificate.public_key():
        raise ValueError("the key is not that of the certificate")


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return loaded


def _issuer(bundle: CertificateBundle) -> x509.Certificate:
    """The authority that signed the leaf. Raises ValueError when no authority of the bundle did."""
    for authority in reversed(bundle.authorities):
        with suppress(ValueError, TypeError, InvalidSignature):
            bundle.leaf.verify_directly_issued_by(authority)
            return authority
    raise ValueError("no authority has signed the server certificate")


def renewed(
    bundle: CertificateBundle | None, hosts: Iterable[str], now: datetime, lifetimes: CertificateLifetimes
) -> CertificateBundle:
    """The bundle after its next step, see above; the same bundle when nothing is to be done at ``now``.

    ``hosts`` are names that the leaf must have, beside those that it has for other replicas.
    """
    hosts = set(hosts)
    if bundle is None or _expired(bundle.newest, now):
        return _new_bundle(hosts, now, lifetimes)
    if _is_due(bundle.newest, now):
        certificate, key = _new_authority(now, lifetimes)
        return replace(bundle, authorities=(*bundle.authorities, certificate), authority_key=key)
    if _needs_leaf(bundle, hosts, now, lifetimes):
        leaf, key = _new_leaf(bundle.newest, bundle.authority_key, hosts | bundle.names, now, lifetimes)
        return replace(bundle, leaf=leaf, leaf_key=key)
    if len(bundle.authorities) > 1 and _issuer(bundle) == bundle.newest and _age(bundle.leaf, now) >= lifetimes.overlap:
        return replace(bundle, authorities=(bundle.newest,))
    return bundle


def _needs_leaf(bundle: CertificateBundle, hosts: set[str], now: datetime, lifetimes: CertificateLifetimes) -> bool:
    """Whether to sign a new leaf: at once when the old one is useless, otherwise once the newest authority is known."""
    if _expired(bundle.leaf, now) or _expired(_issuer(bundle), now) or not hosts <= bundle.names:
        return True
    known = len(bundle.authorities) == 1 or _age(bundle.newest, now) >= lifetimes.overlap
    return known and (_is_due(bundle.leaf, now) or _issuer(bundle) != bundle.newest)


def _created(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + CLOCK_SKEW


def _age(certificate: x509.Certificate, now: datetime) -> timedelta:
    return now - _created(certificate)


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    created = _created(certificate)
    return now >= created + (certificate.not_valid_after_utc - created) * RENEW_AFTER


def _expired(certificate: x509.Certificate, now: datetime) -> bool:
    return now >= certificate.not_valid_after_utc


def _new_bundle(hosts: set[str], now: datetime, lifetimes: CertificateLifetimes) -> CertificateBundle:
    authority, authority_key = _new_authority(now, lifetimes)
    leaf, leaf_key = _new_leaf(authority, authority_key, hosts, now, lifetimes)
    return CertificateBundle((authority,), authority_key, leaf, leaf_key)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""What the key of an authority is for (RFC 5280, 4.2.1.3)."""


def _new_authority(now: datetime, lifetimes: CertificateLifetimes) -> tuple[x509.Certificate, bytes]:
    """A new authority with a unique name: by name a TLS client finds the authority that signed a leaf."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = _subject(f"{COMMON_NAME}-ca-{serial:x}")
    builder = (
        _builder(name, name, key, now, now + lifetimes.authority)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), _key_pem(key)


def _new_leaf(
    authority: x509.Certificate, authority_key: bytes, hosts: set[str], now: datetime, lifetimes: CertificateLifetimes
) -> tuple[x509.Certificate, bytes]:
    key, signer = ec.generate_private_key(ec.SECP256R1()), _load_key(authority_key)
    end = min(now + lifetimes.leaf, authority.not_valid_after_utc)
    names = x509.SubjectAlternativeName([_general_name(host) for host in sorted(hosts)])
    certificate = (
        _builder(_subject(min(hosts)), authority.subject, key, now, end)
        .serial_number(x509.random_serial_number())
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate, _key_pem(key)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_COMMON_NAME])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """Make a TLS server use this certificate and key (PEM) for new connections.

    The key is written to a file, because Python's ``ssl`` loads keys from files alone; the file is deleted at once.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tls.pem"
        file.touch(mode=0o600)
        file.write_bytes(chain)
        context.load_cert_chain(file, password=_no_password)


def _no_password() -> str:
    """Instead of a question on the terminal. Raises BadConfig."""
    raise BadConfig(f"{LEAF_KEY} is encrypted: store it without a password")


def export_expiry(leaf: x509.Certificate, authorities: Iterable[x509.Certificate]) -> None:
    """Export when the certificate that serves, and the first of its authorities, expire."""
    ends = {"serving": leaf.not_valid_after_utc, "authority": min(each.not_valid_after_utc for each in authorities)}
    for name, end in ends.items():
        CERTIFICATE_EXPIRY.labels(name).set(end.timestamp())


class WebhookCertificates(Protocol):
    """What the webhook server and the registrations need of certificates, whoever makes them."""

    problem: str | None
    """Why there is none to load, or no newer one; None when all is well."""
    context: ssl.SSLContext
    """That of the webhook server, which has the certificate."""

    @property
    def trusted(self) -> bytes | None:
        """All authorities as PEM, for ``caBundle`` of the webhooks; None until a certificate is loaded."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` whenever a certificate has been loaded. Returns a function that ends the subscription."""

    def note_registered(self, authorities: bytes) -> None:
        """Take note of the authorities (PEM) that are registered when a leader begins: others may serve by them."""

    async def run(self) -> None:
        """Load certificates until cancelled."""


class Certificates:
    """Makes and renews the certificates in the Secret, and loads them into the TLS context of the webhook server."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        hosts: Iterable[str],
        lifetimes: CertificateLifetimes | None = None,
        now: Now = utc_now,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._hosts = frozenset(hosts)
        self._lifetimes = lifetimes or CertificateLifetimes()
        self._now = now
        self._secrets = Informer(client, Secret, namespace, fields=f"metadata.name={STORE}")
        self._changed = asyncio.Event()  # the Secret changed: check it
        self._secrets.subscribe(lambda _, __: self._changed.set())
        self._listeners: list[Callable[[], None]] = []  # called whenever a certificate has been loaded
        self._bundle: CertificateBundle | None = None  # what ``context`` serves; restores a Secret that was made again
        self.problem: str | None = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    @property
    def trusted(self) -> bytes | None:
        """All authorities as PEM, for ``caBundle`` of the webhooks; None until a certificate is loaded."""
        return self._bundle.trusted if self._bundle else None

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` whenever a certificate has been loaded. Returns a function that ends the subscription."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def note_registered(self, authorities: bytes) -> None:
        """Nothing is to be done: the bundle has all authorities by which others may serve."""

    async def run(self) -> None:
        """Make, renew and load certificates until cancelled. Raises NotReady when the first list takes too long."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._secrets.run())
            group.create_task(self._check_forever())

    async def _check_forever(self) -> None:
        pause = min(max(self._lifetimes.overlap.total_seconds() / CHECKS_PER_OVERLAP, SHORTEST_CHECK), LONGEST_CHECK)
        await self._secrets.synced(SYNC_TIMEOUT)
        while True:
            self._changed.clear()
            try:
                await self._ensure()
                self.problem = None
            except Exception as error:  # repeated at the next check; until then the loaded certificate serves
                self.problem = str(error) or repr(error)
                log.warning("certificates not kept", secret=STORE, error=str(error), exc_info=is_bug(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _ensure(self) -> None:
        """Write the Secret when a step is due, otherwise load what it holds. Fills an empty or damaged Secret again.

        Raises BadConfig when there is no Secret, or none that can be written.
        """
        stored = self._secrets.get(f"{self._namespace}/{STORE}")
        if stored is None:
            raise missing(self._what)
        in_secret = parse(stored.data) if stored.data else None
        desired = renewed(in_secret or self._bundle, self._hosts, self._now(), self._lifetimes)
        if desired == in_secret:
            self._load(desired)
            return
        try:
            self._secrets.note(await self._write(stored, desired))
            log.info("certificates written", secret=STORE, valid_until=desired.leaf.not_valid_after_utc.isoformat())
        except (Conflict, NotFound):  # another replica was faster, or the Secret is gone: the watch brings it
            return
        except Invalid as error:  # it is immutable, or of a type that requires other keys
            raise unusable(self._what, error) from error

    async def _write(self, stored: Secret, desired: CertificateBundle) -> Secret:
        precondition = {"resourceVersion": stored.metadata.resourceVersion}
        data = {**dict.fromkeys(stored.data or {}), **desired.data()}
        return await self._client.patch(
            Secret, STORE, {"metadata": precondition, "data": data}, namespace=self._namespace
        )

    @property
    def _what(self) -> str:
        return f"Secret {self._namespace}/{STORE}"

    def _load(self, bundle: CertificateBundle) -> None:
        if bundle != self._bundle:
            load_chain(self.context, bundle.chain)
            self._bundle = bundle
            export_expiry(bundle.leaf, bundle.authorities)
            log.info("certificate loaded", serial=f"{bundle.leaf.serial_number:x}", authorities=len(bundle.authorities))
            for listener in self._listeners:
                listener()


async def erase(client: Client, namespace: str) -> None:
    """Remove certificates and keys from the Secret, which stays. It is no error when there is none.

    Nor is it one when the Secret cannot be empty, since it is immutable or of another type: a log line tells of it.
    """
    try:
        await client.patch(Secret, STORE, {"data": None}, namespace)
    except NotFound:
        return
    except Invalid as error:
        log.warning("keys stay until the Secret is deleted", secret=f"{namespace}/{STORE}", error=error.message)
