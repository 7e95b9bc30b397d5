"""Where the API server is and who we are: a kubeconfig file, or the service account of the pod that we run in."""

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
"""How long a token that was read from a file is used: kubelet replaces the file long before the token expires."""


class ClientCredentials:
    """The Authorization header: none (a client certificate speaks for us), a fixed token, or one kept in a file."""

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        self._token = token
        self._file = file
        self._read_at = -TOKEN_SECONDS

    def headers(self) -> dict[str, str]:
        """Headers for a request now. Raises BadConfig when the file of the token cannot be read."""
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


def load_access(kubeconfig: Path | None, environ: Mapping[str, str] = os.environ) -> ClusterAccess:
    """From a kubeconfig file, or from the pod's service account. Raises BadConfig."""
    return _from_file(kubeconfig) if kubeconfig else _from_service_account(environ)


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


def _from_file(path: Path) -> ClusterAccess:
    try:
        document = yaml.safe_load(_read(path, "kubeconfig"))
        cluster, user = _current(document)
        server = str(cluster["server"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise BadConfig(f"{path} is no kubeconfig with a current context: {error!r}; set KUBECONFIG to one") from error
    tls = _tls(
        _material(cluster, "certificate-authority", path.parent),
        _material(user, "client-certificate", path.parent),
        _material(user, "client-key", path.parent),
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )
    file = user.get("tokenFile")
    return ClusterAccess(server, tls, ClientCredentials(user.get("token"), path.parent / file if file else None))


def _current(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Cluster and user of the current context."""
    context = _named(document, "contexts", document["current-context"])["context"]
    cluster = _named(document, "clusters", context["cluster"])["cluster"]
    return cluster, _named(document, "users", context["user"])["user"] if context.get("user") else {}


def _named(document: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    entries: dict[str, Mapping[str, Any]] = {entry["name"]: entry for entry in document[section]}
    return entries[name]


def _material(section: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """Certificate material, inline or in a file relative to the kubeconfig; empty when there is none."""
    if inline := section.get(f"{key}-data"):
        return base64.b64decode(inline)
    return _read(folder / section[key], key) if section.get(key) else b""


def _tls(authority: bytes, certificate: bytes, key: bytes, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.decode() or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate and key:
        with tempfile.NamedTemporaryFile() as pair:  # the standard library reads certificates from files only
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadConfig(f"the {what} cannot be read from {path}: {error.strerror}; set KUBECONFIG") from error
