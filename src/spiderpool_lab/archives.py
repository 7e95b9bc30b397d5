"""Archives that are ours, or whose hash was checked, unpacked alike by every Python that we support."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal

_KEPT = 0o755
"""Permissions that both filters let through (PEP 706)."""


def unpack(archive: tarfile.TarFile, folder: Path, filtered: Literal["tar", "data"]) -> None:
    """Unpack an archive with a filter of PEP 706; Python 3.11.2 of Debian 12 has none: by permissions alone there."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter=filtered)  # noqa: S202  # see above
        return
    members = archive.getmembers()
    for member in members:
        member.mode &= _KEPT
    archive.extractall(folder, members)  # noqa: S202  # see above
