"""A folder with a certificate of the webhooks, as a Secret of type kubernetes.io/tls is mounted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiderpool_lab.certificates import Authority, KeyPair

HOST = "spiderpool-controller.kube-system.svc"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def issue(
    authority: Authority,
    *,
    name: str | None = HOST,
    key: Key | None = None,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ends: timedelta = timedelta(days=1),
) -> KeyPair:
    """A certificate as others may make it: without key identifiers, which Go does not miss."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if name:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(certificate.public_bytes(Encoding.PEM), private)


def place(folder: Path, authority: Authority, pair: KeyPair) -> None:
    """Write a certificate with its key, and the authority that clients are to trust."""
    contents = {"ca.crt": authority.pair.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
