"""Certificates of the webhooks that somebody else makes: what is loaded, what is refused, and how a change is taken."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from prometheus_client import REGISTRY

from spiderpool.controller.provided_certificates import ProvidedCertificates, Times
from spiderpool_lab.certificates import Authority, KeyPair
from tests.support.certificate_folder import HOST, Key, issue, place
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

CHECK = 0.02
"""Seconds between two looks at the files."""


ENCRYPTED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("theirs")


@asynccontextmanager
async def running(
    folder: Path, *, announced: float = 0.0, overlap: float = 60.0
) -> AsyncIterator[ProvidedCertificates]:
    certificates = ProvidedCertificates(folder, HOST, times=Times(CHECK, announced, overlap))
    task = asyncio.create_task(certificates.run())
    try:
        yield certificates
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def served(certificates: ProvidedCertificates) -> bytes:
    """The certificate (PEM) that a client gets, who trusts what is to be trusted."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = ssl.create_default_context(cadata=(certificates.trusted or b"").decode())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=HOST)
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return ssl.DER_cert_to_PEM_cert(shown).encode()


def x509_certificates(pem: bytes | None) -> list[bytes]:
    return [each.public_bytes(Encoding.PEM) for each in x509.load_pem_x509_certificates(pem or b"")]


async def is_served(certificates: ProvidedCertificates, pair: KeyPair) -> bool:
    with suppress(ssl.SSLCertVerificationError):  # the one that serves has expired
        return await served(certificates) == pair.certificate
    return False


@pytest.mark.parametrize("kinds", [("ec", "rsa"), ("rsa", "ec"), ("ec", "ec")])
async def test_what_the_folder_has_is_served_and_so_is_what_replaces_it(
    tmp_path: Path, authority: Authority, kinds: tuple[str, str]
) -> None:
    keys: dict[str, Callable[[], Key]] = {
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }
    first, other = issue(authority, key=keys[kinds[0]]()), Authority.create("next")
    second = issue(other, key=keys[kinds[1]]())
    place(tmp_path, authority, first)
    told: list[bytes | None] = []
    async with running(tmp_path) as certificates:
        certificates.subscribe(lambda: told.append(certificates.trusted))
        await eventually(lambda: certificates.trusted == authority.pair.certificate)
        assert await served(certificates) == first.certificate
        place(tmp_path, other, second)
        await eventually(lambda: len(told) == 3)
        assert await served(certificates) == second.certificate
        assert certificates.problem is None
    both = authority.pair.certificate + other.pair.certificate
    assert told == [authority.pair.certificate, both, both], "other replicas may still serve with the one before"


async def test_another_authority_is_trusted_before_it_serves(tmp_path: Path, authority: Authority) -> None:
    first, other = issue(authority), Authority.create("next")
    second = issue(other)
    place(tmp_path, authority, first)
    async with running(tmp_path, announced=1.0) as certificates:
        await eventually(lambda: certificates.trusted)
        place(tmp_path, other, second)
        await eventually(lambda: certificates.trusted == authority.pair.certificate + other.pair.certificate)
        assert await served(certificates) == first.certificate, "the API server may not know the other one yet"
        await eventually(lambda: is_served(certificates, second))


async def test_one_of_the_same_authority_serves_at_once(tmp_path: Path, authority: Authority) -> None:
    place(tmp_path, authority, first := issue(authority))
    async with running(tmp_path, announced=60.0) as certificates:
        await eventually(lambda: certificates.trusted)
        expiry = x509.load_pem_x509_certificate(first.certificate).not_valid_after_utc.timestamp()
        name = "spiderpool_certificate_expiry_timestamp_seconds"
        assert REGISTRY.get_sample_value(name, {"certificate": "serving"}) == expiry
        told: list[bytes | None] = []
        certificates.subscribe(lambda: told.append(certificates.trusted))
        second = issue(authority)
        place(tmp_path, authority, second)
        await eventually(lambda: told)
        assert await served(certificates) == second.certificate


async def test_another_authority_does_not_wait_for_one_that_has_expired(tmp_path: Path, authority: Authority) -> None:
    place(tmp_path, authority, issue(authority, ends=timedelta(seconds=2)))
    other = Authority.create("next")
    second = issue(other)
    async with running(tmp_path, announced=60.0) as certificates:
        await eventually(lambda: certificates.trusted)
        place(tmp_path, other, second)
        await eventually(lambda: (certificates.trusted or b"").endswith(other.pair.certificate))
        await eventually(lambda: is_served(certificates, second))


async def test_an_authority_that_is_taken_back_is_trusted_no_more_after_a_while(
    tmp_path: Path, authority: Authority
) -> None:
    first, other = issue(authority), Authority.create("next")
    place(tmp_path, authority, first)
    async with running(tmp_path, announced=60.0, overlap=1.0) as certificates:
        await eventually(lambda: certificates.trusted)
        place(tmp_path, other, issue(other))
        await eventually(lambda: certificates.trusted == authority.pair.certificate + other.pair.certificate)
        place(tmp_path, authority, first)
        await eventually(lambda: certificates.trusted == other.pair.certificate + authority.pair.certificate)
        await eventually(lambda: certificates.trusted == authority.pair.certificate)


