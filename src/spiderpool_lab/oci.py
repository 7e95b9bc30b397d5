"""Writes images as archives that containerd imports: tar files in the layout of the OCI image specification, 1.1.

Layers are not compressed, and equal input makes equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from spiderpool.errors import IOFailure

NAME_ANNOTATION = "io.containerd.image.name"
"""Names an image in the index of an archive; containerd reads it when it imports one."""
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Folders of ``/`` that are links to those of ``/usr`` (the usr-merge of Debian)."""
LEFT_OUT = re.compile(r"usr/share/(doc|man|info|locale|lintian|bug|perl)\b|usr/lib/[^/]+/(gconv|perl)\b")
"""Folders of packages that no program of a lab's pods reads."""
_PACKAGE_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Config:
    """How a container of an image starts: its command is ``entrypoint`` and ``arguments``."""

    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )


class LayerWriter:
    """Writes a layer: a tar file with folders, files and links, whose paths are absolute. The first of a path counts.

    All belongs to root, and parents of files are made.
    """

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115  # closed by __exit__
        self._seen = {""}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""
        self._add(_entry(path, tarfile.DIRTYPE, mode))

    def file(self, path: str, content: bytes | str | Path, mode: int = 0o644) -> None:
        """Add a file with a text, or with what a file of this machine holds."""
        data = content.read_bytes() if isinstance(content, Path) else content
        self._add(_entry(path, tarfile.REGTYPE, mode), data.encode() if isinstance(data, str) else data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        entry = _entry(path, tarfile.SYMTYPE, 0o777)
        entry.linkname = target
        self._add(entry)

    def merged_folders(self) -> None:
        """Add the links of ``/bin``, ``/lib`` and the like to ``/usr``; packages after it follow them."""
        for name in MERGED:
            self.folder(f"/usr/{name}")
            self.link(f"/{name}", f"usr/{name}")

    def package(self, deb: Path) -> None:
        """Add the files of a Debian package, without its scripts and documentation. Raises IOFailure."""
        command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        done = subprocess.run(command, capture_output=True, timeout=_PACKAGE_TIMEOUT, check=False)
        if done.returncode:
            raise IOFailure(f"{deb.name} cannot be unpacked: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
            for entry in packed:
                self._add_packed(packed, entry)

    def _add_packed(self, packed: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        entry.name = _merged(entry.name)
        if LEFT_OUT.match(entry.name):
            return
        if entry.islnk():
            entry.linkname = _merged(entry.linkname)
        entry.uname = entry.gname = ""
        content = packed.extractfile(entry) if entry.isreg() else None
        self._add(entry, content.read() if content else b"")

    def _add(self, entry: tarfile.TarInfo, content: bytes = b"") -> None:
        if entry.name in self._seen:
            return
        parent = str(PurePosixPath(entry.name).parent)
        if parent != ".":
            self.folder(parent)
        self._seen.add(entry.name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))


def _entry(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.strip("/"))
    entry.type, entry.mode = kind, mode
    return entry


def _merged(path: str) -> str:
    """The path of a packaged file after the usr-merge, without the leading ``./``."""
    path = path.removeprefix(".").strip("/")
    return f"usr/{path}" if path.split("/")[0] in MERGED else path


def write_archive(target: Path, names: Sequence[str], layers: Sequence[Path], config: Config) -> None:
    """Write an archive with one image under all its names. ``layers`` are tar files, the lowest first."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        described = [_add_layer(archive, layer) for layer in layers]
        digests = [layer["digest"] for layer in described]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _add_json(archive, "config", _image_config(config, digests)),
            "layers": described,
        }
        described_manifest = _add_json(archive, "manifest", manifest)
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{**described_manifest, "annotations": {NAME_ANNOTATION: name}} for name in names],
        }
        _add_bytes(archive, "index.json", _encoded(index))
        _add_bytes(archive, "oci-layout", _encoded({"imageLayoutVersion": "1.0.0"}))


def _image_config(config: Config, layer_digests: Sequence[str]) -> dict[str, Any]:
    """The image configuration; a layer that is not compressed has its own digest as DiffID."""
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": [*config.entrypoint],
            "Cmd": [*config.arguments],
            "Env": [f"{name}={value}" for name, value in config.environment.items()],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [*layer_digests]},
    }


def _add_layer(archive: tarfile.TarFile, layer: Path) -> dict[str, Any]:
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        content.seek(0)
        entry = _entry(f"blobs/sha256/{digest}", tarfile.REGTYPE, 0o644)
        entry.size = os.fstat(content.fileno()).st_size
        archive.addfile(entry, content)
    return _descriptor("application/vnd.oci.image.layer.v1.tar", digest, entry.size)


def _add_json(archive: tarfile.TarFile, kind: str, value: object) -> dict[str, Any]:
    data = _encoded(value)
    digest = hashlib.sha256(data).hexdigest()
    _add_bytes(archive, f"blobs/sha256/{digest}", data)
    return _descriptor(f"application/vnd.oci.image.{kind}.v1+json", digest, len(data))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _add_bytes(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    entry = _entry(path, tarfile.REGTYPE, 0o644)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _encoded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
