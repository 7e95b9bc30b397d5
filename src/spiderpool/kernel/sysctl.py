"""Sysctls of the network namespace in which the calling thread is.

/proc/sys/net shows the namespace of the process that opens it, so these functions run inside `namespaces.run_inside`.
In a container that is not privileged /proc/sys is read-only: there the host's is mounted elsewhere, to be written.
"""

from __future__ import annotations

from pathlib import Path

from spiderpool.errors import KernelFailure

_ROOT = Path("/proc/sys")
_OF_HOST = Path("/host/proc/sys")
"""Where a container has what it may write, if it has such a mount (charts/spiderpool/templates/agent.yaml)."""


def read(path: str) -> str:
    """The value of a sysctl by its path below /proc/sys; empty if it does not exist. Raises KernelFailure otherwise."""
    try:
        return (_ROOT / path).read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise KernelFailure(f"read sysctl {path}: {error.strerror}") from error


def boot_id() -> str:
    """The present boot of the machine, as the kubelet reports it in the Node. Raises KernelFailure."""
    return read("kernel/random/boot_id")


def scopes(path: str) -> tuple[str, ...]:
    """The names below a path, as of ``net/ipv6/conf``: all, default and the links; none if it does not exist.

    Raises:
        KernelFailure: the path exists and cannot be read.
    """
    try:
        return tuple(sorted(entry.name for entry in (_ROOT / path).iterdir()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KernelFailure(f"list sysctls {path}: {error.strerror}") from error


def write(path: str, value: str, *, required: bool = True) -> None:
    """Set a sysctl, by its path below /proc/sys.

    Raises:
        KernelFailure: it does not exist (if ``required``), /proc/sys is read-only, or the kernel refuses the value.
    """
    try:
        (_writable() / path).write_text(value)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not required:
            return
        raise KernelFailure(f"sysctl {path} = {value}: {error.strerror}") from error


def _writable() -> Path:
    return _OF_HOST if _OF_HOST.is_dir() else _ROOT
