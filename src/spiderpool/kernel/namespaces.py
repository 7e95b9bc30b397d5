"""Network namespaces: open one, and run a function inside it.

setns(2) moves one thread. Work in another namespace therefore runs on a thread of its own that ends with the work, so
that no thread stays behind in the wrong namespace. A socket belongs for good to the namespace in which it was created,
so the event loop can use it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from spiderpool.errors import BadNamespace, KernelFailure
from spiderpool.telemetry import logger

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h, ioctl_ns(2)

OWN = "/proc/thread-self/ns/net"
"""The network namespace of the calling thread."""

_NO_SUCH_PATH = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

MOST_FOLDERS = 4096
"""Folders of namespaces that are remembered: below /proc each process has one."""

REPORT_PAUSE = 600.0
"""Seconds between two reports about folders that do not show what is in them."""

_seen: dict[Path, int | None] = {}  # folder in which this process has opened a namespace, the first one first → device
_seen_lock = threading.Lock()  # namespaces are opened on many threads
_reports: deque[float] = deque(maxlen=1)  # monotonic time of the last one

log = logger("namespaces")

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own() -> Iterator[int]:
    """A file descriptor of the network namespace in which the calling thread is."""
    with opened(OWN) as descriptor:
        yield descriptor


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """A file descriptor of the network namespace at ``path``.

    Raises:
        BadNamespace: the path is missing or is no network namespace. DEL takes this to mean that the pod is gone.
        KernelFailure: the path could not be opened for another reason, such as too many open files.
    """
    try:
        descriptor = _open(path)
    except OSError as error:
        kind = BadNamespace if error.errno in _NO_SUCH_PATH else KernelFailure
        raise kind(f"network namespace {str(path)!r}: {error.strerror}") from error
    try:
        _require_netns(descriptor, path)
        _remember(Path(path).parent)
        yield descriptor
    finally:
        os.close(descriptor)


def is_gone(path: str | Path) -> bool:
    """Whether the network namespace at ``path`` has been removed: nothing is there.

    False where that cannot be told. To an agent in a container that does not see the node's mounts, all would be gone:
    without the folder of namespaces nothing is there, and without the mounts in it their mount points alone, plain
    files. So nothing at all must be there, in a folder that holds something, or that is still the one in which this
    process has opened a namespace before.
    """
    try:
        with opened(path):
            return False
    except BadNamespace:
        folder = Path(path).parent
        if _device(path) is not None:
            _report(path, "is no network namespace")
            return False
        if folder not in _seen:
            return _has_entries(folder)
        if _seen[folder] != _nearest_device(folder):
            _report(path, "is not there, and its folder is another one than before")
            return False
        return True
    except KernelFailure:
        return False


def identity(path: str | Path) -> str:
    """Which namespace is at ``path``; empty where none is there. Linux gives that of a removed one to later ones."""
    try:
        found = Path(path).stat() if path else None
    except (OSError, ValueError):
        return ""
    return "" if found is None or found.st_dev != _device(OWN) else f"{found.st_dev}:{found.st_ino}"


def _remember(folder: Path) -> None:
    """Remember that this process sees what is in a folder."""
    device = _nearest_device(folder)
    with _seen_lock:
        if folder not in _seen and len(_seen) >= MOST_FOLDERS:
            del _seen[next(iter(_seen))]
        _seen[folder] = device


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except (OSError, ValueError):
        return False


def _device(path: str | Path) -> int | None:
    """The device of the file system that a path belongs to; None where nothing is there."""
    try:
        return Path(path).stat().st_dev
    except (OSError, ValueError):
        return None


def _nearest_device(folder: Path) -> int | None:
    """The device of a folder, or of the nearest one above it that exists: those of processes go with these."""
    devices = (_device(each) for each in (folder, *folder.parents))
    return next((device for device in devices if device is not None), None)


def _report(path: str | Path, state: str) -> None:
    """Log, at times, that a folder does not show what is in it."""
    now = time.monotonic()
    if not _reports or now - _reports[-1] >= REPORT_PAUSE:
        _reports.append(now)
        remedy = "mount the folder into the agent's container with mountPropagation HostToContainer"
        log.warning("network namespace not seen, so its sandbox may run", netns=str(path), state=state, remedy=remedy)


def _open(path: str | Path) -> int:
    """Open a path; twice, since Linux says EACCES for ``/proc/<pid>/ns/net`` of a process that ends at this moment."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


async def run_inside(namespace: int | None, work: Callable[[], T], afterwards: Callable[[], None] | None = None) -> T:
    """Run blocking ``work`` in a namespace (a descriptor; None is our own) and return its result.

    ``work`` must end by itself: a cancelled caller does not wait for it. If ``work`` then returns a socket, closes it.
    ``afterwards`` runs on the same thread once the caller has its result, also when ``work`` failed.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    # A copy, since a cancelled caller may close its descriptor before the thread has begun.
    copy = None if namespace is None else os.dup(namespace)

    def body() -> None:
        try:
            _enter_and_close(copy)
            result = work()
        except BaseException as error:
            _call_soon(loop, _fail, future, error)
        else:
            _call_soon(loop, _resolve, future, result)
        finally:
            if afterwards is not None:
                afterwards()

    try:
        threading.Thread(target=body, name="netns", daemon=True).start()
    except RuntimeError:
        if copy is not None:
            os.close(copy)
        raise
    return await future


async def socket_in_netns(namespace: int | None, family: int, kind: int, protocol: int) -> socket.socket:
    """A socket that lives in a namespace (a descriptor; None is our own)."""
    return await run_inside(namespace, lambda: socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol))


def _require_netns(descriptor: int, path: str | Path) -> None:
    try:
        is_netns = fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):  # what files of other kinds answer
            raise KernelFailure(f"type of network namespace {str(path)!r}: {error.strerror}") from error
        is_netns = False
    if not is_netns:
        raise BadNamespace(f"{str(path)!r} is not a network namespace")


def enter(namespace: int) -> None:
    """Bring the calling thread into a network namespace; only for threads that end with their work.

    Raises:
        KernelFailure: the kernel refuses.
    """
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise KernelFailure(f"cannot enter the network namespace: {os.strerror(ctypes.get_errno())}")


def enter_new() -> None:
    """Bring the calling thread into a new, empty network namespace, which vanishes with the thread.

    Raises:
        KernelFailure: the kernel refuses.
    """
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise KernelFailure(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")


def _enter_and_close(namespace: int | None) -> None:
    if namespace is not None:
        try:
            enter(namespace)
        finally:
            os.close(namespace)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: no task waits for the result any more
        loop.call_soon_threadsafe(callback, *arguments)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
    elif isinstance(result, socket.socket):
        result.close()


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
