"""The checkout that images are built from: its commit and its locked packages."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from spiderpool_lab.commands import output

ROOT = Path(__file__).parents[3]
_SOURCES = ("src", "pyproject.toml", "uv.lock", "LICENSE", "NOTICE")
"""What images are built from."""


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


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
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


def digest_of(*values: str) -> str:
    """One digest of texts."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()
