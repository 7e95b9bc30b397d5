"""Linux system calls that Python 3.11 does not offer. They raise KernelFailure if the kernel refuses."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from spiderpool.errors import KernelFailure

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_SYS_FINIT_MODULE = 313  # x86-64

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str = "", *, flags: int = 0, data: str = "") -> None:
    """Mount a file system."""
    done = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode())
    _check(done, f"mounting {kind or source} on {target}")


def unmount(target: Path) -> None:
    """Unmount lazily (umount2(2), MNT_DETACH); ignores that nothing is mounted there."""
    _libc.umount2(os.fsencode(target), _MNT_DETACH)


def enter_network(netns: Path | int) -> None:
    """setns(2): move the calling thread into a network namespace, given by its path or by an open descriptor."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC) if isinstance(netns, Path) else netns
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET), f"entering the network namespace {netns}")
    finally:
        if descriptor != netns:
            os.close(descriptor)


def new_network() -> None:
    """unshare(2): give the calling thread an empty network namespace."""
    _check(_libc.unshare(CLONE_NEWNET), "making a network namespace")


def load_module(file: Path) -> None:
    """finit_module(2); nothing happens if the module is loaded already."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = _libc.syscall(_SYS_FINIT_MODULE, descriptor, b"", 0)
    finally:
        os.close(descriptor)
    if done != 0 and ctypes.get_errno() != errno.EEXIST:
        _check(done, f"loading the kernel module {file.name}")


def _check(done: int, doing: str) -> None:
    if done != 0:
        raise KernelFailure(f"{doing} failed: {os.strerror(ctypes.get_errno())}")
