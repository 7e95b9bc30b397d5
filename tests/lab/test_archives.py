"""What is unpacked has the same permissions with every Python."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from spiderpool_lab.archives import unpack

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("has_filters", [True, False])
def test_nothing_is_written_by_others_or_runs_as_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_filters: bool
) -> None:
    if not has_filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filters")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("folder/program")
        member.size, member.mode = 3, 0o6777
        archive.addfile(member, io.BytesIO(b"abc"))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        unpack(archive, tmp_path, "tar")
    unpacked = tmp_path / "folder" / "program"
    assert (unpacked.read_bytes(), unpacked.stat().st_mode & 0o7777) == (b"abc", 0o755)
