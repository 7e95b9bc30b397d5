"""Kubeconfig files and service accounts: what is read from them, and what is said when they are wrong."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiderpool.api.core_v1 import Pod
from spiderpool.errors import BadConfig
from spiderpool.kube import config
from spiderpool.kube.client import Client
from spiderpool.kube.config import ClientCredentials, ClusterAccess, load_access
from spiderpool.kube.discovery import uid_of

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def kubeconfig(directory: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None) -> Path:
    context = {"cluster": "c"} | ({"user": "u"} if user is not None else {})
    document = {
        "current-context": "now",
        "contexts": [{"name": "before", "context": {"cluster": "x"}}, {"name": "now", "context": context}],
        "clusters": [{"name": "x", "cluster": {"server": "https://x"}}, {"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def inline(content: bytes) -> str:
    return base64.b64encode(content).decode()


class TestKubeconfig:
    def test_the_current_context_counts(self, tmp_path: Path) -> None:
        access = load_access(kubeconfig(tmp_path, {"server": "https://c:6443"}, {"token": "secret"}))
        assert access.server == "https://c:6443"
        assert access.credentials.headers() == {"Authorization": "Bearer secret"}
        assert access.tls.verify_mode is ssl.CERT_REQUIRED

    def test_another_context_may_be_chosen(self, tmp_path: Path) -> None:
        path = kubeconfig(tmp_path, {"server": "https://c"}, {"token": "secret"})
        access = load_access(path, context="before")
        assert (access.server, access.credentials.headers(), access.namespace) == ("https://x", {}, "default")
        with pytest.raises(BadConfig, match="has no context other; it has before, now"):
            load_access(path, context="other")

    def test_a_context_may_have_a_namespace(self, tmp_path: Path) -> None:
        path = kubeconfig(tmp_path, {"server": "https://c"})
        document = yaml.safe_load(path.read_text())
        document["contexts"][1]["context"]["namespace"] = "shop"
        path.write_text(yaml.safe_dump(document))
        assert load_access(path).namespace == "shop"

    @pytest.mark.parametrize("kind", ["exec", "auth-provider", "username"])
    def test_credentials_that_are_not_read_are_refused(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(BadConfig, match=f"by {kind}, which is not read; use one with a token"):
            load_access(kubeconfig(tmp_path, {"server": "https://c"}, {kind: {"command": "x"}}))
        assert load_access(kubeconfig(tmp_path, {"server": "https://c"}, {kind: {"command": "x"}, "token": "t"}))

    def test_a_context_needs_no_user(self, tmp_path: Path) -> None:
        assert load_access(kubeconfig(tmp_path, {"server": "https://c"})).credentials.headers() == {}

    def test_certificates_are_inline_or_in_files_beside_it(self, tmp_path: Path, pair: tuple[bytes, bytes]) -> None:
        certificate, key = pair
        (tmp_path / "ca.crt").write_bytes(certificate)
        (tmp_path / "client.key").write_bytes(key)
        cluster = {"server": "https://c", "certificate-authority": "ca.crt"}
        user = {"client-certificate-data": inline(certificate), "client-key": "client.key"}
        access = load_access(kubeconfig(tmp_path, cluster, user))
        (authority,) = access.tls.get_ca_certs()
        assert authority["serialNumber"] == "01"
        assert access.credentials.headers() == {}

    def test_authorities_without_key_identifiers_are_accepted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Python 3.13 refuses them by default."""
        create = ssl.create_default_context

        def strict(**options: Any) -> ssl.SSLContext:
            context = create(**options)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            return context

        monkeypatch.setattr(ssl, "create_default_context", strict)
        access = load_access(kubeconfig(tmp_path, {"server": "https://c"}))
        assert not access.tls.verify_flags & ssl.VERIFY_X509_STRICT
        assert access.tls.verify_mode is ssl.CERT_REQUIRED

    def test_verification_is_switched_off_only_on_request(self, tmp_path: Path) -> None:
        access = load_access(kubeconfig(tmp_path, {"server": "https://c", "insecure-skip-tls-verify": True}))
        assert (access.tls.verify_mode, access.tls.check_hostname) == (ssl.CERT_NONE, False)

    def test_a_token_file_is_read_again_after_a_while(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "token").write_text("first\n")
        access = load_access(kubeconfig(tmp_path, {"server": "https://c"}, {"tokenFile": "token"}))
        assert access.credentials.headers() == {"Authorization": "Bearer first"}
        (tmp_path / "token").write_text("second\n")
        assert access.credentials.headers() == {"Authorization": "Bearer first"}
        monkeypatch.setattr(config, "TOKEN_SECONDS", 0.0)
        assert access.credentials.headers() == {"Authorization": "Bearer second"}
        (tmp_path / "token").unlink()
        with pytest.raises(BadConfig, match="token cannot be read"):
            access.credentials.headers()

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "- a list",
            "key: [",
            "current-context: now",
            "{current-context: now, contexts: [], clusters: [], users: []}",
            "{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
        ],
    )
    def test_a_malformed_file_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "wrong"
        path.write_text(text)
        with pytest.raises(BadConfig, match=f"{path} is no kubeconfig with a current context.*set KUBECONFIG"):
            load_access(path)

    @pytest.mark.parametrize("key", ["certificate-authority", "client-certificate", "client-key"])
    def test_a_missing_file_is_named(self, tmp_path: Path, key: str) -> None:
        path = kubeconfig(tmp_path, {"server": "https://c", key: "missing"}, {key: "missing"})
        with pytest.raises(BadConfig, match=f"{key} cannot be read from {tmp_path}/missing"):
            load_access(path)

    @pytest.mark.parametrize("data", ["not base64", inline(b"no certificate"), inline(b"\xff")])
    def test_unusable_certificates_are_named(self, tmp_path: Path, data: str) -> None:
        path = kubeconfig(tmp_path, {"server": "https://c", "certificate-authority-data": data})
        with pytest.raises(BadConfig, match=f"a certificate or key of {path} cannot be used"):
            load_access(path)

    def test_a_missing_kubeconfig_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfig, match="set KUBECONFIG"):
            load_access(tmp_path / "missing")


