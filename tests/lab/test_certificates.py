from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from spiderpool_lab.certificates import Authority, KeyPair

pytestmark = pytest.mark.unit


def write(directory: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory; raises ssl.SSLError if either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "198.18.0.1", "localhost", "kubernetes.default.svc"])
def test_a_server_is_trusted_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    authority = Authority.create("test-ca")
    names = ["server", "localhost", "127.0.0.1", "::1", "198.18.0.1", "kubernetes.default.svc"]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*write(tmp_path, "server", authority.server(names)))
    server.load_verify_locations(cadata=authority.pair.certificate.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cadata=authority.pair.certificate.decode())
    client.load_cert_chain(*write(tmp_path, "client", authority.client("alice", ["team"])))
    handshake(client, server, name)


def test_a_server_is_not_trusted_under_another_name(tmp_path: Path) -> None:
    authority = Authority.create("test-ca")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*write(tmp_path, "server", authority.server(["localhost"])))
    client = ssl.create_default_context(cadata=authority.pair.certificate.decode())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(client, server, "example.test")


def test_user_and_groups_are_read_from_the_subject() -> None:
    pair = Authority.create("test-ca").client("system:node:one", ["system:nodes", "other"])
    subject = x509.load_pem_x509_certificate(pair.certificate).subject
    assert [value.value for value in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] == ["system:node:one"]
    groups = {value.value for value in subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)}
    assert groups == {"system:nodes", "other"}


def test_an_authority_read_back_signs_for_the_same_trust(tmp_path: Path) -> None:
    first = Authority.create("test-ca")
    again = Authority.load(first.pair)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*write(tmp_path, "server", again.server(["localhost"])))
    handshake(ssl.create_default_context(cadata=first.pair.certificate.decode()), server, "localhost")


def test_keys_are_those_that_every_kubernetes_program_reads() -> None:
    assert Authority.create("test-ca").pair.key.startswith(b"-----BEGIN EC PRIVATE KEY-----")
