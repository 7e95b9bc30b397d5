"""The webhooks' own certificate authority and server certificate, shared by all replicas in one Secret.

Every replica may make and renew them: the API server lets one writer win, the others take over what it
wrote. A server certificate is renewed in place. A new authority is trusted for a while before anything
is signed by it, and the old one for a while after, so that no handshake fails in between.
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
from msgspec.structs import replace as with_fields

from spiderpool.api.core_v1 import Secret
from spiderpool.api.meta import ObjectMeta
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Client, Conflict, Invalid, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import logger

STORE = "spiderpool-webhook-certs"
"""Name of the Secret."""
COMMON_NAME = "spiderpool-controller"
CLOCK_SKEW = timedelta(hours=1)
"""How far other clocks may be behind ours: certificates are valid from so long before they are made."""
AUTHORITY, AUTHORITY_KEY, LEAF, LEAF_KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
SYNC_TIMEOUT = 60.0
"""Seconds until we must know whether there is a Secret."""
LONGEST_LOOK = 60.0
"""Seconds between two looks at the clock, at most."""

Now = Callable[[], datetime]

log = logger("certificates")


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CertificateLifetimes:
    """How long certificates are valid. They are replaced after two thirds of that."""

    authority: timedelta = timedelta(days=3650)
    leaf: timedelta = timedelta(days=365)

    @property
    def overlap(self) -> timedelta:
        """How long a new authority is trusted before it signs, and an old one after its last signature was replaced."""
        return min(timedelta(minutes=5), self.leaf / 10)


@dataclass(frozen=True, slots=True)
class CertificateBundle:
    """The content of the Secret: authorities, the oldest first, and a server certificate. Keys are PEM."""

    authorities: tuple[x509.Certificate, ...]
    authority_key: bytes
    """Of the newest authority; those of older ones are thrown away."""
    leaf: x509.Certificate
    leaf_key: bytes

    @property
    def newest(self) -> x509.Certificate:
        """The authority that signs."""
        return self.authorities[-1]

    @property
    def trusted(self) -> bytes:
        """What the API server checks us against, as PEM."""
        return b"".join(_pem(authority) for authority in self.authorities)

    @property
    def chain(self) -> bytes:
        """What we serve with, as PEM."""
        return _pem(self.leaf) + self.leaf_key

    @property
    def names(self) -> set[str]:
        """Names and addresses that the server certificate is for."""
        value = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {*value.get_values_for_type(x509.DNSName), *map(str, value.get_values_for_type(x509.IPAddress))}

    def data(self) -> dict[str, bytes]:
        """As the Secret holds it."""
        leaf = {LEAF: _pem(self.leaf), LEAF_KEY: self.leaf_key}
        return {AUTHORITY: self.trusted, AUTHORITY_KEY: self.authority_key, **leaf}


def parse(data: dict[str, bytes] | None) -> CertificateBundle | None:
    """The content of a Secret; None when it is not one that can be served with and renewed."""
    try:
        return _parse(data or {})
    except (KeyError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None


def _parse(data: dict[str, bytes]) -> CertificateBundle:
    authorities = tuple(x509.load_pem_x509_certificates(data[AUTHORITY]))
    leaf = x509.load_pem_x509_certificate(data[LEAF])
    bundle = CertificateBundle(authorities, data[AUTHORITY_KEY], leaf, data[LEAF_KEY])
    _require_match(bundle.newest, bundle.authority_key)
    _require_match(leaf, bundle.leaf_key)
    leaf.verify_directly_issued_by(_issuer(bundle))
    bundle.names  # noqa: B018 - raises when there are none
    return bundle


def _require_match(certificate: x509.Certificate, key: bytes) -> None:
    if _load(key).public_key() != certificate.public_key():
        raise ValueError("the key is not that of the certificate")


def _load(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return loaded


def _issuer(bundle: CertificateBundle) -> x509.Certificate:
    """The authority that signed the server certificate. Raises ValueError when it is not among them."""
    for authority in reversed(bundle.authorities):
        with suppress(ValueError, TypeError, InvalidSignature):
            bundle.leaf.verify_directly_issued_by(authority)
            return authority
    raise ValueError("no authority has signed the server certificate")


def renewed(
    bundle: CertificateBundle | None, hosts: Iterable[str], now: datetime, lives: CertificateLifetimes
) -> CertificateBundle:
    """The bundle as it should be now: the same one when nothing is due. At most one step of a rotation is taken."""
    hosts = set(hosts)
    if bundle is None or _expired(bundle.newest, now):
        return _fresh(hosts, now, lives)
    if _is_due(bundle.newest, now):
        certificate, key = _authority(now, lives)
        return replace(bundle, authorities=(*bundle.authorities, certificate), authority_key=key)
    if _needs_leaf(bundle, hosts, now, lives):
        leaf, key = _leaf(bundle.newest, bundle.authority_key, hosts | bundle.names, now, lives)
        return replace(bundle, leaf=leaf, leaf_key=key)
    if len(bundle.authorities) > 1 and _issuer(bundle) == bundle.newest and _age(bundle.leaf, now) >= lives.overlap:
        return replace(bundle, authorities=(bundle.newest,))
    return bundle


def _needs_leaf(bundle: CertificateBundle, hosts: set[str], now: datetime, lives: CertificateLifetimes) -> bool:
    """Whether to sign a new one: at once when the old one is useless, else once the newest authority is known."""
    if _expired(bundle.leaf, now) or _expired(_issuer(bundle), now) or not hosts <= bundle.names:
        return True
    known = len(bundle.authorities) == 1 or _age(bundle.newest, now) >= lives.overlap
    return known and (_is_due(bundle.leaf, now) or _issuer(bundle) != bundle.newest)


def _age(certificate: x509.Certificate, now: datetime) -> timedelta:
    return now - (certificate.not_valid_before_utc + CLOCK_SKEW)


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    made = certificate.not_valid_before_utc + CLOCK_SKEW
    return now >= made + (certificate.not_valid_after_utc - made) * 2 / 3


def _expired(certificate: x509.Certificate, now: datetime) -> bool:
    return now >= certificate.not_valid_after_utc


def _fresh(hosts: set[str], now: datetime, lives: CertificateLifetimes) -> CertificateBundle:
    authority, authority_key = _authority(now, lives)
    leaf, leaf_key = _leaf(authority, authority_key, hosts, now, lives)
    return CertificateBundle((authority,), authority_key, leaf, leaf_key)


def _authority(now: datetime, lives: CertificateLifetimes) -> tuple[x509.Certificate, bytes]:
    """An authority of its own name: by the name the API server finds the one that signed a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = _subject(f"{COMMON_NAME}-ca-{serial:x}")
    usage = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(name, name, key, serial, now, now + lives.authority).add_extension(usage, critical=True)
    return builder.sign(key, hashes.SHA256()), _private(key)


