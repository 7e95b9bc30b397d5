"""A certificate authority of our own for the webhooks, held in memory, and their registration with the API server."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiderpool.api.meta import Kind, Object, Scope
from spiderpool.controller.webhooks import path
from spiderpool.kube.client import Client
from spiderpool.settings import ControllerSettings

NAME = "spiderpool-controller"
"""Name of our webhook configurations."""

LIFETIME = datetime.timedelta(days=3650)
"""Longer than any process lives: each start makes a new authority."""
CLOCK_SKEW = datetime.timedelta(hours=1)
"""How far the API server's clock may be behind ours."""

WEBHOOK_TIMEOUT = 10
"""Seconds after which the API server gives up on us."""

REGISTRATION_GROUP = "admissionregistration.k8s.io"
MUTATING = Kind(
    REGISTRATION_GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", Scope.CLUSTER
)
VALIDATING = Kind(
    REGISTRATION_GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", Scope.CLUSTER
)


@dataclass(frozen=True, slots=True)
class Serving:
    """What the webhook server serves with, and what the API server checks it against."""

    ca: bytes
    """PEM."""
    context: ssl.SSLContext


def issue(hosts: Sequence[str]) -> Serving:
    """A new authority and a server certificate for these host names and addresses."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = _subject(f"{NAME}-ca"), _subject(hosts[0])
    ca_usage = x509.BasicConstraints(ca=True, path_length=0)
    ca = _builder(ca_name, ca_name, ca_key).add_extension(ca_usage, critical=True).sign(ca_key, hashes.SHA256())
    certificate = (
        _builder(name, ca_name, key)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Serving(ca.public_bytes(Encoding.PEM), _context(certificate.public_bytes(Encoding.PEM) + private))


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _context(chain: bytes) -> ssl.SSLContext:
    """The key touches a file only while OpenSSL reads it: Python loads keys from files alone."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tls.pem"
        file.touch(mode=0o600)
        file.write_bytes(chain)
        context.load_cert_chain(file)
    return context


def hosts(settings: ControllerSettings) -> list[str]:
    """Names under which the API server reaches our webhooks."""
    if settings.webhook_url:
        return [urlsplit(settings.webhook_url).hostname or settings.webhook_host]
    service = f"{settings.service}.{settings.common.namespace}.svc"
    return [service, f"{service}.cluster.local"]


async def register(client: Client, settings: ControllerSettings, ca: bytes, kinds: Sequence[type[Object]]) -> None:
    """Tell the API server to ask us about these kinds. What is registered stays when we stop."""
    for registration, verb in ((MUTATING, "mutate"), (VALIDATING, "validate")):
        webhooks = [_webhook(kind.KIND, verb, settings, ca) for kind in kinds]
        await client.apply_raw(registration, {"metadata": {"name": NAME}, "webhooks": webhooks}, NAME)


def _webhook(kind: Kind, verb: str, settings: ControllerSettings, ca: bytes) -> dict[str, Any]:
    rule = {
        "apiGroups": [kind.group],
        "apiVersions": [kind.version],
        "operations": ["CREATE", "UPDATE"],
        "resources": [kind.plural],
        "scope": "*",
    }
    return {
        "name": f"{kind.name.lower()}.{kind.group}",
        "clientConfig": {**_address(path(verb, kind), settings), "caBundle": base64.b64encode(ca).decode()},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": WEBHOOK_TIMEOUT,
    }


def _address(where: str, settings: ControllerSettings) -> dict[str, Any]:
    if settings.webhook_url:
        return {"url": settings.webhook_url.rstrip("/") + where}
    service = {"name": settings.service, "namespace": settings.common.namespace, "path": where}
    return {"service": {**service, "port": settings.webhook_port}}