class TestServiceAccount:
    @pytest.mark.parametrize(
        ("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
    )
    def test_tells_server_authority_and_token(
        self, tmp_path: Path, pair: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch, host: str, server: str
    ) -> None:
        monkeypatch.setattr(config, "SERVICE_ACCOUNT", tmp_path)
        (tmp_path / "ca.crt").write_bytes(pair[0])
        (tmp_path / "token").write_text("secret")
        access = load_access(None, {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"})
        assert access.server == server
        assert len(access.tls.get_ca_certs()) == 1
        assert access.credentials.headers() == {"Authorization": "Bearer secret"}

    def test_outside_of_a_pod_the_missing_variable_is_named(self) -> None:
        with pytest.raises(BadConfig, match="KUBERNETES_SERVICE_HOST is not set"):
            load_access(None, {})
        with pytest.raises(BadConfig, match="KUBERNETES_SERVICE_PORT is not set"):
            load_access(None, {"KUBERNETES_SERVICE_HOST": "h"})


def test_without_a_token_there_is_no_header() -> None:
    assert ClientCredentials().headers() == {}


async def test_a_token_that_cannot_be_read_does_not_say_that_an_object_does_not_exist(tmp_path: Path) -> None:
    token = tmp_path / "token"
    access = ClusterAccess("http://127.0.0.1:1", ssl.create_default_context(), ClientCredentials(file=token))
    async with Client(access) as client:
        for _ in range(2):
            with pytest.raises(BadConfig, match="the token cannot be read"):
                await client.find(Pod, "p", "default")
            with pytest.raises(BadConfig, match="the token cannot be read"):
                await uid_of(client, Pod.KIND, "p", "default")
        assert await client.find(Pod, "p/status", "default") is None
        assert await uid_of(client, Pod.KIND, "", "default") is None
