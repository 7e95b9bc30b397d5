"""Files that only root, or the user of this process, can have written: what a daemon of root may believe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from spiderpool.errors import BadConfig

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def read_trusted(path: Path) -> str:
    """The text of a file. Raises BadConfig where others can write it or replace it, OSError and UnicodeDecodeError.

    They can replace it where one of its folders is theirs, or open to them and without the sticky bit. The kubelet
    mounts a ConfigMap as a folder with mode 0777, but read-only.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
        _check(path, path, os.fstat(descriptor), read_only=read_only)
        named, target = Path(os.path.abspath(path)), path.resolve()  # noqa: PTH100 - a link stays one
        for folder in dict.fromkeys((*named.parents, *target.parents)):
            read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
            _check(path, folder, folder.stat(), read_only=read_only)
        return file.read()


def _check(path: Path, part: Path, status: os.stat_result, *, read_only: bool) -> None:
    is_folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        fault = f"belongs to user {status.st_uid}"
    elif status.st_mode & _BY_OTHERS and not read_only and not (is_folder and status.st_mode & stat.S_ISVTX):
        fault = f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    raise BadConfig(
        f"{path} is not read, since {part} {fault}: give it to root and take the right to write from others "
        "(chown root, chmod go-w), or name another file in SPIDERPOOL_CONFIG"
    )
