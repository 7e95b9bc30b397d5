"""Small JSON files in a folder, by which an agent knows after a restart what an earlier one did."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from spiderpool.errors import IOFailure
from spiderpool.telemetry import logger

S = TypeVar("S", bound=msgspec.Struct)

Stamp = tuple[int, ...]

SUFFIX = ".json"
DRAFT_SECONDS = 60.0
"""Age at which the writer of a draft must have died."""

log = logger("files")


class JSONFiles(Generic[S]):
    """The files of one folder, each with one value of a type, by names that are valid as names of files."""

    def __init__(self, directory: Path, shape: type[S]) -> None:
        self._directory = directory
        self._shape = shape
        self._parsed: dict[str, tuple[Stamp, S]] = {}  # name → its file's stamp and value, as `all` has read it last

    def save(self, name: str, value: S) -> None:
        """Write or replace a file. Raises IOFailure."""
        write_file(self._path(name), msgspec.json.encode(value))

    def load(self, name: str) -> S | None:
        """The value of a file; None when there is none, or one that cannot be parsed. Raises IOFailure."""
        return self._read(self._path(name))

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is success. Raises IOFailure."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise IOFailure(f"{path} cannot be removed: {error}; make its folder writable") from error

    def names(self) -> list[str]:
        """The names of all files, in order."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self._directory.glob(f"*{SUFFIX}"))

    def all(self, *, strict: bool = False) -> Iterator[S]:
        """The values of all files, in the order of their names. Raises IOFailure.

        A file that cannot be parsed is left out, or is an IOFailure for one who is ``strict``. One that is still the
        same as at the last time is not read again.
        """
        parsed: dict[str, tuple[Stamp, S]] = {}
        for name in self.names():
            found = self._parsed_before(name) or self._parse(name, strict=strict)
            if found is not None:
                parsed[name] = found
                yield found[1]
        self._parsed = parsed

    def remove_drafts(self) -> None:
        """Remove what is left of writes that were interrupted. Raises IOFailure."""
        for draft in self._directory.glob("*"):
            if draft.suffix.removeprefix(".").isdigit():  # as `write_file` names them
                _remove_if_old(draft)

    def _parsed_before(self, name: str) -> tuple[Stamp, S] | None:
        known = self._parsed.get(name)
        return known if known and known[0] and known[0] == _stamp(self._path(name)) else None

    def _parse(self, name: str, *, strict: bool) -> tuple[Stamp, S] | None:
        path = self._path(name)
        stamp = _stamp(path)  # before it is read: what replaces it meanwhile has another one
        value = self._read(path, strict=strict)
        return None if value is None else (stamp, value)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{SUFFIX}"

    def _read(self, path: Path, *, strict: bool = False) -> S | None:
        """A file's value; None without one."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=self._shape)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IOFailure(f"{path} cannot be read: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if strict:
                raise IOFailure(f"{path} cannot be parsed: {error}; remove it once its pod is gone") from error
            log.warning("passed over", file=str(path), error=str(error))
            return None


def _remove_if_old(draft: Path) -> None:
    try:
        if time.time() - draft.stat().st_mtime > DRAFT_SECONDS:
            draft.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise IOFailure(f"{draft} cannot be removed: {error}; make its folder writable") from error


def _stamp(path: Path) -> Stamp:
    """What tells a version of a file from all others, since each is a file of its own; none for a missing file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def write_file(path: Path, content: bytes) -> None:
    """Write or replace a file, atomically: during an update the agents before and after it may both write.

    Makes its folder. Raises IOFailure.
    """
    draft = path.with_suffix(f".{time.time_ns()}")  # their process IDs are equal in containers
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # the disk may be full
            draft.unlink()
        raise IOFailure(f"{path} cannot be written: {error}; make room, or make its folder writable") from error


def digest(text: str) -> str:
    """A name for a file that stands for any text."""
    return hashlib.sha256(text.encode()).hexdigest()
