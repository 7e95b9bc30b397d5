"""A user of the node writes the file of settings that a daemon of root reads; its default path is below /tmp."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spiderpool.errors import BadConfig
from spiderpool.settings.source import load_source
from spiderpool.settings.table import ENABLE_IPV6

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "spiderpool" / "config-map"
    folder.mkdir(parents=True)
    written = folder / "conf.yml"
    written.write_text("enableIPv6: true")
    return written


def has_ipv6(file: Path) -> bool:
    return load_source({"SPIDERPOOL_CONFIG": str(file)}).read(ENABLE_IPV6)


def test_a_file_of_root_is_read(file: Path) -> None:
    assert has_ipv6(file)
    for mode in (0o600, 0o644, 0o444):
        file.chmod(mode)
        assert has_ipv6(file)


@root_only
@pytest.mark.parametrize("part", [lambda f: f, lambda f: f.parent, lambda f: f.parent.parent])
def test_what_belongs_to_another_user_is_not_believed(file: Path, part: Callable[[Path], Path]) -> None:
    os.chown(part(file), NOBODY, 0)
    with pytest.raises(BadConfig, match=rf"{part(file)} belongs to user {NOBODY}: give it to root") as caught:
        has_ipv6(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o664])
def test_what_others_can_write_is_not_believed(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(BadConfig, match=f"may be written by others \\(mode {mode:04o}\\)"):
        has_ipv6(file)


@pytest.mark.parametrize("mode", [0o777, 0o775])
@pytest.mark.parametrize("up", [0, 1])
def test_what_others_can_replace_is_not_believed(file: Path, mode: int, up: int) -> None:
    folder = file.parents[up]
    folder.chmod(mode)
    with pytest.raises(BadConfig, match=f"{folder} may be written by others"):
        has_ipv6(file)
    folder.chmod(mode | 0o1000)
    assert has_ipv6(file), "as /tmp: others cannot rename what is root's"


def test_a_link_is_followed_with_the_same_suspicion(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "open"
    elsewhere.mkdir()
    (elsewhere / "real.yml").write_text("enableIPv6: true")
    file.unlink()
    file.symlink_to(elsewhere / "real.yml")
    assert has_ipv6(file)
    elsewhere.chmod(0o777)
    with pytest.raises(BadConfig, match=f"{elsewhere} may be written by others"):
        has_ipv6(file)


def test_a_pipe_holds_nobody(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    assert not has_ipv6(file)
