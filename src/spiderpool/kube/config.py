"""Address of the API server and our credentials: from a kubeconfig file, or from the service account of our pod."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import BadConfig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_SECONDS = 60.0
"""Seconds for which a token from a file is used before it is read again; kubelet renews it long before it expires."""


class ClientCredentials:
    """The Authorization header: none (a client certificate is used instead), a fixed token, or the token in a file."""

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        self._token = token
        self._file = file
        self._read_at = -TOKEN_SECONDS

    def headers(self) -> dict[str, str]:
        """Headers for the next request. Raises BadConfig when the token file cannot be read."""
        if self._file and time.monotonic() - self._read_at >= TOKEN_SECONDS:
            self._token = _read(self._file, "token").decode().strip()
            self._read_at = time.monotonic()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """The API server, how to trust it, and our credentials."""

    server: str
    tls: ssl.SSLContext
    credentials: ClientCredentials
    namespace: str = "default"
    """The Namespace of a context, for commands that are given none."""


def load_access(
    kubeconfig: Path | None, environ: Mapping[str, str] = os.environ, *, context: str | None = None
) -> ClusterAccess:
    """Access by a kubeconfig file or, without one, by the pod's service account. Raises BadConfig.

    ``context`` is one of the file; None: its current one.
    """
    try:
        return _from_file(kubeconfig, context) if kubeconfig else _from_service_account(environ)
    except (ValueError, ssl.SSLError) as error:
        source = kubeconfig or SERVICE_ACCOUNT
        raise BadConfig(f"a certificate or key of {source} cannot be used: {error}; set KUBECONFIG") from error


def _from_service_account(environ: Mapping[str, str]) -> ClusterAccess:
    try:
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise BadConfig(
            f"we run in no pod ({error.args[0]} is not set); set KUBECONFIG to a kubeconfig file"
        ) from error
    authority = _read(SERVICE_ACCOUNT / "ca.crt", "certificate authority")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ClusterAccess(
        server, _tls(authority, b"", b"", verify=True), ClientCredentials(file=SERVICE_ACCOUNT / "token")
    )


def _from_file(path: Path, chosen: str | None) -> ClusterAccess:
    try:
        document = yaml.safe_load(_read(path, "kubeconfig"))
        contexts = [each["name"] for each in document.get("contexts") or ()] if chosen else []
        if chosen and chosen not in contexts:
            raise BadConfig(f"{path} has no context {chosen}; it has {', '.join(map(str, contexts)) or 'none'}")
        context = _named(document, "contexts", chosen or document["current-context"])["context"]
        cluster, user = _endpoint(document, context)
        server = str(cluster["server"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"{path} is no kubeconfig with a current context: {error!r}; set KUBECONFIG to one") from error
    _check_credentials(path, context, user)
    tls = _tls(
        _material(cluster, "certificate-authority", path.parent),
        _material(user, "client-certificate", path.parent),
        _material(user, "client-key", path.parent),
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )
    file = user.get("tokenFile")
    credentials = ClientCredentials(user.get("token"), path.parent / file if file else None)
    return ClusterAccess(server, tls, credentials, context.get("namespace") or "default")


def _check_credentials(path: Path, context: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """Raises BadConfig for credentials that another program makes: without them we would be nobody."""
    ours = ("token", "tokenFile", "client-certificate", "client-certificate-data")
    other = next((key for key in ("exec", "auth-provider", "username") if user.get(key)), None)
    if other and not any(user.get(key) for key in ours):
        raise BadConfig(
            f"user {context['user']} of {path} has its credentials by {other}, which is not read; use one with a token "
            "or a client certificate, such as `kubectl create token` makes for a ServiceAccount"
        )


def _endpoint(document: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Cluster and user of a context; the user is empty when the context names none. Raises KeyError."""
    cluster = _named(document, "clusters", context["cluster"])["cluster"]
    return cluster, _named(document, "users", context["user"])["user"] if context.get("user") else {}


def _named(document: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    """The entry of a section by its name. Raises KeyError."""
    entries: dict[str, Mapping[str, Any]] = {entry["name"]: entry for entry in document[section]}
    return entries[name]


def _material(section: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """Certificate material, inline or in a file relative to the kubeconfig; empty when there is none."""
    if inline := section.get(f"{key}-data"):
        return base64.b64decode(inline)
    return _read(folder / section[key], key) if section.get(key) else b""


def _tls(authority: bytes, certificate: bytes, key: bytes, *, verify: bool) -> ssl.SSLContext:
    """A client's TLS context; without ``authority`` the system's certificate authorities count.

    Authorities of clusters may lack what RFC 5280 requires (key identifiers). Go accepts that, and Python before 3.13.
    """
    context = ssl.create_default_context(cadata=authority.decode() or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate and key:
        with tempfile.NamedTemporaryFile() as pair:  # the ssl module reads certificates from files only; mode 0600
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _read(path: Path, what: str) -> bytes:
    """Content of a file. Raises BadConfig, which names ``what`` it should hold."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadConfig(f"the {what} cannot be read from {path}: {error.strerror}; set KUBECONFIG") from error
