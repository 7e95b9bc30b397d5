"""The checkout that images and releases are built from: its commit, its locked packages, and how it is packed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from spiderpool.errors import IOFailure
from spiderpool_lab.archives import unpack
from spiderpool_lab.commands import output, run

ROOT = Path(__file__).parents[3]
_SOURCES = ("src", "pyproject.toml", "uv.lock", "LICENSE", "NOTICE")
"""What images are built from."""
_DISTRIBUTED = ("src/spiderpool", "pyproject.toml", "LICENSE", "NOTICE", "README.md", ".gitignore")
"""What wheel and source archive are built from."""
_SUFFIXES = {"wheel": ".whl", "sdist": ".tar.gz"}


@dataclass(frozen=True, slots=True)
class Commit:
    """What an image says about its origin."""

    revision: str
    """Empty: unknown."""
    created: str
    """RFC 3339."""

    @classmethod
    def current(cls) -> Commit:
        """The commit of the checkout, marked if files changed since; ``$SOURCE_DATE_EPOCH`` replaces its date."""
        revision, _, seconds = _git("log", "-1", "--format=%H %ct").partition(" ")
        if revision and _git("status", "--porcelain", "--", *_SOURCES):
            revision += "-changed"
        seconds = os.environ.get("SOURCE_DATE_EPOCH") or seconds or "0"
        return cls(revision, datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def changed_files(root: Path = ROOT) -> list[str]:
    """Files that are not as the commit has them, or not in it at all. Raises IOFailure where there is no commit."""
    if not _git("rev-parse", "--verify", "--quiet", "HEAD", root=root):
        raise IOFailure(f"git knows no commit in {root}, so nobody could say what was built")
    listed = (
        _git("diff", "--name-only", "HEAD", root=root),
        _git("ls-files", "--others", "--exclude-standard", root=root),
    )
    return sorted(name for names in listed for name in names.splitlines())


def commit_of(name: str, root: Path = ROOT) -> str:
    """The commit of a tag, or of ``HEAD``; empty: there is none."""
    reference = name if name == "HEAD" else f"refs/tags/{name}"
    return _git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}", root=root)


def has_commit(revision: str, root: Path = ROOT) -> bool:
    """Whether the repository has a commit: a shallow clone may lack it."""
    return bool(_git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", root=root))


def export(revision: str, folder: Path, root: Path = ROOT) -> None:
    """Write the files of a commit to a new folder. Raises IOFailure if git cannot."""
    folder.mkdir()
    archive = folder.with_name(f"{folder.name}.tar")
    run(["git", "-C", root, "archive", "--output", archive, revision])
    with tarfile.open(archive) as files:
        unpack(files, folder, "data")
    archive.unlink()


def copy(names: Iterable[str], folder: Path, root: Path = ROOT) -> None:
    """Copy files and folders to a folder, without what git ignores by any of its lists: builders know some of these.

    A tree that git does not know, such as that of :func:`export`, is copied whole.
    """
    names = list(names)
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names, root=root).split("\0")
    found = [root / name for name in listed if name] or [
        path for name in names for path in (root / name, *(root / name).rglob("*"))
    ]
    for path in found:
        if path.is_file():  # neither deleted since the commit nor a folder
            target = folder / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _git(*arguments: str, root: Path = ROOT) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


@cache
def uv() -> Path:
    """The uv that the lock is made for, installed if it is missing."""
    return Path(output([ROOT / "scripts/bootstrap", "uv"]).strip())


@cache
def requirements(*options: str) -> str:
    """Locked packages with their hashes, as requirements of uv and pip."""
    arguments = ["--project", str(ROOT), "--frozen", "--no-emit-workspace", "--no-header", "--no-annotate"]
    return output([uv(), "export", "--quiet", *arguments, *options])


def distribution(kind: str, folder: Path) -> Path:
    """A ``wheel`` or ``sdist`` of the product, written to a folder; it has equal bytes for equal sources."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder.resolve())]
    with tempfile.TemporaryDirectory() as tree:
        copy(_DISTRIBUTED, Path(tree))
        run(command, cwd=Path(tree), show=_silently)
    (built,) = folder.glob(f"*{_SUFFIXES[kind]}")
    return built


def _silently(_: str) -> None:
    return None


def digest_of(*values: str) -> str:
    """One digest of texts."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()
