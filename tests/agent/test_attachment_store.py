"""The files that tell which sandboxes have interfaces on this node."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.errors import IOFailure

pytestmark = pytest.mark.unit

TWO = SandboxRecord(
    "c1",
    "/run/netns/x",
    "K8S_POD_NAME=p",
    (InterfaceRecord("eth0", "ns/a", coordinated=True), InterfaceRecord("net1", "ns/b")),
)


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path / "sandboxes")
    assert known.load("c1") is None
    assert list(known.all()) == []
    known.save(TWO)
    known.save(TWO)
    assert known.load("c1") == TWO
    assert list(AttachmentStore(tmp_path / "sandboxes").all()) == [TWO]
    known.forget("c1")
    known.forget("c1")
    assert known.load("c1") is None


def test_identifiers_longer_than_a_file_name(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path)
    long = SandboxRecord("c" * 300, "/ns", "", ())
    known.save(long)
    assert known.load("c" * 300) == long


def test_a_torn_file_is_passed_over_and_others_are_told(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path)
    known.save(TWO)
    (tmp_path / "c0.json").write_text('{"container_id"')
    assert list(known.all()) == [TWO]
    assert known.load("c0") is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = AttachmentStore(tmp_path / "file")
    with pytest.raises(IOFailure, match="cannot be written"):
        known.save(TWO)
    with pytest.raises(IOFailure, match="cannot be removed"):
        known.forget("c1")
    (tmp_path / "c2.json").mkdir()
    with pytest.raises(IOFailure, match=r"c2\.json cannot be read"):
        AttachmentStore(tmp_path).load("c2")
