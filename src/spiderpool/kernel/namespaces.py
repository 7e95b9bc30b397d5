"""Network namespaces: open one, and run a function inside it.

setns(2) moves one thread. Work in another namespace therefore runs on a thread that is born for it and dies with
it: nobody can ever meet a thread that was left in the wrong place. A socket belongs for good to the namespace
in which it was created, so the event loop can use it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from spiderpool.errors import BadNamespace

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own() -> Iterator[int]:
    """A file descriptor of the network namespace in which the calling thread is."""
    with opened("/proc/thread-self/ns/net") as descriptor:
        yield descriptor


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """A file descriptor of the network namespace at ``path``.

    Raises:
        BadNamespace: the path is missing or no network namespace.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadNamespace(f"network namespace {str(path)!r}: {error.strerror}") from error
    try:
        _require_netns(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


async def run_inside(namespace: int | None, work: Callable[[], T], afterwards: Callable[[], None] | None = None) -> T:
    """Run blocking ``work`` in a namespace (a descriptor; None is our own) and return its result.

    ``work`` must end by itself: a caller that is cancelled does not wait for it, and a socket that it then returns
    is closed. ``afterwards`` runs on the same thread when the caller has gone on, whether or not ``work`` failed.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    # The caller may close its descriptor when it is cancelled, before the thread has begun.
    copy = None if namespace is None else os.dup(namespace)

    def body() -> None:
        try:
            _enter_and_close(copy)
            result = work()
        except BaseException as error:
            _tell(loop, _fail, future, error)
        else:
            _tell(loop, _resolve, future, result)
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
    except OSError:
        is_netns = False
    if not is_netns:
        raise BadNamespace(f"{str(path)!r} is not a network namespace")


def enter(namespace: int) -> None:
    """Bring the calling thread into a network namespace; only for threads that end with their work.

    Raises:
        BadNamespace: the kernel refuses.
    """
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise BadNamespace(f"cannot enter the network namespace: {os.strerror(ctypes.get_errno())}")


def enter_new() -> None:
    """Bring the calling thread into a new, empty network namespace, which vanishes with the thread.

    Raises:
        BadNamespace: the kernel refuses.
    """
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise BadNamespace(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")


def _enter_and_close(namespace: int | None) -> None:
    if namespace is not None:
        try:
            enter(namespace)
        finally:
            os.close(namespace)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(callback, *arguments)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
    elif isinstance(result, socket.socket):
        result.close()


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
