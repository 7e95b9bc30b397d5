"""The access keys of spiderpool-cloud: by OIDC token, from a mounted Secret, cloud-config, variables, or the RAM role.

The first source that has keys is used until it has none. Every source fetches keys again before they expire, and when
its file changes, so that they rotate without a restart. Keys appear in no log and no error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import yaml
from alibabacloud_credentials.provider import OIDCRoleArnCredentialsProvider  # type: ignore[import-untyped]

from spiderpool.api.decoding import decode
from spiderpool.cloud.alibaba.metadata import ENDPOINT, MetadataClient, NoAnswer
from spiderpool.cloud.provider import CloudUnavailable, NetworkPath, NotPermitted
from spiderpool.errors import BadConfig
from spiderpool.telemetry import logger

ROLE_PATH = "ram/security-credentials/"
READING_TIMEOUT = 2.0
"""Seconds for reading the role and its keys from the metadata service."""
MARGIN = 600.0
"""Seconds before their expiry at which keys are replaced."""
ROLE_VARIABLES = ("ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE")
KEY_VARIABLES = (
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
)
"""The names that the cloud's own tools and libraries read."""
ID_FILES = ("accessKeyID", "access-key-id")
SECRET_FILES = ("accessKeySecret", "access-key-secret")
TOKEN_FILES = ("securityToken", "security-token")

_ROLE_NAME = re.compile(r"(?!\.\.?$)[\w.@-]{1,64}", re.ASCII)

log = logger("credentials")


@dataclass(frozen=True, slots=True)
class Keys:
    """Access keys with the attributes that the signing library reads. Their repr hides them."""

    access_key_id: str = field(repr=False)
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expires: float | None = field(default=None, repr=False)
    """Wall clock, seconds; None: never."""

    bearer_token: None = None
    provider_name: None = None

    @property
    def type(self) -> str:
        """Returns ``sts`` with a session token, else ``access_key``."""
        return "sts" if self.security_token else "access_key"

    def valid(self, now: float, margin: float = 0.0) -> bool:
        """Whether the keys are valid now and for ``margin`` seconds more."""
        return self.expires is None or now < self.expires - margin


class CredentialSource(Protocol):
    """A source of access keys."""

    name: str

    async def keys(self) -> Keys | None:
        """Returns the present keys; None when this source is not set up. Raises SpiderpoolError."""

    def forget(self) -> None:
        """Drop the cached keys: the cloud did not accept them."""


class _RoleKeys(msgspec.Struct, rename="pascal"):
    """An answer of the metadata service."""

    access_key_id: str
    access_key_secret: str
    security_token: str
    expiration: str
    code: str = "Success"


class InstanceRole:
    """The RAM role of the instance, from its metadata service; needs no secret."""

    name = "instance role"

    def __init__(self, endpoint: str = ENDPOINT, *, chosen: bool = True, path: NetworkPath | None = None) -> None:
        """``chosen`` says that somebody wants this source, and that it is not only what was left."""
        self._endpoint = endpoint
        self._path = path
        self._warns = not chosen
        self._keys: Keys | None = None

    async def keys(self) -> Keys | None:
        """Returns keys of the role; cached ones that are still valid when the metadata service does not answer."""
        now = time.time()
        if self._keys and self._keys.valid(now, MARGIN):
            return self._keys
        try:
            self._keys = await self._read()
        except (NoAnswer, TimeoutError, ValueError, msgspec.DecodeError) as error:
            log.warning("role of the instance not read", error=type(error).__name__)
            if self._keys is None or not self._keys.valid(now):
                return None
        if self._keys and self._warns:
            log.warning("keys are of the server's role, which all pods with its network can have; use OIDC or a Secret")
            self._warns = False
        return self._keys

    def forget(self) -> None:
        """Drop the cached keys."""
        self._keys = None

    async def _read(self) -> Keys | None:
        async with MetadataClient(self._endpoint, self._path) as metadata, asyncio.timeout(READING_TIMEOUT):
            role = ((await metadata.text(ROLE_PATH)) or "").partition("\n")[0].strip()
            if not role:
                return None
            if not _ROLE_NAME.fullmatch(role):
                raise ValueError("this is no name of a role")
            document = await metadata.text(ROLE_PATH + role)
        return _session(decode(document, _RoleKeys)) if document else None


