"""The file of a support archive: it is there whole, or not at all."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file in the archive."""

    name: str
    description: str
    size: int
    note: str
    """What of it is left out; empty: nothing."""


@dataclass(slots=True)
class Archive:
    """An archive that is being written."""

    tar: tarfile.TarFile
    folder: str
    """All files are in this one."""
    made: datetime
    entries: list[ArchiveEntry] = field(default_factory=list)

    def add(self, name: str, description: str, text: str, note: str = "") -> None:
        """Add a file."""
        content = text.encode("utf-8", "replace")
        info = tarfile.TarInfo(f"{self.folder}/{name}")
        info.size, info.mtime, info.mode = len(content), int(self.made.timestamp()), 0o644
        self.tar.addfile(info, BytesIO(content))
        self.entries.append(ArchiveEntry(name, description, len(content), note))


@contextmanager
def written(target: Path, made: datetime) -> Iterator[Archive]:
    """Write an archive; whatever ends the block early leaves nothing. Only its owner may read it. Raises OSError."""
    folder = target.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    descriptor, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                yield Archive(tar, folder, made)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(target)
    finally:
        Path(partial).unlink(missing_ok=True)
