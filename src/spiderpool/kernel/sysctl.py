"""Sysctls of the network namespace in which the calling thread is.

/proc/sys/net shows the namespace of whoever opens it, so these run inside `namespaces.run_inside`.
"""

from __future__ import annotations

from pathlib import Path

from spiderpool.errors import KernelFailure

_ROOT = Path("/proc/sys")


def read(path: str) -> str:
    """The value of a sysctl, by its path below /proc/sys; empty if this kernel lacks it."""
    try:
        return (_ROOT / path).read_text().strip()
    except FileNotFoundError:
        return ""


def scopes(path: str) -> tuple[str, ...]:
    """The names below a path, as of ``net/ipv6/conf``: all, default and the links; none if this kernel lacks it."""
    try:
        return tuple(sorted(entry.name for entry in (_ROOT / path).iterdir()))
    except FileNotFoundError:
        return ()


def write(path: str, value: str, *, required: bool = True) -> None:
    """Set a sysctl, by its path below /proc/sys.

    Raises:
        KernelFailure: this kernel lacks it (if ``required``), /proc/sys is read-only, or the value is refused.
    """
    try:
        (_ROOT / path).write_text(value)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not required:
            return
        raise KernelFailure(f"sysctl {path} = {value}: {error.strerror}") from error