class OIDCRole:
    """A RAM role for our ServiceAccount: the pod's OIDC token is exchanged for keys."""

    name = "role by OIDC token"

    def __init__(self, environ: Mapping[str, str], sts_endpoint: str | None = None) -> None:
        self._arguments = [environ.get(name, "").strip() for name in ROLE_VARIABLES]
        self._sts_endpoint = sts_endpoint
        self._provider: OIDCRoleArnCredentialsProvider | None = None

    async def keys(self) -> Keys | None:
        """Returns keys of the role. Raises CloudUnavailable when the exchange fails."""
        if not all(self._arguments):
            return None
        role, provider, token = self._arguments
        self._provider = self._provider or OIDCRoleArnCredentialsProvider(
            role_arn=role,
            oidc_provider_arn=provider,
            oidc_token_file_path=token,
            role_session_name="spiderpool-cloud",
            sts_endpoint=self._sts_endpoint,
        )
        try:
            given = await self._provider.get_credentials_async()
        except Exception as error:  # the library's text may quote the answer
            raise CloudUnavailable(
                f"keys of role {role} could not be had for its OIDC token: {type(error).__name__}"
            ) from None
        return Keys(given.get_access_key_id(), given.get_access_key_secret(), given.get_security_token())

    def forget(self) -> None:
        """Drop the library's provider with its cached keys."""
        self._provider = None


class _File:
    """Keys made from files, which are read again when the modification time of one changes."""

    def __init__(self) -> None:
        self._versions: object = None  # paths and modification times of the last read
        self._keys: Keys | None = None

    def read(self, paths: Sequence[Path], make: Callable[[], Keys | None]) -> Keys | None:
        """Returns the keys that ``make`` reads from these files."""
        versions = tuple((path, path.stat().st_mtime_ns) for path in paths if path.exists())
        if versions != self._versions:
            self._keys = make()
            self._versions = versions
        return self._keys


class MountedSecret:
    """Keys in files of a directory, where a Secret is mounted."""

    name = "mounted Secret"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = _File()

    async def keys(self) -> Keys | None:
        """Returns keys from the files ``accessKeyID``, ``accessKeySecret`` and, if there is one, ``securityToken``."""
        paths = [self._directory / name for name in (*ID_FILES, *SECRET_FILES, *TOKEN_FILES)]
        return self._file.read(paths, self._make)

    def forget(self) -> None:
        """Drop the cached keys, so that the files are read again."""
        self._file = _File()

    def _make(self) -> Keys | None:
        identity, secret = self._first(ID_FILES), self._first(SECRET_FILES)
        return Keys(identity, secret, self._first(TOKEN_FILES)) if identity and secret else None

    def _first(self, names: Sequence[str]) -> str | None:
        found = (self._directory / name for name in names if (self._directory / name).exists())
        return next((text for path in found if (text := path.read_text().strip())), None)


class CloudConfig:
    """The file ``cloud-config.conf`` of Alibaba's cloud controller: JSON or YAML, with keys in base64."""

    name = "cloud-config"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File()

    async def keys(self) -> Keys | None:
        """Returns keys of the section Global. Raises BadConfig."""
        return self._file.read([self._path], self._make)

    def forget(self) -> None:
        """Drop the cached keys, so that the file is read again."""
        self._file = _File()

    def _make(self) -> Keys | None:
        if not self._path.exists():
            return None
        try:
            section = (yaml.safe_load(self._path.read_text()) or {}).get("Global") or {}
            identity, secret = (_decoded(section.get(name)) for name in ("accessKeyID", "accessKeySecret"))
        except (yaml.YAMLError, AttributeError, binascii.Error, UnicodeDecodeError):
            raise BadConfig(
                f"{self._path} is no cloud-config with base64 text in Global.accessKeyID and Global.accessKeySecret"
            ) from None
        if not identity or not secret:
            return None
        log.warning("keys are taken from cloud-config, which everybody may read; use a RAM role or a Secret instead")
        return Keys(identity, secret)


