"""Certificates that sign themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

NOW = datetime.now(UTC)


def certificate(until: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> x509.Certificate:
    """A certificate that signs itself."""
    key, name = (
        key or ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "c")]),
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    return (
        builder.serial_number(1)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )


def pem(one: x509.Certificate) -> bytes:
    return one.public_bytes(Encoding.PEM)