def _leaf(
    authority: x509.Certificate, authority_key: bytes, hosts: set[str], now: datetime, lives: CertificateLifetimes
) -> tuple[x509.Certificate, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lives.leaf, authority.not_valid_after_utc)
    names = x509.SubjectAlternativeName([_general_name(host) for host in sorted(hosts)])
    certificate = (
        _builder(_subject(min(hosts)), authority.subject, key, x509.random_serial_number(), now, end)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(_load(authority_key), hashes.SHA256())
    )
    return certificate, _private(key)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
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


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """Serve new connections with this certificate and key.

    The key touches a file only while OpenSSL reads it: Python loads keys from files alone.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tls.pem"
        file.touch(mode=0o600)
        file.write_bytes(chain)
        context.load_cert_chain(file)


class Certificates:
    """Keeps the Secret as it should be, and serves new connections with what it holds."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        hosts: Iterable[str],
        lives: CertificateLifetimes | None = None,
        now: Now = utc_now,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._hosts = frozenset(hosts)
        self._lives = lives or CertificateLifetimes()
        self._now = now
        self._secrets = Informer(client, Secret, namespace, fields=f"metadata.name={STORE}")
        self._look = asyncio.Event()
        self._secrets.subscribe(lambda _, __: self._look.set())
        self._listeners: list[Callable[[], None]] = []
        self._bundle: CertificateBundle | None = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    @property
    def trusted(self) -> bytes | None:
        """What the API server should check us against, as PEM; None until a certificate is loaded."""
        return self._bundle.trusted if self._bundle else None

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` when a certificate was loaded. What is returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Keep the certificates until cancelled. Raises NotReady when the API server gives no first answer."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._secrets.run())
            group.create_task(self._keep())

    async def _keep(self) -> None:
        pause = min(max(self._lives.overlap.total_seconds() / 4, 0.1), LONGEST_LOOK)
        await self._secrets.synced(SYNC_TIMEOUT)
        while True:
            self._look.clear()
            try:
                await self._ensure()
            except SpiderpoolError as error:
                log.warning("certificates not kept", secret=STORE, error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()

    async def _ensure(self) -> None:
        """Write the Secret if anything is due, and load what it holds. A lost or damaged one is written again."""
        stored = self._secrets.get(f"{self._namespace}/{STORE}")
        held = parse(stored.data) if stored else None
        wanted = renewed(held or self._bundle, self._hosts, self._now(), self._lives)
        if wanted == held:
            self._load(wanted)
            return
        try:
            self._secrets.note(await self._write(stored, wanted))
            log.info("certificates written", secret=STORE, valid_until=wanted.leaf.not_valid_after_utc.isoformat())
        except (AlreadyExists, Conflict, NotFound):  # another replica was faster: its version comes by the watch
            return

    async def _write(self, stored: Secret | None, wanted: CertificateBundle) -> Secret:
        if stored is None:
            metadata = ObjectMeta(name=STORE, namespace=self._namespace)
            return await self._client.create(Secret(metadata=metadata, data=wanted.data(), type="Opaque"))
        try:
            return await self._client.replace(with_fields(stored, data=wanted.data()))
        except Invalid:  # immutable, or of a type that asks for other keys
            await self._client.delete(Secret, STORE, self._namespace, uid=stored.metadata.uid)
            self._secrets.forget(stored)
            return await self._write(None, wanted)

    def _load(self, bundle: CertificateBundle) -> None:
        if bundle != self._bundle:
            load_chain(self.context, bundle.chain)
            self._bundle = bundle
            log.info("certificate loaded", serial=f"{bundle.leaf.serial_number:x}", authorities=len(bundle.authorities))
            for listener in self._listeners:
                listener()
