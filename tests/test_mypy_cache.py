"""``scripts/mypy_cache`` gives a fresh clone what mypy found in the last one, and an older checkout nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[1] / "scripts" / "mypy_cache"


def clone(folder: Path, age: float) -> Path:
    """A checkout that was made so many seconds ago."""
    for file in ("scripts/mypy_cache", ".ci/run"):
        (folder / file).parent.mkdir(parents=True)
        shutil.copy(SCRIPT, folder / file)
    os.utime(folder / ".ci/run", (time.time() - age,) * 2)
    return folder


def run(folder: Path, verb: str) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    subprocess.run([folder / "scripts/mypy_cache", verb], env=environment, check=True, timeout=30)


def found_in(folder: Path, what: str) -> Path:
    """Mypy's cache of a checkout, in which it has found something."""
    cache = folder / ".mypy_cache"
    cache.mkdir(exist_ok=True)
    (cache / "found").write_text(what)
    return cache


def test_a_fresh_clone_begins_with_the_last_ones_cache(tmp_path: Path) -> None:
    first, second = clone(tmp_path / "first", 60), clone(tmp_path / "second", -60)
    run(second, "restore")
    assert not (second / ".mypy_cache").exists(), "nobody has saved one"
    for what in ("old", "new"):
        found_in(first, what)
        run(first, "save")
    run(second, "restore")
    assert (second / ".mypy_cache/found").read_text() == "new"
    assert sorted(path.name for path in second.iterdir()) == [".ci", ".mypy_cache", "scripts"]


def test_a_cache_as_new_as_the_files_and_one_that_is_there_already_are_left(tmp_path: Path) -> None:
    first, older, used = clone(tmp_path / "a", 0), clone(tmp_path / "b", 60), clone(tmp_path / "c", -60)
    found_in(first, "first")
    run(first, "save")
    run(older, "restore")
    assert not (older / ".mypy_cache").exists()
    own = found_in(used, "own")
    run(used, "restore")
    assert (own / "found").read_text() == "own"
