"""Loads modules of a User Mode Linux kernel by name, without kmod."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spiderpool.errors import KernelFailure
from spiderpool_lab import syscalls


def load(folder: Path, names: Iterable[str]) -> None:
    """Load modules of a folder ``/lib/modules/<release>`` with their dependencies.

    Raises KernelFailure for a module that is neither in the folder nor built in.
    """
    needs = _dependencies(folder)
    builtin = {_module_name(line) for line in (folder / "modules.builtin").read_text().splitlines()}
    loaded: set[str] = set()
    Path("/proc/sys/kernel/modprobe").write_text("\n")  # without a loader, a request for a missing module fails at once
    for name in names:
        if name not in needs and name not in builtin:
            raise KernelFailure(f"the kernel module {name} is not under {folder}; install a complete user-mode-linux")
        for file in needs.get(name, ()):
            if file not in loaded:
                syscalls.load_module(folder / file)
                loaded.add(file)


def _dependencies(folder: Path) -> dict[str, list[str]]:
    """Module → the files to load for it, in order (modules.dep lists the nearest dependency first)."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[_module_name(file)] = [*reversed(others.split()), file]
    return needs


def _module_name(file: str) -> str:
    return Path(file).name.partition(".")[0].replace("-", "_")