class EnvironmentKeys:
    """Keys in the variables of the process: for people who run commands, as with the cloud's own tools."""

    name = "environment"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = [environ.get(name, "").strip() for name in KEY_VARIABLES]

    async def keys(self) -> Keys | None:
        """Returns the keys; None unless both variables of them are set."""
        identity, secret, token = self._values
        return Keys(identity, secret, token or None) if identity and secret else None

    def forget(self) -> None:
        """Do nothing: the variables of a process stay as they are."""


REMEMBERED_SECRETS = 300
"""Secrets that are kept out of texts: those of some days."""


class Credentials:
    """The keys to sign with, from the first source that has some."""

    def __init__(self, sources: Sequence[CredentialSource]) -> None:
        self._sources = list(sources)
        self._chosen: CredentialSource | None = None  # source of the last keys; it is tried first
        self._known: dict[str, None] = {}  # the secrets that were handed out last, oldest first, for `redacted`
        self._lock = asyncio.Lock()  # around fetching keys: concurrent calls fetch them once

    async def get_credential_async(self) -> Keys:
        """Returns the present keys; the signing library gives the method its name.

        Raises NotPermitted when no source has any, CloudUnavailable when one cannot be read now.
        """
        async with self._lock:
            try:
                keys = await self._current()
            except OSError as error:
                raise CloudUnavailable(f"the credentials cannot be read: {error.filename}: {error.strerror}") from None
        secrets = dict.fromkeys(filter(None, (keys.access_key_secret, keys.security_token, keys.access_key_id)))
        older = {text: None for text in self._known if text not in secrets}
        self._known = dict.fromkeys(list(older | secrets)[-REMEMBERED_SECRETS:])
        return keys

    async def _current(self) -> Keys:
        for source in [self._chosen, *self._sources] if self._chosen else self._sources:
            if (keys := await source.keys()) is not None:
                if source is not self._chosen:
                    log.info("credentials", source=source.name)
                self._chosen = source
                return keys
        self._chosen = None
        names = ", ".join(source.name for source in self._sources)
        raise NotPermitted(f"there are no credentials for the cloud (looked for: {names}); give one", action="")

    def forget(self) -> bool:
        """Drop the cached keys, which the cloud did not accept. Returns True: another attempt is worthwhile."""
        if self._chosen:
            self._chosen.forget()
        return True

    def redacted(self, text: str) -> str:
        """Returns a text in which every secret that was handed out is replaced, also those that have expired."""
        for secret in self._known:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True, slots=True)
class CredentialLocations:
    """Where each source looks for keys."""

    metadata: str = ENDPOINT
    secret: Path = Path("/etc/spiderpool/cloud-credentials")
    cloud_config: Path = Path("/etc/spiderpool/cloud-config/cloud-config.conf")
    sts_endpoint: str | None = None
    path: NetworkPath | None = None
    """By which the metadata service is asked."""


def sources(kind: str, locations: CredentialLocations, environ: Mapping[str, str]) -> list[CredentialSource]:
    """Returns the sources for a setting: ``auto`` for all in order, or the name of one. Raises BadConfig."""
    known: dict[str, Callable[[], CredentialSource]] = {
        "oidc": lambda: OIDCRole(environ, locations.sts_endpoint),
        "secret": lambda: MountedSecret(locations.secret),
        "cloud-config": lambda: CloudConfig(locations.cloud_config),
        "role": lambda: InstanceRole(locations.metadata, chosen=kind == "role", path=locations.path),
    }
    if kind == "auto":
        *chosen, role = (make() for make in known.values())
        return [*chosen, EnvironmentKeys(environ), role]
    if kind not in known:
        raise BadConfig(
            f"credentials {kind!r} are not among auto, {', '.join(known)}; correct SPIDERPOOL_CLOUD_CREDENTIALS"
        )
    return [known[kind]()]


def _session(document: _RoleKeys) -> Keys | None:
    """Returns the keys in an answer of the metadata service. Raises ValueError."""
    if document.code != "Success":
        raise ValueError("the role has no keys now")
    expires = datetime.strptime(document.expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Keys(document.access_key_id, document.access_key_secret, document.security_token, expires.timestamp())


def _decoded(text: str | None) -> str:
    return base64.b64decode(text, validate=False).decode().strip() if text else ""
