"""Writes images as archives that containerd imports: tar files in the layout of the OCI image specification, 1.1.

Equal input makes equal bytes.
"""

from __future__ import annotations

import gzip
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
from typing import IO, Any, Self

from spiderpool.errors import IOFailure

NAME_ANNOTATION = "io.containerd.image.name"
"""Names an image in the index of an archive; containerd reads it when it imports one."""
TAG_ANNOTATION = "org.opencontainers.image.ref.name"
"""The tag alone, by which other programs find an image in an archive."""
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Folders of ``/`` that are links to those of ``/usr`` (the usr-merge of Debian)."""
LEFT_OUT = re.compile(r"usr/share/(doc|man|info|locale|lintian|bug|perl)\b|usr/lib/[^/]+/(gconv|perl)\b")
"""Folders of packages that no program of a lab's pods reads."""
_PACKAGE_TIMEOUT = 60.0


def architecture() -> str:
    """The architecture of this machine, by the name that images, Debian and Go have for it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Config:
    """How a container of an image starts: its command is ``entrypoint`` and ``arguments``."""

    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    user: str = ""
    """User and group; empty: root."""
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    """RFC 3339; empty: not stated."""


@dataclass(frozen=True, slots=True)
class Platform:
    """An image for one architecture. ``layers`` are tar files, the lowest first; those named ``.gz`` are compressed."""

    layers: Sequence[Path]
    config: Config
    architecture: str = field(default_factory=architecture)
    """By the name that images have for it."""


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

    def tree(self, root: Path) -> None:
        """Add all that is below a folder, in the order of the paths, without set-user-ID and set-group-ID bits."""
        for path in sorted(root.rglob("*")):
            place, mode = f"/{path.relative_to(root)}", path.lstat().st_mode & 0o1777
            if path.is_symlink():
                self.link(place, str(path.readlink()))
            elif path.is_dir():
                self.folder(place, mode)
            else:
                self.file(place, path, mode)

    def package(self, deb: Path, left_out: re.Pattern[str] = LEFT_OUT) -> None:
        """Add the files of a Debian package, without its scripts and what is ``left_out``. Raises IOFailure."""
        command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        done = subprocess.run(command, capture_output=True, timeout=_PACKAGE_TIMEOUT, check=False)
        if done.returncode:
            raise IOFailure(f"{deb.name} cannot be unpacked: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
            for entry in packed:
                entry.name = _merged(entry.name)
                if not left_out.match(entry.name):
                    self._add_packed(packed, entry)

    def _add_packed(self, packed: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
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


def write_archive(target: Path, names: Sequence[str], platforms: Sequence[Platform]) -> str:
    """Write an archive with one image under all its names, and return its digest.

    An image for several architectures is an index of its own, which every client chooses from.
    """
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        blobs = _Blobs(archive)
        manifests = [_add_manifest(blobs, each) for each in platforms]
        image = manifests[0] if len(manifests) == 1 else blobs.json("index", _index(manifests))
        named = [{**image, "annotations": _annotations(name)} for name in names]
        _add_bytes(archive, "index.json", _encoded(_index(named)))
        _add_bytes(archive, "oci-layout", _encoded({"imageLayoutVersion": "1.0.0"}))
    return str(image["digest"])


class _Blobs:
    """Adds blobs to an archive, equal ones once."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._seen: set[str] = set()

    def json(self, kind: str, value: object) -> dict[str, Any]:
        data = _encoded(value)
        return self._add(f"{kind}.v1+json", io.BytesIO(data), len(data))

    def layer(self, path: Path) -> dict[str, Any]:
        kind = "layer.v1.tar+gzip" if path.suffix == ".gz" else "layer.v1.tar"
        with path.open("rb") as content:
            return self._add(kind, content, os.fstat(content.fileno()).st_size)

    def _add(self, kind: str, content: IO[bytes], size: int) -> dict[str, Any]:
        digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        if digest not in self._seen:
            self._seen.add(digest)
            content.seek(0)
            entry = _entry(f"blobs/sha256/{digest}", tarfile.REGTYPE, 0o644)
            entry.size = size
            self._archive.addfile(entry, content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": size}


def _add_manifest(blobs: _Blobs, image: Platform) -> dict[str, Any]:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blobs.json("config", _image_config(image)),
        "layers": [blobs.layer(layer) for layer in image.layers],
    }
    return {**blobs.json("manifest", manifest), "platform": {"architecture": image.architecture, "os": "linux"}}


def _index(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [*manifests],
    }


def _annotations(name: str) -> dict[str, str]:
    return {NAME_ANNOTATION: name, TAG_ANNOTATION: name.rpartition(":")[2]}


def _image_config(image: Platform) -> dict[str, Any]:
    config = image.config
    described: dict[str, Any] = {
        "Entrypoint": [*config.entrypoint],
        "Cmd": [*config.arguments],
        "Env": [f"{name}={value}" for name, value in config.environment.items()],
        "WorkingDir": "/",
    }
    optional = {"User": config.user, "Labels": {**config.labels}}
    return {
        "architecture": image.architecture,
        "os": "linux",
        "config": described | {name: value for name, value in optional.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [_diff_id(layer) for layer in image.layers]},
    } | ({"created": config.created} if config.created else {})


def _diff_id(layer: Path) -> str:
    """The digest of a layer before it was compressed."""
    digest = hashlib.sha256()
    with gzip.open(layer) if layer.suffix == ".gz" else layer.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _add_bytes(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    entry = _entry(path, tarfile.REGTYPE, 0o644)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _encoded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
