"""Creates, enters and removes network namespaces, and runs the tools that configure them.

A namespace is given by its path, as ip-netns(8) makes them in /run/netns; None is that of this process.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from spiderpool.errors import KernelFailure
from spiderpool_lab import syscalls

DIRECTORY = Path("/run/netns")
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

T = TypeVar("T")


def path(name: str) -> Path:
    """The path of a named namespace."""
    return DIRECTORY / name


def call_in(netns: Path | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a network namespace and return its result; sockets that it opens stay in the namespace.

    It runs in a thread of its own that ends afterwards, because setns(2) moves one thread.
    """
    return work() if netns is None else _in_thread(lambda: _entered(netns, work))


def open_socket(netns: Path | None, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in a network namespace. The calling thread enters it and returns, which is cheaper than a new thread."""
    if netns is None:
        return socket.socket(family, kind, protocol)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.enter_network(netns)
        try:
            return socket.socket(family, kind, protocol)
        finally:
            syscalls.enter_network(home)
    finally:
        os.close(home)


def leave_host() -> None:
    """Move the calling thread, and what it starts from now on, to a new network namespace with its loopback up.

    For tests and benchmarks, whose agents write rules and filters of a node, which the host must not get.
    """
    syscalls.new_network()
    _loopback_up()


def create(name: str) -> Path:
    """Create a named namespace with its loopback up, without starting a process."""
    target = path(name)
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.touch(mode=0o444, exist_ok=False)
    _in_thread(lambda: _unshare_to(target))
    return target


def delete(netns: Path) -> None:
    """Remove a namespace made by :func:`create`; nothing happens if it is gone."""
    syscalls.unmount(netns)
    netns.unlink(missing_ok=True)


def ip_batch(lines: Iterable[str], *, netns: str | None = None, tool: str = "ip", version: int | None = None) -> None:
    """Run ip(8) or bridge(8) commands by one process, in a named namespace or our own. Raises KernelFailure.

    ``version`` is the IP version for commands on rules, which ip(8) cannot derive from addresses.
    """
    family = [f"-{version}"] if version else []
    run_tool([tool, *family, *(["-n", netns] if netns else []), "-batch", "-"], "\n".join(lines))


def run_tool(argv: list[str], text: str = "") -> str:
    """Run a network tool with ``text`` as its input and return its output; KernelFailure if it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise KernelFailure(f"{' '.join(argv)} failed: {done.stderr.strip()}", details=text)
    return done.stdout


def processes_in(netns: Path) -> list[int]:
    """Pids of the processes whose main thread is in a network namespace."""
    try:
        inode = netns.stat()
    except FileNotFoundError:
        return []
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _is_in(pid, inode)]


def end_processes(netns: Path, *, timeout: float = 5.0) -> None:
    """Kill all processes in a namespace and wait up to ``timeout`` seconds until they are gone."""
    deadline = time.monotonic() + timeout
    while (pids := processes_in(netns)) and time.monotonic() < deadline:
        for pid in pids:
            _kill(pid)
        time.sleep(0.01)


def remove(name: str) -> None:
    """Kill whatever runs in a named namespace and remove it; nothing happens if it is gone."""
    netns = path(name)
    end_processes(netns)
    if netns.exists():
        try:
            run_tool(["ip", "netns", "delete", name])
        except KernelFailure:
            if netns.exists():  # else somebody was faster: a lab that goes down looks as if it had been left behind
                raise


def _in_thread(work: Callable[[], T]) -> T:
    future: Future[T] = Future()
    threading.Thread(target=_complete, args=(future, work), daemon=True).start()
    return future.result()


def _complete(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)


def _entered(netns: Path, work: Callable[[], T]) -> T:
    syscalls.enter_network(netns)
    return work()


def _unshare_to(target: Path) -> None:
    syscalls.new_network()
    syscalls.mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", target, flags=syscalls.MS_BIND)
    _loopback_up()


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", answer)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _is_in(pid: int, inode: os.stat_result) -> bool:
    try:
        found = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (inode.st_dev, inode.st_ino)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
