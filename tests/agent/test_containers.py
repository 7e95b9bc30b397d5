"""The files that tell a pod's containers apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.agent.containers import Containers
from spiderpool.errors import IOFailure

pytestmark = pytest.mark.unit


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "addressed")


def test_the_last_container_of_an_interface_counts_for_all_agents(tmp_path: Path, containers: Containers) -> None:
    containers.note("u", "eth0", "old")
    containers.note("u", "eth0", "new")
    containers.note("u", "net1", "new")
    containers.note("u", "net1", "")
    another = Containers(tmp_path / "addressed")
    assert [another.of("u", name) for name in ("eth0", "net1", "net2")] == ["new", "new", None]
    assert [another.is_former("u", each) for each in ("old", "new", "")] == [True, False, False]
    assert not another.is_former("unknown", "old")


def test_only_the_container_that_counts_is_forgotten(tmp_path: Path, containers: Containers) -> None:
    containers.note("../u", "eth0", "a")
    containers.note("../u", "net1", "b")
    containers.forget("../u", "eth0", "b")
    assert containers.of("../u", "eth0") == "a"
    containers.forget("../u", "eth0", "a")
    assert (containers.of("../u", "eth0"), containers.of("../u", "net1")) == (None, "b")
    containers.forget("../u", "net1", "b")
    assert list((tmp_path / "addressed").iterdir()) == []


def test_what_is_not_kept_goes(containers: Containers) -> None:
    for uid in ("a", "b"):
        containers.note(uid, "eth0", "c")
    containers.keep(lambda uid: uid == "b")
    assert [containers.of(uid, "eth0") for uid in ("a", "b")] == [None, "c"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path, containers: Containers) -> None:
    containers.note("u", "eth0", "c")
    (file,) = (tmp_path / "addressed").iterdir()
    file.write_bytes(b"[")
    assert containers.of("u", "eth0") is None
    containers.keep(lambda uid: False)
    assert not file.exists()
    file.mkdir()
    with pytest.raises(IOFailure, match="cannot be read"):
        containers.of("u", "eth0")
    others = [f"other-{number}" for number in range(9)]
    for uid in others:
        containers.note(uid, "eth0", "c")
    assert [type(failure) for failure in containers.keep(lambda uid: False)] == [IOFailure]
    assert [containers.of(uid, "eth0") for uid in others] == [None] * 9, "one bad file hinders no other"
    file.rmdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IOFailure, match="cannot be"):
        Containers(tmp_path / "file").note("u", "eth0", "c")