async def test_what_another_replica_serves_is_trusted_whatever_follows_it(tmp_path: Path, authority: Authority) -> None:
    """Its kubelet may have brought a change earlier: it serves what we have only announced."""
    other, third = Authority.create("next"), Authority.create("third")
    place(tmp_path, authority, issue(authority))
    async with running(tmp_path, announced=60.0) as certificates:
        await eventually(lambda: certificates.trusted)
        place(tmp_path, other, issue(other))
        await eventually(lambda: other.pair.certificate in (certificates.trusted or b""))
        place(tmp_path, third, issue(third))
        await eventually(lambda: third.pair.certificate in (certificates.trusted or b""))
        assert certificates.trusted == b"".join(each.pair.certificate for each in (other, authority, third))


async def test_an_authority_that_returns_is_trusted_once(tmp_path: Path, authority: Authority) -> None:
    other = Authority.create("next")
    first, second = issue(authority), issue(other)
    place(tmp_path, authority, first)
    async with running(tmp_path, announced=60.0) as certificates:
        for _ in range(2):
            place(tmp_path, authority, first)
            await eventually(lambda: (certificates.trusted or b"").endswith(authority.pair.certificate))
            place(tmp_path, other, second)
            await eventually(lambda: (certificates.trusted or b"").endswith(other.pair.certificate))
        both = {authority.pair.certificate, other.pair.certificate}
        assert {*x509_certificates(certificates.trusted)} == both
        assert len(x509_certificates(certificates.trusted)) == 2


async def test_former_authorities_are_trusted_no_more_after_a_while(tmp_path: Path, authority: Authority) -> None:
    place(tmp_path, authority, issue(authority))
    async with running(tmp_path, overlap=0.1) as certificates:
        await eventually(lambda: certificates.trusted)
        other = Authority.create("next")
        place(tmp_path, other, issue(other))
        await eventually(lambda: certificates.trusted == other.pair.certificate)


async def test_what_cannot_be_used_leaves_the_one_before(tmp_path: Path, authority: Authority) -> None:
    first = issue(authority)
    place(tmp_path, authority, first)
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.trusted)
        (tmp_path / "tls.key").write_bytes(issue(authority).key)
        await eventually(lambda: certificates.problem)
        assert "tls.crt and tls.key are no certificate with its key" in (certificates.problem or "")
        assert await served(certificates) == first.certificate


async def test_one_that_expires_while_it_serves_is_said(tmp_path: Path, authority: Authority) -> None:
    place(tmp_path, authority, issue(authority, ends=timedelta(seconds=3)))
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.trusted)
        await eventually(lambda: "certificate has expired" in (certificates.problem or ""), timeout=20)


async def test_a_key_among_the_authorities_is_not_published(tmp_path: Path, authority: Authority) -> None:
    place(tmp_path, authority, issue(authority))
    (tmp_path / "ca.crt").write_bytes(authority.pair.certificate + authority.pair.key)
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.trusted)
        assert certificates.trusted == authority.pair.certificate


@pytest.mark.parametrize("name", [HOST, "*.kube-system.svc"])
async def test_a_name_is_compared_as_tls_does(tmp_path: Path, authority: Authority, name: str) -> None:
    place(tmp_path, authority, issue(authority, name=name))
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.trusted)


async def test_an_authority_need_not_be_a_root(tmp_path: Path, authority: Authority) -> None:
    """For Go every certificate that is trusted is an anchor."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "between")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    between = Authority(certificate, key)
    place(tmp_path, between, issue(between))
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.trusted == between.pair.certificate)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder, _: (folder / "tls.crt").unlink(), "must exist and have ca.crt, tls.crt and tls.key"),
        (lambda folder, _: (folder / "ca.crt").write_bytes(b"x"), "ca.crt has no certificate in PEM"),
        (lambda folder, _: (folder / "tls.key").write_bytes(b"x"), "are no certificate with its key in PEM"),
        (lambda folder, _: (folder / "tls.key").write_bytes(ENCRYPTED), "tls.key is encrypted"),
        (
            lambda folder, _: (folder / "ca.crt").write_bytes(Authority.create("other").pair.certificate),
            f"would not accept tls.crt for {HOST} by ca.crt",
        ),
        (lambda folder, own: place(folder, own, issue(own, name="other.svc")), "Hostname mismatch"),
        (lambda folder, own: place(folder, own, issue(own, name=None)), "Hostname mismatch"),
        (lambda folder, own: place(folder, own, issue(own, ends=timedelta(hours=-1))), "certificate has expired"),
        (
            lambda folder, own: place(folder, own, issue(own, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
            "unsuitable certificate purpose",
        ),
    ],
)
async def test_what_the_api_server_would_refuse_is_not_loaded(
    tmp_path: Path, authority: Authority, spoil: Callable[[Path, Authority], object], words: str
) -> None:
    place(tmp_path, authority, issue(authority))
    spoil(tmp_path, authority)
    async with running(tmp_path) as certificates:
        await eventually(lambda: certificates.problem)
        assert words in (certificates.problem or "")
        assert certificates.trusted is None
