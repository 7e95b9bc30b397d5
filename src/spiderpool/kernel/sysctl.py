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


def write(path: str, value: str) -> None:
    """Set a sysctl, by its path below /proc/sys.

    Raises:
        KernelFailure: this kernel lacks it, /proc/sys is read-only, or the value is refused.
    """
    try:
        (_ROOT / path).write_text(value)
    except OSError as error:
        raise KernelFailure(f"sysctl {path} = {value}: {error.strerror}") from error
