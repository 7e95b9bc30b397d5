"""The files by which an agent knows what an earlier one did."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from spiderpool.agent.json_files import JSONFiles, write_file
from spiderpool.errors import IOFailure

pytestmark = pytest.mark.unit


class Note(msgspec.Struct):
    text: str


def test_what_is_saved_is_there_until_it_is_removed(tmp_path: Path) -> None:
    files = JSONFiles(tmp_path / "notes", Note)
    assert (list(files.all()), files.load("a")) == ([], None)
    for name in ("b", "a"):
        files.save(name, Note(name))
    assert (files.names(), [note.text for note in files.all()]) == (["a", "b"], ["a", "b"])
    files.remove("a")
    files.remove("a")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["b.json"]


def test_a_file_that_cannot_be_parsed_hinders_no_other(tmp_path: Path) -> None:
    files = JSONFiles(tmp_path, Note)
    files.save("a", Note("a"))
    (tmp_path / "b.json").write_bytes(b"[")
    assert (files.load("b"), [note.text for note in files.all()]) == (None, ["a"])


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    files = JSONFiles(tmp_path, Note)
    files.save("a", Note("before"))
    (tmp_path / "b.json").mkdir()
    with pytest.raises(IOFailure, match="cannot be written"):
        write_file(tmp_path / "b.json", b"{}")
    with pytest.raises(IOFailure, match="cannot be read"):
        files.load("b")
    with pytest.raises(IOFailure, match="cannot be removed"):
        files.remove("b")
    assert [note.text for note in [files.load("a")] if note] == ["before"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"], "no draft is left"


def test_two_agents_in_containers_do_not_share_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after an update both may have process ID 1; each draft is replaced by its own writer alone."""
    drafts: list[str] = []
    monkeypatch.setattr(Path, "replace", lambda draft, _: drafts.append(draft.name))
    for _ in range(2):
        write_file(tmp_path / "a.json", b"{}")
    assert len(set(drafts)) == 2


def test_what_has_changed_is_read_again(tmp_path: Path) -> None:
    files = JSONFiles(tmp_path, Note)
    for name in ("a", "b", "c"):
        files.save(name, Note(name))
    first = list(files.all())
    files.save("a", Note("A"))
    files.remove("c")
    (tmp_path / "b.json").write_text('{"text": "BB"}')
    assert [note.text for note in files.all()] == ["A", "BB"]
    again, once_more = list(files.all()), list(files.all())
    assert again[0] is once_more[0], "it is not read once more"
    assert [note.text for note in first] == ["a", "b", "c"]
